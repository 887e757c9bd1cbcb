# SPDX-License-Identifier: Apache-2.0
"""The device's config as the guard needs it: a record that a child makes out of TOML, and the last good one.

Duty: have it read, check its shape, keep the last good record, say what changed. The guard knows no TOML.
Invariants: a config that cannot be kept leaves the one in force; with files unchanged since the last good record (names, sizes, times) that record
is used at once, so that apps do not wait for a parser at boot; a damaged record is none.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.core import reasons
from edgeheal.core.version import VERSION
from edgeheal.guard.blocks import NEWER, Blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.body import Body

    Frame = dict[str, Any]

SIZE = 65_536
READER = "edgeheal.guard.config_reader"
READ_S = 30.0


class DeviceConfig:
    """Reads and keeps. `fault` is the child's last error record, None when all is well."""

    def __init__(self, body: "Body") -> None:
        """Nothing is read before `begin`."""
        self._body = body
        self._blocks = Blocks(f"{body.layout.guard}/config", SIZE)
        self._reading = False
        self._waiting: list[Callable[[int], None]] = []
        self.fault: Frame | None = None

    def begin(self, then: "Callable[[int], None]") -> None:
        """The kept record when its files are as they were; else the reader's; else the kept one, with the fault told."""
        kept = self._kept()
        if kept is not None and kept.get("files") == _stamp(self._body):
            self._body.config = kept["config"]
            then(reasons.OK)
            return

        def read(reason: int) -> None:
            if reason != reasons.OK and kept is not None:
                self._body.config = kept["config"]
            then(reason)

        self.read(read)

    def read(self, then: "Callable[[int], None]") -> None:
        """Read anew; `then(0)` when the new one is in `body.config`, a reason when the old one stands."""
        self._waiting.append(then)
        if self._reading:
            return
        self._reading = True
        stamp = _stamp(self._body)
        request = {"root": self._body.layout.root, "uid": os.geteuid(), "gid": os.getegid()}
        self._body.children.run(READER, request, lambda frame: self._read(frame, stamp), deadline_s=READ_S, isolate=True)

    def _read(self, frame: "Frame", stamp: "list[list[Any]]") -> None:
        self._reading = False
        config = frame.get("config")
        reason = reasons.OK
        if frame.get("k") != "done" or not isinstance(config, dict) or not isinstance(config.get("apps"), dict):
            self.fault = frame
            reason = int(frame.get("reason") or reasons.INTERNAL)
        else:
            self.fault = None
            self._body.config = config
            self._keep({"config": config, "files": stamp})
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then(reason)

    def _kept(self) -> "Frame | None":
        try:
            value = self._blocks.load()
        except OSError:
            return None
        return value if isinstance(value, dict) and isinstance(value.get("config"), dict) and self._blocks.found != NEWER else None

    def _keep(self, value: "Frame") -> None:
        """Only when it says something new: flash is not worn by restarts."""
        before = self._kept()
        if before is not None and before.get("config") == value["config"] and before.get("files") == value["files"]:
            return
        try:
            self._blocks.store(value)
        except OSError:
            return


def _stamp(body: "Body") -> "list[list[Any]]":
    """Names, sizes and times of every file that may say something, who we are and which version reads them."""
    layout = body.layout
    found: list[list[Any]] = [[VERSION, os.geteuid(), 0, 0]]
    paths = [layout.config_file]
    for folder in (layout.vendor_config, layout.config_dropins):
        try:
            paths += [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.endswith(".toml")]
        except OSError:
            continue
    for path in [*paths, "/etc/passwd", "/etc/group"]:
        try:
            seen = os.stat(path)
        except OSError:
            continue
        found.append([path, seen.st_mtime_ns, seen.st_size, seen.st_ino])
    return found
