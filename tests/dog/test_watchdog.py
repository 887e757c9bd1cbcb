# SPDX-License-Identifier: Apache-2.0
"""The dog: set, read back, fed by the loop alone, handed over as the way out needs it."""

import signal
import struct
import time
from pathlib import Path

import pytest
from dog_box import SOFTDOG, TELLING, until
from test_hooks_and_budgets import hook

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.core import reasons
from edgeheal.guard import watchdog as w
from edgeheal.wire import guard_frames as f
from edgeheal.wire.guard_event import Event


def test_the_numbers_of_the_calls_are_those_of_the_kernel_on_this_machine():
    assert (w.GETSUPPORT, w.GETBOOTSTATUS, w.SETOPTIONS, w.KEEPALIVE) == (0x80285700, 0x80045702, 0x80045704, 0x80045705)
    assert (w.SETTIMEOUT, w.GETTIMEOUT, w.SETPRETIMEOUT, w.GETPRETIMEOUT) == (0xC0045706, 0x80045707, 0xC0045708, 0x80045709)
    assert w._INFO.size == 40, "two u32 and 32 bytes, alike on 32 and 64 bit"
    assert struct.calcsize("i") == 4


def test_the_time_out_is_set_and_read_back_and_fed_at_a_third_of_it(dog_box):
    box = dog_box(dogs=[{"most": 4, "timeout": 5}], timeout="30s").start()
    dog = box.dogs[0]
    until(lambda: dog.words().count("feed") >= 3, 30, "two periods")
    assert ("set", 4) in [(word, n) for _, word, n in dog.log()], "what the device can have at most"
    assert "bite" not in dog.words(), "fed by what was read back: a third of what was asked for is 10 s"
    assert box.why().watchdog_s == 4


def test_a_driver_that_takes_another_time_out_is_believed(dog_box):
    dog = dog_box(dogs=[{"options": SOFTDOG & ~0x80, "timeout": 4, "most": 0}], timeout="30s").start().dogs[0]
    until(lambda: dog.words().count("feed") >= 3, 30, "two periods")
    assert "set" not in dog.words()
    assert "bite" not in dog.words()


def test_several_dogs_are_fed_together_by_the_shortest(dog_box):
    box = dog_box(dogs=[{}, {"most": 4}], timeout="60s").start()
    until(lambda: all(dog.words().count("feed") >= 3 for dog in box.dogs), 30, "both to be fed")
    assert all("bite" not in dog.words() for dog in box.dogs), "a third of 60 s is more than the 4 s of the other"


def test_a_pretimeout_is_set_where_the_device_has_one(dog_box):
    box = dog_box(dogs=[{"options": TELLING}, {}], watchdog='pretimeout = "10s"').start()
    until(lambda: "pretimeout" in box.dogs[0].words(), 30, "the pretimeout")
    assert ("pretimeout", 10) in [(word, n) for _, word, n in box.dogs[0].log()]
    assert "pretimeout" not in box.dogs[1].words()


def test_a_guard_that_stands_still_feeds_nobody(dog_box):
    box = dog_box(dogs=[{"most": 4}]).start()
    dog = box.dogs[0]
    until(lambda: "feed" in dog.words(), 30, "the first feed")
    box.process.send_signal(signal.SIGSTOP)
    fed = len(dog.log())
    time.sleep(1.6)  # longer than its period: the time that must pass is the point
    assert len(dog.log()) == fed
    box.process.send_signal(signal.SIGCONT)
    until(lambda: len(dog.log()) > fed, 30, "fed again")


def test_a_killed_guard_leaves_it_armed_and_the_next_feeds_it(dog_box):
    box = dog_box(dogs=[{}]).start()
    until(lambda: "feed" in box.dogs[0].words(), 30, "the first feed")
    box.kill()
    assert box.dogs[0].armed()
    box.start()
    until(lambda: box.dogs[0].words().count("open") == 2, 30, "the next guard")
    assert "bite" not in box.dogs[0].words()


def test_a_device_that_somebody_holds_is_asked_for_again(dog_box, monkeypatch):
    import fcntl

    from edgeheal.guard.loop import Loop

    box = dog_box(dogs=[{}])
    held = (box.fake / "watchdog0.conf").open()
    fcntl.flock(held, fcntl.LOCK_EX)
    box.start()
    until(lambda: "watchdog" in box.log.read_text() or _damaged(box), 30, "the fault to be told")
    assert box.dogs[0].words() == []
    held.close()
    dogs = w.Watchdog(Loop())
    monkeypatch.setattr(w, "AGAIN_S", 0.01)
    assert not dogs.open([str(box.folder / "none")], 30)
    assert dogs._again is not None


def _damaged(box):
    with GuardDoor(box.layout.guard_agent_socket) as door:
        kept = [Event(row) for row in door.ask(f.FOLLOW).rows if len(row) == f.EVENT.size]
        return any(e.kind == f.EV_DAMAGED and b"watchdog" in e.say for e in (*kept, *door.events(1)))


@pytest.mark.parametrize(("nowayout", "stopped"), [(0, True), (1, False)], ids=["magic close", "nowayout"])
def test_a_guard_that_is_stopped_by_hand_resets_nobody_where_the_device_allows(dog_box, nowayout, stopped):
    box = dog_box(dogs=[{"nowayout": nowayout}]).start()
    until(lambda: "feed" in box.dogs[0].words(), 30, "the first feed")
    box.term()
    assert box.dogs[0].armed() is not stopped
    assert ("magic" in box.dogs[0].words()) is stopped


# -- fc-dog-1


def test_fc_dog_1_a_dog_shorter_than_our_slowest_step_is_refused_before_it_is_opened(dog_box):
    box = dog_box(dogs=[{"most": 1, "timeout": 1}]).start()
    until(lambda: _damaged(box), 30, "the refusal to be told")
    assert box.dogs[0].words() == [], "an open may start it for good"


def test_fc_dog_1_a_short_dog_without_a_stated_range_is_stopped_again(dog_box):
    box = dog_box(dogs=[{"options": SOFTDOG & ~0x80, "most": 0, "timeout": 1}]).start()
    until(lambda: "close" in box.dogs[0].words(), 30, "it to be given back")
    assert not box.dogs[0].armed()
    assert "bite" not in box.dogs[0].words()


def test_fc_dog_1_one_that_cannot_be_stopped_is_fed_however_short_it_is(dog_box):
    box = dog_box(dogs=[{"options": SOFTDOG & ~0x80, "most": 0, "timeout": 1, "nowayout": 1}]).start()
    until(lambda: box.dogs[0].words().count("feed") >= 5, 30, "feeds")
    assert "bite" not in box.dogs[0].words()


def test_fc_dog_1_from_the_opening_on_no_gap_comes_near_the_time_out(dog_box):
    """A slow start: twenty apps to admit and start; the dog is opened by a loop that runs."""
    from dog_box import image

    box = dog_box(dogs=[{"most": 12}]).start()
    box.good(image("1.0"))
    box.boot()
    opened = lambda: [row[1] for row in box.dogs[0].log()][::-1].index("open")  # noqa: E731 - how many events since
    until(lambda: box.phase() == f.PHASE_RUNNING and opened() >= 5, 40, "the app, and a period")
    assert max(box.dogs[0].gaps()[-3:]) < 6_000, "half of 12 s"
    assert "bite" not in box.dogs[0].words()


def test_fc_dog_1_a_time_out_too_short_for_us_is_refused_by_config_check(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "etc/edgeheal/edgeheal.toml"
    path.parent.mkdir(parents=True)
    path.write_text('[watchdog]\ndevice = "/dev/watchdog"\ntimeout = "5s"\n')
    done = subprocess.run([sys.executable, "-m", "edgeheal.cli.main", "config", "check", "--root", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done
    assert "watchdog.timeout" in done.stdout + done.stderr


# -- fc-dog-4


@pytest.fixture
def going_down(dog_box):
    """A device with a dog, whose ways out are hooks that only note that they ran."""

    def make(**dog):
        box = dog_box(dogs=[dog], guard="reboots = true").start()
        for way in ("reboot", "power-off"):
            hook(box, way, f"echo {way} >> {box.folder}/way")
        until(lambda: "feed" in box.dogs[0].words(), 30, "the first feed")
        return box

    return make


def way(box):
    path = Path(box.folder) / "way"
    return path.read_text().split() if path.exists() else []


def test_fc_dog_4_before_a_reboot_it_is_fed_once_and_never_again(going_down):
    box = going_down(most=4)
    assert box.ask(f.REBOOT, a=0).reason == reasons.OK
    assert way(box) == ["reboot"]
    fed = len(box.dogs[0].log())
    assert box.dogs[0].words()[-1] == "feed"
    assert box.dogs[0].armed(), "a shutdown that hangs still ends"
    time.sleep(1.6)  # more than its period
    assert len(box.dogs[0].log()) == fed
    box.boot()
    assert box.verdict().text == "ordered reboot"


def test_fc_dog_4_a_power_off_disarms_it(going_down):
    box = going_down()
    assert box.ask(f.REBOOT, a=1).reason == reasons.OK
    assert way(box) == ["power-off"]
    assert box.dogs[0].words()[-2:] == ["magic", "close"]
    assert not box.dogs[0].armed()
    box.boot()
    assert box.verdict().text == "ordered power-off"


def test_fc_dog_4_where_it_cannot_be_stopped_a_power_off_is_refused_unless_confirmed(going_down):
    box = going_down(nowayout=1)
    answer = box.ask(f.REBOOT, a=1)
    assert (answer.reason, answer.b) == (reasons.NEEDS_APPROVAL, 30), "the box would come back after 30 s"
    assert way(box) == []
    assert box.ask(f.REBOOT, a=1, b=1).reason == reasons.OK
    assert way(box) == ["power-off"]


def test_a_way_out_that_failed_withdraws_its_mark_and_the_dog_is_fed_on(going_down):
    box = going_down(most=4)
    hook(box, "reboot", "exit 1", name="00-no")
    assert box.ask(f.REBOOT, a=0).reason == reasons.HOOK
    fed = box.dogs[0].words().count("feed")
    until(lambda: box.dogs[0].words().count("feed") > fed, 30, "fed on")
    box.cut()
    assert box.why().facts.order is None


def test_a_dog_that_a_reload_names_is_fed_from_then_on(dog_box):
    box = dog_box(dogs=[{}])
    path = Path(box.layout.config_file)
    text = path.read_text()
    path.write_text(text[: text.index("[watchdog]")] + text[text.index("[boot]") :])
    box.start()
    assert box.dogs[0].words() == []
    path.write_text(text)
    assert box.ask(f.RELOAD_CONFIG).reason == reasons.OK
    until(lambda: "feed" in box.dogs[0].words(), 30, "it to be fed")
