# SPDX-License-Identifier: Apache-2.0
"""An agent that will not stay is answered by one reboot, over boots, too; then the box runs on without it."""

import time

import pytest

from edgeheal.guard import agentless
from edgeheal.guard.loop import Loop


class Parts:
    """What Agentless reaches, with a real loop."""

    def __init__(self, *, reboot=True, used=False, refused=False):
        self.done = []
        self.used = used
        self.follows = False
        parts, self.loop, self.config = self, Loop(()), {"agent": {"stuck_s": 0.002, "reboot": reboot}}
        self.body = self.doors = self.boots = self.verbs = self.box = self.reboots = self.hooks = parts

        def job():
            self.done.append("reboot")
            if refused:
                from edgeheal.guard.steps import Refused

                raise Refused(1)
            yield lambda resume: resume(0)

        self.reboot = lambda *_, **__: job()

    def agent_follows(self):
        return self.follows

    def agent_reboot(self, *, used):
        fine = not (used and self.used)
        self.used = used
        return fine

    def run(self, point, *_):
        self.done.append(point)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(agentless, "WELL_S", 0.3)
    monkeypatch.setattr(agentless, "int", float, raising=False)


def turn(parts, seconds=0.15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        parts.loop.turn(0.01)


@pytest.mark.usefixtures("quick")
def test_one_reboot_and_no_second_until_it_was_well_again():
    parts = Parts()
    one = agentless.Agentless(parts)
    for _ in range(5):
        one.on_agent(True)
        one.on_agent(False)
    turn(parts)
    assert parts.done == ["reboot"]
    again = agentless.Agentless(parts)  # the guard of the next boot
    for _ in range(5):
        again.ended()
    turn(parts)
    assert parts.done == ["reboot", "alarm"], "the box runs on without it, somebody is told"
    again.on_agent(True)
    turn(parts, 0.4)
    assert not parts.used, "well again: the next time has its reboot"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("words", "done"), [({"reboot": False}, ["alarm"]), ({"refused": True}, ["reboot", "alarm"])], ids=["not enabled", "refused"])
def test_without_a_reboot_it_runs_on_alone(words, done):
    parts = Parts(**words)
    one = agentless.Agentless(parts)
    for _ in range(5):
        one.ended()
    turn(parts)
    assert parts.done == done


@pytest.mark.usefixtures("quick")
def test_an_agent_that_somebody_stopped_is_no_failure():
    parts = Parts()
    one = agentless.Agentless(parts)
    one.on_agent(True)
    one.on_agent(False)
    turn(parts)
    assert parts.done == []
