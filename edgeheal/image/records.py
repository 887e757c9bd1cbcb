# SPDX-License-Identifier: Apache-2.0
"""Records that the guard reads without a library: one small tag-length-value codec, and blocks that survive a torn write.

Duty: bytes in, bytes out. Used for state and launch records, the guard's budgets, and what passes between the guard and its
short-lived children. It judges nothing and touches no disk.
Invariants: `unpack(pack(v)) == v`; nothing is read past the end; depth at most 8; a torn, all-zero or foreign block is
*damaged* (None), never empty. Light on purpose: the resident guard imports it.

Value: tag u8, then  N (none) | F T (bool) | I i64 | B u32 bytes | S u32 UTF-8 | L u32 count, values | D u32 count, (S key, value)*, keys ascending.
Block: magic "EHR1" | length u32 | CRC-32 u32 | CRC-CCITT u16 | payload | zeros up to the block's size.
Source of the two checksums: zlib's CRC-32 and the CCITT polynomial 0x1021 (binascii.crc_hqx); torn writes are the danger here, not forgers.
"""

import binascii
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Value = Any

_U32 = struct.Struct("!I")
_I64 = struct.Struct("!q")
_HEAD = struct.Struct("!4sIIH")
MAGIC = b"EHR1"
MAX_DEPTH = 8
MAX_ITEMS = 65_536


class RecordError(ValueError):
    """Bytes that are no record: cut short, unknown tag, too deep, trailing bytes."""


def pack(value: "Value") -> bytes:
    """A value of None, bool, int (i64), bytes, str, list or tuple, string-keyed dict as bytes."""
    out: list[bytes] = []
    _pack(value, out, 0)
    return b"".join(out)


def _pack(value: "Value", out: "list[bytes]", depth: int) -> None:
    if depth > MAX_DEPTH:
        raise RecordError("too deep")
    if value is None:
        out.append(b"N")
    elif value is False or value is True:
        out.append(b"T" if value else b"F")
    elif isinstance(value, int):
        out.append(b"I" + _I64.pack(value))
    elif isinstance(value, bytes | bytearray):
        out.append(b"B" + _U32.pack(len(value)) + bytes(value))
    elif isinstance(value, str):
        raw = value.encode()
        out.append(b"S" + _U32.pack(len(raw)) + raw)
    elif isinstance(value, list | tuple):
        out.append(b"L" + _U32.pack(len(value)))
        for item in value:
            _pack(item, out, depth + 1)
    elif isinstance(value, dict):
        out.append(b"D" + _U32.pack(len(value)))
        for key in sorted(value):
            _pack(str(key), out, depth + 1)
            _pack(value[key], out, depth + 1)
    else:
        raise RecordError(f"cannot pack {type(value).__name__}")


def unpack(data: bytes) -> "Value":
    """The value of `pack`; RecordError for anything else."""
    value, end = _unpack(data, 0, 0)
    if end != len(data):
        raise RecordError("trailing bytes")
    return value


def _unpack(data: bytes, at: int, depth: int) -> "tuple[Value, int]":
    if depth > MAX_DEPTH:
        raise RecordError("too deep")
    tag = data[at : at + 1]
    at += 1
    if tag == b"N":
        return None, at
    if tag == b"F":
        return False, at
    if tag == b"T":
        return True, at
    if tag == b"I":
        if at + 8 > len(data):
            raise RecordError("cut short")
        return _I64.unpack_from(data, at)[0], at + 8
    if tag not in (b"B", b"S", b"L", b"D") or at + 4 > len(data):
        raise RecordError("unknown tag or cut short")
    count: int = _U32.unpack_from(data, at)[0]
    at += 4
    if tag in (b"B", b"S"):
        if at + count > len(data):
            raise RecordError("cut short")
        raw = data[at : at + count]
        if tag == b"B":
            return raw, at + count
        try:
            return raw.decode(), at + count
        except UnicodeDecodeError:
            raise RecordError("no UTF-8") from None
    if count > MAX_ITEMS or count > len(data) - at:
        raise RecordError("too many items")
    if tag == b"L":
        items = []
        for _ in range(count):
            item, at = _unpack(data, at, depth + 1)
            items.append(item)
        return items, at
    table = {}
    for _ in range(count):
        key, at = _unpack(data, at, depth + 1)
        if not isinstance(key, str) or key in table:
            raise RecordError("bad key")
        table[key], at = _unpack(data, at, depth + 1)
    return table, at


def block(value: "Value", size: int) -> bytes:
    """`value` as one block of exactly `size` bytes, written in place with one pwrite."""
    payload = pack(value)
    if _HEAD.size + len(payload) > size:
        raise RecordError(f"record of {len(payload)} bytes does not fit a block of {size}")
    head = _HEAD.pack(MAGIC, len(payload), binascii.crc32(payload), binascii.crc_hqx(payload, 0xFFFF))
    return (head + payload).ljust(size, b"\0")


def unblock(data: bytes) -> "Value | None":
    """The value of a block, or None when it is damaged (torn, zeroed, foreign)."""
    if len(data) < _HEAD.size:
        return None
    magic, length, crc, ccitt = _HEAD.unpack_from(data)
    payload = data[_HEAD.size : _HEAD.size + length]
    if magic != MAGIC or len(payload) != length or binascii.crc32(payload) != crc or binascii.crc_hqx(payload, 0xFFFF) != ccitt:
        return None
    try:
        return unpack(payload)
    except RecordError:
        return None
