# SPDX-License-Identifier: Apache-2.0
"""fc-pro-1: an app that no signal can end, on a frozen file system (a loop device; needs root)."""

import fcntl
import os
import shutil
import struct
import subprocess
import time

import pytest

from edgeheal.core import reasons
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import PYTHON, alive, until

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878

pytestmark = pytest.mark.root


@pytest.fixture
def frozen(tmp_path):
    """A small ext4 on a loop device, and how to freeze and thaw it."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4") or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root, mkfs.ext4 and loop devices")
    image, mount = tmp_path / "disk", tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["truncate", "-s", "16M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, mount], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.decode().strip()}")
    os.chmod(mount, 0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and str(parent) not in ("/", "/tmp"):
            os.chmod(parent, 0o755)
    os.chmod(tmp_path, 0o755)
    fd = os.open(mount, os.O_RDONLY)

    def do(word):
        fcntl.ioctl(fd, word, struct.pack("i", 0))

    yield mount, lambda: do(FIFREEZE), lambda: do(FITHAW)
    try:
        do(FITHAW)
    except OSError:
        pass
    os.close(fd)
    subprocess.run(["umount", "-l", mount], check=False)


def writer(mount):
    code = (
        f"import os,time\nfd=os.open('{mount}/file',os.O_WRONLY|os.O_CREAT)\nopen(os.environ['EDGEHEAL_DATA']+'/log','a').write(f'up {{os.getpid()}} 0\\n')\n"
        "while True:\n os.pwrite(fd,b'x'*4096,0); os.fsync(fd); time.sleep(0.02)\n"
    )
    return [PYTHON, "-I", "-S", "-c", code]


def test_fc_pro_1_an_app_in_state_d_is_named_never_doubled_and_others_are_served(box, frozen, monkeypatch):
    mount, freeze, thaw = frozen
    box.app("stuck", argv=writer(mount), stop_ms=300)
    box.app("other")
    door = box.start()
    agent = box.door(agent=True)
    until(lambda: box.count("stuck") == 1)
    pid = box.row("stuck")["pid"]
    freeze()
    until(lambda: open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "D", what="state D")
    agent.send(f.RESTART, app="stuck")
    began = time.monotonic()
    assert door.ask(f.RESTART, app="other").reason == reasons.OK, "others are served meanwhile"
    assert time.monotonic() - began < 3
    told = agent.next(f.EV_UNKILLABLE, "stuck", seconds=15)
    assert told.say.startswith(b"D")
    assert box.row("stuck")["phase"] == f.PHASE_STUCK
    assert agent.ask(f.START, app="stuck").reason == reasons.UNKILLABLE
    assert agent.ask(f.RESTART, app="stuck").reason == reasons.UNKILLABLE
    assert box.count("stuck") == 1
    thaw()
    gone = agent.next(f.EV_EXITED, "stuck", seconds=15)
    assert gone.a in (9, 15)
    assert gone.code & f.X_ORDERED
    until(lambda: box.count("stuck") == 2, what="the app goes on from there")
    assert not alive(pid)
