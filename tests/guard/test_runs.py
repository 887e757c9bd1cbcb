# SPDX-License-Identifier: Apache-2.0
"""Runs: start, exit, restart, stop, as a person and an agent at the doors see them."""

import os
import signal
import socket
import subprocess

import pytest

from edgeheal.core import reasons
from edgeheal.core.kinds import By
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import alive, until


def test_what_is_wanted_starts_with_the_guard(box):
    box.app("one")
    door = box.start()
    until(lambda: box.count("one") == 1)
    row = box.row("one")
    assert row["phase"] == f.PHASE_RUNNING
    assert row["pid"] > 0
    assert row["wanted"] == 1
    assert door.hello.boundary == ("full" if os.geteuid() == 0 and not box.plain else "none")


def test_an_exit_is_told_with_its_status_and_the_agent_starts_it_again(box):
    box.app("one")
    box.start()
    agent = box.door(agent=True)
    until(lambda: box.count("one") == 1)
    first = box.row("one")
    os.kill(first["pid"], signal.SIGKILL)
    gone = agent.next(f.EV_EXITED, "one")
    assert gone.code & f.X_SIGNAL
    assert gone.a == 9
    assert gone.run == first["run"]
    assert agent.ask(f.START, app="one").reason == reasons.OK
    again = agent.next(f.EV_STARTED, "one")
    assert again.run > first["run"]
    assert again.a == By.REMEDY
    until(lambda: box.count("one") == 2)


def test_an_orderly_stop_by_a_person_is_wanted_and_ends_everything(box):
    box.app("one")
    door = box.start()
    until(lambda: box.count("one"))
    pid = box.row("one")["pid"]
    assert door.ask(f.STOP, app="one").reason == reasons.OK
    gone = door.next(f.EV_EXITED, "one")
    assert gone.code & f.X_ORDERED
    assert not os.path.exists(f"/proc/{pid}")
    assert box.row("one")["wanted"] == 0
    agent = box.door(agent=True)
    assert agent.ask(f.START, app="one").reason == reasons.NOT_ALLOWED
    assert door.ask(f.START, app="one").reason == reasons.OK
    assert box.row("one")["wanted"] == 1


def test_fc_pro_2_leftovers_are_ended_before_a_start(box):
    port = box.port()
    box.app("one", f"port={port}", "helper=1", "after_ms=400", "exit=1")
    door = box.start()
    until(lambda: box.count("one") == 1 and box.count("one", "helper") == 1)
    helper = next(pid for word, pid in box.log("one") if word == "helper")
    door.next(f.EV_EXITED, "one", code=f.X_CODE)
    assert door.next(f.EV_LEFTOVER, "one").a == 1
    until(lambda: box.count("one") == 2, what="the second run: it got its port")
    assert not alive(helper)
    assert box.count("one", "in-use") == 0


def test_fc_pro_2_a_stubborn_leftover_is_killed_and_no_second_copy_runs_beside_it(box):
    box.app("one", "helper=stubborn", "after_ms=300", "exit=1", stop_ms=300)
    door = box.start()
    until(lambda: box.count("one", "helper") == 1)
    helper = next(pid for word, pid in box.log("one") if word == "helper")
    door.next(f.EV_LEFTOVER, "one")
    assert not alive(helper)
    until(lambda: box.count("one") == 2)


def test_fc_pro_2_a_foreign_holder_of_the_port_is_named_and_left_alone(box):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        box.app("one", f"port={port}", probes=[["up", "live", "tcp", f"127.0.0.1:{port}", 1000, 500, 3]])
        door = box.start(wait=True)
        told = door.next(f.EV_PORT, "one")
        assert told.a == port
        assert told.b in ((os.getpid(), 0) if box.plain else (os.getpid(),))
        if told.b:
            assert b"python" in told.say or b"pytest" in told.say
    assert box.count("one", "in-use") >= 1


def test_fc_pro_2_a_copy_that_somebody_started_by_hand_is_named_and_left_alone(box):
    tree = box.bare / "one"
    (tree / "files").mkdir(parents=True, exist_ok=True)
    who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if box.plain else {}  # a plain guard sees its own
    by_hand = subprocess.Popen(["/bin/sleep", "60"], cwd=tree / "files", **who)
    try:
        box.app("one", "after_ms=100", "exit=1")
        door = box.start(wait=True)
        told = door.next(f.EV_FOREIGN, "one")
        assert told.a == by_hand.pid
        assert told.say.startswith(b"/bin/sleep 60 (")
        assert by_hand.poll() is None
    finally:
        by_hand.kill()
        by_hand.wait()


@pytest.mark.parametrize("kind", ["device", "device-lost"])
def test_an_app_waits_for_a_hard_need_and_its_loss_holds_it_and_burns_nothing(box, kind):
    device = box.root / "ttyX"
    if kind == "device-lost":
        device.touch()
    box.app("one", needs=[["device", str(device), True], ["network", "no-such", False]])
    box.start()
    if kind == "device-lost":
        until(lambda: box.count("one") == 1)
        device.unlink()
        os.kill(box.row("one")["pid"], signal.SIGKILL)
    until(lambda: box.row("one")["phase"] == f.PHASE_WAITING, what="the wait")
    agent = box.door(agent=True)
    starts = box.count("one")
    for _ in range(3):
        assert agent.ask(f.START, app="one").reason == reasons.NOT_READY
    assert box.count("one") == starts
    device.touch()
    until(lambda: box.count("one") == starts + 1, what="the start once it is there")
    assert box.row("one")["phase"] == f.PHASE_RUNNING


def test_fc_pro_5_a_restart_cut_in_half_is_finished_with_the_agent_dead(box):
    box.app("one", "term=ignore", stop_ms=1500)
    door = box.start()
    until(lambda: box.count("one") == 1)
    old = box.row("one")["pid"]
    door.send(f.RESTART, app="one")
    until(lambda: box.row("one")["phase"] == f.PHASE_STOPPING)
    box.kill()
    os.kill(old, signal.SIGKILL)
    until(lambda: not alive(old))
    box.start()
    until(lambda: box.count("one") == 2, what="the second half")
    row = box.row("one")
    assert row["wanted"] == 1
    assert row["pid"] != old


def test_a_stop_by_a_person_is_obeyed_after_the_guard_died_in_the_middle(box):
    box.app("one", "term=ignore", stop_ms=800)
    door = box.start()
    until(lambda: box.count("one") == 1)
    pid = box.row("one")["pid"]
    door.send(f.STOP, app="one")
    until(lambda: box.row("one")["phase"] == f.PHASE_STOPPING)
    box.kill()
    box.start()
    until(lambda: not alive(pid), what="the stop that was ordered")
    assert box.row("one")["wanted"] == 0
    assert box.count("one") == 1


def test_what_needs_another_app_starts_when_that_is_ready(box):
    box.app("base", "ready_ms=600", ready="notify")
    box.app("above", needs=[["app", "base", True]])
    door = box.start()
    assert box.row("above")["phase"] == f.PHASE_WAITING
    ready = door.next(f.EV_READY, "base")
    started = door.next(f.EV_STARTED, "above")
    assert started.number > ready.number


def test_a_program_that_cannot_be_started_is_told_with_the_reason(box):
    box.app("one", argv=["no/such/program"])
    box.start()
    agent = box.door(agent=True)
    answer = agent.ask(f.START, app="one")
    assert answer.reason == reasons.START_FAILED
    assert agent.next(f.EV_START_FAILED, "one", code=reasons.START_FAILED).a == 2


def test_a_refused_admission_starts_nothing(box):
    box.app("one")
    (box.bare / "one.refused").touch()
    box.start()
    agent = box.door(agent=True)
    assert agent.ask(f.START, app="one").reason == reasons.BLOCKED
    assert box.count("one") == 0


def test_a_clean_restart_empties_the_volatile_folder_and_nothing_else(box):
    box.app("one")
    door = box.start()
    until(lambda: box.count("one") == 1)
    volatile = box.root / "run/edgeheal/volatile/one"
    (volatile / "deep").mkdir()
    (volatile / "deep/cache").write_text("x")
    (volatile / "link").symlink_to(box.data("one"))
    owner = volatile.stat()
    os.chown(volatile / "deep", owner.st_uid, owner.st_gid)
    assert door.ask(f.CLEAN_RESTART, app="one").reason == reasons.OK
    assert list(volatile.iterdir()) == []
    assert box.count("one", "up") >= 1
    assert box.data("one").exists()


def test_the_environment_is_ours_where_it_names_us(box):
    box.app("one", env={"EDGEHEAL_RUN": "forged:1", "LD_PRELOAD": "/x.so", "MINE": "1"})
    box.start()
    until(lambda: box.count("one") == 1)
    row = box.row("one")
    env = dict(line.split("=", 1) for line in open(f"/proc/{row['pid']}/environ").read().split("\0") if line)
    assert env["EDGEHEAL_RUN"] == f"one:{row['run']}"
    assert env["MINE"] == "1"
    assert "LD_PRELOAD" not in env
    assert {"EDGEHEAL_APP", "EDGEHEAL_IMAGE", "EDGEHEAL_DATA", "EDGEHEAL_METRICS", "NOTIFY_SOCKET"} <= env.keys()


def test_an_app_starts_with_nothing_of_ours(box):
    box.app("one", limits={"files": 99})
    box.start()
    until(lambda: box.count("one") == 1)
    pid = box.row("one")["pid"]
    fds = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    assert fds <= {0, 1, 2}
    status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status").read().splitlines())
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) & (1 << 12) == (1 << 12)  # Python's own SIGPIPE, set after exec
    assert status["NoNewPrivs"].strip() == "1"
    assert os.getsid(pid) == pid
    limits = open(f"/proc/{pid}/limits").read()
    assert "Max open files            99" in limits
    if os.geteuid() == 0 and not box.plain:
        assert status["Uid"].split()[0] not in ("0", "65534")
        assert status["Groups"].strip() == ""


def test_a_finished_app_is_not_started_again(box):
    box.app("one", "after_ms=100", "exit=3", done=[3])
    door = box.start()
    gone = door.next(f.EV_EXITED, "one")
    assert gone.code & f.X_DONE
    box.kill()
    box.start()
    assert box.row("one")["phase"] == f.PHASE_STOPPED
    assert box.count("one") == 1


def test_interrupt_stops_all_apps_in_order_and_term_leaves_them(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    pid = box.row("one")["pid"]
    box.process.send_signal(signal.SIGTERM)
    assert box.process.wait(10) == 0
    assert alive(pid)
    box.start()
    assert box.row("one")["pid"] == pid
    box.process.send_signal(signal.SIGINT)
    assert box.process.wait(10) == 0
    assert not alive(pid)


def test_a_second_guard_of_the_same_device_does_not_begin(box, monkeypatch):
    box.app("one")
    box.start()
    first = box.process
    from edgeheal.guard import main

    monkeypatch.setattr(main, "LOCK_WAIT_S", 0.1)
    with pytest.raises(main.UsageError, match="another guard"):
        main.Guard(str(box.root), [], lambda body: None)
    assert first.poll() is None


@pytest.mark.parametrize("verb", [f.RESTART, f.CLEAN_RESTART])
def test_a_restart_that_means_an_older_run_ends_no_newer_one(box, verb):
    box.app("one")
    box.start()
    agent = box.door(agent=True)
    until(lambda: box.count("one") == 1)
    first = box.row("one")
    assert agent.ask(verb, app="one", a=first["run"]).reason == reasons.OK
    until(lambda: box.row("one")["phase"] == f.PHASE_RUNNING and box.row("one")["run"] > first["run"])
    second = box.row("one")
    assert agent.ask(verb, app="one", a=first["run"]).reason == reasons.ALREADY
    assert box.row("one")["pid"] == second["pid"]
    assert agent.ask(verb, app="one", a=second["run"]).reason == reasons.OK, "and the one that is meant is restarted"
