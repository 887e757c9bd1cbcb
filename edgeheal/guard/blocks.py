# SPDX-License-Identifier: Apache-2.0
"""A record kept twice: two preallocated files written in place by turns, the newest valid one wins.

Duty: load and store one value that must survive a cut at any moment, also on a full disk. It knows no meaning.
Invariants: a store is one `pwrite` and one `fdatasync` into the older block, then read back; the newer block is never touched by it.
Empty, zeroed or torn is *damaged*, never fresh; fresh is only what has no file at all. A record of an unknown version is neither:
it is kept unread and never overwritten. Source: field case fc-sto-2.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.image.records import RecordError, block, unblock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Value = dict[str, Any]

PAGE = 4096
FRESH, FOUND, DAMAGED, NEWER = range(4)
FOUND_WORDS = ("fresh", "found", "damaged", "newer version")


class Blocks:
    """The pair `path.a`, `path.b` of `size` bytes each; values are dicts with `v` (their version) and `seq` (set here)."""

    __slots__ = ("_next", "found", "path", "seq", "size", "version")

    def __init__(self, path: str, size: int, version: int = 1) -> None:
        """`version` is the newest that this program understands. Nothing is read before `load`."""
        self.path = path
        self.size = size
        self.version = version
        self.seq = 0
        self.found = FRESH
        self._next = "a"

    def load(self) -> "Value | None":
        """The newest valid value, else None; `found` says which of the four it was. OSError when it could not be read."""
        values = {}
        missing = 0
        for name in ("a", "b"):
            try:
                with open(f"{self.path}.{name}", "rb", buffering=0) as file:
                    raw = file.read(self.size)
            except FileNotFoundError:
                missing += 1
                continue
            value = unblock(raw)
            if isinstance(value, dict) and isinstance(value.get("v"), int) and isinstance(value.get("seq"), int):
                values[name] = value
        if not values:
            self.found = FRESH if missing == 2 else DAMAGED
            return None
        best = max(values, key=lambda n: values[n]["seq"])
        self.seq = values[best]["seq"]
        self._next = "b" if best == "a" else "a"
        self.found = NEWER if values[best]["v"] > self.version else FOUND
        return values[best]

    def store(self, value: "Value") -> None:
        """Make `value` durable and read it back; OSError when that failed (then the old value stands)."""
        if self.found == NEWER:
            raise PermissionError(f"{self.path}: written by a newer version, kept as it is")
        value = {**value, "v": self.version, "seq": self.seq + 1}
        try:
            raw = _used(block(value, self.size))
        except RecordError as fault:
            raise OSError(f"{self.path}: {fault}") from None
        path = f"{self.path}.{self._next}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._make(path, raw)
            self._make_room(f"{self.path}.{'b' if self._next == 'a' else 'a'}")
        else:
            try:
                self._write(fd, raw)
            finally:
                os.close(fd)
        self.seq += 1
        self.found = FOUND
        self._next = "b" if self._next == "a" else "a"

    def _make_room(self, path: str) -> None:
        """The other block of a first store, empty: the next store needs no room then, also on a disk that is full by that time."""
        if not os.path.exists(path):
            try:
                self._make(path, b"")
            except OSError:
                return  # the next store makes it, if it can

    def _write(self, fd: int, raw: bytes) -> None:
        """In place, durable, and seen: a medium that takes a write and keeps something else is a fault here."""
        if os.pwrite(fd, raw, 0) != len(raw):
            raise OSError(f"{self.path}: short write")
        os.fdatasync(fd)
        if os.pread(fd, len(raw), 0) != raw:
            raise OSError(f"{self.path}: read back something else")

    def _make(self, path: str, raw: bytes) -> None:
        """The block's first time (or its return): a whole file appears, never an empty one."""
        fresh = f"{path}.new"
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._write(fd, raw.ljust(self.size, b"\0"))
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(fresh, path)
        sync_folder(os.path.dirname(path))


def _used(raw: bytes) -> bytes:
    """The pages of a block that carry something: flash is not worn by zeros."""
    return raw[: -(-(len(raw.rstrip(b"\0")) or 1) // PAGE) * PAGE]


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
