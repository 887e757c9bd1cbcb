# SPDX-License-Identifier: Apache-2.0
"""What an app says: readiness, heartbeat, status; who may say it; and what a standstill of ours does to deadlines."""

import array
import os
import signal
import socket
import subprocess

import pytest

from edgeheal.core import reasons
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import PYTHON, alive, until


def test_ready_is_what_the_app_says(box):
    box.app("one", "ready_ms=300", ready="notify")
    door = box.start()
    assert box.row("one")["phase"] == f.PHASE_STARTING
    assert door.next(f.EV_READY, "one").a >= 200
    assert box.row("one")["phase"] == f.PHASE_RUNNING
    assert box.row("one")["flags"] & f.F_READY


def test_an_app_that_is_not_ready_in_time_is_told(box):
    box.app("one", ready="notify", start_ms=400)
    box.start()
    agent = box.door(agent=True)
    assert agent.next(f.EV_START_FAILED, "one", code=reasons.NOT_READY).pid > 0


def test_the_agent_s_probe_makes_ready_what_is_ready_by_probe(box):
    box.app("one", ready="probe", start_ms=30_000)
    box.app("two", ready="notify", start_ms=30_000)
    box.start()
    agent = box.door(agent=True)
    assert agent.ask(f.READY, app="one").reason == reasons.OK
    agent.next(f.EV_READY, "one")
    assert agent.ask(f.READY, app="two").reason == reasons.NOT_CONFIGURED


def test_living_through_the_start_grace_is_ready_where_a_probe_would_say_it(box):
    box.app("one", ready="probe", start_ms=300)
    door = box.start()
    door.next(f.EV_READY, "one")


def test_a_missed_heartbeat_is_told_once_and_its_return_too(box):
    box.app("one", "ready_ms=0", "beat_ms=50", ready="notify", heartbeat_ms=400)
    box.start()
    agent = box.door(agent=True)
    until(lambda: box.row("one")["flags"] & f.F_READY)
    (box.data("one") / "mute").touch()
    late = agent.next(f.EV_LATE, "one")
    assert 400 <= late.a < 1_500
    assert box.row("one")["flags"] & f.F_LATE
    (box.data("one") / "mute").unlink()
    agent.next(f.EV_BACK, "one")
    assert not [e for e in agent.seen if e.kind == f.EV_LATE]


def test_a_hung_app_is_killed_without_being_asked_and_started_again_with_no_agent(box):
    box.app("one", "ready_ms=0", "beat_ms=50", ready="notify", heartbeat_ms=400, stop_ms=30_000)
    door = box.start()
    until(lambda: box.row("one")["flags"] & f.F_READY)
    pid = box.row("one")["pid"]
    os.kill(pid, signal.SIGSTOP)
    door.next(f.EV_LATE, "one")
    gone = door.next(f.EV_EXITED, "one", seconds=5)
    assert gone.a == 9
    until(lambda: box.count("one") == 2)


def test_fc_pro_3_after_a_standstill_everybody_gets_a_full_period(box):
    for name in ("one", "two", "dead"):
        box.app(name, "ready_ms=0", "beat_ms=200", ready="notify", heartbeat_ms=1_200)
    box.start()
    agent = box.door(agent=True)
    for name in ("one", "two", "dead"):
        until(lambda name=name: box.row(name)["flags"] & f.F_READY)
    pids = {name: box.row(name)["pid"] for name in ("one", "two", "dead")}
    agent.seen.clear()
    for pid in (box.process.pid, *pids.values()):
        os.kill(pid, signal.SIGSTOP)
    select_for(3.0)
    os.kill(box.process.pid, signal.SIGCONT)
    select_for(0.5)
    os.kill(pids["one"], signal.SIGCONT)
    os.kill(pids["two"], signal.SIGCONT)
    assert agent.next(f.EV_STILL).a > 1_000
    late = agent.next(f.EV_LATE)
    assert late.app == "dead"
    agent.seen += agent.events(0.5)
    assert not [e for e in agent.seen if e.kind in (f.EV_LATE, f.EV_EXITED) and e.app != "dead"]
    assert {name: box.row(name)["pid"] for name in pids} == pids


def select_for(seconds):
    """The standstill itself is what is tested: there is no event to wait for."""
    import select

    select.select([], [], [], seconds)


def test_trigger_says_hung_at_once(box):
    box.app("one", "ready_ms=0", "say=WATCHDOG=trigger", ready="notify", heartbeat_ms=30_000)
    box.start(wait=True)
    agent = box.door(agent=True)
    assert agent.next(f.EV_LATE, "one").code == 1


def test_status_and_busy_are_told_as_evidence(box):
    box.app("one", "ready_ms=300", "say=X_EDGEHEAL_BUSY=30;STATUS=writing %PID", ready="notify")
    box.start()
    agent = box.door(agent=True)
    assert agent.next(f.EV_SAID, "one", code=f.SAID_BUSY).a == 30
    assert agent.next(f.EV_SAID, "one", code=f.SAID_STATUS).say.startswith(b"writing")
    assert box.row("one")["flags"] & f.F_BUSY


def test_words_from_outside_the_run_do_not_count(box):
    """Root itself (in the test) is not the app: its READY is dropped, descriptors that come along are closed."""
    box.app("one", ready="notify", start_ms=30_000)
    box.start()
    until(lambda: box.count("one") == 1)
    path = box.root / "run/edgeheal/notify/one.sock"
    row = box.row("one")
    before = len(os.listdir(f"/proc/{box.process.pid}/fd"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, open("/dev/null") as passed:
        sock.connect(str(path))
        for _ in range(20):
            fds = array.array("i", [passed.fileno()] * 5)
            sock.sendmsg([b"READY=1\nMAINPID=1\nSTATUS=forged"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    row = box.row("one")
    assert row["phase"] == f.PHASE_STARTING
    until(lambda: len(os.listdir(f"/proc/{box.process.pid}/fd")) <= before, what="no descriptor left behind")


def test_words_of_a_stranger_of_the_same_user_do_not_count(box):
    """Where all are one user, it is the tree that says who belongs."""
    if not box.plain and os.geteuid() == 0:
        pytest.skip("a uid an app: tested below")
    box.app("one", ready="notify", start_ms=30_000)
    box.start()
    until(lambda: box.count("one") == 1)
    who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if box.plain else {}
    code = f"import socket,time; s=socket.socket(1,2); s.sendto(b'READY=1','{box.root}/run/edgeheal/notify/one.sock'); time.sleep(0.5)"
    subprocess.run([PYTHON, "-c", code], check=True, **who)
    assert box.row("one")["phase"] == f.PHASE_STARTING


@pytest.mark.root
def test_words_of_another_app_do_not_count(box):
    if os.geteuid() != 0 or box.plain:
        pytest.skip("needs root and a uid an app")
    box.app("one", ready="notify", start_ms=30_000)
    box.app("two")
    box.start()
    until(lambda: box.count("one") == 1)
    uid = os.stat(f"/proc/{box.row('two')['pid']}").st_uid
    code = f"import socket; s=socket.socket(1,2); s.sendto(b'READY=1','{box.root}/run/edgeheal/notify/one.sock')"
    said = subprocess.run([PYTHON, "-c", code], user=uid, group=uid, extra_groups=[], capture_output=True, check=False)
    assert b"PermissionError" in said.stderr
    assert box.row("one")["phase"] == f.PHASE_STARTING


def test_mainpid_moves_the_run_to_another_process_of_it(box):
    """A daemon that forks: the first process goes, the run lives on in the second."""
    code = (
        "import os,socket,time\n"
        "def tell(t):\n s=socket.socket(1,2); s.sendto(t.encode(),os.environ['NOTIFY_SOCKET'])\n"
        "r,w=os.pipe()\n"
        "if os.fork()==0:\n os.read(r,1); time.sleep(600)\n"
        "kid=int(open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read().split()[0])\n"
        "tell(f'MAINPID={kid}\\nREADY=1')\nos.write(w,b'x')\ntime.sleep(0.5)\n"
    )
    box.app("one", argv=[PYTHON, "-I", "-S", "-c", code], ready="notify")
    door = box.start()
    first = door.next(f.EV_STARTED, "one").pid if any(e.kind == f.EV_STARTED for e in door.seen) else 0
    until(lambda: box.row("one")["flags"] & f.F_READY)
    second = box.row("one")["pid"]
    assert second != first
    until(lambda: not first or not alive(first))
    select_for(0.8)
    assert box.row("one")["phase"] == f.PHASE_RUNNING
    os.kill(second, signal.SIGTERM)
    gone = door.next(f.EV_EXITED, "one")
    assert (gone.code & f.X_SIGNAL, gone.a) == (f.X_SIGNAL, signal.SIGTERM)


def test_a_main_process_that_names_another_and_goes_at_once_is_heard_before_its_end(box):
    """Word and end wait for the guard together, here since it is stopped for a moment."""
    code = (
        "import os,socket,time\n"
        "r,w=os.pipe()\n"
        "if os.fork()==0:\n os.close(w); os.read(r,1); time.sleep(600)\n"
        "kid=int(open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read().split()[0])\n"
        "os.read(os.open(os.environ['GO'],os.O_RDONLY),1)\n"
        "s=socket.socket(1,2); s.sendto(f'MAINPID={kid}\\nREADY=1'.encode(),os.environ['NOTIFY_SOCKET'])\n"
    )
    go = box.root / "go"
    os.mkfifo(go)
    go.chmod(0o644)
    box.app("one", argv=[PYTHON, "-I", "-S", "-c", code], ready="notify", env={"GO": str(go)})
    box.start()
    until(lambda: box.row("one")["pid"])
    first, run = box.row("one")["pid"], box.row("one")["run"]
    writer = os.open(go, os.O_RDWR)
    os.kill(box.process.pid, signal.SIGSTOP)
    os.write(writer, b"x")
    until(lambda: not alive(first), what="the first process to go")
    os.kill(box.process.pid, signal.SIGCONT)
    os.close(writer)
    until(lambda: box.row("one")["flags"] & f.F_READY)
    row = box.row("one")
    assert (row["phase"], row["pid"] != first, alive(row["pid"]), row["run"]) == (f.PHASE_RUNNING, True, True, run)


def test_a_flood_of_words_costs_the_app_and_not_us(box):
    code = (
        "import os,socket,time\ns=socket.socket(1,2); s.connect(os.environ['NOTIFY_SOCKET']); s.setblocking(False)\n"
        "s.send(b'READY=1')\nend=time.monotonic()+2\nn=0\n"
        "while time.monotonic()<end:\n"
        " try:\n  s.send(b'STATUS=flood'); n+=1\n"
        " except BlockingIOError:\n  time.sleep(0.001)\n"
        "time.sleep(600)\n"
    )
    box.app("loud", argv=[PYTHON, "-I", "-S", "-c", code], ready="notify")
    box.app("quiet")
    door = box.start()
    until(lambda: box.row("loud")["flags"] & f.F_READY)
    spent = cpu_ms(box.process.pid)
    select_for(1.0)
    assert door.ask(f.RESTART, app="quiet").reason == reasons.OK
    assert cpu_ms(box.process.pid) - spent < 300
    assert sum(e.kind == f.EV_SAID for e in door.seen) < 30


def cpu_ms(pid):
    words = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) * 10


# -- reload


def test_fc_cfg_1_no_reload_before_ready_or_without_a_declared_method(box):
    box.app("one", "hup=after:400", "ready_ms=0", ready="notify", reload=["signal", "HUP"])
    box.app("two")
    door = box.start()
    assert door.ask(f.RELOAD, app="one").reason in (reasons.NOT_READY, reasons.NOT_RUNNING)
    until(lambda: box.row("two")["flags"] & f.F_READY)
    assert door.ask(f.RELOAD, app="two").reason == reasons.NO_RELOAD
    until(lambda: box.row("one")["flags"] & f.F_READY)
    assert door.ask(f.RELOAD, app="one").reason == reasons.OK
    assert box.count("one", "reloaded") == 1
    assert box.count("one") == 1


def test_fc_cfg_1_a_reload_that_ends_the_app_is_a_failed_reload_and_no_wanted_stop(box):
    box.app("one", reload=["signal", "HUP"])
    door = box.start()
    until(lambda: box.count("one") == 1)
    assert door.ask(f.RELOAD, app="one").reason == reasons.KILLED
    gone = door.next(f.EV_EXITED, "one")
    assert not gone.code & f.X_ORDERED
    until(lambda: box.count("one") == 2, what="what is wanted runs again")


def test_fc_cfg_1_a_signal_is_for_the_worker_and_not_for_its_wrapper(box):
    from tests.guard.conftest import STUB

    box.app("one", argv=["/bin/sh", "-c", f"{PYTHON} -I -S {STUB} hup=reload; true"], worker="child", reload=["signal", "HUP"])
    door = box.start()
    until(lambda: box.count("one") == 1)
    wrapper = box.row("one")["pid"]
    assert box.log("one")[0][1] != wrapper
    assert door.ask(f.RELOAD, app="one").reason == reasons.OK
    assert box.count("one", "reloaded") == 1
    assert alive(wrapper)


def test_fc_cfg_1_an_exit_of_zero_by_itself_is_started_again(box):
    box.app("one", "after_ms=150", "exit=0")
    door = box.start()
    door.next(f.EV_EXITED, "one")
    until(lambda: box.count("one") >= 2)
