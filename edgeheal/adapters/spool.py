# SPDX-License-Identifier: Apache-2.0
"""The spool: records that wait for the fleet, on disk until the fleet says that it has them.

Duty: join the pure parts (`journal.spool_log`, its index, its recovery, who is to blame) with `ports.Disk` and give the link what
is to be sent next. It encodes no summary (a stand-in's body comes from `encode`) and speaks no MQTT.
Invariants: a record that `put` made durable is sent until `stored` covers it, in the session it was put in; whatever is folded,
dropped, lost or set aside is named by a record of its own; at most `size_bytes`, always; no blocking beyond stated deadlines.
Implements `ports.Spool` and `ports.Source`.

What it says about itself (`SelfSaid`, part "spool"): damaged, unwritable (value = errno), dropped (value = how many), set_aside
(value = reason), newer (value = records unread).
"""

import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Iterable, Sequence

from edgeheal.core import reasons
from edgeheal.core.now import NS
from edgeheal.core.signal import SelfSaid
from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.journal.blame import Blame
from edgeheal.journal.bodies import Bodies
from edgeheal.journal.commit import GroupCommit
from edgeheal.journal.ops import Allocate, Ended, Read, Sync, Write
from edgeheal.journal.segments import SECTOR, SegmentLog
from edgeheal.journal.spool_frames import CURSOR_BYTES, Cursor, pack_cursor, read_cursor
from edgeheal.journal.spool_log import DURABLE_S, Encode, SpoolLog
from edgeheal.journal.spool_recover import Found, recover
from edgeheal.journal.waiting import State
from edgeheal.ports import Disk, Emit

FOLDER = "spool"
CURSOR = f"{FOLDER}/cursor"
SLOT_BYTES = 64 * 1024
SIZE_BYTES = 4 << 20
BODY_MOST = 16 * 1024
CURSOR_NS = 5 * NS
READ_S = 1.0
DARK_MOST = 1 << 20  # bytes in memory that the medium has not taken yet; for critical ones twice that
ASIDE_MOST = 32
RETRY_NS = 60 * NS

Key = tuple[bytes, int]


def _salt() -> int:
    return int.from_bytes(os.urandom(4), "big")


class Spool:
    """See the module."""

    def __init__(
        self,
        disk: Disk,
        emit: Emit,
        *,
        session: bytes,
        encode: Encode,
        size_bytes: int = SIZE_BYTES,
        slot_bytes: int = SLOT_BYTES,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Reads what is there (blocks), then begins `session` (6 random bytes)."""
        self._disk = disk
        self._emit = emit
        self._clock = clock
        self._slot_bytes = slot_bytes
        self._says: deque[SelfSaid] = deque()
        self._body_most = min(BODY_MOST, slot_bytes // 2 - SECTOR)
        self._aside: OrderedDict[Key, int] = OrderedDict()
        self._blame = Blame()
        self._cursor_ns = 0
        self._cursor_count = 0
        self._allocate_ns = 0
        self._told_dropped = 0
        self._reading: list[list[Ended]] = []
        self._commit = GroupCommit(disk.submit, disk.wait, self._medium)
        self._segments = SegmentLog(FOLDER, b"S", slot_bytes=slot_bytes, slots=max(6, size_bytes // slot_bytes), sink=self._write, salt=_salt)
        bodies = Bodies(self._read_segment, self._commit.safe)
        sizes = disk.names(FOLDER)
        held = self._segments.load(sizes, disk.read)
        cursor = self._read_cursor(sizes, fresh=held.fresh)
        found = recover(held, cursor or Cursor())
        self.fresh = held.fresh
        if held.damage:
            self._say("damaged", value=float(sum(d.lost for d in held.damage)), text=", ".join(f"{d.what} {d.where}" for d in held.damage[:4]))
        self._log = SpoolLog(
            session=session,
            index=found.index,
            log=self._segments,
            commit=self._commit,
            bodies=bodies,
            encode=encode,
            cursor=self._cursor,
            clock=clock,
        )
        self._index = found.index
        self._begin(found, session, certain=cursor is not None or bool(held.damage))
        self._allocate()

    def _read_cursor(self, sizes: dict[str, int], *, fresh: bool) -> Cursor | None:
        """The cursor; None: damaged, so that what the fleet has is not known (it is sent again, which does no harm)."""
        if CURSOR not in sizes and fresh:
            return Cursor()
        try:
            cursor = read_cursor(self._disk.read(CURSOR, 0, 2 * CURSOR_BYTES))
        except OSError:
            cursor = None
        if cursor is None:
            self._say("damaged", text=CURSOR)
        else:
            self._cursor_count = cursor.count
        return cursor

    def _begin(self, found: Found, session: bytes, *, certain: bool) -> None:
        """Apply what stand-ins and cursor say; name holes. Without a cursor a hole may as well have been stored and freed."""
        self._log.order = found.order
        self._log.cover(found.covered)
        for key, reason in found.aside.items():
            self._put_aside(key, reason)
        if found.unread:
            self._say("newer", value=float(found.unread))
        self._index.begin(session)
        if certain:
            self._log.name_lost([span for name in self._index.sessions() if name in found.sessions for span in self._index.holes(name)])

    # -- putting

    def put(self, body: bytes, *, severity: int, fingerprint: bytes, critical: bool, incident: int = 0, at_s: int = 0) -> int:
        """See `ports.Spool.put`. A body that no broker would take is not kept, but told."""
        refuse, most = 0, DARK_MOST * (2 if critical else 1)
        if self._commit.waiting_bytes > most:
            self._commit.settle(self._clock(), DURABLE_S)
        if len(body) > self._body_most:
            refuse = reasons.TOO_LARGE
        elif self._commit.waiting_bytes > most:
            refuse = reasons.UNWRITABLE
        seq = self._log.append(body, severity=severity, critical=critical, incident=incident, at_s=at_s, fingerprint=fingerprint, refuse=refuse)
        if critical:
            self._commit.settle(self._clock(), DURABLE_S)
        return seq

    # -- the link's side

    def waits(self, fingerprint: bytes) -> bool:
        """See `ports.Spool.waits`."""
        return any(self._index.head(row).fingerprint == fingerprint for row in self._index.gravest())

    def pending(self, most: int, skip: Container[Key] = ()) -> list[tuple[bytes, int, bytes]]:
        """See `ports.Spool.pending`. After a break with several on their way they come one at a time, until it is clear which is to blame."""
        suspect = self._blame.next(self._waits)
        if suspect is not None:
            return [] if suspect in skip else self._with_bodies([suspect], 1)
        keys = (key for row in self._index.gravest() if (key := self._index.key(row)) not in skip)
        return self._with_bodies(keys, most)

    def _with_bodies(self, keys: Iterable[Key], most: int) -> list[tuple[bytes, int, bytes]]:
        found: list[tuple[bytes, int, bytes]] = []
        for key in keys:
            if len(found) >= most:
                break
            body = self._log.body(key)
            if body is not None:
                self._log.handed.add(key)
                found.append((*key, body))
        return found

    def _waits(self, key: Key) -> bool:
        return self._index.state_of(*key) is State.WAITING

    def stored(self, session: bytes, upto: int, exceptions: tuple[int, ...]) -> None:
        """See `ports.Spool.stored`."""
        if self._index.acknowledge(session, upto, exceptions):
            self._log.handed = {key for key in self._log.handed if self._index.find(*key) >= 0}
            self._blame.forget(self._waits)
            self._cursor_ns = self._cursor_ns or self._clock() + CURSOR_NS
            if len(self._index.empty_segments(self._segments.number)) > 1:
                self._log.release()

    def passed(self, session: bytes, seq: int) -> None:
        """The broker acknowledged this one: it is not what breaks the connection."""
        self._blame.passed((session, seq))

    def refused(self, session: bytes, seq: int, reason: int) -> None:
        """See `ports.Spool.refused`."""
        if self._waits((session, seq)):
            self._set_aside((session, seq), reason)

    def broke(self, keys: Sequence[Key]) -> None:
        """See `ports.Spool.broke`."""
        guilty = self._blame.broke(keys, self._waits)
        if guilty is not None:
            self._set_aside(guilty, reasons.POISON)

    def _set_aside(self, key: Key, reason: int) -> None:
        """Kept as evidence, counted, told in a small record of its own; the queue goes on."""
        self._blame.passed(key)
        self._put_aside(key, reason)
        head = self._index.head(self._index.find(*key))
        self._log.stand_in(Standin(StandinKind.SET_ASIDE, (Span(*key, key[1]),), 1, head.severity, head.fingerprint, head.at_s, head.at_s, reason))
        self._say("set_aside", value=float(reason))
        self._cursor_ns = self._cursor_ns or self._clock() + CURSOR_NS
        self._commit.urge(self._clock())

    def _put_aside(self, key: Key, reason: int) -> None:
        row = self._index.find(*key)
        if row < 0:
            return
        self._index.finish(row, State.ASIDE)
        self._aside[key] = reason
        while len(self._aside) > ASIDE_MOST:
            oldest, _ = self._aside.popitem(last=False)
            self._index.finish(self._index.find(*oldest), State.STORED)

    def aside(self) -> list[tuple[bytes, int, int]]:
        """What was set aside, oldest first: (session, seq, reason). Its bytes: `body`."""
        return [(*key, reason) for key, reason in self._aside.items()]

    def body(self, session: bytes, seq: int) -> bytes | None:
        """The bytes of a record that waits or is set aside."""
        return self._log.body((session, seq))

    def depth(self) -> tuple[int, int]:
        """See `ports.Spool.depth`."""
        return self._index.waiting, self._log.dropped

    # -- the medium

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
            self._cursor()
        return self._commit.settle(self._clock(), DURABLE_S)

    def _write(self, name: str, at: int, data: bytes) -> None:
        self._commit.add(name, at, data, self._clock())

    def _read_segment(self, number: int) -> bytes | None:
        """Waits once for a medium that hangs; while that read is out nobody waits again."""
        if self._reading and not self._reading[0]:
            return None
        answer: list[Ended] = []
        self._reading = [answer]
        ticket = self._disk.submit([Read(self._segments.name(number), 0, self._slot_bytes)], answer.append)
        self._disk.wait(ticket, READ_S)
        whole = bool(answer) and not answer[0].errno and len(answer[0].data) == self._slot_bytes
        return answer[0].data if whole else None

    def _cursor(self) -> None:
        """What the fleet has, on the medium before what is written after it. In its own space: a full disk does not matter."""
        self._cursor_ns = 0
        self._cursor_count += 1
        now_ns = self._clock()
        data = pack_cursor(Cursor(self._index.stored(), dict(self._aside), self._cursor_count))
        self._commit.also(Write(CURSOR, self._cursor_count % 2 * CURSOR_BYTES, data), now_ns)
        self._commit.also(Sync(CURSOR), now_ns)

    def _say(self, what: str, *, ok: bool = False, value: float = 0.0, text: str = "") -> None:
        """Said at the next turn, never from the middle of somebody's call."""
        self._says.append(SelfSaid(part="spool", what=what, ok=ok, value=value, text=text))

    def _medium(self, errno: int) -> None:
        self._say("unwritable", ok=errno == 0, value=float(errno), text=os.strerror(errno) if errno else "")

    def _allocate(self) -> None:
        """Reserve the space of all slots; tried again until the medium has it."""
        self._allocate_ns = 0
        self._disk.submit([Allocate(CURSOR, 2 * CURSOR_BYTES), *self._segments.allocations()], self._allocated)

    def _allocated(self, ended: Ended) -> None:
        self._allocate_ns = self._clock() + RETRY_NS if ended.errno else 0

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """None of its own: the disk rings."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """None of its own."""

    def due(self) -> int:
        """The earliest of: something to say, a commit, the cursor, an allocation to try again."""
        if self._says or self._log.dropped != self._told_dropped:
            return 1
        return min((due for due in (self._commit.due(), self._cursor_ns, self._allocate_ns) if due), default=0)

    def tick(self, now_ns: int) -> None:
        """Say what is to be said, send what is due."""
        self._log.tell_lost()
        if self._log.tell_garbled():
            self._say("damaged", text="records")
        if self._log.dropped != self._told_dropped:
            self._told_dropped = self._log.dropped
            self._say("dropped", value=float(self._told_dropped))
        while self._says:
            self._emit(self._says.popleft())
        if self._allocate_ns and now_ns >= self._allocate_ns:
            self._allocate()
        if self._cursor_ns and now_ns >= self._cursor_ns and not self._commit.dark:
            self._cursor()
            self._commit.urge(now_ns)
        self._commit.pump(now_ns)
