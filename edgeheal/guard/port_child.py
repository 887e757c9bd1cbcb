# SPDX-License-Identifier: Apache-2.0
"""A short-lived child: who listens on these TCP ports, and who else runs what lies in this folder?

Duty: join the kernel's table of listeners with the descriptors of all processes; look for programs out of an image's folder that carry no
mark of ours and do not descend from the guard. Not imported by the resident guard.
Invariants: a holder that cannot be seen is pid 0 with an empty text, never a guess; texts are escaped and bounded.
Request: {"ports": [int], "tree": path or "", "guard": pid, "mark": "NAME=value"}.
Done: {"holders": [[port, pid, "command (user)"]], "strangers": [[pid, "command (user)"]]}.
"""

import os
import pwd
from typing import Any

from edgeheal.guard import child

STRANGERS_MOST = 4


def work(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    """Find; see the module."""
    inodes = _inodes({int(port) for port in request["ports"]})
    holders: list[list[Any]] = []
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        for inode in _sockets(pid) & inodes.keys():
            port = inodes.pop(inode)
            holders.append([port, pid, _text(pid)])
        if not inodes:
            break
    found = _strangers(str(request["tree"]), int(request["guard"]), str(request["mark"]).encode()) if request.get("tree") else []
    return {"holders": holders + [[port, 0, ""] for port in sorted(set(inodes.values()))], "strangers": found}


def _strangers(tree: str, guard: int, mark: bytes) -> list[list[Any]]:
    """Who runs a program of this folder, or from within it, and is none of ours."""
    found: list[list[Any]] = []
    inside = f"{tree}/"
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        links = [_link(f"/proc/{pid}/{name}") for name in ("exe", "cwd")]
        try:
            words = _read(f"/proc/{pid}/cmdline", 1_024).decode("utf-8", "replace").split("\0")[:4]
            if not any(path.startswith(inside) for path in (*links, *words)) or mark in _read(f"/proc/{pid}/environ", 131_072).split(b"\0"):
                continue
        except OSError:
            continue
        if not _descends(pid, guard) and len(found) < STRANGERS_MOST:
            found.append([pid, _text(pid)])
    return found


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: str, most: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(most)


def _descends(pid: int, guard: int) -> bool:
    """Whether the guard is among its ancestors (a probe, a hook, a helper of ours)."""
    for _ in range(64):
        if pid in (0, 1):
            return pid == guard
        if pid == guard:
            return True
        try:
            pid = int(_read(f"/proc/{pid}/stat", 1_024).rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return True  # it is gone: nobody's stranger
    return False


def _inodes(ports: set[int]) -> dict[str, int]:
    """Socket inode -> port, of the listeners on these ports."""
    found: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            port = int(words[1].rpartition(":")[2], 16)
            if words[3] == "0A" and port in ports:
                found[words[9]] = port
    return found


def _sockets(pid: int) -> set[str]:
    found: set[str] = set()
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    target = os.readlink(entry.path)
                except OSError:
                    continue
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    except OSError:
        return found
    return found


def _text(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read(256).replace(b"\0", b" ").strip().decode("utf-8", "replace")
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return ""
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    shown = "".join(c if c.isprintable() else "?" for c in command)
    return f"{shown[:70]} ({user[:20]})"


def main(_words: list[str]) -> int:
    """Entry of the child."""
    return child.run(work)
