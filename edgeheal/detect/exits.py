# SPDX-License-Identifier: Apache-2.0
"""Ends of runs, and crash loops.

Duty: an end that nobody ordered, a start that did not come about, a start that never gets ready. Told apart: signal, memory, code,
unknown status. Healthy look-alikes: an ordered stop, a code that means finished, an app nobody wants, a slow start inside its grace.
Invariant: an exit status that is not known stays unknown.
"""

from dataclasses import dataclass, field

from edgeheal.core import reasons
from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import AppExited, AppReady, StartFailed
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

ENDS_MOST = 64
OOM_NS = 5 * NS
SIGKILL = 9
HELD = frozenset(
    {reasons.HELD, reasons.REVOKED, reasons.BELOW_FLOOR, reasons.BLOCKED, reasons.BAD_SIGNATURE, reasons.UNDER_THRESHOLD, reasons.NO_SUCH_IMAGE, reasons.ROT}
)


@dataclass(slots=True)
class Ends:
    """`times`: mono ns of unordered ends; `code`, `signum` of the last (-1 = none or unknown); `oom_ns`: the kernel's word on memory."""

    times: list[int] = field(default_factory=list)
    code: int = -1
    signum: int = -1
    lived_ms: int = -1
    oom_ns: int = 0
    slow: bool = False
    looping: bool = False
    start_reason: int = 0
    start_errno: int = 0


def exited(mem: Ends, signal: AppExited, around: Around) -> tuple[Symptom, ...]:
    """An end is a symptom unless it was ordered, means finished, or nobody wants the app."""
    mem.code = -1 if signal.code is None else signal.code
    mem.signum = -1 if signal.signum is None else signal.signum
    mem.lived_ms = signal.lived_ms
    mem.slow = False
    if signal.ordered or signal.done or not around.wanted:
        return ()
    mem.times = [*[t for t in mem.times if t > around.ns - 86400 * NS][-(ENDS_MOST - 1) :], around.ns]
    oom = signal.oom or (mem.oom_ns and around.ns - mem.oom_ns < OOM_NS and mem.signum == SIGKILL)
    if oom:
        code, value, kind = EvidenceCode.OOM, 0, SymptomKind.OOM_KILL
    elif signal.signum is not None:
        code, value, kind = EvidenceCode.EXIT_SIGNAL, signal.signum, SymptomKind.EXIT
    elif signal.code is not None:
        code, value, kind = EvidenceCode.EXIT_CODE, signal.code, SymptomKind.EXIT
    else:
        code, value, kind = EvidenceCode.EXIT_UNKNOWN, 0, SymptomKind.EXIT
    facts = [Evidence(code, value), Evidence(EvidenceCode.RUN_SECONDS, round(max(0, signal.lived_ms) / 1000, 3))]
    detail = "oom" if oom else f"sig{mem.signum}" if mem.signum >= 0 else f"code{mem.code}" if mem.code >= 0 else ""
    channel = Channel.KERNEL if oom else Channel.GUARD
    first = Symptom(kind, signal.app, channel=channel, evidence=tuple(facts), run=signal.run, detail=detail, serious=True)
    return (first, *_loop(mem, signal, around))


def for_memory(mem: Ends, around: Around) -> bool:
    """The kernel says that it killed this app for memory: news of an end to come (False), or of the one that we have just heard of."""
    mem.oom_ns = around.ns
    return mem.signum == SIGKILL and bool(mem.times) and around.ns - mem.times[-1] < OOM_NS


def recent(mem: Ends, around: Around) -> int:
    """Unordered ends in the crash-loop window."""
    since = around.ns - round(around.limits.crash_loop_window_s * NS)
    return sum(1 for t in mem.times if t > since)


def _loop(mem: Ends, signal: AppExited, around: Around) -> tuple[Symptom, ...]:
    n = recent(mem, around)
    if n < max(2, around.limits.crash_loop_exits):
        return ()
    mem.looping = True
    fact = Evidence(EvidenceCode.EXITS_IN_WINDOW, n, around.limits.crash_loop_exits)
    return (Symptom(SymptomKind.CRASH_LOOP, signal.app, channel=Channel.GUARD, evidence=(fact,), run=signal.run, serious=True),)


def failed(mem: Ends, signal: StartFailed, around: Around) -> tuple[Symptom, ...]:
    """A start that did not come about; an image that may not run is held, which is another thing than failing."""
    mem.slow = False
    if not around.wanted or signal.reason in (reasons.ALREADY, reasons.PAUSED, reasons.BUSY, reasons.NO_SUCH_IMAGE):
        return ()  # no image yet is no failure: a config may come before its image
    mem.start_reason, mem.start_errno = signal.reason, signal.errno
    kind = SymptomKind.APP_HELD if signal.reason in HELD else SymptomKind.START_FAILED
    fact = Evidence(EvidenceCode.REASON, signal.reason, signal.errno)
    return (Symptom(kind, signal.app, channel=Channel.GUARD, evidence=(fact,), detail=f"r{signal.reason}e{signal.errno}", serious=True),)


def started(mem: Ends) -> None:
    """A new run: what the old one did is past."""
    mem.slow = False


def ready(mem: Ends, signal: AppReady) -> tuple[Symptom, ...]:
    """It is up: ends that were on are over, a slow start too."""
    off = [Symptom(k, signal.app, on=False) for k in (SymptomKind.EXIT, SymptomKind.OOM_KILL, SymptomKind.START_FAILED, SymptomKind.APP_HELD)]
    if mem.looping:
        mem.looping = False
        off.append(Symptom(SymptomKind.CRASH_LOOP, signal.app, on=False))
    if mem.slow:
        mem.slow = False
        off.append(Symptom(SymptomKind.START_SLOW, signal.app, on=False))
    return tuple(off)


def due(mem: Ends, around: Around) -> int:
    """When a start that is not ready becomes slow; 0 = none."""
    return 0 if mem.slow or not around.up or around.ready or not around.wanted else around.started_ns + around.grace_ns


def tick(mem: Ends, app: str, around: Around) -> tuple[Symptom, ...]:
    """A start that is not ready when its grace is over."""
    at = due(mem, around)
    if not at or around.ns < max(at, around.still_ns + around.grace_ns if around.still_ns > around.started_ns else 0):
        return ()
    mem.slow = True
    took_ms = (around.ns - around.started_ns) // 1_000_000
    fact = Evidence(EvidenceCode.START_MS, took_ms, around.grace_ns // 1_000_000)
    return (Symptom(SymptomKind.START_SLOW, app, channel=Channel.GUARD, evidence=(fact,), run=around.run, detect_ms=took_ms, serious=True),)
