# SPDX-License-Identifier: Apache-2.0
"""The agent about itself: its memory, the gap of its loop, the latency of its medium, what its queue dropped.

Duty: measure, and say what began or ended to be too much. What its spool and journal drop or may not write, those say themselves.
Healthy look-alike: one long call or one peak, on a busy box.
Invariants: each word is said once at its beginning and once at its end; measuring costs one read of /proc a period; what cannot be
read is said to be nothing.
"""

import os
from collections.abc import Callable
from typing import Protocol

from edgeheal.core.now import NS
from edgeheal.core.signal import SelfSaid
from edgeheal.ports import Emit

EVERY_LEAST_S = 1.0
GAP_MS = 1_000  # one call of a source that takes so long keeps apps waiting
MEDIUM_MS = 5_000  # a write that is not on the medium after so long
CALM = 0.9
HOLD = 3  # looks in a row; a medium that takes seconds over one write is told at once
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class Figures(Protocol):
    """What is asked each period: the longest of a thing since it was asked last, in ms, and a count."""

    def gap_ms(self) -> int:
        """Longest call of the loop."""

    def medium_ms(self) -> int:
        """Longest batch of the medium, one that is still out included."""

    def dropped(self) -> int:
        """Signals that found the queue full, since the start."""


class Itself:
    """A `ports.Source`: looks every `every_s`, says what is too much."""

    def __init__(
        self, emit: Emit, figures: Figures, clock: Callable[[], int], *, memory_kib: int, every_s: float = 10.0, statm: str = "/proc/self/statm"
    ) -> None:
        """`memory_kib`: resident memory above it is a symptom; `clock` monotonic ns."""
        self._emit = emit
        self._figures = figures
        self._memory_kib = memory_kib
        self._every_ns = round(max(EVERY_LEAST_S, every_s) * NS)
        self._next_ns = clock() + self._every_ns
        self._statm = statm
        self._on: set[str] = set()
        self._over: dict[str, int] = {}
        self._dropped = 0

    def fds(self) -> dict[int, int]:
        """None."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """Never."""

    def due(self) -> int:
        """The next look."""
        return self._next_ns

    def tick(self, now_ns: int) -> None:
        """Look."""
        self._next_ns = now_ns + self._every_ns
        kib = resident_kib(self._statm)
        if kib:
            self._judge("agent", "memory", kib, self._memory_kib)
        self._judge("agent", "slow", self._figures.gap_ms(), GAP_MS)
        self._judge("medium", "slow", self._figures.medium_ms(), MEDIUM_MS, 1)
        dropped = self._figures.dropped()
        if dropped > self._dropped:
            self._emit(SelfSaid("agent", "dropped", ok=False, value=float(dropped - self._dropped), text="signals"))
            self._dropped = dropped

    def _judge(self, part: str, what: str, value: int, limit: int, hold: int = HOLD) -> None:
        name = f"{part}:{what}"
        self._over[name] = self._over.get(name, 0) + 1 if value > limit else 0
        if self._over[name] >= hold and name not in self._on:
            self._on.add(name)
            self._emit(SelfSaid(part, what, ok=False, value=float(value), text=f"limit {limit}"))
        elif value < CALM * limit and name in self._on:
            self._on.discard(name)
            self._emit(SelfSaid(part, what, ok=True, value=float(value)))


def resident_kib(path: str = "/proc/self/statm") -> int:
    """Resident memory of this process; 0 when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return int(file.read(128).split()[1]) * _PAGE_KIB
    except (OSError, ValueError, IndexError):
        return 0
