# SPDX-License-Identifier: Apache-2.0
"""Reading a bundle once, front to back, in bounded steps.

Duty: hand out trust, envelope, index, then each object's proven content, from a `read(n)` function. It decides nothing about
trust and touches no disk: who calls it judges between the parts, in the order of proof.
Invariants: at most one 256 KiB step in memory; a content is handed out in steps, and whoever takes them must wait for the end
before believing any (the hash is checked there); one byte after the payload is an error.
"""

import hashlib
from collections.abc import Iterator

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.image import bundle, codec, patch
from edgeheal.image.bundle import IndexRow, Read
from edgeheal.image.codec import STEP, CodecError
from edgeheal.image.patch import PatchError


class Base:
    """A held content that patches may copy from."""

    __slots__ = ("read", "size")

    def __init__(self, read: patch.BaseRead, size: int) -> None:
        """`read(offset, length)` gives up to `length` bytes; `size` is its length."""
        self.read = read
        self.size = size


class BundleReader:
    """One bundle being read. Call `start`, then `index`, then `content` for each row in order, then `end`."""

    __slots__ = ("_head", "_read", "read_bytes")

    def __init__(self, read: Read) -> None:
        """`read(n)` gives 1..n bytes, b"" at the end."""
        self._read = read
        self._head = bundle.Head(0, 0, 0)
        self.read_bytes = 0

    def start(self) -> tuple[bytes, bytes]:
        """The raw trust part and the raw envelope."""
        first = self._some(bundle.HEAD_BYTES)
        self._head = bundle.decode_head(first)
        return self._exact(self._head.trust, "trust"), self._exact(self._head.envelope, "envelope")

    def index(self) -> bundle.Index:
        """The index."""
        return bundle.decode_index(self._exact(self._head.index, "index"))

    def content(self, row: IndexRow, size: int, digest: bytes, base: Base | None, *, part: str = "object") -> Iterator[bytes]:
        """The content of one row in steps; ImageError when it is not `size` bytes with hash `digest`."""
        return proven(row, self._payload(row, part), size, digest, base, part=part)

    def payload(self, row: IndexRow, *, part: str = "object") -> bytes:
        """The bytes of one row as they travelled, for `proven_whole`; the caller knows that they are few."""
        data = self._read(row.length) if row.length else b""
        if len(data) == row.length:
            self.read_bytes += row.length
            return data
        self.read_bytes += len(data)
        rest = self._payload(row._replace(length=row.length - len(data)), part) if data else self._payload(row, part)
        return data + b"".join(rest)

    def skip(self, row: IndexRow, *, part: str = "object") -> None:
        """Pass over the payload of a row (its content is proven already)."""
        for _ in self._payload(row, part):
            pass

    def end(self) -> None:
        """Refuse anything after the payload."""
        if self._read(1):
            raise ImageError("has bytes after its last object", reason=reasons.TRAILING, part="payload", hint="fetch the bundle again from its source")

    def _payload(self, row: IndexRow, part: str) -> Iterator[bytes]:
        left = row.length
        while left:
            piece = self._read(min(left, STEP))
            if not piece:
                raise _fault(f"ends {left} bytes early", part, row.number, reasons.TRUNCATED)
            self.read_bytes += len(piece)
            left -= len(piece)
            yield piece

    def _some(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self._read(count - len(got))
            if not piece:
                break
            got += piece
        self.read_bytes += len(got)
        return got

    def _exact(self, count: int, part: str) -> bytes:
        got = bytearray()
        while len(got) < count:
            piece = self._read(min(count - len(got), STEP))
            if not piece:
                raise ImageError(f"ends {count - len(got)} bytes early", reason=reasons.TRUNCATED, part=part, hint="fetch the bundle again")
            got += piece
        self.read_bytes += count
        return bytes(got)


def proven(row: IndexRow, pieces: Iterator[bytes], size: int, digest: bytes, base: Base | None, *, part: str = "object") -> Iterator[bytes]:
    """What the `pieces` of a row make, in steps; ImageError when it is not `size` bytes with hash `digest`. Runs beside others: it shares nothing."""
    made = hashlib.sha256()
    total = 0
    try:
        if row.base is None:
            steps = codec.inflate(row.codec, pieces, size)
        elif base is None:
            raise _fault(f"its base {row.base.hex()[:16]} is not held here", part, row.number, reasons.MISSING_OBJECT)
        else:
            steps = patch.apply(codec.inflate(row.codec, pieces, patch.most_bytes(size)), base.read, base.size, size)
        for step in steps:
            made.update(step)
            total += len(step)
            yield step
    except (CodecError, PatchError) as fault:
        raise _fault(str(fault), part, row.number, reasons.BAD_OBJECT) from None
    if next(pieces, None) is not None:
        raise _fault("has bytes after its end", part, row.number, reasons.BAD_OBJECT)
    if total != size or made.digest() != digest:
        raise _fault("is not the content that the tree names", part, row.number, reasons.BAD_OBJECT)


def proven_whole(row: IndexRow, data: bytes, size: int, digest: bytes, *, part: str = "object") -> bytes:
    """As `proven`, for a small content (no patch) that was read whole."""
    try:
        made = codec.inflate_whole(row.codec, data, size)
    except CodecError as fault:
        raise _fault(str(fault), part, row.number, reasons.BAD_OBJECT) from None
    if len(made) != size or hashlib.sha256(made).digest() != digest:
        raise _fault("is not the content that the tree names", part, row.number, reasons.BAD_OBJECT)
    return made


def _fault(what: str, part: str, number: int, reason: int) -> ImageError:
    hints = {reasons.MISSING_OBJECT: "fetch the missing objects from a full bundle", reasons.TRUNCATED: "fetch the bundle again"}
    return ImageError(what, reason=reason, part=part, number=number, hint=hints.get(reason, "fetch the bundle again from its source"))
