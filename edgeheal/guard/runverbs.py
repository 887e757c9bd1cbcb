# SPDX-License-Identifier: Apache-2.0
"""Verbs about running apps, joined to the supervisor.

Duty: HELLO, STATUS, FOLLOW, START, STOP, RESTART, CLEAN_RESTART, RELOAD, PROBE, READY, TRUNCATE, OPEN_LOG, ORDER, HEARTBEAT, RELOAD_CONFIG.
Verbs about images, warrants and the box are the monitor's. Invariants: the agent's word moves only what a restart could undo, and nothing
of an app that is paused or that a person stopped; a person's word changes what is wanted, durably, before it is carried out.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.guard import doors
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.app import App
    from edgeheal.guard.body import Body
    from edgeheal.guard.doors import Request

ACTION_START, ACTION_STOP, ACTION_RESTART = 10, 11, 1  # core.kinds.ActionCode


class RunVerbs:
    """Handlers of the body's verbs."""

    def __init__(self, body: "Body") -> None:
        """Registers them."""
        self._body = body
        self.progress = 0
        table = {
            f.HELLO: self._hello, f.STATUS: self._status, f.FOLLOW: self._follow, f.START: self._start, f.STOP: self._stop, f.RESTART: self._restart,
            f.CLEAN_RESTART: self._restart, f.RELOAD: self._reload, f.PROBE: self._probe, f.READY: self._ready, f.TRUNCATE: self._truncate,
            f.OPEN_LOG: self._open_log, f.ORDER: self._order, f.HEARTBEAT: self._heartbeat, f.RELOAD_CONFIG: self._reload_config,
        }  # fmt: skip
        for verb, handler in table.items():
            body.doors.verb(verb, handler)

    def _app(self, request: "Request") -> "App | None":
        return self._body.supervisor.app(request.app)

    def _hello(self, request: "Request") -> None:
        boot = int.from_bytes(bytes.fromhex(self._body.boot.replace("-", ""))[:8], "big") if self._body.boot else 0
        request.answer(app=self._body.boundary, a=boot, b=self._body.keeper.box_s())

    def _status(self, request: "Request") -> int:
        supervisor = self._body.supervisor
        if request.app and request.app not in supervisor.apps:
            return reasons.NO_SUCH_APP
        for name, app in supervisor.apps.items():
            if request.app in ("", name):
                request.row(supervisor.facts.row(app))
        return reasons.OK

    def _follow(self, request: "Request") -> None:
        self._body.doors.follow(request.client)
        fd, seconds = self._body.agent.shared() if request.client.rank == doors.AGENT else (-1, 0)
        request.answer(a=seconds, fd=fd)

    def _refusal(self, request: "Request") -> int:
        """What stands in the way of the agent's word: a pause, or a person who stopped it."""
        wanted = self._body.keeper.wanted(request.app)
        if request.client.rank != doors.AGENT:
            return reasons.OK
        if wanted.pause_until > self._body.keeper.box_s():
            return reasons.PAUSED
        return reasons.OK if wanted.running or request.verb == f.STOP else reasons.NOT_ALLOWED

    def _by(self, request: "Request") -> int:
        return k.BY_REMEDY if request.client.rank == doors.AGENT else k.BY_LOCAL

    def _told(self, request: "Request", action: int, until: int = 0) -> None:
        """A person's order, for those who follow."""
        if request.client.rank != doors.AGENT:
            say = f"uid {request.client.uid}".encode()
            self._body.doors.tell(f.pack_event(f.EV_ORDERED, code=action, app=request.app, a=until, say=say))

    def _start(self, request: "Request") -> "int | None":
        app = self._app(request)
        if app is None:
            return reasons.NO_SUCH_APP
        refusal = self._refusal(request)
        if not refusal and request.client.rank != doors.AGENT:
            refusal = self._body.keeper.want(app.name, True, k.BY_LOCAL)
            self._told(request, ACTION_START)
        if refusal:
            return refusal
        if request.client.rank != doors.AGENT or not self._body.supervisor.is_answered(app, request.a, request.answer):
            self._body.supervisor.start(app.name, self._by(request), request.answer)
        return None

    def _stop(self, request: "Request") -> "int | None":
        app = self._app(request)
        if app is None:
            return reasons.NO_SUCH_APP
        refusal = self._refusal(request)
        if refusal:
            return refusal
        agent, until = request.client.rank == doors.AGENT, request.a

        def agreed() -> int:
            """The safe state is reached: a person's word changes what is wanted now, not before."""
            reason = self._body.keeper.want(app.name, False, k.BY_LOCAL, until)
            if not reason:
                self._told(request, ACTION_STOP, until)
                if until:
                    self._body.loop.after(max(1, until - self._body.keeper.box_s()) + 1, lambda: self._body.supervisor.look(app.name))
            return reason

        self._body.supervisor.stop(app.name, self._by(request), request.answer, None if agent else agreed)
        return None

    def _restart(self, request: "Request") -> "int | None":
        app = self._app(request)
        if app is None:
            return reasons.NO_SUCH_APP
        refusal = self._refusal(request)
        if refusal:
            return refusal
        if not self._body.keeper.wanted(app.name).running:
            return reasons.NOT_RUNNING  # a restart never changes what is wanted
        if request.a and app.running and app.run_number > request.a:
            return reasons.ALREADY  # whoever asks means an older run: this one was started since
        self._told(request, ACTION_RESTART)
        app.cleaned = request.verb == f.CLEAN_RESTART
        self._body.supervisor.restart(app.name, self._by(request), request.answer)
        return None

    def _reload(self, request: "Request") -> "int | None":
        refusal = self._refusal(request)
        if refusal:
            return refusal
        self._body.supervisor.reload(request.app, request.answer)
        return None

    def _probe(self, request: "Request") -> "int | None":
        app = self._app(request)
        if app is None:
            return reasons.NO_SUCH_APP
        answered = self._body.supervisor.probes.probe(
            app, request.a, lambda verdict, took, reason, digest: request.answer(reason, a=verdict, b=max(took, 1), image=digest)
        )
        return answered or None

    def _ready(self, request: "Request") -> int:
        """The agent's probe said so: it orders dependents, and a restart undoes it."""
        app = self._app(request)
        if app is None or app.run is None or not app.running:
            return reasons.NOT_RUNNING
        if app.run.launch is None or app.run.launch.ready != "probe":
            return reasons.NOT_CONFIGURED
        self._body.supervisor.facts.ready(app, app.run)
        return reasons.OK

    def _truncate(self, request: "Request") -> int:
        return reasons.OK if self._body.supervisor.logs.truncate(request.app, min(request.a, 1 << 62)) else reasons.NOTHING_TO_DO

    def _open_log(self, request: "Request") -> "int | None":
        if self._app(request) is None:
            return reasons.NO_SUCH_APP
        fd = self._body.supervisor.logs.reader(request.app)
        if fd < 0:
            return reasons.NOTHING_TO_DO
        request.answer(fd=fd)
        return None

    def _order(self, request: "Request") -> int:
        app = self._app(request)
        if app is None:
            return reasons.NO_SUCH_APP
        if request.code == f.ORDER_STANDING:
            return self._body.supervisor.orders.place(request.app, request.a, request.b)
        if request.client.rank != doors.AGENT or not request.client.following:
            return reasons.NOT_ALLOWED
        if app.run is None or not app.running or app.run_number != request.a:
            return reasons.NOT_RUNNING
        app.run.at_once_ms = request.b if request.code == f.ORDER_AT_ONCE else -1
        return reasons.OK

    def _heartbeat(self, request: "Request") -> int:
        self.progress = request.a
        self._body.agent.beat(request.client)
        if request.b:
            self._body.doors.acked(request.b & 0xFFFFFFFF)
        return reasons.OK

    def _reload_config(self, request: "Request") -> None:
        def then(apps: int, reason: int) -> None:
            request.answer(reason, a=apps, b=int(reason != reasons.OK))

        self._body.reload_config(then)
