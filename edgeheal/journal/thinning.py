# SPDX-License-Identifier: Apache-2.0
"""What the spool gives up when its bound is reached: first nothing of worth, then detail, then the least.

Duty: plan, over the index of what waits. It changes nothing. Order: revisions that a newer one carries whole; equal fingerprints
folded into one; the oldest of the lowest severity. Invariant: what was never handed out goes before what may be on its way, and
every key that goes is named by a stand-in.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from edgeheal.core.spooled import Span
from edgeheal.journal.waiting import SEVERITIES, Waiting

FOLD_FROM = 3  # fewer of a fingerprint are not worth a stand-in
FOLDS_MOST = 256


@dataclass(slots=True)
class Plan:
    """Rows by what happens to them. `folded`: groups of equal fingerprint."""

    superseded: list[int] = field(default_factory=list)
    folded: list[list[int]] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything goes."""
        return bool(self.superseded or self.folded or self.dropped)


def plan(index: Waiting, target_bytes: int, handed_out: Callable[[tuple[bytes, int]], bool]) -> Plan:
    """Enough to bring the live bytes down to `target_bytes`."""
    out = Plan()
    taken: set[int] = set()
    excess = index.live_bytes - target_bytes
    excess -= _supersede(index, out, taken)
    if excess > 0:
        excess -= _fold(index, out, taken, excess, handed_out)
    if excess > 0:
        _drop(index, out, taken, excess, handed_out)
    return out


def _supersede(index: Waiting, out: Plan, taken: set[int]) -> int:
    """All but the newest record of each incident."""
    newest: dict[tuple[bytes, int], int] = {}
    won = 0
    for row in index.rows():
        head = index.head(row)
        if head.incident and (head.session, head.seq) not in index.standins:
            older = newest.get((head.session, head.incident))
            if older is not None:
                out.superseded.append(older)
                taken.add(older)
                won += index.place(older).length
            newest[head.session, head.incident] = row
    return won


def _fold(index: Waiting, out: Plan, taken: set[int], excess: int, handed_out: Callable[[tuple[bytes, int]], bool]) -> int:
    """The largest groups of equal fingerprint, until it is enough."""
    groups: dict[bytes, list[int]] = {}
    for row in index.rows():
        print_ = index.head(row).fingerprint
        if print_ and row not in taken and not handed_out(index.key(row)):
            groups.setdefault(print_, []).append(row)
    won = 0
    for group in sorted((g for g in groups.values() if len(g) >= FOLD_FROM), key=len, reverse=True)[:FOLDS_MOST]:
        if won >= excess:
            break
        out.folded.append(group)
        taken.update(group)
        won += sum(index.place(row).length for row in group[:-1])
    return won


def _drop(index: Waiting, out: Plan, taken: set[int], excess: int, handed_out: Callable[[tuple[bytes, int]], bool]) -> None:
    """The oldest of the lowest severity; what is on its way only when nothing else is left."""
    for spare_handed_out in (True, False):
        for severity in range(SEVERITIES):
            for row in index.of_severity(severity):
                if excess <= 0:
                    return
                if row not in taken and not (spare_handed_out and handed_out(index.key(row))):
                    out.dropped.append(row)
                    taken.add(row)
                    excess -= index.place(row).length


def spans(keys: Iterable[tuple[bytes, int]], more: Iterable[Span] = ()) -> tuple[Span, ...]:
    """Keys and ranges as few ranges, in order."""
    every = sorted([(s, q, q) for s, q in keys] + [(m.session, m.first, m.last) for m in more])
    joined: list[Span] = []
    for session, first, last in every:
        if joined and joined[-1].session == session and first <= joined[-1].last + 1:
            joined[-1] = Span(session, joined[-1].first, max(last, joined[-1].last))
        else:
            joined.append(Span(session, first, last))
    return tuple(joined)
