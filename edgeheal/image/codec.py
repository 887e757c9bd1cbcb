# SPDX-License-Identifier: Apache-2.0
"""The three codecs of a bundle: 0 stored, 1 raw deflate, 2 raw LZMA2 with a window of 4 MiB.

Duty: inflate in bounded steps, squeeze. Invariants: no step gives more than 256 KiB; nothing is inflated past the size that was
declared; a stream that ends early, late or not at all is an error.
"""

import lzma
import zlib
from collections.abc import Iterable, Iterator

STORED, DEFLATE, LZMA2 = range(3)
NAMES = ("stored", "deflate", "lzma2")
STEP = 256 * 1024
WINDOW = 4 * 1024 * 1024
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": WINDOW}]


class CodecError(ValueError):
    """Bytes that do not inflate to what was declared."""


def inflate(codec: int, pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """What `pieces` inflate to, in steps of at most 256 KiB; CodecError beyond `most` bytes, for damage, and for bytes after the end."""
    steps = (_stored if codec == STORED else _deflated if codec == DEFLATE else _lzma2)(pieces)
    made = 0
    try:
        for step in steps:
            made += len(step)
            if made > most:
                raise CodecError(f"inflates past its {most} bytes")
            yield step
    except (zlib.error, lzma.LZMAError, EOFError) as fault:
        raise CodecError(f"does not inflate: {fault}") from None


def inflate_whole(codec: int, data: bytes, size: int) -> bytes:
    """As `inflate`, for a small content that is there whole: all of its `size` bytes at once. CodecError when it makes more, or fewer."""
    if codec == DEFLATE:
        stream = zlib.decompressobj(-15)
        try:
            made = stream.decompress(data, size + 1)
        except zlib.error as fault:
            raise CodecError(f"does not inflate: {fault}") from None
        if stream.unused_data:
            raise CodecError("has bytes after its end")
        if len(made) <= size and not stream.eof:
            raise CodecError("ends early")
    else:
        made = b"".join(inflate(codec, iter((data,)), size))
    if len(made) > size:
        raise CodecError(f"inflates past its {size} bytes")
    return made


def _stored(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for at in range(0, len(piece), STEP):
            yield piece[at : at + STEP]


def _deflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj(-15)
    for piece in pieces:
        if stream.eof:
            raise CodecError("has bytes after its end")
        rest = piece
        while rest and not stream.eof:
            step = stream.decompress(rest, STEP)
            rest = stream.unconsumed_tail
            if step:
                yield step
        if stream.unused_data:
            raise CodecError("has bytes after its end")
    while not stream.eof:
        step = stream.decompress(b"", STEP)
        if not step:
            raise CodecError("ends early")
        yield step


def _lzma2(pieces: Iterable[bytes]) -> Iterator[bytes]:
    stream = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    for piece in pieces:
        rest = piece
        while rest or not stream.needs_input:
            if stream.eof:
                break
            step = stream.decompress(rest, STEP)
            rest = b""
            if step:
                yield step
        if rest or (stream.eof and stream.unused_data):
            raise CodecError("has bytes after its end")
    if not stream.eof:
        raise CodecError("ends early")


class Squeezer:
    """A compressing stream of one codec."""

    __slots__ = ("_stream",)

    def __init__(self, codec: int, level: int = 6) -> None:
        """`codec` STORED passes bytes through."""
        self._stream = zlib.compressobj(level, zlib.DEFLATED, -15, 9) if codec == DEFLATE else lzma_stream() if codec == LZMA2 else None

    def feed(self, data: bytes) -> bytes:
        """What comes out so far."""
        return data if self._stream is None else self._stream.compress(data)

    def end(self) -> bytes:
        """What is left."""
        return b"" if self._stream is None else self._stream.flush()


def lzma_stream() -> lzma.LZMACompressor:
    """A raw LZMA2 compressor with the format's window."""
    return lzma.LZMACompressor(lzma.FORMAT_RAW, filters=_FILTERS)


def squeeze(data: bytes, codec: int = DEFLATE) -> tuple[int, bytes]:
    """The shorter of `data` squeezed by `codec` and `data` itself, as (codec, bytes)."""
    if codec == STORED or not data:
        return STORED, data
    squeezer = Squeezer(codec)
    made = squeezer.feed(data) + squeezer.end()
    return (codec, made) if len(made) < len(data) else (STORED, data)
