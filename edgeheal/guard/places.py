# SPDX-License-Identifier: Apache-2.0
"""The folders of a device, made with the owners and modes that the safety rules name.

Duty: make what is missing, mend owner and mode of our own folders. It makes no file and looks into none.
Invariants: only folders whose parents are root's (or, with boundary none, ours) are touched, never through a link; what is already right is
not written. Source: the table of owners in docs/explain/threat-model.
Light on purpose: the resident guard imports it.
"""

import os
import stat

from edgeheal.guard import kernel
from edgeheal.guard.launch import LOG_KIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.body import Body

LOG_DISK_KIB = 16_384


def first(body: "Body") -> None:
    """What is needed before the config is known."""
    layout = body.layout
    for path, mode in ((layout.var, 0o755), (layout.guard, 0o700), (layout.guard_apps, 0o700), (layout.trust, 0o700), (layout.run, 0o755)):
        folder(path, mode)
    for path, mode in ((f"{layout.run}/guard", 0o700), (f"{layout.run}/guard/runs", 0o700), (layout.notify, 0o755), (layout.logs, 0o755)):
        folder(path, mode)
    folder(f"{layout.run}/volatile", 0o711)


def owned(body: "Body") -> None:
    """What belongs to others; once users are known, and again when they change."""
    layout, group = body.layout, body.group()
    agent, agent_gid = body.uid("agent"), int((body.config.get("users") or {}).get("agent_gid", -1))
    shared = group if group >= 0 else agent_gid
    folder(layout.agent, 0o2750, agent, shared)
    folder(layout.agent_run, 0o2755, agent, shared)
    folder(f"{layout.run}/metrics", 0o755, agent, agent_gid)
    folder(layout.store, 0o755, body.uid("store"), -1)
    folder(layout.staging, 0o755, body.uid("store"), -1)
    folder(layout.data, 0o755)
    log_disk(body)


def log_disk(body: "Body") -> None:
    """On a device (root at `/`), apps' logs get a volatile disk of their own, so that not even the fastest can fill /run before it is cut.

    Not where one is there already (a mount unit's), where logs lie there already, or where our mounts are not the system's: a guard
    after us would not see them.
    """
    path = body.layout.logs
    if os.geteuid() != 0 or body.layout.root != "/" or os.path.ismount(path) or os.listdir(path):
        return
    try:
        if os.stat("/proc/self/ns/mnt").st_ino != os.stat("/proc/1/ns/mnt").st_ino:
            return
    except OSError:
        return
    caps = sum(int(word.get("log_kib") or LOG_KIB) for word in (body.config.get("apps") or {}).values())
    kernel.mount_tmpfs(path, f"size={max(LOG_DISK_KIB, 6 * caps)}k,mode=0755")


def folder(path: str, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Make it, or make it right; OSError when something else lies there."""
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        os.mkdir(path, mode & 0o777)
    except FileExistsError:
        pass
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        now = os.fstat(fd)
        if os.geteuid() == 0:
            wants_uid = max(uid, 0)
            wants_gid = gid if gid >= 0 else now.st_gid
            if (now.st_uid, now.st_gid) != (wants_uid, wants_gid):
                os.fchown(fd, wants_uid, wants_gid)
                now = os.fstat(fd)
        if stat.S_IMODE(now.st_mode) != mode and now.st_uid in (os.geteuid(), uid):
            os.fchmod(fd, mode)
    finally:
        os.close(fd)
