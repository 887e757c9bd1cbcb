# SPDX-License-Identifier: Apache-2.0
"""Frames: version, kind, length, CRC and body, one after another, bytes in, bytes out.

Duty: make frames and find them again in what a medium gives back. It interprets no body and touches no disk.
Invariants: nothing is yielded whose CRC does not hold; a torn tail is cut; damage in the middle is skipped and *named*, and
what lies whole behind it is kept; unknown kinds and versions are frames like any other. The CRC is seeded with the
segment's salt, so that what a recycled file held before is never taken for its present.

Frame: sync E5 4A | kind u8 | version u8 | length u32 | CRC-32 u32 over salt, head, body | body. Big-endian, 12 bytes before the body.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SYNC = b"\xe5\x4a"
_HEAD = struct.Struct("!2sBBII")
_CHECKED = struct.Struct("!IBBI")
HEAD_BYTES = _HEAD.size
MAX_BODY = 8 << 20
SCAN_FACTOR = 16  # a scan past damage checks at most this many times the bytes there are, whatever lengths they claim


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame; `at` is where its head starts, `end` the byte after its body."""

    kind: int
    version: int
    body: bytes
    at: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Scan:
    """What a stretch of bytes held: frames in order, where the last one ends, and the damaged stretches between frames."""

    frames: tuple[Frame, ...]
    end: int
    damaged: tuple[tuple[int, int], ...]


def _crc(salt: int, kind: int, version: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(_CHECKED.pack(salt & 0xFFFFFFFF, kind, version, len(body))))


def make(kind: int, body: bytes, *, version: int = 1, salt: int = 0) -> bytes:
    """One frame. ValueError when the body is over `MAX_BODY`: limits are checked before anything is written."""
    if len(body) > MAX_BODY:
        raise ValueError(f"a frame of {len(body)} bytes is over the limit of {MAX_BODY}")
    return _HEAD.pack(SYNC, kind, version, len(body), _crc(salt, kind, version, body)) + body


def at(data: bytes | memoryview, place: int, *, salt: int = 0, limit: int | None = None) -> Frame | None:
    """The frame that starts exactly at `place`, or None: cut short, foreign, damaged or too long."""
    end = len(data) if limit is None else limit
    if place + HEAD_BYTES > end:
        return None
    sync, kind, version, length, crc = _HEAD.unpack_from(data, place)
    stop = place + HEAD_BYTES + length
    if sync != SYNC or length > MAX_BODY or stop > end:
        return None
    body = bytes(data[place + HEAD_BYTES : stop])
    return Frame(kind, version, body, place, stop) if _crc(salt, kind, version, body) == crc else None


def scan(data: bytes, start: int = 0, *, salt: int = 0, limit: int | None = None) -> Scan:
    """All whole frames from `start`; bounded in time for hostile bytes, too."""
    stop = len(data) if limit is None else min(limit, len(data))
    frames: list[Frame] = []
    damaged: list[tuple[int, int]] = []
    place = start
    purse = SCAN_FACTOR * max(stop - start, HEAD_BYTES)
    while place < stop:
        frame = at(data, place, salt=salt, limit=stop)
        if frame is None:
            found, purse = _next(data, place + 1, stop, salt, purse)
            if found is None:
                break
            damaged.append((place, found.at))
            frame = found
        frames.append(frame)
        place = frame.end
    return Scan(tuple(frames), place, tuple(damaged))


def _next(data: bytes, place: int, stop: int, salt: int, purse: int) -> tuple[Frame | None, int]:
    """The next whole frame behind damage, and what is left of the purse of bytes to check."""
    while purse > 0:
        place = data.find(SYNC, place, stop)
        if place < 0 or place + HEAD_BYTES > stop:
            return None, purse
        length = int.from_bytes(data[place + 4 : place + 8], "big")
        purse -= HEAD_BYTES + (length if place + HEAD_BYTES + length <= stop else 0)
        frame = at(data, place, salt=salt, limit=stop)
        if frame is not None:
            return frame, purse
        place += 1
    return None, purse


def whole(data: bytes, *, salt: int = 0) -> Iterator[Frame]:
    """Frames from the start up to the first byte that is no frame: for streams in which nothing behind damage may count."""
    place = 0
    while (frame := at(data, place, salt=salt)) is not None:
        yield frame
        place = frame.end
