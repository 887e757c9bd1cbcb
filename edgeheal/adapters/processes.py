# SPDX-License-Identifier: Apache-2.0
"""What the apps' processes use: direct reads of /proc (and cgroup v2), one `Usage` a run and a period.

Duty: sample memory that cannot be reclaimed, descriptors, threads, children, zombies, CPU, state letter. It judges nothing.
Invariants: a run is held by a descriptor of its /proc folder and its start time, so a reused pid is never sampled for it; what
may not or cannot be read is -1 (or ""), never 0; page cache is never counted; a pass reads a bounded number of processes.

Memory in KiB: with a cgroup of the app's own and the memory controller, active_anon + inactive_anon + unevictable of
memory.stat + memory.swap.current (shared memory lies on the anon lists; locked pages only on the unevictable one, so that
nothing counts twice). Else, summed over the run's processes, RssAnon + RssShmem + VmSwap of /proc/PID/status: one measure for
every sample, since a change of measure would look like growth (pages that forks share count for each of them).
Source: Documentation/filesystems/proc.rst and admin-guide/cgroup-v2.rst of Linux.
"""

import contextlib
import os
import time
from dataclasses import dataclass, field

from edgeheal.core.now import NS
from edgeheal.core.signal import AppExited, AppSeen, AppStarted, Signal, StartFailed, Usage
from edgeheal.ports import Emit

TREE_MOST = 128
THREADS_MOST = 64
LIMITS_EVERY_NS = 60 * NS
UNKNOWN = -1
_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
_OPEN = os.O_RDONLY | os.O_CLOEXEC
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class GoneError(Exception):
    """The process does not exist any more (or its number now belongs to another)."""


@dataclass(slots=True)
class _Process:
    """One process, held by its /proc folder: whatever is read through `folder` is of this process or fails."""

    pid: int
    folder: int
    stat: int
    began: int
    uid: int = UNKNOWN
    children: str = ""
    pages: bytes = b""
    kib: int = UNKNOWN
    kept: dict[str, int] = field(default_factory=dict)

    def read(self, name: str, size: int = 4096) -> bytes:
        """A file of the folder through a descriptor that is kept: what is read each time is opened once."""
        fd = self.kept.get(name)
        if fd is None:
            fd = self.kept[name] = os.open(name, _OPEN, dir_fd=self.folder)
        return os.pread(fd, size, 0)

    def close(self) -> None:
        """Let go of all descriptors."""
        for fd in (*self.kept.values(), self.stat, self.folder):
            os.close(fd)


@dataclass(slots=True)
class _Run:
    """A run under watch."""

    app: str
    run: int
    main: _Process
    limit_kib: int
    cgroup: str = ""
    followed: bool = False
    due_ns: int = 0
    cpu_ms: int = UNKNOWN
    sampled_ns: int = 0
    fds_limit: int = UNKNOWN
    limits_ns: int = 0
    members: dict[int, _Process] = field(default_factory=dict)


@dataclass(slots=True)
class _Stat:
    """What one line of /proc/PID/stat says. `cpu_ms` with that of children that were waited for."""

    state: str
    parent: int
    cpu_ms: int
    threads: int
    began: int


def parse_stat(line: bytes) -> _Stat:
    """`pid (comm) state ppid ...`: comm may hold spaces and brackets, so fields count from the last bracket."""
    words = line[line.rindex(b")") + 2 :].split()
    cpu = int(words[11]) + int(words[12]) + int(words[13]) + int(words[14])
    return _Stat(words[0].decode("ascii", "replace"), int(words[1]), cpu * _TICK_MS, int(words[17]), int(words[19]))


def table_kib(text: bytes, wanted: tuple[bytes, ...]) -> int:
    """Sum of `Name:  n kB` lines; UNKNOWN when none of them is there (kernel threads and zombies have none)."""
    total, found = 0, False
    for name in wanted:
        at = text.find(b"\n" + name + b":")
        if at >= 0:
            found = True
            total += int(text[at + len(name) + 2 : text.index(b"kB", at)])
    return total if found else UNKNOWN


def cgroup_kib(text: bytes, swap: bytes) -> int:
    """Memory that cannot be reclaimed out of memory.stat (bytes) and memory.swap.current."""
    total, found = int(swap or b"0"), False
    for line in text.splitlines():
        name, _, value = line.partition(b" ")
        if name in (b"active_anon", b"inactive_anon", b"unevictable"):
            total += int(value)
            found = True
    return total // 1024 if found else UNKNOWN


_STATUS = (b"RssAnon", b"RssShmem", b"VmSwap")


class Processes:
    """A `ports.Source`: samples each watched run every `every_s`, every `suspected_s` while its app is followed."""

    def __init__(self, emit: Emit, *, every_s: float = 10.0, suspected_s: float = 1.0, proc: str = "/proc", cgroups: str | None = None) -> None:
        """`proc` and `cgroups` (the cgroup v2 mount, None: found, "": none) are where the kernel's files lie."""
        self._emit = emit
        self._every_ns = round(every_s * NS)
        self._suspected_ns = round(suspected_s * NS)
        self._proc = proc
        self._cgroups = _unified() if cgroups is None else cgroups
        self._runs: dict[str, _Run] = {}
        self._followed: set[str] = set()
        self._limits: dict[str, int] = {}

    # -- what is watched

    def limit(self, app: str, memory_kib: int) -> None:
        """The manifest's (or the device's) word on an app's memory; 0 = none. A cgroup's own limit goes before it."""
        self._limits[app] = memory_kib
        if app in self._runs:
            self._runs[app].limit_kib = memory_kib

    def heed(self, signal: Signal) -> None:
        """Runs begin and end as the guard says."""
        match signal:
            case AppStarted(app=app, run=run, pid=pid) if pid > 0:
                self.watch(app, run, pid)
            case AppSeen(app=app, run=run, pid=pid):
                if pid > 0:
                    self.watch(app, run, pid)
                else:
                    self.unwatch(app)
            case AppExited(app=app) | StartFailed(app=app):
                self.unwatch(app)

    def watch(self, app: str, run: int, pid: int) -> bool:
        """Sample this run from now on (a run already watched is kept); False when the process is gone."""
        old = self._runs.get(app)
        if old is not None:
            if old.run == run and old.main.pid == pid and self._alive(old.main):
                return True
            self.unwatch(app)
        try:
            main = self._hold(pid)
        except (GoneError, OSError):
            return False
        main.uid = self._uid(main)
        row = _Run(app, run, main, self._limits.get(app, 0), self._own_cgroup(main), app in self._followed)
        row.due_ns = time.monotonic_ns() + min(self._period(row), NS)
        self._runs[app] = row
        return True

    def unwatch(self, app: str) -> None:
        """The run is over."""
        row = self._runs.pop(app, None)
        if row is not None:
            for process in (row.main, *row.members.values()):
                process.close()

    def follow(self, app: str, on: bool) -> None:
        """Sample every `suspected_s` (and more exactly) while something is suspected of the app."""
        (self._followed.add if on else self._followed.discard)(app)
        row = self._runs.get(app)
        if row is not None and row.followed != on:
            row.followed = on
            row.due_ns = time.monotonic_ns() + (0 if on else self._every_ns)

    def tree(self, app: str) -> tuple[int, ...]:
        """Pids of the run as of its last sample, the main one first."""
        row = self._runs.get(app)
        return () if row is None else (row.main.pid, *row.members)

    def app_of(self, pid: int) -> str:
        """Whose process this is, as of the last samples; "" = nobody's."""
        return next((row.app for row in self._runs.values() if pid == row.main.pid or pid in row.members), "")

    def uid_of(self, app: str) -> int:
        """The user that the app's present run is; -1 = no run, or not known."""
        row = self._runs.get(app)
        return UNKNOWN if row is None else row.main.uid

    def close(self) -> None:
        """Let go of everything."""
        for app in tuple(self._runs):
            self.unwatch(app)

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """Nothing to wait for: /proc is read by the clock."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """Never called: there is no descriptor."""

    def due(self) -> int:
        """The next sample."""
        return min((row.due_ns for row in self._runs.values()), default=0)

    def tick(self, now_ns: int) -> None:
        """Sample what is due; neighbours within a tenth of their period come along, so that wake-ups are shared."""
        for row in tuple(self._runs.values()):
            if row.due_ns - self._period(row) // 10 <= now_ns:
                row.due_ns = now_ns + self._period(row)
                usage = self.sample(row.app, now_ns)
                if usage is not None:
                    self._emit(usage)

    # -- one sample

    def sample(self, app: str, now_ns: int) -> Usage | None:
        """Look at an app's run now; None when there is none, or it is gone (whoever waits for it will say so)."""
        row = self._runs.get(app)
        if row is None:
            return None
        try:
            return self._sample(row, now_ns)
        except (GoneError, OSError, ValueError, IndexError):
            return None

    def _sample(self, row: _Run, now_ns: int) -> Usage:
        main = self._stat(row.main)
        children = self._renew_members(row, main)
        threads, cpu_ms, state = main.threads, main.cpu_ms, main.state
        zombies = 0 if children >= 0 else UNKNOWN
        for stat in self._member_stats(row) if row.members else ():
            if stat.state == "Z":
                zombies += 1
                continue
            threads += stat.threads
            cpu_ms += stat.cpu_ms
            state = "D" if stat.state == "D" else state
        if state != "D" and row.followed and self._thread_in_d(row.main):
            state = "D"
        if now_ns >= row.limits_ns:
            row.limits_ns = now_ns + LIMITS_EVERY_NS
            row.fds_limit = self._fds_limit(row.main)
        used = 0 if row.cpu_ms == UNKNOWN else max(0, cpu_ms - row.cpu_ms)
        elapsed = 0 if row.sampled_ns == 0 else (now_ns - row.sampled_ns) // 1_000_000
        row.cpu_ms, row.sampled_ns = cpu_ms, now_ns
        memory, limit = self._memory(row)
        wchan = self._wchan(row) if state == "D" else ""
        fds = self._fds(row.main)
        return Usage(row.app, row.run, memory, limit, fds, row.fds_limit, threads, children, zombies, used, elapsed, state, wchan)

    def _member_stats(self, row: _Run) -> list[_Stat]:
        """The descendants that are still there; the others are let go."""
        stats = []
        for pid, member in tuple(row.members.items()):
            try:
                stats.append(self._stat(member))
            except (GoneError, OSError, ValueError, IndexError):
                row.members.pop(pid).close()
        return stats

    def _hold(self, pid: int) -> _Process:
        folder = os.open(f"{self._proc}/{pid}", _FOLDER)
        try:
            stat = os.open("stat", _OPEN, dir_fd=folder)
        except OSError:
            os.close(folder)
            raise
        try:
            began = parse_stat(os.pread(stat, 1024, 0)).began
        except (OSError, ValueError, IndexError):
            os.close(stat)
            os.close(folder)
            raise GoneError(pid) from None
        return _Process(pid, folder, stat, began, children=f"task/{pid}/children")

    def _alive(self, process: _Process) -> bool:
        try:
            return self._stat(process).state not in "ZX"
        except (GoneError, OSError, ValueError, IndexError):
            return False

    def _stat(self, process: _Process) -> _Stat:
        """Through the kept descriptor; the start time is checked as well."""
        line = os.pread(process.stat, 1024, 0)
        stat = parse_stat(line)
        if stat.began != process.began:
            raise GoneError(process.pid)
        return stat

    def _renew_members(self, row: _Run, main: _Stat) -> int:
        """Bring `row.members` up to the run's present descendants; how many they are, UNKNOWN where the kernel does not tell."""
        try:
            waiting = self._children(row.main, main.threads)
        except FileNotFoundError:
            return UNKNOWN  # a kernel without PROC_CHILDREN
        if not waiting and not row.members:
            return 0
        found: set[int] = set()
        while waiting and len(found) < TREE_MOST:
            pid = waiting.pop()
            member = self._member(row, pid)
            if pid in found or member is None:
                continue
            found.add(pid)
            with contextlib.suppress(GoneError, OSError, ValueError, IndexError):
                waiting += self._children(member, self._stat(member).threads)
        for pid in row.members.keys() - found:
            row.members.pop(pid).close()
        return len(found)

    def _member(self, row: _Run, pid: int) -> _Process | None:
        """The held process of this number; a held one that is gone or another's by now is let go first."""
        member = row.members.get(pid)
        if member is not None:
            if self._same(member):
                return member
            row.members.pop(pid).close()
        try:
            member = row.members[pid] = self._hold(pid)
        except (GoneError, OSError):
            return None
        return member

    def _same(self, process: _Process) -> bool:
        try:
            self._stat(process)
        except (GoneError, OSError, ValueError, IndexError):
            return False
        return True

    def _children(self, parent: _Process, threads: int) -> list[int]:
        """Children of the process: of its main thread, and of the others when it has any."""
        text = parent.read(parent.children, 8192)
        if threads <= 1 and not text:
            return []
        pids = text.split()
        if threads > 1:
            for tid in os.listdir(f"{self._proc}/{parent.pid}/task")[:THREADS_MOST]:
                if tid != str(parent.pid):
                    with contextlib.suppress(OSError):
                        pids += _read(f"task/{tid}/children", parent.folder).split()
        return [int(pid) for pid in pids]

    # -- figures

    def _memory(self, row: _Run) -> tuple[int, int]:
        """(KiB that cannot be reclaimed, limit KiB or 0)."""
        if row.cgroup:
            try:
                used = cgroup_kib(_read(f"{row.cgroup}/memory.stat"), _read_or(f"{row.cgroup}/memory.swap.current", b"0"))
                most = _read_or(f"{row.cgroup}/memory.max", b"max").strip()
                return used, row.limit_kib if most == b"max" else int(most) // 1024
            except (OSError, ValueError):
                row.cgroup = ""  # the controller was taken away: count by process from now on
        if not row.members:
            return self._process_kib(row.main), row.limit_kib
        total, known = 0, False
        for process in (row.main, *row.members.values()):
            kib = self._process_kib(process)
            if kib >= 0:
                total, known = total + kib, True
        return (total if known else UNKNOWN), row.limit_kib

    def _process_kib(self, process: _Process) -> int:
        """Out of status, which is only read when statm (an eighth of its cost) has moved."""
        try:
            pages = process.read("statm", 128)
            if pages != process.pages:
                process.kib = table_kib(process.read("status"), _STATUS)
                process.pages = pages
        except (OSError, ValueError):
            process.pages = b""
            return UNKNOWN
        return process.kib

    def _fds(self, process: _Process) -> int:
        """Open descriptors: the folder's size (kernels from 6.2, readable for any uid), else its listing."""
        try:
            size = os.stat("fd", dir_fd=process.folder).st_size
            if size > 0:
                return size
            fd = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process.folder)
        except OSError:
            return UNKNOWN
        try:
            return len(os.listdir(fd))
        except OSError:
            return UNKNOWN
        finally:
            os.close(fd)

    def _fds_limit(self, process: _Process) -> int:
        try:
            text = _read("limits", process.folder)
        except OSError:
            return UNKNOWN
        at = text.find(b"Max open files")
        words = text[at + 14 : at + 60].split() if at >= 0 else []
        return int(words[0]) if words and words[0].isdigit() else 0

    def _uid(self, process: _Process) -> int:
        """Its real user, by the kernel's word."""
        try:
            text = process.read("status")
            return int(text[text.index(b"\nUid:") + 5 :].split(None, 1)[0])
        except (OSError, ValueError, IndexError):
            return UNKNOWN

    def _thread_in_d(self, process: _Process) -> bool:
        """Whether any thread of the main process waits where no signal reaches."""
        try:
            tids = os.listdir(f"{self._proc}/{process.pid}/task")[:THREADS_MOST]
        except OSError:
            return False
        for tid in tids:
            with contextlib.suppress(OSError, ValueError, IndexError):
                if parse_stat(_read(f"task/{tid}/stat", process.folder)).state == "D":
                    return True
        return False

    def _wchan(self, row: _Run) -> str:
        """Where it waits in the kernel; "" when that may not be seen (the kernel then says 0)."""
        for process in (row.main, *row.members.values()):
            with contextlib.suppress(OSError):
                word = _read("wchan", process.folder).decode("ascii", "replace").strip()
                if word not in ("", "0"):
                    return word[:64]
        return ""

    def _own_cgroup(self, process: _Process) -> str:
        """The run's cgroup v2 folder when it is not ours too and the memory controller is on, else ""."""
        if not self._cgroups:
            return ""
        try:
            theirs = _v2_path(_read("cgroup", process.folder))
            ours = _v2_path(_read(f"{self._proc}/self/cgroup"))
        except OSError:
            return ""
        folder = f"{self._cgroups}{theirs}"
        own = theirs not in ("", "/") and theirs != ours and not ours.startswith(theirs + "/")
        return folder if own and os.path.exists(f"{folder}/memory.stat") else ""

    def _period(self, row: _Run) -> int:
        return self._suspected_ns if row.followed else self._every_ns


def _read(path: str, folder: int | None = None) -> bytes:
    fd = os.open(path, _OPEN, dir_fd=folder)
    try:
        return os.read(fd, 16_384)
    finally:
        os.close(fd)


def _read_or(path: str, default: bytes) -> bytes:
    try:
        return _read(path)
    except OSError:
        return default


def _v2_path(text: bytes) -> str:
    for line in text.splitlines():
        if line.startswith(b"0::"):
            return line[3:].decode("utf-8", "surrogateescape")
    return ""


def _unified() -> str:
    """Where cgroup v2 is mounted; "" = nowhere."""
    for line in _read_or("/proc/self/mounts", b"").splitlines():
        words = line.split()
        if len(words) > 2 and words[2] == b"cgroup2":
            return words[1].decode("utf-8", "surrogateescape")
    return ""
