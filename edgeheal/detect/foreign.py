# SPDX-License-Identifier: Apache-2.0
"""Somebody else's restarts: counted whatever their cause, told once they cost the app its availability.

Duty: starts by a foreign hand and ends by a signal that a hand sends, in a window, with the share of time it served.
Healthy look-alikes: our own restarts, a person's at our door, an update. Invariant: they spend no budget and call for no remedy.
Source of the case: an app restarted from outside in a loop, where only crashes were counted.
"""

from dataclasses import dataclass, field

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

TIMES_MOST = 64
STOPS = frozenset({15, 2, 1, 3})  # TERM, INT, HUP, QUIT: what a hand sends


@dataclass(slots=True)
class Foreign:
    """`times`: mono ns of restarts by a foreign hand; `downs`: [from, to] while it did not serve, `to` 0 = still; `who` knew last, at `who_ns`."""

    times: list[int] = field(default_factory=list)
    downs: list[list[int]] = field(default_factory=list)
    who: str = ""
    on: bool = False
    who_ns: int = 0


def down(mem: Foreign, around: Around) -> None:
    """It serves no longer."""
    if not mem.downs or mem.downs[-1][1]:
        mem.downs = [*mem.downs[-(TIMES_MOST - 1) :], [around.ns, 0]]


def up(mem: Foreign, around: Around) -> None:
    """It serves again."""
    if mem.downs and not mem.downs[-1][1]:
        mem.downs[-1][1] = around.ns


def availability(mem: Foreign, around: Around) -> float:
    """Share of the window in which it served, 0..1."""
    window_ns = round(around.limits.foreign_window_s * NS)
    since = around.ns - window_ns
    gone = sum(max(0, (end or around.ns) - max(start, since)) for start, end in mem.downs)
    return max(0.0, 1.0 - gone / window_ns)


def restarted(mem: Foreign, app: str, who: str, around: Around) -> tuple[Symptom, ...]:
    """One more restart by somebody else."""
    window_ns = round(around.limits.foreign_window_s * NS)
    mem.times = [*[t for t in mem.times if t > around.ns - window_ns][-(TIMES_MOST - 1) :], around.ns]
    mem.who = who or mem.who
    mem.who_ns = around.ns if who else mem.who_ns
    if mem.on or len(mem.times) < max(2, around.limits.foreign_restarts):
        return ()
    mem.on = True
    facts = (
        Evidence(EvidenceCode.STARTS_FOREIGN, len(mem.times), around.limits.foreign_restarts, mem.who[:40]),
        Evidence(EvidenceCode.AVAILABILITY_PERMILLE, round(availability(mem, around) * 1000)),
    )
    took_ms = (around.ns - mem.times[0]) // 1_000_000
    return (Symptom(SymptomKind.FOREIGN_RESTARTS, app, mem.who[:40], channel=Channel.GUARD, evidence=facts, detect_ms=took_ms),)


def due(mem: Foreign, around: Around) -> int:
    """When the window is free of foreign restarts."""
    return mem.times[-1] + round(around.limits.foreign_window_s * NS) if mem.on and mem.times else 0


def tick(mem: Foreign, app: str, around: Around) -> tuple[Symptom, ...]:
    """Nobody did it any more for a whole window."""
    at = due(mem, around)
    if not at or around.ns < at:
        return ()
    mem.on = False
    mem.times.clear()
    return (Symptom(SymptomKind.FOREIGN_RESTARTS, app, mem.who[:40], on=False),)
