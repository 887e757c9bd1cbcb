# SPDX-License-Identifier: Apache-2.0
"""Spinning, dead children, and faults of the kernel itself: each beside what looks like it and is well."""

import pytest

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec, ProbeSpec
from edgeheal.core.kinds import EvidenceCode, SymptomKind, Verdict
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy
from edgeheal.detect import kernel, senses
from edgeheal.detect.around import Around

S = SymptomKind
PROBED = AppSpec("a", probes=(ProbeSpec("web"),), tasks=64)


def around(at_s, spec=PROBED):
    return Around(Now("b", round(at_s * NS), int(at_s), 0, False), Policy(), spec, 1, True, True, True, NS, NS)


def feed(spec, share, *, seconds=300, zombies=0, sign=None, start_s=100):
    """Samples every 10 s through the table of detectors; what was found, with the memory."""
    mem, found = senses.AppSenses(), []
    for at in range(start_s, start_s + seconds, 10):
        where = around(at, spec)
        if sign is not None:
            senses.APP[type(sign)](mem, sign, where)
        used = share(at) if callable(share) else share
        found += senses.APP[sig.Usage](mem, sig.Usage("a", 1, threads=1, zombies=zombies, cpu_ms=used * 10, every_ms=10_000), where)
    return mem, [(s.kind, s.on) for s in found]


NO, YES = (sig.ProbeAnswered("a", 1, "web", "live", int(v)) for v in (Verdict.NO, Verdict.YES))


def test_a_core_burnt_while_the_probe_fails_is_a_spin_and_ends_when_it_rests():
    mem, found = feed(PROBED, 990, sign=NO)
    assert found == [(S.CPU_SPIN, True)]
    calm = senses.APP[sig.Usage](mem, sig.Usage("a", 1, cpu_ms=100, every_ms=10_000), around(500))
    assert [(s.kind, s.on) for s in calm] == [(S.CPU_SPIN, False)]


@pytest.mark.parametrize(
    ("spec", "share", "sign"),
    [
        (PROBED, 1_000, YES),
        (AppSpec("a", heartbeat_ms=5_000), 1_000, None),
        (AppSpec("a"), 1_000, None),
        (AppSpec("a", probes=PROBED.probes, metrics=(MetricSpec("t", every_ms=1_000),)), 1_000, sig.Reading("a", "t", 21.0)),
        (PROBED, lambda at: 1_000 if at % 60 < 20 else 50, NO),
        (PROBED, 500, NO),
    ],
    ids=["its probe answers", "its heartbeat comes", "it promised nothing", "its readings come", "bursts", "half a core, as beside a heavy compile"],
)
def test_a_busy_app_that_shows_progress_is_no_spin(spec, share, sign):
    assert feed(spec, share, sign=sign)[1] == []


def test_a_warm_up_is_no_spin():
    assert feed(PROBED, 1_000, sign=NO, seconds=50, start_s=2)[1] == []


def test_dead_children_that_stay_are_told_and_end_with_the_run():
    mem, found = feed(PROBED, 10, zombies=20)
    assert found == [(S.ZOMBIES, True)]
    off = senses.APP[sig.AppStarted](mem, sig.AppStarted("a", 2), around(600))
    assert (S.ZOMBIES, False) in [(s.kind, s.on) for s in off]


@pytest.mark.parametrize(("zombies", "seconds"), [(3, 600), (40, 50), (-1, 600)], ids=["a few", "a moment", "not known"])
def test_children_that_ended_a_moment_ago_are_nothing(zombies, seconds):
    assert feed(PROBED, 10, zombies=zombies, seconds=seconds)[1] == []


@pytest.mark.parametrize(
    ("what", "times", "kind"),
    [
        ("oops", 1, S.KERNEL_FAULT),
        ("lockup", 2, S.KERNEL_FAULT),
        ("hung_task", 3, S.KERNEL_FAULT),
        ("nic_timeout", 2, S.KERNEL_FAULT),
        ("ecc", 3, S.HARDWARE_ERROR),
    ],
)
def test_a_fault_of_the_kernel_is_told_at_its_nth_time_and_not_before(what, times, kind):
    mem, found = kernel.Kernel(), []
    for n in range(times):
        assert found == []
        found = [(s.kind, s.subject) for s in kernel.said(mem, sig.KernelSaid(what, "x"), around(1_000 + n))]
    assert found == [(kind, "x")]


def test_stutters_hours_apart_and_a_programs_segfault_are_no_fault_of_the_kernel():
    mem = kernel.Kernel()
    words = ("ecc", "hung_task", "lockup", "nic_timeout", "segfault")
    assert [s for n in range(20) for what in words for s in kernel.said(mem, sig.KernelSaid(what, "x"), around(1_000 + 3_601 * n))] == []


def test_a_spin_says_how_much_and_for_how_long():
    mem, told = senses.AppSenses(), []
    for at in range(100, 200, 10):
        senses.APP[sig.ProbeAnswered](mem, NO, around(at))
        told += senses.APP[sig.Usage](mem, sig.Usage("a", 1, cpu_ms=9_700, every_ms=10_000), around(at))
    assert {e.code: e.value for e in told[0].evidence} == {EvidenceCode.CPU_PERMILLE: 970, EvidenceCode.RUN_SECONDS: 30}
