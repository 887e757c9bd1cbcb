# SPDX-License-Identifier: Apache-2.0
"""Which records of one session are stored: a contiguous mark and the ranges beyond it.

Duty: numbers only. Invariant: `upto` never falls; ranges are disjoint, ascending and beyond `upto`.
"""

import bisect
from collections.abc import Iterable


class Covered:
    """Seqs from 1 on; `upto` 0 is none."""

    __slots__ = ("_firsts", "_lasts", "upto")

    def __init__(self, upto: int = 0, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """`ranges` inclusive, in any order."""
        self.upto = upto
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.cover(first, last)

    def cover(self, first: int, last: int) -> None:
        """All of `first`..`last` is stored."""
        first = max(first, self.upto + 1)
        if last < first:
            return
        low = bisect.bisect_left(self._lasts, first - 1)
        high = bisect.bisect_right(self._firsts, last + 1)
        if low < high:
            first, last = min(first, self._firsts[low]), max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]
        if self._firsts[0] == self.upto + 1:
            self.upto = self._lasts.pop(0)
            del self._firsts[0]

    def has(self, seq: int) -> bool:
        """Whether `seq` is stored."""
        if seq <= self.upto:
            return True
        at = bisect.bisect_right(self._firsts, seq) - 1
        return at >= 0 and seq <= self._lasts[at]

    def beyond(self) -> list[tuple[int, int]]:
        """The ranges beyond `upto`."""
        return list(zip(self._firsts, self._lasts, strict=True))
