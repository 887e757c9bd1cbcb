# SPDX-License-Identifier: Apache-2.0
"""An end that the agent gave leave for is answered by the guard at once - once, and only as long as everything is as it was."""

import os
import signal

import pytest

from edgeheal.core import reasons
from edgeheal.core.kinds import By
from edgeheal.image.records import pack
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import until


@pytest.fixture
def led(box):
    """One app that runs, and an agent that gave leave for its run: (agent, run)."""

    def make(*words, ms=0, **record):
        box.app("one", *words, **record)
        box.start()
        until(lambda: box.count("one") == 1)
        agent = box.door(agent=True)
        run = box.row("one")["run"]
        assert agent.ask(f.ORDER, app="one", code=f.ORDER_AT_ONCE, a=run, b=ms).reason == reasons.OK
        assert box.row("one")["flags"] & f.F_AT_ONCE
        return agent, run

    return make


def kill(box, agent):
    os.kill(box.row("one")["pid"], signal.SIGKILL)
    return agent.next(f.EV_EXITED, "one")


def started(agent, seconds=0.6):
    agent.seen += agent.events(seconds)
    return [e for e in agent.seen if e.kind == f.EV_STARTED]


def test_the_end_is_answered_by_a_start_before_the_agent_says_a_word(box, led):
    agent, run = led()
    kill(box, agent)
    said = agent.next(f.EV_STARTED, "one")
    assert (said.a, said.run) == (By.REMEDY, run + 1)
    until(lambda: box.count("one") == 2)
    assert agent.ask(f.START, app="one", a=run).reason == reasons.OK, "what the agent orders for the same end is done already"
    assert agent.ask(f.START, app="one", a=run).reason == reasons.ALREADY
    assert box.count("one") == 2
    assert not box.row("one")["flags"] & f.F_AT_ONCE, "leave was for one run"
    kill(box, agent)
    assert started(agent) == [], "then the agent decides again"
    assert agent.ask(f.START, app="one", a=run + 1).reason == reasons.OK


def test_an_order_for_an_end_that_was_answered_does_not_answer_the_next_one(box, led):
    agent, run = led("after_ms=300")
    agent.next(f.EV_STARTED, "one")
    agent.next(f.EV_EXITED, "one")
    assert agent.next(f.EV_EXITED, "one").run == run + 1
    assert agent.ask(f.START, app="one", a=run).reason == reasons.OK
    assert started(agent) == []
    assert box.count("one") == 2


def test_a_run_that_was_too_short_is_the_agents_to_judge(box, led):
    agent, _ = led(ms=3_600_000)
    kill(box, agent)
    assert started(agent) == []


@pytest.mark.parametrize("how", ["paused", "stopped", "taken back", "agent gone"])
def test_leave_that_holds_no_more_starts_nothing(box, led, how):
    agent, run = led()
    if how == "paused":
        (box.bare / "one.wanted").write_bytes(pack([True, 0, 0, 1 << 40]))
    elif how == "stopped":
        (box.bare / "one.wanted").write_bytes(pack([False, 0, 0, 0]))
    elif how == "taken back":
        assert agent.ask(f.ORDER, app="one", code=f.ORDER_ASK, a=run).reason == reasons.OK
    else:
        agent.__exit__()
        agent = box.door(agent=True)
        assert not box.row("one")["flags"] & f.F_AT_ONCE
    kill(box, agent)
    assert started(agent) == []


def test_a_finished_app_and_one_that_hung_are_no_case_for_it(box, led):
    agent, _ = led("after_ms=200", "exit=7", done=[7])
    agent.next(f.EV_EXITED, "one")
    assert started(agent) == []


def test_a_heartbeat_that_was_missed_leaves_the_end_to_the_agent(box, led):
    agent, _ = led("ready_ms=0", "beat_ms=100", ready="notify", heartbeat_ms=300)
    (box.data("one") / "mute").touch()
    agent.next(f.EV_LATE, "one")
    kill(box, agent)
    assert started(agent) == []


def test_leave_is_the_agents_to_give_and_for_the_present_run_alone(box, led):
    agent, run = led()
    person = box.door()
    assert person.ask(f.ORDER, app="one", code=f.ORDER_AT_ONCE, a=run).reason == reasons.NOT_ALLOWED
    assert agent.ask(f.ORDER, app="one", code=f.ORDER_AT_ONCE, a=run + 1).reason == reasons.NOT_RUNNING
    assert agent.ask(f.ORDER, app="two", code=f.ORDER_AT_ONCE, a=run).reason == reasons.NO_SUCH_APP
    silent = box.door(agent=True, follow=False)
    assert silent.ask(f.ORDER, app="one", code=f.ORDER_AT_ONCE, a=run).reason == reasons.NOT_ALLOWED
