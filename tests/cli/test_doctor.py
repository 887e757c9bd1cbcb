# SPDX-License-Identifier: Apache-2.0
"""`edgeheal doctor` sees what is wrong with an installation, and names the next step for each."""

import json
import os
from pathlib import Path

import pytest
from workshop import make_trust

from edgeheal.cli import doctor_checks
from edgeheal.cli.main import main
from edgeheal.core.layout import Layout
from edgeheal.lab.certificates import Authority
from edgeheal.trust import envelope


@pytest.fixture
def layout(tmp_path, capsys):
    """A device as it should be, but that nothing of it runs."""
    made = Layout(str(tmp_path / "root"))
    authority = Authority(tmp_path / "ca")
    cert, key = authority.issue("gw-1")
    (tmp_path / "1.eht").write_bytes(envelope.encode(make_trust()))
    for folder, mode in ((made.var, 0o755), (made.guard, 0o700), (made.store, 0o755), (made.agent, 0o2750), (made.staging, 0o711)):
        os.makedirs(folder)
        os.chmod(folder, mode)
    words = ["--device", "gw-1", "--broker", "mq.example.com", "--ca", authority.ca, "--cert", cert, "--key", key, "--trust", str(tmp_path / "1.eht")]
    assert main(["setup", "--root", made.root, *words]) == 0
    capsys.readouterr()
    return made


def wrong(layout, capsys):
    """what -> (says, next) of each wrong line."""
    main(["doctor", "--root", layout.root, "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    assert all(f["next"] for f in found if not f["ok"])
    return {f["what"]: f["says"] for f in found if not f["ok"] and f["what"] not in ("guard", "agent", "space")}


def test_a_device_as_it_should_be_has_nothing_wrong_but_that_it_does_not_run(layout, capsys):
    assert set(wrong(layout, capsys)) <= {"cert"}, "the lab's certificates live a week"


def test_a_key_that_others_may_read_is_seen(layout, capsys):
    os.chmod(f"{layout.keys}/device.key", 0o644)
    assert "may be read by others" in wrong(layout, capsys)["owners"]


def test_a_config_that_others_may_write_is_seen(layout, capsys):
    os.chmod(layout.identity_config, 0o666)
    assert "written by others" in wrong(layout, capsys)["owners"]


def test_a_loose_guard_folder_is_seen(layout, capsys):
    os.chmod(layout.guard, 0o755)
    assert layout.guard in wrong(layout, capsys)["owners"]


def test_a_chain_of_trust_that_does_not_hold_is_seen_by_proving_it(layout, capsys):
    path = Path(layout.vendor_trust) / "00001.eht"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert "does not hold" in wrong(layout, capsys)["trust"]


def test_a_certificate_of_another_device_is_seen(layout, tmp_path, capsys):
    cert, _ = Authority(tmp_path / "other").issue("gw-2")
    Path(f"{layout.keys}/device.pem").write_bytes(Path(cert).read_bytes())
    assert "gw-2's" in wrong(layout, capsys)["cert"]


def test_a_certificate_that_is_gone_and_a_request_that_waits_are_seen(layout, tmp_path, capsys):
    os.unlink(f"{layout.keys}/device.pem")
    assert "cert" in wrong(layout, capsys) or "config" in wrong(layout, capsys)
    assert main(["setup", "--root", layout.root, "--forget"]) == 0
    assert main(["setup", "--root", layout.root, "--device", "gw-3", "--broker", "mq.example.com"]) == 0
    capsys.readouterr()
    assert "waits to be signed" in wrong(layout, capsys)["cert"]


def test_a_full_quota_is_seen(layout, capsys):
    Path(layout.config_file).write_text('[guard]\nquota = "8MB"\n')
    (Path(layout.store) / "demo").mkdir()
    (Path(layout.store) / "demo/big").write_bytes(os.urandom(9_000_000))
    assert "of 8 MB" in wrong(layout, capsys)["quotas"]


def test_a_watchdog_that_is_not_there_is_seen(layout, capsys):
    Path(layout.config_file).write_text('[watchdog]\ndevice = "/dev/watchdog-that-is-not-here"\n')
    found = wrong(layout, capsys)
    assert any("watchdog-that-is-not-here" in says for says in found.values()), found


def test_a_clock_before_the_version_was_made_is_seen(layout, capsys, monkeypatch):
    monkeypatch.setattr(doctor_checks, "BUILT_S", 1 << 40)
    assert "before this version" in wrong(layout, capsys)["clock"]


def test_an_old_library_is_seen(layout, capsys, monkeypatch):
    monkeypatch.setattr(doctor_checks, "LIBRARIES", (("msgpack", "999.0"), ("no-such-library-here", "1")))
    says = wrong(layout, capsys)["versions"]
    assert "older than 999.0" in says
    assert "no-such-library-here is missing" in says
