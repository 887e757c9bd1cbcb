# SPDX-License-Identifier: Apache-2.0
"""The one canonical form of all that is signed: msgpack with sorted string keys and shortest integers.

Duty: pack values canonically; decode bytes only if they are canonical. It knows no field of any document.
Invariant: `pack(unpack(b)) == b` for every accepted `b`, so there is one byte string for one meaning; no float, nil or ext.
"""

from typing import Any

import msgpack

MAX_DEPTH = 8


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
