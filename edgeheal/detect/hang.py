# SPDX-License-Identifier: Apache-2.0
"""Hangs: a heartbeat that the app promised and does not send.

Duty: judge the guard's "late" with what the guard does not know. Healthy look-alikes: the whole box stood still (everybody's heartbeat
is late at once), the host is under pressure (the deadline is stretched, a bounded number of times), a run that ended meanwhile.
Invariants: a late run that the guard ended by standing order did hang: it is told, though it is over; after a standstill silence counts from its end, one full period again; `WATCHDOG=trigger` is the app's own word, at once.
"""

from dataclasses import dataclass

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import By, Channel, EvidenceCode, SymptomKind
from edgeheal.core.signal import AppExited, HeartbeatBack, HeartbeatMissed
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around


@dataclass(slots=True)
class Beat:
    """`due_ns`: a late heartbeat is judged then (0 = none is late); `stretched`: how often pressure put that off; `on`: it hangs."""

    run: int = 0
    due_ns: int = 0
    late_ms: int = 0
    stretched: int = 0
    on: bool = False
    told: bool = False


def missed(mem: Beat, signal: HeartbeatMissed, around: Around) -> tuple[Symptom, ...]:
    """Late: hang now, or later if there is a reason to wait."""
    if not around.up or not around.wanted or (signal.run and around.run and signal.run != around.run):
        return ()
    mem.run, mem.late_ms = signal.run, signal.late_ms
    period_ns = max(1, around.spec.heartbeat_ms) * 1_000_000
    if signal.trigger:
        return _hangs(mem, signal.app, around, Channel.APP)
    if around.still_ns and around.ns - around.still_ns < period_ns:
        mem.due_ns = around.still_ns + period_ns
        return ()
    if _stretch(mem, period_ns, around):
        return ()
    return _hangs(mem, signal.app, around, Channel.GUARD)


def _stretch(mem: Beat, period_ns: int, around: Around) -> bool:
    if not around.pressed or mem.stretched >= around.policy.pressure_extensions:
        return False
    mem.stretched += 1
    mem.due_ns = around.ns + period_ns
    return True


def _hangs(mem: Beat, app: str, around: Around, channel: Channel) -> tuple[Symptom, ...]:
    mem.due_ns = 0
    if mem.on:
        return ()
    mem.on = mem.told = True
    fact = Evidence(EvidenceCode.HEARTBEAT_LATE_MS, mem.late_ms, around.spec.heartbeat_ms)
    return (Symptom(SymptomKind.HANG, app, channel=channel, evidence=(fact,), run=mem.run, detect_ms=mem.late_ms, serious=True),)


def ended(mem: Beat, signal: AppExited, around: Around) -> tuple[Symptom, ...]:
    """A run ended. If it was late and we still waited, while the guard did not (no agent was there to decide): it hung."""
    if signal.by != By.STANDING_ORDER or not mem.due_ns or signal.run != mem.run or not around.wanted:
        return ()
    return _hangs(mem, signal.app, around, Channel.GUARD)


def back(mem: Beat, signal: HeartbeatBack) -> tuple[Symptom, ...]:
    """The heartbeat is back."""
    return reset(mem, signal.app)


def reset(mem: Beat, app: str) -> tuple[Symptom, ...]:
    """Nothing is late (it is back, or the run is over)."""
    was = mem.on
    mem.due_ns = mem.stretched = 0
    mem.on = False
    return (Symptom(SymptomKind.HANG, app, on=False),) if was else ()


def due(mem: Beat) -> int:
    """When a late heartbeat is judged again."""
    return mem.due_ns


def tick(mem: Beat, app: str, around: Around) -> tuple[Symptom, ...]:
    """Still late after the wait."""
    if not mem.due_ns or around.ns < mem.due_ns:
        return ()
    period_ns = max(1, around.spec.heartbeat_ms) * 1_000_000
    mem.late_ms += period_ns // 1_000_000
    if around.up and around.wanted and not _stretch(mem, period_ns, around):
        return _hangs(mem, app, around, Channel.GUARD)
    return ()
