# SPDX-License-Identifier: Apache-2.0
"""Growth: memory that cannot be reclaimed, descriptors, threads, children - by robust slope, with the time to the limit.

Duty: say early that a limit will be reached, and when. Healthy look-alikes: warm-up (the first grace of a run does not count, and a
plateau flattens), a garbage collector's sawtooth (only floors count, and a height it fell back from before is no news), page cache
(never in the figure), a burst that levels off.
Invariants: judged anew on each run; memory without a limit of its own is foretold against what the box has left, the rest without a limit not at
all; unknown (-1) is no sample.
"""

from dataclasses import dataclass, field

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import Usage
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around
from edgeheal.detect.slope import POINTS_MOST, Track, theil_sen

HALF = 0.5  # of the limit: below it nothing is said
MOST = 0.7  # of the limit: from here on a steady slope is enough
STEADY = 0.7  # the last third must grow at least so much of the whole's slope
BOX_SHARE = 0.9  # of what the box has left: its last tenth is needed by others
NEAR_WINDOWS, WIDE_WINDOWS = 15, 240  # spans of the records with one, in least windows: a quarter of an hour, four hours
CALM = 0.8  # of the value at the alarm: back below it, the growth is over


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that can grow: which symptom, which evidence, how small a growth is noise."""

    kind: SymptomKind
    value: EvidenceCode
    noise: float


FIGURES: dict[str, Figure] = {
    "memory": Figure(SymptomKind.MEMORY_GROWTH, EvidenceCode.MEMORY_KIB, 4_096.0),
    "fds": Figure(SymptomKind.FD_GROWTH, EvidenceCode.DESCRIPTORS, 8.0),
    "threads": Figure(SymptomKind.THREAD_GROWTH, EvidenceCode.THREADS, 8.0),
    "children": Figure(SymptomKind.CHILD_GROWTH, EvidenceCode.THREADS, 8.0),
}


@dataclass(slots=True)
class Growth:
    """One figure of one run. `near`, `wide`: its last quarter of an hour, and its last four hours. `alarm`: value when it was told, 0 = it was not; `left_s`: time to the limit told last."""

    run: int = 0
    track: Track = field(default_factory=Track)
    alarm: float = 0.0
    left_s: float = 0.0
    suspected: bool = False
    near: Track = field(default_factory=Track)
    wide: Track = field(default_factory=Track)

    def clear(self) -> None:
        """Judge anew."""
        self.track.clear()
        self.near.clear()
        self.wide.clear()


def sampled(mem: dict[str, Growth], signal: Usage, around: Around) -> tuple[Symptom, ...]:
    """One sample of all figures."""
    if not around.up or (signal.run and around.run and signal.run != around.run):
        return ()
    tasks = around.spec.tasks
    own_kib = signal.limit_kib if signal.limit_kib > 0 else around.spec.memory_kib
    most_kib = own_kib or (round(signal.memory_kib + BOX_SHARE * around.left_kib) if around.left_kib > 0 else 0)
    found: list[Symptom] = []
    for name, value, limit in (
        ("memory", signal.memory_kib, most_kib),
        ("fds", signal.fds, signal.fds_limit if signal.fds_limit > 0 else around.spec.files),
        ("threads", signal.threads, tasks),
        ("children", signal.children, tasks),
    ):
        if value >= 0 and limit > 0:
            found += _figure(mem, name, float(value), float(limit), signal, around)
    return tuple(found)


def _figure(mem: dict[str, Growth], name: str, value: float, limit: float, signal: Usage, around: Around) -> list[Symptom]:
    growth = mem.get(name)
    if growth is None:
        growth = mem[name] = Growth(signal.run)
    if growth.run != signal.run:
        growth.clear()
        growth.run, growth.alarm, growth.suspected = signal.run, 0.0, False
    since = around.ready_ns or around.started_ns
    if around.ns < since + round(around.policy.start_grace_s * NS) and value < 0.9 * limit:
        return []
    if growth.alarm and value < CALM * growth.alarm:
        growth.alarm, growth.suspected = 0.0, False
        growth.track.dropped_from = max(growth.track.dropped_from, growth.track.peak)
        growth.clear()
        return [Symptom(FIGURES[name].kind, signal.app, on=False)]
    at_s, figure = around.ns / NS, FIGURES[name]
    growth.near.span_s, growth.wide.span_s = (n * around.limits.leak_min_window_s for n in (NEAR_WINDOWS, WIDE_WINDOWS))
    closed = [record for record in (growth.near, growth.wide) if record.add(at_s, value)]
    found = _judge(growth, figure, value, limit, signal, around) if growth.track.add(at_s, value) else []
    for record in closed:
        found = found or _judge_lately(growth, record, figure, value, limit, signal, around)
    return found


def _judge(growth: Growth, figure: Figure, value: float, limit: float, signal: Usage, around: Around) -> list[Symptom]:
    track = growth.track
    if len(track.at) < 4 or track.low[-1] - track.low[0] < figure.noise or value <= track.dropped_from:
        growth.suspected = False
        return []
    slope = theil_sen(track.at, track.low)
    third = max(2, len(track.at) // 3)
    recent = theil_sen(track.at[-third - 1 :], track.low[-third - 1 :])
    if slope <= 0 or recent < STEADY * slope:
        growth.suspected = False
        return []
    slope = min(slope, recent)  # what flattens is foretold by its present, not by its past
    left_s = max(0.0, (limit - value) / slope)
    growth.suspected = left_s < around.limits.leak_warn_s
    if not growth.suspected or value < HALF * limit or len(track.at) < _points(around, track):
        return []
    if track.window_s < left_s and (value < MOST * limit or track.window_s < around.limits.leak_min_window_s):
        return []
    return _told(growth, figure, value, limit, slope, track.window_s, signal)


def _judge_lately(growth: Growth, record: Track, figure: Figure, value: float, limit: float, signal: Usage, around: Around) -> list[Symptom]:
    """What began after a long quiet: steady over half of a record with a span, and at its limit within as long again."""
    half = POINTS_MOST // 2
    at, low = record.at[-half:], record.low[-half:]
    if len(at) < half or low[-1] - low[0] < figure.noise or value <= growth.track.dropped_from or value < HALF * limit:
        return []
    slope, before, recent = theil_sen(at, low), theil_sen(at[: half // 2], low[: half // 2]), theil_sen(at[half // 2 :], low[half // 2 :])
    if slope <= 0 or min(before, recent) < STEADY * slope:
        return []
    slope, window_s = min(slope, recent), at[-1] - at[0]
    if (limit - value) / slope > min(window_s, around.limits.leak_warn_s):
        return []
    return _told(growth, figure, value, limit, slope, window_s, signal)


def _told(growth: Growth, figure: Figure, value: float, limit: float, slope: float, window_s: float, signal: Usage) -> list[Symptom]:
    """Once, and again when the limit comes much sooner than was said."""
    left_s = max(0.0, (limit - value) / slope)
    if growth.alarm and left_s > growth.left_s / 2:
        return []
    growth.alarm = growth.alarm or value
    growth.left_s = left_s
    facts = (
        Evidence(figure.value, value, limit),
        Evidence(EvidenceCode.HOURS_TO_LIMIT, round(left_s / 3600, 4)),
        Evidence(EvidenceCode.MEMORY_SLOPE_KIB_H if figure.kind is SymptomKind.MEMORY_GROWTH else EvidenceCode.DESCRIPTORS_SLOPE_H, round(slope * 3600, 1)),
    )
    took_ms = round(window_s * 1000)
    return [Symptom(figure.kind, signal.app, channel=Channel.KERNEL, evidence=facts, run=signal.run, detect_ms=took_ms)]


def _points(around: Around, track: Track) -> int:
    """Points that are enough; a record that was halved has half of them at least."""
    return max(4, around.limits.leak_min_points // (2 if track.width_s else 1))


def reset(mem: dict[str, Growth], app: str) -> tuple[Symptom, ...]:
    """The run is over."""
    off = tuple(Symptom(FIGURES[name].kind, app, on=False) for name, growth in mem.items() if growth.alarm)
    for growth in mem.values():
        growth.clear()
        growth.alarm, growth.suspected, growth.run = 0.0, False, 0
    return off


def suspected(mem: dict[str, Growth]) -> bool:
    """Whether closer looks are worth their cost."""
    return any(g.suspected for g in mem.values())
