# SPDX-License-Identifier: Apache-2.0
"""Objects on their way into staging: inflated, proven, written; small ones by two lanes, large ones in steps as they are read.

Duty: put proven contents into staging/<id>/objects. For the importer. It decides nothing about what is wanted.
Invariants: a small content is proven before its file is made; a large one that does not prove is removed; memory does not grow with contents:
at most `lanes.AHEAD` + 1 batches of 256 KiB, as they travel and inflated.
"""

import os
from types import TracebackType
from typing import NamedTuple, Self

from edgeheal.core.errors import EdgeHealError
from edgeheal.guard import child
from edgeheal.guard.folders import NEW_FLAGS, write_all
from edgeheal.guard.lanes import Lanes
from edgeheal.image.bundle import IndexRow
from edgeheal.image.codec import STEP
from edgeheal.image.reader import Base, BundleReader, proven_whole
from edgeheal.image.tree import Content

BATCH_ITEMS = 16


class _Small(NamedTuple):
    """A content whole, as it travelled."""

    row: IndexRow
    content: Content
    data: bytes


class Objects:
    """The folder objects/ being filled. Leaving the `with` waits for the lanes, and raises their first fault."""

    def __init__(self, folder: int, reader: BundleReader) -> None:
        """`folder` is the descriptor of objects/."""
        self._folder = folder
        self._reader = reader
        self._lanes: Lanes[list[_Small]] = Lanes(self._write_batch)
        self._batch: list[_Small] = []
        self._bytes = 0

    def __enter__(self) -> Self:
        """Start the lanes."""
        self._lanes.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """What was read before a fault is written, so that a retry finds it."""
        try:
            self.flush()
        finally:
            self._lanes.__exit__(kind, value, trace)

    def write(self, row: IndexRow, content: Content, base: Base | None) -> None:
        """Take one content from the reader. A fault of an earlier one may be raised here."""
        if base is not None or row.base is not None or row.length > STEP or content.size > STEP:
            self._write_steps(row, content, base)
            return
        if self._bytes + content.size > STEP or len(self._batch) >= BATCH_ITEMS:
            self.flush()
        self._batch.append(_Small(row, content, self._reader.payload(row)))
        self._bytes += content.size

    def flush(self) -> None:
        """Hand what was gathered to a lane."""
        batch, self._batch, self._bytes = self._batch, [], 0
        if batch:
            self._lanes.give(batch)

    def _write_batch(self, batch: list[_Small]) -> None:
        for row, content, data in batch:
            made = proven_whole(row, data, content.size, content.digest)
            name = str(content.number)
            try:
                fd = os.open(name, NEW_FLAGS, 0o600, dir_fd=self._folder)
                try:
                    write_all(fd, made)
                except OSError:
                    os.unlink(name, dir_fd=self._folder)
                    raise
                finally:
                    os.close(fd)
            except OSError as fault:
                raise child.from_os(fault, "object", content.number) from None

    def _write_steps(self, row: IndexRow, content: Content, base: Base | None) -> None:
        name = str(content.number)
        fd = os.open(name, NEW_FLAGS, 0o600, dir_fd=self._folder)
        try:
            for step in self._reader.content(row, content.size, content.digest, base):
                write_all(fd, step)
        except OSError as fault:
            os.unlink(name, dir_fd=self._folder)
            raise child.from_os(fault, "object", content.number) from None
        except EdgeHealError:
            os.unlink(name, dir_fd=self._folder)
            raise
        finally:
            os.close(fd)
