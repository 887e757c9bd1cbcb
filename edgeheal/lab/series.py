# SPDX-License-Identifier: Apache-2.0
"""Series of a sensor as a plant gives them, healthy and with one fault, out of a seed; and a run of the real detector over them.

Duty: the world for tests and benches of sensor faults. It judges nothing.
Invariants: the same seed gives the same series; a fault begins at a known reading, never before `DAYS_WELL`; a healthy look-alike has none.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeheal.core.app import AppSpec, MetricSpec
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy
from edgeheal.core.signal import Reading
from edgeheal.core.symptom import Symptom
from edgeheal.detect import sensors
from edgeheal.detect.around import Around

STEP_S = 60
DAY = 86_400 // STEP_S
DAYS_WELL = 3
NOISE = 0.2  # standard deviation of the measurement
STEPS = {"fine": NOISE / 20, "coarse": NOISE * 4}


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - a world that can be had again, no secret


def _quiet(seed: int, days: int, step: str) -> list[float]:
    """A day's wave, weather that wanders, noise of the measurement, in the sensor's own steps."""
    chance = _chance(seed)
    wander, values = 0.0, []
    for at in range(days * DAY):
        wander = wander * 0.999 + chance.gauss(0, 0.05)
        value = 20 + 5 * math.sin(2 * math.pi * at / DAY + seed) + wander + chance.gauss(0, NOISE)
        values.append(round(round(value / STEPS[step]) * STEPS[step], 6))
    return values


@dataclass(frozen=True, slots=True)
class Specimen:
    """A series with a fault from reading `at` on (`at` = its length: none); `beside`: its healthy sibling."""

    values: list[float]
    at: int
    beside: list[float]


def _stuck(v: list[float], at: int, _: random.Random) -> int:
    v[at:] = [v[at - 1]] * (len(v) - at)
    return at


def _zero(v: list[float], at: int, _: random.Random) -> int:
    v[at:] = [0.0] * (len(v) - at)
    return at


def _offset(v: list[float], at: int, _: random.Random) -> int:
    v[at:] = [x + 15 * NOISE for x in v[at:]]
    return at


def _noise(v: list[float], at: int, chance: random.Random) -> int:
    v[at:] = [x + chance.gauss(0, 5 * NOISE) for x in v[at:]]
    return at


def _spikes(v: list[float], at: int, chance: random.Random) -> int:
    v[at:] = [x + (chance.choice((-30, 30)) * NOISE if chance.random() < 0.06 else 0.0) for x in v[at:]]
    return at


def _clip(v: list[float], at: int, _: random.Random) -> int:
    """It counts from where half of ten readings are cut off."""
    top = sorted(v[at : at + DAY])[DAY * 3 // 4]
    first = next(i for i in range(at, len(v)) if sum(x >= top for x in v[i : i + 10]) >= 5)
    v[at:] = [min(x, top) for x in v[at:]]
    return first


def _drift(v: list[float], at: int, _: random.Random) -> int:
    v[at:] = [x + n * NOISE / 20 for n, x in enumerate(v[at:])]
    return at


def _default(v: list[float], at: int, _: random.Random) -> int:
    v[at:] = [85.0 if n % 40 < 30 else x for n, x in enumerate(v[at:])]
    return at


FAULTS: dict[str, Callable[[list[float], int, random.Random], int]] = {
    "stuck": _stuck, "drift": _drift, "offset": _offset, "clip": _clip, "spikes": _spikes, "noise": _noise, "zero": _zero, "default": _default,
}  # fmt: skip


def faulty(fault: str, seed: int, step: str = "fine", days: int = 6) -> Specimen:
    """A series that is well for days and then has this fault."""
    chance = _chance(seed * 7_919 + 1)
    values, beside = _quiet(seed, days, step), [round(x + 0.3 + chance.gauss(0, NOISE), 6) for x in _quiet(seed, days, "fine")]
    at = FAULTS[fault](values, DAYS_WELL * DAY + chance.randrange(DAY), chance)
    return Specimen(values, at, beside)


def healthy(step: str, seed: int, days: int) -> Specimen:
    """The same without a fault."""
    chance = _chance(seed * 7_919 + 2)
    values = _quiet(seed, days, step)
    return Specimen(values, len(values), [round(x + 0.3 + chance.gauss(0, NOISE), 6) for x in values])


def _sawtooth(chance: random.Random, at: int, state: list[float]) -> float:  # noqa: ARG001 - one signature for all
    """A heating that is switched on and off by its thermostat."""
    state[1] += (0.15 + chance.gauss(0, 0.02)) if state[0] else (-0.04 + chance.gauss(0, 0.01))
    state[0] = 0.0 if state[1] > 22 else 1.0 if state[1] < 20 else state[0]
    return round(state[1], 2)


def _load(chance: random.Random, at: int, state: list[float]) -> float:  # noqa: ARG001
    """A machine that runs now and then."""
    if state[1] <= 0:
        state[0], state[1] = 1.0 - state[0], chance.expovariate(1 / 40)
    state[1] -= 1
    return round(12 + chance.gauss(0, 0.2), 1) if state[0] else 0.0


def _door(chance: random.Random, at: int, state: list[float]) -> float:  # noqa: ARG001
    """A cold room whose door is opened."""
    state[1] = state[1] * 0.9 + (5 if chance.random() < 1 / 180 else 0)
    return round(5 + state[1] + chance.gauss(0, 0.1), 1)


def _weekend(chance: random.Random, at: int, state: list[float]) -> float:  # noqa: ARG001
    """An office that is empty two days of seven."""
    busy = 0 if at // DAY % 7 >= 5 else 200 * max(0.0, math.sin(2 * math.pi * at / DAY))
    return float(round(400 + busy + chance.gauss(0, 8)))


def _season(chance: random.Random, at: int, state: list[float]) -> float:  # noqa: ARG001
    """Spring: each day a third of a degree warmer."""
    return round(20 + 5 * math.sin(2 * math.pi * at / DAY) + 0.3 * at / DAY + chance.gauss(0, 0.2), 2)


def _light(chance: random.Random, at: int, state: list[float]) -> float:
    """Daylight: nothing at all by night, clouds by day."""
    state[1] = state[1] * 0.95 + chance.gauss(0, 0.1)
    return float(round(max(0.0, math.sin(2 * math.pi * at / DAY)) * 800 * min(1.0, max(0.15, 0.8 + state[1]))))


def _sun(chance: random.Random, at: int, state: list[float]) -> float:  # noqa: ARG001
    """A wall that is noisier while the sun stands on it."""
    day = math.sin(2 * math.pi * at / DAY)
    return round(20 + 3 * day + chance.gauss(0, 0.1 * (1 + 2 * max(0.0, day))), 2)


LOOKALIKES: dict[str, Callable[[random.Random, int, list[float]], float]] = {
    "sawtooth": _sawtooth, "load": _load, "door": _door, "weekend": _weekend, "season": _season, "light": _light, "sun": _sun,
}  # fmt: skip


def lookalike(name: str, seed: int, days: int) -> Specimen:
    """A healthy series that looks as if it were not."""
    chance, state = _chance(seed), [0.0, 20.0 if name == "sawtooth" else 0.0]
    values = [LOOKALIKES[name](chance, at, state) for at in range(days * DAY)]
    return Specimen(values, len(values), values)


def judged(specimen: Specimen, spec: MetricSpec | None = None, *, sibling: bool = False) -> Iterator[tuple[int, Symptom]]:
    """(reading, symptom) of the real detector over a series; nothing but a unit, a pace and a day to learn is promised."""
    mine = spec or MetricSpec("t", "C", every_ms=STEP_S * 1_000, learn_ms=86_400_000, sibling="u" if sibling else "")
    app = AppSpec("", metrics=(mine, MetricSpec("u", "C", every_ms=STEP_S * 1_000)))
    memory: dict[str, sensors.Sensor] = {}
    policy = Policy()
    for n, (value, other) in enumerate(zip(specimen.values, specimen.beside, strict=True)):
        now = Now("b", (1_000 + n * STEP_S) * NS, n * STEP_S, 0, False)
        around = Around(now, policy, app, up=True, ready=True)
        if sibling:
            sensors.read(memory, Reading("", "u", other), around)
        for symptom in sensors.read(memory, Reading("", "t", value), around):
            yield n, symptom
