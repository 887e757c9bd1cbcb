# SPDX-License-Identifier: Apache-2.0
"""Memory, pressure, load, descriptors and processes of the box, out of /proc.

Duty: read kept files, tell samples. /proc never waits for a device, so this is read in the loop.
Invariants: what a kernel does not have (PSI, swap) is not told at all; what cannot be read is told as unknown once.
Source: Documentation/accounting/psi.rst, Documentation/filesystems/proc.rst of Linux.
"""

import os

from edgeheal.core import host_metrics as names
from edgeheal.core.kinds import Verdict
from edgeheal.core.signal import HostSample
from edgeheal.ports import Emit

_PSI = (("cpu", names.PRESSURE_CPU, ""), ("io", names.PRESSURE_IO, names.STALL_IO), ("memory", names.PRESSURE_MEMORY, names.STALL_MEMORY))


def meminfo(text: bytes) -> dict[str, int]:
    """The lines of /proc/meminfo in kB."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(b":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name.decode("ascii", "replace")] = int(words[0])
    return found


def pressure(text: bytes) -> dict[str, float]:
    """`some` and `full` of a PSI file: share of the last 10 s in permille."""
    found = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(b" ")
        for word in rest.split():
            if word.startswith(b"avg10="):
                found[kind.decode("ascii", "replace")] = float(word[6:]) * 10
    return found


class Load:
    """The figures of /proc."""

    def __init__(self, emit: Emit, proc: str = "/proc") -> None:
        """`proc` is where the kernel's files lie."""
        self._emit = emit
        self._proc = proc
        self._kept: dict[str, int] = {}
        self._missing: set[str] = set()
        self._cpus = os.cpu_count() or 1

    def look(self) -> None:
        """Read all, tell all."""
        self._memory()
        for part, some, full in _PSI:
            text = self._read(f"pressure/{part}")
            if text is not None:
                shares = pressure(text)
                self._tell(some, shares.get("some", 0.0))
                if full:
                    self._tell(full, shares.get("full", 0.0))
        self._counts()

    def close(self) -> None:
        """Let go of the kept files."""
        for fd in self._kept.values():
            os.close(fd)
        self._kept.clear()

    def _memory(self) -> None:
        text = self._read("meminfo")
        if text is None:
            self._emit(HostSample(names.MEMORY_FREE, verdict=Verdict.UNKNOWN))
            return
        table = meminfo(text)
        total = table.get("MemTotal", 0)
        if total:
            free = table.get("MemAvailable", table.get("MemFree", 0) + table.get("Cached", 0))
            self._emit(HostSample(names.MEMORY_FREE, round(free * 1000 / total, 3), float(total)))
        if table.get("SwapTotal", 0):
            self._tell(names.SWAP_FREE, table.get("SwapFree", 0) * 1000 / table["SwapTotal"])

    def _counts(self) -> None:
        words = (self._read("loadavg") or b"").split()
        if len(words) >= 4:
            self._tell(names.LOAD, float(words[0]) * 1000 / self._cpus)
            tasks = int(words[3].partition(b"/")[2] or b"0")
            most = min((int(t) for t in (self._read("sys/kernel/pid_max"), self._read("sys/kernel/threads-max")) if t), default=0)
            if tasks and most:
                self._tell(names.HOST_PIDS, tasks * 1000 / most)
        files = (self._read("sys/fs/file-nr") or b"").split()
        if len(files) == 3 and int(files[2]):
            self._tell(names.HOST_FDS, int(files[0]) * 1000 / int(files[2]))

    def _tell(self, metric: str, value: float) -> None:
        self._emit(HostSample(metric, round(value, 3)))

    def _read(self, name: str) -> bytes | None:
        if name in self._missing:
            return None
        try:
            fd = self._kept.get(name)
            if fd is None:
                fd = self._kept[name] = os.open(f"{self._proc}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(fd, 8192, 0)
        except OSError:
            self._missing.add(name)  # the kernel has no such file (or PSI is switched off): it will not grow one
            if name in self._kept:
                os.close(self._kept.pop(name))
            return None
