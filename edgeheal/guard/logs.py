# SPDX-License-Identifier: Apache-2.0
"""Apps' output: O_APPEND files on tmpfs that are cut to nothing at their cap.

Duty: open, give read-only descriptors, truncate, notice growth. It reads no line.
Invariants: an app writes into a file that outlives us, never into a pipe; we open it ourselves, in our own folder, following no link; a
flood is met within a look or two: the next look comes the sooner, the faster the file grew; where nothing is written nothing wakes us
(inotify, one shot a file).
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.guard import kernel
from edgeheal.guard.loop import NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.body import Body
    from edgeheal.guard.loop import Timer

SLOWEST_S = 30.0
FASTEST_S = 0.1


class Log:
    """One app's file."""

    __slots__ = ("cap", "fd", "path", "seen_ns", "size", "timer")

    def __init__(self, path: str, cap: int) -> None:
        """`cap` in bytes."""
        self.path = path
        self.cap = cap
        self.fd = -1
        self.size = 0
        self.seen_ns = time.monotonic_ns()
        self.timer: Timer | None = None


class Logs:
    """All apps' files."""

    def __init__(self, body: "Body") -> None:
        """Files lie in the layout's log folder."""
        self._body = body
        self._logs: dict[str, Log] = {}
        self._inotify = kernel.inotify()
        if self._inotify >= 0:
            body.loop.watch(self._inotify, self._written)

    def opened(self, app: str, cap_bytes: int) -> int:
        """The descriptor an app writes to (kept open here); -1 when it cannot be had: then it writes to /dev/null."""
        log = self._logs.get(app)
        if log is None:
            log = self._logs[app] = Log(self._body.layout.log(app), cap_bytes)
        log.cap = cap_bytes
        if log.fd >= 0 and _same(log):
            return log.fd
        if log.fd >= 0:
            os.close(log.fd)
            log.fd = -1
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            log.fd = os.open(log.path, flags, 0o640)
            os.fchmod(log.fd, 0o640)
            if os.geteuid() == 0 and self._body.group() >= 0:
                os.fchown(log.fd, 0, self._body.group())
        except OSError:
            return log.fd
        self._arm(log)
        return log.fd

    def reader(self, app: str) -> int:
        """A fresh read-only descriptor, or -1; the caller closes it."""
        try:
            return os.open(self._body.layout.log(app), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return -1

    def truncate(self, app: str) -> bool:
        """Cut to nothing."""
        log = self._logs.get(app)
        if log is None or log.fd < 0:
            return False
        try:
            os.ftruncate(log.fd, 0)
        except OSError:
            return False
        log.size = 0
        log.seen_ns = time.monotonic_ns()
        return True

    def _arm(self, log: Log) -> None:
        """Wait for the next write; where the kernel cannot tell, look now and then."""
        if log.timer is not None:
            log.timer.cancel()
            log.timer = None
        if self._inotify < 0 or not kernel.inotify_once(self._inotify, log.path):
            log.timer = self._body.loop.after(SLOWEST_S, lambda: self._look(log))

    def _written(self, fd: int, events: int) -> None:
        """Somebody wrote: look at all that wait (the kernel's numbers of watches are not kept)."""
        try:
            os.read(fd, 65_536)
        except OSError:
            return
        for log in self._logs.values():
            if log.timer is None:
                self._look(log)

    def _look(self, log: Log) -> None:
        log.timer = None
        if log.fd < 0:
            return
        try:
            size = os.fstat(log.fd).st_size
        except OSError:
            return
        now = time.monotonic_ns()
        if size > log.cap:
            os.ftruncate(log.fd, 0)
            log.size, log.seen_ns = 0, now
            log.timer = self._body.loop.after(FASTEST_S, lambda: self._look(log))
            return
        grown = size - log.size
        if grown <= 0:
            log.size, log.seen_ns = size, now
            self._arm(log)
            return
        per_s = grown * NS / max(now - log.seen_ns, NS // 100)
        log.size, log.seen_ns = size, now
        wait_s = min(SLOWEST_S, max(FASTEST_S, (log.cap - size) / per_s / 2))
        log.timer = self._body.loop.after(wait_s, lambda: self._look(log))


def _same(log: Log) -> bool:
    """Whether the file behind our descriptor is still the one at the path."""
    try:
        here, there = os.fstat(log.fd), os.stat(log.path, follow_symlinks=False)
    except OSError:
        return False
    return here.st_ino == there.st_ino and here.st_dev == there.st_dev
