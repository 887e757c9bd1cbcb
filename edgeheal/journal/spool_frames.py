# SPDX-License-Identifier: Apache-2.0
"""What the spool writes: records and stand-ins as frame bodies, and its cursor. Bytes in, bytes out.

Duty: the codec. It keeps no order and touches no disk. Invariants: a body of another shape comes back as None (kept unread where
it lies), never as an error; the key (session, seq) and the order of arrival stand in every frame, so that a moved record is the same.

Record (kind 1): session 6s | seq u32 | order u32 | severity u8 | flags u8 | incident u32 | at_s u32 | fingerprint 8s | body. Big-endian.
Stand-in (kind 2): the same head | kind u8 | reason u16 | count u32 | first_s u32 | last_s u32 | ranges u16, each session 6s, first u32, last u32 | body.
Cursor: frame kind 3, msgpack {"v": 1, "n": count, "stored": [[session, upto, [[first, last], ...]], ...], "aside": [[session, seq, reason],
...]}; written in turn to the two halves of a preallocated file, the newest whole one counts.
"""

import struct
from dataclasses import dataclass, field

import msgpack

from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.journal import frames

K_RECORD, K_STANDIN, K_CURSOR = 1, 2, 3
CURSOR_BYTES = 64 * 1024  # one half of the file
_HEAD = struct.Struct("!6sIIBBII8s")
_STANDIN = struct.Struct("!BHIIIH")
_SPAN = struct.Struct("!6sII")
CURSOR_SALT = int.from_bytes(b"CURS", "big")
SEQ_MOST = 0xFFFFFFFF
RANGES_MOST = 128  # what the wire takes in one record
OVERHEAD = frames.HEAD_BYTES + _HEAD.size
F_CRITICAL = 1


@dataclass(frozen=True, slots=True)
class Head:
    """What the spool knows of a record without its body. `fingerprint` 8 bytes, zeros = none."""

    session: bytes
    seq: int
    order: int
    severity: int
    flags: int = 0
    incident: int = 0
    at_s: int = 0
    fingerprint: bytes = b""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A frame, read: its head, for a stand-in what it stands for, the body that is sent."""

    head: Head
    standin: Standin | None
    body: bytes


def _head(head: Head) -> bytes:
    """Numbers are in range by `SpoolLog`, which makes heads; struct pads a short fingerprint with zeros."""
    return _HEAD.pack(head.session, head.seq, head.order, head.severity, head.flags, head.incident, head.at_s, head.fingerprint)


def pack_record(head: Head, body: bytes) -> bytes:
    """The body of a record's frame."""
    return _head(head) + body


def pack_standin(head: Head, standin: Standin, body: bytes) -> bytes:
    """The body of a stand-in's frame; at most `RANGES_MOST` ranges."""
    spans = standin.ranges[:RANGES_MOST]
    told = _STANDIN.pack(
        standin.kind,
        standin.reason & 0xFFFF,
        standin.count & SEQ_MOST,
        max(0, min(standin.first_s, SEQ_MOST)),
        max(0, min(standin.last_s, SEQ_MOST)),
        len(spans),
    )
    return _head(head) + told + b"".join(_SPAN.pack(s.session, s.first, s.last) for s in spans) + body


def unpack(frame: frames.Frame) -> Spooled | None:
    """The record or stand-in in a frame; None for a newer kind or a shape that is not ours."""
    if frame.version != 1 or frame.kind not in (K_RECORD, K_STANDIN) or len(frame.body) < _HEAD.size:
        return None
    session, seq, order, severity, flags, incident, at_s, fingerprint = _HEAD.unpack_from(frame.body)
    head = Head(session, seq, order, min(severity, 3), flags, incident, at_s, fingerprint if any(fingerprint) else b"")
    if frame.kind == K_RECORD:
        return Spooled(head, None, frame.body[_HEAD.size :])
    return _standin(head, frame.body)


def _standin(head: Head, data: bytes) -> Spooled | None:
    at = _HEAD.size + _STANDIN.size
    if len(data) < at:
        return None
    kind, reason, count, first_s, last_s, number = _STANDIN.unpack_from(data, _HEAD.size)
    stop = at + number * _SPAN.size
    if number > RANGES_MOST or stop > len(data) or kind not in set(StandinKind):
        return None
    spans = tuple(Span(*_SPAN.unpack_from(data, at + i * _SPAN.size)) for i in range(number))
    if any(s.first > s.last for s in spans):
        return None
    standin = Standin(StandinKind(kind), spans, count, head.severity, head.fingerprint, first_s, last_s, reason)
    return Spooled(head, standin, data[stop:])


@dataclass(slots=True)
class Cursor:
    """What the fleet has: per session everything up to a seq and ranges beyond; and what was set aside, with the reason."""

    stored: dict[bytes, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)
    aside: dict[tuple[bytes, int], int] = field(default_factory=dict)
    count: int = 0  # how often it was written: the higher one is the newer

    def has(self, session: bytes, seq: int) -> bool:
        """Whether the fleet has this record."""
        upto, ranges = self.stored.get(session, (0, []))
        return seq <= upto or any(first <= seq <= last for first, last in ranges)


def pack_cursor(cursor: Cursor) -> bytes:
    """One half's content; over `CURSOR_BYTES` the finer ranges are left out, which only sends something twice."""
    aside = [[session, seq, reason] for (session, seq), reason in cursor.aside.items()]
    body = b""
    for finer in (True, False):
        stored = [[session, upto, ranges if finer else []] for session, (upto, ranges) in cursor.stored.items()]
        body = msgpack.packb({"v": 1, "n": cursor.count, "stored": stored, "aside": aside}, use_bin_type=True)
        if len(body) <= CURSOR_BYTES - frames.HEAD_BYTES:
            break
    return frames.make(K_CURSOR, body, salt=CURSOR_SALT)


def read_cursor(data: bytes) -> Cursor | None:
    """The newest whole half of the file. All zeros: none was written yet; None: damaged."""
    if len(data) >= 2 * CURSOR_BYTES and not any(data):
        return Cursor()
    halves = [_unpack_cursor(data[at : at + CURSOR_BYTES]) for at in (0, CURSOR_BYTES)]
    found = [half for half in halves if half is not None]
    return max(found, key=lambda half: half.count) if found else None


def _unpack_cursor(data: bytes) -> Cursor | None:
    frame = frames.at(data, 0, salt=CURSOR_SALT)
    if frame is None or frame.kind != K_CURSOR:
        return None
    cursor = Cursor()
    try:
        plain = msgpack.unpackb(frame.body, raw=False, strict_map_key=False)
        for session, upto, ranges in plain["stored"]:
            cursor.stored[bytes(session)] = (int(upto), [(int(a), int(b)) for a, b in ranges])
        for session, seq, reason in plain["aside"]:
            cursor.aside[bytes(session), int(seq)] = int(reason)
        cursor.count = int(plain["n"])
    except (ValueError, TypeError, KeyError, RecursionError, msgpack.exceptions.UnpackException):
        return None
    return cursor
