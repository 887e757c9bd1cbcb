# SPDX-License-Identifier: Apache-2.0
"""An app's data from the guard's side: generations, the config that was known good, secrets. The work itself is the data child's, as the app's uid.

Duty: make the app's folder, ask the data child, say which generation a new image runs with, notice that the live config changed.
Invariants: root opens nothing below a folder that an app can write but by descriptor without following a link, and only to read its status; a
generation that a deployment names is never changed by a move; generation numbers are never reused while one is named. Field case fc-img-3.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.core import reasons
from edgeheal.guard import asks
from edgeheal.guard.steps import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.appstate import Deployment
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

    Record = dict[str, Any]

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
COPY_S = 900
MIGRATE_S = 300
BACK_S = 60


class AppData:
    """Data of all apps."""

    __slots__ = ("_parts",)

    def __init__(self, parts: "Parts") -> None:
        """Nothing is made before it is needed."""
        self._parts = parts

    def folder(self, app: str) -> str:
        """data/<app>."""
        return self._parts.body.layout.app_data(app)

    def generation(self, app: str, g: int) -> str:
        """data/<app>/<g>."""
        return f"{self.folder(app)}/{g}"

    def secrets(self, app: str) -> str:
        """data/<app>/secret."""
        return f"{self.folder(app)}/secret"

    def live(self, app: str, g: int, record: "Record") -> str:
        """The live config file's path, or "" when the image has none."""
        config = record.get("config")
        return f"{self.generation(app, g)}/{config['path']}" if config else ""

    def own(self, app: str) -> None:
        """Make data/<app>, owned by the app's uid, if it is missing; what is there is left as it is."""
        body = self._parts.body
        os.makedirs(body.layout.data, mode=0o755, exist_ok=True)
        above = os.open(body.layout.data, FOLDER)
        try:
            try:
                os.mkdir(app, 0o700, dir_fd=above)
            except FileExistsError:
                return
            user = body.user_of(app)
            if os.geteuid() == 0 and user.uid >= 0:
                fd = os.open(app, FOLDER, dir_fd=above)
                try:
                    os.fchown(fd, user.uid, user.gid)
                finally:
                    os.close(fd)
        finally:
            os.close(above)

    def ask(self, app: "AppKeep", request: "Record", *, fd: int = -1, deadline_s: float = 30.0) -> "Job":
        """The data child, as the app's uid."""
        self.own(app.name)
        user = self._parts.body.user_of(app.name)
        whole = {"folder": self.folder(app.name), **request}
        wait = asks.helper(self._parts.body, asks.DATA, whole, uid=user.uid, gid=user.gid, fd=fd, deadline_s=deadline_s, libraries=False)
        return (yield wait)

    def prepare(self, app: "AppKeep", g: int, record: "Record", tree: str) -> "Job":
        """Generation g with its folders is there; a config that the image brings is put where none is."""
        config = record.get("config")
        seed = f"{tree}/files/{config['path']}" if config else ""
        request = {"mode": "prepare", "generation": g, "seed": seed, "path": config["path"] if config else ""}
        return (yield from self.ask(app, request))

    def for_trial(self, app: "AppKeep", one: "Deployment", record: "Record", tree: str) -> "Job":
        """The generation that `one` shall run with, made. The app must be stopped if `copies` says so. Refused when migrating failed."""
        running = app.running or next(iter(app.state.good()), None)
        if running is None or not running.data or not self.copies(app, one):
            g = running.data if running is not None and running.data else max((d.data for d in app.state.deployments.values()), default=0) or 1
            yield from self.prepare(app, g, record, tree)
            return g
        g = max(d.data for d in app.state.deployments.values()) + 1
        yield from self.ask(app, {"mode": "remove", "generation": g}, deadline_s=COPY_S)
        migrate = (record.get("data") or {}).get("migrate") or ""
        request = {
            "mode": "copy", "source": running.data, "generation": g, "most_bytes": int(app.word.get("max_bytes") or 0),
            "most_entries": int(app.word.get("max_inodes") or 0), "argv": [f"{tree}/files/{migrate}"] if migrate else [],
            "env": _env(record, app.name), "timeout_s": MIGRATE_S,
        }  # fmt: skip
        yield from self.ask(app, request, deadline_s=COPY_S + MIGRATE_S)
        yield from self.prepare(app, g, record, tree)
        return g

    @staticmethod
    def copies(app: "AppKeep", one: "Deployment") -> bool:
        """Whether trying `one` needs a copy of the data: its schema is another one."""
        running = app.running
        return running is not None and running.data > 0 and running.schema != one.schema and one.schema > 0

    def downgrade(self, frm: "Deployment", to: "Deployment", record: "Record") -> str:
        """What the image `frm` says of leaving its data behind for `to`: "yes" (or nothing would be lost), "ask" or "no"."""
        if frm.data == to.data:
            return "yes"
        return str((record.get("data") or {}).get("downgrade") or "ask")

    @staticmethod
    def goes_home(frm: "Deployment", to: "Deployment", record: "Record") -> bool:
        """Whether `frm`, the newer one, has a program that may carry its data home to `to`."""
        return bool((record.get("data") or {}).get("back")) and frm.schema > to.schema and frm.data != to.data and to.data > 0

    def home(self, app: "AppKeep", frm: "Deployment", to: "Deployment", record: "Record", tree: str) -> "Job":
        """A generation made of `to`'s data and what `frm`'s `back` carried into it; `to`'s own when that failed. The app is gone, and the image not BAD."""
        g = max(d.data for d in app.state.deployments.values()) + 1
        request = {
            "mode": "back", "source": to.data, "from": frm.data, "generation": g, "most_bytes": int(app.word.get("max_bytes") or 0),
            "most_entries": int(app.word.get("max_inodes") or 0), "argv": [f"{tree}/files/{record['data']['back']}"], "env": _env(record, app.name),
            "timeout_s": BACK_S,
        }  # fmt: skip
        try:
            yield from self.ask(app, {"mode": "remove", "generation": g}, deadline_s=COPY_S)
            yield from self.ask(app, request, deadline_s=COPY_S + BACK_S)
        except Refused as refused:
            self._parts.went_home(app.name, frm.id, refused.reason)
            return to.data
        self._parts.went_home(app.name, frm.id, 0)
        return g

    def drop(self, app: "AppKeep", g: int) -> "Job":
        """Remove a generation that no deployment names."""
        if g and all(d.data != g for d in app.state.deployments.values()):
            yield from self.ask(app, {"mode": "remove", "generation": g}, deadline_s=COPY_S)

    # -- config -------------------------------------------------------------------------------------------------------------------

    def stat(self, app: str, g: int, record: "Record") -> "tuple[int, int]":
        """(size, mtime ns) of the live config, (-1, 0) when there is none; nothing is followed."""
        config = record.get("config")
        if not config:
            return (-1, 0)
        try:
            fd = os.open(self.folder(app), FOLDER)
        except OSError:
            return (-1, 0)
        try:
            for part in (str(g), *config["path"].split("/")[:-1]):
                inner = os.open(part, FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            said = os.stat(config["path"].split("/")[-1], dir_fd=fd, follow_symlinks=False)
        except OSError:
            return (-1, 0)
        finally:
            os.close(fd)
        return (said.st_size, said.st_mtime_ns)

    def differs(self, app: "AppKeep", record: "Record") -> bool:
        """Whether the live config is another than the one last kept (of this deployment, else of the app)."""
        one = app.running
        if one is None or not record.get("config"):
            return False
        kept = one if one.config else next((d for d in app.state.good() if d.config), None)
        if kept is None:
            return False
        return self.stat(app.name, one.data, record) != (kept.config_size, kept.config_mtime)

    def keep_config(self, app: "AppKeep", one: "Deployment", record: "Record") -> "Job":
        """Copy the live config away as the newest known good one: (n, size, mtime); n = -1 when there is nothing to keep."""
        if not record.get("config"):
            return (-1, 0, 0)
        n = app.state.config + 1
        done = yield from self.ask(app, {"mode": "keep", "generation": one.data, "path": record["config"]["path"], "n": n})
        return (n, int(done["size"]), int(done["mtime"])) if done["size"] >= 0 else (-1, 0, 0)

    def restore_config(self, app: "AppKeep", one: "Deployment", record: "Record") -> "Job":
        """The config with which `one` soaked (else the app's last good one) is live again: (n, size, mtime)."""
        n = one.config or next((d.config for d in app.state.good() if d.config), 0) or app.state.config
        if not n or not record.get("config"):
            raise Refused(reasons.NOTHING_TO_DO, "no known good config was kept yet")
        done = yield from self.ask(app, {"mode": "restore", "generation": one.data, "path": record["config"]["path"], "n": n})
        return (n, int(done["size"]), int(done["mtime"]))

    def set_config(self, app: "AppKeep", one: "Deployment", record: "Record", fd: int, tree: str) -> "Job":
        """New content, checked by the image's own check, becomes the live file."""
        if not record.get("config"):
            raise Refused(reasons.NOT_CONFIGURED, "this image declares no config")
        check = list(record["config"].get("check") or [])
        if check and not check[0].startswith("/"):
            check[0] = f"{tree}/files/{check[0]}"
        g = one.data or (app.running.data if app.running else 0) or 1
        yield from self.prepare(app, g, {}, tree)
        request = {
            "mode": "set", "generation": g, "path": record["config"]["path"], "argv": check, "env": _env(record, app.name), "cwd": f"{tree}/files",
            "timeout_s": 20,
        }  # fmt: skip
        return (yield from self.ask(app, request, fd=fd))

    def first_config(self, app: "AppKeep", fd: int) -> "Job":
        """Content for an app without any image: it becomes the live config of its first one."""
        yield from self.ask(app, {"mode": "prepare", "generation": 1, "seed": "", "path": ""})
        yield from self.ask(app, {"mode": "first"}, fd=fd)
        return 0

    def set_secret(self, app: "AppKeep", name: str, fd: int) -> "Job":
        """A secret's content."""
        yield from self.ask(app, {"mode": "secret", "name": name}, fd=fd)
        return 0


def _env(record: "Record", app: str) -> "dict[str, str]":
    """What migrate and check get: the image's words under ours."""
    words = {str(k): str(v) for k, v in (record.get("env") or {}).items() if not str(k).startswith(("EDGEHEAL_", "LD_"))}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"} | words | {"EDGEHEAL_APP": app}
