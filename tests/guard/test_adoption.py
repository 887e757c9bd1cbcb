# SPDX-License-Identifier: Apache-2.0
"""The guard may die at any moment: apps go on, are adopted, none is doubled, no exit is lost, no status is invented."""

import os
import random
import select
import signal

import pytest

from edgeheal.core.kinds import By
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import alive, until


def test_a_killed_guard_stops_no_app_and_the_next_one_adopts_it(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    before = box.row("one")
    box.kill()
    assert alive(before["pid"])
    box.start()
    after = box.row("one")
    assert (after["pid"], after["run"]) == (before["pid"], before["run"])
    assert after["flags"] & f.F_ADOPTED
    assert after["phase"] == f.PHASE_RUNNING
    assert box.count("one") == 1


def test_the_exit_of_an_adopted_app_is_told_with_the_status_that_the_kernel_tells(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    pid = box.row("one")["pid"]
    box.kill()
    box.start()
    agent = box.door(agent=True)
    os.kill(pid, signal.SIGTERM)
    gone = agent.next(f.EV_EXITED, "one")
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if gone.code & (f.X_SIGNAL | f.X_CODE):
        assert gone.code & f.X_SIGNAL
        assert gone.a == signal.SIGTERM
    else:
        assert release < (6, 15) or parent_does_not_reap(pid)


def parent_does_not_reap(pid):
    """A zombie that nobody takes: then the kernel has nothing to tell."""
    return os.path.exists(f"/proc/{pid}")


def test_an_exit_while_the_guard_is_away_is_told_as_unknown_and_repaired_at_once(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    row = box.row("one")
    box.kill()
    os.kill(row["pid"], signal.SIGKILL)
    until(lambda: not alive(row["pid"]))
    box.start()
    agent = box.door(agent=True)
    gone = agent.next(f.EV_EXITED, "one")
    assert gone.run == row["run"]
    assert not gone.code & (f.X_CODE | f.X_SIGNAL)
    until(lambda: box.count("one") == 2)


def test_an_exit_that_no_agent_heard_is_kept_for_the_agent_even_over_the_guards_death(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    row = box.row("one")
    os.kill(row["pid"], signal.SIGKILL)
    until(lambda: box.count("one") == 2, what="the standing order")
    box.kill()
    box.start()
    agent = box.door(agent=True)
    gone = agent.next(f.EV_EXITED, "one", run=row["run"])
    assert gone.a == 9
    assert agent.next(f.EV_STARTED, "one", run=box.row("one")["run"]).a == By.STANDING_ORDER
    last = max(e.number for e in [gone, *agent.seen])
    agent.ask(f.HEARTBEAT, a=1, b=last)
    again = box.door(agent=True)
    again.ask(f.STATUS)
    assert not [e for e in again.seen if e.kind == f.EV_EXITED], "what the agent has is not told twice"


def test_a_process_without_a_record_is_found_by_its_marker(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    row = box.row("one")
    box.kill()
    (box.root / "run/edgeheal/guard/runs/one").write_bytes(b"\0" * 2048)
    box.start()
    assert box.row("one")["pid"] == row["pid"]
    assert box.count("one") == 1


def test_a_record_of_another_boot_is_not_believed(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    pid = box.row("one")["pid"]
    box.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))
    from edgeheal.image.records import block, unblock

    path = box.root / "run/edgeheal/guard/runs/one"
    value = unblock(path.read_bytes())
    stat = open(f"/proc/{os.getpid()}/stat").read().rpartition(")")[2].split()
    path.write_bytes(block(value | {"boot": "another", "pid": os.getpid(), "start": int(stat[19])}, 2048))
    box.start()
    until(lambda: box.count("one") == 2)
    assert box.row("one")["by"] == By.BOOT
    assert box.row("one")["pid"] != os.getpid()


def test_killed_at_random_moments_nothing_is_doubled_and_nothing_is_lost(box):
    """The app's own lock tells of a double start; it dies now and then, the guard at any moment, its starts included."""
    rng = random.Random(7)
    for name in ("one", "two"):
        box.app(name, "lock=1", "beat_ms=50", heartbeat_ms=5_000)
    box.start(door=False)
    for _ in range(12):
        select.select([], [], [], rng.uniform(0.0, 0.08))
        victim = rng.choice(["one", "two"])
        pids = [pid for word, pid in box.log(victim)[-1:] if word == "up"]
        if pids and alive(pids[0]):
            os.kill(pids[0], signal.SIGKILL)
        select.select([], [], [], rng.uniform(0.0, 0.02))
        box.kill()
        box.start(wait=rng.random() < 0.5, door=False)
    until(box.up)
    for name in ("one", "two"):
        until(lambda name=name: settled(box, name), seconds=20, what=f"{name} to run once; {box.row(name)}, marked: {marked(box, name)}")
        assert box.count(name, "doubled") == 0


def settled(box, name):
    """It runs, and the run that the guard names is the only process with its marker: one that was shot a moment ago may still be dying as a new guard adopts it."""
    row = box.row(name)
    return row["phase"] == f.PHASE_RUNNING and marked(box, name) == [str(row["pid"])]


def marked(box, name):
    """Every process that carries the app's marker and this box's folder in its environment."""
    return [p for p in os.listdir("/proc") if p.isdigit() and f"EDGEHEAL_RUN={name}:".encode() in environ(p) and str(box.root).encode() in environ(p)]


def environ(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return b""


@pytest.mark.parametrize("beats", [("beat_ms=100",), ()])
def test_an_app_that_says_ready_while_no_guard_is_there_is_not_taken_for_one_that_never_was(box, beats):
    box.app("one", "ready_ms=700", *beats, ready="notify", heartbeat_ms=1000 if beats else 0, start_ms=2000)
    box.start()
    until(lambda: box.row("one")["pid"])
    pid = box.row("one")["pid"]
    box.kill()
    until(lambda: b"unheard" in b"".join(path.read_bytes() for path in box.root.rglob("data/one/**/log")))
    box.start()
    until(lambda: box.row("one")["phase"] == f.PHASE_RUNNING)
    assert (box.row("one")["pid"], alive(pid)) == (pid, True)
