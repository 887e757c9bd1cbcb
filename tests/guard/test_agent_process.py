# SPDX-License-Identifier: Apache-2.0
"""Where no manager starts it, the guard starts the agent, starts it again, and ends one that is stuck."""

import os
import select
import signal
import sysconfig

import pytest

from tests.guard.conftest import alive, until


def agents(box):
    """Pids of agents of this device."""
    found = []
    for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if str(box.root).encode() in words and any(b"edgeheal.agent.main" in word for word in words) and alive(int(pid)):
            found.append(int(pid))
    return found


@pytest.mark.slow
def test_the_agent_is_started_started_again_and_ended_when_it_is_stuck(box):
    box.app("one")
    box.config('[guard]\nspawn_agent = true\nstuck = "11s"\n[link]\nhost = "127.0.0.1"\nport = 9\ntls = false')
    box.start(libraries=sysconfig.get_path("purelib"))
    first = until(lambda: agents(box), seconds=20)[0]
    until(lambda: box.count("one") == 1)
    pid = box.row("one")["pid"]
    os.kill(first, signal.SIGKILL)
    second = until(lambda: [a for a in agents(box) if a != first], seconds=20)[0]
    box.kill()
    box.start(libraries=sysconfig.get_path("purelib"))
    until(lambda: follows(box), seconds=20)
    until(lambda: agents(box) == [second], what="the agent to be taken over, not doubled (a fork of its own passes by)")
    select.select([], [], [], 1.0)  # and it has said so: an agent that is stuck before that is ended, too, but its start is given longer
    os.kill(second, signal.SIGSTOP)
    until(lambda: not alive(second), seconds=30, what="the end of a stuck agent")
    until(lambda: [a for a in agents(box) if a != second], seconds=20)
    assert box.row("one")["pid"] == pid


def follows(box):
    """Whether an agent is connected: the guard has a socket to it beside the listeners."""
    with open("/proc/net/unix") as file:
        text = file.read()
    return text.count(f"{box.root}/run/edgeheal/guard-agent.sock") > 1
