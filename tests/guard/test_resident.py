# SPDX-License-Identifier: Apache-2.0
"""What the resident guard costs: memory over a bare interpreter, no wake-up at rest, output of apps bounded."""

import os
import select
import subprocess
import sys

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


def test_a_living_agent_does_not_wake_the_guard(box):
    box.app("one", argv=["/bin/sleep", "1000"])
    box.start(door=False)
    code = (
        "import sys, time, signal; sys.path[:0] = [sys.argv[1]]\nfrom edgeheal.adapters.guard_client import GuardClient\nfrom edgeheal.agent.loop import Loop\n"
        "loop = Loop(lambda _: None); client = GuardClient(sys.argv[2], lambda _: None, heartbeat_s=0.2)\nloop.add('guard', client); loop.run(lambda: None)\n"
    )
    from tests.guard.conftest import PACKAGE

    words = [sys.executable, "-c", code, PACKAGE, str(box.root / "run/edgeheal/guard-agent.sock")]
    agent = subprocess.Popen(words)
    try:
        until(lambda: follows(box.root), what="the agent")
        until(lambda: steady(box.process.pid), seconds=20, what="rest, with five heartbeats a second")
    finally:
        agent.kill()
        agent.wait()


def follows(root):
    with open("/proc/net/unix") as file:
        return file.read().count(f"{root}/run/edgeheal/guard-agent.sock") > 1


def steady(pid):
    """No voluntary switch within 1.5 s: a rest is a stretch of time, there is no event to wait for."""
    before = switches(pid)
    select.select([], [], [], 1.5)
    return switches(pid) == before


FLOOD = "import os\nblock = b'write error 28 on /data 12345678\\n' * 2048\nwhile True:\n    os.write(1, block)\n"  # some hundred MB a second


def test_fc_log_2_a_flood_keeps_its_newest_lines_and_about_its_cap_of_the_disk(box):
    box.app("one", argv=["/usr/bin/python3", "-I", "-S", "-c", FLOOD], limits={"log_kib": 256})
    box.app("two")
    box.start()
    agent = box.door(agent=True)
    path = box.root / "run/edgeheal/logs/one.log"
    until(lambda: path.exists() and path.stat().st_size > 64 << 20, seconds=30, what="a flood")
    most = 0
    for _ in range(200):
        most = max(most, path.stat().st_blocks * 512)
        select.select([], [], [], 0.005)
    written = path.stat().st_size
    assert most < 64 << 20, f"{most} bytes of {written} on disk"
    assert written > 2 * most
    fd = agent.ask(f.OPEN_LOG, app="one").fd
    held = os.lseek(fd, 0, os.SEEK_DATA)
    assert held >= written - most
    assert os.pread(fd, 4_096, os.fstat(fd).st_size - 34 * 120).count(b"write error 28") >= 100, "the newest is there"
    os.close(fd)


def test_what_was_read_is_cut_and_what_was_written_meanwhile_stays(box):
    box.app("one", argv=["/bin/sh", "-c", "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i of a long story that fills its page; done; exec sleep 99"])
    box.start()
    path = box.root / "run/edgeheal/logs/one.log"
    until(lambda: path.exists() and b"line 600 " in path.read_bytes())
    agent = box.door(agent=True)
    size = path.stat().st_size
    read = size - 100
    assert agent.ask(f.TRUNCATE, app="one", a=read).reason == reasons.OK
    assert path.stat().st_size == size, "a hole, not a cut"
    kept = path.read_bytes()
    assert kept[: read // 4096 * 4096].strip(b"\0") == b""
    assert kept[read:].endswith(b"line 600 of a long story that fills its page\n")
    until(lambda: agent.ask(f.TRUNCATE, app="one", a=size).reason == reasons.OK and path.stat().st_size == 0, what="a quiet log that was read to begin anew")


def test_an_app_s_output_is_readable_by_descriptor(box):
    box.app("two")
    box.start()
    agent = box.door(agent=True)
    answer = until(lambda: (got := agent.ask(f.OPEN_LOG, app="two")).reason == reasons.OK and got)
    assert until(lambda: os.pread(answer.fd, 100, 0)).startswith(b"hello")
    with pytest.raises(OSError):
        os.write(answer.fd, b"x")
    os.close(answer.fd)
    assert agent.ask(f.TRUNCATE, app="two").reason == reasons.OK
    assert os.stat(box.root / "run/edgeheal/logs/two.log").st_size == 0


@pytest.mark.root
@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0, reason="needs root and mount namespaces"
)
def test_on_a_device_logs_lie_on_a_disk_of_their_own_with_a_size(tmp_path):
    code = (
        "import os, sys; sys.path[:0] = [sys.argv[1]]\nfrom edgeheal.guard import places\n"
        "class Body: pass\nbody = Body(); body.layout = Body(); body.layout.root = '/'; body.layout.logs = sys.argv[2]; body.config = {'apps': {'a': {}, 'b': {'log_kib': 8192}}}\n"
        "places.log_disk(body); places.log_disk(body)\n"
        "disk = os.statvfs(sys.argv[2]); print(disk.f_blocks * disk.f_frsize >> 10, open('/proc/mounts').read().count(sys.argv[2]))\n"
    )
    from tests.guard.conftest import PACKAGE

    words = [PYTHON, "-I", "-S", "-c", code, PACKAGE, str(tmp_path)]
    done = subprocess.run(["unshare", "-mpf", "--mount-proc", *words], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(6 * (1024 + 8192)), "1"], done.stderr


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
