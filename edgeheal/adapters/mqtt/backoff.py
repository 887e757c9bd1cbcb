# SPDX-License-Identifier: Apache-2.0
"""When to try again: exponential with full jitter, forgotten only once the link was useful.

Duty: waits. Source: full jitter = uniform(0, min(cap, first x 2^n)). It reads no clock.
Invariants: every failed attempt counts alike (DNS, TCP, TLS, refusal, a connection lost before it was useful); a successful
*connect* resets nothing; a wait is at most the cap.
"""

import os
from collections.abc import Callable


class Backoff:
    """`uniform(a, b)` is the source of chance."""

    def __init__(self, first_s: float, cap_s: float, uniform: Callable[[float, float], float]) -> None:
        """Waits grow from `first_s` to `cap_s`."""
        self._first_s = first_s
        self._cap_s = cap_s
        self._uniform = uniform
        self.attempts = 0

    def next_s(self) -> float:
        """How long to wait before the next attempt."""
        ceiling = min(self._cap_s, self._first_s * 2.0 ** min(self.attempts, 32))
        self.attempts += 1
        return self._uniform(0.0, ceiling)

    def useful(self) -> None:
        """The link was of use (a record confirmed, or five minutes up): the next failure is the first again."""
        self.attempts = 0


def uniformly(low: float, high: float) -> float:
    """Chance from the system; the module `random` would stay resident for this alone."""
    return low + (high - low) * int.from_bytes(os.urandom(6), "big") / (1 << 48)
