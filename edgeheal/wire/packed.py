# SPDX-License-Identifier: Apache-2.0
"""Documents on the wire: `[version, {integer key: value}]` as msgpack, or the same fields as a JSON object.

Duty: pack, unpack within bounds, read fields with their type, put a record's key into a packed body without unpacking it.
Not its duty: what the keys mean (`summary`, `birth`, ...).
Invariants: whatever the bytes are, the answer is a value within the bounds or a `WireError` with place and reason code;
unknown keys are kept (`Document.rest`); floats are single precision; keys 0 (session) and 1 (seq) mean the same in every
spooled record of every version, so that a record of a newer version can still be stored and acknowledged.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

import msgpack

from edgeheal.core import reasons
from edgeheal.core.errors import WireError

K_SESSION, K_SEQ = 0, 1
SESSION_BYTES = 6
RECORD_MOST = 4_096
JSON_MOST = 16_384
ITEMS_MOST = 256
DEPTH_MOST = 6
U32 = (1 << 32) - 1
U53 = (1 << 53) - 1  # the largest integer that JSON readers agree on

_PACKER_OPTIONS: dict[str, Any] = {"use_single_float": True, "use_bin_type": True}

Kind = TypeVar("Kind", bound=IntEnum)


def pack(value: Any) -> bytes:
    """`value` as msgpack with single-precision floats."""
    packed: bytes = msgpack.packb(value, **_PACKER_OPTIONS)
    return packed


def document(version: int, fields: dict[int, Any]) -> bytes:
    """`[version, {...}]`."""
    return pack([version, fields])


def unpack(data: bytes, most: int, place: str, *, deep: bool = True) -> Any:
    """The plain value in at most `most` bytes; WireError for anything that is not one, too deep or too many.

    `deep` False leaves what lies inside unjudged, for a reader that judges each field (and `Document.kept` the rest).
    """
    if len(data) > most:
        raise WireError(f"{len(data)} bytes, at most {most} are taken", code=reasons.TOO_LARGE, place=place)
    try:
        value = msgpack.unpackb(data, strict_map_key=False, max_str_len=most, max_bin_len=most, max_array_len=ITEMS_MOST, max_map_len=ITEMS_MOST, max_ext_len=0)
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as fault:
        raise WireError(f"no msgpack document: {type(fault).__name__}", code=reasons.MALFORMED, place=place) from None
    if deep:
        _bounded(value, place, 0)
    return value


def _bounded(value: Any, place: str, depth: int) -> None:
    """Only None, bool, int, float, str, bytes, list and map, at most DEPTH_MOST deep."""
    if depth > DEPTH_MOST:
        raise WireError("nested too deep", code=reasons.MALFORMED, place=place)
    if isinstance(value, list):
        for item in value:
            _bounded(item, place, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, int | str) or isinstance(key, bool):
                raise WireError("a key is neither integer nor text", code=reasons.MALFORMED, place=place)
            _bounded(item, place, depth + 1)
    elif value is not None and not isinstance(value, bool | int | float | str | bytes):
        raise WireError(f"a {type(value).__name__} has no place here", code=reasons.MALFORMED, place=place)


@dataclass(slots=True)
class Document:
    """The fields of one document, read with their type; what nobody read stays in `rest`."""

    place: str
    version: int
    rest: dict[int, Any] = field(default_factory=dict)

    def fail(self, key: int | str, said: str) -> WireError:
        """The error for a field that is not what it must be."""
        return WireError(said, code=reasons.MALFORMED, place=f"{self.place}[{key}]")

    def kept(self) -> dict[int, Any]:
        """What nobody read, within bounds: unknown keys of a newer sender are kept."""
        if self.rest:
            _bounded(self.rest, self.place, 1)
        return self.rest

    def take(self, key: int) -> Any:
        """The raw value, or None; it leaves `rest`."""
        return self.rest.pop(key, None)

    def whole(self, key: int, default: int = 0, most: int = U53) -> int:
        """An integer 0..most."""
        value = self.rest.pop(key, default)
        return integer(value, self, key, most)

    def text(self, key: int, most: int, default: str = "") -> str:
        """Text of at most `most` characters."""
        value = self.rest.pop(key, default)
        if not isinstance(value, str) or len(value) > most:
            raise self.fail(key, f"expected text of at most {most} characters")
        return value

    def octets(self, key: int, lengths: tuple[int, ...], default: bytes = b"") -> bytes:
        """Bytes of one of `lengths`."""
        value = self.rest.pop(key, default)
        if not isinstance(value, bytes) or (value != default and len(value) not in lengths):
            raise self.fail(key, f"expected {' or '.join(map(str, lengths))} bytes")
        return value

    def rows(self, key: int, most: int) -> list[Any]:
        """A list of at most `most` values, () when absent."""
        value = self.rest.pop(key, None)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > most:
            raise self.fail(key, f"expected a list of at most {most}")
        return value


def integer(value: Any, doc: Document, key: int | str, most: int = U53) -> int:
    """`value`, if it is an integer 0..most."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise doc.fail(key, f"expected an integer 0..{most}")
    return value


def real(value: Any, doc: Document, key: int | str) -> float:
    """`value`, if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 3.5e38 or not math.isfinite(value):
        raise doc.fail(key, "expected a finite number")
    return float(value)


def short(value: Any, doc: Document, key: int | str, most: int) -> str:
    """`value`, if it is text of at most `most` characters."""
    if not isinstance(value, str) or len(value) > most:
        raise doc.fail(key, f"expected text of at most {most} characters")
    return value


def row(value: Any, doc: Document, key: int | str, least: int, most: int) -> list[Any]:
    """`value`, if it is a list of `least`..`most` values; shorter ones are filled with None."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise doc.fail(key, f"expected a list of {least} to {most}")
    return value + [None] * (most - len(value))


def trim(row: list[Any], least: int) -> list[Any]:
    """`row` without its trailing empty values, at least `least` long."""
    while len(row) > least and not row[-1]:
        row.pop()
    return row


def kind(cls: type[Kind], value: Any, doc: Document, key: int | str) -> Kind:
    """`value` as a member of `cls`; a number that this version does not know is kept as itself."""
    number = integer(value, doc, key, 65_535)
    try:
        return cls(number)
    except ValueError:
        unknown = int.__new__(cls, number)
        unknown._name_ = f"UNKNOWN_{number}"
        unknown._value_ = number
        return unknown


def opened(data: bytes, place: str, version: int, most: int = RECORD_MOST) -> Document:
    """The document in `data`; a higher version than `version` is refused as such, after its key was readable (`key_of`)."""
    value = unpack(data, most, place, deep=False)
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], dict) or isinstance(value[0], bool) or not isinstance(value[0], int):
        raise WireError("expected [version, {...}]", code=reasons.MALFORMED, place=place)
    if not 1 <= value[0] <= version:
        raise WireError(f"version {value[0]}, this side speaks 1 to {version}", code=reasons.UNKNOWN_VERSION, place=place)
    for key in value[1]:
        if key.__class__ is not int or not 0 <= key <= U32:
            raise WireError("a key is no integer", code=reasons.MALFORMED, place=place)
    return Document(place, value[0], value[1])


def key_of(data: bytes, most: int = JSON_MOST) -> tuple[bytes, int] | None:
    """(session, seq) of a record of any version and either encoding, or None."""
    try:
        if data[:1] == b"{":
            found = json_object(data, "record")
            session: Any = bytes.fromhex(str(found.get("session", "")))
            seq: Any = found.get("seq")
        else:
            value = unpack(data, most, "record", deep=False)
            fields = value[1] if isinstance(value, list) and len(value) >= 2 and isinstance(value[1], dict) else {}
            session, seq = fields.get(K_SESSION), fields.get(K_SEQ)
    except (WireError, ValueError):
        return None
    if not isinstance(session, bytes) or len(session) != SESSION_BYTES or isinstance(seq, bool) or not isinstance(seq, int) or not 0 < seq <= U32:
        return None
    return session, seq


def spliced(body: bytes, fields: dict[int, Any], place: str) -> bytes:
    """`body` (`[version, {...}]`) with `fields` put in front of its map; WireError when it is no such document.

    Works on the packed bytes: the body was packed when the incident happened, its key is known only when it is sent.
    """
    if len(body) < 3 or body[0] != 0x92 or body[1] > 0x7F:
        raise WireError("expected [version, {...}]", code=reasons.MALFORMED, place=place)
    head = body[2]
    if 0x80 <= head <= 0x8F:
        count, at = head & 0x0F, 3
    elif head == 0xDE and len(body) >= 5:
        count, at = struct.unpack_from("!H", body, 3)[0], 5
    else:
        raise WireError("expected a map", code=reasons.MALFORMED, place=place)
    count += len(fields)
    header = bytes([0x80 | count]) if count <= 15 else b"\xde" + struct.pack("!H", count)
    return body[:2] + header + b"".join(pack(k) + pack(v) for k, v in fields.items()) + body[at:]


def with_key(body: bytes, session: bytes, seq: int) -> bytes:
    """A spooled body as it is sent: with its key (session, seq)."""
    return spliced(body, {K_SESSION: session, K_SEQ: seq}, "record")


# --- the same as JSON ------------------------------------------------------------------------------------------------


def json_object(data: bytes, place: str) -> dict[str, Any]:
    """The JSON object in at most JSON_MOST bytes."""
    if len(data) > JSON_MOST:
        raise WireError(f"{len(data)} bytes, at most {JSON_MOST} are taken", code=reasons.TOO_LARGE, place=place)
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise WireError("no JSON object", code=reasons.MALFORMED, place=place) from None
    if not isinstance(value, dict):
        raise WireError("no JSON object", code=reasons.MALFORMED, place=place)
    _bounded(value, place, 0)
    return value


def _no_constant(word: str) -> float:
    raise ValueError(word)


def to_json(data: bytes, names: dict[int, str], place: str, version: int) -> bytes:
    """A packed document as JSON: `{"v": 1, name: value, ...}`; bytes as hex, an unknown key as `"k<number>"`."""
    doc = opened(data, place, version)
    named = {"v": doc.version} | {names.get(k, f"k{k}"): _hexed(v) for k, v in doc.kept().items()}
    return json.dumps(named, separators=(",", ":"), ensure_ascii=False).encode()


def _hexed(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_hexed(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _hexed(v) for k, v in value.items()}
    if isinstance(value, float):
        return None if not math.isfinite(value) else float(f"{value:.7g}")
    return value


def from_json(data: bytes, names: dict[int, str], octets: Callable[[int, Any], Any], place: str) -> bytes:
    """Back to a packed document; `octets(key, value)` turns hex back into bytes where the key holds bytes."""
    found = json_object(data, place)
    numbers = {name: key for key, name in names.items()}
    fields: dict[int, Any] = {}
    for name, value in found.items():
        if name == "v":
            continue
        key = numbers.get(name)
        if key is None:
            if not (name.startswith("k") and name[1:].isdecimal() and len(name) <= 10):
                raise WireError(f"unknown field {name[:32]!r}", code=reasons.MALFORMED, place=place)
            key = int(name[1:])
        try:
            fields[key] = octets(key, value)
        except (ValueError, TypeError, AttributeError, KeyError, IndexError):
            raise WireError("expected hex", code=reasons.MALFORMED, place=f"{place}[{name[:32]}]") from None
    version = found.get("v", 1)
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= 127:
        raise WireError("expected a version", code=reasons.MALFORMED, place=f"{place}[v]")
    try:
        return document(version, fields)
    except (ValueError, OverflowError, TypeError, RecursionError):
        raise WireError("a value has no packed form", code=reasons.MALFORMED, place=place) from None
