# SPDX-License-Identifier: Apache-2.0
"""Imports: from a passed descriptor to a deployment that is WRITTEN, by two children and a hand-over between them.

Duty: order the steps; own staging and the store's folders. It reads nothing of a bundle.
Invariants: one import at a time; the importer's uid has no process left when staging is handed over; the hand-over follows no link and takes only
folders, links and regular files with one name; a launch record is durable before the state that names it; a fault changes nothing but staging.
Source: formats.md 2.1 "Order of proof", safety.md section 2. Light on purpose: the resident guard imports it.
"""

import os
import stat

from edgeheal.core import deployment as table
from edgeheal.core import reasons
from edgeheal.guard import asks
from edgeheal.guard.appstate import Deployment
from edgeheal.guard.blocks import sync_folder
from edgeheal.guard.hooks import YES
from edgeheal.guard.steps import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.admission import Verdict
    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
IMPORT_S = 3600
STORE_S = 3600
MOST_BLOCKED = 512
MOST_TRUST = 262_144


class Imports:
    """The one import that may be under way."""

    __slots__ = ("_parts", "busy", "live")

    def __init__(self, parts: "Parts") -> None:
        """`live` is the staging folder (hex id) that is being written, "" while it is not known."""
        self._parts = parts
        self.busy = False
        self.live = ""

    def run(self, fd: int, *, progress: "Callable[[dict[str, Any]], None]", only: bytes = b"") -> "Job":
        """Import the bundle at `fd`: the job's value is (app, id). `only`: refuse another image than this one."""
        if self.busy:
            raise Refused(reasons.BUSY, "another import is under way")
        self.busy = True
        try:
            return (yield from self._run(fd, progress, only))
        finally:
            self.busy = False
            self.live = ""

    def _run(self, fd: int, progress: "Callable[[dict[str, Any]], None]", only: bytes) -> "Job":
        yield self._parts.until_proven
        told = yield asks.hook(self._parts.hooks, "pre-install", {"EDGEHEAL_VERB": "install"})
        if told.verdict != YES:
            raise Refused(reasons.NOT_NOW if told.reason == reasons.NOT_NOW else reasons.HOOK, f"{told.name} ended with {told.status}")
        if not self._parts.trust.newest:
            raise Refused(self._parts.trust.reason, "the device's trust cannot be read")
        yield from self.folders()
        yield from self._parts.sweep.strays()
        done = yield from self._with_room(fd, progress, only)
        image, app = bytes(done["id"]), self._parts.apps.get(str(done["app"]))
        if app is None:
            raise Refused(reasons.NO_SUCH_APP, str(done["app"]))
        self.live = image.hex()
        held = app.state.deployments.get(image)
        if held is not None and held.state == table.BAD:
            raise Refused(reasons.BLOCKED)
        if held is not None and held.state == table.UNKNOWN:
            # what the importer left out, since the rotten tree seemed to hold it, is fetched again once that tree is gone
            yield from self._parts.sweep.trash(app, self.live, staging=False)
            os.lseek(fd, 0, os.SEEK_SET)
            done = yield from self._importer(fd, progress, image)
        self._gone()
        self.hand_over(self.live)
        if held is None:
            yield from self._parts.sweep.make_room(app)
        if done.get("new_trust"):
            yield from self._trust()
        yield from self._store(app, image, progress)
        return app.name, image

    def _with_room(self, fd: int, progress: "Callable[[dict[str, Any]], None]", only: bytes) -> "Job":
        """The importer's done. When disk or quota are too small, what may go goes, one by one, and it is tried again."""
        while True:
            try:
                return (yield from self._importer(fd, progress, only))
            except Refused as refused:
                if refused.reason != reasons.NO_SPACE or not _rewound(fd) or not (yield from self._parts.sweep.one_less()):
                    raise

    def _importer(self, fd: int, progress: "Callable[[dict[str, Any]], None]", only: bytes) -> "Job":
        """The importer's done."""
        request = self._request(only)
        if request["quota"]:
            used = yield asks.helper(self._parts.body, asks.STORER, {"mode": "usage", "store": request["store"]}, deadline_s=300, duty="store")
            request["left"] = request["quota"] - int(used["bytes"])
        return (yield asks.helper(self._parts.body, asks.IMPORTER, request, fd=fd, deadline_s=IMPORT_S, on_frame=progress, duty="import"))

    def _request(self, only: bytes) -> "dict[str, Any]":
        layout, apps = self._parts.body.layout, self._parts.apps
        blocked = [key for app in apps.values() for key, _ in app.state.blocked][:MOST_BLOCKED]
        request = {
            "staging": layout.staging, "store": layout.store, "trust": self._parts.trust.newest, "device": self._parts.admission.classes(),
            "apps": list(apps), "floors": {name: list(app.state.floor) for name, app in apps.items()}, "blocked": blocked,
            "interpreters": self._parts.admission.interpreters(), "quota": int(self._parts.body.config.get("quota_bytes") or 0),
            "shared_keys": self._parts.trust.shared_keys,
        }  # fmt: skip
        return request | ({"only": only} if only else {})

    def folders(self) -> "Job":
        """staging/ (the store's, where the importer may make folders) and store/ are there."""
        body = self._parts.body
        own = os.geteuid() == 0 and body.boundary != "none"
        for path, mode, gid in ((body.layout.staging, 0o1770, asks.group_of(body, "import")), (body.layout.store, 0o755, asks.group_of(body, "store"))):
            os.makedirs(path, mode=0o755, exist_ok=True)
            fd = os.open(path, FOLDER)
            try:
                if own:
                    os.fchown(fd, body.uid("store"), gid)
                os.fchmod(fd, mode if own else mode & 0o755)
            finally:
                os.close(fd)
        yield asks.helper(body, asks.STORER, {"mode": "adopt", "store": body.layout.store, "staging": body.layout.staging}, duty="store")

    def _gone(self) -> None:
        """End every process of the importer's uid that is still there; Refused when one stays."""
        body = self._parts.body
        uid = body.uid("import")
        if body.boundary == "none" or os.geteuid() != 0 or uid in (0, os.geteuid()):
            return
        for _ in range(3):
            left = _processes_of(uid)
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, 9)
                except OSError:
                    continue
        if _processes_of(uid):
            raise Refused(reasons.LEFTOVERS, "a process of the importer's uid does not end")

    def hand_over(self, name: str) -> None:
        """staging/<id> becomes the store's, entry by entry; anything that is not a folder, a link or a file with one name is refused."""
        body = self._parts.body
        uid = body.uid("store") if os.geteuid() == 0 and body.boundary != "none" else -1
        above = os.open(body.layout.staging, FOLDER)
        try:
            _give(above, name, uid, 0)
        finally:
            os.close(above)

    def _trust(self) -> "Job":
        """The bundle brought newer trust, proven by the importer; the guard proves it itself and keeps it."""
        path = f"{self._parts.body.layout.staging}/{self.live}/trust"
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            chain = os.read(fd, MOST_TRUST)
        finally:
            os.close(fd)
        yield from self._parts.rejudge.extend(chain)

    def _store(self, app: "AppKeep", image: bytes, progress: "Callable[[dict[str, Any]], None]") -> "Job":
        """The storing child, then the verifier's word on what stands in the store, then WRITTEN."""
        body = self._parts.body
        request = {"mode": "store", "staging": body.layout.staging, "store": body.layout.store, "app": app.name, "id": image}
        held = app.state.deployments.get(image)
        try:
            yield asks.helper(body, asks.STORER, request, deadline_s=STORE_S, on_frame=progress, duty="store")
        except Refused as refused:
            if refused.reason != reasons.ALREADY:
                raise
            yield from self._stands(app, image)
        if held is not None and held.state not in (table.UNKNOWN, table.EMPTY):
            return
        yield from self.written(app, image)

    def _stands(self, app: "AppKeep", image: bytes) -> "Job":
        """It stands in the store already (a cut came after the rename): whole, or it goes to trash and the import is tried again."""
        body = self._parts.body
        request = {"mode": "full", "tree": body.layout.tree(app.name, image.hex()), "id": image}
        done = yield asks.helper(body, asks.VERIFIER, request, deadline_s=STORE_S, duty="verify")
        if done["reason"] == reasons.ROT:
            yield from self._parts.sweep.trash(app, image.hex())
            raise Refused(reasons.ROT, "what stood in the store was damaged and is gone now: import it again")
        if done["reason"] != reasons.OK:
            raise Refused(int(done["reason"]))
        yield asks.helper(body, asks.STORER, {"mode": "clean", "staging": body.layout.staging, "store": body.layout.store, "app": app.name, "id": image}, duty="store")  # fmt: skip

    def written(self, app: "AppKeep", image: bytes) -> "Job":
        """Admit what stands in the store, keep its launch record, make it WRITTEN."""
        one = Deployment(image)
        folder = self._parts.body.layout.tree(app.name, image.hex())
        verdict = yield from self._parts.admission.judge(app.state, one, folder, b"")
        if verdict.reason != reasons.OK:
            raise Refused(verdict.reason)
        self.keep_launch(app, one, verdict)
        one.trust = self._parts.trust.n
        app.deployments.written(one)
        self._parts.admission.settle(app.state, app.deployments.find(image), verdict)

    def keep_launch(self, app: "AppKeep", one: Deployment, verdict: "Verdict") -> None:
        """guard/apps/<app>/<id>.launch, whole and durable, and what it says of the deployment."""
        folder = self._parts.body.layout.app_state(app.name)
        path = f"{folder}/{one.hex}.launch"
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, verdict.raw)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(f"{path}.new", path)
        sync_folder(folder)
        verdict.fill(one)


def _rewound(fd: int) -> bool:
    """Whether a bundle can be read from its beginning again (a pipe cannot)."""
    try:
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        return False
    return True


def _give(above: int, name: str, uid: int, depth: int) -> None:
    """Hand one entry over, and all below it."""
    if depth > 40:
        raise Refused(reasons.BAD_TREE, "staging is nested too deep")
    said = os.stat(name, dir_fd=above, follow_symlinks=False)
    if stat.S_ISDIR(said.st_mode):
        fd = os.open(name, FOLDER, dir_fd=above)
        try:
            if uid >= 0:
                os.fchown(fd, uid, uid)
            for entry in os.listdir(fd):
                _give(fd, entry, uid, depth + 1)
        finally:
            os.close(fd)
        return
    if stat.S_ISLNK(said.st_mode):
        if uid >= 0:
            os.chown(name, uid, uid, dir_fd=above, follow_symlinks=False)
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
    try:
        now = os.fstat(fd)
        if not stat.S_ISREG(now.st_mode) or now.st_nlink != 1:
            raise Refused(reasons.BAD_TREE, "staging holds what no image may hold")
        if uid >= 0:
            os.fchown(fd, uid, uid)
    finally:
        os.close(fd)


def _processes_of(uid: int) -> "list[int]":
    """Pids of all processes of a uid, zombies left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid and b"\nState:\tZ" not in _status(name):
                    found.append(int(name))
            except OSError:
                continue
    return found


def _status(name: str) -> bytes:
    with open(f"/proc/{name}/status", "rb") as file:
        return file.read(512)
