# SPDX-License-Identifier: Apache-2.0
"""Drift: a sensor that walks away from the one beside it, which measures the same.

Duty: the gap between two sensors, averaged over blocks, against the band in which it lay while it was learned.
Healthy look-alikes: both move (the gap does not), a constant offset between them, a gap that swings with the day, noise of either.
Invariants: nothing is judged before a gap was learned; what is apart is not learned; it says that they part, not which of them is wrong.
"""

from dataclasses import dataclass

BLOCK = 32  # pairs of readings
BLOCKS_LEAST = 4
AGREE = 2  # blocks in a row
WIDER = 0.75  # of the band's width, on each side


@dataclass(slots=True)
class Gap:
    """`low`, `high`: block means that were usual; `total`, `n`: of the open block; `noise`: mean distance of pairs from their block's mean."""

    first_ns: int = 0
    blocks: int = 0
    low: float = 0.0
    high: float = 0.0
    total: float = 0.0
    rough: float = 0.0
    last: float = 0.0
    n: int = 0
    noise: float = 0.0
    mean: float = 0.0
    over: int = 0
    settled: bool = False
    on: bool = False

    def add(self, at_ns: int, gap: float, learn_ns: int) -> int:
        """One pair: 1 when they part from now on, -1 when they are together again, else 0."""
        if not self.first_ns:
            self.first_ns, self.last = at_ns, gap
        self.total += gap
        self.rough += abs(gap - self.last)
        self.last = gap
        self.n += 1
        if self.n < BLOCK:
            return 0
        mean, noise = self.total / BLOCK, self.rough / BLOCK
        self.total, self.rough, self.n, self.mean = 0.0, 0.0, 0, mean
        if not self.settled:
            return self._learned(at_ns, mean, noise, learn_ns)
        low, high = self.band
        beyond = not low <= mean <= high
        self.over = self.over + 1 if beyond is not self.on else 0
        if self.over >= AGREE:
            self.on, self.over = beyond, 0
            return 1 if beyond else -1
        return 0

    def _learned(self, at_ns: int, mean: float, noise: float, learn_ns: int) -> int:
        self.low, self.high = (min(self.low, mean), max(self.high, mean)) if self.blocks else (mean, mean)
        self.blocks += 1
        self.noise = max(self.noise, noise)
        self.settled = self.blocks >= BLOCKS_LEAST and at_ns - self.first_ns >= learn_ns
        return 0

    @property
    def band(self) -> tuple[float, float]:
        """Where block means are usual: what was learned, and on each side most of its width or a noise's."""
        wide = max(WIDER * (self.high - self.low), self.noise / 2)
        return self.low - wide, self.high + wide
