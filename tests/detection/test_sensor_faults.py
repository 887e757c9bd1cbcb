# SPDX-License-Identifier: Apache-2.0
"""Faults of sensors that nobody promised anything of: found by what is normal for them, over fresh seeds; their healthy look-alikes are left alone."""

import math

import pytest

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy
from edgeheal.detect import sensors
from edgeheal.detect.around import Around
from edgeheal.detect.normal import RECENT, Normal
from edgeheal.engine import snapshot
from edgeheal.engine.state import initial
from edgeheal.lab.series import FAULTS, LOOKALIKES, faulty, healthy, judged, lookalike

S = SymptomKind
# fault -> (what it may be called, the most readings until it is, per the fineness of its steps)
EXPECTED = {
    "stuck": ({S.SENSOR_STUCK}, 12, 250), "zero": ({S.SENSOR_DEFAULT, S.SENSOR_JUMP}, 12, 12), "default": ({S.SENSOR_DEFAULT, S.SENSOR_JUMP}, 12, 12),
    "offset": ({S.SENSOR_JUMP}, 12, 12), "noise": ({S.SENSOR_NOISE, S.SENSOR_JUMP}, 60, 300), "spikes": ({S.SENSOR_NOISE, S.SENSOR_JUMP}, 200, 2_000),
    "clip": ({S.SENSOR_STUCK, S.SENSOR_JUMP}, 120, 1_500), "drift": ({S.SENSOR_DRIFT}, 185, 250),
}  # fmt: skip


# steps as coarse as a plateau hide these for long: the bench tells how many are found
HARD = {("clip", "coarse"), ("spikes", "coarse")}


@pytest.mark.parametrize("step", ["fine", "coarse"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_in_time_and_nothing_before_it(fault, step):
    kinds, fine, coarse = EXPECTED[fault]
    most = fine if step == "fine" else coarse
    seeds = (11, 12, 13) if (fault, step) not in HARD else (12,)
    for seed in seeds:
        specimen = faulty(fault, seed, step)
        told = [(n, s) for n, s in judged(specimen, sibling=fault == "drift") if s.on]
        first, symptom = told[0]
        assert specimen.at <= first <= specimen.at + most, (seed, first - specimen.at, symptom)
        assert symptom.kind in kinds


@pytest.mark.parametrize("step", ["fine", "coarse"])
def test_a_healthy_sensor_is_left_alone_for_weeks(step):
    assert [s for seed in (21, 22) for _, s in judged(healthy(step, seed, 15), sibling=True)] == []


@pytest.mark.parametrize("name", sorted(set(LOOKALIKES) - {"door"}))
def test_a_lookalike_is_left_alone(name):
    assert [s for _, s in judged(lookalike(name, 31, 9))] == []


def test_what_was_unusual_ends_and_is_told_once():
    specimen = faulty("noise", 41)
    values = specimen.values[: specimen.at + 300] + healthy("fine", 41, 6).values[specimen.at + 300 :]
    told = [s for _, s in judged(type(specimen)(values, specimen.at, specimen.beside)) if s.kind is S.SENSOR_NOISE]
    assert [s.on for s in told] == [True, False]
    assert told[0].evidence[0].code is EvidenceCode.SENSOR_UNUSUAL
    assert told[0].evidence[0].value > told[0].evidence[0].limit


def test_without_time_to_learn_only_promises_are_judged():
    spec = MetricSpec("t", "C", every_ms=60_000)
    for fault in ("stuck", "noise", "offset"):
        assert list(judged(faulty(fault, 51), spec)) == []


def test_a_promise_goes_before_what_was_learned():
    spec = MetricSpec("t", "C", every_ms=60_000, learn_ms=86_400_000, stuck_ms=7_200_000)
    specimen = faulty("stuck", 52)
    first = next(n for n, s in judged(specimen, spec) if s.kind is S.SENSOR_STUCK)
    assert first - specimen.at == pytest.approx(119, abs=2), "two hours may it rest, was said"


def test_memory_of_a_sensor_is_bounded_and_survives_a_snapshot():
    mem, spec = {}, AppSpec("", metrics=(MetricSpec("t", "C", every_ms=60_000, learn_ms=86_400_000),))
    for n, value in enumerate(healthy("fine", 61, 3).values):
        sensors.read(mem, sig.Reading("", "t", value), where(1_000 + n * 60, spec))
    state = initial(1, b"\0lab\0\1")
    state.senses.box.sensed.update(mem)
    again = snapshot.from_plain(snapshot.to_plain(state))
    assert again.senses.box.sensed == mem
    assert len(mem["t"].normal.recent) == RECENT
    assert again.senses.box.sensed["t"].normal.settled


# -- by promise, or by the number itself


def where(at_s, spec, *, ready=True):
    return Around(Now("b", round(at_s * NS), int(at_s), 0, False), Policy(), spec, up=True, ready=ready)


def run(values, spec, every_s=1.0, app="", start_s=1_000.0):
    owner, mem, found = AppSpec(app, metrics=(spec,)), {}, []
    for n, value in enumerate(values):
        at = where(start_s + n * every_s, owner)
        found += sensors.read(mem, sig.Reading(app, spec.name, value), at) if value is not None else ()
        found += sensors.tick(mem, app, at)
    return found


def on(found):
    return [s.kind for s in found if s.on]


def living(n=40, level=20.0):
    return [level + math.sin(k / 3) + (k * 7 % 5) / 10 for k in range(n)]


TEMP = MetricSpec("t", "C", every_ms=1_000)


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (TEMP, 85.0), (TEMP, -127.0), (MetricSpec("v", "V", every_ms=1_000), 65_535.0), (MetricSpec("v", "V", every_ms=1_000, scale=0.1), 6_553.5),
        (MetricSpec("v", "V", every_ms=1_000, scale=0.1, offset=-40.0), -3_316.8), (MetricSpec("v", "V", every_ms=1_000, low=10.0), 0.0),
        (MetricSpec("t", "C", every_ms=1_000, scale=0.001), 85.0), (MetricSpec("t", "C", every_ms=1_000, low=-40.0, high=60.0), 85.0),
    ],
)  # fmt: skip
def test_the_number_of_a_chip_that_has_nothing_to_say_is_told_and_its_end_too(spec, value):
    found = run([*living(), *[value] * 30, *living()], spec)
    assert on(found)[0] is S.SENSOR_DEFAULT
    assert [s.on for s in found if s.kind is S.SENSOR_DEFAULT] == [True, False]
    assert S.SENSOR_JUMP not in on(found)


@pytest.mark.parametrize(
    ("values", "spec"),
    [
        ([*living(), 85.0, *living()], TEMP),  # one power-on value
        ([60.0 + k / 2 for k in range(100)], TEMP),  # it passes through
        ([40.0] * 20 + [60.0] * 20 + [85.0] * 60, TEMP),  # a set point
        ([*living(level=12.0), *[0.0] * 40, *living(level=12.0)], MetricSpec("q", "l/min", every_ms=1_000)),  # a pump that is off
        ([0.0] * 100, TEMP),
        ([-1.0 + k % 3 for k in range(90)], TEMP),  # around zero
        ([*living(), *[65_535.0] * 20], MetricSpec("n")),  # no measurement
        ([*living(level=81.0), *[85.0] * 5, *living(level=84.0)], TEMP),
    ],
)
def test_a_measurement_that_happens_to_be_such_a_number_is_none(values, spec):
    assert S.SENSOR_DEFAULT not in on(run(values, spec))


def test_a_ramp_faster_than_it_can_be_is_too_fast_and_its_lookalikes_are_not():
    spec = MetricSpec("t", "C", every_ms=1_000, rate_max=0.5)
    found = run([*living(), *[20.0 + 2 * k for k in range(12)], *[44.0] * 5], spec)
    assert [s.on for s in found if s.kind is S.SENSOR_FAST] == [True, False]
    assert next(s for s in found if s.on).evidence[0].value == pytest.approx(2.0, abs=0.2)
    for healthy_values in (
        [20.0] * 10 + [60.0] + [20.0] * 10,  # a spike
        [20.0] * 10 + [60.0] * 10,  # a step
        [20.0 + k * 0.4 for k in range(60)],  # as fast as it may
        [20.0 + (-1) ** k for k in range(60)],  # noise
    ):
        assert S.SENSOR_FAST not in on(run(healthy_values, spec))


def test_siblings_that_move_together_do_not_drift_and_the_one_that_walks_away_does():
    assert [s for _, s in judged(healthy("fine", 71, 6), sibling=True)] == []
    found = [s for _, s in judged(faulty("drift", 71), sibling=True) if s.kind is S.SENSOR_DRIFT]
    assert found[0].evidence[0].code is EvidenceCode.SENSOR_APART
    assert found[0].evidence[0].text == "u"


def test_fc_sen_2_late_is_not_dead_once_its_spread_is_known():
    spec = MetricSpec("radio", "dBm", every_ms=1_000)
    values = [None if n % 50 in (47, 48, 49) else -60.0 + n % 7 for n in range(1_500)]  # each 50th answer takes 4 s
    found = run(values, spec)
    assert on(found) == [S.SENSOR_MISSING], "told at the first time, known from then on"
    dead = run([*values, *[None] * 40], spec)
    assert on(dead)[-1] is S.SENSOR_MISSING
    assert len(on(dead)) == 2, "silence beyond the spread is silence"


def test_fc_sen_4_several_channels_by_one_power_of_ten_and_what_is_doubtful_since_when():
    specs = tuple(MetricSpec(n, "V", every_ms=1_000, source="meter") for n in ("l1", "l2", "l3"))
    owner, mem, found = AppSpec("", metrics=(*specs, MetricSpec("i", "A", every_ms=1_000, source="meter"))), {}, []
    for n in range(320):
        at = where(1_000 + n, owner)
        for k, spec in enumerate(specs):
            value = 231 + (n * 7 + k) % 5 - 2 + (n * 13 % 10) / 10
            found += [(n, s) for s in sensors.read(mem, sig.Reading("", spec.name, value * (100 if n >= 300 else 1)), at)]
        found += [(n, s) for s in sensors.read(mem, sig.Reading("", "i", 4.0 + n % 3 / 10), at)]
    assert [(s.kind, s.subject, s.evidence[0].value) for _, s in found] == [(S.SENSOR_SCALE, name, 2) for name in ("l1", "l2", "l3")]
    assert all(n - s.detect_ms / 1_000 == 300 for n, s in found), "doubtful from the first one on"


def test_what_we_read_ourselves_is_a_witness_of_the_hardware_and_what_an_app_tells_is_not():
    for ours, app, channel in ((True, "", Channel.HARDWARE), (True, "a", Channel.HARDWARE), (False, "a", Channel.APP)):
        spec = MetricSpec("t", "C", every_ms=1_000, ours=ours)
        (symptom,) = [s for s in run([20.0, 21.0, *[None] * 8], spec, app=app) if s.on]
        assert (symptom.kind, symptom.channel) == (S.SENSOR_MISSING, channel)


def test_the_normal_of_a_sensor_forgets_nothing_over_a_gap_but_compares_nothing_across_it():
    normal = Normal()
    for n in range(300):
        normal.add(n * NS, 20.0 + n % 3, 60 * NS)
        normal.judge() if len(normal.recent) == RECENT and n % 8 == 0 else None
    limit = normal.rough.limit
    normal.breaks()
    assert normal.recent == []
    assert normal.rough.limit == limit
