# SPDX-License-Identifier: Apache-2.0
"""The write budget: so many bytes a day to flash, so that a bad week does not wear it out.

Duty: say whether something may be written now. It writes nothing and reads no clock (seconds of box or monotonic time come in).
Invariants: what is essential (intents, outcomes, what was told) always passes and is charged; the rest passes only while there
is something left; the debt is bounded, so that a storm of essentials does not mute the log for days.
"""

DAY_S = 86_400
BURST_SHARE = 4  # a quarter of a day's bytes may go at once


class Purse:
    """A bucket that fills at `daily_bytes` a day."""

    def __init__(self, daily_bytes: int) -> None:
        """It starts full; `daily_bytes` 0: no limit."""
        self._daily = daily_bytes
        self._most = daily_bytes / BURST_SHARE
        self._left = self._most
        self._at_s = 0.0
        self.spent_bytes = 0
        self.limited = daily_bytes > 0

    def left(self, now_s: float) -> float:
        """Bytes that may be written now."""
        if now_s > self._at_s:
            self._left = min(self._most, self._left + (now_s - self._at_s) * self._daily / DAY_S)
        self._at_s = now_s
        return self._left

    def spend(self, size_bytes: int, now_s: float, *, essential: bool = False) -> bool:
        """Charge `size_bytes`; False (and nothing charged) when it must not be written."""
        if self._daily and not essential and self.left(now_s) < size_bytes:
            return False
        self._left = max(self.left(now_s) - size_bytes, -self._most)
        self.spent_bytes += size_bytes
        return True
