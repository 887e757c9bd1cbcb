# SPDX-License-Identifier: Apache-2.0
"""The engine's alarm clock: wakes the loop when the engine asked to be called again, and turns signals of the kernel into an end.

Duty: one deadline, one self-pipe. It decides nothing. Invariant: at most one `Tick` per deadline.
"""

import os
import select
import signal
from collections.abc import Callable

from edgeheal.core.signal import Signal, Tick


class Alarm:
    """A `ports.Source`: `at_ns` is the engine's next deadline, 0 = none."""

    def __init__(self, hear: Callable[[Signal], None]) -> None:
        """`hear` gets the `Tick`."""
        self._hear = hear
        self.at_ns = 0

    def fds(self) -> dict[int, int]:
        """None."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """Never."""

    def due(self) -> int:
        """The engine's deadline."""
        return self.at_ns

    def tick(self, now_ns: int) -> None:
        """It has come."""
        self.at_ns = 0
        self._hear(Tick())


class Ends:
    """A `ports.Source`: SIGTERM and SIGINT end the agent in order, SIGHUP reads the config again."""

    def __init__(self, end: Callable[[], None], reload: Callable[[], None]) -> None:
        """Handlers run in the loop, never inside a signal handler."""
        self._end = end
        self._reload = reload
        self._read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def fds(self) -> dict[int, int]:
        """The self-pipe."""
        return {self._read: select.POLLIN}

    def ready(self, fd: int, events: int) -> None:
        """Signals came: each byte is one number."""
        for number in os.read(self._read, 256):
            if number == signal.SIGHUP:
                self._reload()
            else:
                self._end()

    def due(self) -> int:
        """Nothing is ever due."""
        return 0

    def tick(self, now_ns: int) -> None:
        """Never."""
