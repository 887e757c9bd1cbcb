# SPDX-License-Identifier: Apache-2.0
"""Collecting: what is on disk against what is referenced; entries whose files are gone; room for what comes.

Duty: find trees, staging and data that nobody names, and what may go when there is no room. It removes nothing itself: it renames to trash and has the
store's uid remove.
Invariants: what runs, the newest known good, the known good before it, the anchor and what is being written are never candidates; an entry leaves
the state before its files do; it works from what is on disk, also after failed installs and at start. Field case fc-sto-4.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.core import deployment as table
from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, GOOD, WRITTEN
from edgeheal.guard import appstate, asks
from edgeheal.guard.parts import is_id
from edgeheal.guard.steps import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_TRUST = 49_152
STALE_S = 86_400  # what a broken-off import left may be resumed for a day


class Sweep:
    """Collects, one app at a time."""

    __slots__ = ("_parts",)

    def __init__(self, parts: "Parts") -> None:
        """`parts.imports` knows what is being written."""
        self._parts = parts

    def trash(self, app: "AppKeep", name: str, *, staging: bool = True) -> "Job":
        """Out of the store at once, removed by the store's uid; with `staging`, what an import left of it goes, too."""
        layout = self._parts.body.layout
        self._parts.admission.forget(bytes.fromhex(name))
        self._to_trash(app.name, name)
        where = layout.staging if staging else f"{layout.store}/{app.name}/trash"
        request = {"mode": "clean", "staging": where, "store": layout.store, "app": app.name, "id": bytes.fromhex(name)}
        yield asks.helper(self._parts.body, asks.STORER, request, deadline_s=900, duty="store")

    def _to_trash(self, app: str, name: str) -> None:
        """One rename inside store/<app>, by descriptors."""
        body = self._parts.body
        try:
            folder = os.open(f"{body.layout.store}/{app}", FOLDER)
        except FileNotFoundError:
            return
        try:
            try:
                os.mkdir("trash", 0o755, dir_fd=folder)
            except FileExistsError:
                pass
            trash = os.open("trash", FOLDER, dir_fd=folder)
            try:
                if os.geteuid() == 0 and body.boundary != "none":
                    os.fchown(trash, body.uid("store"), body.uid("store"))
                os.rename(name, name, src_dir_fd=folder, dst_dir_fd=trash)
                os.fsync(folder)
            except FileNotFoundError:
                pass
            finally:
                os.close(trash)
        finally:
            os.close(folder)

    def collect(self, app: "AppKeep") -> "Job":
        """Everything of one app that nobody names; entries without files."""
        named = {one.hex for one in app.state.deployments.values()}
        there = set(self._parts.trees(app.name))
        for name in sorted(there - named - {self._parts.imports.live}):
            yield from self.trash(app, name)
        for name in [n for n in _names(f"{self._parts.body.layout.store}/{app.name}/trash") if is_id(n)]:
            yield from self.trash(app, name)
        for one in list(app.state.deployments.values()):
            if one.hex not in there:
                yield from self._missing(app, one.id)
        for name in _names(self._parts.body.layout.app_state(app.name)):
            stem = name.partition(".")[0]
            if is_id(stem) and stem not in {one.hex for one in app.state.deployments.values()}:
                os.unlink(f"{self._parts.body.layout.app_state(app.name)}/{name}")
        yield from self._generations(app)

    def strays(self) -> "Job":
        """Before something comes: what is on disk and not in the books, or the other way round, of all apps that rest."""
        for app in list(self._parts.apps.values()):
            if not app.busy and not app.rebuilding and set(self._parts.trees(app.name)) != {one.hex for one in app.state.deployments.values()}:
                yield from self.collect(app)

    def _missing(self, app: "AppKeep", image: bytes) -> "Job":
        """Its files are gone: forget what was never good, veil what was."""
        one = app.deployments.find(image)
        if one.state in (WRITTEN, BAD) and image != app.state.run:
            app.deployments.drop(image)
        elif one.state != table.UNKNOWN:
            app.deployments.differs(image)
            self._parts.admission.forget(image)
            self._parts.damaged(5, app.name, one.hex)
        return
        yield  # a job is a generator

    def _generations(self, app: "AppKeep") -> "Job":
        """Data generations that no deployment names."""
        named = {one.data for one in app.state.deployments.values()} | ({1} if not app.state.deployments else set())
        for name in _names(self._parts.data.folder(app.name)):
            stem = name.removesuffix(".part")
            if stem.isdecimal() and len(stem) < 10 and (int(stem) not in named or name != stem):
                yield from self._parts.data.drop(app, int(stem)) if name == stem else self._part(app, int(stem))

    def _part(self, app: "AppKeep", g: int) -> "Job":
        """What a copy that was cut left."""
        yield from self._parts.data.ask(app, {"mode": "remove", "generation": g, "part": True}, deadline_s=900)

    def staging(self) -> "Job":
        """What broken-off imports left longer than a day ago."""
        layout = self._parts.body.layout
        for name in [n for n in _names(layout.staging) if n != self._parts.imports.live]:
            try:
                old = time.time() - os.stat(f"{layout.staging}/{name}", follow_symlinks=False).st_mtime
            except OSError:
                continue
            if is_id(name) and not -STALE_S < old < STALE_S:
                self._parts.imports.hand_over(name)
                request = {"mode": "clean", "staging": layout.staging, "store": layout.store, "app": "-", "id": bytes.fromhex(name)}
                yield asks.helper(self._parts.body, asks.STORER, request, deadline_s=900, duty="store")

    def spare(self, app: "AppKeep") -> "Job":
        """The anchor as a full bundle on other blocks, for healing."""
        anchor = app.state.anchor()
        if anchor is None:
            return
        layout = self._parts.body.layout
        chain = b"".join(self._parts.trust.envelopes[k] for k in sorted(self._parts.trust.envelopes))
        request = {
            "mode": "spare", "staging": layout.staging, "store": layout.store, "app": app.name, "id": anchor.id, "trust": chain if len(chain) < MOST_TRUST else b"",
        }  # fmt: skip
        yield asks.helper(self._parts.body, asks.STORER, request, deadline_s=3600, duty="store")
        app.deployments.note(spare=anchor.id)

    # -- room ---------------------------------------------------------------------------------------------------------------------

    def droppable(self, app: "AppKeep") -> "list[bytes]":
        """What may go, the first first: BAD, WRITTEN (oldest first), then the oldest GOOD beyond those that are kept."""
        state = app.state
        kept = {state.run, state.before, *(d.id for d in state.good()[:2])}
        anchor = state.anchor()
        if anchor is not None:
            kept.add(anchor.id)
        order = {BAD: 0, WRITTEN: 1, GOOD: 2}
        going = [d for d in state.deployments.values() if d.state in order and d.id not in kept and all(w[0] != d.id for w in state.warrants)]
        return [d.id for d in sorted(going, key=lambda d: (order[d.state], d.marked, d.tried))]

    def make_room(self, app: "AppKeep") -> "Job":
        """One place for a newcomer; Refused TOO_MANY when everything that is there is needed."""
        while len(app.state.deployments) >= appstate.MOST_DEPLOYMENTS:
            going = self.droppable(app)
            if not going:
                raise Refused(reasons.TOO_MANY, "16 images are installed and all are needed")
            yield from self.drop(app, going[0])

    def one_less(self) -> "Job":
        """The least needed image of all apps goes; False when everything is needed."""
        order = {BAD: 0, WRITTEN: 1, GOOD: 2}
        going = []
        for app in self._parts.apps.values():
            if not app.busy and not app.rebuilding:
                going += [(order[one.state], one.marked, one.tried, app.name, one.id) for one in map(app.deployments.find, self.droppable(app)[:1])]
        if not going:
            return False
        *_, name, image = min(going)
        app = self._parts.apps[name]
        if self._parts.imports.live != image.hex():
            yield from self.drop(app, image)
            return True
        return False

    def drop(self, app: "AppKeep", image: bytes) -> "Job":
        """A deployment leaves the state, then the store."""
        one = app.deployments.find(image)
        g = one.data
        app.deployments.drop(image)
        yield from self.trash(app, image.hex())
        path = f"{self._parts.body.layout.app_state(app.name)}/{image.hex()}.launch"
        if os.path.exists(path):
            os.unlink(path)
        yield from self._parts.data.drop(app, g)


def _names(folder: str) -> "list[str]":
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
