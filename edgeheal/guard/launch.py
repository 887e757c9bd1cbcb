# SPDX-License-Identifier: Apache-2.0
"""What a start needs, in one value: the launch record joined with the device's word on this app.

Duty: hold it, resolve paths, environment, limits. It reads no disk and starts nothing.
Invariants: nothing in it comes from a frame; argv[0] is an absolute path inside the image's files, or an interpreter of the host that
the device's config lists; the environment is the image's under ours, so that an image cannot forge our names.
Light on purpose: the resident guard imports it.
"""

import resource

from edgeheal.core import deployment
from edgeheal.guard import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Record = dict[str, Any]

MARK = "EDGEHEAL_RUN"
ROOT_MARK = "EDGEHEAL_ROOT"
STOP_MS = 10_000
START_MS = 60_000
OWN = ("EDGEHEAL_", "NOTIFY_SOCKET", "WATCHDOG_", "LD_")
FILES_DEFAULT = 1_024
LOG_KIB = 1_024


class User:
    """As whom an app runs. `alone`: no other app and nobody else has this uid, so that the uid itself marks its processes."""

    __slots__ = ("alone", "gid", "groups", "uid")

    def __init__(self, uid: int, gid: int, groups: "tuple[int, ...]" = (), *, alone: bool = False) -> None:
        """Ids of the system; the guard's own with boundary none."""
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.alone = alone


class Launch:
    """One admitted way to start an app. `record` as in the launch record's format; `word` the device config's entry for the app."""

    __slots__ = ("app", "config", "data", "image", "image_state", "record", "secrets", "tree", "user", "word")

    def __init__(
        self,
        record: "Record",
        *,
        tree: str,
        data: str,
        user: User,
        config: str = "",
        secrets: str = "",
        word: "Record | None" = None,
        image_state: int = deployment.GOOD,
    ) -> None:
        """`tree` is store/<app>/<id>, `data` the generation's folder, `config` the live config file's path or "", `secrets` a folder or ""."""
        self.record = record
        self.app: str = record["app"]
        self.image: bytes = record["id"]
        self.image_state = image_state
        self.tree = tree
        self.data = data
        self.config = config
        self.secrets = secrets
        self.user = user
        self.word = word or {}

    def path(self, name: str) -> str:
        """A path of the manifest: as it is when absolute, else inside the image's files."""
        return name if name.startswith("/") else f"{self.tree}/files/{name}"

    def words(self, argv: "list[str]") -> "list[str]":
        """An argument vector of the manifest with its program resolved."""
        return [self.path(argv[0]), *argv[1:]]

    @property
    def argv(self) -> "list[str]":
        """What is run."""
        return self.words(list(self.record["argv"]))

    @property
    def cwd(self) -> str:
        """Where it is run."""
        inner = self.record.get("cwd") or ""
        return f"{self.tree}/files/{inner}".rstrip("/") if not inner.startswith("/") else inner

    def env(self, ours: "dict[str, str]") -> "dict[str, str]":
        """Image's variables (those that would forge ours left out), then ours."""
        theirs = {k: v for k, v in dict(self.record.get("env") or {}).items() if not k.startswith(OWN) and "\0" not in k + v and "=" not in k}
        base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        named = {"EDGEHEAL_APP": self.app, "EDGEHEAL_IMAGE": self.image.hex(), "EDGEHEAL_DATA": self.data, "EDGEHEAL_CONFIG": self.config}
        if self.data:
            base["HOME"] = self.data
        return base | theirs | {k: v for k, v in named.items() if v} | ({"EDGEHEAL_SECRETS": self.secrets} if self.secrets else {}) | ours

    @property
    def ready(self) -> str:
        """start, notify or probe."""
        return str(self.record.get("ready") or "start")

    @property
    def start_ms(self) -> int:
        """How long it may take to be ready."""
        return int(self.record.get("start_ms") or START_MS)

    @property
    def stop_ms(self) -> int:
        """How long it may take to end after the stop signal."""
        return int(self.record.get("stop_ms") or STOP_MS)

    @property
    def stop_signal(self) -> int:
        """The number of its stop signal."""
        return kernel.number_of(str(self.record.get("stop_signal") or "TERM"))

    @property
    def heartbeat_ms(self) -> int:
        """The longest silence it promised; 0 = it promised none."""
        return int(self.record.get("heartbeat_ms") or 0)

    @property
    def reload(self) -> "list[str]":
        """["none"] | ["signal", NAME] | ["argv", ...]."""
        return list(self.record.get("reload") or ["none"])

    @property
    def worker_is_child(self) -> bool:
        """The main process is a wrapper: signals are for its child."""
        return self.record.get("worker") == "child"

    @property
    def done(self) -> "list[int]":
        """Exit codes that mean *finished*."""
        return list(self.record.get("done") or [])

    @property
    def probes(self) -> "list[list[Any]]":
        """[name, means, kind, target, every_ms, timeout_ms, misses] each."""
        return list(self.record.get("probes") or [])

    @property
    def hard_apps(self) -> "list[str]":
        """Apps that must be ready first."""
        rows = [*(self.record.get("needs") or []), *(self.word.get("needs") or [])]
        return list(dict.fromkeys(name for kind, name, hard in rows if kind == "app" and hard and name != self.app))

    @property
    def hard_others(self) -> "list[tuple[str, str]]":
        """(kind, name) of what else must be there: devices, networks, time."""
        rows = [*(self.record.get("needs") or []), *(self.word.get("needs") or [])]
        return list(dict.fromkeys((kind, name) for kind, name, hard in rows if kind != "app" and hard))

    def limit(self, name: str) -> int:
        """The manifest's limit, at most the device's; 0 = none said."""
        asked = int((self.record.get("limits") or {}).get(name) or 0)
        most = int(self.word.get(name) or 0)
        return min(asked, most) if asked and most else asked or most

    @property
    def isolate(self) -> bool:
        """No network at all: neither the image nor the device asks for one, and no probe comes over it."""
        wants = bool(self.record.get("network")) or bool(self.word.get("network", True))
        return not wants and not any(row[2] in ("http", "tcp") for row in self.probes)

    def rlimits(self) -> "list[tuple[int, int, int]]":
        """Limits that the kernel keeps for each process."""
        files = self.limit("files") or FILES_DEFAULT
        return [(resource.RLIMIT_CORE, 0, 0), (resource.RLIMIT_NOFILE, files, files)]
