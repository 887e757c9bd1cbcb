# SPDX-License-Identifier: Apache-2.0
"""News that changes what was believed: a cause that is told after the end, a limit that comes sooner than it was planned for."""

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import CauseKind, RemedyKind, SymptomKind
from edgeheal.lab.device import Behaviour, Device


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
