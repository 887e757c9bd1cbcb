# SPDX-License-Identifier: Apache-2.0
"""Probes as the app's uid: three answers, one at a time, ended in time with their whole tree."""

import os
import time

from edgeheal.core import reasons
from edgeheal.core.kinds import Verdict
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import PYTHON, alive, until


def probe(name, kind, target, every_ms=1_000, timeout_ms=800):
    return [name, "live", kind, target, every_ms, timeout_ms, 3]


def test_exec_says_yes_no_and_could_not_tell(box):
    rows = [probe("yes", "exec", ["/bin/true"]), probe("no", "exec", ["/bin/sh", "-c", "echo why; exit 3"]), probe("none", "exec", ["/no/such"])]
    box.app("one", probes=rows)
    box.start()
    agent = box.door(agent=True)
    until(lambda: box.count("one") == 1)
    yes, no, none, beyond = (agent.ask(f.PROBE, app="one", a=index) for index in range(4))
    assert (yes.a, yes.reason) == (Verdict.YES, reasons.OK)
    assert (no.a, no.reason) == (Verdict.NO, reasons.EXIT_NONZERO)
    assert no.image.strip(b"\0")
    assert none.a == Verdict.UNKNOWN
    assert beyond.reason == reasons.NOT_CONFIGURED
    assert agent.ask(f.PROBE, app="nobody").reason == reasons.NO_SUCH_APP


def test_a_probe_runs_as_the_app_with_its_environment(box):
    box.app("one", env={"MINE": "7"}, probes=[probe("id", "exec", ["/bin/sh", "-c", "id -u > $EDGEHEAL_DATA/id; echo $MINE >> $EDGEHEAL_DATA/id"])])
    box.start()
    agent = box.door(agent=True)
    until(lambda: box.count("one") == 1)
    assert agent.ask(f.PROBE, app="one").a == Verdict.YES
    uid = os.stat(f"/proc/{box.row('one')['pid']}").st_uid
    assert (box.data("one") / "id").read_text().split() == [str(uid), "7"]


def test_fc_sto_1_a_hanging_probe_is_ended_at_its_deadline_with_its_whole_tree_and_is_alone_until_then(box):
    code = "import os,time\nopen(os.environ['EDGEHEAL_DATA']+'/pids','a').write(f'{os.getpid()}\\n')\nif os.fork()==0:\n os.setsid()\n"
    code += "open(os.environ['EDGEHEAL_DATA']+'/pids','a').write(f'{os.getpid()}\\n')\ntime.sleep(1000)\n"
    box.app("one", probes=[probe("hang", "exec", [PYTHON, "-I", "-S", "-c", code], timeout_ms=700), probe("ok", "exec", ["/bin/true"])])
    box.start()
    agent, second = box.door(agent=True), box.door(agent=True)
    until(lambda: box.count("one") == 1)
    agent.send(f.PROBE, app="one")
    until(lambda: len(pids(box)) == 2)
    for _ in range(20):
        assert second.ask(f.PROBE, app="one").reason == reasons.BUSY
    assert second.ask(f.PROBE, app="one", a=1).a == Verdict.YES, "another probe is not held up"
    assert len(pids(box)) == 2
    until(lambda: not any(alive(pid) for pid in pids(box)), what="the end of its tree")
    until(lambda: second.ask(f.PROBE, app="one").reason == reasons.TIMEOUT, what="the place is free again")


def pids(box):
    path = box.data("one") / "pids"
    return {int(line) for line in path.read_text().split()} if path.exists() else set()


def test_a_flood_of_output_is_bounded(box):
    box.app("one", probes=[probe("loud", "exec", ["/bin/sh", "-c", "yes | head -c 30000000; exit 0"], timeout_ms=5_000)])
    box.start()
    agent = box.door(agent=True)
    until(lambda: box.count("one") == 1)
    answer = agent.ask(f.PROBE, app="one")
    assert answer.a == Verdict.YES
    assert int.from_bytes(answer.image[4:8], "big") == 4_096


def test_freshness_is_what_changed_since_the_last_look_whatever_the_clock_says(box):
    box.app("one", probes=[probe("fresh", "freshness", "out", every_ms=300)])
    box.start()
    agent = box.door(agent=True)
    until(lambda: box.count("one") == 1)
    path = box.data("one") / "out"
    assert agent.ask(f.PROBE, app="one").a == Verdict.NO, "a file that is not there"
    path.write_text("1")
    assert agent.ask(f.PROBE, app="one").a == Verdict.UNKNOWN, "the first look knows no change"
    path.write_text("22")
    os.utime(path, (0, 0))
    changed = time.monotonic()
    assert agent.ask(f.PROBE, app="one").a == Verdict.YES, "1970 or not: it changed"
    until(lambda: agent.ask(f.PROBE, app="one").a == Verdict.NO, what="stale")
    assert time.monotonic() - changed >= 0.25


def test_a_probe_does_not_stand_in_the_way_of_a_restart(box):
    box.app("one", probes=[probe("slow", "exec", ["/bin/sleep", "5"], timeout_ms=10_000)])
    box.start()
    agent = box.door(agent=True)
    until(lambda: box.count("one") == 1)
    agent.send(f.PROBE, app="one")
    began = time.monotonic()
    assert agent.ask(f.RESTART, app="one").reason == reasons.OK
    assert time.monotonic() - began < 2
    assert not [e for e in agent.seen if e.kind == f.EV_LEFTOVER]
