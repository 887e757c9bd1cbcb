# SPDX-License-Identifier: Apache-2.0
"""What the journal says: sessions, snapshots, decisions, light acts, intents, outcomes, what was told. Typed values <-> frame bodies.

Duty: the record types, their bodies (msgpack lists, new fields only at the end) and their frame kinds. It judges nothing.
Invariants: kinds are never renumbered; a newer kind or a body that this version cannot read comes back as `Unread`, kept, never an error;
a record knows its own time (`When`), so that a line can be shown without its neighbours.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import msgpack

from edgeheal.core.now import Now
from edgeheal.journal import frames

MAX_SNAPSHOT = 8 << 20  # inflated bytes

K_SESSION, K_SNAPSHOT, K_DECIDED, K_LIGHT, K_INTENT, K_OUTCOME, K_TOLD, K_GAP = range(1, 9)


@dataclass(frozen=True, slots=True)
class When:
    """A moment as the journal keeps it: monotonic of its boot, box seconds, wall label and whether that was trusted."""

    mono_ns: int = 0
    box_s: int = 0
    wall_s: int = 0
    trusted: bool = False

    @classmethod
    def of(cls, now: Now) -> "When":
        """`now` without its boot id, which the session says once."""
        return cls(now.mono_ns, now.box_s, now.wall_s, now.trusted)


@dataclass(frozen=True, slots=True)
class Session:
    """A start of the agent: 6 random bytes, the boot it is in, the agent's version. Repeated at the head of each segment."""

    when: When
    session: bytes
    boot: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine's state, packed (`pack_state`); deflated in the frame."""

    when: When
    state: bytes


@dataclass(frozen=True, slots=True)
class DecidedLine:
    """`core.effect.Decided`, kept."""

    when: When
    what: str
    incident: int = 0
    app: str = ""
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class LightAct:
    """A light act that was run; its `Outcome` follows when it ends."""

    when: When
    act: int
    verb: int
    app: str = ""
    target: str = ""
    incident: int = 0


@dataclass(frozen=True, slots=True)
class Intent:
    """A grave act is about to be run: durable before it is."""

    when: When
    act: int
    verb: int
    app: str = ""
    target: str = ""
    incident: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of act number `act`: `reason` core.reasons; `doubt`: the fact could not be read back."""

    when: When
    act: int
    ok: bool
    reason: int = 0
    took_ms: int = 0
    doubt: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A summary went to the spool as (session, seq): incident, revision, and the summary's bytes for `explain` with the agent dead."""

    when: When
    session: bytes
    seq: int
    incident: int
    revision: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Gap:
    """`lines` records were not kept (budget or an unwritable medium); `why` a fixed word."""

    when: When
    lines: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A frame of a newer version, kept as it is."""

    kind: int
    version: int
    body: bytes


Record = Session | Snapshot | DecidedLine | LightAct | Intent | Outcome | Told | Gap
KINDS: dict[int, type[Record]] = {
    K_SESSION: Session, K_SNAPSHOT: Snapshot, K_DECIDED: DecidedLine, K_LIGHT: LightAct, K_INTENT: Intent, K_OUTCOME: Outcome, K_TOLD: Told, K_GAP: Gap,
}  # fmt: skip
_KIND_OF = {cls: kind for kind, cls in KINDS.items()}
_SHAPES: dict[type[Record], tuple[tuple[str, type | tuple[type, ...]], ...]] = {
    Session: (("session", bytes), ("boot", str), ("version", str)),
    Snapshot: (("state", bytes),),
    DecidedLine: (("what", str), ("incident", int), ("app", str), ("args", (list, tuple))),
    LightAct: (("act", int), ("verb", int), ("app", str), ("target", str), ("incident", int)),
    Intent: (("act", int), ("verb", int), ("app", str), ("target", str), ("incident", int)),
    Outcome: (("act", int), ("ok", bool), ("reason", int), ("took_ms", int), ("doubt", bool)),
    Told: (("session", bytes), ("seq", int), ("incident", int), ("revision", int), ("body", bytes)),
    Gap: (("lines", int), ("why", str)),
}


def pack_state(plain: Any) -> bytes:
    """Plain values of the engine as bytes; equal values give equal bytes (maps keep the order that `engine.snapshot` gives them)."""
    packed: bytes = msgpack.packb(plain, use_bin_type=True)
    return packed


def unpack_state(data: bytes) -> Any:
    """Back from `pack_state`; ValueError when it is not that."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False, use_list=True)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as fault:
        raise ValueError(f"no packed state: {fault}") from None


def deflate(data: bytes, level: int = 6) -> bytes:
    """Raw deflate, no header."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -13, 7)
    return packer.compress(data) + packer.flush()


def inflate(data: bytes, most: int) -> bytes:
    """Back from `deflate`; ValueError when damaged, cut short, or over `most` bytes."""
    opener = zlib.decompressobj(-15)
    try:
        out = opener.decompress(data, most)
    except zlib.error as fault:
        raise ValueError(f"no deflated data: {fault}") from None
    if not opener.eof or opener.unused_data:
        raise ValueError("deflated data is cut short, over its bound, or followed by something else")
    return out


def body_of(record: Record) -> tuple[int, bytes]:
    """`(kind, body)` of a record."""
    shape = _SHAPES[type(record)]
    when = record.when
    values = [getattr(record, name) for name, _ in shape]
    if isinstance(record, Snapshot):
        values = [deflate(record.state)]
    return _KIND_OF[type(record)], msgpack.packb([[when.mono_ns, when.box_s, when.wall_s, when.trusted], *values], use_bin_type=True, default=_plain)


def _plain(value: object) -> object:
    """What msgpack does not know: shown, never a reason to lose a line."""
    return repr(value)[:200]


def record_of(frame: frames.Frame) -> Record | Unread:
    """The record in a frame; `Unread` for what this version does not know or cannot read."""
    cls = KINDS.get(frame.kind)
    if cls is None or frame.version != 1:
        return Unread(frame.kind, frame.version, frame.body)
    try:
        return _typed(cls, msgpack.unpackb(frame.body, raw=False, strict_map_key=False, use_list=True))
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, msgpack.exceptions.UnpackException):
        return Unread(frame.kind, frame.version, frame.body)


def _typed(cls: type[Record], plain: Any) -> Record:
    if not isinstance(plain, list) or not plain:
        raise ValueError("no record")
    mono, box, wall, trusted = plain[0][:4]
    if not all(isinstance(v, int) for v in (mono, box, wall)):
        raise ValueError("no time")
    values: dict[str, Any] = {"when": When(mono, box, wall, bool(trusted))}
    for (name, kind), value in zip(_SHAPES[cls], plain[1:], strict=False):
        if not isinstance(value, kind):
            raise TypeError(name)
        values[name] = tuple(value) if isinstance(value, list) else value
    if cls is Snapshot:
        values["state"] = inflate(values["state"], MAX_SNAPSHOT)
    return cls(**values)


def describe(record: Record) -> dict[str, Any]:
    """A record as a string-keyed map, for `--json`; a snapshot says its size only."""
    plain: dict[str, Any] = {"kind": type(record).__name__, "box_s": record.when.box_s, "wall_s": record.when.wall_s, "trusted": record.when.trusted}
    plain["mono_ns"] = record.when.mono_ns
    for name, _ in _SHAPES[type(record)]:
        value = getattr(record, name)
        plain["bytes" if name == "state" else name] = len(value) if name == "state" else list(value) if isinstance(value, tuple) else value
    return plain
