# SPDX-License-Identifier: Apache-2.0
"""What waits for the fleet: an index in columns (about 45 bytes a record), gravest first, oldest first within.

Duty: remember of each spooled record where it stands and what has become of it. It holds no bodies and touches no disk.
Invariants: a key is in it at most once; what is finished never waits again; the order of arrival survives moving and restarts.
"""

from array import array
from collections.abc import Iterable, Iterator
from enum import IntEnum

from edgeheal.core.spooled import Span, Standin
from edgeheal.journal.segments import Place
from edgeheal.journal.spool_frames import Head

SEVERITIES = 4
REBUILD_FROM = 4_096
SESSIONS_MOST = 256


class State(IntEnum):
    """What became of a record."""

    NONE = 0  # never seen
    WAITING = 1
    ASIDE = 2  # kept, not sent
    STORED = 3  # the fleet has it
    GONE = 4  # another record stands for it


_LIVE = (State.WAITING, State.ASIDE)
_OFFSET = 16  # a mark from here on is a row's number


class _Session:
    """Marks of one session's seqs above `base`, all up to which the fleet has."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.base = 0
        self.marks: array[int] = array("I")

    def get(self, seq: int) -> int:
        at = seq - self.base - 1
        return int(State.STORED) if at < 0 else self.marks[at] if at < len(self.marks) else int(State.NONE)

    def set(self, seq: int, mark: int) -> None:
        at = seq - self.base - 1
        if at < 0:
            return
        if at == len(self.marks):
            self.marks.append(mark)
            return
        if at > len(self.marks):
            self.marks.extend(array("I", [0] * (at + 1 - len(self.marks))))
        self.marks[at] = mark

    def trim(self) -> None:
        """Move the base over what the fleet has."""
        count = next((i for i, mark in enumerate(self.marks) if mark != State.STORED), len(self.marks))
        if count:
            del self.marks[:count]
            self.base += count


class Waiting:
    """The index. Rows are numbers; `rebuild` renumbers them, so nobody keeps one over a call that adds."""

    def __init__(self) -> None:
        """Empty."""
        self._names: list[bytes] = []
        self._sessions: dict[bytes, _Session] = {}
        self.standins: dict[tuple[bytes, int], Standin] = {}
        self._columns()

    def _columns(self) -> None:
        self._session: array[int] = array("H")
        self._state: array[int] = array("B")
        self._severity: array[int] = array("B")
        self._flags: array[int] = array("B")
        self._seq: array[int] = array("I")
        self._order: array[int] = array("I")
        self._incident: array[int] = array("I")
        self._at_s: array[int] = array("I")
        self._print: array[int] = array("Q")
        self._number: array[int] = array("I")
        self._at: array[int] = array("I")
        self._length: array[int] = array("I")
        self._queues: list[array[int]] = [array("I") for _ in range(SEVERITIES)]
        self._heads = [0] * SEVERITIES
        self.segments: dict[int, list[int]] = {}  # segment -> [live rows, live bytes]
        self.waiting = 0
        self.live_bytes = 0

    def __len__(self) -> int:
        """Rows, finished ones included."""
        return len(self._state)

    def add(self, head: Head, place: Place, state: State = State.WAITING) -> int:
        """A record; its row. Rows are added in their order of arrival."""
        row = len(self._state)
        session = self._of(head.session)
        self._session.append(session.number)
        self._state.append(state)
        self._severity.append(head.severity)
        self._flags.append(head.flags)
        self._seq.append(head.seq)
        self._order.append(head.order)
        self._incident.append(head.incident)
        self._at_s.append(head.at_s)
        self._print.append(int.from_bytes(head.fingerprint.ljust(8, b"\0"), "big"))
        self._number.append(place.number)
        self._at.append(place.at)
        self._length.append(place.length)
        if state in _LIVE:
            session.set(head.seq, row + _OFFSET)
            self._count(row, 1)
            self._queues[head.severity].append(row)
        else:
            session.set(head.seq, state)
        return row

    def _of(self, name: bytes) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = _Session(len(self._names))
            self._names.append(name)
        return session

    def _count(self, row: int, sign: int) -> None:
        length = self._length[row] * sign
        self.live_bytes += length
        self.waiting += sign if self._state[row] == State.WAITING else 0
        counts = self.segments.setdefault(self._number[row], [0, 0])
        counts[0] += sign
        counts[1] += length

    def begin(self, session: bytes, base: int = 0) -> None:
        """A session of which the fleet has everything up to `base`."""
        found = self._of(session)
        if base > found.base:
            del found.marks[: base - found.base]
            found.base = base

    # -- looking

    def find(self, session: bytes, seq: int) -> int:
        """The row of a live record, or -1."""
        found = self._sessions.get(session)
        mark = found.get(seq) if found is not None else 0
        return mark - _OFFSET if mark >= _OFFSET else -1

    def state_of(self, session: bytes, seq: int) -> State:
        """What became of this key."""
        found = self._sessions.get(session)
        mark = found.get(seq) if found is not None else 0
        return State(self._state[mark - _OFFSET]) if mark >= _OFFSET else State(mark)

    def key(self, row: int) -> tuple[bytes, int]:
        """(session, seq) of a row."""
        return self._names[self._session[row]], self._seq[row]

    def head(self, row: int) -> Head:
        """What a frame says of it."""
        value = self._print[row]
        session, seq = self.key(row)
        return Head(
            session,
            seq,
            self._order[row],
            self._severity[row],
            self._flags[row],
            self._incident[row],
            self._at_s[row],
            value.to_bytes(8, "big") if value else b"",
        )

    def place(self, row: int) -> Place:
        """Where it stands."""
        return Place(self._number[row], self._at[row], self._length[row])

    def gravest(self) -> Iterator[int]:
        """Waiting rows in the order in which they are to be sent."""
        for severity in range(SEVERITIES - 1, -1, -1):
            yield from self.of_severity(severity)

    def of_severity(self, severity: int) -> Iterator[int]:
        """Waiting rows of one severity, oldest first."""
        queue, at = self._queues[severity], self._heads[severity]
        while at < len(queue) and self._state[queue[at]] not in _LIVE:
            at += 1
        self._heads[severity] = at
        for index in range(at, len(queue)):
            if self._state[queue[index]] == State.WAITING:
                yield queue[index]

    def live_in(self, number: int) -> list[int]:
        """Live rows of a segment."""
        return [row for row in range(len(self._state)) if self._number[row] == number and self._state[row] in _LIVE]

    def rows(self) -> Iterator[int]:
        """All waiting rows, oldest first."""
        return (row for row in range(len(self._state)) if self._state[row] == State.WAITING)

    def empty_segments(self, but: int) -> list[int]:
        """Segments in which nothing lives."""
        return [number for number, (rows, _) in self.segments.items() if rows == 0 and number != but]

    # -- changing

    def finish(self, row: int, state: State) -> None:
        """A live row is stored, gone or set aside."""
        self._count(row, -1)
        self._state[row] = state
        session, seq = self.key(row)
        if state == State.ASIDE:
            self._count(row, 1)
            return
        self._sessions[session].set(seq, state)

    def move(self, row: int, place: Place) -> None:
        """It stands elsewhere now."""
        self._count(row, -1)
        self._number[row], self._at[row], self._length[row] = place.number, place.at, place.length
        self._count(row, 1)

    def mark(self, spans: Iterable[Span], state: State) -> None:
        """Keys of which nothing is on the medium any more: gone, or (with their stand-in) stored."""
        for span in spans:
            session = self._of(span.session)
            for seq in range(max(span.first, session.base + 1), span.last + 1):
                row = session.get(seq) - _OFFSET
                if row < 0:
                    session.set(seq, state)
                elif self._state[row] == State.WAITING:
                    self.finish(row, state)

    def acknowledge(self, session: bytes, upto: int, exceptions: Iterable[int]) -> int:
        """The fleet has these; how many of them waited. A seq that was never given counts for nothing."""
        found = self._sessions.get(session)
        if found is None:
            return 0
        last = found.base + len(found.marks)
        count = 0
        for seq in (*range(found.base + 1, min(upto, last) + 1), *exceptions):
            count += self._stored(found, session, seq)
        found.trim()
        return count

    def _stored(self, found: _Session, session: bytes, seq: int) -> int:
        mark = found.get(seq)
        if mark < _OFFSET:
            return 0
        if self._state[mark - _OFFSET] != State.WAITING:
            return 0
        self.finish(mark - _OFFSET, State.STORED)
        standin = self.standins.pop((session, seq), None)
        if standin is not None:
            self._stored_too(standin)
        return 1

    def _stored_too(self, standin: Standin) -> None:
        for span in standin.ranges:
            other = self._sessions.get(span.session)
            for seq in range(span.first, span.last + 1) if other is not None else ():
                if other is not None and other.get(seq) == State.GONE:
                    other.set(seq, State.STORED)

    def stored(self) -> dict[bytes, tuple[int, list[tuple[int, int]]]]:
        """For the cursor: per session what the fleet has, as a base and ranges beyond."""
        told = {}
        for name in list(self._sessions)[-SESSIONS_MOST:]:
            session = self._sessions[name]
            session.trim()
            told[name] = (session.base, list(_runs(session)))
        return told

    def holes(self, session: bytes) -> list[Span]:
        """Seqs between the base and the last one seen of which nothing is known."""
        found = self._sessions[session]
        spans: list[Span] = []
        for at, mark in enumerate(found.marks):
            if mark == State.NONE:
                seq = found.base + 1 + at
                if spans and spans[-1].last == seq - 1:
                    spans[-1] = Span(session, spans[-1].first, seq)
                else:
                    spans.append(Span(session, seq, seq))
        return spans

    def sessions(self) -> list[bytes]:
        """All that are known, oldest first."""
        return list(self._sessions)

    def rebuild(self) -> bool:
        """Forget finished rows when they are many and the most; row numbers change then."""
        if len(self._state) < REBUILD_FROM or self.waiting > len(self._state) // 2:
            return False
        live = [(self.head(row), self.place(row), State(self._state[row])) for row in range(len(self._state)) if self._state[row] in _LIVE]
        segments = dict.fromkeys(self.segments)
        self._columns()
        self.segments = {number: [0, 0] for number in segments}
        for head, place, state in live:
            self.add(head, place, state)
        return True


def _runs(session: _Session) -> Iterator[tuple[int, int]]:
    start = 0
    for at, mark in enumerate(session.marks):
        seq = session.base + 1 + at
        if mark == State.STORED and not start:
            start = seq
        elif mark != State.STORED and start:
            yield start, seq - 1
            start = 0
    if start:
        yield start, session.base + len(session.marks)
