# SPDX-License-Identifier: Apache-2.0
"""The box and EdgeHeal itself: clock, throttling, the layers of the way out, our own memory and medium - each with its healthy look-alike."""

import time

from edgeheal.adapters.disk import FolderDisk
from edgeheal.agent.itself import GAP_MS, MEDIUM_MS, Itself, resident_kib
from edgeheal.core import host_metrics as names
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.kinds import SymptomKind
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy, Thresholds
from edgeheal.detect import host, kernel, link
from edgeheal.detect.around import Around
from edgeheal.journal.ops import Sync, Write
from edgeheal.lab.device import Device

S = SymptomKind


def around(at_s, **limits):
    return Around(Now("b", round(at_s * NS), int(at_s), 0, False), Policy(thresholds=Thresholds(**limits)), AppSpec(""))


def told(found):
    return [(s.kind, s.on) for s in found]


def sample(mem, metric, value, at_s=1_000.0, **limits):
    return told(host.sampled(mem, sig.HostSample(metric, value), around(at_s, **limits)))


def test_only_a_trusted_clock_that_jumps_far_is_told():
    mem = host.Host()
    assert sample(mem, names.CLOCK_STEP, 1e9) == [], "the first setting of a clock is healthy"
    sample(mem, names.CLOCK_TRUSTED, 1.0)
    assert sample(mem, names.CLOCK_STEP, 2.0) == []
    assert sample(mem, names.CLOCK_STEP, -3_600.0) == [(S.CLOCK_STEP, True)]


def test_a_clock_that_nobody_sets_is_told_once_and_its_end_too():
    mem = host.Host()
    assert sample(mem, names.CLOCK_TRUSTED, 0.0, 1_000.0, clock_untrusted_s=60.0) == []
    assert host.due(mem, around(1_000, clock_untrusted_s=60.0)) == 1_060 * NS
    assert host.tick(mem, around(1_059, clock_untrusted_s=60.0)) == ()
    assert told(host.tick(mem, around(1_061, clock_untrusted_s=60.0))) == [(S.CLOCK_UNTRUSTED, True)]
    assert host.due(mem, around(1_061, clock_untrusted_s=60.0)) == 0
    assert sample(mem, names.CLOCK_TRUSTED, 1.0, 1_100.0) == [(S.CLOCK_UNTRUSTED, False)]
    assert host.due(mem, around(1_100)) == 0


def test_a_jump_of_the_clock_and_its_absence_touch_no_app():
    device = Device([AppSpec("a", heartbeat_ms=1_000)], Policy(thresholds=Thresholds(clock_untrusted_s=60.0)))
    device.start_all()
    device.tell(sig.HostSample(names.CLOCK_TRUSTED, 1.0))
    device.tell(sig.HostSample(names.CLOCK_STEP, 86_400.0))
    device.tell(sig.HostSample(names.CLOCK_TRUSTED, 0.0))
    device.run(600)
    assert {i.symptom for i in device.reports} == {S.CLOCK_STEP, S.CLOCK_UNTRUSTED}
    assert device.acts() == []


def test_a_processor_that_is_slowed_down_for_a_moment_is_nothing():
    mem = host.Host()
    assert [sample(mem, names.THROTTLED, v) for v in (1.0, 1.0, 0.0, 1.0, 1.0)] == [[]] * 5
    assert sample(mem, names.THROTTLED, 1.0) == [(S.TEMPERATURE, True)]
    assert sample(mem, names.THROTTLED, 0.0) == [(S.TEMPERATURE, False)]


def heard(mem, layer, up, at_s):
    return told(link.heard(mem, sig.LinkIs(layer, up=up), around(at_s)))


def test_a_refused_connect_shows_that_the_name_was_found():
    mem = link.Link()
    heard(mem, "dns", False, 1_000)
    heard(mem, "tcp", False, 1_100)
    assert link.lowest(mem) == "tcp"
    assert told(link.tick(mem, around(1_401))) == [(S.BROKER, True)]
    assert heard(mem, "broker", True, 1_500) == [(S.BROKER, False)]


def test_a_lower_layer_that_goes_takes_over_and_each_ends_by_itself():
    mem = link.Link()
    heard(mem, "tcp", False, 1_000)
    assert told(link.tick(mem, around(1_301))) == [(S.BROKER, True)]
    heard(mem, "carrier", False, 1_400)
    assert link.tick(mem, around(1_600)) == ()
    assert told(link.tick(mem, around(1_701))) == [(S.BROKER, False), (S.CARRIER, True)]
    assert heard(mem, "carrier", True, 1_800) == [(S.CARRIER, False)]
    assert told(link.tick(mem, around(1_801))) == [(S.BROKER, True)], "what was hidden behind it is told at once: it has lasted"


def test_a_port_that_resets_again_and_again_is_remembered_for_a_while():
    mem = kernel.Kernel()
    for at_s in (1_000, 1_010):
        kernel.said(mem, sig.KernelSaid("usb_reset", "1-1.2"), around(at_s))
    assert kernel.bus(mem, 1_020 * NS) == "1-1.2"
    assert kernel.bus(mem, 1_400 * NS) == ""


class Figures:
    gap = medium = lost = 0

    def gap_ms(self):
        return self.gap

    def medium_ms(self):
        return self.medium

    def dropped(self):
        return self.lost


def looks(limit_kib):
    out, figures = [], Figures()
    source = Itself(out.append, figures, lambda: 0, memory_kib=limit_kib, every_s=1.0)

    def look():
        out.clear()
        source.tick(source.due())
        return [(s.part, s.what, s.ok) for s in out]

    return figures, look


def test_our_own_memory_loop_medium_and_queue_are_told_at_their_beginning_and_their_end():
    figures, look = looks(1 << 30)
    assert look() == []
    figures.gap, figures.medium, figures.lost = GAP_MS + 1, MEDIUM_MS + 1, 3
    assert look() == [("medium", "slow", False), ("agent", "dropped", False)], "one long call is a busy box"
    assert [look() for _ in range(3)] == [[], [("agent", "slow", False)], []], "said once"
    figures.gap = figures.medium = 0
    assert look() == [("agent", "slow", True), ("medium", "slow", True)]
    _, over = looks(resident_kib() // 2)
    assert [over() for _ in range(4)] == [[], [], [("agent", "memory", False)], []]
    assert resident_kib("/proc/self/no-such-file") == 0


def test_a_write_that_does_not_come_back_shows_while_it_is_out(tmp_path):
    disk = FolderDisk(str(tmp_path))
    assert disk.longest_ms() == 0
    ticket = disk.submit([Write("a", 0, b"x"), Sync("a")], lambda _: None)
    time.sleep(0.02)  # the write is asked for and nobody has taken its answer
    assert disk.longest_ms() >= 20
    disk.wait(ticket, 5.0)
    assert disk.longest_ms() >= 20, "from its being asked for"
    assert disk.longest_ms() == 0
    disk.close()
