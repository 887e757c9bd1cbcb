# SPDX-License-Identifier: Apache-2.0
"""What an image is, is its signed digest; labels are for people. No goal is downloaded twice over a spelling."""

import os
import subprocess
import sys
from pathlib import Path

from monitor_box import REPO, image, until
from workshop import OPERATOR

from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, GOOD
from edgeheal.trust import envelope
from edgeheal.trust.envelope import Envelope
from edgeheal.wire import guard_frames as f
from edgeheal.wire import policy_doc
from edgeheal.wire.policy_doc import PolicyDoc

SAME = {"version": (b"the same content, whatever the label", False)}


def present(box, number, made):
    """A signed policy, as the agent brings it: the goal is this image."""
    said = PolicyDoc((0, number), "acme", "gw-1", goals={"demo": made.id})
    return box.present(envelope.encode(OPERATOR.sign(Envelope(envelope.POLICY, policy_doc.encode_body(said)))), agent=True).reason


def written(box):
    """Bytes of all that staging and store hold, and when it changed last."""
    files = [p for folder in (box.layout.staging, box.layout.store) for p in Path(folder).rglob("*") if p.is_file() and not p.is_symlink()]
    return sorted((str(p), p.stat().st_size, p.stat().st_ino) for p in files)


def test_fc_flt_1_a_goal_that_runs_already_is_reached_whatever_its_label(box):
    """`28.00` runs; ten policies want that digest, and a copy of it is at hand: nothing is written, nothing restarts, no warrant is left over."""
    one = box.good(image("28.00"))
    runs, before = len(box.runs()), written(box)
    for number in range(1, 11):
        assert present(box, number, one) == reasons.OK
        assert box.install(one, try_it=False) == reasons.OK
        assert written(box) == before
    assert (box.running(), len(box.runs()), box.state(one)) == (one.id, runs, GOOD)
    assert list(box.rows()) == [one.id]
    with box.agent() as agent:
        assert agent.ask(f.TRY, app="demo", image=one.id).reason == reasons.NO_WARRANT


def test_fc_flt_1_a_goal_that_fails_is_tried_once_by_its_digest_under_any_label(box):
    """Ten policies, the label spelled in three ways: one trial, one download at most, then blocked, told once."""
    one = box.good(image("28.00"))
    spellings = [image(label, mode="crash", files=SAME) for label in ("28.1", "28.10", "v28.1")]
    assert len({made.id for made in spellings}) == 3
    told = []
    with box.agent() as agent:
        for number in range(1, 11):
            made = spellings[number % 3]
            assert present(box, number, made) == reasons.OK
            if box.install(made, try_it=False) == reasons.OK:
                until(lambda made=made: box.state(made) == BAD, 15, "the trial to fail")
            told += [e for e in agent.events(0.05) if e.kind == f.EV_TRIAL]
    until(lambda: box.running() == one.id and box.phase() == f.PHASE_RUNNING, 15, "28.00 again")
    assert len(box.all_runs()) == 3, "28.00, one trial, 28.00"
    assert len(told) == 1
    assert sorted(box.state(made) for made in spellings if box.state(made) is not None) == [BAD]
    assert os.listdir(box.layout.staging) == []


def test_fc_flt_1_two_images_of_one_label_are_told_apart_by_their_ids(box):
    one, two = box.good(image("28.0")), box.good(image("28.0", files=SAME))
    words = [sys.executable, "-m", "edgeheal.cli.main", "rollback", "demo", "--root", box.layout.root, "--to"]
    env = os.environ | {"PYTHONPATH": REPO}
    done = subprocess.run([*words, "28.0"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert one.id.hex()[:12] in done.stderr
    assert two.id.hex()[:12] in done.stderr
    assert box.running() == two.id
    done = subprocess.run([*words, one.id.hex()[:8]], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, box.running()) == (0, one.id), done.stderr
