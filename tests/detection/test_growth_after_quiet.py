# SPDX-License-Identifier: Apache-2.0
"""A growth that begins late: foretold after days of quiet, while a burst is not."""

import pytest

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.kinds import EvidenceCode, SymptomKind
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy
from edgeheal.detect import growth, limits
from edgeheal.detect.around import Around

E = EvidenceCode


def around(at_s, *, spec):
    return Around(Now("b", round(at_s * NS), int(at_s), 0, False), Policy(start_grace_s=60), spec, 1, True, True, True, 0, 0)


@pytest.mark.parametrize(("quiet_s", "rate_kib_s", "warned_s"), [(3_600, 200, 180), (86_400, 200, 180), (86_400, 20, 400), (5 * 86_400, 5, 1_800)])
def test_a_leak_that_begins_after_days_of_quiet_is_foretold(quiet_s, rate_kib_s, warned_s):
    mem, full_s = {}, 150_000 / rate_kib_s
    for at in range(0, quiet_s + round(full_s), 10):
        value = round(50_000 + max(0, at - quiet_s) * rate_kib_s)
        found = growth.sampled(mem, sig.Usage("a", 1, value, 200_000), around(at, spec=AppSpec("a", memory_kib=200_000)))
        if found:
            break
    assert found, "it was at its limit before anybody spoke"
    assert quiet_s + full_s - at >= warned_s
    hours = next(e.value for e in found[0].evidence if e.code is E.HOURS_TO_LIMIT)
    assert abs(hours * 3_600 - (quiet_s + full_s - at)) < 0.3 * (quiet_s + full_s - at) + 60, "and the time to the limit is right"


def test_a_burst_after_days_of_quiet_is_no_leak():
    mem = {}
    for at in range(0, 86_400, 10):
        burst = at % 43_200 - 40_000  # four minutes up, some minutes there, and down
        value = 60_000 + (min(90_000, 375 * burst) if 0 < burst < 1_000 else 0)
        assert growth.sampled(mem, sig.Usage("a", 1, value, 200_000), around(at, spec=AppSpec("a", memory_kib=200_000))) == (), at


@pytest.mark.parametrize(("threads", "children", "kind"), [(64, 60, SymptomKind.CHILD_GROWTH), (64, 1, SymptomKind.THREAD_GROWTH)])
def test_an_app_with_all_the_tasks_that_it_may_have_is_told_and_a_peak_is_not(threads, children, kind):
    mem, spec = limits.Limits(), AppSpec("a", tasks=64)
    use = lambda at, n, c: limits.sampled(mem, sig.Usage("a", 1, 1_000, threads=n, children=c), around(at, spec=spec))  # noqa: E731
    assert [use(at, *now) for at, now in enumerate([(threads, children), (threads, children), (20, 2), (threads, children), (threads, children)])] == [()] * 5
    (told,) = use(6, threads, children)
    assert (told.kind, told.evidence[0].value, told.evidence[0].limit) == (kind, threads, 64)
    assert use(7, threads, children) == ()
    (over,) = use(8, 20, 2)
    assert (over.kind, over.on) == (kind, False)
