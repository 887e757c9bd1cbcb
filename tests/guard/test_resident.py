# SPDX-License-Identifier: Apache-2.0
"""What the resident guard costs: memory over a bare interpreter, no wake-up at rest, output of apps bounded."""

import os
import select
import subprocess

import pytest

from edgeheal.core import reasons
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import PYTHON, until

# Of this 1.2 MB is the interpreter's own text that an idle one never touches, 0.4 MB libffi, libm and the like; docs/adr tells what was tried.
BAR_KIB = 4_000


def rss_kib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def test_the_guard_is_at_most_a_few_megabytes_over_a_bare_interpreter(box):
    for number in range(20):
        box.app(f"app-{number}", argv=["/bin/sleep", "1000"])
    box.start()
    until(lambda: box.row("app-19")["phase"] == f.PHASE_RUNNING)
    bare = subprocess.Popen([PYTHON, "-I", "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        until(lambda: rss_kib(bare.pid) > 6_000)
        select.select([], [], [], 0.2)
        over = rss_kib(box.process.pid) - rss_kib(bare.pid)
    finally:
        bare.kill()
        bare.wait()
    print(f"guard over bare: {over} KiB")
    assert over <= BAR_KIB


def test_the_guard_has_one_thread(box):
    """A child between fork and exec runs no word of the C library about other threads: there must be none."""
    box.app("one")
    box.start()
    assert len(os.listdir(f"/proc/{box.process.pid}/task")) == 1


def switches(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    return 0


def test_at_rest_nothing_wakes_the_guard(box):
    for number in range(5):
        box.app(f"app-{number}", argv=["/bin/sleep", "1000"])
    box.start(door=False)
    until(lambda: box.row("app-4")["phase"] == f.PHASE_RUNNING)
    until(lambda: steady(box.process.pid), seconds=20, what="rest")


def steady(pid):
    """No voluntary switch within 1.5 s: a rest is a stretch of time, there is no event to wait for."""
    before = switches(pid)
    select.select([], [], [], 1.5)
    return switches(pid) == before


def test_an_app_s_output_is_readable_by_descriptor_and_cut_at_its_cap(box):
    box.app("one", argv=["/bin/sh", "-c", "echo first; while :; do echo 0123456789012345678901234567890123456789; done"], limits={"log_kib": 64})
    box.app("two")
    box.start()
    agent = box.door(agent=True)
    path = box.root / "run/edgeheal/logs/one.log"
    until(lambda: path.exists() and path.stat().st_size > 0)
    biggest, cuts, last = 0, 0, 0
    for _ in range(200):
        size = path.stat().st_size
        cuts += size < last
        biggest, last = max(biggest, size), size
        select.select([], [], [], 0.005)
    assert cuts >= 2, (biggest, last, path.stat())
    assert biggest < 64 << 20
    answer = agent.ask(f.OPEN_LOG, app="two")
    assert answer.reason == reasons.OK
    assert os.read(answer.fd, 100).startswith(b"hello") or os.fstat(answer.fd).st_size == 0
    with pytest.raises(OSError):
        os.write(answer.fd, b"x")
    os.close(answer.fd)
    assert agent.ask(f.TRUNCATE, app="two").reason == reasons.OK


def test_the_guard_loads_nothing_heavy():
    code = (
        "import sys; sys.path[:0]=[sys.argv[1]]\nimport edgeheal.guard.main, edgeheal.guard.monitor\n"
        "heavy={'hashlib','dataclasses','typing','tomllib','subprocess','enum','json','re','logging','socket','signal','msgpack','cryptography','ctypes'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    from tests.guard.conftest import PACKAGE

    done = subprocess.run([PYTHON, "-I", "-S", "-c", code, PACKAGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
