# SPDX-License-Identifier: Apache-2.0
"""What the spool held before: segments and cursor in, an index of what waits out.

Duty: put records back in their order of arrival, apply what the cursor and the stand-ins say. It reads no file.
Invariants: a record waits again unless the cursor says that the fleet has it or a stand-in here speaks for it; a moved record that
stands twice counts once; a seq that is nowhere is a hole, named by its session.
"""

from dataclasses import dataclass

from edgeheal.core.spooled import Span, StandinKind
from edgeheal.journal.segments import Held, Place
from edgeheal.journal.spool_frames import Cursor, Spooled, unpack
from edgeheal.journal.waiting import State, Waiting

WINDOW_MOST = 1 << 20  # a seq further from its session's first is no record of ours

Key = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Found:
    """`covered`: ranges that stand-ins here speak for; `aside`: keys set aside, with reasons; `order`: the highest number of arrival."""

    index: Waiting
    covered: tuple[Span, ...]
    aside: dict[Key, int]
    sessions: frozenset[bytes]
    order: int
    unread: int


def recover(held: Held, cursor: Cursor) -> Found:
    """All of it."""
    index = Waiting()
    records: dict[Key, tuple[Spooled, Place]] = {}
    unread = 0
    for segment in held.segments:
        index.segments.setdefault(segment.number, [0, 0])
        for frame in segment.frames:
            spooled = unpack(frame)
            if spooled is None:
                unread += 1
            else:
                records[spooled.head.session, spooled.head.seq] = (spooled, Place(segment.number, frame.at, frame.end - frame.at))
    bases = _bases(records, cursor)
    for session, base in bases.items():
        index.begin(session, base)
    aside, covered = dict(cursor.aside), list[Span]()
    for key, (spooled, place) in sorted(records.items(), key=lambda item: item[1][0].head.order):
        if cursor.has(*key) or key[1] - bases[key[0]] > WINDOW_MOST:
            continue
        index.add(spooled.head, place)
        standin = spooled.standin
        if standin is None:
            continue
        index.standins[key] = standin
        if standin.kind is StandinKind.SET_ASIDE:
            aside.update({(span.session, span.first): standin.reason for span in standin.ranges})
        else:
            covered += standin.ranges
    for session, (_, ranges) in cursor.stored.items():
        index.mark([Span(session, first, min(last, first + WINDOW_MOST)) for first, last in ranges], State.STORED)
    order = max((spooled.head.order for spooled, _ in records.values()), default=0)
    return Found(index, tuple(covered), aside, frozenset(session for session, _ in records), order, unread)


def _bases(records: dict[Key, tuple[Spooled, Place]], cursor: Cursor) -> dict[bytes, int]:
    """Per session, oldest first, the seq up to which the fleet has everything."""
    bases = {session: upto for session, (upto, _) in cursor.stored.items()}
    for session, seq in records:
        if session not in cursor.stored:
            bases[session] = min(bases.get(session, seq - 1), seq - 1)
    return bases
