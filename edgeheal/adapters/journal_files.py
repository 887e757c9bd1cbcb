# SPDX-License-Identifier: Apache-2.0
"""The journal on the medium: appends records, recovers them at the start, goes on from memory when nothing can be written.

Duty: join the pure journal (records, segments, group commit, budget) with `ports.Disk`. It decides nothing about apps.
Invariants: an intent that `keep` answered with True is on the medium; what may wait is there within a second; a full, read-only or
slow medium costs lines of the least worth first, counted in a `Gap`, and is said once at its beginning and once at its end;
damage is never taken for a fresh start. Implements `ports.JournalFiles` and `ports.Source`.

What it says about itself (`SelfSaid`, part "journal"): damaged, unwritable (value = errno), slow, budget, newer (value = records unread).
"""

import os
from collections import deque
from collections.abc import Callable, Iterator

from edgeheal.core.now import NS, Now
from edgeheal.core.signal import SelfSaid
from edgeheal.journal.commit import GroupCommit
from edgeheal.journal.fold import Recovered, fold
from edgeheal.journal.frames import Frame
from edgeheal.journal.ops import Ended
from edgeheal.journal.purse import Purse
from edgeheal.journal.records import DecidedLine, Gap, Intent, LightAct, Outcome, Record, Session, Snapshot, Unread, When, body_of, record_of
from edgeheal.journal.segments import Held, SegmentLog
from edgeheal.ports import Disk, Emit

FOLDER = "journal"
SLOT_BYTES = 256 * 1024
SIZE_BYTES = 4 << 20
DAILY_BYTES = 2 << 20
DURABLE_S = 2.0
SNAPSHOT_NS = 6 * 3_600 * NS  # what was learned since is all that a power cut at rest can cost
DARK_MOST = 512 * 1024  # bytes in memory that the medium has not taken yet; for essentials twice that
RETRY_ALLOCATE_NS = 60 * NS

State = Callable[[], bytes | None]
Clock = Callable[[], Now]


def _salt() -> int:
    return int.from_bytes(os.urandom(4), "big")


class JournalFiles:
    """See the module. `state` gives the engine's packed state (`records.pack_state`), `now` the moment."""

    def __init__(
        self,
        disk: Disk,
        emit: Emit,
        *,
        session: bytes,
        now: Clock,
        state: State,
        version: str = "",
        size_bytes: int = SIZE_BYTES,
        daily_bytes: int = DAILY_BYTES,
        slot_bytes: int = SLOT_BYTES,
    ) -> None:
        """Reads what is there (blocks), then starts a session; `recovered` says what was found."""
        self._disk = disk
        self._emit = emit
        self._now = now
        self._state = state
        self._says: deque[SelfSaid] = deque()
        self._purse = Purse(daily_bytes)
        self._commit = GroupCommit(disk.submit, disk.wait, self._medium)
        slots = max(2, size_bytes // slot_bytes)
        self._log = SegmentLog(FOLDER, b"J", slot_bytes=slot_bytes, slots=slots, sink=self._write, salt=_salt)
        self._session = Session(When.of(now()), session, now().boot, version)
        self._charged = 0
        self._gap = 0
        self._gap_why = ""
        self._slow = False
        self._allocate_ns = 0
        self._snapshot_ns = self._mono_ns()
        held = self._log.load(disk.names(FOLDER), disk.read)
        self.recovered = fold(_frames(held), damage=held.damage, fresh=held.fresh)
        self._doubt = {intent.act: intent for intent in self.recovered.doubt}
        self._tell_found(self.recovered)
        self._allocate()
        if self._log.number == 0:
            self._roll()
        else:
            self._put(self._session)

    def _tell_found(self, found: Recovered) -> None:
        if found.damage:
            names = ", ".join(f"{d.what} {d.where}" for d in found.damage[:4])
            self._say("damaged", ok=False, value=float(sum(d.lost for d in found.damage)), text=names)
        if found.unread:
            self._say("newer", ok=False, value=float(found.unread))

    def _say(self, what: str, *, ok: bool, value: float = 0.0, text: str = "") -> None:
        """Said at the next turn, never from the middle of somebody's call."""
        self._says.append(SelfSaid(part="journal", what=what, ok=ok, value=value, text=text))

    # -- writing

    def keep(self, record: Record, *, durable: bool = False) -> bool:
        """See `ports.JournalFiles.keep`."""
        if isinstance(record, Intent):
            self._doubt[record.act] = record
        elif isinstance(record, Outcome):
            self._doubt.pop(record.act, None)
        if not self._put(record):
            return False
        return self._settle() if durable else True

    def snapshot(self) -> bool:
        """See `ports.JournalFiles.snapshot`."""
        self._snapshot_ns = self._mono_ns()
        state = self._state()
        return state is not None and self._put(Snapshot(When.of(self._now()), state))

    def settle(self) -> bool:
        """All that was kept is on the medium: True. For a clean stop."""
        return self._settle()

    @property
    def dark(self) -> bool:
        """Whether we go on from memory."""
        return self._commit.dark

    @property
    def flash_bytes(self) -> int:
        """Bytes given to the medium by this run."""
        return self._commit.bytes_written

    def _settle(self) -> bool:
        safe = self._commit.settle(self._mono_ns(), DURABLE_S)
        if not safe and not self._commit.dark and not self._slow:
            self._slow = True
            self._say("slow", ok=False, value=DURABLE_S * 1000)
        return safe

    def _put(self, record: Record) -> bool:
        essential = not isinstance(record, DecidedLine | LightAct | Snapshot)
        kind, body = body_of(record)
        if not self._may(len(body), essential=essential):
            return False
        if len(body) > self._log.capacity // 2:
            self._lost("too large")
            return False
        if self._log.put(kind, body) is None:
            self._roll()
            return self._log.put(kind, body) is not None
        return True

    def _may(self, size_bytes: int, *, essential: bool) -> bool:
        """Whether memory and the day's budget allow it; else it is counted as a gap."""
        most = DARK_MOST * (2 if essential else 1)
        if self._commit.waiting_bytes > most and not self._settle() and self._commit.waiting_bytes > most:
            self._lost("unwritable")
            return False
        self._charge()
        if not essential and self._purse.left(self._seconds()) < size_bytes and self._purse.limited:
            if self._gap_why != "budget":
                self._say("budget", ok=False)
            self._lost("budget")
            return False
        if self._gap and not self._commit.dark and (self._gap_why != "budget" or not essential):
            self._close_gap()
        return True

    def _lost(self, why: str) -> None:
        self._gap += 1
        self._gap_why = why

    def _close_gap(self) -> None:
        lines, why, self._gap, self._gap_why = self._gap, self._gap_why, 0, ""
        if why == "budget":
            self._say("budget", ok=True, value=float(lines))
        self._put(Gap(When.of(self._now()), lines, why))

    def _charge(self) -> None:
        """Charge what the medium really wrote since the last time."""
        written = self._commit.bytes_written - self._charged
        self._charged = self._commit.bytes_written
        self._purse.spend(written, self._seconds(), essential=True)

    def _seconds(self) -> float:
        return self._mono_ns() / NS

    def _mono_ns(self) -> int:
        return self._now().mono_ns

    def _write(self, name: str, at: int, data: bytes) -> None:
        self._commit.add(name, at, data, self._mono_ns())

    def _roll(self) -> None:
        """A new segment, begun with all that makes the older ones dispensable."""
        if self._log.free == 0:
            oldest = self._log.numbers[0]
            self._commit.forget(self._log.name(oldest))
            self._log.release(oldest)
        self._log.roll()
        self._snapshot_ns = self._mono_ns()
        state = self._state() or self.recovered.state
        snapshot = [] if state is None else [Snapshot(When.of(self._now()), state)]
        head: list[Record] = [self._session, *snapshot, *self._doubt.values()]
        places = [self._log.put(*body_of(record)) for record in head]
        if None in places:
            self._say("too large", ok=False, value=float(len(state or b"")))

    def _allocate(self) -> None:
        """Reserve the space of all slots; tried again until the medium has it."""
        self._allocate_ns = 0
        self._disk.submit(self._log.allocations(), self._allocated)

    def _allocated(self, ended: Ended) -> None:
        self._allocate_ns = self._mono_ns() + RETRY_ALLOCATE_NS if ended.errno else 0

    def _medium(self, errno: int) -> None:
        """The medium stopped (or began again) to take what we give it."""
        if errno == 0 and self._slow:
            self._slow = False
        self._say("unwritable", ok=errno == 0, value=float(errno), text=os.strerror(errno) if errno else "")

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """None of its own: the disk rings."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """None of its own."""

    def due(self) -> int:
        """The earliest of: something to say, a commit, an allocation to try again, the next snapshot."""
        if self._says:
            return 1
        dues = (self._commit.due(), self._allocate_ns, self._snapshot_ns + SNAPSHOT_NS)
        return min((due for due in dues if due), default=0)

    def tick(self, now_ns: int) -> None:
        """Say what is to be said, send what is due."""
        while self._says:
            self._emit(self._says.popleft())
        if self._slow and self._commit.safe(self._commit.mark):
            self._slow = False
            self._say("slow", ok=True)
        if self._allocate_ns and now_ns >= self._allocate_ns:
            self._allocate()
        if now_ns >= self._snapshot_ns + SNAPSHOT_NS:
            self.snapshot()
        self._commit.pump(now_ns)


def _frames(held: Held) -> Iterator[Frame]:
    for segment in held.segments:
        yield from segment.frames


def read_all(disk: Disk, *, size_bytes: int = SIZE_BYTES, slot_bytes: int = SLOT_BYTES) -> tuple[Recovered, list[Record]]:
    """The journal as files, read only: what is recovered, and every readable record, oldest first. For `explain` with the agent dead."""
    log = SegmentLog(FOLDER, b"J", slot_bytes=slot_bytes, slots=max(2, size_bytes // slot_bytes), sink=lambda *_: None, salt=lambda: 0)
    held = log.load(disk.names(FOLDER), disk.read)
    records = [record for frame in _frames(held) if not isinstance(record := record_of(frame), Unread)]
    return fold(_frames(held), damage=held.damage, fresh=held.fresh), records
