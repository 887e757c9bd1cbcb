# SPDX-License-Identifier: Apache-2.0
"""Writing a bundle: squeezed objects go to a spool, then head, index and spool go out in one stream.

Duty: put parts in order; the same contents give the same bytes. It opens no file and signs nothing.
Invariant: what it writes, image.reader reads; memory does not grow with the contents.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from edgeheal.image import bundle
from edgeheal.image.bundle import IndexRow
from edgeheal.image.codec import STEP, STORED, Squeezer


class Spool(Protocol):
    """A seekable scratch file."""

    def write(self, data: bytes, /) -> int:
        """Append."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""

    def truncate(self, size: int | None = None, /) -> int:
        """Cut there."""


class Squeezed(NamedTuple):
    """An object ready to travel, in memory."""

    number: int
    codec: int
    data: bytes
    base: bytes | None = None


class BundleWriter:
    """Objects in ascending order, then `parts`."""

    __slots__ = ("_rows", "_spool", "_used")

    def __init__(self, spool: Spool) -> None:
        """`spool` is empty and ours."""
        self._spool = spool
        self._rows: list[IndexRow] = []
        self._used = 0

    def add(self, made: Squeezed) -> None:
        """An object that is squeezed already."""
        self._spool.write(made.data)
        self._rows.append(IndexRow(made.number, made.codec, len(made.data), made.base))
        self._used += len(made.data)

    def add_stream(self, number: int, pieces: Callable[[], Iterable[bytes]], size: int, codec: int) -> None:
        """A large object, squeezed in steps; stored when squeezing does not make it shorter (`pieces` is then called again)."""
        length = self._squeeze(pieces(), codec)
        if codec != STORED and length >= size:
            self._spool.seek(self._used)
            self._spool.truncate(self._used)
            codec, length = STORED, self._squeeze(pieces(), STORED)
        self._rows.append(IndexRow(number, codec, length, None))
        self._used += length

    def _squeeze(self, pieces: Iterable[bytes], codec: int) -> int:
        squeezer = Squeezer(codec)
        length = 0
        for piece in pieces:
            length += self._spool.write(squeezer.feed(piece))
        return length + self._spool.write(squeezer.end())

    def parts(self, trust: bytes, envelope: bytes) -> Iterator[bytes]:
        """The bundle's bytes, front to back."""
        index = bundle.encode_index(self._rows)
        yield bundle.encode_head(bundle.Head(len(trust), len(envelope), len(index))) + trust + envelope + index
        yield from copy(self._spool, self._used)


def copy(spool: Spool, length: int) -> Iterator[bytes]:
    """The first `length` bytes of a spool in steps."""
    spool.seek(0)
    while length > 0:
        piece = spool.read(min(length, STEP))
        if not piece:
            raise EOFError("the spool ends early")
        length -= len(piece)
        yield piece
