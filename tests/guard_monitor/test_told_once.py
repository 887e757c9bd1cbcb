# SPDX-License-Identifier: Apache-2.0
"""What became of a signed word is told to the fleet once, by the real agent, whoever dies in the middle."""

import os
import subprocess
import sys
import sysconfig
import time

import pytest
from monitor_box import RELEASE, REPO, Box, image, until

from edgeheal.core import reasons
from edgeheal.core.kinds import ActionCode as A
from edgeheal.core.kinds import ResultState as S
from edgeheal.fleet.session import Address, Session
from edgeheal.guard.counters import UNKNOWN, Counters
from edgeheal.guard.marks import Marks
from edgeheal.lab.broker import Broker
from edgeheal.wire import guard_frames as f
from edgeheal.wire import results, topics

LINK = '[link]\nhost = "127.0.0.1"\nport = {port}\ntls = false\nstored_by = "broker"\n'
STOP_MS = 1_500  # the app does not heed TERM: so long is "in the middle" of a restart


class Fleet:
    """Broker, agent and an operator beside a box."""

    def __init__(self, box, broker):
        self.box, self.broker = box, broker
        self.steps = []  # (command, state, reason), one for each key, as the fleet's store has them
        self.keys = set()
        self.agent = None
        self.operator = Session(Address("127.0.0.1", broker.port), "operator", clean=True)
        self.operator.subscribe(topics.of("acme", "gw-1", topics.UP_RESULT), topics.of("acme", "gw-1", topics.UP_STATE))
        self.births = 0

    def start_agent(self):
        words = [sys.executable, "-m", "edgeheal.cli.main", "agent", "--root", self.box.layout.root]
        births = self.births
        with (self.box.folder / "agent.log").open("ab") as out:
            env = os.environ | {"PYTHONPATH": f"{REPO}:{sysconfig.get_path('purelib')}"}
            self.agent = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True)
        until(lambda: self.hear(0.05) or self.births > births, 20, f"a birth ({(self.box.folder / 'agent.log').read_text()[-2000:]})")

    def kill_agent(self):
        self.agent.kill()
        self.agent.wait(10)

    def send(self, raw):
        self.operator.publish(topics.of("acme", "gw-1", topics.DOWN_COMMAND), raw)
        self.operator.flush()

    def hear(self, seconds):
        for message in self.operator.wait(seconds):
            self.operator.acknowledge([message.mid] if message.mid else [])
            if message.topic.endswith("/result"):
                record = results.read(message.payload)
                if (record.session, record.seq) not in self.keys:
                    self.keys.add((record.session, record.seq))
                    self.steps.append((record.result.command, record.result.state, record.result.reason))
            elif message.payload:
                self.births += 1
        return []

    def told(self, command, quiet_s=1.0):
        """All steps of a command: the first is waited for, then what else comes in a while after a reconnect."""
        until(lambda: self.hear(0.05) or [s for s in self.steps if s[0] == command], 20, "a result")
        end = time.monotonic() + quiet_s
        while time.monotonic() < end:
            self.hear(0.1)
        return [s[1:] for s in self.steps if s[0] == command]

    def close(self):
        self.operator.close()
        if self.agent is not None and self.agent.poll() is None:
            self.agent.terminate()
            self.agent.wait(10)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told")
    with Broker(folder / "broker") as broker, Box(folder, more=LINK.format(port=broker.port)) as box:
        box.start()
        box.good(image("1.0", env={"DEAF": "1"}, extra={"stop_ms": STOP_MS}))
        made = Fleet(box, broker)
        made.start_agent()
        yield made
        made.close()


def restarting(fleet, number):
    """A restart by command, caught in its middle: the app was told to stop and has not ended."""
    command = number.to_bytes(16, "big")
    raw = fleet.box.order(A.RESTART, command_id=command)
    fleet.send(raw)
    until(lambda: fleet.box.phase() == f.PHASE_STOPPING, 10, "the stop")
    return command, raw, len(fleet.box.runs())


def test_a_command_that_ends_well_is_told_done_once_and_its_copy_is_refused(fleet):
    command, raw, _ = restarting(fleet, 1)
    assert fleet.told(command) == [(S.DONE, reasons.OK)]
    fleet.send(raw)
    until(lambda: fleet.hear(0.05) or len([s for s in fleet.steps if s[0] == command]) > 1, 10, "the refusal of the copy")
    assert fleet.steps[-1] == (command, S.REFUSED, reasons.REPLAY)


def test_with_the_guard_killed_in_the_middle_the_word_is_no_refusal_but_its_end_is_told(fleet):
    command, _, runs = restarting(fleet, 2)
    fleet.box.again()
    until(lambda: len(fleet.box.runs()) == runs + 1, 15, "the second half of the restart")
    assert fleet.told(command) == [(S.FAILED, reasons.IN_DOUBT)]


def test_with_the_agent_killed_in_the_middle_the_next_agent_tells_the_end(fleet):
    command, raw, runs = restarting(fleet, 3)
    fleet.kill_agent()
    until(lambda: len(fleet.box.runs()) == runs + 1, 15, "the restart")
    copy = fleet.box.present(raw)
    assert (copy.reason, copy.b) == (reasons.REPLAY, 1), "its end is still to come"
    fleet.start_agent()
    assert fleet.told(command) == [(S.DONE, reasons.OK)]
    assert fleet.box.present(raw).b == 0, "it was told"


def test_with_both_killed_after_the_end_and_before_its_confirmation_it_is_told_once(fleet):
    command, _, runs = restarting(fleet, 4)
    until(lambda: len(fleet.box.runs()) == runs + 1, 15, "the restart")
    fleet.kill_agent()
    fleet.box.again()
    fleet.start_agent()
    assert fleet.told(command) == [(S.DONE, reasons.OK)]


def test_a_command_that_waits_for_its_image_is_running_and_a_new_guard_does_not_doubt_it(fleet):
    command, two = (5).to_bytes(16, "big"), image("2.0")
    fleet.send(fleet.box.order(A.INSTALL, made=two, by=RELEASE, command_id=command))
    assert fleet.told(command, 0.2) == [(S.RUNNING, reasons.OK)]
    fleet.box.again()
    until(lambda: fleet.box.install(two, try_it=False) == 0, 10, "the import")
    until(lambda: fleet.hear(0.05) or len([s for s in fleet.steps if s[0] == command]) > 1, 15, "its end")
    assert fleet.told(command, 0.5) == [(S.RUNNING, reasons.OK), (S.DONE, reasons.OK)]


def test_an_end_outlives_a_power_cut_until_it_is_confirmed(tmp_path):
    def counters():
        return Counters(str(tmp_path), Marks(str(tmp_path)))

    one = counters()
    assert one.spend("k", 1, b"c" * 16, issued_s=1, lasts_s=600, box_s=0, act=(1, "demo")) == reasons.OK
    assert counters().open_acts() == {b"c" * 16: (1, "demo", UNKNOWN)}
    one.ended(b"c" * 16, reasons.LAST_GOOD)
    one.ended(b"c" * 16, reasons.OK)
    assert counters().open_acts() == {b"c" * 16: (1, "demo", reasons.LAST_GOOD)}
    one.told(b"c" * 16)
    again = counters()
    assert again.open_acts() == {}
    assert again.knows(b"c" * 16)
    assert not again.is_open(b"c" * 16)
