# SPDX-License-Identifier: Apache-2.0
"""Starts that are slow or never end, whoever waits for them, and threads and children that become too many - each beside its healthy look-alike."""

import pytest

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, NeedSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import CauseKind, SymptomKind
from edgeheal.core.policy import Policy
from edgeheal.lab.device import Behaviour, Device, Image

S, C = SymptomKind, CauseKind
NEVER = 1e9


def device_of(*specs, ready_s, **policy):
    device = Device(list(specs), Policy(start_grace_s=20, **policy))
    device.apps[specs[0].name].images[0].behaviour = Behaviour(ready_s=ready_s)
    device.start_all(0)
    return device


def test_a_start_that_is_slow_but_inside_its_grace_is_nothing():
    device = device_of(AppSpec("a", start_ms=30_000), ready_s=29)
    device.run(300)
    assert device.reports == []
    assert len(device.apps["a"].starts) == 1


def test_a_start_that_is_too_slow_and_then_ready_is_told_and_ends_by_itself():
    device = device_of(AppSpec("a", start_ms=30_000), ready_s=33, mode=0)
    device.run(400)
    (incident,) = {i.number: i for i in device.reports}.values()
    assert incident.symptom is S.START_SLOW
    assert device.open() == []


def test_a_start_that_never_gets_ready_is_tried_again_and_a_human_is_called():
    device = device_of(AppSpec("a", start_ms=30_000), ready_s=NEVER)
    device.run(4 * 3_600)
    (incident,) = device.open()
    assert incident.symptom in (S.START_SLOW, S.CRASH_LOOP)
    assert 2 <= len(device.apps["a"].starts) <= 40, "tried again, and no storm"
    assert device.acts(Verb.RESTART)
    assert device.reboots == 0


def test_who_needs_it_is_left_alone_meanwhile():
    device = device_of(AppSpec("a", start_ms=30_000), AppSpec("b", needs=(NeedSpec("app", "a"),)), ready_s=NEVER)
    device.run(1_800)
    assert {a.app for a in device.acts(Verb.RESTART, Verb.CLEAN_RESTART)} == {"a"}
    assert len(device.apps["b"].starts) == 1


def crowd(figure, kinds):
    """Threads or children by a function of time; what was told of them."""
    device = Device([AppSpec("a", tasks=400)], Policy(start_grace_s=10))
    device.start_all()
    device.run(60)
    for at in range(0, 6_000, 10):
        n = round(figure(at))
        device.tell(sig.Usage("a", 1, 40_000, 0, 10, 1_024, n if "threads" in kinds else 4, n if "children" in kinds else 0, 0, 10, 10_000, "S"))
        device.run(10)
        if not device.apps["a"].up or device.apps["a"].run != 1:
            break
    return {i.number: i for i in device.reports}.values()


@pytest.mark.parametrize(("what", "kind"), [("threads", S.THREAD_GROWTH), ("children", S.CHILD_GROWTH)])
def test_threads_and_children_that_only_become_more_are_foretold(what, kind):
    (incident,) = crowd(lambda at: 8 + at / 12, {what})
    assert incident.symptom is kind
    assert incident.causes[0].kind is C.APP_THREADS


@pytest.mark.parametrize("what", ["threads", "children"])
@pytest.mark.parametrize(
    "figure",
    [
        lambda at: 8 + 300 * (1 - 2.0 ** (-at / 90)),  # a pool that fills
        lambda at: 300 if at % 1_200 < 300 else 20,  # a burst now and then
        lambda at: 60 + at % 600 / 5,  # workers that are replaced
        lambda at: 250 + at % 7,
    ],
    ids=["pool", "burst", "replaced", "many"],
)
def test_threads_and_children_that_are_many_for_a_reason_are_left_alone(what, figure):
    assert list(crowd(figure, {what})) == []


def test_ends_are_told_apart_in_the_incident():
    told = {}
    for name, end in (
        ("code", (3, None)), ("signal", (None, 11)), ("memory", (None, 9)),
    ):  # fmt: skip
        device = Device([AppSpec("a")])
        device.start_all()
        device.run(100)
        if name == "memory":
            device.tell(sig.KernelSaid("oom", "a"))
        device._end("a", 1, *end)
        device.run(0.1)
        told[name] = device.reports[0]
    device = Device([AppSpec("a")])
    device.apps["a"].images[0] = Image("img1", device.apps["a"].images[0].state, Behaviour(refuses=18))
    device.start_all()
    told["start"] = device.reports[0]
    assert [told[n].symptom for n in ("code", "signal", "memory", "start")] == [S.EXIT, S.EXIT, S.OOM_KILL, S.START_FAILED]
    assert len({i.fingerprint for i in told.values()}) == 4
