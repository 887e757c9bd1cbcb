# SPDX-License-Identifier: Apache-2.0
"""The people's verbs as a user types them: exit codes, --json, what is said before it is done."""

import json
import os
import subprocess
import sys

import pytest
from monitor_box import REPO, image, until

from edgeheal.core.deployment import BAD
from edgeheal.wire import guard_frames as f
from edgeheal.wire import token_lines


def edgeheal(box, *words, stdin=None):
    return subprocess.run(
        [sys.executable, "-m", "edgeheal.cli.main", *words, "--root", box.layout.root], input=stdin, capture_output=True, timeout=60, check=False,
        env=os.environ | {"PYTHONPATH": REPO, "NO_COLOR": "1"},
    )  # fmt: skip


def bundle(box, made):
    path = box.folder / f"{made.id.hex()[:8]}.ehi"
    path.write_bytes(made.bytes())
    return str(path)


def test_a_technicians_round_install_mark_good_rollback_undo(box):
    one, two = image("1.0"), image("2.0")
    done = edgeheal(box, "image", "install", bundle(box, one), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "trial"
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "v1")
    assert edgeheal(box, "image", "mark-good", "demo").returncode == 0
    assert edgeheal(box, "image", "install", bundle(box, two)).returncode == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "v2")
    assert edgeheal(box, "image", "mark-good", "demo").returncode == 0
    done = edgeheal(box, "rollback")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("2.0 -> 1.0 (known good, ran ")
    assert lines[0].endswith("Data stays as it is.")
    assert "stop " in lines[1]
    assert "start " in lines[1]
    assert lines[2] == "2.0 stays, nothing returns to it by itself. Undo: edgeheal rollback demo --undo"
    assert box.running() == one.id
    assert edgeheal(box, "rollback", "demo", "--undo", "--json").returncode == 0
    assert box.running() == two.id
    rows = json.loads(edgeheal(box, "image", "list", "--json").stdout)
    assert {(r["version"], r["shown"], r["running"]) for r in rows} == {("2.0", "known good", True), ("1.0", "known good", False)}


def test_what_failed_is_shown_as_blocked_and_refused_with_exit_4(box):
    box.good(image("1.0"))
    two = image("2.0", mode="crash")
    assert edgeheal(box, "image", "install", bundle(box, two)).returncode == 0
    until(lambda: box.state(two) == BAD, 10, "the trial to fail")
    done = edgeheal(box, "image", "install", bundle(box, two))
    assert done.returncode == 4
    assert b"next: it failed here before" in done.stderr
    assert edgeheal(box, "image", "allow", "demo", two.id.hex()[:8]).returncode == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("start", "nobody"), 2),
        (("image", "install", "/nowhere.ehi"), 2),
        (("rollback",), 4),
        (("pause", "--for", "3"), 2),
        (("redeem", "EH1/1 AAAA 0000"), 1),
    ],
)
def test_refusals_have_their_exit_codes(box, words, code):
    done = edgeheal(box, *words)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


def test_no_guard_is_exit_3(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "edgeheal.cli.main", "start", "demo", "--root", str(tmp_path), "--json"], capture_output=True, timeout=30, check=False,
        env=os.environ | {"PYTHONPATH": REPO},
    )  # fmt: skip
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["id"] == "eh-unreachable"


def test_stop_stays_stopped_and_start_starts(box):
    box.good(image("1.0"))
    assert edgeheal(box, "stop", "demo").returncode == 0
    assert box.phase() == f.PHASE_STOPPED
    box.again()
    assert box.phase() == f.PHASE_STOPPED
    assert edgeheal(box, "start").returncode == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the app")
    assert edgeheal(box, "restart").returncode == 0


def test_a_pause_ends_and_may_be_ended(box):
    assert edgeheal(box, "pause", "--for", "2h", "--reason", "visit").returncode == 0
    row = f.APP_ROW.unpack(box.ask(f.STATUS).rows[0])
    assert 7100 < row[9] - box.door().hello.box_s <= 7200
    assert edgeheal(box, "resume", "demo").returncode == 0
    assert f.APP_ROW.unpack(box.ask(f.STATUS).rows[0])[9] == 0


def test_config_and_secret_reach_the_app_also_before_its_first_image(box):
    assert edgeheal(box, "app", "config", "set", "demo", "-", stdin=b"first=1").returncode == 0
    assert edgeheal(box, "app", "secret", "set", "demo", "token", stdin=b"s3cr3t").returncode == 0
    assert box.install(image("1.0", config={"path": "etc/demo.conf"})) == 0
    run = until(box.runs, 10, "a run")[0]
    assert run["config"] == "first=1"
    with open(f"{run['EDGEHEAL_SECRETS']}/token", "rb") as file:
        assert file.read() == b"s3cr3t"
    assert edgeheal(box, "app", "config", "set", "demo", "-", stdin=b"second=2").returncode == 0
    until(lambda: box.runs()[-1]["config"] == "second=2", 10, "the new config")


def test_a_token_is_redeemed_as_a_file_and_as_pasted_lines(box):
    box.good(image("1.0"))
    asked = json.loads(edgeheal(box, "challenge", "--json").stdout)
    raw = box.order(1, nonce=bytes.fromhex(asked["nonce"]))
    path = box.folder / "token"
    path.write_bytes(raw)
    count = len(box.runs())
    done = edgeheal(box, "redeem", str(path))
    assert done.returncode == 0, done.stderr
    until(lambda: len(box.runs()) == count + 1, 10, "the restart")
    assert edgeheal(box, "redeem", str(path)).returncode == 6, "once"
    text = "login: \n" + "\n".join(f"> {line}" for line in token_lines.encode(box.order(1)))
    assert all(len(line) <= 78 for line in text.splitlines())
    assert edgeheal(box, "redeem", "-", stdin=text.encode()).returncode == 0
    until(lambda: len(box.runs()) == count + 2, 10, "the second restart")
