# SPDX-License-Identifier: Apache-2.0
"""Admission: one function, no clock, floors that click only at mark-good."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from workshop import RELEASE, RELEASE2, REPO, ROOT, STRANGER, Made, make_trust

from edgeheal.core import reasons
from edgeheal.image import admission, manifest
from edgeheal.image.admission import Facts
from edgeheal.trust import document, envelope
from edgeheal.trust.verify import signers


def trust_of(**fields):
    return document.decode(make_trust(**fields).body)


def facts(made=None, **fields):
    made = made or Made()
    said = manifest.decode(made.body)
    default = {
        "manifest": said, "image": made.id, "signers": signers(made.envelope), "newest": trust_of(), "under": None, "device": ("gateway",), "floor": (0, 0),
        "blocked": frozenset(), "interpreters": (),
    }  # fmt: skip
    return Facts(**(default | fields))


def test_a_signed_image_for_this_device_is_admitted():
    assert admission.judge(facts()) == reasons.OK


def test_fc_img_1_admission_needs_no_clock_and_refuses_what_it_must():
    """A stick in January 1970: nothing here can even ask what time it is; a revoked key and a low counter are refused all the same."""
    for room in ("image", "trust"):
        for file in Path(REPO, "edgeheal", room).glob("*.py"):
            names = {a.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Import) for a in n.names}
            assert not names & {"time", "datetime"}, file
    assert admission.judge(facts()) == reasons.OK
    assert admission.judge(facts(newest=trust_of(n=2, keys=[RELEASE.public]))) == reasons.REVOKED
    assert admission.judge(facts(floor=(0, 4))) == reasons.BELOW_FLOOR


def test_fc_img_1_the_children_judge_the_same_at_any_time(device, tmp_path):
    """The importer under a clock of 1970 + 90 s (faked for the whole process) takes the image, and refuses revoked key and low counter."""
    made = Made()
    words = "import time; time.time = lambda: 90.0; time.time_ns = lambda: 90_000_000_000"
    code = f"{words}; import sys; sys.path[:0]=[{REPO!r}]; from edgeheal.guard import importer; sys.exit(importer.main())"
    path = tmp_path / "b.ehi"
    path.write_bytes(made.bytes())

    def take(**more):
        from edgeheal.image.records import pack

        with path.open("rb") as file:
            done = subprocess.run([sys.executable, "-c", f"import os; os.dup2({file.fileno()}, 3); {code}"], input=pack(device.request(**more)), capture_output=True, pass_fds=(file.fileno(),), check=True)  # fmt: skip
        from workshop import split

        return list(split(done.stdout))[-1]

    assert take()["k"] == "done"
    assert take(trust=envelope.encode(make_trust(2, keys=[RELEASE.public])))["reason"] == reasons.REVOKED
    assert take(floors={"demo": [0, 4]})["reason"] == reasons.BELOW_FLOOR


def test_each_reason_in_the_order_of_proof():
    made = Made()
    everything_wrong = {"device": ("other",), "newest": trust_of(ids=[made.id]), "blocked": frozenset([made.id]), "floor": (0, 9)}
    assert admission.judge(facts(Made(keys=(STRANGER,)), **everything_wrong)) == reasons.UNKNOWN_KEY
    assert admission.judge(facts(made, **everything_wrong)) == reasons.WRONG_DEVICE
    assert admission.judge(facts(made, **(everything_wrong | {"device": ("gateway",)}))) == reasons.REVOKED
    assert admission.judge(facts(made, blocked=frozenset([made.id]), floor=(0, 9))) == reasons.BLOCKED
    assert admission.judge(facts(made, floor=(0, 9))) == reasons.BELOW_FLOOR
    assert admission.judge(facts(Made(run={"argv": ["/bin/sh", "x"]}))) == reasons.NOT_CONFIGURED
    assert admission.judge(facts(Made(run={"argv": ["/bin/sh", "x"]}), interpreters=("/bin/sh",))) == reasons.OK


def test_a_threshold_of_two_needs_two_different_keys():
    two = trust_of(release=(RELEASE, RELEASE2), threshold=2)
    assert admission.judge(facts(newest=two)) == reasons.UNDER_THRESHOLD
    assert admission.judge(facts(Made(keys=(RELEASE, RELEASE2)), newest=two)) == reasons.OK
    assert admission.judge(facts(Made(keys=(RELEASE, STRANGER)), newest=two)) == reasons.UNDER_THRESHOLD
    assert admission.judge(facts(Made(keys=(RELEASE, RELEASE)), newest=two)) == reasons.UNDER_THRESHOLD


def test_an_app_with_release_keys_of_its_own_is_not_signed_by_the_fleets():
    newest = trust_of(app_release={"demo": RELEASE2})
    assert admission.judge(facts(newest=newest)) == reasons.WRONG_ROLE
    assert admission.judge(facts(Made(keys=(RELEASE2,)), newest=newest)) == reasons.OK
    assert admission.judge(facts(Made(keys=(RELEASE2,), app="other"), newest=newest)) == reasons.WRONG_ROLE


def test_what_was_admitted_under_an_old_key_stays_and_falls_by_id_or_floor_alone():
    old, new = trust_of(), trust_of(n=2, release=(RELEASE2,), keys=[RELEASE.public])
    assert admission.judge(facts(newest=new)) == reasons.REVOKED
    assert admission.judge(facts(newest=new, under=old)) == reasons.OK
    made = Made()
    by_id = trust_of(n=2, release=(RELEASE2,), ids=[made.id], keep=[made.id])
    assert admission.judge(facts(made, newest=by_id, under=old)) == reasons.REVOKED
    assert admission.kept(facts(made, newest=by_id, under=old))
    assert admission.judge(facts(newest=new, under=old, floor=(0, 4))) == reasons.BELOW_FLOOR


def test_blocked_by_tree_and_run_catches_a_re_packed_image():
    first, again = Made(), Made(version="1.0-again", soak_s=60, run={"argv": ["bin/app"], "ready": "start"})
    assert first.id != again.id
    digest = manifest.decode(first.body).tree_run
    assert admission.judge(facts(again, blocked=frozenset([digest]))) == reasons.BLOCKED
    assert admission.judge(facts(Made(run={"argv": ["bin/app", "--other"]}), blocked=frozenset([digest]))) == reasons.OK


def test_the_floor_of_trust_counts_for_newcomers_and_never_for_what_runs():
    newest = trust_of(floors={"demo": (0, 5)})
    assert admission.judge(facts(newest=newest)) == reasons.BELOW_FLOOR
    assert admission.judge(facts(newest=newest, under=trust_of())) == reasons.OK


def test_a_higher_epoch_lowers_a_floor_that_a_stolen_key_pushed_up():
    pushed = (0, 4_000_000_000)
    assert admission.judge(facts(floor=pushed, under=trust_of())) == reasons.BELOW_FLOOR
    healed = trust_of(n=2, floors={"demo": (1, 2)})
    assert admission.judge(facts(floor=pushed, newest=healed)) == reasons.OK
    assert admission.judge(facts(floor=pushed, newest=healed, under=trust_of())) == reasons.OK
    assert admission.marked(pushed, (1, 2), manifest.decode(Made().body)) == (1, 2)


@pytest.mark.parametrize(
    ("floor", "trust_floor", "minimum", "counter", "after"),
    [
        ((0, 0), (0, 0), 0, 3, (0, 0)),
        ((0, 0), (0, 0), 2, 3, (0, 2)),
        ((0, 2), (0, 0), 1, 3, (0, 2)),
        ((0, 0), (0, 9), 0, 3, (0, 3)),
        ((0, 1), (0, 2), 0, 3, (0, 2)),
        ((1, 3), (0, 9), 0, 5, (1, 3)),
        ((0, 7), (1, 2), 3, 5, (1, 3)),
        ((0, 1), (1, 9), 0, 5, (1, 5)),
    ],
)
def test_the_ratchet_clicks_to_what_is_demanded_and_never_above_what_was_marked(floor, trust_floor, minimum, counter, after):
    said = manifest.decode(Made(security_counter=counter, min_security_counter=minimum).body)
    assert admission.marked(floor, trust_floor, said) == after
    assert admission.marked(after, trust_floor, said) == after


def test_the_verifier_says_the_same_as_the_function(device):
    made = Made()
    raw = envelope.encode(made.envelope)
    assert device.judge(raw)["reason"] == reasons.OK
    assert device.judge(raw, floor=[0, 4])["reason"] == reasons.BELOW_FLOOR
    assert device.judge(raw, blocked=[made.id])["reason"] == reasons.BLOCKED
    assert device.judge(raw, device=["other"])["reason"] == reasons.WRONG_DEVICE
    assert device.judge(raw, app="other")["reason"] == reasons.NO_SUCH_APP
    assert device.judge(raw, id=b"x" * 32)["reason"] == reasons.NO_SUCH_IMAGE
    device.trust = make_trust(2, release=(RELEASE2,), ids=[made.id], keep=[made.id], signed_by=(ROOT,))
    old = envelope.encode(make_trust())
    done = device.judge(raw, trust_k=old, keep=True)
    assert (done["reason"], done["kept"]) == (reasons.REVOKED, True)
    assert device.judge(raw, trust_k=old)["kept"] is False
    flipped = bytearray(raw)
    flipped[-1] ^= 1
    assert device.judge(bytes(flipped))["reason"] == reasons.BAD_SIGNATURE
