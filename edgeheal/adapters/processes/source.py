# SPDX-License-Identifier: Apache-2.0
"""What the apps' processes use: direct reads of /proc (and cgroup v2), one `Usage` a run and a period.

Duty: sample memory that cannot be reclaimed, descriptors, threads, children, zombies, CPU, state letter. It judges nothing.
Invariants: a run is held by a descriptor of its /proc folder and its start time, so a reused pid is never sampled for it; what
may not or cannot be read is -1 (or ""), never 0; page cache is never counted; a pass reads a bounded number of processes.

Memory in KiB: of the app's own cgroup where it has one with the memory controller; else, summed over the run's processes,
RssAnon + RssShmem + VmSwap of /proc/PID/status: one measure for every sample, since a change of measure would look like growth
(pages that forks share count for each of them).
"""

import contextlib
import time
from dataclasses import dataclass, field

from edgeheal.adapters.processes import cgroup
from edgeheal.adapters.processes.held import UNKNOWN, Process, Stat
from edgeheal.core.now import NS
from edgeheal.core.signal import AppExited, AppSeen, AppStarted, Signal, StartFailed, Usage
from edgeheal.ports import Emit

TREE_MOST = 128
LIMITS_EVERY_NS = 60 * NS


@dataclass(slots=True)
class _Run:
    """A run under watch."""

    app: str
    run: int
    main: Process
    limit_kib: int
    cgroup: str = ""
    followed: bool = False
    due_ns: int = 0
    cpu_ms: int = UNKNOWN
    sampled_ns: int = 0
    fds_limit: int = UNKNOWN
    limits_ns: int = 0
    members: dict[int, Process] = field(default_factory=dict)


class Processes:
    """A `ports.Source`: samples each watched run every `every_s`, every `suspected_s` while its app is followed."""

    def __init__(self, emit: Emit, *, every_s: float = 10.0, suspected_s: float = 1.0, proc: str = "/proc", cgroups: str | None = None) -> None:
        """`proc` and `cgroups` (the cgroup v2 mount, None: found, "": none) are where the kernel's files lie."""
        self._emit = emit
        self._every_ns = round(every_s * NS)
        self._suspected_ns = round(suspected_s * NS)
        self._proc = proc
        self._cgroups = cgroup.mounted() if cgroups is None else cgroups
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
            if old.run == run and old.main.pid == pid and old.main.same():
                return True
            self.unwatch(app)
        try:
            main = Process.hold(self._proc, pid)
        except OSError:
            return False
        main.uid = main.real_uid()
        group = cgroup.own(self._cgroups, self._proc, main)
        row = _Run(app, run, main, self._limits.get(app, 0), group, app in self._followed)
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
        except OSError:
            return None

    def _sample(self, row: _Run, now_ns: int) -> Usage:
        main = row.main.stat()
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
        if state != "D" and row.followed and row.main.thread_in_d():
            state = "D"
        if now_ns >= row.limits_ns:
            row.limits_ns = now_ns + LIMITS_EVERY_NS
            row.fds_limit = row.main.fds_limit()
        used = 0 if row.cpu_ms == UNKNOWN else max(0, cpu_ms - row.cpu_ms)
        elapsed = 0 if row.sampled_ns == 0 else (now_ns - row.sampled_ns) // 1_000_000
        row.cpu_ms, row.sampled_ns = cpu_ms, now_ns
        memory, limit = self._memory(row)
        wchan = self._wchan(row) if state == "D" else ""
        fds = row.main.fds()
        return Usage(row.app, row.run, memory, limit, fds, row.fds_limit, threads, children, zombies, used, elapsed, state, wchan)

    def _member_stats(self, row: _Run) -> list[Stat]:
        """The descendants that are still there; the others are let go."""
        stats = []
        for pid, member in tuple(row.members.items()):
            try:
                stats.append(member.stat())
            except OSError:
                row.members.pop(pid).close()
        return stats

    def _renew_members(self, row: _Run, main: Stat) -> int:
        """Bring `row.members` up to the run's present descendants; how many they are, UNKNOWN where the kernel does not tell."""
        try:
            waiting = row.main.children(main.threads)
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
            with contextlib.suppress(OSError):
                waiting += member.children(member.stat().threads)
        for pid in row.members.keys() - found:
            row.members.pop(pid).close()
        return len(found)

    def _member(self, row: _Run, pid: int) -> Process | None:
        """The held process of this number; a held one that is gone or another's by now is let go first."""
        member = row.members.get(pid)
        if member is not None:
            if member.same():
                return member
            row.members.pop(pid).close()
        try:
            member = row.members[pid] = Process.hold(self._proc, pid)
        except OSError:
            return None
        return member

    def _memory(self, row: _Run) -> tuple[int, int]:
        """(KiB that cannot be reclaimed, limit KiB or 0)."""
        if row.cgroup:
            try:
                used, limit = cgroup.memory(row.cgroup)
            except (OSError, ValueError):
                row.cgroup = ""  # the controller was taken away: count by process from now on
            else:
                return used, limit or row.limit_kib
        if not row.members:
            return row.main.kib(), row.limit_kib
        known = [kib for process in (row.main, *row.members.values()) if (kib := process.kib()) >= 0]
        return (sum(known) if known else UNKNOWN), row.limit_kib

    def _wchan(self, row: _Run) -> str:
        """Where the first that waits does."""
        return next((word for process in (row.main, *row.members.values()) if (word := process.wchan())), "")

    def _period(self, row: _Run) -> int:
        return self._suspected_ns if row.followed else self._every_ns
