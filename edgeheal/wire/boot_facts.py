# SPDX-License-Identifier: Apache-2.0
"""The guard's witnesses of a boot, as facts and as the signal: frames in, values out.

Duty: translate rows of WHY. The weighing is `detect.reset`'s. Invariants: rows of an unknown witness are passed over (an older agent meets a newer guard);
texts are escaped before anybody sees them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from edgeheal.core.mask import escaped
from edgeheal.core.signal import Booted
from edgeheal.detect.reset import CARDRESET, REASONS, Crash, Dog, Facts, Source, Verdict, judge
from edgeheal.wire import guard_frames as f
from edgeheal.wire.guard_event import Event

TEXT_MOST = 80


@dataclass(frozen=True, slots=True)
class Boot:
    """This boot: its id and number, the facts, unplanned boots lately, answers given to a loop (L_*), a suspect app, a system's trial (attempt, of, ordered).

    `watchdog_s`: the shortest time-out of the watchdogs that the guard feeds, as read back; 0: it feeds none.
    """

    id: str = ""
    count: int = 0
    facts: Facts = field(default_factory=Facts)
    unplanned: int = 0
    answers: int = 0
    suspect: str = ""
    trial: tuple[int, int, int] = (0, 0, 0)
    watchdog_s: int = 0


def of_rows(rows: Iterable[bytes], *, torn: bool = False) -> Boot:
    """What the rows of WHY say."""
    boot = Boot()
    facts = Facts(torn=torn)
    for row in rows:
        if len(row) != f.EVENT.size:
            continue
        one = Event(row)
        if one.kind != f.EV_BOOT:
            continue
        text = escaped(one.say, TEXT_MOST)
        match one.code:
            case f.W_COUNT:
                boot = replace(boot, id=text, count=one.a, unplanned=one.b, answers=one.c)
            case f.W_SUSPECT:
                boot = replace(boot, suspect=one.app)
            case f.W_TRIAL:
                boot = replace(boot, trial=(one.a, one.b, one.c))
            case _:
                if one.code == f.W_DOG and one.c:
                    boot = replace(boot, watchdog_s=min(boot.watchdog_s or one.c, one.c))
                facts = _fact(facts, one, text)
    return replace(boot, facts=facts)


def _fact(facts: Facts, one: Event, text: str) -> Facts:
    match one.code:
        case f.W_ORDER:
            return replace(facts, order=(one.a, one.b))
        case f.W_END:
            return replace(facts, end=one.a)
        case f.W_CRASH:
            return replace(facts, crashes=(*facts.crashes, Crash(one.a, text, one.b)))
        case f.W_DOG:
            status = -1 if one.b & f.D_UNKNOWN else one.a
            tells = bool(one.b & f.D_TELLS or (status > 0 and status & CARDRESET))
            dog = Dog(text, status, tells=tells, lies=bool(one.b & f.D_LIES), armed=bool(one.b & f.D_ARMED))
            return replace(facts, dogs=(*facts.dogs, dog))
        case f.W_SOURCE:
            name, _, value = text.partition(" ")
            means = tuple(reason for bit, reason in enumerate(REASONS) if one.a >> bit & 1)
            return replace(facts, sources=(*facts.sources, Source(name, value, means)))
        case f.W_OFF:
            return replace(facts, off_s=one.a)
        case f.W_FIRST:
            return replace(facts, first=True)
    return facts


def signal(boot: Boot) -> Booted:
    """The one signal of a boot."""
    verdict = judge(boot.facts)
    order = boot.facts.order
    crash = next((c.fingerprint for c in boot.facts.crashes if c.fingerprint), 0)
    return Booted(
        boot.id, boot.count, _reasons(verdict), str(order[1]) if order is not None and verdict.planned else "", verdict.planned, verdict.text, verdict.seen,
        boot.unplanned, boot.answers, boot.suspect, f"{crash:016x}" if crash else "",
    )  # fmt: skip


def _reasons(verdict: Verdict) -> tuple[tuple[str, int], ...]:
    """The verdict first: an unknown one stands above the candidates that it could not choose among."""
    if verdict.reason != "unknown":
        return verdict.weighed
    return (("unknown", 1_000), *verdict.weighed)
