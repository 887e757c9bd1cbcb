# SPDX-License-Identifier: Apache-2.0
"""Moves: try, switch, roll back, undo, mark, config - each one job of an app, from admission to the start of what shall run.

Duty: order the steps of a move so that a cut at any moment leaves the old or the new, whole. Rights and budgets were checked before (`verbs`).
Invariants: admission and data come before the stop, the durable write before the start; a move that is refused leaves the app running as it was;
from GOOD it goes by itself only to the same security counter or higher, and never to data that the image says cannot go back.
Source: formats.md 2.3, steps 4 to 7. Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.core import deployment as table
from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD, TRIAL, WRITTEN
from edgeheal.guard import asks
from edgeheal.guard.deployments import goes_back_to
from edgeheal.guard.steps import Refused, run
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.appstate import Deployment
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

COLLECT_S = 5.0


class Moves:
    """The jobs. Each is run by `AppKeep.move`."""

    __slots__ = ("_parts",)

    def __init__(self, parts: "Parts") -> None:
        """Nothing moves by itself."""
        self._parts = parts

    def tree(self, app: "AppKeep", one: "Deployment") -> str:
        """store/<app>/<id>."""
        return self._parts.body.layout.tree(app.name, one.hex)

    # -- forward ------------------------------------------------------------------------------------------------------------------

    def try_(self, app: "AppKeep", image: bytes, by: int) -> "Job":
        """Run a WRITTEN deployment on trial (a GOOD one: just run it)."""
        one = app.deployments.find(image)
        if image == app.state.run and one.state in (TRIAL, GOOD) and not app.state.held[0]:
            return 0  # a goal that is reached already
        if one.state not in (WRITTEN, GOOD):
            raise Refused(reasons.TABLE, table.STATES[one.state])
        if app.actuates:
            yield from self._parts.interlock.grave("try", by, app.name)
        verdict = yield from self._prove(app, one)
        copies = self._parts.data.copies(app, one)
        if copies:
            yield asks.stopped(self._parts.body, app.name, by)
        try:
            data = one.data if one.state == GOOD else (yield from self._parts.data.for_trial(app, one, verdict.record, self.tree(app, one)))
            self._parts.ledger.grave()
            if not copies:
                yield asks.stopped(self._parts.body, app.name, by)
            app.deployments.try_(image, data=data, soak_s=self._parts.soak_s(app, verdict.record))
        except Refused:
            self.bring_up(app, by)
            raise
        self._fresh(app)
        return (yield from self._start(app, by))

    def _prove(self, app: "AppKeep", one: "Deployment") -> "Job":
        """Signature and files; what was found goes to the table."""
        try:
            return (yield from self._parts.admission.prove(app.state, one))
        except Refused as refused:
            self.judged(app, one, refused.reason)
            raise

    def judged(self, app: "AppKeep", one: "Deployment", reason: int) -> None:
        """What admission said of an installed deployment, carried out: revoked is BAD, differing files are veiled."""
        if reason == reasons.REVOKED:
            self.revoke(app, one.id, keep=False)
        elif reason == reasons.ROT and one.state != table.UNKNOWN:
            app.deployments.differs(one.id)
            self._parts.damaged(5, app.name, one.hex)

    def _fresh(self, app: "AppKeep") -> None:
        """Another image runs from now on: what was witnessed of the one before says nothing of it."""
        app.saw(b"", 0)
        app.held_soak = app.late = app.once = False
        app.since_ns = 0
        if app.retry is not None:
            app.retry.cancel()
            app.retry = None

    def _start(self, app: "AppKeep", by: int) -> "Job":
        """Start what `run` names, if it is wanted; the job ends once exec has succeeded. A start that fails is judged elsewhere."""
        if not app.state.wanted[0]:
            return 0
        app.once = True
        reason = yield asks.started(self._parts.body, app.name, by)
        return reason if reason not in (reasons.ALREADY, reasons.PAUSED) else 0

    def bring_up(self, app: "AppKeep", by: int) -> None:
        """Have what `run` names running, whatever runs now; nothing waits for it."""
        self._fresh(app)
        if not app.state.wanted[0] or app.state.held[0]:
            self._parts.body.supervisor.stop(app.name, by)
        else:
            app.once = True
            self._parts.body.supervisor.restart(app.name, by)

    # -- back -----------------------------------------------------------------------------------------------------------------------

    def back(self, app: "AppKeep", by: int, *, target: bytes = b"", person: bool = False, root: bool = False) -> "Job":
        """To a known-good one: the named, else what ran before, else the newest mark. A trial that is left is given up, nothing is blocked."""
        one = app.running
        if one is None:
            return (yield from self._to(app, self._newest(app, target), by))
        goes = goes_back_to(app.state, one, lower=person or one.state != GOOD, target=target)
        if goes is None:
            lower = goes_back_to(app.state, one, lower=True, target=target)
            raise Refused(reasons.NEEDS_APPROVAL if lower else reasons.LAST_GOOD, "its security counter is lower" if lower else "no other known-good image")
        yield from self._may_leave(app, one, goes, person=person, root=root)
        return (yield from self._to(app, goes, by))

    def _newest(self, app: "AppKeep", target: bytes) -> "Deployment":
        goes = next((d for d in app.state.good() if not target or d.id == target), None)
        if goes is None:
            raise Refused(reasons.NO_SUCH_IMAGE, "no known-good image is installed")
        return goes

    def _may_leave(self, app: "AppKeep", one: "Deployment", goes: "Deployment", *, person: bool, root: bool) -> "Job":
        """A GOOD one's data may not be left behind unasked; a trial's own generation is its loss alone."""
        if one.state == TRIAL or one.data == goes.data:
            return
        try:
            record = (yield from self._parts.admission.prove(app.state, one, rows=False)).record
        except Refused:
            record = {}
        said = self._parts.data.downgrade(one, goes, record)
        if said == "no" and not root:
            raise Refused(reasons.SCHEMA, "its data cannot go back")
        if said == "ask" and not person:
            raise Refused(reasons.NEEDS_APPROVAL, "its data would be left behind")

    def _to(self, app: "AppKeep", goes: "Deployment", by: int) -> "Job":
        """Run a GOOD one instead of what runs: one durable write, then the restart."""
        if app.actuates:
            yield from self._parts.interlock.grave("rollback", by, app.name)
        yield from self._prove(app, goes)
        self._parts.ledger.grave()
        data = yield from self._carried(app, goes, by)
        one = app.running
        try:
            if one is not None and one.state == TRIAL:
                app.deployments.given_up(one.id, target=goes.id, lower=True, data=data)
            else:
                app.deployments.switch(goes.id, lower=True, data=data)
        except Refused:
            if data:
                self.bring_up(app, by)
            raise
        self._fresh(app)
        yield asks.stopped(self._parts.body, app.name, by)
        return (yield from self._start(app, by))

    def _carried(self, app: "AppKeep", goes: "Deployment", by: int) -> "Job":
        """The generation that an older one goes on with when the newer one that is left has a `back`: 0 = its own. The app is stopped for it."""
        one = app.running
        if one is None or one.state not in (TRIAL, GOOD) or one.schema <= goes.schema:
            return 0
        try:
            record = (yield from self._parts.admission.prove(app.state, one, rows=False)).record
        except Refused:
            return 0
        if not self._parts.data.goes_home(one, goes, record):
            return 0
        yield asks.stopped(self._parts.body, app.name, by)
        return (yield from self._parts.data.home(app, one, goes, record, self.tree(app, one)))

    def undo(self, app: "AppKeep", by: int, *, root: bool) -> "Job":
        """Back to what ran before the last move: a GOOD one by anybody who may roll back, else as a new trial by root or a warrant."""
        one = app.state.deployments.get(app.state.before)
        if one is None:
            raise Refused(reasons.NOTHING_TO_DO, "nothing to undo")
        if one.state == GOOD:
            return (yield from self._to(app, one, by))
        if one.state == WRITTEN and not root:
            raise Refused(reasons.NEEDS_APPROVAL, "it is not known good: root or a token must try it again")
        return (yield from self.try_(app, one.id, by))

    def fail(self, app: "AppKeep", image: bytes, by: int) -> "Job":
        """Somebody who may says that it failed: BAD and blocked on trial, demoted when GOOD."""
        one = app.deployments.find(image)
        trial = one.state == TRIAL
        move = app.deployments.failed(image)
        if trial:
            self._parts.trial_ended(app.name, image, good=False, reason=reasons.NOT_SEEN if by == k.BY_LOCAL else reasons.TIMEOUT, back_to=move.run)
        if move.changed or move.hold:
            self._fresh(app)
            yield asks.stopped(self._parts.body, app.name, by)
            return (yield from self._start(app, by)) if not move.hold else 0
        return 0

    def revoke(self, app: "AppKeep", image: bytes, *, keep: bool) -> None:
        """Trust took an image back."""
        one = app.state.deployments.get(image)
        if one is None or (one.state == table.BAD and one.reason == table.R_REVOKED):
            return
        try:
            move = app.deployments.revoked(image, keep=keep)
        except Refused:
            return
        if move.changed or move.hold:
            self._parts.body.loop.later(lambda: app.after(lambda: self.bring_up(app, k.BY_REMEDY)))

    # -- config -----------------------------------------------------------------------------------------------------------------------

    def restore_config(self, app: "AppKeep", by: int) -> "Job":
        """The known good config is live again, and the app runs with it."""
        one = app.running
        if one is None:
            raise Refused(reasons.NO_SUCH_IMAGE)
        verdict = yield from self._parts.admission.prove(app.state, one, rows=False)
        n, size, mtime = yield from self._parts.data.restore_config(app, one, verdict.record)
        app.deployments.configured(one.id, n, size, mtime)
        self._parts.body.doors.tell(f.pack_event(f.EV_CONFIG, app=app.name, image=one.id, a=n))
        self.bring_up(app, by)
        return n

    def set_config(self, app: "AppKeep", image: bytes, fd: int, by: int) -> "Job":
        """New content for the live config of the running (or a named) deployment; taken by the manifest's own way, else with the next start."""
        one = app.deployments.find(image) if any(image) else app.running or next(iter(app.state.deployments.values()), None)
        if one is None:  # no image says yet where its config lies: kept for the first one
            yield from self._parts.data.first_config(app, fd)
            return 0
        verdict = yield from self._parts.admission.prove(app.state, one, rows=False)
        yield from self._parts.data.set_config(app, one, verdict.record, fd, self.tree(app, one))
        self._parts.body.doors.tell(f.pack_event(f.EV_CONFIG, code=1, app=app.name, image=one.id))
        if one.id == app.state.run and (verdict.record.get("config") or {}).get("reload"):
            self._parts.body.supervisor.reload(app.name, lambda _: None)
        elif one.id == app.state.run:
            self.bring_up(app, by)
        self._parts.trials.watch_config(app)
        return 0

    # -- afterwards -------------------------------------------------------------------------------------------------------------------

    def collect_later(self, app: "AppKeep") -> None:
        """Clean up once things are quiet."""
        self._parts.body.loop.after(COLLECT_S, lambda: app.move("collect", self._parts.sweep.collect(app), lambda _: None))

    def verify(self, app: "AppKeep", image: bytes) -> "Job":
        """Every file of a deployment by hash; what differs is veiled, what was veiled and is whole again is lifted."""
        one = app.deployments.find(image)
        request = {"mode": "full", "tree": self.tree(app, one), "id": one.id}
        self.verified(app, image, (yield asks.helper(self._parts.body, asks.VERIFIER, request, deadline_s=3600, duty="verify")))
        return 0

    def verified(self, app: "AppKeep", image: bytes, done: "dict[str, Any]") -> None:
        """What the verifier said of all files of a deployment, carried out; Refused unless they are whole."""
        one = app.deployments.find(image)
        reason = int(done["reason"])
        if reason == reasons.ROT and one.state != table.UNKNOWN:
            app.deployments.differs(one.id)
            self._parts.damaged(5, app.name, one.hex)
            if app.state.spare == one.id:
                self._parts.body.loop.later(lambda: app.after(lambda: self._heal(app, image)))
            good = next((d for d in app.state.others(one, lower=True) if one.id == app.state.run), None)
            if good is not None:  # what runs is rotten: the known-good runs instead
                app.deployments.switch(good.id, lower=True)
                self._parts.body.loop.later(lambda: app.after(lambda: self.bring_up(app, k.BY_REMEDY)))
        elif reason == reasons.OK and one.state == table.UNKNOWN:
            app.deployments.proven(one.id)
        if reason != reasons.OK:
            raise Refused(reason, str(done.get("differs") or ""))

    def _heal(self, app: "AppKeep", image: bytes) -> None:
        """Import the spare: proven like any bundle, it lifts the veil."""
        try:
            fd = os.open(f"{self._parts.body.layout.spare}/{app.name}.ehi", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return

        def ended(_: object) -> None:
            os.close(fd)

        run(self._parts.imports.run(fd, progress=lambda _: None, only=image), ended)
