# SPDX-License-Identifier: Apache-2.0
"""Sensors: missing, stuck, out of range, jumped, too fast, on another scale, a default, apart from its sibling, unusual for itself.

Duty: judge readings of an app that works, or of the box, against what is promised; where nothing is, and time to learn is given, against what
is normal here (`normal`). Healthy look-alikes: a steady value shorter than promised, one bad sample, a dead or starting app (its sensors are not
judged), a standstill of the box, a true step within the promised one, an answer that is late now and then.
Invariants: what is neither promised (0) nor learned is not judged; a reading that is no finite number counts as "no answer"; while a sensor
sends a default, nothing else of its value is judged, nor learned.
"""

from dataclasses import dataclass, field
from math import isfinite, log10

from edgeheal.core.app import MetricSpec
from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import Reading
from edgeheal.core.symptom import Symptom
from edgeheal.detect import sensor_rate
from edgeheal.detect.around import Around
from edgeheal.detect.normal import Normal
from edgeheal.detect.sensor_default import SAME, is_default
from edgeheal.detect.sibling import Gap

SILENT_PERIODS = 3
AGREE = 3  # readings in a row that must agree
RING = 16
SAME_LEAST = 3
SETTLED = 1.5  # largest over smallest of the remembered values, for a change of scale to be told from noise
SENSORS_MOST = 128
LATE_MOST = 10  # periods: a silence that ended by itself after so long was late; after longer it was away
LATE_FACTOR = 1.5
FADES = 0.999  # how the longest such silence is forgotten, a reading
UNUSUAL = {"rough": SymptomKind.SENSOR_NOISE, "spikes": SymptomKind.SENSOR_NOISE, "shift": SymptomKind.SENSOR_JUMP, "same": SymptomKind.SENSOR_STUCK}
SAID = {"rough": "step", "spikes": "spikes", "shift": "moves", "same": "equal"}


@dataclass(slots=True)
class Sensor:
    """`seen_ns` last reading; `same_ns`, `same` of the value that does not change; `out`, `inside` rows outside and inside the range.

    `late_ns`: the longest silence that ended by itself; `fast`: steps in a row that were too fast; `defaults`: of the same default;
    `unusual`: statistics of `normal` that are beyond; `stuck_by`: "" = as promised, else the statistic that told it.
    """

    run: int = 0
    seen_ns: int = 0
    value: float | None = None
    same_ns: int = 0
    same: int = 0
    out: int = 0
    inside: int = 0
    far: int = 0
    before: float = 0.0
    ring: list[float] = field(default_factory=list)
    missing: bool = False
    stuck: bool = False
    ranged: bool = False
    jumped: int = 0
    late_ns: int = 0
    fast: int = 0
    too_fast: bool = False
    defaults: int = 0
    default: bool = False
    normal: Normal = field(default_factory=Normal)
    unusual: list[str] = field(default_factory=list)
    stuck_by: str = ""
    gap: Gap = field(default_factory=Gap)


def read(mem: dict[str, Sensor], signal: Reading, around: Around) -> tuple[Symptom, ...]:
    """One reading."""
    spec = next((m for m in around.spec.metrics if m.name == signal.sensor), None)
    if spec is None or not around.up:
        return ()
    sensor = mem.get(spec.name)
    if sensor is None:
        if len(mem) >= SENSORS_MOST:
            return ()
        sensor = mem[spec.name] = Sensor(around.run)
    if signal.value is None or not isfinite(signal.value):
        return ()
    found = _came(sensor, spec, signal.app, around)
    found += _default(sensor, spec, signal, around)
    found += _range(sensor, spec, signal, around)
    if not sensor.default and not sensor.defaults:
        found += _fast(sensor, spec, signal, around)
        found += _jump(sensor, spec, signal, around)
        found += _same(sensor, spec, signal, around)
        found += _unusual(sensor, spec, signal, around)
        found += _apart(mem, sensor, spec, signal, around)
        sensor.value = signal.value
    sensor.seen_ns, sensor.run = around.ns, around.run
    return tuple(found)


def _came(sensor: Sensor, spec: MetricSpec, app: str, around: Around) -> list[Symptom]:
    """A reading came: how long it was away is learned while that was not long."""
    period_ns = spec.every_ms * 1_000_000
    if sensor.seen_ns and sensor.run == around.run and period_ns:
        gap_ns = around.ns - max(sensor.seen_ns, around.still_ns)
        sensor.late_ns = max(round(sensor.late_ns * FADES), gap_ns if gap_ns <= LATE_MOST * period_ns else 0)
        if gap_ns > SILENT_PERIODS * period_ns:
            sensor.normal.breaks()
            sensor.fast = 0
    if not sensor.missing:
        return []
    sensor.missing = False
    return [Symptom(SymptomKind.SENSOR_MISSING, app, spec.name, on=False)]


def _default(sensor: Sensor, spec: MetricSpec, signal: Reading, around: Around) -> list[Symptom]:
    """The very number of a chip that has nothing to say, again and again."""
    value = signal.value or 0.0
    if sensor.default:
        if value == sensor.before or is_default(value, spec, sensor.ring, sensor.normal):
            return []
        sensor.default, sensor.defaults = False, 0
        return [Symptom(SymptomKind.SENSOR_DEFAULT, signal.app, spec.name, on=False)]
    if not is_default(value, spec, sensor.ring, sensor.normal):
        sensor.defaults = 0
        return []
    sensor.defaults = sensor.defaults + 1 if value == sensor.before or not sensor.defaults else 1
    sensor.before = value
    if sensor.defaults < SAME:
        return []
    sensor.default = True
    level = sorted(sensor.ring)[len(sensor.ring) // 2] if sensor.ring else 0.0
    fact = Evidence(EvidenceCode.SENSOR_VALUE, round(value, 4), round(level, 4), spec.unit)
    return [_symptom(SymptomKind.SENSOR_DEFAULT, signal.app, spec, around, fact, (SAME - 1) * spec.every_ms)]


def _fast(sensor: Sensor, spec: MetricSpec, signal: Reading, around: Around) -> list[Symptom]:
    """Faster than what it measures can."""
    if spec.rate_max <= 0 or sensor.value is None or not sensor.seen_ns:
        return []
    seconds = (around.ns - sensor.seen_ns) / NS
    step = (signal.value or 0.0) - sensor.value
    sensor.fast = sensor_rate.count(sensor.fast, step, seconds, spec.rate_max)
    if abs(sensor.fast) >= sensor_rate.AGREE and not sensor.too_fast:
        sensor.too_fast = True
        fact = Evidence(EvidenceCode.SENSOR_RATE, round(abs(step) / seconds, 4), spec.rate_max, spec.unit)
        return [_symptom(SymptomKind.SENSOR_FAST, signal.app, spec, around, fact, sensor_rate.AGREE * spec.every_ms)]
    if sensor.too_fast and not sensor.fast:
        sensor.too_fast = False
        return [Symptom(SymptomKind.SENSOR_FAST, signal.app, spec.name, on=False)]
    return []


def _unusual(sensor: Sensor, spec: MetricSpec, signal: Reading, around: Around) -> list[Symptom]:
    """Against what is normal for itself; a promise goes before what was learned."""
    normal = sensor.normal
    if spec.learn_ms <= 0:
        return []
    found: list[Symptom] = []
    full = normal.add(around.ns, signal.value or 0.0, spec.learn_ms * 1_000_000)
    if normal.resting and not sensor.stuck and spec.stuck_ms <= 0:
        sensor.stuck, sensor.stuck_by = True, "run"
        fact = Evidence(EvidenceCode.SENSOR_SAME_N, normal.run, normal.most_rest, f"{signal.value:g}"[:16])
        found.append(_symptom(SymptomKind.SENSOR_STUCK, signal.app, spec, around, fact, (normal.run - 1) * spec.every_ms))
    for name, said, value, limit in normal.judge() if full else ():
        kind = UNUSUAL[name]
        if said > 0 and not (kind is SymptomKind.SENSOR_STUCK and (spec.stuck_ms > 0 or sensor.stuck)) and not (name == "shift" and spec.step_max > 0):
            fresh = kind not in {UNUSUAL[n] for n in sensor.unusual}
            sensor.unusual.append(name)
            if fresh:
                fact = Evidence(EvidenceCode.SENSOR_UNUSUAL, round(value, 4), round(limit, 4), SAID[name])
                found.append(_symptom(kind, signal.app, spec, around, fact, 2 * 8 * spec.every_ms))
        elif said < 0 and name in sensor.unusual:
            sensor.unusual.remove(name)
            if kind not in {UNUSUAL[n] for n in sensor.unusual}:
                found.append(Symptom(kind, signal.app, spec.name, on=False))
    return found


def _apart(mem: dict[str, Sensor], sensor: Sensor, spec: MetricSpec, signal: Reading, around: Around) -> list[Symptom]:
    """Against the one beside it that measures the same."""
    other = mem.get(spec.sibling) if spec.sibling else None
    if other is None or other.value is None or other.default or other.missing or around.ns - other.seen_ns > 2 * spec.every_ms * 1_000_000:
        return []
    said = sensor.gap.add(around.ns, (signal.value or 0.0) - other.value, max(1, spec.learn_ms) * 1_000_000)
    if not said:
        return []
    if said < 0:
        return [Symptom(SymptomKind.SENSOR_DRIFT, signal.app, spec.name, on=False)]
    low, high = sensor.gap.band
    fact = Evidence(EvidenceCode.SENSOR_APART, round(sensor.gap.mean, 4), round(high if sensor.gap.mean > high else low, 4), spec.sibling[:24])
    return [_symptom(SymptomKind.SENSOR_DRIFT, signal.app, spec, around, fact, 0)]


def _symptom(kind: SymptomKind, app: str, spec: MetricSpec, around: Around, fact: Evidence, detect_ms: int) -> Symptom:
    channel = Channel.AGENT if spec.ours or not app else Channel.APP  # what an app tells it can forge
    if spec.ours and kind is SymptomKind.SENSOR_MISSING:
        channel = Channel.HARDWARE  # we asked the device itself, through the kernel
    return Symptom(kind, app, spec.name, channel=channel, evidence=(fact,), run=around.run, detect_ms=detect_ms)


def _range(sensor: Sensor, spec: MetricSpec, signal: Reading, around: Around) -> list[Symptom]:
    value = signal.value or 0.0
    low, high = spec.low, spec.high
    outside = (low is not None and value < low) or (high is not None and value > high)
    sensor.out, sensor.inside = (sensor.out + 1, 0) if outside else (0, sensor.inside + 1)
    if sensor.out >= AGREE and not sensor.ranged:
        sensor.ranged = True
        limit = low if low is not None and value < low else high
        fact = Evidence(EvidenceCode.SENSOR_VALUE, round(value, 4), round(limit or 0.0, 4), spec.unit)
        return [_symptom(SymptomKind.SENSOR_RANGE, signal.app, spec, around, fact, (AGREE - 1) * spec.every_ms)]
    if sensor.inside >= AGREE and sensor.ranged:
        sensor.ranged = False
        return [Symptom(SymptomKind.SENSOR_RANGE, signal.app, spec.name, on=False)]
    return []


def _same(sensor: Sensor, spec: MetricSpec, signal: Reading, around: Around) -> list[Symptom]:
    if signal.value != sensor.value or sensor.same == 0:
        sensor.same, sensor.same_ns = 1, around.ns
        if sensor.stuck:
            sensor.stuck, sensor.stuck_by = False, ""
            return [Symptom(SymptomKind.SENSOR_STUCK, signal.app, spec.name, on=False)]
        return []
    sensor.same += 1
    held_ms = (around.ns - sensor.same_ns) // 1_000_000
    if sensor.stuck or spec.stuck_ms <= 0 or held_ms < spec.stuck_ms or sensor.same < SAME_LEAST:
        return []
    sensor.stuck = True
    fact = Evidence(EvidenceCode.SENSOR_SAME_N, sensor.same, round(spec.stuck_ms / 1000, 3), f"{signal.value:g}"[:16])
    return [_symptom(SymptomKind.SENSOR_STUCK, signal.app, spec, around, fact, held_ms)]


def _jump(sensor: Sensor, spec: MetricSpec, signal: Reading, around: Around) -> list[Symptom]:
    """A level that is left and not come back to: a power of ten is a scale, more than the promised step a jump."""
    value = signal.value or 0.0
    ring = sensor.ring
    found: list[Symptom] = []
    level = sorted(ring)[len(ring) // 2] if ring else value
    power = _power(level, value) if len(ring) == RING and _settled(ring) else 0
    step = spec.step_max > 0 and len(ring) >= AGREE and abs(value - level) > spec.step_max
    if power or step:
        sensor.far += 1
        if sensor.far < AGREE:
            return found
        kind = SymptomKind.SENSOR_SCALE if power else SymptomKind.SENSOR_JUMP
        fact = (
            Evidence(EvidenceCode.POWER_OF_TEN, power, 0, spec.unit)
            if power
            else Evidence(EvidenceCode.SENSOR_VALUE, round(value, 4), round(level, 4), spec.unit)
        )
        sensor.far, sensor.before = 0, level
        sensor.ring = [value]
        if not sensor.jumped:
            sensor.jumped = int(kind)
            found.append(_symptom(kind, signal.app, spec, around, fact, (AGREE - 1) * spec.every_ms))
        return found
    sensor.far = 0
    ring.append(value)
    del ring[:-RING]
    back = _power(sensor.before, value) == 0 if sensor.jumped == SymptomKind.SENSOR_SCALE else len(ring) == RING  # else: the new level is the level
    if sensor.jumped and back:
        found.append(Symptom(SymptomKind(sensor.jumped), signal.app, spec.name, on=False))
        sensor.jumped = 0
    return found


def _settled(ring: list[float]) -> bool:
    low, high = min(ring), max(ring)
    return low > 0 and high <= SETTLED * low


def _power(level: float, value: float) -> int:
    """N when value is about level x 10^n, n not 0; else 0."""
    if level <= 0 or value <= 0:
        return 0
    exact = log10(value / level)
    near = round(exact)
    return near if near and abs(exact - near) < 0.05 else 0


def _silent_after_ns(sensor: Sensor | None, spec: MetricSpec, around: Around) -> int:
    """When silence becomes a symptom. The first reading of a run may take the start grace longer; where the app promises a
    heartbeat, that is heard first, so that a hang is not taken for a silent sensor.
    """
    period_ns = (SILENT_PERIODS * spec.every_ms + around.spec.heartbeat_ms) * 1_000_000
    if sensor is not None:
        period_ns = max(period_ns, round(LATE_FACTOR * sensor.late_ns))
    if sensor is not None and sensor.run == around.run and sensor.seen_ns:
        base = max(sensor.seen_ns, around.ready_ns)
    else:
        base = (around.ready_ns or around.started_ns) + round(around.policy.start_grace_s * NS)
    return max(base, around.still_ns) + period_ns


def due(mem: dict[str, Sensor], around: Around) -> int:
    """The first silence that becomes a symptom."""
    if not around.judged or not around.working:
        return 0
    waits = [
        _silent_after_ns(sensor, spec, around)
        for spec in around.spec.metrics
        if spec.every_ms > 0 and not ((sensor := mem.get(spec.name)) is not None and sensor.missing)
    ]
    return min(waits, default=0)


def tick(mem: dict[str, Sensor], app: str, around: Around) -> tuple[Symptom, ...]:
    """Promised readings that did not come."""
    if not around.judged or not around.working:
        return ()
    found = []
    for spec in around.spec.metrics:
        sensor = mem.get(spec.name)
        if spec.every_ms <= 0 or (sensor is not None and sensor.missing) or around.ns < _silent_after_ns(sensor, spec, around):
            continue
        if sensor is None:
            if len(mem) >= SENSORS_MOST:
                break
            sensor = mem[spec.name] = Sensor(around.run)
        sensor.missing = True
        since = max(sensor.seen_ns if sensor.run == around.run else 0, around.ready_ns or around.started_ns)
        silent_s = (around.ns - since) / NS
        fact = Evidence(EvidenceCode.SENSOR_SILENT_S, round(silent_s, 3), round(SILENT_PERIODS * spec.every_ms / 1000, 3))
        found.append(_symptom(SymptomKind.SENSOR_MISSING, app, spec, around, fact, round(silent_s * 1000)))
    return tuple(found)


def reset(mem: dict[str, Sensor]) -> None:
    """The run is over: what was wrong with a sensor still is, until a reading says better; counting starts anew."""
    for sensor in mem.values():
        sensor.out = sensor.inside = sensor.far = sensor.fast = 0


def forget(mem: dict[str, Sensor]) -> None:
    """Nobody wants the app to run: nothing is promised."""
    mem.clear()


def is_bad(sensor: Sensor) -> bool:
    """Whether it is missing, or what it reads is wrong."""
    return sensor.missing or sensor.stuck or sensor.ranged or sensor.default or sensor.too_fast or sensor.gap.on or bool(sensor.unusual)


def bad(mem: dict[str, Sensor]) -> int:
    """How many are so now."""
    return sum(1 for s in mem.values() if is_bad(s))
