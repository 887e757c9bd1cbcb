# SPDX-License-Identifier: Apache-2.0
"""The bytes of spooled records: in memory until they are on the medium, from the medium afterwards.

Duty: find a body. It keeps few: what is not safe yet, and a few segments as they were read. It does no I/O of its own (`read` does).
Invariant: a body is never taken from a copy of a segment that may have grown since.
"""

from collections import OrderedDict
from collections.abc import Callable

Key = tuple[bytes, int]
Read = Callable[[int], bytes | None]  # a live segment's number -> all its bytes
SEGMENTS_MOST = 4
YOUNG_MANY = 64


class Bodies:
    """`safe(mark)` says whether what was written up to a mark is on the medium."""

    def __init__(self, read: Read, safe: Callable[[int], bool]) -> None:
        """Empty."""
        self._read = read
        self._safe = safe
        self._young: OrderedDict[Key, tuple[int, bytes]] = OrderedDict()
        self._segments: OrderedDict[int, tuple[bytes, int]] = OrderedDict()  # bytes, and how far they are good

    def keep(self, key: Key, mark: int, body: bytes) -> None:
        """A body that was just written, at hand until `mark` is safe."""
        self._young[key] = (mark, body)
        if len(self._young) >= YOUNG_MANY:
            self.grow_old()

    def grow_old(self) -> None:
        """Let go of what is on the medium by now."""
        while self._young:
            key, (mark, _) = next(iter(self._young.items()))
            if not self._safe(mark):
                return
            del self._young[key]

    def young(self, key: Key) -> bytes | None:
        """The body, if it is not on the medium yet."""
        found = self._young.get(key)
        return None if found is None else found[1]

    def segment(self, number: int, *, until: int, end: int) -> bytes | None:
        """A segment's bytes as they are on the medium, good up to offset `until`; None when it cannot be read now.

        `end`: how far the segment is written; while anything is not on the medium yet, what is read is used once and not kept.
        """
        kept = self._segments.get(number)
        if kept is not None and until <= kept[1]:
            self._segments.move_to_end(number)
            return kept[0]
        data = self._read(number)
        self.grow_old()
        if data is not None and not self._young:
            self._segments[number] = (data, end)
            while len(self._segments) > SEGMENTS_MOST:
                self._segments.popitem(last=False)
        return data

    def forget(self, number: int) -> None:
        """The segment was given up."""
        self._segments.pop(number, None)
