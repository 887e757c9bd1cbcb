# SPDX-License-Identifier: Apache-2.0
"""Golden files: what version 1 wrote stays readable, byte for byte the same meaning."""

import json
from pathlib import Path

from workshop import ROOT, Made, make_trust

from edgeheal.core import reasons
from edgeheal.image import codec, launch, manifest, patch
from edgeheal.trust import document, envelope
from edgeheal.trust.verify import signers

GOLDEN = Path(__file__).parent / "golden"
SAID = json.loads((GOLDEN / "v1.json").read_text())


def test_the_golden_bundle_installs_as_it_did(device):
    done = device.take((GOLDEN / "v1.ehi").read_bytes())
    assert (done["k"], done["id"].hex(), done["trust"]) == ("done", SAID["id"], 2)
    assert device.keep(done["id"])["k"] == "done"
    assert device.prove(done["id"], "full")["rows"] == len(SAID["paths"])


def test_the_golden_manifest_means_the_same(device):
    body = bytes.fromhex(SAID["body"])
    said = manifest.decode(body)
    assert manifest.decode(said.body()) == said
    assert manifest.image_id(body).hex() == SAID["id"]
    assert said.tree_run.hex() == SAID["tree_run"]
    assert launch.packed(said, manifest.image_id(body)).hex() == SAID["launch"]


def test_the_golden_trust_is_still_written_the_same():
    chain = envelope.decode_chain((GOLDEN / "v1.eht").read_bytes())
    assert [document.decode(one.body).n for one in chain] == SAID["trust"]
    assert all(signers(one) == {ROOT.public} for one in chain)
    assert chain == (make_trust(), make_trust(2))


def test_a_patch_is_written_as_the_format_says():
    assert patch.make(b"a" * 64, b"a" * 64).hex() == "00000000" + "00000000" + "00000040"
    assert codec.squeeze(b"")[0] == codec.STORED


def test_our_builder_writes_the_golden_bundle(device):
    made = Made(
        links=(("bin/alias", "app"),), folders=("var",), codecs=codec.STORED, trust=(make_trust(), make_trust(2)),
        probes=[{"name": "h", "kind": "http", "target": "http://127.0.0.1:80/"}],
    )  # fmt: skip
    assert made.id.hex() == SAID["id"]
    assert envelope.encode(made.envelope) in (GOLDEN / "v1.ehi").read_bytes()
    assert device.take_here(made.bytes())["reason"] == reasons.OK
