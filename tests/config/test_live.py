# SPDX-License-Identifier: Apache-2.0
"""A live change at a real guard: good files are taken, broken ones leave what is in force, and either is said."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.wire import guard_frames

USERS = "[users]\n" + "".join(f'{u} = "self"\n' for u in ("agent", "import", "store", "verify", "check", "group"))
GOOD = f"[guard]\nspawn_agent = false\n[apps.one]\n{USERS}"


class Talk:
    """What a process writes to stderr, waited for with a deadline."""

    def __init__(self, process):
        self.fd = process.stderr.fileno()
        self.text = ""

    def until(self, word, seconds=20.0):
        end = time.monotonic() + seconds
        while word not in self.text:
            left = end - time.monotonic()
            assert left > 0, f"waited in vain for {word!r}:\n{self.text}"
            if select.select([self.fd], [], [], left)[0]:
                data = os.read(self.fd, 65_536)
                assert data, f"the guard ended:\n{self.text}"
                self.text += data.decode()
        self.text = self.text.split(word, 1)[1]


@pytest.fixture
def guard(box, write):
    """A running guard below `box` with one app in its config, and its talk."""
    write(GOOD)
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    words = [sys.executable, "-m", "edgeheal.cli.main", "guard", "--root", box.root]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": here}) as process:
        talk = Talk(process)
        try:
            talk.until("1 apps")
            yield process, talk
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def apps(box):
    with GuardDoor(box.guard_socket) as door:
        return len(door.ask(guard_frames.STATUS).rows)


def reload(box):
    words = [sys.executable, "-m", "edgeheal.cli.main", "config", "reload", "--json", "--root", box.root]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.system
def test_a_reload_is_taken_by_a_running_guard(box, write, guard):
    write(GOOD + "[apps.two]\n")
    code, told = reload(box)
    assert (code, told["taken"]) == (0, ["guard"])
    assert apps(box) == 2


@pytest.mark.system
@pytest.mark.parametrize("text", ['[link]\nheartbeat = "10ss"\n', "[probes]\nevery = inf\n", '[link]\nhartbeat = "10s"\n', '[probes]\ntimeout = "60s"\n', ""])
def test_fc_cfg_2_a_live_change_to_a_broken_file_leaves_the_last_good_config_in_force(box, write, guard, text):
    process, talk = guard
    path = write(GOOD.replace("[apps.one]\n", "") + text if text else "")
    code, told = reload(box)
    assert (code, told["ok"], told["problems"][0]["file"]) == (1, False, path)
    assert apps(box) == 1
    process.send_signal(signal.SIGHUP)  # as an init system would, without asking first
    talk.until("config refused, the last good one stands")
    assert apps(box) == 1
    write(GOOD + "[apps.two]\n")
    assert reload(box)[0] == 0
    assert apps(box) == 2
