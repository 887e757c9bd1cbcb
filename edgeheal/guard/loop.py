# SPDX-License-Identifier: Apache-2.0
"""The guard's one loop: descriptors, deadlines, children that end, and the notice that we stood still.

Duty: wait, call whoever is ready or due. It knows nobody by name and decides nothing.
Invariants: nothing blocks in it but the wait; no periodic wake-up of its own; a callback that raises costs that callback only and is
counted (`faults`) and told (`on_fault`); after a standstill `on_still` callbacks run before any deadline fires, so that they can arm
deadlines anew; every child of ours is reaped here and nowhere else.
Light on purpose: the resident guard imports it.

    loop.watch(fd, callback, events)   callback(fd, events) when ready; again replaces     loop.unwatch(fd)
    timer = loop.after(seconds, callback) | loop.at(monotonic ns, callback)                timer.cancel()
    loop.child(pid, callback)          callback(pid, wait status) once, after it was reaped; rusage is dropped
    loop.later(callback)               in this turn, after what runs now
"""

import errno
import heapq
import os
import select
import time

from edgeheal.adapters.own_log import OwnLog
from edgeheal.guard import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NS = 1_000_000_000
STILL_NS = NS  # a deadline that is served so much later than asked: we (or the box) stood still
FAULTS_TOLD = 50


class Timer:
    """A deadline; `cancel` may be called at any time, also after it fired."""

    __slots__ = ("at_ns", "callback")

    def __init__(self, at_ns: int, callback: "Callable[[], None]") -> None:
        """Made by `Loop.at` and `Loop.after`."""
        self.at_ns = at_ns
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """It will not fire."""
        self.callback = None


class Loop:
    """One epoll. `on_still(gap_ms)`, `on_fault(text)` and `on_signal(signum)` are lists of callbacks."""

    def __init__(self, signums: "tuple[int, ...]" = (kernel.SIGTERM, kernel.SIGINT, kernel.SIGHUP)) -> None:
        """`signums` besides SIGCHLD arrive at `on_signal`."""
        self._epoll = select.epoll()
        self._watched: dict[int, Callable[[int, int], None]] = {}
        self._timers: list[tuple[int, int, Timer]] = []
        self._made = 0
        self._children: dict[int, Callable[[int, int], None]] = {}
        self._later: list[Callable[[], None]] = []
        self._running = True
        self.on_still: list[Callable[[int], None]] = []
        self.on_fault: list[Callable[[str], None]] = []
        self.on_signal: list[Callable[[int], None]] = []
        self.on_orphan: list[Callable[[int, int], None]] = []
        self.log = OwnLog("guard", os.environ.get("EDGEHEAL_LOG_LEVEL", "info"))
        self.faults = 0
        self.turns = 0
        self._wake_in, wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        kernel.wake_by(wake_out, (kernel.SIGCHLD, *signums))
        self.watch(self._wake_in, self._woken)

    def watch(self, fd: int, callback: "Callable[[int, int], None]", events: int = select.EPOLLIN) -> None:
        """Call `callback(fd, events)` while `fd` is ready. Watching again replaces callback and events."""
        if fd in self._watched:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Before `fd` is closed."""
        if self._watched.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except OSError as fault:
                if fault.errno not in (errno.ENOENT, errno.EBADF):
                    raise

    def at(self, at_ns: int, callback: "Callable[[], None]") -> Timer:
        """Call once at this monotonic time or soon after."""
        timer = Timer(at_ns, callback)
        self._made += 1
        heapq.heappush(self._timers, (at_ns, self._made, timer))
        if len(self._timers) > 64 and self._made % 64 == 0:
            self._sweep()
        return timer

    def after(self, seconds: float, callback: "Callable[[], None]") -> Timer:
        """Call once in so many seconds."""
        return self.at(time.monotonic_ns() + int(seconds * NS), callback)

    def later(self, callback: "Callable[[], None]") -> None:
        """Call in this turn, once what runs now has returned."""
        self._later.append(callback)

    def child(self, pid: int, callback: "Callable[[int, int], None]") -> None:
        """Call `callback(pid, wait status)` when this child of ours has ended."""
        self._children[pid] = callback

    @property
    def children(self) -> "dict[int, Callable[[int, int], None]]":
        """The children that somebody waits for."""
        return self._children

    def stop(self) -> None:
        """End `run` after this turn."""
        self._running = False

    def run(self) -> None:
        """Until `stop`."""
        while self._running:
            self.turn()

    def turn(self, most_s: float = -1.0) -> None:
        """One wait and what follows; `most_s` bounds the wait (negative: none)."""
        self._drain()
        asked = time.monotonic_ns()
        due = self._next_due()
        wait = most_s
        if due:
            wait = max(0.0, (due - asked) / NS) if most_s < 0 else min(most_s, max(0.0, (due - asked) / NS))
        ready = self._epoll.poll(wait)
        self.turns += 1
        for fd, events in ready:
            callback = self._watched.get(fd)
            if callback is not None:
                self._guarded(callback, fd, events)
        self._drain()
        self._fire(time.monotonic_ns())
        self._drain()

    def reap(self) -> None:
        """Take every child that has ended; those nobody waits for go to `on_orphan` (what apps left to us, the subreaper)."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            callback = self._children.pop(pid, None)
            if callback is not None:
                self._guarded(callback, pid, status)
            else:
                for told in self.on_orphan:
                    self._guarded(told, pid, status)

    def _woken(self, fd: int, events: int) -> None:
        try:
            numbers = os.read(fd, 512)
        except BlockingIOError:
            return
        if kernel.SIGCHLD in numbers:
            self.reap()
        for number in dict.fromkeys(numbers):
            if number != kernel.SIGCHLD:
                for told in self.on_signal:
                    self._guarded(told, number)

    def _next_due(self) -> int:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else 0

    def _fire(self, now: int) -> None:
        """Whatever is due. A deadline far behind means that we stood still, in the wait or in a callback: that is told first."""
        due = self._next_due()
        if due and now - due > STILL_NS:
            for told in self.on_still:
                self._guarded(told, (now - due) // 1_000_000)
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                self._guarded(callback)

    def _sweep(self) -> None:
        """Forget cancelled deadlines: a heap of them must not grow."""
        alive = [entry for entry in self._timers if entry[2].callback is not None]
        if len(alive) * 2 < len(self._timers):
            self._timers = alive
            heapq.heapify(self._timers)

    def _drain(self) -> None:
        while self._later:
            callbacks, self._later = self._later, []
            for callback in callbacks:
                self._guarded(callback)

    def _guarded(self, callback: "Callable[..., None]", *words: int) -> None:
        try:
            callback(*words)
        except Exception as fault:  # noqa: BLE001 - the loop's edge: one callback's fault must not end the process that keeps the apps
            self.faults += 1
            if self.faults <= FAULTS_TOLD:
                where = _where(fault)
                text = f"{type(fault).__name__}: {fault} ({where})"
                self.log.say("fault", f"fault {self.faults}: {text}")
                for told in self.on_fault:
                    told(text)


def _where(fault: Exception) -> str:
    trace = fault.__traceback__
    place = ""
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
