# SPDX-License-Identifier: Apache-2.0
"""News that changes what was believed: a cause that is told after the end, a limit that comes sooner than it was planned for."""

import random

import pytest

from edgeheal.core import deployment as dep
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import CauseKind, Need, RemedyKind, SymptomKind
from edgeheal.lab.device import Behaviour, Device, Image


def test_the_kernels_word_on_memory_counts_when_it_comes_after_the_end():
    device = Device([AppSpec("a", memory_kib=100_000)])
    device.start_all()
    device.run(300)
    device.kill("a", 9)
    device.run(0.02)  # the restart is under way
    device.tell(sig.KernelSaid("oom_limit", "a", 1_001))
    told = device.reports[-1]
    assert (told.symptom, told.causes[0].kind) == (SymptomKind.OOM_KILL, CauseKind.APP_MEMORY)
    device.run(120)
    assert len({i.number for i in device.reports}) == 1, "one end is one incident"
    assert device.closed()[-1].symptom is SymptomKind.OOM_KILL
    assert [t.kind for t in device.closed()[-1].tried] == [RemedyKind.RESTART], "late news of the same end fails no remedy"


def test_a_segfault_is_no_end_for_memory_whatever_the_kernel_says_of_others():
    device = Device([AppSpec("a"), AppSpec("b")])
    device.start_all()
    device.run(300)
    device.kill("a", 11)
    device.tell(sig.KernelSaid("oom_limit", "a", 1_001))
    device.tell(sig.KernelSaid("oom", "b", 1_002))
    assert {i.symptom for i in device.reports} == {SymptomKind.EXIT}


def test_a_restart_that_was_planned_for_later_is_planned_anew_when_the_limit_comes_sooner():
    device = Device([AppSpec("a", memory_kib=200_000)])
    slow_then_fast = lambda age: round(60_000 + 20 * age if age < 3_600 else 132_000 + 300 * (age - 3_600))  # noqa: E731
    device.apps["a"].images[0].behaviour = Behaviour(memory_kib=slow_then_fast)
    device.start_all()
    device.until(lambda: bool(device.words("planned")), 7_200, 5)
    device.until(lambda: bool(device.acts(Verb.RESTART)), 3_600, 5)
    age = device.at - device.apps["a"].starts[0]
    assert slow_then_fast(age) < 215_000, "it was let go on far over its limit"


@pytest.mark.parametrize("seed", range(12))
def test_fc_log_3_the_supply_is_the_parent_in_whatever_order_its_children_are_heard(seed):
    chance = random.Random(seed)
    apps = ["radio", "camera", "serial", "web"]
    device = Device([AppSpec(a) for a in apps])
    for name in apps:
        device.apps[name].images.insert(0, Image("img0", dep.GOOD))
        device._deployments(name)
    device.start_all()
    device.run(100)
    said = {0.4: ("usb_gone", "1-1.2"), 1.0: ("undervoltage", "hwmon1")}
    happens = [(at + chance.uniform(-0.5, 0.5), lambda what=what: device.tell(sig.KernelSaid(*what))) for at, what in said.items()]
    happens += [(0.5 + 0.5 * at + chance.uniform(-0.5, 0.5), lambda name=name: device.kill(name, 11)) for at, name in enumerate(apps)]
    for at, do in happens:
        device.later(1.0 + at, do)
    device.run(25)
    box = next(i for i in device.open() if i.app == "")
    assert (set(box.also), box.causes[0].kind, box.need) == (set(apps), CauseKind.SUPPLY, Need.VISIT)
    assert device.acts(Verb.ROLLBACK) == []
    device.tell(sig.KernelSaid("voltage_ok", "hwmon1"))
    device.run(300)
    assert device.open() == []
    device.tell(sig.KernelSaid("undervoltage", "hwmon1"))
    again = next(i for i in device.open() if i.app == "")
    assert "2 times in 24 h" in again.evidence[0].text, "how often a day is said"
