# SPDX-License-Identifier: Apache-2.0
"""The box's figures: disk, inodes, memory, pressure, temperature, supply, wear, clock - each a row with hysteresis and a hold.

Duty: from samples to conditions with a beginning and an end. Healthy look-alikes: a figure that hovers at its limit (hysteresis), a
short peak (hold), one that cannot be read (unknown is no figure), a clock that is set for the first time (only a clock that was trusted
can jump), one that nobody has set yet.
Invariant: a condition ends by a sample that says so, never by silence.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite

from edgeheal.core import host_metrics as names
from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind, Verdict
from edgeheal.core.now import NS
from edgeheal.core.policy import Thresholds
from edgeheal.core.signal import HostSample
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

CONDITIONS_MOST = 64
PRESSED_PERMILLE = 400.0
LOADED_PERMILLE = 3_000.0
STEP_TOLD_S = 30.0  # a jump of a trusted clock by less is left to the labels

Limit = Callable[[Thresholds, HostSample], float]


@dataclass(frozen=True, slots=True)
class Row:
    """`above`: bad above the limit, else below. `clear` x limit is where it is good again. `hold` samples in a row. `grave`: the box is at risk.

    `word`: said with the evidence where the metric has no subject of its own.
    """

    kind: SymptomKind
    evidence: EvidenceCode
    limit: Limit
    above: bool = True
    clear: float = 0.9
    hold: int = 1
    grave: Limit | None = None
    word: str = ""


E, S = EvidenceCode, SymptomKind
ROWS: dict[str, Row] = {
    names.DISK_FREE: Row(S.DISK_SPACE, E.DISK_FREE_PERMILLE, lambda t, _: t.disk_low_permille, above=False, clear=1.2, grave=lambda t, _: t.disk_critical_permille),
    names.DISK_INODES: Row(S.DISK_INODES, E.DISK_FREE_PERMILLE, lambda t, _: t.disk_low_permille, above=False, clear=1.2, grave=lambda t, _: t.disk_critical_permille),
    names.DISK_READONLY: Row(S.DISK_READONLY, E.REASON, lambda _t, _: 0.5, clear=1.0, grave=lambda _t, _: 0.5),
    names.MOUNT_SILENT: Row(S.MOUNT_HANG, E.LINK_DOWN_S, lambda _t, _: 0.5, clear=1.0),
    names.MEMORY_FREE: Row(S.HOST_MEMORY, E.HOST_MEMORY_PERMILLE, lambda t, _: t.memory_low_permille, above=False, clear=1.25, hold=3, grave=lambda t, _: t.memory_low_permille / 3),
    names.STALL_IO: Row(S.HOST_PRESSURE, E.HOST_PRESSURE_PERMILLE, lambda _t, _: 600.0, clear=0.5, hold=6),
    names.STALL_MEMORY: Row(S.HOST_PRESSURE, E.HOST_PRESSURE_PERMILLE, lambda _t, _: 400.0, clear=0.5, hold=6),
    names.HOST_FDS: Row(S.HOST_FDS, E.DESCRIPTORS, lambda _t, _: 900.0, hold=2),
    names.HOST_PIDS: Row(S.HOST_PIDS, E.THREADS, lambda _t, _: 900.0, hold=2),
    names.TEMPERATURE: Row(S.TEMPERATURE, E.TEMPERATURE_C, lambda t, s: min(s.limit, t.temperature_c) if s.limit > 0 else t.temperature_c, clear=0.95, hold=2),
    names.THROTTLED: Row(S.TEMPERATURE, E.REASON, lambda _t, _: 0.5, clear=1.0, hold=3, word="throttled"),
    names.UNDERVOLTAGE: Row(S.UNDERVOLTAGE, E.UNDERVOLTAGE_MS, lambda _t, _: 0.5, clear=1.0),
    names.FLASH_WEAR: Row(S.FLASH_WEAR, E.REASON, lambda _t, _: 900.0, clear=1.0),
}  # fmt: skip


@dataclass(slots=True)
class Host:
    """`held`: metric -> samples in a row beyond its limit; `on`: metric -> when it began; `grave`: those at the second limit.

    `left_kib`: memory that the box has left, 0 = not known.
    """

    held: dict[str, int] = field(default_factory=dict)
    on: dict[str, int] = field(default_factory=dict)
    grave: list[str] = field(default_factory=list)
    pressure: dict[str, float] = field(default_factory=dict)
    trusted: bool = False
    stepped_ns: int = 0
    stepped_s: float = 0.0
    untrusted_ns: int = 0
    untrusted: bool = False
    left_kib: float = 0.0


def pressed(mem: Host) -> bool:
    """Whether the host is under so much pressure that late says little."""
    return any(value >= (LOADED_PERMILLE if name == names.LOAD else PRESSED_PERMILLE) for name, value in mem.pressure.items())


def sampled(mem: Host, signal: HostSample, around: Around) -> tuple[Symptom, ...]:
    """One figure."""
    name, subject = names.split(signal.metric)
    if signal.verdict == Verdict.UNKNOWN or not isfinite(signal.value):
        return ()
    if name in (names.PRESSURE_CPU, names.PRESSURE_IO, names.PRESSURE_MEMORY, names.LOAD):
        mem.pressure[name] = signal.value
        return ()
    if name == names.CLOCK_TRUSTED:
        return _trust(mem, around, trusted=signal.value > 0)
    if name == names.CLOCK_STEP:
        return _stepped(mem, signal.value, around)
    if name == names.MEMORY_FREE and signal.limit > 0:
        mem.left_kib = signal.value * signal.limit / 1_000
    row = ROWS.get(name)
    if row is None:
        return ()
    return _row(mem, row, subject, signal, around)


def _trust(mem: Host, around: Around, *, trusted: bool) -> tuple[Symptom, ...]:
    mem.trusted = trusted
    if not trusted:
        mem.untrusted_ns = mem.untrusted_ns or around.ns
        return ()
    was, mem.untrusted, mem.untrusted_ns = mem.untrusted, False, 0
    return (Symptom(S.CLOCK_UNTRUSTED, on=False, channel=Channel.KERNEL),) if was else ()


def _stepped(mem: Host, step_s: float, around: Around) -> tuple[Symptom, ...]:
    """A jump. Nothing that is decided depends on it; a trusted clock that jumps is told."""
    mem.stepped_ns, mem.stepped_s = around.ns, step_s
    if not mem.trusted or abs(step_s) < STEP_TOLD_S:
        return ()
    return (Symptom(S.CLOCK_STEP, channel=Channel.KERNEL, evidence=(Evidence(E.CLOCK_STEP_S, round(step_s, 1), STEP_TOLD_S),)),)


def due(mem: Host, around: Around) -> int:
    """When a clock that nobody sets is told; 0 = no need."""
    return mem.untrusted_ns + round(around.limits.clock_untrusted_s * NS) if mem.untrusted_ns and not mem.untrusted else 0


def tick(mem: Host, around: Around) -> tuple[Symptom, ...]:
    """Nobody has set the clock for long."""
    at = due(mem, around)
    if not at or around.ns < at:
        return ()
    mem.untrusted = True
    took_s = (around.ns - mem.untrusted_ns) / NS
    fact = Evidence(E.REASON, round(took_s), around.limits.clock_untrusted_s, "nobody has set the clock")
    return (Symptom(S.CLOCK_UNTRUSTED, channel=Channel.KERNEL, evidence=(fact,), detect_ms=round(took_s * 1000)),)


def _row(mem: Host, row: Row, subject: str, signal: HostSample, around: Around) -> tuple[Symptom, ...]:
    metric, value, limit = signal.metric, signal.value, row.limit(around.limits, signal)
    beyond = value > limit if row.above else value < limit
    if metric in mem.on:
        return _on(mem, row, subject, signal, around, limit)
    mem.held[metric] = mem.held.get(metric, 0) + 1 if beyond else 0
    if mem.held[metric] < row.hold:
        if len(mem.held) > CONDITIONS_MOST:
            del mem.held[next(iter(mem.held))]
        return ()
    mem.on[metric] = around.ns
    return (_symptom(mem, row, subject, signal, around, limit),)


def _on(mem: Host, row: Row, subject: str, signal: HostSample, around: Around, limit: float) -> tuple[Symptom, ...]:
    value, metric = signal.value, signal.metric
    over = value <= limit * row.clear if row.above else value >= limit * row.clear
    if over:
        del mem.on[metric]
        mem.held[metric] = 0
        if metric in mem.grave:
            mem.grave.remove(metric)
        if any(ROWS[names.split(m)[0]].kind is row.kind and names.split(m)[1] == subject for m in mem.on):
            return ()
        return (Symptom(row.kind, "", subject, on=False, channel=Channel.KERNEL),)
    if row.grave is not None and metric not in mem.grave and _is_grave(row, value, around, signal):
        return (_symptom(mem, row, subject, signal, around, limit),)
    return ()


def _is_grave(row: Row, value: float, around: Around, signal: HostSample) -> bool:
    if row.grave is None:
        return False
    limit = row.grave(around.limits, signal)
    return value > limit if row.above else value < limit


def _symptom(mem: Host, row: Row, subject: str, signal: HostSample, around: Around, limit: float) -> Symptom:
    grave = _is_grave(row, signal.value, around, signal)
    if grave and signal.metric not in mem.grave:
        mem.grave.append(signal.metric)
    fact = Evidence(row.evidence, round(signal.value, 3), round(limit, 3), subject or row.word)
    channel = Channel.HARDWARE if row.kind in (S.UNDERVOLTAGE, S.TEMPERATURE, S.FLASH_WEAR) else Channel.KERNEL
    return Symptom(row.kind, "", subject, channel=channel, evidence=(fact,), serious=grave)
