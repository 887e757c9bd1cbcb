# SPDX-License-Identifier: Apache-2.0
"""The frame of a bundle `.ehi`: magic, lengths, trust, envelope, index, payload.

Duty: the fixed parts and the index, bytes in, bytes out. Contents are read by image.reader, written by image.writer.
Invariants: every length is bounded before anything of it is read; index rows ascend by object; the index is unsigned, since a
lie in it can only end in "wrong content".

magic 8 | u32 trust length | u32 envelope length | u32 index length | trust | envelope | index | payload   (big-endian)
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.image.codec import LZMA2
from edgeheal.image.manifest import MAX_ROWS, MAX_TREE_BYTES
from edgeheal.image.tree import MAX_FILE, Content
from edgeheal.trust.canonical import NotCanonicalError, items
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


class Index:
    """An index that was found in order: its rows are decoded as they are asked for, so that a large one stays small in memory."""

    __slots__ = ("_data", "count")

    def __init__(self, data: bytes, count: int) -> None:
        """`data` as `decode_index` has checked it, with `count` rows."""
        self._data = data
        self.count = count

    def __iter__(self) -> Iterator[IndexRow]:
        """The rows, in ascending order of objects."""
        return (IndexRow(*row) for row in items(self._data))

    def tree(self) -> IndexRow | None:
        """The row of object 0, if there is one."""
        first = next(iter(self), None)
        return first if first is not None and first.number == 0 else None


def decode_index(data: bytes) -> Index:
    """The index in `data`, checked row by row; ImageError(BAD_INDEX) with the row."""
    before, count = -1, 0
    try:
        for item in items(data):
            before = _check_row(item, count, before)
            count += 1
    except NotCanonicalError as fault:
        raise _fault(str(fault)) from None
    return Index(data, count)


def _check_row(item: Any, i: int, before: int) -> int:
    """Refuse a row that cannot be; its object number."""
    if i > MAX_ROWS:
        raise _fault(f"more than {MAX_ROWS + 1} rows")
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
    return int(number)


def check_index(rows: Iterable[IndexRow], tree_bytes: int, contents: Sequence[Content]) -> None:
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
