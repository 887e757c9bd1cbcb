# SPDX-License-Identifier: Apache-2.0
"""Which record breaks the connection: a bad one must not block the queue, and a bad line must not condemn a good record.

Duty: count breaks, put suspects in a row, name the guilty one. It sends nothing.
Invariants: a break with several on their way accuses nobody, it only makes them suspects, which then go one at a time; a record is
guilty when the connection broke `BREAKS_MOST` times with it alone on its way and nothing else passed it by.
"""

from collections import deque
from collections.abc import Callable, Sequence

Key = tuple[bytes, int]
Waits = Callable[[Key], bool]
BREAKS_MOST = 3


class Blame:
    """The suspects of the spool."""

    def __init__(self) -> None:
        """Nobody is suspected."""
        self._suspects: deque[Key] = deque()
        self._breaks: dict[Key, int] = {}

    def broke(self, keys: Sequence[Key], waits: Waits) -> Key | None:
        """The connection broke with these on their way; the guilty one, if that is certain now."""
        there = [key for key in keys if waits(key)]
        if len(there) > 1:
            self._suspects.extend(key for key in there if key not in self._suspects)
        elif there:
            key = there[0]
            self._breaks[key] = self._breaks.get(key, 0) + 1
            if self._breaks[key] >= BREAKS_MOST:
                return key
            if key in self._suspects:  # the others get their turn in between
                self._suspects.remove(key)
                self._suspects.append(key)
        return None

    def passed(self, key: Key) -> None:
        """It went through: not this one."""
        self._breaks.pop(key, None)
        if key in self._suspects:
            self._suspects.remove(key)

    def next(self, waits: Waits) -> Key | None:
        """The suspect that is to go alone now; None: nobody is suspected."""
        while self._suspects and not waits(self._suspects[0]):
            self._suspects.popleft()
        return self._suspects[0] if self._suspects else None

    def forget(self, waits: Waits) -> None:
        """Let go of what waits no more."""
        self._breaks = {key: count for key, count in self._breaks.items() if waits(key)}
