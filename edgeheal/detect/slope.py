# SPDX-License-Identifier: Apache-2.0
"""A bounded record of a growing figure, and its robust slope.

Duty: numbers only. Points are lower envelopes: when the record is full, neighbours are merged to their minimum and buckets double, so
that a sawtooth shows its floor and a record of any length costs the same. A record with a span forgets its oldest bucket instead: what began
lately is not drowned by days of quiet.
Source of the slope: Theil 1950, Sen 1968 (median of the slopes of all pairs; up to 29 % of outliers do not move it).
"""

from dataclasses import dataclass, field

POINTS_MOST = 24


@dataclass(slots=True)
class Track:
    """`at` seconds and `low` values of closed buckets, oldest first; `width_s` of a bucket; the open one; `peak` of all samples."""

    at: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    width_s: float = 0.0
    open_at: float = 0.0
    open_low: float = 0.0
    open_n: int = 0
    peak: float = 0.0
    dropped_from: float = 0.0
    span_s: float = 0.0

    @property
    def window_s(self) -> float:
        """Time from the first to the last closed bucket."""
        return self.at[-1] - self.at[0] if self.at else 0.0

    def add(self, at_s: float, value: float) -> bool:
        """One sample; True when a bucket was closed."""
        if value < 0.8 * self.peak:
            self.dropped_from = max(self.dropped_from, self.peak)
            self.peak = value
        self.peak = max(self.peak, value)
        if self.open_n == 0:
            self.open_at, self.open_low = at_s, value
        self.open_low = min(self.open_low, value)
        self.open_n += 1
        if at_s - self.open_at < (self.span_s / POINTS_MOST if self.span_s else self.width_s):
            return False
        self.at.append(self.open_at)
        self.low.append(self.open_low)
        self.open_n = 0
        if len(self.at) > POINTS_MOST and self.span_s:
            del self.at[0], self.low[0]
        elif len(self.at) >= POINTS_MOST and not self.span_s:
            self._merge()
        return True

    def _merge(self) -> None:
        """Halve the record. A bucket whose neighbours differ in length is bounded by the same rule."""
        self.width_s = max(self.width_s * 2, 2 * self.window_s / (len(self.at) - 1))
        half = len(self.at) // 2
        self.at = [self.at[2 * i] for i in range(half)]
        self.low = [min(self.low[2 * i], self.low[2 * i + 1]) for i in range(half)]

    def clear(self) -> None:
        """Start anew; what it once fell back from is kept."""
        self.at.clear()
        self.low.clear()
        self.width_s, self.open_n, self.peak = 0.0, 0, 0.0


def theil_sen(at: list[float], value: list[float]) -> float:
    """Median slope of all pairs, value per second; 0.0 for fewer than two points."""
    slopes = [(value[j] - value[i]) / (at[j] - at[i]) for i in range(len(at)) for j in range(i + 1, len(at)) if at[j] > at[i]]
    if not slopes:
        return 0.0
    slopes.sort()
    middle = len(slopes) // 2
    return slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2
