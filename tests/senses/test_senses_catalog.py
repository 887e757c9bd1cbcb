# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from edgeheal.adapters.catalog import Catalog, DeviceWords
from edgeheal.core.app import AppSpec, NeedSpec
from edgeheal.image.manifest import Config, Data, Limits, Manifest, Metric, Need, Probe, Run, TreeRef, image_id
from edgeheal.trust import envelope

SAID = Manifest(
    app="gw",
    version="1.2",
    security_counter=1,
    device=("gateway",),
    tree=TreeRef(b"\1" * 32, 10, 1, 100),
    run=Run(argv=("run",), ready="notify", start_ms=5_000, heartbeat_ms=1_500, reload=("signal", "HUP"), done=(3,), devices=("serial",)),
    limits=Limits(memory_kib=4_096),
    probes=(Probe("h", "live", "http", "http://127.0.0.1:1/", 1_000, 500, 3), Probe("e", "ready", "exec", ("bin/check", "-q"))),
    metrics=(Metric("t", "C", -1, -400, 1_250, 5, 500, 3_000), Metric("n")),
    needs=(Need("network", "up"),),
    config=Config("gw.json"),
    data=Data(3, downgrade="no"),
    soak_s=60,
)


@pytest.fixture
def installed(tmp_path):
    def install(manifest, name=None):
        body = manifest.body()
        hexid = name or image_id(body).hex()
        folder = tmp_path / manifest.app / hexid
        folder.mkdir(parents=True)
        (folder / "manifest").write_bytes(envelope.encode(envelope.Envelope(envelope.MANIFEST, body, ((b"\2" * 32, b"\3" * 64),))))
        return hexid

    out = []
    return Catalog(out.append, lambda app, image: str(tmp_path / app / image)), install, out, tmp_path


def test_the_manifest_is_joined_with_the_devices_words(installed):
    catalog, install, out, _ = installed
    image = install(SAID)
    words = DeviceWords(soak_min_s=3_600, memory_kib=9_999, files=77, needs=(NeedSpec("app", "db"),))
    (spec,) = catalog.specs({"gw": image}, {"gw": words})
    assert (spec.name, spec.image, spec.version, spec.ready, spec.start_ms, spec.heartbeat_ms) == ("gw", image, "1.2", "notify", 5_000, 1_500)
    assert spec.soak_s == 3_600  # the longer of the manifest's and the device's
    assert spec.memory_kib == 4_096  # the image's own
    assert spec.files == 77  # the device's, where the image says 0
    assert spec.actuates  # it asks for devices and nobody said no
    assert spec.can_reload
    assert spec.has_config
    assert (spec.schema, spec.downgrade, spec.done) == (3, "no", (3,))
    assert [p.target for p in spec.probes] == ["http://127.0.0.1:1/", "bin/check -q"]
    assert (spec.metrics[0].low, spec.metrics[0].high, spec.metrics[0].step_max) == (pytest.approx(-40), pytest.approx(125), pytest.approx(0.5))
    assert (spec.metrics[1].low, spec.metrics[1].high) == (None, None)
    assert spec.needs == (NeedSpec("network", "up"), NeedSpec("app", "db"))
    assert AppSpec.from_plain(spec.to_plain()) == spec
    assert out == []


def test_the_devices_word_on_actuates_stands(installed):
    catalog, install, _, _ = installed
    image = install(SAID)
    assert not catalog.spec("gw", image, DeviceWords(actuates=False, devices=("/dev/ttyS0",))).actuates
    assert catalog.spec("x", "", DeviceWords(devices=("/dev/ttyS0",))).actuates


def test_an_app_without_an_image_is_watched_by_the_devices_words_alone(installed):
    catalog, _, out, _ = installed
    assert catalog.spec("gw", "", DeviceWords(memory_kib=5)) == AppSpec("gw", memory_kib=5, soak_s=0)
    assert out == []


@pytest.mark.parametrize("damage", ["gone", "empty", "torn", "other", "link"])
def test_a_manifest_that_is_not_what_it_should_be_counts_as_unreadable_and_is_said_once(installed, damage):
    catalog, install, out, tmp = installed
    image = install(SAID, "ab" * 32 if damage == "other" else None)
    path = tmp / "gw" / image / "manifest"
    match damage:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "torn":
            path.write_bytes(path.read_bytes()[:100])
        case "link":
            os.rename(path, tmp / "x")
            path.symlink_to(tmp / "x")
    for _ in range(3):
        assert catalog.spec("gw", image, DeviceWords()) == AppSpec("gw", image=image, soak_s=0)
    assert [(s.part, s.what, s.ok) for s in out] == [("catalog", "unreadable", False)]
