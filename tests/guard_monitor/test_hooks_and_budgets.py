# SPDX-License-Identifier: Apache-2.0
"""Hooks, interlock, safe state, reboot and the agent's budgets: asked first, three answers, counted for good."""

import itertools
import json
import os
import time
from pathlib import Path

import pytest
from monitor_box import Box, image, until

from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD
from edgeheal.core.kinds import ActionCode, By
from edgeheal.guard import interlock, warrants
from edgeheal.wire import guard_frames as f


def hook(box, point, body, name="10-it"):
    path = Path(box.layout.hooks) / f"{point}.d" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def mover(tmp_path):
    """A device whose app moves something in the world, and may reboot."""
    with Box(tmp_path, app_lines="actuates = true", guard='reboots = true\n[guard.budgets]\nrollback = ["2 in 7d"]\nreboot = ["1 in 6h"]') as box:
        yield box.start()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("exit 1", reasons.HOOK),
        ("exit 75", reasons.NOT_NOW),
        ("kill -9 $$", reasons.HOOK),
        ("exit 3", reasons.HOOK),
    ],
    ids=["no", "not now", "killed", "could not tell"],
)
def test_fc_img_5_a_pre_install_hook_has_three_answers_and_nothing_is_changed(box, body, reason):
    hook(box, "pre-install", body)
    assert box.install(image("1.0"), try_it=False) == reason
    assert box.rows() == {}
    assert os.listdir(box.layout.staging) == [] if os.path.isdir(box.layout.staging) else True


def test_a_hook_that_never_ends_is_ended_with_its_children(box):
    from edgeheal.guard.hooks import UNKNOWN, Hooks
    from edgeheal.guard.loop import Loop

    hook(box, "slow", f"sleep 300 & echo $! > {box.folder}/child; sleep 300")
    loop, told = Loop(), []
    hooks = Hooks(loop, box.layout.hooks, str(box.folder), lambda point, one: None)
    hooks.limit_s = 0.5
    hooks.run("slow", {}, told.append)
    end = time.monotonic() + 10
    while not told and time.monotonic() < end:
        loop.turn(0.1)
    assert (told[0].verdict, told[0].reason) == (UNKNOWN, reasons.TIMEOUT)
    child = int((box.folder / "child").read_text())
    until(lambda: not os.path.exists(f"/proc/{child}") or b"State:\tZ" in Path(f"/proc/{child}/status").read_bytes(), 5, "the hook's child to be gone")


def test_an_app_that_moves_things_is_asked_for_before_it_is_touched(mover):
    notes = mover.folder / "notes"
    safe = hook(mover, "safe-state", f'echo "safe $EDGEHEAL_APP $EDGEHEAL_BY" >> {notes}')
    lock = hook(mover, "interlock", f'echo "ask $EDGEHEAL_VERB $EDGEHEAL_BY" >> {notes}; test ! -e {mover.folder}/no')
    mover.good(image("1.0"))
    mover.good(image("2.0"))
    said = notes.read_text()
    assert "ask try local" in said
    assert "safe demo local" in said
    (mover.folder / "no").touch()
    running = mover.running()
    assert mover.ask(f.SWITCH, app="demo").reason == reasons.INTERLOCK
    assert mover.running() == running
    assert mover.phase() == f.PHASE_RUNNING
    assert mover.ask(f.OVERRIDE).reason == 0
    assert mover.ask(f.SWITCH, app="demo").reason == 0, "a person takes it on himself, once"
    (mover.folder / "no").unlink()
    until(lambda: mover.phase() == f.PHASE_RUNNING, 10, "the app")
    safe.write_text("#!/bin/sh\nexit 1\n")
    assert mover.ask(f.STOP, app="demo").reason == reasons.INTERLOCK, "not stopped where the safe state was not reached"
    assert mover.phase() == f.PHASE_RUNNING
    assert mover.present(mover.order(ActionCode.STOP), agent=True).reason == reasons.INTERLOCK
    assert wanted(mover) == 1, "a stop that was refused has changed nothing"
    lock.unlink()
    safe.unlink()
    assert mover.ask(f.STOP, app="demo").reason == 0
    assert wanted(mover) == 0


def wanted(box):
    return f.APP_ROW.unpack(box.ask(f.STATUS, app="demo").rows[0])[12]


def test_the_safe_state_is_read_back(mover):
    hook(mover, "safe-state", "exit 0")
    hook(mover, "safe-state-check", "exit 1")
    mover.install(image("1.0"))
    until(lambda: mover.phase() == f.PHASE_RUNNING, 10, "the app")
    assert mover.ask(f.STOP, app="demo").reason == reasons.INTERLOCK


def test_an_agents_rollbacks_are_budgeted_for_good_and_a_persons_are_not(mover):
    mover.good(image("1.0"))
    mover.good(image("2.0"))
    with mover.agent() as agent:
        codes = [agent.ask(f.SWITCH, app="demo").reason for _ in range(3)]
    assert codes == [0, 0, reasons.BUDGET_SPENT]
    mover.again()
    with mover.agent() as agent:
        assert agent.ask(f.SWITCH, app="demo").reason == reasons.BUDGET_SPENT
    assert mover.ask(f.SWITCH, app="demo").reason == 0
    rows = mover.ask(f.BUDGETS, app="demo").rows
    spent = {f.EVENT.unpack(r)[-1].rstrip(b"\0"): f.EVENT.unpack(r)[8:11] for r in rows}
    assert spent[b"rollback"][:2] == (3, 2)


def test_a_power_cycle_is_asked_for_until_an_integrator_enables_it(box):
    ran = box.folder / "ran"
    hook(box, "power-cycle", f'echo "$EDGEHEAL_TARGET|$EDGEHEAL_BY" >> {ran}')
    (Path(box.layout.hooks) / "power-cycle.targets").write_text("# what feeds what\n\nusb-1-1.2\nusb-1-1.3\n")
    with box.agent() as agent:
        assert agent.ask(f.HOOK, app="power-cycle", a=1).reason == reasons.NEEDS_APPROVAL
        assert agent.ask(f.HOOK, app="power-cycle", image=b"usb-1-1.2").reason == reasons.MALFORMED, "a number, never text"
        assert [agent.ask(f.HOOK, app="power-cycle", a=n).reason for n in (3, 99, 2**62)] == [reasons.NOT_CONFIGURED] * 3
        assert agent.ask(f.HOOK, app="interlock").reason == reasons.MALFORMED
        assert agent.ask(f.HOOK, app="../../bin").reason == reasons.MALFORMED
        assert agent.ask(f.HOOK, app="nowhere").reason == reasons.NOT_CONFIGURED
    assert box.ask(f.HOOK, app="power-cycle", image=b"$(reboot)").reason == reasons.NOT_CONFIGURED
    assert box.ask(f.HOOK, app="power-cycle", image=b"usb-1-1.2").reason == 0
    assert box.ask(f.HOOK, app="power-cycle", a=2).reason == 0
    assert ran.read_text() == "usb-1-1.2|local\nusb-1-1.3|local\n"


def test_a_persons_approval_lets_one_power_cycle_pass_and_not_a_second(box):
    hook(box, "power-cycle", "exit 0")
    with box.agent() as agent:
        assert agent.ask(f.HOOK, app="power-cycle").reason == reasons.NEEDS_APPROVAL
        agent.ask(f.APPROVE, app="demo", image=b"HQXH")
        assert agent.ask(f.HOOK, app="power-cycle").reason == reasons.NEEDS_APPROVAL, "the agent cannot approve for a person"
        assert box.ask(f.APPROVE, app="demo", image=b"HQXH").reason == 0
        assert agent.ask(f.HOOK, app="power-cycle").reason == 0
        assert agent.ask(f.HOOK, app="power-cycle").reason == reasons.NEEDS_APPROVAL


def test_a_reboot_is_budgeted_marked_and_stops_the_apps_first(mover):
    ran = mover.folder / "ran"
    hook(mover, "reboot", f"echo reboot >> {ran}")
    mover.good(image("1.0"))
    with mover.agent() as agent:
        assert agent.ask(f.REBOOT, a=1).reason == reasons.WRONG_DOOR
        assert agent.ask(f.REBOOT).reason == 0
        assert ran.read_text() == "reboot\n"
        assert mover.phase() == f.PHASE_STOPPED
        assert agent.ask(f.REBOOT).reason == reasons.BUDGET_SPENT
    assert ran.read_text() == "reboot\n"
    from edgeheal.guard.blocks import Blocks

    assert Blocks(f"{mover.layout.guard}/boots", 8192).load()["order"] == [0, 1]
    mover.again()
    with mover.agent() as agent:
        assert agent.ask(f.REBOOT).reason == reasons.BUDGET_SPENT, "also after a restart of the guard"
    assert Blocks(f"{mover.layout.guard}/boots", 8192).load()["order"] == [], "the same boot goes on: it did not happen"


def test_a_device_that_may_not_reboot_does_not(box):
    assert box.ask(f.REBOOT).reason == reasons.NOT_CONFIGURED


def test_pause_holds_the_agents_starts_and_ends_by_itself(box):
    box.good(image("1.0"))
    assert box.ask(f.PAUSE, app="demo", a=3).reason == 0
    with box.agent() as agent:
        assert agent.ask(f.RESTART, app="demo").reason == reasons.PAUSED
        until(lambda: agent.ask(f.RESTART, app="demo").reason == 0, 10, "the pause to end")


def test_events_tell_what_a_person_did_and_what_moved(box):
    with box.agent() as agent:
        one = box.good(image("1.0"))
        seen = agent.events(2)
    moved = [(e.code, e.a) for e in seen if e.kind == f.EV_IMAGE and e.image == one.id]
    assert [a for _, a in moved] == [2, 3, 4], "written, trial, good"
    orders = [e.code for e in seen if e.kind == f.EV_ORDERED]
    assert ActionCode.INSTALL in orders
    assert ActionCode.MARK_GOOD in orders


def test_fc_sto_4_what_nobody_names_leaves_the_disk_and_what_is_named_stays(box):
    one = box.good(image("1.0"))
    store = Path(box.layout.store) / "demo"
    strays = [f"{n:02x}" * 32 for n in range(1, 21)]
    for name in strays:
        (store / name / "files").mkdir(parents=True)
        (store / name / "files" / "big").write_bytes(b"x" * 1000)
    old = Path(box.layout.staging) / ("ab" * 32)
    old.mkdir()
    (old / "part").write_bytes(b"x")
    os.utime(old, (1, 1))
    two = image("2.0")
    assert box.install(two, try_it=False) == 0
    gone = store / two.id.hex()
    os.rename(gone, store.parent / "elsewhere")
    box.again()
    until(lambda: sorted(p.name for p in store.iterdir() if len(p.name) == 64) == [one.id.hex()], 30, "20 strays to leave")
    until(lambda: two.id not in box.rows(), 10, "the entry without files to leave")
    until(lambda: not old.exists(), 10, "what a broken-off import left to leave")
    assert box.state(one) == GOOD
    assert box.phase() == f.PHASE_RUNNING


def test_sixteen_images_make_room_by_dropping_what_is_not_needed(box):
    one = box.good(image("1.0"))
    for n in range(17):
        assert box.install(image(f"2.{n}"), try_it=False) == 0, n
    assert len(box.rows()) == 16
    assert box.state(one) == GOOD


def test_the_guards_plain_numbers_are_those_of_the_kinds():
    names = [n for n in vars(warrants) if n.startswith("A_")]
    assert {n: getattr(warrants, n) for n in names} == {f"A_{a.name}": int(a) for a in ActionCode}
    assert len(interlock.BY_WORDS) == len(By)


def test_a_wrong_command_line_of_the_budget_rows_is_readable(box):
    rows = box.ask(f.BUDGETS).rows
    kinds = {f.EVENT.unpack(r)[-1].rstrip(b"\0").decode() for r in rows}
    assert {"starts", "rollback", "hook", "power", "reboot", "config"} <= kinds
    assert json.dumps(sorted(kinds))
    assert list(itertools.islice(rows, 1))
