# SPDX-License-Identifier: Apache-2.0
"""Recordings `.ehr`: what is kept of an incident, bytes in, bytes out.

Duty: the format: header, snapshot, policy, catalog, signals with the decisions they led to. It runs nothing: who replays joins it
with the engine. Invariants: whatever was cut off at the end, the part before it is read; everything inflated is bounded;
this and the previous version of the format are readable, a newer one is refused by name; the device's name is masked.

File: magic 89 "EHR" 0D 0A 1A 01 (last = version), then frames (`journal.frames`, salt "EHR1"), bodies raw-deflated msgpack:
header {} | policy | catalog | (snapshot, entries*)+ | end. A second snapshot begins a part that does not follow from the one before.
Entry: [mono_ns, box_s, wall_s, trusted, [signal tag, fields...], [[effect name, fields...], ...]].
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from typing import Any

import msgpack

from edgeheal.core.digest import sha256
from edgeheal.core.effect import Effect
from edgeheal.core.errors import JournalError
from edgeheal.core.now import Now
from edgeheal.core.signal import Signal, from_plain, to_plain
from edgeheal.journal import frames
from edgeheal.journal.records import deflate, inflate

MAGIC = b"\x89EHR\r\n\x1a"
VERSION = 1
PREVIOUS = 1  # the oldest version that is still read
SALT = int.from_bytes(b"EHR1", "big")
SIZE_MOST = 256 * 1024  # what a device writes
READ_MOST = 16 << 20  # what a reader takes
INFLATED_MOST = 64 << 20
END_BYTES = frames.HEAD_BYTES + 8


class Kind(IntEnum):
    """Frame kinds of a recording and of the ring's copy on tmpfs."""

    HEADER = 1
    SNAPSHOT = 2
    POLICY = 3
    CATALOG = 4
    ENTRIES = 5
    END = 6
    RAW = 7  # entries as they are, not deflated: the ring's copy


@dataclass(frozen=True, slots=True)
class Entry:
    """One step: the moment, the signal and the effects it had then, as plain lists, for a bit-for-bit comparison."""

    now: Now
    plain: list[Any]
    effects: list[Any]

    @property
    def signal(self) -> Signal:
        """The signal; ValueError when this version does not know it."""
        try:
            return from_plain(self.plain)
        except (KeyError, TypeError, IndexError) as fault:
            raise ValueError(f"signal {self.plain[:1]} is not known here: {fault}") from None


@dataclass(frozen=True, slots=True)
class Part:
    """A snapshot (packed engine state) and what followed it without a gap."""

    state: bytes
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """A file, read. `whole`: it ends with its end mark and nothing in it was damaged."""

    header: dict[str, Any]
    policy: Any
    catalog: Any
    parts: tuple[Part, ...]
    whole: bool
    damaged_bytes: int = 0


def mask(device: str) -> str:
    """A device's name as recordings carry it: the same device looks the same, nobody learns which it is."""
    return sha256(b"edgeheal recording\0" + device.encode()).hexdigest()[:12]


def _fields(value: object) -> object:
    """Dataclasses as the list of their fields; anything else that msgpack does not know as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, f.name) for f in fields(value)]
    return list(value) if isinstance(value, set | frozenset) else repr(value)[:200]


def plain_effects(effects: Iterable[Effect]) -> list[Any]:
    """Effects as `[name, fields...]`, in the form in which they come back from a file."""
    return list(msgpack.unpackb(pack_effects(effects), raw=False, strict_map_key=False))


def pack_effects(effects: Iterable[Effect]) -> bytes:
    """Effects packed; equal effects give equal bytes."""
    packed: bytes = msgpack.packb([[type(e).__name__, *(getattr(e, f.name) for f in fields(e))] for e in effects], use_bin_type=True, default=_fields)
    return packed


def pack_entry(now: Now, signal: Signal, effects: Iterable[Effect]) -> bytes:
    """One step as bytes."""
    named = [[type(e).__name__, *(getattr(e, f.name) for f in fields(e))] for e in effects]
    step = [now.mono_ns, now.box_s, now.wall_s, now.trusted, to_plain(signal), named]
    packed: bytes = msgpack.packb(step, use_bin_type=True, default=_fields)
    return packed


def unpack_entries(data: bytes, boot: str) -> list[Entry]:
    """Entries out of a run of packed ones; ValueError when they are not that."""
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, use_list=True, max_buffer_size=max(len(data), 1))
    try:
        unpacker.feed(data)
        return [_entry(step, boot) for step in unpacker]
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as fault:
        raise ValueError(f"no entries: {fault}") from None


def _entry(step: Any, boot: str) -> Entry:
    mono, box, wall, trusted, signal, effects = step
    shapes = ((mono, int), (box, int), (wall, int), (signal, list), (effects, list))
    if not all(isinstance(value, kind) for value, kind in shapes) or not signal:
        raise TypeError("an entry of another shape")
    return Entry(Now(boot, mono, box, wall, bool(trusted)), signal, effects)


def begin(header: dict[str, Any], policy: Any, catalog: Any) -> bytes:
    """Magic, header, policy and catalog: the start of a file."""
    parts = [MAGIC + bytes([VERSION]), _packed(Kind.HEADER, header)]
    if policy is not None:
        parts.append(_packed(Kind.POLICY, policy))
    if catalog:
        parts.append(_packed(Kind.CATALOG, catalog))
    return b"".join(parts)


def snapshot(state: bytes) -> bytes:
    """A frame with the packed engine state: what follows starts from it."""
    return frames.make(Kind.SNAPSHOT, deflate(state), salt=SALT)


def entries(packed: Iterable[bytes]) -> bytes:
    """A frame with a run of packed entries; b"" for none."""
    run = b"".join(packed)
    return frames.make(Kind.ENTRIES, deflate(run), salt=SALT) if run else b""


def end(count: int) -> bytes:
    """The end mark: the recording is finished; `count` steps are in it. Always `END_BYTES` long."""
    return frames.make(Kind.END, count.to_bytes(8, "big"), salt=SALT)


def finished(tail: bytes) -> bool:
    """Whether the last `END_BYTES` of a file are its end mark."""
    frame = frames.at(tail, len(tail) - END_BYTES, salt=SALT) if len(tail) >= END_BYTES else None
    return frame is not None and frame.kind == Kind.END


def _packed(kind: Kind, value: Any) -> bytes:
    return frames.make(kind, deflate(msgpack.packb(value, use_bin_type=True, default=_fields)), salt=SALT)


def read(data: bytes, *, place: str = "recording") -> Recording:
    """A whole file. JournalError names what cannot be read; a cut-off end is no error, `whole` is False then."""
    if len(data) > READ_MOST:
        raise JournalError(f"{len(data)} bytes, at most {READ_MOST} are read", place=place, hint="give a file that `edgeheal` wrote (.ehr)")
    if data[:7] != MAGIC:
        raise JournalError("not a recording", place=place, hint="give a file that `edgeheal` wrote (.ehr)")
    if not PREVIOUS <= (data[7] if len(data) > 7 else 0) <= VERSION:
        version = data[7] if len(data) > 7 else 0
        raise JournalError(f"recording version {version} is not known here", place=place, hint="use the edgeheal version that wrote it, or a newer one")
    scan = frames.scan(data, 8, salt=SALT)
    reader = _Reader(place)
    for frame in scan.frames:
        reader.take(frame)
    lost = sum(stop - start for start, stop in scan.damaged) + len(data) - scan.end
    return reader.result(lost)


class _Reader:
    """Frames into a `Recording`. A hole ends a part: what follows it counts from the next snapshot on."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._left = INFLATED_MOST
        self._header: dict[str, Any] | None = None
        self._policy: Any = None
        self._catalog: Any = None
        self._parts: list[tuple[bytes, list[Entry]]] = []
        self._end = False
        self._before = 8
        self._skip = False

    def take(self, frame: frames.Frame) -> None:
        """One frame, in order."""
        hole = frame.at != self._before
        self._before = frame.end
        if hole and frame.kind == Kind.ENTRIES:
            self._skip = True
        if frame.kind == Kind.END:
            self._end = True
            return
        try:
            body = inflate(frame.body, self._left)
        except ValueError as fault:
            raise JournalError(str(fault), place=f"{self._place}: byte {frame.at}") from None
        self._left -= len(body)
        self._inner(frame, body)

    def _inner(self, frame: frames.Frame, body: bytes) -> None:
        try:
            match frame.kind:
                case Kind.SNAPSHOT:
                    self._parts.append((body, []))
                    self._skip = False
                case Kind.ENTRIES:
                    if self._parts and not self._skip:
                        self._parts[-1][1].extend(unpack_entries(body, str((self._header or {}).get("boot", ""))))
                case Kind.HEADER | Kind.POLICY | Kind.CATALOG:
                    self._said(frame.kind, msgpack.unpackb(body, raw=False, strict_map_key=False))
                case _:
                    pass  # a newer kind of frame: not needed to replay what we know
        except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as fault:
            raise JournalError(str(fault), place=f"{self._place}: byte {frame.at}") from None

    def _said(self, kind: int, value: Any) -> None:
        if kind == Kind.HEADER:
            if not isinstance(value, dict):
                raise ValueError("the header is no map")
            self._header = value
        elif kind == Kind.POLICY:
            self._policy = value
        else:
            self._catalog = value

    def result(self, lost: int) -> Recording:
        """All of it."""
        if self._header is None:
            raise JournalError("the header is missing or damaged", place=self._place, hint="copy the file again from the device")
        if not self._parts:
            raise JournalError("the snapshot is missing or damaged", place=self._place, hint="copy the file again from the device")
        parts = tuple(Part(state, tuple(steps)) for state, steps in self._parts)
        return Recording(self._header, self._policy, self._catalog, parts, self._end and not lost, lost)
