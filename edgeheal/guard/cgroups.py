# SPDX-License-Identifier: Apache-2.0
"""A control group for each app, where the machine has cgroup v2 and lets us; else nothing, and everything goes on without.

Duty: make, fill, list, kill, limit, remove. It starts nothing.
Invariants: a group is named for the app and this device's root, so that two devices on one machine do not meet; what a kernel or a mount
does not offer is skipped, never an error; limits are written only where their controller is there; a group that was killed once takes no new
run (kernels up to at least 6.18 kill what is forked into such a group), it is made anew. `unified` may lie at
/sys/fs/cgroup/unified (hybrid), without controllers: killing and counting work there, too. Source: admin-guide/cgroup-v2.rst.
Light on purpose: the resident guard imports it.
"""

import binascii
import os

from edgeheal.guard import procs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CPU_PERIOD_US = 100_000


class Group:
    """One app's group."""

    __slots__ = ("_limited", "_limits", "fresh", "path")

    def __init__(self, path: str, *, fresh: bool) -> None:
        """A folder that exists; `fresh`: made by us, never killed since."""
        self.path = path
        self.fresh = fresh
        limited = bool(procs.read(f"{path}/cgroup.controllers", 512).strip())
        self._limited = limited
        self._limits: dict[str, str] = {}

    def opened(self) -> int:
        """A descriptor of its folder, for whoever is started into it; -1 when it cannot be had."""
        try:
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return -1

    def pids(self) -> "list[int]":
        """Everyone in it, zombies left out by the kernel."""
        return [int(word) for word in procs.read(f"{self.path}/cgroup.procs", 1 << 20).split()]

    def populated(self) -> bool:
        """Whether anyone is in it or below."""
        return b"populated 1" in procs.read(f"{self.path}/cgroup.events", 256)

    def holds(self, pid: int) -> bool:
        """Whether this process is in it."""
        for line in procs.read(f"/proc/{pid}/cgroup", 4_096).splitlines():
            if line.startswith(b"0::"):
                return self.path.endswith(os.fsdecode(line[3:])) and len(line) > 4
        return False

    def kill(self) -> bool:
        """SIGKILL to everyone in it at once, forks under way included (5.14 and newer); False: the kernel cannot."""
        self.fresh = False
        return _write(f"{self.path}/cgroup.kill", "1")

    def oom_kills(self) -> int:
        """How often the kernel killed for memory here; 0 where it does not tell."""
        events = procs.read(f"{self.path}/memory.events", 512) if self._limited else b""
        for line in events.splitlines():
            if line.startswith(b"oom_kill "):
                return int(line[9:])
        return 0

    def limit(self, memory_kib: int, tasks: int, cpu_permille: int) -> None:
        """0 = none. The memory limit leaves a quarter above what was promised: a breach is a symptom before it is a kill."""
        if not self._limited:
            return
        wanted = {
            "memory.max": str(memory_kib * 1024 * 5 // 4) if memory_kib else "max",
            "pids.max": str(tasks) if tasks else "max",
            "cpu.max": f"{max(1_000, CPU_PERIOD_US * cpu_permille // 1000)} {CPU_PERIOD_US}" if cpu_permille else f"max {CPU_PERIOD_US}",
            "memory.oom.group": "1",
        }
        for name, value in wanted.items():
            if self._limits.get(name) != value and _write(f"{self.path}/{name}", value):
                self._limits[name] = value

    def remove(self) -> None:
        """When nobody is in it."""
        try:
            os.rmdir(self.path)
        except OSError:
            return


class Groups:
    """All groups of this device. `available` says whether there are any."""

    __slots__ = ("_base", "_groups")

    def __init__(self, root: str, *, wanted: bool = True) -> None:
        """`root` is the device's root: part of the base group's name. Not `wanted` (boundary none): no groups, and quicker starts."""
        self._base = ""
        self._groups: dict[str, Group] = {}
        for mount in _mounts() if wanted else ():
            base = f"{mount}{_own()}".rstrip("/") + f"/edgeheal-{binascii.crc32(os.fsencode(os.path.abspath(root))):08x}"
            if _make(base):
                self._base = base
                _enable(base)
                break

    @property
    def available(self) -> bool:
        """Whether apps get a group."""
        return bool(self._base)

    def of(self, app: str) -> Group | None:
        """The app's group as it is (an earlier guard may have made it), made when missing; None where there are none."""
        if not self._base:
            return None
        group = self._groups.get(app)
        if group is None or not os.path.isdir(group.path):
            path = f"{self._base}/{app}"
            fresh = not os.path.isdir(path)
            if not _make(path):
                return None
            group = self._groups[app] = Group(path, fresh=fresh)
        return group

    def adopt(self, app: str, pid: int) -> Group | None:
        """The group in which a run of an earlier guard is, if it is one of ours."""
        for line in procs.read(f"/proc/{pid}/cgroup", 4_096).splitlines() if self._base else ():
            name = os.fsdecode(line[3:]).rpartition("/")[2]
            path = f"{self._base}/{name}"
            if line.startswith(b"0::") and name.split(".")[0] == app and os.path.isdir(path):
                self._groups[app] = Group(path, fresh=False)
                return self._groups[app]
        return None

    def for_start(self, app: str) -> Group | None:
        """A group that nobody is in and that was never killed."""
        group = self.of(app)
        if group is None or group.fresh:
            return group
        group.remove()
        for path in (f"{self._base}/{app}", *(f"{self._base}/{app}.{number}" for number in range(1, 16))):
            if not os.path.isdir(path) and _make(path):
                self._groups[app] = Group(path, fresh=True)
                return self._groups[app]
        return None

    def close(self) -> None:
        """Remove what is empty, whoever of our guards made it; a group with somebody in it stays, for the next guard."""
        if not self._base:
            return
        try:
            for name in os.listdir(self._base):
                if os.path.isdir(f"{self._base}/{name}"):
                    Group(f"{self._base}/{name}", fresh=False).remove()
            os.rmdir(self._base)
        except OSError:
            return


def _mounts() -> "Iterable[str]":
    try:
        with open("/proc/self/mounts", "rb") as file:
            return [os.fsdecode(words[1]) for line in file if len(words := line.split()) > 2 and words[2] == b"cgroup2"]
    except OSError:
        return []


def _own() -> str:
    """Where we are in the unified hierarchy; the group above when we were already moved into a leaf of our own."""
    for line in procs.read("/proc/self/cgroup", 4_096).splitlines():
        if line.startswith(b"0::"):
            path = os.fsdecode(line[3:])
            return path.removesuffix("/edgeheal-guard")
    return "/"


def _make(path: str) -> bool:
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except OSError:
        return False
    return os.access(f"{path}/cgroup.procs", os.W_OK)


def _enable(base: str) -> None:
    """Controllers for the apps' groups. A delegated group may not hold processes and controllers at once: then we move into a leaf first."""
    above = base.rsplit("/", 1)[0]
    offered = procs.read(f"{above}/cgroup.controllers", 512).split()
    for name in (b"memory", b"pids", b"cpu"):
        if name not in offered:
            continue
        word = f"+{name.decode()}"
        if not _write(f"{above}/cgroup.subtree_control", word):
            leaf = f"{above}/edgeheal-guard"
            if _make(leaf) and procs.read(f"{above}/cgroup.procs", 4_096).split() == [str(os.getpid()).encode()]:
                _write(f"{leaf}/cgroup.procs", "0")
                _write(f"{above}/cgroup.subtree_control", word)
        _write(f"{base}/cgroup.subtree_control", word)


def _write(path: str, value: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, value.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
