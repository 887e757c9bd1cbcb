# SPDX-License-Identifier: Apache-2.0
"""The frame of a bundle `.ehi`: magic, lengths, trust, envelope, index, payload.

Duty: the fixed parts and the index, bytes in, bytes out. Contents are read by image.reader, written by image.writer.
Invariants: every length is bounded before anything of it is read; index rows ascend by object; the index is unsigned, since a
lie in it can only end in "wrong content".

magic 8 | u32 trust length | u32 envelope length | u32 index length | trust | envelope | index | payload   (big-endian)
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgpack

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.image.codec import LZMA2
from edgeheal.image.manifest import MAX_ROWS, MAX_TREE_BYTES
from edgeheal.image.tree import MAX_FILE, Content
from edgeheal.trust.canonical import NotCanonicalError, loose
from edgeheal.trust.envelope import MAX_CHAIN, MAX_ENVELOPE

MAGIC = b"\x89EHI\r\n\x1a\x01"
VERSION = 1
MAX_INDEX = 2 * 1024 * 1024
LENGTHS = struct.Struct("!III")
HEAD_BYTES = len(MAGIC) + LENGTHS.size

Read = Callable[[int], bytes]


class IndexRow(NamedTuple):
    """How one object travels: `length` payload bytes under `codec`, a patch of the held content `base` unless that is None."""

    number: int
    codec: int
    length: int
    base: bytes | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """The three lengths."""

    trust: int
    envelope: int
    index: int


def most_length(size: int) -> int:
    """How many payload bytes an object of `size` may take: what its codec can waste, no more."""
    return size + size // 128 + 2048


def encode_head(head: Head) -> bytes:
    """Magic and lengths."""
    return MAGIC + LENGTHS.pack(head.trust, head.envelope, head.index)


def decode_head(data: bytes) -> Head:
    """The lengths out of the first 20 bytes, each within its bound."""
    if data[: len(MAGIC) - 1] != MAGIC[:-1] and MAGIC[: len(data)] != data:
        raise ImageError("does not begin like a bundle", reason=reasons.BAD_MAGIC, part="magic", hint="is this an .ehi file? text-mode copies damage it")
    if len(data) < HEAD_BYTES:
        raise ImageError(f"ends after {len(data)} bytes", reason=reasons.TRUNCATED, part="magic", hint="fetch the bundle again")
    if data[len(MAGIC) - 1] != VERSION:
        raise ImageError(f"is of bundle version {data[len(MAGIC) - 1]}, known is {VERSION}", reason=reasons.UNKNOWN_VERSION, part="magic")
    head = Head(*LENGTHS.unpack_from(data, len(MAGIC)))
    for part, length, most in (("trust", head.trust, MAX_CHAIN), ("envelope", head.envelope, MAX_ENVELOPE), ("index", head.index, MAX_INDEX)):
        if length > most:
            raise ImageError(f"{length} bytes are announced, at most {most} are read", reason=reasons.TOO_LARGE, part=part)
    return head


def encode_index(rows: list[IndexRow]) -> bytes:
    """The index's bytes."""
    packed: bytes = msgpack.packb([list(row) for row in rows], use_bin_type=True)
    return packed


def decode_index(data: bytes) -> tuple[IndexRow, ...]:
    """The rows of an index; ImageError(BAD_INDEX) with the row."""
    try:
        value = loose(data)
    except NotCanonicalError as fault:
        raise _fault(str(fault)) from None
    if not isinstance(value, list) or len(value) > MAX_ROWS + 1:
        raise _fault(f"not a list of at most {MAX_ROWS + 1} rows")
    before = -1
    for i, item in enumerate(value):
        if not (isinstance(item, list) and len(item) == 4 and all(isinstance(x, int) and not isinstance(x, bool) for x in item[:3])):
            raise _fault(f"row {i} is not [object, codec, length, base]")
        number, codec, length, base = item
        if not before < number <= MAX_ROWS:
            raise _fault(f"row {i} is not in ascending order of objects", number)
        if not 0 <= codec <= LZMA2:
            raise _fault(f"unknown codec {codec}", number)
        if not 0 <= length <= most_length(MAX_TREE_BYTES if number == 0 else MAX_FILE):
            raise _fault(f"length {length} is out of bounds", number)
        if base is not None and not (isinstance(base, bytes) and len(base) == 32):
            raise _fault("base is not a digest", number)
        value[i] = IndexRow(number, codec, length, base)
        before = number
    return tuple(value)


def check_index(rows: tuple[IndexRow, ...], tree_bytes: int, contents: Sequence[Content]) -> None:
    """Refuse rows for objects that the tree does not have, or lengths that no content of that size has."""
    for row in rows:
        if row.number > len(contents):
            raise _fault("is not an object of the tree", row.number)
        size = contents[row.number - 1].size if row.number else tree_bytes
        if row.length > (most_length(size) if size else 0):
            raise _fault(f"{row.length} bytes for a content of {size}", row.number)


def _fault(what: str, number: int = -1) -> ImageError:
    shown = number if -1 < number <= MAX_ROWS else -1
    return ImageError(what, reason=reasons.BAD_INDEX, part="index", number=shown, hint="fetch the bundle again from its source")
