# SPDX-License-Identifier: Apache-2.0
"""The spool: records that wait for the fleet, on disk until the fleet says that it has them.

Duty: keep, order, bound, recover. It encodes no summary (a stand-in's body comes from `encode`) and speaks no MQTT.
Invariants: a record that `put` made durable is sent until `stored` covers it, in whatever session it was put; a segment goes only
when nothing in it waits and the cursor says so on the medium; whatever is folded, dropped, lost or set aside is named by a record
of its own; in the bound of `size_bytes`, always. Implements `ports.Spool` and `ports.Source`.

What it says about itself (`SelfSaid`, part "spool"): damaged, unwritable (value = errno), dropped, set_aside (value = reason), newer.
"""

import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Sequence

from edgeheal.core import reasons
from edgeheal.core.kinds import Severity
from edgeheal.core.now import NS
from edgeheal.core.signal import SelfSaid
from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.journal import thinning
from edgeheal.journal.commit import GroupCommit
from edgeheal.journal.frames import HEAD_BYTES, Frame
from edgeheal.journal.ops import Ended, Read, Replace
from edgeheal.journal.segments import Held, Place, SegmentLog
from edgeheal.journal.spool_frames import (
    F_CRITICAL,
    K_RECORD,
    K_STANDIN,
    RANGES_MOST,
    Cursor,
    Head,
    Spooled,
    pack_cursor,
    pack_record,
    pack_standin,
    unpack,
    unpack_cursor,
)
from edgeheal.journal.waiting import State, Waiting
from edgeheal.ports import Disk, Emit

FOLDER = "spool"
CURSOR = f"{FOLDER}/cursor"
SLOT_BYTES = 64 * 1024
SIZE_BYTES = 4 << 20
BODY_MOST = 16 * 1024
CURSOR_MOST = 64 * 1024
CURSOR_NS = 5 * NS
DURABLE_S = 2.0
READ_S = 1.0
RESERVE = 2  # slots kept free for moving records together
HIGH, LOW = 85, 75  # percent of what may live at which thinning begins, and ends
DARK_MOST = 1 << 20  # bytes kept in memory while nothing can be written; critical ones twice that
BREAKS_MOST = 3  # so often the connection may break with a record alone on its way
ASIDE_MOST = 32
RETRY_NS = 60 * NS
CACHED_SEGMENTS = 4
WINDOW_MOST = 1 << 20  # a seq further from its session's first is no record of ours

Key = tuple[bytes, int]
Encode = Callable[[Standin], bytes]


def _salt() -> int:
    return int.from_bytes(os.urandom(4), "big")


class Spool:
    """See the module. `encode` makes the body that tells the fleet of a stand-in."""

    def __init__(self, disk: Disk, emit: Emit, *, session: bytes, encode: Encode, size_bytes: int = SIZE_BYTES, slot_bytes: int = SLOT_BYTES) -> None:
        """Reads what is there (blocks), then begins `session` (6 random bytes)."""
        self._disk = disk
        self._emit = emit
        self._session = session
        self._encode = encode
        self._says: deque[SelfSaid] = deque()
        self._index = Waiting()
        self._commit = GroupCommit(disk.submit, disk.wait, self._medium)
        self._slots = max(6, size_bytes // slot_bytes)
        self._slot_bytes = slot_bytes
        self._log = SegmentLog(FOLDER, b"S", slot_bytes=slot_bytes, slots=self._slots, sink=self._write, salt=_salt)
        self._young: OrderedDict[Key, tuple[int, bytes]] = OrderedDict()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._aside: OrderedDict[Key, int] = OrderedDict()
        self._handed: set[Key] = set()
        self._suspects: deque[Key] = deque()
        self._breaks: dict[Key, int] = {}
        self._lost_now: list[tuple[Key, int]] = []
        self._seq = 0
        self._order = 0
        self._dropped = 0
        self._cursor_ns = 0
        self._allocate_ns = 0
        self._thinning = False
        sizes = disk.names(FOLDER)
        held = self._log.load(sizes, disk.read)
        self.fresh = held.fresh
        self._recover(held, self._read_cursor(sizes))
        self._allocate()

    # -- recovery

    def _read_cursor(self, sizes: dict[str, int]) -> Cursor | None:
        """The cursor; None: damaged. Absent is only empty where nothing was ever written."""
        if CURSOR not in sizes:
            return Cursor()
        try:
            cursor = unpack_cursor(self._disk.read(CURSOR, 0, sizes[CURSOR]))
        except OSError:
            cursor = None
        if cursor is None:
            self._say("damaged", ok=False, text=CURSOR)
        return cursor

    def _recover(self, held: Held, cursor: Cursor | None) -> None:
        found: dict[Key, tuple[Spooled, Place]] = {}
        unread = 0
        for segment in held.segments:
            self._index.segments.setdefault(segment.number, [0, 0])
            for frame in segment.frames:
                spooled = unpack(frame)
                if spooled is None:
                    unread += 1
                else:
                    found[spooled.head.session, spooled.head.seq] = (spooled, Place(segment.number, frame.at, frame.end - frame.at))
        known = cursor or Cursor()
        for session, (upto, _) in known.stored.items():
            self._index.begin(session, upto)
        self._fill(found, known)
        for session, (_, ranges) in known.stored.items():
            self._index.mark([Span(session, first, last) for first, last in ranges], State.STORED)
        if held.damage:
            self._say("damaged", ok=False, value=float(sum(d.lost for d in held.damage)), text=", ".join(f"{d.what} {d.where}" for d in held.damage[:4]))
        if unread:
            self._say("newer", ok=False, value=float(unread))
        self._index.begin(self._session)
        self._name_holes(certain=cursor is not None, damaged=bool(held.damage), found=found)

    def _fill(self, found: dict[Key, tuple[Spooled, Place]], known: Cursor) -> None:
        """Rows in their order of arrival, then what stand-ins cover."""
        self._order = max((s.head.order for s, _ in found.values()), default=0)
        first: dict[bytes, int] = {}
        for session, seq in found:
            first[session] = min(first.get(session, seq), seq)
        for session, seq in first.items():
            if session not in known.stored:
                self._index.begin(session, seq - 1)
        asides = dict(known.aside)
        covered: list[Span] = []
        for spooled, place in sorted(found.values(), key=lambda item: item[0].head.order):
            key = (spooled.head.session, spooled.head.seq)
            if known.has(*key) or key[1] - max(known.stored.get(key[0], (0, []))[0], first[key[0]]) > WINDOW_MOST:
                continue
            self._index.add(spooled.head, place)
            standin = spooled.standin
            if standin is not None:
                self._index.standins[key] = standin
                if standin.kind is StandinKind.SET_ASIDE:
                    asides.update({(span.session, span.first): standin.reason for span in standin.ranges})
                else:
                    covered += standin.ranges
        self._cover(covered)
        for key, reason in asides.items():
            self._put_aside(key, reason)

    def _cover(self, spans: Sequence[Span]) -> None:
        """These are spoken for by others."""
        self._index.mark(spans, State.GONE)
        for key in [k for k in self._index.standins if self._index.find(*k) < 0]:
            del self._index.standins[key]

    def _name_holes(self, *, certain: bool, damaged: bool, found: dict[Key, tuple[Spooled, Place]]) -> None:
        """Seqs that were given and are nowhere: told as lost. Without a cursor a hole may as well have been stored: then only with damage."""
        if not (certain or damaged):
            return
        sessions = {session for session, _ in found}
        holes = [span for session in self._index.sessions() if session in sessions for span in self._index.holes(session)]
        for at in range(0, len(holes), RANGES_MOST):
            part = tuple(holes[at : at + RANGES_MOST])
            count = sum(span.last - span.first + 1 for span in part)
            self._stand_in(Standin(StandinKind.LOST, part, count, int(Severity.ERROR), reason=reasons.UNREADABLE))

    # -- putting

    def put(self, body: bytes, *, severity: int, fingerprint: bytes, critical: bool, incident: int = 0, at_s: int = 0) -> int:
        """See `ports.Spool.put`. A body that no broker would take is set aside at once."""
        head = self._next_head(severity, F_CRITICAL if critical else 0, incident, at_s, fingerprint)
        key = (head.session, head.seq)
        if len(body) > min(BODY_MOST, self._log.capacity // 2):
            self._lose(key, reasons.TOO_LARGE)
        elif self._commit.dark and self._commit.waiting_bytes > DARK_MOST * (2 if critical else 1):
            self._lose(key, reasons.UNWRITABLE)
        elif not self._append(head, K_RECORD, pack_record(head, body), body):
            self._lose(key, reasons.NO_SPACE)
        self._tell_lost()
        if critical:
            self._commit.settle(time.monotonic_ns(), DURABLE_S)
        return head.seq

    def _next_head(self, severity: int, flags: int = 0, incident: int = 0, at_s: int = 0, fingerprint: bytes = b"") -> Head:
        self._seq += 1
        self._order += 1
        return Head(self._session, self._seq, self._order, max(0, min(severity, 3)), flags, incident, at_s, fingerprint[:8])

    def _append(self, head: Head, kind: int, packed: bytes, body: bytes, *, reserve: bool = False) -> bool:
        """One frame at the end of the log, its row in the index, its body at hand until it is on the medium."""
        place = self._log.put(kind, packed)
        if place is None:
            if not self._roll(reserve=reserve):
                return False
            place = self._log.put(kind, packed)
        if place is None:
            return False
        row = self._index.find(head.session, head.seq)
        if row >= 0:
            self._index.move(row, place)
        else:
            self._index.add(head, place)
        self._young[head.session, head.seq] = (self._commit.mark, body)
        self._grow_old()
        return True

    def _grow_old(self) -> None:
        """Let go of bodies that are on the medium by now."""
        while self._young:
            key, (mark, _) = next(iter(self._young.items()))
            if not self._commit.safe(mark):
                return
            del self._young[key]

    def _write(self, name: str, at: int, data: bytes) -> None:
        self._commit.add(name, at, data, time.monotonic_ns())

    def _stand_in(self, standin: Standin) -> bool:
        """Tell of it; what it covers is gone once this is written."""
        head = self._next_head(standin.severity, F_CRITICAL, 0, standin.last_s, standin.fingerprint)
        key = (head.session, head.seq)
        body = self._encode(standin)
        if not self._append(head, K_STANDIN, pack_standin(head, standin, body), body, reserve=True):
            self._lose(key, reasons.NO_SPACE)
            return False
        self._index.standins[key] = standin
        if standin.kind is not StandinKind.SET_ASIDE:
            self._cover(standin.ranges)
        return True

    def _lose(self, key: Key, reason: int) -> None:
        """It cannot be kept: counted, and told as soon as there is room."""
        self._dropped += 1
        self._lost_now.append((key, reason))
        if len(self._lost_now) > RANGES_MOST * 16:
            self._lost_now = self._lost_now[-RANGES_MOST * 16 :]

    def _tell_lost(self) -> None:
        if not self._lost_now or self._commit.dark or self._thinning:
            return
        lost, self._lost_now = self._lost_now, []
        spans = thinning.spans(key for key, _ in lost)
        for at in range(0, len(spans), RANGES_MOST):
            part = spans[at : at + RANGES_MOST]
            count = sum(s.last - s.first + 1 for s in part)
            self._stand_in(Standin(StandinKind.DROPPED, part, count, int(Severity.WARNING), reason=lost[-1][1]))
        self._say("dropped", ok=False, value=float(self._dropped))

    # -- room

    def _roll(self, *, reserve: bool = False) -> bool:
        """The next segment; makes room first where there is little."""
        if not reserve and not self._thinning:
            self._index.rebuild()
            self._thinning = True
            try:
                for _ in range(self._slots * 2):
                    if self._log.free > RESERVE or not self._make_room():
                        break
            finally:
                self._thinning = False
            if self._log.free <= RESERVE:
                return False
        if not self._log.roll():
            return False
        self._index.segments.setdefault(self._log.number, [0, 0])
        return True

    def _make_room(self) -> bool:
        """One step: free what is empty, else thin out when too much lives, else move the rest of the emptiest segment together."""
        if self._release():
            return True
        usable = (self._slots - RESERVE - 1) * self._log.capacity
        if self._index.live_bytes * 100 > usable * HIGH:
            self._thin(usable * LOW // 100)
        return self._gather() or self._release()

    def _release(self) -> bool:
        """Free segments in which nothing lives, behind a cursor that says so."""
        empty = self._index.empty_segments(self._log.number)
        if not empty or self._commit.dark:
            return False
        self._commit.also(self._cursor(), time.monotonic_ns())
        for number in empty:
            self._log.release(number)
            del self._index.segments[number]
            self._cache.pop(number, None)
        return True

    def _thin(self, target_bytes: int) -> None:
        plan = thinning.plan(self._index, target_bytes, self._handed.__contains__)
        before = self._dropped
        if plan.superseded:
            self._replace(StandinKind.SUPERSEDED, plan.superseded)
        for group in plan.folded:
            self._replace(StandinKind.FOLDED, group)
        if plan.dropped:
            self._dropped += self._weight(plan.dropped)
            self._replace(StandinKind.DROPPED, plan.dropped)
        if self._dropped != before:
            self._say("dropped", ok=False, value=float(self._dropped))
        self._commit.settle(time.monotonic_ns(), DURABLE_S)

    def _weight(self, rows: Sequence[int]) -> int:
        """How many records these rows speak for."""
        keys = [self._index.key(row) for row in rows]
        return sum(self._index.standins[key].count if key in self._index.standins else 1 for key in keys)

    def _replace(self, kind: StandinKind, rows: Sequence[int]) -> None:
        """Stand-ins for these rows; those among them that are stand-ins hand on what they name."""
        index = self._index
        inherited = [index.standins[k] for k in map(index.key, rows) if k in index.standins]
        spans = thinning.spans(map(index.key, rows), [span for standin in inherited for span in standin.ranges])
        heads = [index.head(row) for row in rows]
        firsts = [h.at_s for h in heads if h.at_s] + [s.first_s for s in inherited if s.first_s]
        lasts = [h.at_s for h in heads] + [s.last_s for s in inherited]
        body = (self.body(index.key(rows[-1])) or b"") if kind is StandinKind.FOLDED else b""
        count = self._weight(rows)
        severity = max(h.severity for h in heads)
        for at in range(0, len(spans), RANGES_MOST):
            part = spans[at : at + RANGES_MOST]
            share = count if len(spans) <= RANGES_MOST else sum(s.last - s.first + 1 for s in part)
            print_ = heads[-1].fingerprint if kind is StandinKind.FOLDED else b""
            self._stand_in(Standin(kind, part, share, severity, print_, min(firsts, default=0), max(lasts), reasons.NO_SPACE, body))
            body = b""

    def _gather(self) -> bool:
        """Move what lives in the emptiest segment to the end of the log; it is freed when that is on the medium."""
        index = self._index
        choice = [(size, number) for number, (_, size) in index.segments.items() if number != self._log.number]
        if not choice or self._commit.dark:
            return False
        size, number = min(choice)
        if size > self._log.capacity * 95 // 100:
            return False
        if not self._commit.settle(time.monotonic_ns(), DURABLE_S):
            return False
        data = self._segment(number)
        if data is None:
            return False
        for row in index.live_in(number):
            key, place = index.key(row), index.place(row)
            body = self._body_in(data, key, place)
            if body is None:
                self._unreadable(key)
                continue
            kind = K_STANDIN if key in index.standins else K_RECORD
            if not self._append(index.head(row), kind, data[place.at + HEAD_BYTES : place.at + place.length], body, reserve=True):
                return False
        if not self._commit.settle(time.monotonic_ns(), DURABLE_S):
            return False
        return self._release()

    def _unreadable(self, key: Key) -> None:
        """The medium gives something else than what was written: the key is known, the content is lost, and told."""
        self._stand_in(Standin(StandinKind.LOST, (Span(*key, key[1]),), 1, int(Severity.ERROR), reason=reasons.UNREADABLE))
        self._say("damaged", ok=False, text=f"record {key[1]}")

    # -- reading

    def body(self, key: Key) -> bytes | None:
        """The bytes of a record that waits or is set aside; None when it is not here or cannot be read now."""
        young = self._young.get(key)
        if young is not None:
            return young[1]
        row = self._index.find(*key)
        if row < 0:
            return None
        place = self._index.place(row)
        data = self._segment(place.number)
        return None if data is None else self._body_in(data, key, place)

    def _body_in(self, data: bytes, key: Key, place: Place) -> bytes | None:
        kind = K_STANDIN if key in self._index.standins else K_RECORD
        spooled = unpack(Frame(kind, 1, data[place.at + HEAD_BYTES : place.at + place.length]))
        if spooled is None or (spooled.head.session, spooled.head.seq) != key:
            return None
        return spooled.body

    def _segment(self, number: int) -> bytes | None:
        """A segment's bytes as they are on the medium; what is not there yet is young and is not asked for here."""
        data = self._cache.get(number)
        if data is not None:
            self._cache.move_to_end(number)
            return data
        answer: list[Ended] = []
        ticket = self._disk.submit([Read(self._log.name(number), 0, self._slot_bytes)], answer.append)
        self._disk.wait(ticket, READ_S)
        if not answer or answer[0].errno or len(answer[0].data) != self._slot_bytes:
            return None
        if number == self._log.number or self._young:
            return answer[0].data  # it may still grow
        self._cache[number] = answer[0].data
        while len(self._cache) > CACHED_SEGMENTS:
            self._cache.popitem(last=False)
        return answer[0].data

    # -- the link's side

    def pending(self, most: int, skip: Container[Key] = ()) -> list[tuple[bytes, int, bytes]]:
        """See `ports.Spool.pending`. After a break with several on their way they come one at a time, until it is clear which of them is to blame."""
        if self._suspects:
            return self._one_suspect(skip)
        found: list[tuple[bytes, int, bytes]] = []
        for row in self._index.gravest():
            if len(found) >= most:
                break
            key = self._index.key(row)
            if key not in skip:
                body = self.body(key)
                if body is not None:
                    self._handed.add(key)
                    found.append((*key, body))
        return found

    def _one_suspect(self, skip: Container[Key]) -> list[tuple[bytes, int, bytes]]:
        while self._suspects and self._index.state_of(*self._suspects[0]) is not State.WAITING:
            self._suspects.popleft()
        if not self._suspects:
            return self.pending(1, skip)
        key = self._suspects[0]
        body = None if key in skip else self.body(key)
        return [] if body is None else [(*key, body)]

    def stored(self, session: bytes, upto: int, exceptions: tuple[int, ...]) -> None:
        """See `ports.Spool.stored`."""
        if self._index.acknowledge(session, upto, exceptions):
            self._handed = {key for key in self._handed if self._index.find(*key) >= 0}
            self._breaks = {key: n for key, n in self._breaks.items() if self._index.find(*key) >= 0}
            self._touch_cursor()
            self._release_some()

    def _release_some(self) -> None:
        """A segment goes when nothing in it waits, not record by record."""
        if len(self._index.empty_segments(self._log.number)) > 1:
            self._release()

    def _touch_cursor(self) -> None:
        self._cursor_ns = self._cursor_ns or time.monotonic_ns() + CURSOR_NS

    def _cursor(self) -> Replace:
        self._cursor_ns = 0
        return Replace(CURSOR, pack_cursor(Cursor(self._index.stored(), dict(self._aside)), CURSOR_MOST))

    def passed(self, session: bytes, seq: int) -> None:
        """The broker acknowledged this one: it is not what breaks the connection."""
        key = (session, seq)
        self._breaks.pop(key, None)
        if self._suspects and key in self._suspects:
            self._suspects.remove(key)

    def refused(self, session: bytes, seq: int, reason: int) -> None:
        """See `ports.Spool.refused`."""
        key = (session, seq)
        if self._index.state_of(*key) is State.WAITING:
            self._set_aside(key, reason)

    def broke(self, keys: Sequence[Key]) -> None:
        """See `ports.Spool.broke`. Blame is certain only for a record that was alone on its way."""
        waiting = [key for key in keys if self._index.state_of(*key) is State.WAITING]
        if len(waiting) > 1:
            self._suspects.extend(key for key in waiting if key not in self._suspects)
        elif waiting:
            key = waiting[0]
            self._breaks[key] = self._breaks.get(key, 0) + 1
            if self._breaks[key] >= BREAKS_MOST:
                self._set_aside(key, reasons.POISON)
            elif key in self._suspects:
                self._suspects.rotate(-1)

    def _set_aside(self, key: Key, reason: int) -> None:
        """Kept as evidence, counted, told in a small record of its own; the queue goes on."""
        self._breaks.pop(key, None)
        self._put_aside(key, reason)
        head = self._index.head(self._index.find(*key))
        standin = Standin(StandinKind.SET_ASIDE, (Span(*key, key[1]),), 1, head.severity, head.fingerprint, head.at_s, head.at_s, reason)
        self._stand_in(standin)
        self._say("set_aside", ok=False, value=float(reason))
        self._touch_cursor()
        self._commit.urge(time.monotonic_ns())

    def _put_aside(self, key: Key, reason: int) -> None:
        row = self._index.find(*key)
        if row < 0:
            return
        self._index.finish(row, State.ASIDE)
        self._aside[key] = reason
        while len(self._aside) > ASIDE_MOST:
            oldest, _ = self._aside.popitem(last=False)
            row = self._index.find(*oldest)
            if row >= 0:
                self._index.finish(row, State.GONE)

    def aside(self) -> list[tuple[bytes, int, int]]:
        """What was set aside, oldest first: (session, seq, reason). Its bytes: `body`."""
        return [(*key, reason) for key, reason in self._aside.items()]

    def depth(self) -> tuple[int, int]:
        """See `ports.Spool.depth`."""
        return self._index.waiting, self._dropped

    @property
    def dark(self) -> bool:
        """Whether we go on from memory."""
        return self._commit.dark

    @property
    def flash_bytes(self) -> int:
        """Bytes given to the medium by this run."""
        return self._commit.bytes_written

    def settle(self) -> bool:
        """Everything, the cursor too, is on the medium: True. For a clean stop."""
        if self._cursor_ns:
            self._commit.also(self._cursor(), time.monotonic_ns())
        return self._commit.settle(time.monotonic_ns(), DURABLE_S)

    def _say(self, what: str, *, ok: bool, value: float = 0.0, text: str = "") -> None:
        self._says.append(SelfSaid(part="spool", what=what, ok=ok, value=value, text=text))

    def _medium(self, errno: int) -> None:
        self._say("unwritable", ok=errno == 0, value=float(errno), text=os.strerror(errno) if errno else "")

    def _allocate(self) -> None:
        self._allocate_ns = 0
        self._disk.submit(self._log.allocations(), self._allocated)

    def _allocated(self, ended: Ended) -> None:
        self._allocate_ns = time.monotonic_ns() + RETRY_NS if ended.errno else 0

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """None of its own: the disk rings."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """None of its own."""

    def due(self) -> int:
        """The earliest of: something to say, a commit, the cursor, an allocation to try again."""
        return 1 if self._says else min((due for due in (self._commit.due(), self._cursor_ns, self._allocate_ns) if due), default=0)

    def tick(self, now_ns: int) -> None:
        """Say what is to be said, send what is due."""
        while self._says:
            self._emit(self._says.popleft())
        if self._allocate_ns and now_ns >= self._allocate_ns:
            self._allocate()
        if self._cursor_ns and now_ns >= self._cursor_ns and not self._commit.dark:
            self._commit.also(self._cursor(), now_ns)
            self._commit.urge(now_ns)
        self._tell_lost()
        self._grow_old()
        self._commit.pump(now_ns)
