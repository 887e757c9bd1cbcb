# SPDX-License-Identifier: Apache-2.0
"""Apps and their runs: start, stop, restart, reload, and what an end means.

Duty: bring each app to what is wanted, one at a time, and tell what was seen. It does not judge causes, trials or budgets (`keeper` does).
Invariants: never two runs of an app: a start happens only once the old tree is known to be gone; a stop ends in gone or STUCK, never in
waiting for ever; a restart never changes what is wanted, and its second half is finished after any death of ours; an exit status is what
the kernel told, or unknown. Field cases fc-pro-1, -2, -3, -5, fc-cfg-1.
Light on purpose: the resident guard imports it.
"""

import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.guard import adopt, needs, ports
from edgeheal.guard.app import App, Run
from edgeheal.guard.cgroups import Groups
from edgeheal.guard.ending import Ending
from edgeheal.guard.facts import Facts
from edgeheal.guard.logs import Logs
from edgeheal.guard.orders import Orders
from edgeheal.guard.probes import Probes
from edgeheal.guard.record import RunRecord
from edgeheal.guard.reload import Reloader
from edgeheal.guard.starting import Starter
from edgeheal.guard.tree import Trees
from edgeheal.guard.watch import Watch
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.body import Body

    Then = Callable[[int], None]

__all__ = ["App", "Run", "Supervisor"]
EXITS_KEPT = 32


class Supervisor:
    """Runs every app of the keeper."""

    def __init__(self, body: "Body") -> None:
        """Nothing is started before `begin`."""
        self._body = body
        self.apps: dict[str, App] = {}
        self.groups = Groups(body.layout.root, wanted=False)
        self.trees = Trees(body)
        self.logs = Logs(body)
        self.orders = Orders(body)
        self.facts = Facts(body, self)
        self.watch = Watch(body, self)
        self.starter = Starter(body, self)
        self.probes = Probes(body, self)
        self._reloader = Reloader(body, self)
        body.loop.on_still.append(self.watch.still)
        body.doors.on_agent.append(self._agent)

    # -- which apps there are

    def begin(self) -> None:
        """Adopt what runs, end what should not, start what is wanted. Called once, when the keeper can answer."""
        if self._body.boundary != "none":
            self.groups = Groups(self._body.layout.root)
        self.refresh()
        adopt.everything(self._body, self)

    def refresh(self) -> None:
        """The keeper's list changed: new apps appear stopped, gone ones are stopped and forgotten."""
        names = self._body.keeper.apps()
        for name in names:
            if name not in self.apps:
                app = self.apps[name] = App(name, RunRecord(f"{self._body.layout.run}/guard/runs", name))
                app.group = self.groups.of(name)
                self.orders.adopt(app)
        for name in [name for name in self.apps if name not in names]:
            self.stop(name, k.BY_LOCAL, lambda reason, name=name: self._forget(name, reason))  # type: ignore[misc]

    def start_new(self) -> None:
        """Start what the config has just brought and is wanted."""
        for app in list(self.apps.values()):
            if app.run is None and app.phase == f.PHASE_STOPPED and self._body.keeper.wanted(app.name).running:
                self.start(app.name, k.BY_LOCAL)

    def app(self, name: str) -> App | None:
        """The app, if it exists here."""
        return self.apps.get(name)

    def is_ready(self, name: str) -> bool:
        """Whether that app runs and is ready."""
        app = self.apps.get(name)
        return app is not None and app.running and app.run is not None and app.run.ready

    # -- orders

    def start(self, name: str, by: int, then: "Then | None" = None) -> None:
        """Ask for a start. `then(reason)`: 0 once exec has worked (not: ready); NOT_READY: it waits for an app it needs."""
        app = self.apps.get(name)
        refusal = reasons.NO_SUCH_APP if app is None else reasons.UNKILLABLE if app.phase == f.PHASE_STUCK else 0
        if app is not None and app.running and app.phase != f.PHASE_STOPPING and app.run is not None and app.run.executed:
            refusal = refusal or reasons.ALREADY
        if app is None or refusal:
            _tell(then, refusal)
            return
        self.orders.cancel(name)
        app.held_by_agent = False
        app.taken = app.finished = False
        if then is not None:
            app.starting.append(then)
        if app.phase == f.PHASE_STOPPING:
            app.after_stop = by
        elif app.phase != f.PHASE_STARTING:
            died = app.run is not None and app.run.stop_by < 0
            self._begin_start(app, by, died=died)

    def is_answered(self, app: App, ended: int, then: "Then") -> bool:
        """Whether the start that this word of the agent asks for, after the end of run `ended`, was made at once; `then` as for `start`."""
        if not ended or ended != app.answered or app.phase == f.PHASE_WAITING:
            return False
        app.answered = 0
        if app.phase == f.PHASE_STARTING:
            app.starting.append(then)
        else:
            then(reasons.OK)
        return True

    def stop(self, name: str, by: int, then: "Then | None" = None, agreed: "Callable[[], int] | None" = None) -> None:
        """Stop the whole tree in order. `then(0)` when it is gone, `then(UNKILLABLE)` when it will not go.

        What is wanted is `agreed`'s to change: called once the safe state is reached, before anything is stopped; its reason is a refusal.
        """
        app = self.apps.get(name)
        if app is None:
            _tell(then, reasons.NO_SUCH_APP)
            return
        self.orders.cancel(name)
        app.after_stop = -1
        app.held_by_agent = by == k.BY_REMEDY
        _tell_all(app.starting, reasons.KILLED)
        if agreed is not None:
            app.stop_agreed.append(agreed)
        if app.phase == f.PHASE_STUCK:
            _tell(then, _agreed(app) or reasons.UNKILLABLE)
        elif app.running or app.phase == f.PHASE_STOPPING:
            self._begin_stop(app, by, "stop", then)
        else:
            app.token += 1
            app.phase = f.PHASE_STOPPED
            _tell(then, _agreed(app))

    def restart(self, name: str, by: int, then: "Then | None" = None) -> None:
        """Stop if it runs, then start; finished after any death of ours. `then` as for start."""
        app = self.apps.get(name)
        if app is None or app.phase == f.PHASE_STUCK:
            _tell(then, reasons.NO_SUCH_APP if app is None else reasons.UNKILLABLE)
            return
        if not app.running and app.phase != f.PHASE_STOPPING:
            if app.phase == f.PHASE_STARTING and then is not None:
                app.starting.append(then)
            else:
                self.start(name, by, then)
            return
        self.orders.cancel(name)
        app.taken = False
        if then is not None:
            app.starting.append(then)
        app.after_stop = by
        self._begin_stop(app, by, "restart", None)

    def restart_unasked(self, app: App) -> None:
        """A hung or never ready app while no agent is there: one restart by standing order, its wait and its number bounded by it."""
        self._note_exit(app)
        self._begin_stop(app, k.BY_STANDING_ORDER, "order", None)

    def kill(self, name: str, by: int, then: "Then | None" = None) -> None:
        """End the tree now, without an orderly stop."""
        app = self.apps.get(name)
        self.stop(name, by, then)
        if app is not None and app.ending is not None:
            app.ending.kill()

    def reload(self, name: str, then: "Then") -> None:
        """The manifest's reload method; needs a ready run."""
        self._reloader.reload(self.apps.get(name), then)

    def clear(self, app: App, then: "Then") -> None:
        """End what an old run left; `then(0)` when nobody is left."""
        app.stop_thens.append(then)
        if app.ending is None:
            app.ending = Ending(self._body.loop, self.trees, app, lambda left: self._gone(app, left), lambda who, s: self._stuck(app, who, s))
            app.ending.ask(15, min(self._stop_s(app), 5.0))

    def look(self, name: str) -> None:
        """Something changed what is wanted or allowed (a pause ended, an `until` passed, a disk is free again): look once more."""
        app = self.apps.get(name)
        if app is None or app.running or app.phase != f.PHASE_STOPPED or app.finished or app.taken:
            return
        if self._body.keeper.wanted(name).running and not self._body.doors.agent_follows():
            self.orders.ended(app)

    # -- starting

    def _begin_start(self, app: App, by: int, *, died: bool) -> None:
        app.phase = f.PHASE_STARTING
        app.start_by = by
        self.starter.begin(app, by, died)

    def wait_for_needs(self, app: App, by: int, *, look: bool = False) -> None:
        """A hard need is away: the start stays asked for and costs nothing, whoever waits is told so. `look`: nobody tells us when it is back."""
        app.phase = f.PHASE_WAITING
        app.start_by = by
        _tell_all(app.starting, reasons.NOT_READY)
        if look:
            token = app.token
            self._body.loop.after(needs.LOOK_S, lambda: self._again(app, token))

    def _again(self, app: App, token: int) -> None:
        if app.phase == f.PHASE_WAITING and app.token == token:
            self._begin_start(app, app.start_by, died=False)

    def needs_changed(self, ready: App) -> None:
        """An app became ready: those that waited for it go on."""
        for app in self.apps.values():
            if app.phase == f.PHASE_WAITING and app is not ready:
                self._begin_start(app, app.start_by, died=False)

    def executed(self, app: App, run: Run, code: int) -> None:
        """The word of exec: it worked, or why not."""
        if app.run is not run:
            return
        run.executed = True
        if code:
            run.wanted_end = True
            run.pid = 0
            self.start_failed(app, reasons.START_FAILED, code)
            return
        app.restarts += 1
        self.facts.started(app, run)
        _tell_all(app.starting, reasons.OK)
        if run.launch is not None:
            if run.launch.ready == "start":
                self.facts.ready(app, run)
            else:
                self.watch.arm_grace(app, run, run.launch.start_ms)
        if run.early_end is not None:
            self.watch.child_ended(app, run, run.pid, run.early_end)

    def start_failed(self, app: App, reason: int, errno: int) -> None:
        """No run came of it."""
        app.token += 1
        app.phase = f.PHASE_STUCK if reason == reasons.UNKILLABLE else f.PHASE_STOPPED
        app.record.keep(pid=0, intent="")
        if errno:
            self._note_exit(app)
        app.taken = self.facts.start_failed(app, reason, errno)
        _tell_all(app.starting, reason)
        if app.taken or self._body.doors.agent_follows() or not self._body.keeper.wanted(app.name).running:
            return
        if errno:
            self.orders.ended(app)
        else:
            self.orders.refused(app)

    # -- stopping

    def _stop_s(self, app: App) -> float:
        launch = app.run.launch if app.run is not None else None
        return launch.stop_ms / 1000 if launch is not None else 10.0

    def _begin_stop(self, app: App, by: int, intent: str, then: "Then | None") -> None:
        """Safe state, TERM, deadline, KILL, deadline. `intent` ("stop", "restart", "order"): what a new guard finishes if we die once it was signalled."""
        if then is not None:
            app.stop_thens.append(then)
        app.stop_intent = (intent, by)
        run = app.run
        if app.phase == f.PHASE_STOPPING or run is None:
            if app.ending is not None or run is None:
                app.record.keep(intent=intent, stop_by=by)
                _agreed(app)
            return
        before, app.phase = app.phase, f.PHASE_STOPPING
        self._body.keeper.before_stop(app.name, run.number, by, lambda reason: self._stop_allowed(app, run, by, before, reason))

    def _stop_allowed(self, app: App, run: Run, by: int, before: int, reason: int) -> None:
        """Safe state was reached (or none is needed): signal. Else the app goes on as it was."""
        if app.run is not run or app.phase != f.PHASE_STOPPING or app.ending is not None:
            return
        if reason:
            app.stop_agreed.clear()
        reason = reason or _agreed(app)
        if reason:
            app.phase = before
            app.after_stop = -1
            _tell_all(app.stop_thens, reason)
            _tell_all(app.starting, reason)
            return
        app.record.keep(intent=app.stop_intent[0], stop_by=app.stop_intent[1])
        run.stop_by = by
        hung = run.late
        self.watch.disarm(run)
        app.ending = Ending(self._body.loop, self.trees, app, lambda left: self._gone(app, left), lambda who, s: self._stuck(app, who, s))
        if hung:
            app.ending.kill()  # it cannot answer
        else:
            app.ending.ask(run.launch.stop_signal if run.launch is not None else 15, self._stop_s(app))

    def _stuck(self, app: App, members: "list[int]", since_s: float) -> None:
        """SIGKILL did not end it. No second copy: the app is STUCK until it is seen gone."""
        app.phase = f.PHASE_STUCK
        app.stuck_since_ns = time.monotonic_ns()
        self.facts.unkillable(app, members, since_s)
        _tell_all(app.stop_thens, reasons.UNKILLABLE)
        _tell_all(app.starting, reasons.UNKILLABLE)

    def _gone(self, app: App, left: int) -> None:
        """Nobody of it is left."""
        app.ending = None
        if left:
            self.facts.leftovers(app, left)
        late = app.phase == f.PHASE_STUCK
        if late or app.phase == f.PHASE_STOPPING:
            app.phase = f.PHASE_STOPPED
            if late and self._body.keeper.wanted(app.name).running and app.record.value.get("intent") != "stop":
                app.after_stop = max(app.after_stop, app.start_by, 0)
        _tell_all(app.stop_thens, reasons.OK)
        if app.phase == f.PHASE_STOPPED:
            self._after(app)

    def _after(self, app: App) -> None:
        """Gone, and now? The second half of a restart, if there is one."""
        app.phase = f.PHASE_STOPPED
        by, app.after_stop = app.after_stop, -1
        if by >= 0 and not app.taken:
            self._begin_start(app, by, died=False)
        elif app.record.value.get("intent") == "order":
            app.record.keep(intent="")
            self.orders.ended(app)
        else:
            app.record.keep(intent="")

    # -- the end of a run

    def ended(self, app: App, run: Run, status: int | None) -> None:
        """The main process is gone: tell it, see who is left, and what follows."""
        if run.wanted_end or app.run is not run:
            return
        run.wanted_end = True
        stuck = app.phase == f.PHASE_STUCK
        app.taken = self.facts.exited(app, run, status)
        run.pid = 0
        ordered = app.ending is not None or stuck or app.phase == f.PHASE_STOPPING
        intent = app.record.value.get("intent") if ordered else ""
        app.record.keep(pid=0, ended=run.number, finished=app.finished, intent=intent)
        if app.ending is not None:
            app.ending.main_ended()
        if ordered:
            return
        self._note_exit(app)
        app.phase = f.PHASE_STOPPED
        if self.trees.maybe(app):
            self.clear(app, lambda _: self._end_known(app, run))
        else:
            self._end_known(app, run)

    def _end_known(self, app: App, run: Run) -> None:
        """The tree is gone, too: with no agent there to decide, the standing order acts."""
        if app.run is run and not app.finished:
            ports.look(self._body, self, app, run, lambda held: self._unasked(app, run, held))

    def _unasked(self, app: App, run: Run, port_held: bool) -> None:
        if app.run is not run or app.phase != f.PHASE_STOPPED or app.finished or app.taken:
            return
        wanted = self._body.keeper.wanted(app.name)
        if not self._body.doors.agent_follows():
            if wanted.running:
                self.orders.ended(app, port_held=port_held)
        elif run.plain and not port_held and wanted.running and not wanted.pause_until:
            app.answered = run.number
            self.start(app.name, k.BY_REMEDY)

    def _note_exit(self, app: App) -> None:
        app.exits.append(time.monotonic_ns())
        del app.exits[:-EXITS_KEPT]

    def _agent(self, there: bool) -> None:
        """The agent came or went."""
        self._body.keeper.on_agent(there)
        for app in self.apps.values():
            if app.run is not None:
                app.run.at_once_ms = -1  # an agent's leave ends with it
            if there:
                self.orders.cancel(app.name)
            else:
                self.look(app.name)

    def _forget(self, name: str, reason: int) -> None:
        if reason == reasons.OK and name not in self._body.keeper.apps():
            app = self.apps.pop(name, None)
            if app is not None:
                app.record.close()
                if app.notify is not None:
                    app.notify.close()


def _tell(then: "Then | None", reason: int) -> None:
    if then is not None:
        then(reason)


def _agreed(app: App) -> int:
    """Make the changes that the stop stands for; the first reason why not."""
    agreed, app.stop_agreed = app.stop_agreed, []
    return next((reason for change in agreed if (reason := change())), reasons.OK)


def _tell_all(thens: "list[Then]", reason: int) -> None:
    """Tell everyone who waits, once."""
    told, thens[:] = list(thens), []
    for then in told:
        then(reason)
