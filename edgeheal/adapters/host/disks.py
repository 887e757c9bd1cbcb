# SPDX-License-Identifier: Apache-2.0
"""Space, inodes and read-only state of the mounts that matter, and whether they answer at all.

Duty: ask each path with statvfs on a worker, tell the answers as samples. What is too little is the engine's.
Invariants: never asked in the loop; one question per path is out; a mount that does not answer is told as silent for so long,
each period, and everything else goes on; when it answers again that is told once with 0. Paths on one file system are told once, under the
label that comes first: one full disk is one figure.
"""

import os
from collections.abc import Callable, Mapping

from edgeheal.core.host_metrics import DISK_FREE, DISK_INODES, DISK_READONLY, MOUNT_SILENT
from edgeheal.core.kinds import Verdict
from edgeheal.core.now import NS
from edgeheal.core.signal import HostSample
from edgeheal.ports import Blocking, Emit

SILENT_AFTER_NS = 5 * NS


class Disks:
    """The watched mounts, by label."""

    def __init__(self, emit: Emit, blocking: Blocking, paths: Mapping[str, str], clock: Callable[[], int], ask: Callable[[str], object] = os.statvfs) -> None:
        """`paths`: label -> folder on the mount. `ask` is statvfs."""
        self._emit = emit
        self._blocking = blocking
        self._paths = dict(paths)
        self._clock = clock
        self._statvfs = ask
        self._silent: set[str] = set()
        self._systems: dict[str, int] = {}

    def look(self, now_ns: int) -> None:
        """Ask each path that has no question out; say of the others how long they have been silent."""
        for label, path in self._paths.items():
            since = self._blocking.stuck_ns(f"disk:{label}")
            if since == 0:
                self._blocking.ask(f"disk:{label}", lambda p=path: self._statvfs(p), lambda value, name=label: self._answered(name, value))  # type: ignore[misc]
            elif now_ns - since >= SILENT_AFTER_NS:
                self._silent.add(label)
                self._emit(HostSample(f"{MOUNT_SILENT}:{label}", (now_ns - since) // NS))

    def due(self, now_ns: int) -> int:
        """When a question that is out becomes a silence that has not been told yet; 0 = none is out."""
        stuck = [s for label in self._paths if label not in self._silent and (s := self._blocking.stuck_ns(f"disk:{label}"))]
        return max(now_ns, min(stuck) + SILENT_AFTER_NS) if stuck else 0

    def _answered(self, label: str, value: object) -> None:
        if label in self._silent:
            self._silent.discard(label)
            self._emit(HostSample(f"{MOUNT_SILENT}:{label}", 0.0))
        if not isinstance(value, os.statvfs_result):
            self._emit(HostSample(f"{DISK_FREE}:{label}", verdict=Verdict.UNKNOWN))
            return
        self._systems[label] = value.f_fsid
        if value.f_fsid and next(name for name in self._paths if self._systems.get(name) == value.f_fsid) != label:
            return
        # of what a plain writer may use: root's reserve is neither free nor full
        usable = value.f_blocks - value.f_bfree + value.f_bavail
        if usable > 0:
            self._emit(HostSample(f"{DISK_FREE}:{label}", value.f_bavail * 1000 / usable))
        if value.f_files > 0:
            self._emit(HostSample(f"{DISK_INODES}:{label}", value.f_favail * 1000 / value.f_files))
        self._emit(HostSample(f"{DISK_READONLY}:{label}", 1.0 if value.f_flag & os.ST_RDONLY else 0.0))
