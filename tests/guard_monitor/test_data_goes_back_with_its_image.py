# SPDX-License-Identifier: Apache-2.0
"""Data generations, config that was known good, secrets: an app's data move with its image, and never twice."""

from pathlib import Path

from monitor_box import image, until

from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, GOOD, TRIAL
from edgeheal.wire import guard_frames as f

MIGRATE = """#!/usr/bin/python3 -IS
import os, pathlib, sys
here = pathlib.Path(os.environ["EDGEHEAL_DATA"])
note = here / "migrated"
if note.exists():
    sys.exit("migrated before: " + note.read_text())
note.write_text("to 4")
(here / "schema").write_text("4")
"""


def v1():
    return image("1.0", env={"SCHEMA": "3"}, data={"schema": 3})


def test_fc_img_3_a_failed_upgrade_leaves_the_old_data_and_migrates_afresh_next_time(box):
    """v1 (schema 3), v2 migrates to 4 and crashes: v1 runs on with its own data; v3 migrates from v1's data, not from v2's leftovers."""
    one = box.good(v1())
    two = image(
        "2.0", mode="late-crash", env={"SCHEMA": "4", "AFTER": "0.3"}, files={"migrate": (MIGRATE.encode(), True)}, data={"schema": 4, "migrate": "migrate"}
    )
    assert box.install(two) == 0
    until(lambda: box.state(two) == BAD, 15, "v2 to fail")
    until(lambda: box.running() == one.id and box.phase() == f.PHASE_RUNNING, 10, "v1 with its data")
    data = Path(box.layout.data) / "demo"
    assert (data / "1" / "schema").read_text() == "3"
    assert not (data / "1" / "migrated").exists()
    three = image("3.0", env={"SCHEMA": "4"}, files={"migrate": (MIGRATE.encode(), True)}, data={"schema": 4, "migrate": "migrate"})
    box.good(three)
    run = box.all_runs()[-1]
    assert run["EDGEHEAL_IMAGE"] == three.id.hex()
    new = Path(run["EDGEHEAL_DATA"])
    assert new.name not in ("1", "2")
    assert (new / "schema").read_text() == "4"
    assert (new / "migrated").read_text() == "to 4"


def test_a_migration_that_fails_leaves_everything_as_it_was(box):
    one = box.good(v1())
    runs = len(box.runs())
    broken = image("2.0", files={"migrate": (b"#!/bin/sh\nexit 9\n", True)}, data={"schema": 4, "migrate": "migrate"})
    assert box.install(broken) == reasons.HOOK
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "v1 again")
    assert box.running() == one.id
    assert len(box.runs()) == runs + 1
    assert sorted(p.name for p in (Path(box.layout.data) / "demo").iterdir()) == ["1", "config", "secret"]


def test_data_that_cannot_go_back_is_not_left_behind_by_the_agent(box):
    box.good(v1())
    two = image("2.0", env={"SCHEMA": "4"}, mode="migrates", data={"schema": 4, "downgrade": "no"})
    box.good(two)
    with box.agent() as agent:
        assert agent.ask(f.SWITCH, app="demo").reason == reasons.SCHEMA
    assert box.running() == two.id
    assert box.ask(f.SWITCH, app="demo").reason == 0, "root may, and v1 finds its own data"
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "v1 with schema 3")


def test_data_that_would_be_left_behind_needs_approval_unless_the_image_says_yes(box):
    box.good(v1())
    box.good(image("2.0", env={"SCHEMA": "4"}, mode="migrates", data={"schema": 4, "downgrade": "ask"}))
    with box.agent() as agent:
        assert agent.ask(f.SWITCH, app="demo").reason == reasons.NEEDS_APPROVAL


def put(box, text):
    fd_path = box.folder / "config"
    fd_path.write_bytes(text)
    with fd_path.open("rb") as file:
        return box.ask(f.SET_CONFIG, app="demo", fd=file.fileno()).reason


def test_the_config_with_which_it_soaked_comes_back_after_a_failure_that_the_guard_saw(box):
    assert put(box, b"good=1") == 0
    box.good(image("1.0", config={"path": "demo.conf"}))
    with box.agent() as agent:
        assert agent.ask(f.RESTORE_CONFIG, app="demo").reason == reasons.NOT_SEEN
        assert put(box, b"bad") == 0
        until(lambda: box.runs()[-1]["config"] == "bad" and box.phase() == f.PHASE_STOPPED, 10, "the crash with the bad config")
        assert f.APP_ROW.unpack(box.ask(f.STATUS).rows[0])[15] & f.F_CONFIG_DIFFERS
        assert agent.ask(f.RESTORE_CONFIG, app="demo").reason == 0
        until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the app with its good config")
    assert box.runs()[-1]["config"] == "good=1"
    assert not f.APP_ROW.unpack(box.ask(f.STATUS).rows[0])[15] & f.F_CONFIG_DIFFERS
    assert box.state(image("1.0", config={"path": "demo.conf"})) == GOOD


def test_fc_sto_2_an_emptied_config_and_its_backup_are_told_from_a_fresh_one(box):
    """The live config truncated to nothing by a cut: the known good copy comes back, the copy is not overwritten by the empty one."""
    assert put(box, b"good=1") == 0
    box.good(image("1.0", config={"path": "demo.conf"}))
    live = Path(box.layout.data) / "demo" / "1" / "demo.conf"
    kept = Path(box.layout.data) / "demo" / "config" / "1"
    assert kept.read_bytes() == b"good=1"
    box.kill()
    live.write_bytes(b"")
    box.start()
    assert box.ask(f.RESTORE_CONFIG, app="demo").reason == 0
    assert live.read_bytes() == b"good=1"
    assert kept.read_bytes() == b"good=1"


def test_a_config_that_the_images_own_check_refuses_never_becomes_live(box):
    check = b'#!/bin/sh\ngrep -q good "$EDGEHEAL_CONFIG"\n'
    assert box.install(image("1.0", files={"check": (check, True)}, config={"path": "demo.conf", "check": ["check"]})) == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the app")
    assert put(box, b"good=1") == 0
    assert put(box, b"nonsense") == reasons.HOOK
    assert (Path(box.layout.data) / "demo" / "1" / "demo.conf").read_bytes() == b"good=1"


def test_a_config_that_the_image_brings_is_put_where_none_is(box):
    assert box.install(image("1.0", files={"demo.conf": (b"default=1", False)}, config={"path": "demo.conf"})) == 0
    assert until(box.runs, 10, "a run")[0]["config"] == "default=1"
    assert box.state(image("1.0", files={"demo.conf": (b"default=1", False)}, config={"path": "demo.conf"})) == TRIAL
