# SPDX-License-Identifier: Apache-2.0
"""Sensor faults found over fresh seeds, delay, false alarms a week, look-alikes; time a point beside a windowed Gaussian, bytes a sensor."""

import json
import math
import os
import random
import statistics
import sys
import time
from collections import deque

SEEDS = int(os.environ.get("BENCH_SEEDS", "20"))
WEEKS = 4
WINDOW = 100


def run() -> dict:
    """The figures; one point a minute, nothing promised but a unit and a pace, a day to learn."""
    first = random.SystemRandom().randrange(1_000_000)
    figures: dict = {"seeds": SEEDS, "first_seed": first, "faults": {}, "false_alarms_a_week": {}, "lookalikes": {}}
    for step in ("fine", "coarse"):
        figures["faults"][step] = {fault: found(fault, step, first) for fault in faults()}
        figures["false_alarms_a_week"][step] = alarms_a_week(step, first)
        print(f"sensors: {step} done", file=sys.stderr)
    figures["lookalikes"] = {name: like(name, first) for name in lookalikes()}
    return figures | cost(first)


def faults() -> list[str]:
    """All kinds."""
    from edgeheal.lab.series import FAULTS

    return list(FAULTS)


def lookalikes() -> list[str]:
    """All kinds."""
    from edgeheal.lab.series import LOOKALIKES

    return list(LOOKALIKES)


def found(fault: str, step: str, first: int) -> dict:
    """Share of faults told at all, median delay in points, names given, alarms before the fault."""
    from edgeheal.lab.series import faulty, judged

    delays, names, early = [], {}, 0
    for seed in range(first, first + SEEDS):
        specimen = faulty(fault, seed, step)
        told = [(n, s.kind.name) for n, s in judged(specimen, sibling=fault == "drift") if s.on]
        early += sum(1 for n, _ in told if n < specimen.at)
        after = [(n - specimen.at, name) for n, name in told if n >= specimen.at]
        if after:
            delays.append(after[0][0])
            names[after[0][1]] = names.get(after[0][1], 0) + 1
    return {"found": round(len(delays) / SEEDS, 3), "delay_points": statistics.median(delays) if delays else None, "early": early, "named": names}


def alarms_a_week(step: str, first: int) -> float:
    """Alarms of healthy sensors, sibling included."""
    from edgeheal.lab.series import healthy, judged

    days = 1 + 7 * WEEKS // 2
    alarms = sum(1 for seed in range(first, first + SEEDS) for _, s in judged(healthy(step, seed, days), sibling=True) if s.on)
    return round(alarms / (SEEDS * (days - 1) / 7), 3)


def like(name: str, first: int) -> float:
    """Alarms a week of a healthy look-alike."""
    from edgeheal.lab.series import judged, lookalike

    n = max(2, SEEDS // 4)
    return round(sum(1 for seed in range(first, first + n) for _, s in judged(lookalike(name, seed, 15)) if s.on) / (n * 2), 3)


def cost(first: int) -> dict:
    """Microseconds a point of `Normal` over those of a windowed Gaussian, rounds interleaved; bytes of its state."""
    from edgeheal.core.plain import to_plain
    from edgeheal.detect.normal import Normal
    from edgeheal.detect.sensors import Sensor
    from edgeheal.lab.series import healthy

    values = healthy("fine", first, 7).values
    ours, theirs = [], []
    sensor = Sensor()
    for _ in range(5):
        normal = sensor.normal = Normal()
        began = time.perf_counter()
        for n, value in enumerate(values):
            if normal.add(n * 60_000_000_000, value, 86_400_000_000_000):
                normal.judge()
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        gaussian(values)
        theirs.append(time.perf_counter() - began)
    return {
        "us_a_point": round(statistics.median(ours) / len(values) * 1e6, 2),
        "gaussian_us_a_point": round(statistics.median(theirs) / len(values) * 1e6, 2),
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 2),
        "bytes": held(sensor),
        "bytes_in_snapshot": len(json.dumps(to_plain(sensor))),
    }


def gaussian(values: list[float]) -> float:
    """The peer: distance from the mean of the last points in standard deviations, as plain Python does it."""
    window: deque[float] = deque(maxlen=WINDOW)
    worst = 0.0
    for value in values:
        if len(window) > 2:
            mean = statistics.fmean(window)
            worst = max(worst, abs(value - mean) / math.sqrt(sum((x - mean) ** 2 for x in window) / len(window) + 1e-12))
        window.append(value)
    return worst


def held(thing: object) -> int:
    """Bytes of an object and all that only it holds."""
    size = sys.getsizeof(thing)
    if isinstance(thing, list | tuple):
        return size + sum(held(x) for x in thing)
    names = [n for cls in type(thing).__mro__ for n in getattr(cls, "__slots__", ())]
    return size + sum(held(getattr(thing, n)) for n in names if hasattr(thing, n))
