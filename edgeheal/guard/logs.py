# SPDX-License-Identifier: Apache-2.0
"""Apps' output: O_APPEND files of bounded size, whose oldest part is given back to the disk as they grow.

Duty: open, give read-only descriptors, cut, notice growth. It reads no line.
Invariants: an app writes into a file that outlives us, never into a pipe; we open it ourselves, in our own folder, following no link; what is
cut is what was read, or the oldest: a line written meanwhile is not lost with it (a hole is punched; only a file system without holes is
truncated); what a log holds on disk stays about its cap (four times as much for a reader that comes late), however fast it grows: we look the sooner, the faster, and each 2 ms in a
flood; where nothing is written nothing wakes us (inotify, one shot a file).
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

SLOWEST_S = 30.0  # where the kernel cannot tell of a write
FIRST_S = 0.005  # after the write that woke us
CALM_S = 0.25  # the longest between two looks while it grows
FASTEST_S = 0.002
STILL_NS = NS  # a log that nobody wrote to for so long may be cut to nothing
READER_TIMES = 4  # times its cap while an agent is there that frees what it has read
PAGE = 4_096


class Log:
    """One app's file."""

    __slots__ = ("cap", "cut", "fd", "path", "seen_ns", "size", "timer", "wait_s")

    def __init__(self, path: str, cap: int) -> None:
        """`cap` in bytes."""
        self.path = path
        self.cap = cap
        self.fd = -1
        self.size = 0
        self.cut = 0  # up to here it is a hole
        self.wait_s = FIRST_S
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
        log.cut = _first_data(log.fd)
        self._arm(log)
        return log.fd

    def reader(self, app: str) -> int:
        """A fresh read-only descriptor, or -1; the caller closes it."""
        try:
            return os.open(self._body.layout.log(app), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return -1

    def truncate(self, app: str, upto: int = 0) -> bool:
        """Free what was read (`upto`), or all of it (0). A log that is quiet and read to its end begins anew."""
        log = self._logs.get(app)
        if log is None or log.fd < 0:
            return False
        try:
            now = os.fstat(log.fd)
            if upto <= 0 or (upto >= now.st_size and time.time_ns() - now.st_mtime_ns > STILL_NS):
                _empty(log)
            else:
                _free(log, min(upto, now.st_size))
        except OSError:
            return False
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
        """How far it has grown; the next look comes before it can fill what is left of its cap, as far as one can tell."""
        woken, log.timer = log.timer is None, None
        if log.fd < 0:
            return
        try:
            size = os.fstat(log.fd).st_size
            if size < log.cut:
                log.cut = 0  # somebody else cut it
            if size <= log.size and not woken:
                log.size = size
                self._arm(log)
                return
            cap = log.cap * (READER_TIMES if self._body.doors.agent_follows() else 1)
            if size - log.cut > cap:
                _free(log, size - cap // 2)
        except OSError:
            return
        now = time.monotonic_ns()
        log.wait_s = FIRST_S if woken else min(4 * log.wait_s, CALM_S)
        if not woken:
            per_s = max(size - log.size, 1) * NS / max(now - log.seen_ns, NS // 1_000)
            log.wait_s = max(FASTEST_S, min(log.wait_s, (cap - (size - log.cut)) / per_s / 2))
        log.size, log.seen_ns = size, now
        log.timer = self._body.loop.after(log.wait_s, lambda: self._look(log))


def _first_data(fd: int) -> int:
    """Where a file's hole at its front ends."""
    try:
        return os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:
        return 0


def _empty(log: Log) -> None:
    os.ftruncate(log.fd, 0)
    log.size = log.cut = 0


def _free(log: Log, upto: int) -> None:
    """Give the disk back what lies before `upto` (whole pages); a file system that cannot do that loses all of it."""
    upto -= upto % PAGE
    if upto > log.cut:
        if kernel.punch(log.fd, log.cut, upto - log.cut):
            log.cut = upto
        else:
            _empty(log)


def _same(log: Log) -> bool:
    """Whether the file behind our descriptor is still the one at the path."""
    try:
        here, there = os.fstat(log.fd), os.stat(log.path, follow_symlinks=False)
    except OSError:
        return False
    return here.st_ino == there.st_ino and here.st_dev == there.st_dev
