# SPDX-License-Identifier: Apache-2.0
"""The one canonical form of all that is signed: msgpack with sorted string keys and shortest integers.

Duty: pack values canonically; decode bytes only if they are canonical. It knows no field of any document.
Invariant: `pack(unpack(b)) == b` for every accepted `b`, so there is one byte string for one meaning; no float, nil or ext.
"""

from collections.abc import Iterator
from typing import Any

import msgpack

MAX_DEPTH = 8
_PIECE = 64 * 1024


class NotCanonicalError(ValueError):
    """Bytes that do not decode, or that are not the one form of what they say."""


def pack(value: Any) -> bytes:
    """`value` (bool, int, str, bytes, list, tuple, string-keyed dict; nested at most 8 deep) as canonical bytes."""
    packed: bytes = msgpack.packb(_plain(value, 0), use_bin_type=True)
    return packed


def unpack(data: bytes) -> Any:
    """The value of canonical `data`; NotCanonicalError for everything else, however hostile."""
    value = loose(data)
    try:
        same = pack(value) == data
    except (ValueError, OverflowError) as fault:
        raise NotCanonicalError(str(fault)) from None
    if not same:
        raise NotCanonicalError("not in canonical form")
    return value


def loose(data: bytes) -> Any:
    """The msgpack value of `data`, of any form; NotCanonicalError when it does not decode. For unsigned hints and envelopes."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True)
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException) as fault:
        raise NotCanonicalError(f"does not decode ({type(fault).__name__})") from None


def items(data: bytes) -> Iterator[Any]:
    """The items of a packed list, one by one, of any form, so that a large list is never in memory as a whole; NotCanonicalError as `loose`."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1), raw=False, strict_map_key=True)
    left, at = -1, 0
    while left:
        unpacker.feed(data[at : at + _PIECE])
        at += _PIECE
        try:
            if left < 0:
                left = unpacker.read_array_header()
            while left:
                item = unpacker.unpack()
                left -= 1
                yield item
        except msgpack.OutOfData:
            if at >= len(data):
                raise NotCanonicalError("does not decode (cut short)") from None
        except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, msgpack.UnpackException) as fault:
            raise NotCanonicalError(f"does not decode ({type(fault).__name__})") from None
    if unpacker.tell() != len(data):
        raise NotCanonicalError("does not decode (bytes after the list)")


def split(data: bytes, most: int) -> list[bytes]:
    """Consecutive msgpack values as their byte strings, at most `most` of them."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1), strict_map_key=True)
    unpacker.feed(data)
    parts: list[bytes] = []
    start = 0
    while start < len(data):
        if len(parts) == most:
            raise NotCanonicalError(f"more than {most} documents")
        try:
            unpacker.skip()
        except (ValueError, msgpack.UnpackException, RecursionError) as fault:
            raise NotCanonicalError(f"document {len(parts) + 1} does not decode ({type(fault).__name__})") from None
        end = unpacker.tell()
        parts.append(data[start:end])
        start = end
    return parts


def _plain(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotCanonicalError("nested too deeply")
    if isinstance(value, bool | int | str | bytes):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise NotCanonicalError("a key is no text")
        return {key: _plain(value[key], depth + 1) for key in sorted(value)}
    raise NotCanonicalError(f"{type(value).__name__} cannot be said")
