# SPDX-License-Identifier: Apache-2.0
"""One process, held by a descriptor of its /proc folder.

Duty: read the kernel's figures of it. Invariants: what is read through the held folder is of this process or fails, and its start
time is checked as well; what may not or cannot be read is UNKNOWN (or ""), never 0. Source: proc(5).
"""

import contextlib
import os
from dataclasses import dataclass, field

THREADS_MOST = 64
UNKNOWN = -1
_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
_OPEN = os.O_RDONLY | os.O_CLOEXEC
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_STATUS = (b"RssAnon", b"RssShmem", b"VmSwap")


class GoneError(OSError):
    """The process does not exist any more (or its number now belongs to another)."""


@dataclass(slots=True)
class Stat:
    """What one line of /proc/PID/stat says. `cpu_ms` with that of children that were waited for."""

    state: str
    parent: int
    cpu_ms: int
    threads: int
    began: int


def parse_stat(line: bytes) -> Stat:
    """`pid (comm) state ppid ...`: comm may hold spaces and brackets, so fields count from the last bracket. GoneError when it is none."""
    try:
        words = line[line.rindex(b")") + 2 :].split()
        cpu = int(words[11]) + int(words[12]) + int(words[13]) + int(words[14])
        return Stat(words[0].decode("ascii", "replace"), int(words[1]), cpu * _TICK_MS, int(words[17]), int(words[19]))
    except (ValueError, IndexError):
        raise GoneError("no line of stat") from None


def table_kib(text: bytes, wanted: tuple[bytes, ...]) -> int:
    """Sum of `Name:  n kB` lines; UNKNOWN when none of them is there (kernel threads and zombies have none)."""
    total, found = 0, False
    for name in wanted:
        at = text.find(b"\n" + name + b":")
        if at >= 0:
            found = True
            total += int(text[at + len(name) + 2 : text.index(b"kB", at)])
    return total if found else UNKNOWN


def read(path: str, folder: int | None = None) -> bytes:
    """At most 16 KiB of a file of the kernel's."""
    fd = os.open(path, _OPEN, dir_fd=folder)
    try:
        return os.read(fd, 16_384)
    finally:
        os.close(fd)


def read_or(path: str, default: bytes) -> bytes:
    """The same, with what stands in for a file that is not there."""
    try:
        return read(path)
    except OSError:
        return default


@dataclass(slots=True)
class Process:
    """A held process; `hold` makes one, `close` lets it go."""

    proc: str
    pid: int
    folder: int
    line: int
    began: int = 0
    uid: int = UNKNOWN
    pages: bytes = b""
    last_kib: int = UNKNOWN
    kept: dict[str, int] = field(default_factory=dict)

    @classmethod
    def hold(cls, proc: str, pid: int) -> "Process":
        """Hold the process that has this number now; OSError."""
        folder = os.open(f"{proc}/{pid}", _FOLDER)
        try:
            held = cls(proc, pid, folder, os.open("stat", _OPEN, dir_fd=folder))
        except OSError:
            os.close(folder)
            raise
        try:
            held.began = parse_stat(os.pread(held.line, 1024, 0)).began
        except OSError:
            held.close()
            raise
        return held

    def close(self) -> None:
        """Let go of all descriptors."""
        for fd in (*self.kept.values(), self.line, self.folder):
            os.close(fd)

    def kept_read(self, name: str, size: int = 4_096) -> bytes:
        """A file of the folder through a descriptor that is kept: what is read each time is opened once."""
        fd = self.kept.get(name)
        if fd is None:
            fd = self.kept[name] = os.open(name, _OPEN, dir_fd=self.folder)
        return os.pread(fd, size, 0)

    def stat(self) -> Stat:
        """Its present; GoneError when it is not there any more."""
        stat = parse_stat(os.pread(self.line, 1024, 0))
        if stat.began != self.began:
            raise GoneError(self.pid)
        return stat

    def same(self) -> bool:
        """Whether it is still there, a zombie included."""
        try:
            self.stat()
        except OSError:
            return False
        return True

    def children(self, threads: int) -> list[int]:
        """Children of its main thread, and of the others when it has any; FileNotFoundError from a kernel without PROC_CHILDREN."""
        pids = self.kept_read(f"task/{self.pid}/children", 8_192).split()
        if threads > 1:
            for tid in os.listdir(f"{self.proc}/{self.pid}/task")[:THREADS_MOST]:
                if tid != str(self.pid):
                    with contextlib.suppress(OSError):
                        pids += read(f"task/{tid}/children", self.folder).split()
        return [int(pid) for pid in pids]

    def kib(self) -> int:
        """Memory that cannot be reclaimed, out of status, which is only read when statm (a fifth of its cost) has moved."""
        try:
            pages = self.kept_read("statm", 128)
            if pages != self.pages:
                self.last_kib = table_kib(self.kept_read("status"), _STATUS)
                self.pages = pages
        except (OSError, ValueError):
            self.pages = b""
            return UNKNOWN
        return self.last_kib

    def fds(self) -> int:
        """Open descriptors: the folder's size (kernels from 6.2, readable for any uid), else its listing."""
        try:
            size = os.stat("fd", dir_fd=self.folder).st_size
            if size > 0:
                return size
            fd = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder)
        except OSError:
            return UNKNOWN
        try:
            return len(os.listdir(fd))
        except OSError:
            return UNKNOWN
        finally:
            os.close(fd)

    def fds_limit(self) -> int:
        """Its soft limit of descriptors; 0 = unlimited."""
        try:
            text = read("limits", self.folder)
        except OSError:
            return UNKNOWN
        at = text.find(b"Max open files")
        words = text[at + 14 : at + 60].split() if at >= 0 else []
        return int(words[0]) if words and words[0].isdigit() else 0

    def real_uid(self) -> int:
        """Its user, by the kernel's word."""
        try:
            text = self.kept_read("status")
            return int(text[text.index(b"\nUid:") + 5 :].split(None, 1)[0])
        except (OSError, ValueError, IndexError):
            return UNKNOWN

    def thread_in_d(self) -> bool:
        """Whether any of its threads waits where no signal reaches."""
        try:
            tids = os.listdir(f"{self.proc}/{self.pid}/task")[:THREADS_MOST]
        except OSError:
            return False
        for tid in tids:
            with contextlib.suppress(OSError):
                if parse_stat(read(f"task/{tid}/stat", self.folder)).state == "D":
                    return True
        return False

    def wchan(self) -> str:
        """Where it waits in the kernel; "" when that may not be seen (the kernel then says 0)."""
        try:
            word = read("wchan", self.folder).decode("ascii", "replace").strip()
        except OSError:
            return ""
        return "" if word == "0" else word[:64]
