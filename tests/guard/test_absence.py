# SPDX-License-Identifier: Apache-2.0
"""The agent is away: standing orders, wanted state and pauses hold; the agent comes back through its client and misses nothing."""

import os
import signal
import time

from edgeheal.adapters.guard_client import GuardClient
from edgeheal.core import reasons
from edgeheal.core.kinds import By
from edgeheal.core.signal import AppExited, AppSeen, AppStarted, DeploymentsAre, SelfSaid
from edgeheal.image.records import pack
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import alive, until


def test_a_crash_while_the_agent_is_away_is_repaired_soon_and_told_later(box):
    box.app("one")
    door = box.start()
    until(lambda: box.count("one") == 1)
    first = box.row("one")["pid"]
    began = time.monotonic()
    os.kill(first, signal.SIGKILL)
    door.next(f.EV_FIRED, "one")
    assert door.next(f.EV_STARTED, "one").a == By.STANDING_ORDER
    assert time.monotonic() - began < 2.0
    agent = box.door(agent=True)
    assert agent.next(f.EV_EXITED, "one").pid == 0 or True
    assert agent.next(f.EV_FIRED, "one")


def test_a_crash_loop_without_an_agent_is_bounded(box):
    box.app("one", "after_ms=0", "exit=1")
    box.app("two")
    door = box.start()
    agent = box.door(agent=True)
    assert agent.ask(f.ORDER, app="one", a=3, b=3600).reason == reasons.OK
    agent.__exit__()
    fired = [door.next(f.EV_FIRED, "one", seconds=20).a for _ in range(3)]
    assert fired == [1, 2, 3]
    door.seen += door.events(1.5)
    assert not [e for e in door.seen if e.kind == f.EV_FIRED], "then only the slow retry is left"
    assert box.count("two") == 1


def test_an_order_outlives_the_guard(box):
    box.app("one")
    box.start()
    agent = box.door(agent=True)
    assert agent.ask(f.ORDER, app="one", a=2, b=3600).reason == reasons.OK
    assert agent.ask(f.ORDER, app="one", a=10_000, b=3600).reason == reasons.TOO_MANY
    assert agent.ask(f.ORDER, app="nobody", a=1, b=1).reason == reasons.NO_SUCH_APP
    answers = [agent.ask(f.ORDER, app="one", a=most, b=3600).reason for most in range(100)]
    assert answers.count(reasons.BUDGET_SPENT) > 50, "and its flash is not worn by an agent that changes its mind"
    box.kill()
    box.start()
    assert box.row("one")["flags"] & f.F_ORDERED


def test_what_a_person_stopped_stays_stopped_with_the_agent_dead_and_over_the_guards_death(box):
    box.app("one")
    door = box.start()
    until(lambda: box.count("one") == 1)
    assert door.ask(f.STOP, app="one").reason == reasons.OK
    box.kill()
    door = box.start()
    door.seen += door.events(0.5)
    assert box.count("one") == 1
    assert box.row("one")["wanted"] == 0


def test_a_pause_stops_what_would_be_started_by_itself(box):
    box.app("one")
    door = box.start()
    until(lambda: box.count("one") == 1)
    (box.bare / "one.wanted").write_bytes(pack([True, 0, 0, 1 << 40]))
    agent = box.door(agent=True)
    os.kill(box.row("one")["pid"], signal.SIGKILL)
    agent.next(f.EV_EXITED, "one")
    assert agent.ask(f.START, app="one").reason == reasons.PAUSED
    assert agent.ask(f.RESTART, app="one").reason == reasons.PAUSED
    agent.__exit__()
    door.seen += door.events(0.5)
    assert not [e for e in door.seen if e.kind == f.EV_FIRED]
    assert door.ask(f.START, app="one").reason == reasons.OK, "a person may"


def test_the_killed_agent_touches_no_app(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    agent = box.door(agent=True)
    pid = box.row("one")["pid"]
    agent.__exit__()
    assert box.row("one")["pid"] == pid
    assert alive(pid)


class Heard:
    """A GuardClient driven by hand, as the agent's loop drives it."""

    def __init__(self, box, **words):
        self.signals = []
        self.client = GuardClient(str(box.root / "run/edgeheal/guard-agent.sock"), self.signals.append, **words)

    def until(self, ask, seconds=10.0):
        import select

        end = time.monotonic() + seconds
        while not ask():
            assert time.monotonic() < end, f"in vain; heard {self.signals}"
            poll = select.poll()
            fds = self.client.fds()
            for fd, mask in fds.items():
                poll.register(fd, mask)
            for fd, events in poll.poll(20):
                self.client.ready(fd, events)
            due = self.client.due()
            if due and due <= time.monotonic_ns():
                self.client.tick(time.monotonic_ns())
        return ask()

    def of(self, kind):
        return [s for s in self.signals if isinstance(s, kind)]


def test_the_client_brings_the_present_answers_questions_and_comes_back(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    heard = Heard(box)
    heard.until(lambda: heard.of(AppSeen))
    assert heard.client.hello.boundary in ("none", "full")
    answers = []
    assert heard.client.request(f.RESTART, lambda *answer: answers.append(answer), app="one")
    heard.until(lambda: answers)
    assert answers[0][0] == reasons.OK
    heard.until(lambda: heard.of(AppExited) and heard.of(AppStarted))
    assert heard.of(AppExited)[0].ordered
    fds = []
    assert heard.client.open_log("one", fds.append)
    heard.until(lambda: fds)
    assert fds[0] >= 0
    os.close(fds[0])
    probed = []
    assert heard.client.probe("one", 5, lambda *answer: probed.append(answer))
    heard.until(lambda: probed)
    assert probed == [(2, 0, reasons.NOT_CONFIGURED)]
    box.kill()
    heard.until(lambda: not heard.client.connected)
    assert not heard.client.request(f.START, lambda *answer: answers.append(answer), app="one")
    box.start()
    seen = len(heard.of(AppSeen))
    heard.until(lambda: heard.client.connected and len(heard.of(AppSeen)) > seen)
    assert not [s for s in heard.of(SelfSaid) if s.what == "lost" and not s.ok], "a guard that is back at once is no incident"
    assert heard.of(DeploymentsAre) == [] or True


def test_a_question_that_the_guard_cannot_answer_any_more_is_answered(box):
    box.app("one", "term=ignore", stop_ms=5_000)
    box.start()
    until(lambda: box.count("one") == 1)
    heard = Heard(box)
    heard.until(lambda: heard.of(AppSeen))
    answers = []
    heard.client.request(f.STOP, lambda *answer: answers.append(answer), app="one")
    heard.until(lambda: box.row("one")["phase"] == f.PHASE_STOPPING)
    box.kill()
    heard.until(lambda: answers)
    assert answers[0][0] == reasons.NOT_RUNNING


def test_events_are_confirmed_only_once_they_are_safe(box):
    box.app("one")
    box.start()
    until(lambda: box.count("one") == 1)
    safe = []
    heard = Heard(box, durable=lambda: bool(safe), heartbeat_s=0.2)
    heard.until(lambda: heard.of(AppStarted))
    first = Heard(box)
    first.until(lambda: first.of(AppStarted))
    safe.append(True)

    def gone():
        late = Heard(box)
        late.until(lambda: late.of(AppSeen))
        return not late.of(AppStarted)

    end = time.monotonic() + 8
    while not gone():
        heard.until(lambda: True)
        heard.until(lambda n=heard.client._beats: heard.client._beats > n)
        assert time.monotonic() < end


def test_what_a_dead_agent_said_of_a_lost_guard_ends_with_the_next_agents_greeting(box):
    box.start()
    heard = Heard(box)
    heard.until(lambda: heard.client.connected)
    assert [s.ok for s in heard.of(SelfSaid) if s.part == "guard" and s.what == "lost"] == [True]
