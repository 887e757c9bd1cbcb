# SPDX-License-Identifier: Apache-2.0
"""The spool's log: append, make room, thin out, move together, free; within its bound whatever happens.

Duty: where records stand and which of them go when the bound is reached. It encodes no summary (`encode` does), speaks to no
medium (`GroupCommit` does) and knows no link. Invariants: a record goes only behind a durable stand-in that names it; a segment is
freed only behind a cursor on the medium that says what the fleet has of it; two slots stay free for moving records together.
"""

from collections.abc import Callable, Sequence

from edgeheal.core import reasons
from edgeheal.core.kinds import Severity
from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.journal import thinning
from edgeheal.journal.bodies import Bodies, Key
from edgeheal.journal.commit import GroupCommit
from edgeheal.journal.frames import HEAD_BYTES, Frame
from edgeheal.journal.segments import Place, SegmentLog
from edgeheal.journal.spool_frames import F_CRITICAL, K_RECORD, K_STANDIN, RANGES_MOST, SEQ_MOST, Head, pack_record, pack_standin, unpack
from edgeheal.journal.waiting import State, Waiting

DURABLE_S = 2.0
RESERVE = 2
HIGH, LOW = 85, 75  # percent of what may live at which thinning begins, and ends
FULL = 95  # percent of a segment from which moving it wins nothing
LOST_MOST = RANGES_MOST * 16

Encode = Callable[[Standin], bytes]


class SpoolLog:
    """See the module. `index`, `log`, `commit` and `bodies` are its parts; `cursor` puts the cursor before what is written next."""

    def __init__(
        self,
        *,
        session: bytes,
        index: Waiting,
        log: SegmentLog,
        commit: GroupCommit,
        bodies: Bodies,
        encode: Encode,
        cursor: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        """`session` of all that is appended from now on; `clock` gives monotonic ns."""
        self._session = session
        self.index = index
        self._log = log
        self._commit = commit
        self._bodies = bodies
        self._encode = encode
        self._cursor = cursor
        self._clock = clock
        self._seq = 0
        self.order = 0
        self._making_room = False
        self._lost: list[tuple[Key, int]] = []
        self.handed: set[Key] = set()  # given to the link at least once
        self.dropped = 0
        self._garbled: set[Key] = set()

    # -- appending

    def append(self, body: bytes, *, severity: int, critical: bool, incident: int, at_s: int, fingerprint: bytes, refuse: int = 0) -> int:
        """A new record; its seq. `refuse`: a reason why it cannot be kept: then it is only counted and told."""
        head = self._head(severity, F_CRITICAL if critical else 0, incident, at_s, fingerprint)
        if refuse:
            self._lose(head, refuse)
        elif not self._put(head, K_RECORD, pack_record(head, body), body):
            self._lose(head, reasons.NO_SPACE)
        if self._lost:
            self.tell_lost()
        return head.seq

    def _head(self, severity: int, flags: int = 0, incident: int = 0, at_s: int = 0, fingerprint: bytes = b"") -> Head:
        self._seq += 1
        self.order += 1
        return Head(self._session, self._seq, self.order, max(0, min(severity, 3)), flags, incident & SEQ_MOST, max(0, min(at_s, SEQ_MOST)), fingerprint[:8])

    def _put(self, head: Head, kind: int, packed: bytes, body: bytes, *, reserve: bool = False, moved: int = -1) -> bool:
        """One frame at the end of the log, its row in the index (`moved`: that of one already there), its body at hand until it is safe."""
        place = self._log.put(kind, packed)
        if place is None and self._roll(reserve=reserve):
            place = self._log.put(kind, packed)
        if place is None:
            return False
        if moved < 0:
            self.index.add(head, place)
        else:
            self.index.move(moved, place)
        self._bodies.keep((head.session, head.seq), self._commit.mark, body)
        return True

    def stand_in(self, standin: Standin) -> bool:
        """Tell of it in a record of its own; what it covers is spoken for from then on."""
        head = self._head(standin.severity, F_CRITICAL, 0, standin.last_s, standin.fingerprint)
        body = self._encode(standin)
        if not self._put(head, K_STANDIN, pack_standin(head, standin, body), body, reserve=True):
            self._lose(head, reasons.NO_SPACE)
            return False
        self.index.standins[head.session, head.seq] = standin
        if standin.kind is not StandinKind.SET_ASIDE:
            self.cover(standin.ranges)
        return True

    def cover(self, spans: Sequence[Span]) -> None:
        """Others speak for these."""
        self.index.mark(spans, State.GONE)
        for key in [k for k in self.index.standins if self.index.find(*k) < 0]:
            del self.index.standins[key]

    def _lose(self, head: Head, reason: int) -> None:
        """It cannot be kept: counted, and told as soon as there is room."""
        self.dropped += 1
        self._lost.append(((head.session, head.seq), reason))
        del self._lost[:-LOST_MOST]

    def tell_lost(self) -> None:
        """Stand-ins for what could not be kept."""
        if not self._lost or self._commit.dark or self._making_room:
            return
        lost, self._lost = self._lost, []
        spans = thinning.spans(key for key, _ in lost)
        for part in _parts(spans):
            count = sum(s.last - s.first + 1 for s in part)
            self.stand_in(Standin(StandinKind.DROPPED, part, count, int(Severity.WARNING), reason=lost[-1][1]))

    def name_lost(self, holes: Sequence[Span]) -> None:
        """Stand-ins for seqs that were given and are nowhere."""
        for part in _parts(holes):
            count = sum(span.last - span.first + 1 for span in part)
            self.stand_in(Standin(StandinKind.LOST, part, count, int(Severity.ERROR), reason=reasons.UNREADABLE))

    # -- room

    def _roll(self, *, reserve: bool) -> bool:
        """The next segment; makes room first where there is little."""
        if not reserve:
            self.index.rebuild()
            self._make_room()
            if self._log.free <= RESERVE:
                return False
        if not self._log.roll():
            return False
        self.index.segments.setdefault(self._log.number, [0, 0])
        return True

    def _make_room(self) -> None:
        """Step by step: free what is empty, thin out when too much lives, move the emptiest segment's rest to the end."""
        self._making_room = True
        try:
            for _ in range(2 * (self._log.free + len(self._log.numbers))):
                if self._log.free > RESERVE or not self._one_step():
                    return
        finally:
            self._making_room = False

    def _one_step(self) -> bool:
        if self._release_safely():
            return True
        usable = (self._log.free + len(self._log.numbers) - RESERVE - 1) * self._log.capacity
        if self.index.live_bytes * 100 > usable * HIGH:
            self._thin(usable * LOW // 100)
        return self._gather() or self._release_safely()

    def _release_safely(self) -> bool:
        """Free only once all that was written before is on the medium: a stand-in and what it stands for must not go in one batch."""
        return self._commit.settle(self._clock(), DURABLE_S) and self.release()

    def release(self) -> bool:
        """Free segments in which nothing lives, behind a cursor that says so."""
        empty = self.index.empty_segments(self._log.number)
        if not empty or self._commit.dark:
            return False
        self._cursor()
        for number in empty:
            self._log.release(number)
            self._bodies.forget(number)
            del self.index.segments[number]
        return True

    def _thin(self, target_bytes: int) -> None:
        plan = thinning.plan(self.index, target_bytes, self.handed.__contains__)
        if plan.superseded:
            self._replace(StandinKind.SUPERSEDED, plan.superseded)
        for group in plan.folded:
            self._replace(StandinKind.FOLDED, group)
        if plan.dropped:
            before = [s for row in plan.dropped if (s := self.index.standins.get(self.index.key(row))) is not None and s.kind is not StandinKind.FOLDED]
            self.dropped += self._weight(plan.dropped) - sum(standin.count for standin in before)
            self._replace(StandinKind.DROPPED, plan.dropped)

    def _weight(self, rows: Sequence[int]) -> int:
        """How many records these rows speak for."""
        keys = [self.index.key(row) for row in rows]
        return sum(self.index.standins[key].count if key in self.index.standins else 1 for key in keys)

    def _replace(self, kind: StandinKind, rows: Sequence[int]) -> None:
        """Stand-ins for these rows; those among them that are stand-ins hand on what they name."""
        index = self.index
        inherited = [index.standins[k] for k in map(index.key, rows) if k in index.standins]
        spans = thinning.spans(map(index.key, rows), [span for standin in inherited for span in standin.ranges])
        heads = [index.head(row) for row in rows]
        firsts = [h.at_s for h in heads if h.at_s] + [s.first_s for s in inherited if s.first_s]
        lasts = [h.at_s for h in heads] + [s.last_s for s in inherited]
        fold = kind is StandinKind.FOLDED
        body = (self.body(index.key(rows[-1])) or b"") if fold else b""
        count, severity = self._weight(rows), max(h.severity for h in heads)
        for part in _parts(spans):
            share = count if len(spans) == len(part) else sum(s.last - s.first + 1 for s in part)
            print_ = heads[-1].fingerprint if fold else b""
            self.stand_in(Standin(kind, part, share, severity, print_, min(firsts, default=0), max(lasts), reasons.NO_SPACE, body))
            body = b""

    def _gather(self) -> bool:
        """Move what lives in the emptiest segment to the end of the log; it is freed when that is on the medium."""
        choice = [(size, number) for number, (_, size) in self.index.segments.items() if number != self._log.number]
        if not choice or self._commit.dark or not self._commit.settle(self._clock(), DURABLE_S):
            return False
        size, number = min(choice)
        data = None if size * 100 > self._log.capacity * FULL else self._bodies.segment(number, until=self._log.end(number), end=self._log.end(number))
        if data is None or not all([self._move(row, data) for row in self.index.live_in(number)]):  # noqa: C419 - each is moved
            return False
        return self._release_safely()

    def _move(self, row: int, data: bytes) -> bool:
        """One live record to the end of the log; what the medium garbled is told as lost."""
        key, place = self.index.key(row), self.index.place(row)
        body = self._body_in(data, key, place)
        if body is None:
            self.name_lost([Span(*key, key[1])])
            return True
        kind = K_STANDIN if key in self.index.standins else K_RECORD
        return self._put(self.index.head(row), kind, data[place.at + HEAD_BYTES : place.at + place.length], body, reserve=True, moved=row)

    # -- reading

    def body(self, key: Key) -> bytes | None:
        """The bytes of a record that waits or is set aside; None when it is not here or cannot be read now."""
        young = self._bodies.young(key)
        row = self.index.find(*key)
        if young is not None or row < 0:
            return young
        place = self.index.place(row)
        data = self._bodies.segment(place.number, until=place.at + place.length, end=self._log.end(place.number))
        body = None if data is None else self._body_in(data, key, place)
        if data is not None and body is None:
            self._garbled.add(key)
        return body

    def tell_garbled(self) -> bool:
        """Stand-ins for records that the medium gave back as something else; whether there were any."""
        garbled, self._garbled = {key for key in self._garbled if self.index.find(*key) >= 0}, set()
        self.name_lost(thinning.spans(garbled))
        return bool(garbled)

    def _body_in(self, data: bytes, key: Key, place: Place) -> bytes | None:
        kind = K_STANDIN if key in self.index.standins else K_RECORD
        spooled = unpack(Frame(kind, 1, data[place.at + HEAD_BYTES : place.at + place.length]))
        if spooled is None or (spooled.head.session, spooled.head.seq) != key:
            return None
        return spooled.body


def _parts(spans: Sequence[Span]) -> list[tuple[Span, ...]]:
    """As many ranges as one record takes, at a time."""
    return [tuple(spans[at : at + RANGES_MOST]) for at in range(0, len(spans), RANGES_MOST)]
