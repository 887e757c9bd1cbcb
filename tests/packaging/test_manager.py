# SPDX-License-Identifier: Apache-2.0
"""What started us is told, over the sd_notify protocol, when guard and agent are ready, alive and ending."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeheal.adapters.manager import Manager

TOP = Path(__file__).parents[2]


class Listener:
    """The manager's end."""

    def __init__(self, path):
        self.path = str(path)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(30)

    def until(self, word):
        heard = []
        end = time.monotonic() + 30
        while time.monotonic() < end:
            heard += self.sock.recv(4096).decode().split("\n")
            if word in heard:
                return heard
        raise AssertionError(f"{word} never came: {heard}")


@pytest.fixture
def listener(tmp_path):
    one = Listener(tmp_path / "n")
    yield one
    one.sock.close()


def device(root):
    path = root / "etc/edgeheal/edgeheal.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[device]\nid = "box-1"\ntenant = "t"\n[guard]\nspawn_agent = false\n')


@contextlib.contextmanager
def started(verb, root, listener, **env):
    words = [sys.executable, "-m", "edgeheal.cli.main", verb, "--root", str(root)]
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(TOP), "NOTIFY_SOCKET": listener.path} | env, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize("verb", ["guard", "agent"])
def test_ready_alive_and_ending_are_told(tmp_path, listener, verb):
    device(tmp_path / "d")
    with started(verb, tmp_path / "d", listener, WATCHDOG_USEC="400000") as process:
        assert f"MAINPID={process.pid}" in listener.until("READY=1")  # the one that the manager started: exec, no fork
        listener.until("WATCHDOG=1")
        listener.until("WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        listener.until("STOPPING=1")
        assert process.wait(30) == 0


def test_without_a_wish_for_it_nobody_is_woken_to_say_alive(listener):
    manager = Manager({"NOTIFY_SOCKET": listener.path})
    manager.ready()
    assert (manager.period_ns, manager.due()) == (0, 0)


def test_another_process_s_watchdog_is_not_ours(listener):
    assert Manager({"NOTIFY_SOCKET": listener.path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}).period_ns == 0


def test_nobody_we_start_can_speak_for_us(listener):
    environ = {"NOTIFY_SOCKET": listener.path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getpid()), "LANG": "C"}
    Manager(environ)
    assert environ == {"LANG": "C"}


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/no/such/socket"}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/" + "x" * 200}])
def test_a_manager_that_is_not_there_costs_nothing(environ):
    assert Manager(environ | {"WATCHDOG_USEC": "x"}).said("READY=1") is False


def deny_write_and_execute():
    """What MemoryDenyWriteExecute= of the agent's unit does, by the kernel's own word (PR_SET_MDWE, 6.3 and newer)."""
    import ctypes

    if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:
        os._exit(77)


def test_the_agent_lives_without_memory_that_is_writable_and_executable(tmp_path, listener):
    device(tmp_path / "d")
    words = [sys.executable, "-m", "edgeheal.cli.main", "agent", "--root", str(tmp_path / "d")]
    env = os.environ | {"PYTHONPATH": str(TOP), "NOTIFY_SOCKET": listener.path, "WATCHDOG_USEC": "400000"}
    process = subprocess.Popen(words, env=env, preexec_fn=deny_write_and_execute, stderr=subprocess.PIPE)
    try:
        try:
            listener.until("WATCHDOG=1")
        except TimeoutError:
            if process.poll() == 77:
                pytest.skip("this kernel has no PR_SET_MDWE")
            raise
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert b"fault" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate(timeout=30)
