# SPDX-License-Identifier: Apache-2.0
"""What /proc says: who is alive, whose child, and which run a process belongs to.

Duty: read; signal nothing. Invariants: a process is (pid, start ticks), never a bare number; a zombie counts as gone; what cannot be read is
"not there" for a process, never a guess. Sources: proc(5); the marker in the environment of every run (guard.launch.MARK).
Light on purpose: the resident guard imports it.
"""

import os

ENVIRON_MOST = 8_192
SCAN_MOST = 32_768


class Process:
    """One process as it was a moment ago."""

    __slots__ = ("parent", "pid", "session", "start", "state")

    def __init__(self, pid: int, state: str, parent: int, session: int, start: int) -> None:
        """`start` in clock ticks since boot: with `pid` it names the process for ever."""
        self.pid = pid
        self.state = state
        self.parent = parent
        self.session = session
        self.start = start

    @property
    def alive(self) -> bool:
        """A zombie is gone."""
        return self.state not in ("Z", "X")


def read(path: str, most: int = 4_096) -> bytes:
    """A small file of /proc or /sys; b"" when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(fd, most)
    except OSError:
        return b""
    finally:
        os.close(fd)


def process(pid: int) -> Process | None:
    """The process of that number, if there is one (it may be a zombie)."""
    line = read(f"/proc/{pid}/stat", 1_024)
    at = line.rfind(b")")  # the name may hold spaces and brackets
    if at < 0:
        return None
    words = line[at + 2 :].split()
    if len(words) < 20:
        return None
    return Process(pid, words[0].decode("ascii", "replace"), int(words[1]), int(words[3]), int(words[19]))


def same(pid: int, start: int) -> bool:
    """Whether this very process still lives."""
    now = process(pid)
    return now is not None and now.alive and now.start == start


def uid_of(pid: int) -> int:
    """Owner of the process; -1 when it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def everyone() -> "dict[int, Process]":
    """All processes, zombies left out."""
    found: dict[int, Process] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return found
    for name in names:
        if name[0].isdigit() and len(found) < SCAN_MOST:
            one = process(int(name))
            if one is not None and one.alive:
                found[one.pid] = one
    return found


def children_of(pid: int) -> "list[int] | None":
    """Direct children of a (single-threaded) process; None when the kernel does not tell."""
    try:
        fd = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return [int(word) for word in os.read(fd, 65_536).split()]
    except OSError:
        return None
    finally:
        os.close(fd)


def marks(pid: int, names: "tuple[bytes, ...]") -> "dict[bytes, bytes]":
    """Those of the named variables that stand in the first kilobytes of a process's environment (ours stand first)."""
    found: dict[bytes, bytes] = {}
    for word in read(f"/proc/{pid}/environ", ENVIRON_MOST).split(b"\0"):
        name, _, value = word.partition(b"=")
        if name in names and name not in found:
            found[name] = value
    return found


def below(root: int, all_of_them: "dict[int, Process]") -> "list[Process]":
    """Descendants of `root` (itself left out)."""
    kids: dict[int, list[Process]] = {}
    for one in all_of_them.values():
        kids.setdefault(one.parent, []).append(one)
    found: list[Process] = []
    waiting = [root]
    seen = {root}
    while waiting:
        for kid in kids.get(waiting.pop(), ()):
            if kid.pid not in seen:
                seen.add(kid.pid)
                found.append(kid)
                waiting.append(kid.pid)
    return found


def descends(pid: int, root: int, most: int = 64) -> bool:
    """Whether `root` is `pid` or above it."""
    for _ in range(most):
        if pid == root:
            return True
        one = process(pid)
        if one is None or one.parent <= 1:
            return False
        pid = one.parent
    return False


def waits_in(pid: int) -> str:
    """State and wait channel, for a process that does not end: "D vfs_fsync_range"."""
    one = process(pid)
    if one is None:
        return ""
    channel = read(f"/proc/{pid}/wchan", 64).decode("ascii", "replace")
    return f"{one.state} {channel}" if channel not in ("", "0") else one.state
