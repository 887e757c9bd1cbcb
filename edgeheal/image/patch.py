# SPDX-License-Identifier: Apache-2.0
"""Patches: one content made out of another that is held, by literal bytes and copies.

Duty: apply in bounded steps, make. Format: `u32 n, n literal bytes, u32 offset, u32 length`, repeated; big-endian.
Invariants: an empty operation is refused; no copy reaches past the base; nothing is made past the declared size; a patch is
no longer than what it makes (and a little).
"""

import struct
from collections.abc import Callable, Iterable, Iterator

from edgeheal.image.codec import STEP

_U32 = struct.Struct("!I")
_COPY = struct.Struct("!II")
SLACK = 1024
_BLOCK = 32

BaseRead = Callable[[int, int], bytes]


class PatchError(ValueError):
    """A patch that is damaged, reaches past its base, or makes more than was declared."""


def most_bytes(size: int) -> int:
    """How long a patch that makes `size` bytes may be."""
    return size + SLACK


class _Feed:
    """Bytes of an iterator, taken as asked."""

    __slots__ = ("_buffer", "_pieces")

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._buffer = b""

    def some(self, most: int) -> bytes:
        """1..most bytes; b"" at the end."""
        if not self._buffer:
            self._buffer = next(self._pieces, b"")
        taken, self._buffer = self._buffer[:most], self._buffer[most:]
        return taken

    def exact(self, count: int) -> bytes:
        """Exactly so many bytes, or b"" at the very end."""
        got = self.some(count)
        while got and len(got) < count:
            more = self.some(count - len(got))
            if not more:
                raise PatchError("cut short")
            got += more
        return got


def apply(pieces: Iterable[bytes], base: BaseRead, base_size: int, size: int) -> Iterator[bytes]:
    """What the patch in `pieces` makes of the base (`base(offset, length)` reads it), in steps of at most 256 KiB."""
    feed = _Feed(pieces)
    left = size
    while head := feed.exact(4):
        literal = _U32.unpack(head)[0]
        if literal > left:
            raise PatchError("makes more than was declared")
        left -= literal
        while literal:
            step = feed.some(min(literal, STEP))
            if not step:
                raise PatchError("cut short")
            literal -= len(step)
            yield step
        where = feed.exact(8)
        if not where:
            raise PatchError("cut short")
        offset, length = _COPY.unpack(where)
        if not length and not _U32.unpack(head)[0]:
            raise PatchError("has an empty operation")
        if length > left or offset + length > base_size:
            raise PatchError("copies past the end of its base, or makes more than was declared")
        left -= length
        while length:
            step = base(offset, min(length, STEP))
            if not step:
                raise PatchError("its base cannot be read")
            offset += len(step)
            length -= len(step)
            yield step


def make(base: bytes, new: bytes) -> bytes:
    """A patch that makes `new` of `base`: blocks of 32 bytes looked up by value, matches grown both ways. Not always shorter than `new`."""
    where: dict[bytes, int] = {}
    for at in range(0, len(base) - _BLOCK + 1, _BLOCK):
        where.setdefault(base[at : at + _BLOCK], at)
    out: list[bytes] = []
    literal = at = 0
    while at + _BLOCK <= len(new):
        found = where.get(new[at : at + _BLOCK])
        if found is None:
            at += 1
            continue
        back = _common_back(base, found, new, at, at - literal)
        start, found = at - back, found - back
        length = _common(base, found, new, start)
        out += [_U32.pack(start - literal), new[literal:start], _COPY.pack(found, length)]
        at = literal = start + length
    if literal < len(new):
        out += [_U32.pack(len(new) - literal), new[literal:], _COPY.pack(0, 0)]
    return b"".join(out)


def _common(a: bytes, i: int, b: bytes, j: int) -> int:
    """How many bytes from a[i] and b[j] on are equal: slices that double while they match and halve when they do not."""
    most = min(len(a) - i, len(b) - j)
    done, step = 0, _BLOCK
    while step and done < most:
        step = min(step, most - done)
        if a[i + done : i + done + step] == b[j + done : j + done + step]:
            done += step
            step *= 2
        else:
            step //= 2
    return done


def _common_back(a: bytes, i: int, b: bytes, j: int, most: int) -> int:
    """How many bytes before a[i] and b[j] are equal, at most `most`."""
    most = min(most, i, j)
    done = 0
    while done < most and a[i - done - 1] == b[j - done - 1]:
        done += 1
    return done
