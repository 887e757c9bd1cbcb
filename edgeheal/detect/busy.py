# SPDX-License-Identifier: Apache-2.0
"""Work that leads nowhere: an app that spins on a processor, and dead children that it does not reap.

Duty: judge the samples of a run. Healthy look-alikes: a busy app whose heartbeat, probe or reading comes (it does its work, and says so),
a burst shorter than `SPIN_S`, a warm-up, a heavy compile elsewhere on the host, a child that ended a moment ago.
Invariants: judged anew on each run; a busy app that promised no sign of life is not judged: what it does is its own affair, and a restart
amid honest work would be harm; unknown (-1) is no sample.
"""

from dataclasses import dataclass

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import Usage
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

SPIN_PERMILLE = 900  # of one core
CALM_PERMILLE = 600
SPIN_S = 30
ZOMBIES_MANY = 16
ZOMBIES_SHARE = 0.5  # of the tasks that it may have
ZOMBIES_S = 60


@dataclass(slots=True)
class Busy:
    """`spin_ns`, `dead_ns`: since when it spins, and its dead children are many, 0 = not so; whether that was told."""

    run: int = 0
    spin_ns: int = 0
    spins: bool = False
    dead_ns: int = 0
    dead: bool = False


def promises(around: Around) -> bool:
    """Whether the app promised a sign of life of its own that can fail to come."""
    return around.spec.heartbeat_ms > 0 or any(probe.means == "live" for probe in around.spec.probes)


def sampled(mem: Busy, signal: Usage, around: Around, *, progress: bool) -> tuple[Symptom, ...]:
    """One sample. `progress`: something shows that the app does its work."""
    if not around.up or (signal.run and around.run and signal.run != around.run):
        return ()
    if signal.run != mem.run:
        mem.run, mem.spin_ns, mem.dead_ns = signal.run, 0, 0
    return _spin(mem, signal, around, progress=progress) + _dead(mem, signal, around)


def _spin(mem: Busy, signal: Usage, around: Around, *, progress: bool) -> tuple[Symptom, ...]:
    if signal.every_ms <= 0 or signal.cpu_ms < 0:
        return ()
    share = signal.cpu_ms * 1000 // signal.every_ms
    if share < CALM_PERMILLE or progress or not promises(around):
        mem.spin_ns = 0
        was, mem.spins = mem.spins, False
        return (Symptom(SymptomKind.CPU_SPIN, signal.app, on=False),) if was else ()
    if share < SPIN_PERMILLE or around.ns < around.started_ns + around.grace_ns:
        return ()
    mem.spin_ns = mem.spin_ns or around.ns
    held_s = (around.ns - max(mem.spin_ns, around.still_ns)) / NS
    if mem.spins or held_s < SPIN_S:
        return ()
    mem.spins = True
    facts = (Evidence(EvidenceCode.CPU_PERMILLE, share, SPIN_PERMILLE), Evidence(EvidenceCode.RUN_SECONDS, round(held_s), SPIN_S))
    return (Symptom(SymptomKind.CPU_SPIN, signal.app, channel=Channel.KERNEL, evidence=facts, run=signal.run, detect_ms=round(held_s * 1000)),)


def _dead(mem: Busy, signal: Usage, around: Around) -> tuple[Symptom, ...]:
    if signal.zombies < 0:
        return ()
    many = min(ZOMBIES_MANY, max(1, round(ZOMBIES_SHARE * around.spec.tasks))) if around.spec.tasks > 0 else ZOMBIES_MANY
    if signal.zombies < many:
        mem.dead_ns = 0
        was, mem.dead = mem.dead, False
        return (Symptom(SymptomKind.ZOMBIES, signal.app, on=False),) if was else ()
    mem.dead_ns = mem.dead_ns or around.ns
    held_s = (around.ns - mem.dead_ns) / NS
    if mem.dead or held_s < ZOMBIES_S:
        return ()
    mem.dead = True
    fact = Evidence(EvidenceCode.THREADS, signal.zombies, many)
    return (Symptom(SymptomKind.ZOMBIES, signal.app, channel=Channel.KERNEL, evidence=(fact,), run=signal.run, detect_ms=round(held_s * 1000)),)


def reset(mem: Busy, app: str) -> tuple[Symptom, ...]:
    """The run is over."""
    off = [Symptom(kind, app, on=False) for kind, was in ((SymptomKind.CPU_SPIN, mem.spins), (SymptomKind.ZOMBIES, mem.dead)) if was]
    mem.spins = mem.dead = False
    mem.spin_ns = mem.dead_ns = mem.run = 0
    return tuple(off)
