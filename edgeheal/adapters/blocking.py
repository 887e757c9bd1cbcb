# SPDX-License-Identifier: Apache-2.0
"""Calls that may block in the kernel (statfs of a foreign mount, opening a device), kept out of the loop.

Duty: run them on threads, hand the answers back in the loop's own thread. It knows nothing of what the calls do.
Invariants: at most one call per key is out; at most `THREADS_MOST` threads exist, and only those whose call does not come
back are more than one; a call that never returns costs its own thread and nothing else; no wake-up at rest.
Implements `ports.Blocking` and `ports.Source`.
"""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

THREADS_MOST = 16
SLOW_NS = 200_000_000

Call = Callable[[], object]
Answer = Callable[[object], None]


class Workers:
    """One thread for all while calls come back; another as long as one does not."""

    def __init__(self) -> None:
        """No thread is started before the first call."""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: SimpleQueue[tuple[str, Call]] = SimpleQueue()
        self._done: SimpleQueue[tuple[str, object]] = SimpleQueue()
        self._out: dict[str, tuple[int, Answer]] = {}
        self._lock = threading.Lock()
        self._running: dict[int, tuple[str, int]] = {}
        self._idle = 0
        self._threads = 0

    def ask(self, key: str, call: Call, answer: Answer) -> bool:
        """See `ports.Blocking.ask`."""
        if key in self._out:
            return False
        self._out[key] = (time.monotonic_ns(), answer)
        self._waiting.put((key, call))
        self._man()
        return True

    def stuck_ns(self, key: str) -> int:
        """See `ports.Blocking.stuck_ns`."""
        entry = self._out.get(key)
        return 0 if entry is None else entry[0]

    def threads(self) -> int:
        """How many threads exist (one, plus one for each call that does not come back)."""
        return self._threads

    def fds(self) -> dict[int, int]:
        """The bell that rings when an answer is there."""
        return {self._bell: select.POLLIN}

    def ready(self, fd: int, events: int) -> None:
        """Hand out the answers."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        while True:
            try:
                key, value = self._done.get_nowait()
            except Empty:
                return
            entry = self._out.pop(key, None)
            if entry is not None:
                entry[1](value)

    def due(self) -> int:
        """While something waits behind a slow call: when to look whether it needs a thread of its own."""
        with self._lock:
            if self._waiting.empty() or self._threads > len(self._running) or self._threads >= THREADS_MOST:
                return 0
            return max((since for _, since in self._running.values()), default=0) + SLOW_NS

    def tick(self, now_ns: int) -> None:
        """Start a thread for what waits behind a call that does not come back."""
        if not self._waiting.empty():
            self._man()

    def close(self) -> None:
        """Forget what is out; threads are daemons and end with the process or with their call."""
        self._out.clear()

    def _man(self) -> None:
        with self._lock:
            now = time.monotonic_ns()
            slow = sum(1 for _, since in self._running.values() if now - since >= SLOW_NS)
            if self._threads > slow or self._threads >= THREADS_MOST:
                return
            self._threads += 1
        threading.Thread(target=self._work, name="blocking", daemon=True).start()

    def _work(self) -> None:
        me = threading.get_ident()
        while True:
            with self._lock:
                if self._idle:  # another one waits already: one is enough while calls come back
                    self._threads -= 1
                    return
                self._idle += 1
            key, call = self._waiting.get()
            with self._lock:
                self._idle -= 1
                self._running[me] = (key, time.monotonic_ns())
            try:
                value: object = call()
            except OSError as fault:
                value = fault
            except Exception as fault:  # noqa: BLE001 - a thread's edge: a fault of the call is an answer, never the thread's end
                value = OSError(f"{type(fault).__name__}: {fault}")
            with self._lock:
                del self._running[me]
            self._done.put((key, value))
            os.eventfd_write(self._bell, 1)
