# SPDX-License-Identifier: Apache-2.0
"""A log over a fixed set of preallocated slots, bytes in, bytes out: journal and spool are both one of these.

Duty: where the next frame goes, which slot is taken next, what a set of slots held when it is read again. It writes nothing:
writes are handed to a `GroupCommit`-like sink. Which frames are still needed is the owner's business.
Invariants: a slot is reused only after its owner released it; a reused slot's old frames never come back (each use has its own
salt); the header stands at both ends of a slot, so that a zeroed head is *damage*, and what follows it is still read; a file
that is too short is damage, never a fresh start.

Slot: header sector (512 B) | frames | header sector. Header, big-endian:
magic "EHSG" | version u8 | what u8 | state u8 (1 live, 2 free) | 0 | number u64 | salt u32 | end of the segment before u32 | slot bytes u32 | CRC-32 u32
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgeheal.journal import frames
from edgeheal.journal.ops import Allocate

_HEADER = struct.Struct("!4sBBBBQIII")
_CRC = struct.Struct("!I")
MAGIC = b"EHSG"
SECTOR = 512
LIVE, FREE = 1, 2
USED = b"used\n"

Sink = Callable[[str, int, bytes], None]


@dataclass(frozen=True, slots=True)
class Header:
    """What a slot says of itself; `before_end` is where the segment with the number before this one ended."""

    what: int
    state: int
    number: int
    salt: int
    before_end: int
    slot_bytes: int


def pack_header(header: Header) -> bytes:
    """One sector."""
    head = _HEADER.pack(MAGIC, 1, header.what, header.state, 0, header.number, header.salt, header.before_end, header.slot_bytes)
    return (head + _CRC.pack(zlib.crc32(head))).ljust(SECTOR, b"\0")


def unpack_header(sector: bytes) -> Header | None:
    """The header, or None: damaged, foreign, or a newer version."""
    size = _HEADER.size
    if len(sector) < size + 4 or _CRC.unpack_from(sector, size)[0] != zlib.crc32(sector[:size]):
        return None
    magic, version, what, state, _, number, salt, before_end, slot_bytes = _HEADER.unpack_from(sector)
    if magic != MAGIC or version != 1 or state not in (LIVE, FREE):
        return None
    return Header(what, state, number, salt, before_end, slot_bytes)


@dataclass(slots=True)
class Slot:
    """One file. `number` 0: free. `end`: the byte after its last frame."""

    name: str
    number: int = 0
    salt: int = 0
    end: int = SECTOR


@dataclass(frozen=True, slots=True)
class Segment:
    """What one live slot held: its number, its frames in order."""

    number: int
    frames: tuple[frames.Frame, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something on the medium was not what it must be; `what` a fixed word, `where` the file, `lost` bytes that nobody can read."""

    what: str
    where: str
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame stands: segment number, offset of its head, bytes with its head."""

    number: int
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class Held:
    """All that the slots held: segments by number, damage by name, whether nothing was ever written here."""

    segments: tuple[Segment, ...]
    damage: tuple[Damage, ...]
    fresh: bool


@dataclass(slots=True)
class _Found:
    slots: list[Slot] = field(default_factory=list)
    headers: dict[int, Header] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    zero_from: int = -1
    last_used: int = -1


class SegmentLog:
    """The slots `folder/00.seg`, `01.seg`, ... of `slot_bytes` each. `what` one letter, `salt` gives 32 random bits."""

    def __init__(self, folder: str, what: bytes, *, slot_bytes: int, slots: int, sink: Sink, salt: Callable[[], int]) -> None:
        """`sink(name, at, data)` takes each write in order."""
        self._what = what[0]
        self._slot_bytes = slot_bytes
        self._sink = sink
        self._salt = salt
        self._slots = [Slot(f"{folder}/{i:02d}.seg") for i in range(slots)]
        self._by_number: dict[int, Slot] = {}
        self._current: Slot | None = None
        self._number = 0
        self._mark = f"{folder}/used"  # witness that something was ever written, should all slots come back empty
        self._marked = False

    @property
    def capacity(self) -> int:
        """Bytes of frames that one slot holds."""
        return self._slot_bytes - 2 * SECTOR

    @property
    def room(self) -> int:
        """Bytes left in the current segment, 0 when there is none."""
        return 0 if self._current is None else self._slot_bytes - SECTOR - self._current.end

    @property
    def free(self) -> int:
        """Slots that can be taken."""
        return sum(1 for slot in self._slots if slot.number == 0)

    @property
    def number(self) -> int:
        """The current segment's number, 0 before the first."""
        return 0 if self._current is None else self._current.number

    @property
    def numbers(self) -> list[int]:
        """Live segments, oldest first."""
        return sorted(self._by_number)

    def name(self, number: int) -> str:
        """The file of a live segment."""
        return self._by_number[number].name

    def end(self, number: int) -> int:
        """The byte after a live segment's last frame."""
        return self._by_number[number].end

    def allocations(self) -> list[Allocate]:
        """One for each file; kept as it is where it exists."""
        return [Allocate(self._mark, len(USED)), *(Allocate(slot.name, self._slot_bytes) for slot in self._slots)]

    def put(self, kind: int, body: bytes, *, version: int = 1) -> Place | None:
        """Append one frame to the current segment; None when it does not fit and `roll` must come first."""
        slot = self._current
        length = frames.HEAD_BYTES + len(body)
        if slot is None or slot.end + length > self._slot_bytes - SECTOR:
            return None
        place = Place(slot.number, slot.end, length)
        self._sink(slot.name, slot.end, frames.make(kind, body, version=version, salt=slot.salt))
        slot.end += length
        return place

    def roll(self) -> bool:
        """Take the next free slot; False when there is none."""
        slot = next((s for s in self._slots if s.number == 0), None)
        if slot is None:
            return False
        if not self._marked:
            self._sink(self._mark, 0, USED)
            self._marked = True
        before = 0 if self._current is None else self._current.end
        self._number += 1
        slot.number, slot.salt, slot.end = self._number, self._salt(), SECTOR
        self._write_header(slot, LIVE, before)
        self._by_number[slot.number] = slot
        self._current = slot
        return True

    def release(self, number: int) -> None:
        """The segment is needed no more. The current one cannot be released."""
        slot = self._by_number[number]
        if slot is self._current:
            raise ValueError("the current segment is in use")
        del self._by_number[number]
        self._write_header(slot, FREE, 0)
        slot.number = 0

    def _write_header(self, slot: Slot, state: int, before_end: int) -> None:
        sector = pack_header(Header(self._what, state, slot.number, slot.salt, before_end, self._slot_bytes))
        self._sink(slot.name, 0, sector)
        self._sink(slot.name, self._slot_bytes - SECTOR, sector)

    def load(self, sizes: dict[str, int], read: Callable[[str, int, int], bytes]) -> Held:
        """Read all slots again. The newest segment goes on where its last whole frame ended, unless its file was damaged.

        `sizes` of the files that exist, `read(name, at, length)` their bytes; a read that fails raises OSError and is damage.
        """
        found = _Found()
        for index, slot in enumerate(self._slots):
            if slot.name in sizes:
                self._load_slot(index, slot, sizes[slot.name], read, found)
        if 0 <= found.zero_from < found.last_used:
            found.damage.append(Damage("zeroed", self._slots[found.zero_from].name, self._slot_bytes))
        found.segments.sort(key=lambda s: s.number)
        self._number = max([self._number, *(h.number for h in found.headers.values())])
        found.damage.extend(self._short(found))
        self._marked = self._mark in sizes and self._was_used(sizes[self._mark], read)
        if self._marked and found.last_used < 0 and not found.damage:
            found.damage.append(Damage("emptied", self._mark))
        hurt = {d.where for d in found.damage if d.what != "torn"}
        newest = self._by_number.get(self._number)
        self._current = newest if newest is not None and newest.name not in hurt else None
        fresh = not found.segments and not found.damage and found.last_used < 0
        return Held(tuple(found.segments), tuple(found.damage), fresh)

    def _was_used(self, size: int, read: Callable[[str, int, int], bytes]) -> bool:
        """The mark is zeros until the first segment; anything else, an emptied file too, says that there was one."""
        try:
            return size < len(USED) or any(read(self._mark, 0, len(USED)))
        except OSError:
            return True

    def _load_slot(self, index: int, slot: Slot, size: int, read: Callable[[str, int, int], bytes], found: _Found) -> None:
        try:
            head = read(slot.name, 0, SECTOR)
            tail = read(slot.name, self._slot_bytes - SECTOR, SECTOR)
            front, back = unpack_header(head), unpack_header(tail)
            header = front if front is not None and (back is None or front.number >= back.number) else back
            if size != self._slot_bytes:
                found.damage.append(Damage("short", slot.name, max(0, self._slot_bytes - size)))
            if header is None:
                self._no_header(index, slot, size, read, found)
                return
            data = b"" if header.state == FREE else read(slot.name, 0, self._slot_bytes)
        except OSError:
            found.damage.append(Damage("unreadable", slot.name, self._slot_bytes))
            found.last_used = index
            return
        found.last_used = index
        if header.state == FREE and (front is None or back is None or front.state == back.state):
            found.headers.setdefault(header.number, header)
            return
        self._take(slot, header, data or read(slot.name, 0, self._slot_bytes), found, torn_header=front is None)

    def _no_header(self, index: int, slot: Slot, size: int, read: Callable[[str, int, int], bytes], found: _Found) -> None:
        """Never used, or both headers gone: then its frames cannot be told from an older life's, and are lost."""
        if size == self._slot_bytes and any(read(slot.name, 0, self._slot_bytes)):
            found.damage.append(Damage("no header", slot.name, self._slot_bytes))
            found.last_used = max(found.last_used, index)
        elif size == self._slot_bytes and found.zero_from < 0:
            found.zero_from = index

    def _take(self, slot: Slot, header: Header, data: bytes, found: _Found, *, torn_header: bool) -> None:
        scan = frames.scan(data, SECTOR, salt=header.salt, limit=self._slot_bytes - SECTOR)
        if torn_header and scan.frames:
            found.damage.append(Damage("zeroed", slot.name, SECTOR))
        found.damage.extend(Damage("torn", slot.name, end - start) for start, end in scan.damaged)
        slot.number, slot.salt, slot.end = header.number, header.salt, scan.end
        self._by_number[slot.number] = slot
        found.headers[header.number] = header
        found.segments.append(Segment(header.number, scan.frames))

    def _short(self, found: _Found) -> Iterator[Damage]:
        """Segments that end before the place that the next one remembers."""
        for number, header in found.headers.items():
            before = self._by_number.get(number - 1)
            if before is not None and header.state == LIVE and before.end < header.before_end:
                yield Damage("cut", before.name, header.before_end - before.end)
