# SPDX-License-Identifier: Apache-2.0
"""How a tree of processes is brought to its end: asked, then killed, then waited for, each with a deadline.

Duty: one `Ending` per app and moment: signal, look, kill, look, and say *gone* or *stuck*. It starts nothing.
Invariants: *gone* is only what was seen gone, main process and all others; the wait after SIGKILL has a deadline, too; after *stuck* it goes
on looking, ever more seldom, and says *gone* late. Field cases fc-pro-1, fc-pro-2.
Light on purpose: the resident guard imports it.
"""

import time

from edgeheal.guard import kernel
from edgeheal.guard.loop import NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.app import App
    from edgeheal.guard.loop import Loop, Timer
    from edgeheal.guard.tree import Trees

KILL_WAIT_S = 5.0
FIRST_LOOK_S = 0.004
SLOWEST_LOOK_S = 0.25
STUCK_LOOK_S = 10.0


class Ending:
    """Ends an app's tree. `gone(how many were left over)` once; `stuck(members, seconds since the kill)` at most once before it."""

    __slots__ = ("_app", "_deadline_ns", "_gone", "_killed_ns", "_left", "_loop", "_over", "_stuck", "_timer", "_trees", "_wait_s", "asked")

    def __init__(self, loop: "Loop", trees: "Trees", app: "App", gone: "Callable[[int], None]", stuck: "Callable[[list[int], float], None]") -> None:
        """Nothing is sent before `ask` or `kill`."""
        self._loop = loop
        self._trees = trees
        self._app = app
        self._gone = gone
        self._stuck: Callable[[list[int], float], None] | None = stuck
        self._deadline_ns = 0
        self._killed_ns = 0
        self._left = 0
        self._wait_s = FIRST_LOOK_S
        self._over = False
        self._timer: Timer | None = None
        self.asked = False

    def ask(self, signum: int, within_s: float) -> None:
        """The stop signal: to the worker while the main process lives, else to everyone left; killed after `within_s`."""
        self.asked = True
        self._deadline_ns = time.monotonic_ns() + int(within_s * NS)
        if self._app.running:
            worker = self._trees.worker(self._app)
            self._trees.signal(self._app, worker, signum)
            self._trees.signal(self._app, worker, 18)  # SIGCONT: a stopped process cannot end in order
            self._next(max(within_s, 0.0))  # its exit wakes us
        else:
            self._look()

    def kill(self) -> None:
        """SIGKILL to everyone, now."""
        if not self._killed_ns:
            self._killed_ns = time.monotonic_ns()
        self._wait_s = FIRST_LOOK_S
        self._trees.kill(self._app)
        self._next(self._wait_s)

    def main_ended(self) -> None:
        """The main process has been reaped: who is left?"""
        if not self._over:
            self._look()

    def extend(self, seconds: float) -> None:
        """More time before the kill."""
        if not self._killed_ns:
            self._deadline_ns += int(seconds * NS)

    def _look(self) -> None:
        if self._over:
            return
        members = [] if not self._app.running and not self._trees.maybe(self._app) else self._trees.members(self._app)
        if not members and not self._app.running:
            self._end()
            return
        now = time.monotonic_ns()
        if self._killed_ns:
            self._after_kill(members, now)
            return
        if now >= self._deadline_ns:
            self.kill()
            return
        if not self._app.running and not self._left:
            self._left = len(members)
            for pid in members:
                self._trees.signal(self._app, pid, kernel.SIGTERM)
        self._wait_s = min(self._wait_s * 2, SLOWEST_LOOK_S)
        remaining = (self._deadline_ns - now) / NS
        self._next(remaining if self._app.running else min(self._wait_s, remaining))

    def _after_kill(self, members: "list[int]", now: int) -> None:
        since_s = (now - self._killed_ns) / NS
        if not self._app.running and not self._left:
            self._left = len(members)
        if self._stuck is not None and since_s >= KILL_WAIT_S:
            told, self._stuck = self._stuck, None
            told(members, since_s)
        if self._stuck is None:
            self._wait_s = min(self._wait_s * 2, STUCK_LOOK_S)
        else:
            self._trees.kill(self._app)  # who was forked in between
            self._wait_s = min(self._wait_s * 2, SLOWEST_LOOK_S)
        self._next(self._wait_s)

    def _next(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.after(seconds, self._look)

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._gone(self._left)
