# SPDX-License-Identifier: Apache-2.0
"""Why did we boot: many witnesses, each with its weight, and one careful verdict.

Duty: from what was seen at the start of a boot to weighed reasons. Not its duty: to look (the guard does, once a boot), or to act on it (`detect.boot`).
Invariants: the same facts give the same verdict; a missing witness only lowers the confidence; two strong witnesses that contradict each other give
`unknown`, with both named, never a guess; a verdict needs `ENOUGH`, and to stand clear of the next one.
Source: field case fc-dog-2; linux/watchdog.h for the bits of a watchdog's boot status.

The figures are in permille and add up. What happened first explains what followed: a panic explains the watchdog that ended it, an order to power off
explains the lack of power.
"""

from dataclasses import dataclass

ORDERED, POWER, BROWN, DOG, PANIC, THERMAL, UNKNOWN = "ordered", "power loss", "brown-out", "watchdog", "panic", "thermal", "unknown"
REASONS = (ORDERED, POWER, BROWN, DOG, PANIC, THERMAL)  # bit i of a source's meaning; config words have "-" for " "
ENOUGH = 600
CLEAR = 1.8
SEEN_MOST = 8
OFF_LEAST_S = 300  # shorter gaps of the box's own clock say nothing

# what a watchdog's boot status says (linux/watchdog.h)
OVERHEAT, FANFAULT, POWERUNDER, CARDRESET = 0x01, 0x02, 0x10, 0x20
# how the boot before ended, as the guard kept it
END_RUNNING, END_GUARD, END_REBOOT, END_OFF, END_UNREADABLE, END_DOWN = range(6)
# what a record in pstore tells
P_PANIC, P_OOPS, P_PRETIMEOUT, P_THERMAL, P_ORDER, P_SYSRQ = range(6)


@dataclass(frozen=True, slots=True)
class Crash:
    """A record that the dying kernel left: `kind` P_*, its headline, a fingerprint of its frames (0: none)."""

    kind: int
    says: str = ""
    fingerprint: int = 0


@dataclass(frozen=True, slots=True)
class Dog:
    """A watchdog's boot status. `tells`: its driver reports resets; `lies`: it said so, too, after a reset that was surely another; `armed` before."""

    name: str
    status: int
    tells: bool = False
    lies: bool = False
    armed: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A register or file that the config names: what it held, and what that means (several reasons: it cannot tell them apart)."""

    name: str
    value: str
    means: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen. `order` (kind, id) of a reboot (0) or power-off (1, 2) that we had ordered in the boot before; `end` END_*.

    `off_s`: how long the box was off by its own clock (-1: not known). `torn`: our journal ends in the middle of a record. `first`: no boot before is known.
    """

    order: tuple[int, int] | None = None
    end: int = END_RUNNING
    crashes: tuple[Crash, ...] = ()
    dogs: tuple[Dog, ...] = ()
    sources: tuple[Source, ...] = ()
    off_s: int = -1
    torn: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reason, or `unknown`; what it was chosen among (the strongest first); what was seen; whether nothing of it was unplanned."""

    reason: str
    weighed: tuple[tuple[str, int], ...] = ()
    seen: tuple[str, ...] = ()
    planned: bool = False
    detail: str = ""

    @property
    def text(self) -> str:
        """For people: `power loss`, `ordered reboot`, `unknown (watchdog or ordered?)`."""
        if self.reason != UNKNOWN:
            return self.detail or self.reason
        names = [name for name, weight in self.weighed[:2] if weight > 0 and name != UNKNOWN]
        if self.detail:
            return f"{UNKNOWN} ({self.detail})"
        return f"{UNKNOWN} ({' or '.join(names)}?)" if names else UNKNOWN


class _Scale:
    """Weights and the words that go with them."""

    def __init__(self) -> None:
        self.weights: dict[str, int] = {}
        self.seen: dict[str, set[str]] = {}  # what was seen -> for which reasons it speaks

    def add(self, reason: str, weight: int, says: str = "") -> None:
        self.weights[reason] = max(0, min(1_000, self.weights.get(reason, 0) + weight))
        self.say(says, reason)

    def say(self, says: str, reason: str = "") -> None:
        if says:
            self.seen.setdefault(says, set()).add(reason)

    def telling(self, reason: str) -> tuple[str, ...]:
        """What was seen, that which speaks for this reason first."""
        return tuple(sorted(self.seen, key=lambda says: reason not in self.seen[says])[:SEEN_MOST])


def judge(facts: Facts) -> Verdict:
    """Weigh everything."""
    scale = _Scale()
    _order(scale, facts)
    for crash in facts.crashes:
        _crash(scale, crash)
    for dog in facts.dogs:
        _dog(scale, dog, facts)
    for source in facts.sources:
        _source(scale, source, facts)
    if facts.off_s >= OFF_LEAST_S:
        scale.add(POWER, 700, f"the box was off for {facts.off_s} s")
    if facts.torn:
        scale.add(POWER, 500, "the journal ends in the middle of a record")
    _explain(scale, facts)
    weighed = tuple(sorted(((r, w) for r, w in scale.weights.items() if w > 0), key=lambda one: (-one[1], one[0])))
    first = weighed[0] if weighed else (UNKNOWN, 0)
    next_ = weighed[1][1] if len(weighed) > 1 else 0
    sure = first[1] >= ENOUGH and first[1] >= next_ * CLEAR
    reason = first[0] if sure else UNKNOWN
    seen = scale.telling(first[0])
    if facts.first and reason == UNKNOWN:
        return Verdict(UNKNOWN, weighed, (*seen, "no boot before this one is known"), planned=True, detail="first boot seen")
    planned = reason == ORDERED or (facts.first and reason == POWER) or (reason == UNKNOWN and bool(weighed) and weighed[0][0] == ORDERED and next_ == 0)
    return Verdict(reason, weighed, seen, planned, _detail(facts) if reason == ORDERED else "")


def _detail(facts: Facts) -> str:
    """What exactly was ordered, as far as that is known."""
    if facts.order is not None:
        return "ordered reboot" if facts.order[0] == 0 else "ordered power-off"
    return {END_REBOOT: "ordered reboot", END_OFF: "ordered power-off"}.get(facts.end, ORDERED)


def _order(scale: _Scale, facts: Facts) -> None:
    """Our own order, and how the boot before ended."""
    if facts.order is not None:
        kind, number = facts.order
        scale.add(ORDERED, 650, f"{'reboot' if kind == 0 else 'power-off'} {number} was ordered here")
    if facts.end == END_GUARD:
        scale.add(ORDERED, 300, "the guard had ended in order, nobody saw what the system did then")
    elif facts.end in (END_REBOOT, END_OFF, END_DOWN):
        scale.add(ORDERED, 350 if facts.order is not None else 750, "the system was shut down in order")
    elif facts.end == END_UNREADABLE:
        scale.say("the record of the boot before is damaged")
    elif not facts.first and facts.order is None:
        scale.add(POWER, 300, "nothing had ended in order")


# a record of the kernel -> for what it speaks, and how strongly. A hand at the keyboard (sysrq) is an order: nothing else will say so
_CRASH = {P_PANIC: (PANIC, 900), P_OOPS: (PANIC, 300), P_PRETIMEOUT: (DOG, 900), P_THERMAL: (THERMAL, 900), P_ORDER: (ORDERED, 400), P_SYSRQ: (ORDERED, 700)}


def _crash(scale: _Scale, crash: Crash) -> None:
    reason, weight = _CRASH.get(crash.kind, (UNKNOWN, 0))
    scale.add(reason, weight, f"kernel: {crash.says}")


def _dog(scale: _Scale, dog: Dog, facts: Facts) -> None:
    if dog.status < 0:
        return
    if dog.status & CARDRESET:
        weight = 100 if dog.lies else 700
        scale.add(DOG, weight, f"{dog.name} says that it reset the box" + (" (it says so after ordered reboots, too)" if dog.lies else ""))
    elif dog.armed and not dog.tells and facts.order is None and facts.end == END_RUNNING:
        scale.add(DOG, 300, f"{dog.name} was armed, and never tells whether it bit")
    elif dog.tells:
        scale.say(f"{dog.name} says that it did not reset the box")
    if dog.status & POWERUNDER:
        scale.add(BROWN, 700, f"{dog.name} says that the voltage was low")
    if dog.status & (OVERHEAT | FANFAULT):
        scale.add(THERMAL, 650, f"{dog.name} says that it was too hot")


def _source(scale: _Scale, source: Source, facts: Facts) -> None:
    """One reason: strong. Several: each half, but an order of which nobody knows is none, and a dog that nobody had armed did not bite."""
    means = source.means
    if len(means) > 1:
        known = facts.order is not None or facts.end in (END_GUARD, END_REBOOT, END_OFF, END_DOWN)
        armed = any(dog.armed for dog in facts.dogs)
        left = tuple(m for m in means if not (m == ORDERED and not known and armed and not facts.first))
        means = left or means
    says = f"{source.name} says {source.value}" + (f" ({' or '.join(source.means)})" if source.means else "")
    scale.say(says)
    for reason in means:
        scale.add(reason, 750 if len(means) == 1 else 400, says)


def _explain(scale: _Scale, facts: Facts) -> None:
    """What came first explains what followed."""
    weights = scale.weights
    if weights.get(PANIC, 0) >= ENOUGH:
        for reason in (DOG, POWER):
            weights.pop(reason, None)
    if any(c.kind == P_PRETIMEOUT for c in facts.crashes):
        weights.pop(POWER, None)
    if weights.get(THERMAL, 0) >= ENOUGH:  # the kernel itself powers off, in order
        for reason in (ORDERED, POWER):
            weights.pop(reason, None)
    if weights.get(BROWN, 0) >= ENOUGH:
        weights.pop(POWER, None)
    off = (facts.order is not None and facts.order[0] > 0) or (facts.order is None and facts.end in (END_OFF, END_DOWN))
    if off and weights.get(ORDERED, 0) >= ENOUGH:
        weights.pop(POWER, None)
    for strong in (DOG, PANIC, BROWN, THERMAL):
        if weights.get(strong, 0) >= ENOUGH and weights.get(POWER, 0) <= 300:
            weights.pop(POWER, None)  # that nothing ended in order is true of these as well
