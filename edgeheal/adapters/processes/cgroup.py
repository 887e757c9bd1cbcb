# SPDX-License-Identifier: Apache-2.0
"""Memory of an app's own cgroup v2.

Duty: find it, read what cannot be reclaimed and the limit. Invariant: a group that is ours too, or the root, says nothing of the app.
Source: admin-guide/cgroup-v2.rst of Linux: shared memory lies on the anon lists, locked pages only on the unevictable one, so that
active_anon + inactive_anon + unevictable + swap counts nothing twice, and no page cache.
"""

import os

from edgeheal.adapters.processes.held import UNKNOWN, Process, read, read_or


def cgroup_kib(text: bytes, swap: bytes) -> int:
    """Memory that cannot be reclaimed out of memory.stat (bytes) and memory.swap.current."""
    total, found = int(swap or b"0"), False
    for line in text.splitlines():
        name, _, value = line.partition(b" ")
        if name in (b"active_anon", b"inactive_anon", b"unevictable"):
            total += int(value)
            found = True
    return total // 1024 if found else UNKNOWN


def memory(folder: str) -> tuple[int, int]:
    """(KiB that cannot be reclaimed, the group's limit in KiB or 0); OSError or ValueError when the controller was taken away."""
    used = cgroup_kib(read(f"{folder}/memory.stat"), read_or(f"{folder}/memory.swap.current", b"0"))
    most = read_or(f"{folder}/memory.max", b"max").strip()
    return used, 0 if most == b"max" else int(most) // 1024


def own(mount: str, proc: str, process: Process) -> str:
    """The folder of the process's group when it is not ours too and has the memory controller, else ""."""
    if not mount:
        return ""
    try:
        theirs = _path(read("cgroup", process.folder))
        ours = _path(read(f"{proc}/self/cgroup"))
    except OSError:
        return ""
    alone = theirs not in ("", "/") and theirs != ours and not ours.startswith(theirs + "/")
    return f"{mount}{theirs}" if alone and os.path.exists(f"{mount}{theirs}/memory.stat") else ""


def mounted() -> str:
    """Where cgroup v2 is mounted; "" = nowhere."""
    for line in read_or("/proc/self/mounts", b"").splitlines():
        words = line.split()
        if len(words) > 2 and words[2] == b"cgroup2":
            return words[1].decode("utf-8", "surrogateescape")
    return ""


def _path(text: bytes) -> str:
    for line in text.splitlines():
        if line.startswith(b"0::"):
            return line[3:].decode("utf-8", "surrogateescape")
    return ""
