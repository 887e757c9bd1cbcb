# SPDX-License-Identifier: Apache-2.0
"""A hard limit that is broken, and stays broken: memory over the manifest's limit, descriptors and tasks at theirs.

Duty: say it before the kernel kills. Healthy look-alike: a peak shorter than the samples that must agree.
Invariants: judged anew on each run, never by an edge of an older one; how fast it got there is kept as evidence (refill).
"""

from dataclasses import dataclass

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import Usage
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

HELD = 3  # samples over the limit, in a row
FULL = 0.95  # of the descriptors it may have
CALM = 0.9


@dataclass(slots=True)
class Limits:
    """Samples in a row over the limit; whether it was told."""

    run: int = 0
    memory: int = 0
    fds: int = 0
    memory_on: bool = False
    fds_on: bool = False
    tasks: int = 0
    tasks_on: int = 0  # the symptom that was told, 0 = none


def sampled(mem: Limits, signal: Usage, around: Around) -> tuple[Symptom, ...]:
    """One sample."""
    if not around.up or (signal.run and around.run and signal.run != around.run):
        return ()
    if signal.run != mem.run:
        mem.run, mem.memory, mem.fds, mem.tasks = signal.run, 0, 0, 0
    found: list[Symptom] = []
    limit = around.spec.memory_kib or signal.limit_kib
    if signal.memory_kib >= 0 and limit > 0:
        mem.memory = mem.memory + 1 if signal.memory_kib > limit else 0 if signal.memory_kib < CALM * limit else mem.memory
        if mem.memory >= HELD and not mem.memory_on:
            mem.memory_on = True
            found.append(_symptom(SymptomKind.MEMORY_LIMIT, EvidenceCode.MEMORY_KIB, signal.memory_kib, limit, signal, around))
        elif mem.memory == 0 and mem.memory_on:
            mem.memory_on = False
            found.append(Symptom(SymptomKind.MEMORY_LIMIT, signal.app, on=False))
    if signal.fds >= 0 and signal.fds_limit > 0:
        mem.fds = mem.fds + 1 if signal.fds >= FULL * signal.fds_limit else 0
        if mem.fds >= HELD and not mem.fds_on:
            mem.fds_on = True
            found.append(_symptom(SymptomKind.FD_GROWTH, EvidenceCode.DESCRIPTORS, signal.fds, signal.fds_limit, signal, around))
        elif mem.fds == 0 and mem.fds_on:
            mem.fds_on = False
            found.append(Symptom(SymptomKind.FD_GROWTH, signal.app, on=False))
    return (*found, *_tasks(mem, signal, around))


def _tasks(mem: Limits, signal: Usage, around: Around) -> tuple[Symptom, ...]:
    """All the processes and threads that it may have: children where most of them are."""
    most = around.spec.tasks
    if signal.threads < 0 or most <= 0:
        return ()
    mem.tasks = mem.tasks + 1 if signal.threads >= FULL * most else 0
    if mem.tasks >= HELD and not mem.tasks_on:
        kind = SymptomKind.CHILD_GROWTH if 2 * signal.children > signal.threads else SymptomKind.THREAD_GROWTH
        mem.tasks_on = int(kind)
        return (_symptom(kind, EvidenceCode.THREADS, signal.threads, most, signal, around),)
    if mem.tasks == 0 and mem.tasks_on:
        kind, mem.tasks_on = SymptomKind(mem.tasks_on), 0
        return (Symptom(kind, signal.app, on=False),)
    return ()


def _symptom(kind: SymptomKind, code: EvidenceCode, value: int, limit: int, signal: Usage, around: Around) -> Symptom:
    since = around.started_ns or around.ns
    facts = (Evidence(code, value, limit), Evidence(EvidenceCode.REFILL_S, round((around.ns - since) / NS, 1)))
    return Symptom(kind, signal.app, channel=Channel.KERNEL, evidence=facts, run=signal.run, detect_ms=HELD * max(0, signal.every_ms))


def reset(mem: Limits, app: str) -> tuple[Symptom, ...]:
    """The run is over."""
    off = []
    if mem.memory_on:
        off.append(Symptom(SymptomKind.MEMORY_LIMIT, app, on=False))
    if mem.fds_on:
        off.append(Symptom(SymptomKind.FD_GROWTH, app, on=False))
    if mem.tasks_on:
        off.append(Symptom(SymptomKind(mem.tasks_on), app, on=False))
    mem.memory_on = mem.fds_on = False
    mem.memory = mem.fds = mem.tasks = mem.tasks_on = 0
    return tuple(off)
