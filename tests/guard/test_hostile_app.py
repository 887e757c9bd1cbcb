# SPDX-License-Identifier: Apache-2.0
"""What a hostile app does to its own tree, and what the machine lacks: everything of it is ended all the same."""

import os
import select

import pytest

from edgeheal.core import reasons
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import PYTHON, alive, until

STORM = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
log = os.open(os.environ['EDGEHEAL_DATA'] + '/log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(log, b'up %d 0\\n' % os.getpid())
for _ in range(40):
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            os.write(log, b'kid %d 0\\n' % os.getpid())
            time.sleep(0.02)
        os._exit(0)
time.sleep(600)
"""


def storm(box):
    box.app("storm", argv=[PYTHON, "-I", "-S", "-c", STORM], stop_ms=200)
    box.app("calm")
    door = box.start()
    until(lambda: box.count("storm", "kid") > 60 and box.count("calm") == 1, what="the storm")
    calm = box.row("calm")["pid"]
    assert door.ask(f.STOP, app="storm").reason == reasons.OK
    seen = box.count("storm", "kid")
    select.select([], [], [], 0.3)
    assert box.count("storm", "kid") == seen, "nobody of it lives on"
    assert not [pid for _, pid in box.log("storm")[-200:] if alive(pid)]
    assert alive(calm)
    assert box.row("calm")["pid"] == calm


def test_a_fork_storm_of_session_leaders_is_ended_whole(box):
    if box.plain:
        pytest.skip("without a group or a uid of its own a storm cannot be outrun; a daemon's tree can (test below)")
    storm(box)


@pytest.mark.root
def test_without_control_groups_the_app_s_own_uid_ends_the_storm(bare_box):
    storm(bare_box)


@pytest.mark.root
def test_without_control_groups_leftovers_and_adoption_work_the_same(bare_box):
    box = bare_box
    box.app("one", "helper=1")
    door = box.start()
    until(lambda: box.count("one", "helper") == 1 and box.count("one") == 1)
    helper = next(pid for word, pid in box.log("one") if word == "helper")
    first = box.row("one")["pid"]
    box.kill()
    door = box.start()
    assert box.row("one")["pid"] == first
    os.kill(first, 9)
    door.next(f.EV_LEFTOVER, "one")
    assert not alive(helper)
    until(lambda: box.count("one") == 2)


def test_a_tree_that_left_its_session_and_lost_its_parents_is_ended_with_the_app(box):
    code = (
        "import os,time\nif os.fork()==0:\n os.setsid()\n if os.fork()==0:\n  open(os.environ['EDGEHEAL_DATA']+'/far','w').write(str(os.getpid()))\n  time.sleep(600)\n os._exit(0)\n"
        "os.wait()\ntime.sleep(600)\n"
    )
    box.app("one", argv=[PYTHON, "-I", "-S", "-c", code], stop_ms=300)
    door = box.start()
    path = box.data("one") / "far"
    until(lambda: path.exists() and path.read_text())
    far = int(path.read_text())
    assert door.ask(f.STOP, app="one").reason == reasons.OK
    assert not alive(far)
