# SPDX-License-Identifier: Apache-2.0
"""The monitor's verbs: rights beyond the door, budgets, the interlock, then the move.

Duty: one handler for each verb that changes what outlives the moment. The door has already said who speaks (`doors.RIGHTS`).
Invariants: the agent's bare word moves only what a restart could undo; each grave act of the agent spends a durable budget first; what a person does
is counted, too, and told to those who follow; an answer carries a reason, never prose. Source: safety.md section 1.
Light on purpose: the resident guard imports it.
"""

import os
import pwd

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.core.deployment import TRIAL
from edgeheal.guard import budgets, doors
from edgeheal.guard import warrants as w
from edgeheal.guard.boxverbs import BoxVerbs
from edgeheal.guard.steps import Refused, run
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.doors import Request
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

MOST_TRUST = 262_144


def who(request: "Request") -> str:
    """Who asked, for the record: the agent, or a person's name at the box."""
    if request.client.rank == doors.AGENT:
        return "agent"
    try:
        return f"local {pwd.getpwuid(request.client.uid).pw_name}"[:90]
    except KeyError:
        return f"local uid {request.client.uid}"


def by_of(request: "Request") -> int:
    """`By` of a request."""
    return k.BY_REMEDY if request.client.rank == doors.AGENT else k.BY_LOCAL


class Verbs:
    """Handlers. They answer at once (a reason) or through the request, later."""

    __slots__ = ("_parts", "_table", "_warrants", "box")

    def __init__(self, parts: "Parts") -> None:
        """`box` handles the verbs on the whole box."""
        self._parts = parts
        self._warrants = parts.warrants
        self.box = BoxVerbs(parts)
        self._table: dict[int, Callable[[Request], int | None]] = {
            f.SWITCH: self._switch, f.TRY: self._try, f.GIVE_UP: self._give_up, f.MARK_GOOD: self._mark_good,
            f.MARK_FAILED: self._mark_failed, f.ALLOW: self._allow, f.DROP: self._drop, f.RESTORE_CONFIG: self._restore_config,
            f.SET_CONFIG: self._set_config, f.SET_SECRET: self._set_secret, f.PAUSE: self._pause, f.RESUME: self._pause, f.IMPORT: self._import,
            f.PRESENT: self._present, f.HOLD_SOAK: self._hold_soak, f.VERIFY: self._verify, f.TRUST: self._trust, f.APPROVE: self._answer, f.REJECT: self._answer,
        }  # fmt: skip
        self._table |= self.box.table()

    def handle(self, request: "Request") -> "int | None":
        """Carry out a verb: its reason, or None when the answer was given or will be."""
        return self._table[request.verb](request)

    def _app(self, request: "Request") -> "AppKeep":
        app = self._parts.apps.get(request.app)
        if app is None:
            raise Refused(reasons.NO_SUCH_APP)
        if app.rebuilding:
            raise Refused(reasons.BUSY, "its records are being rebuilt")
        return app

    def _move(self, request: "Request", name: str, job: "Job", action: int = 0) -> None:
        """Run a job as the app's move; the answer is its reason. A person's accepted order is told."""
        app = self._parts.apps[request.app]

        def ended(said: "Any") -> None:
            if isinstance(said, Refused):
                request.answer(said.reason)
                return
            if action and request.client.rank != doors.AGENT:
                self._parts.ordered(action, request.app, who(request), image=request.image)
            if request.verb in (f.SWITCH, f.GIVE_UP):
                self._parts.boots.answered(f.L_ROLLBACK)
            code = said if isinstance(said, int) and said in reasons.WORDS and name != "restore config" else reasons.OK
            request.answer(code, image=app.state.run, a=app.running.state if app.running else 0)

        app.move(name, job, ended)

    def _rollback_budget(self, request: "Request") -> int:
        """The agent's rollbacks are within the budget; a person's are counted."""
        return self._parts.ledger.budgets.spend(budgets.ROLLBACK, request.app, force=request.client.rank != doors.AGENT)

    # -- moves --------------------------------------------------------------------------------------------------------------------

    def _try(self, request: "Request") -> int | None:
        """Root's word, or a warrant that waits (used up by it)."""
        try:
            app = self._app(request)
            if request.client.rank == doors.AGENT:
                if not self._warrants.holds(app, request.image):
                    return reasons.NO_WARRANT
                self._warrants.use(app, request.image)
        except Refused as refused:
            return refused.reason
        self._move(request, "try", self._parts.moves.try_(app, request.image, by_of(request)), w.A_INSTALL)
        return None

    def _switch(self, request: "Request") -> int | None:
        """To a known good one; `a` = 1: undo the last move."""
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        person, root = request.client.rank != doors.AGENT, request.client.rank == doors.ROOT
        if request.client.rank == doors.MEMBER and self._parts.body.config.get("local_rollback") == "token":
            return reasons.NO_WARRANT
        reason = self._rollback_budget(request)
        if reason:
            return reason
        if request.a == 1:
            job = self._parts.moves.undo(app, by_of(request), root=root)
        else:
            target = request.image if any(request.image) else b""
            job = self._parts.moves.back(app, by_of(request), target=target, person=person, root=root)
        self._move(request, "rollback", job, w.A_ROLLBACK)
        return None

    def _give_up(self, request: "Request") -> int | None:
        """Leave the trial (or a GOOD one) for a GOOD one; nothing is blocked."""
        app = self._parts.apps.get(request.app)
        if app is not None and any(request.image) and request.image != app.state.run:
            return reasons.NOTHING_TO_DO  # it is not what runs any more: we went back by ourselves meanwhile
        request.image = b""
        request.a = 0
        return self._switch(request)

    def _mark_good(self, request: "Request") -> int | None:
        """Root shortens the soak that runs."""
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        image = request.image if any(request.image) else app.state.run
        self._move(request, "mark good", self._parts.trials.bless(app, image), w.A_MARK_GOOD)
        return None

    def _mark_failed(self, request: "Request") -> int | None:
        """Root, or the agent about what the guard itself saw fail."""
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        image = request.image if any(request.image) else app.state.run
        if request.client.rank == doors.AGENT:
            if not app.seen_to_fail(image):
                return reasons.NOT_SEEN
            reason = self._rollback_budget(request)
            if reason:
                return reason
        self._move(request, "mark failed", self._parts.moves.fail(app, image, by_of(request)))
        return None

    def _allow(self, request: "Request") -> int:
        try:
            app = self._app(request)
            app.deployments.allow(request.image)
        except Refused as refused:
            return refused.reason
        self._parts.ordered(w.A_ALLOW, request.app, who(request), image=request.image)
        return reasons.OK

    def _drop(self, request: "Request") -> int | None:
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        self._move(request, "drop", self._parts.sweep.drop(app, request.image), w.A_DROP)
        return None

    def _verify(self, request: "Request") -> int | None:
        """Every file by hash."""
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        image = request.image if any(request.image) else app.state.run
        self._move(request, "verify", self._parts.moves.verify(app, image))
        return None

    # -- config, secrets, pause -----------------------------------------------------------------------------------------------------

    def _restore_config(self, request: "Request") -> int | None:
        """The agent needs a budget and a failure that the guard saw."""
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        if request.client.rank == doors.AGENT:
            if not app.seen_to_fail(app.state.run):
                return reasons.NOT_SEEN
            reason = self._parts.ledger.budgets.spend(budgets.CONFIG, request.app)
            if reason:
                return reason
        self._move(request, "restore config", self._parts.moves.restore_config(app, by_of(request)), w.A_CONFIG)
        return None

    def _set_config(self, request: "Request") -> int | None:
        """Root brings a new config; it rides as a descriptor."""
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        fd = request.take_fd()
        if fd < 0:
            return reasons.MALFORMED
        self._move(request, "set config", _closing(self._parts.moves.set_config(app, request.image, fd, by_of(request)), fd), w.A_CONFIG)
        return None

    def _set_secret(self, request: "Request") -> int | None:
        """Root brings a secret: the name stands in the image field."""
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        fd = request.take_fd()
        if fd < 0:
            return reasons.MALFORMED
        self._move(request, "set secret", _closing(self._parts.data.set_secret(app, f.text(request.image), fd), fd))
        return None

    def _pause(self, request: "Request") -> int:
        """PAUSE for `a` seconds (it always ends), or RESUME; without an app: all."""
        if request.verb == f.PAUSE and not 0 < request.a <= 30 * 86_400:
            return reasons.MALFORMED
        if request.app and request.app not in self._parts.apps:
            return reasons.NO_SUCH_APP
        apps = [self._parts.apps[request.app]] if request.app else list(self._parts.apps.values())
        seconds = request.a if request.verb == f.PAUSE else 0
        reason = self._warrants.pause(apps, seconds, k.BY_LOCAL)
        if reason == reasons.OK:
            until = self._parts.ledger.box.now_s() + seconds if seconds else 0
            self._parts.ordered(w.A_PAUSE if seconds else w.A_RESUME, request.app, who(request), until=until)
        return reason

    def _hold_soak(self, request: "Request") -> int:
        """The agent may stop a soak's clock, never advance it."""
        try:
            app = self._app(request)
        except Refused as refused:
            return refused.reason
        if app.running is None or app.running.state != TRIAL:
            return reasons.NOTHING_TO_DO
        app.held_soak = bool(request.a)
        self._parts.trials.look(app)
        return reasons.OK

    def _answer(self, request: "Request") -> int:
        """A person approves or rejects what an incident asks for: the agent hears it, the guard only says who spoke."""
        if not self._parts.body.doors.agent_follows():
            return reasons.NOT_RUNNING
        self._parts.ordered(w.A_APPROVE if request.verb == f.APPROVE else w.A_REJECT, request.app, who(request), image=request.image)
        return reasons.OK

    # -- what comes in ----------------------------------------------------------------------------------------------------------------

    def _import(self, request: "Request") -> int | None:
        """A bundle by descriptor: root's word, or an image that a warrant waits for."""
        only = b""
        if request.client.rank == doors.AGENT:
            waiting = [image for app, image in self._warrants.waiting() if not any(request.image) or image == request.image]
            if not waiting:
                return reasons.NO_WARRANT
            only = waiting[0]
            reason = self._parts.ledger.budgets.spend(budgets.IMPORT)
            if reason:
                return reason
        fd = request.take_fd()
        if fd < 0:
            return reasons.MALFORMED

        def progress(frame: "dict[str, Any]") -> None:
            request.row(f.pack_event(f.EV_PROGRESS, code=int(frame["step"]), a=int(frame["done"]), b=int(frame["total"])))

        def ended(said: "Any") -> None:
            if isinstance(said, Refused):
                request.row(f.pack_event(f.EV_PROGRESS, code=0xFFFF, a=said.reason, say=said.message.encode()))
                request.answer(said.reason)
                return
            name, image = said
            app = self._parts.apps[name]
            if self._warrants.holds(app, image):
                self._warrants.try_waiting(app, image)
            request.answer(reasons.OK, app=name, image=image, a=app.deployments.find(image).state)

        run(_closing(self._parts.imports.run(fd, progress=progress, only=only), fd), ended)
        return None

    def _present(self, request: "Request") -> None:
        self._warrants.present(request)

    def _trust(self, request: "Request") -> int | None:
        """Root brings newer trust."""
        fd = request.take_fd()
        if fd < 0:
            return reasons.MALFORMED
        try:
            chain = os.pread(fd, MOST_TRUST + 1, 0)
        except OSError:
            return reasons.UNREADABLE
        finally:
            os.close(fd)
        if len(chain) > MOST_TRUST:
            return reasons.TOO_LARGE

        def job() -> "Job":
            yield self._parts.until_proven
            return (yield from self._parts.rejudge.extend(chain))

        run(job(), lambda said: request.answer(said.reason) if isinstance(said, Refused) else request.answer(a=int(said)))
        return None


def _closing(job: "Job", fd: int) -> "Job":
    """The job, with its descriptor closed at the end, however it ends."""
    try:
        return (yield from job)
    finally:
        os.close(fd)
