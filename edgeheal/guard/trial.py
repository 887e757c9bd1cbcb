# SPDX-License-Identifier: Apache-2.0
"""Trials and soaks: what an image on trial must live through, on the guard's own clock, and what its failure means.

Duty: run the soak's clock, judge ends of runs that ran a trial, keep the config of what proved healthy. It moves deployments through `Deployments` only.
Invariants: the clock runs only while the app is ready, not late, an agent is there and does not hold it; a failed trial is durable (BAD, blocked, the
known-good is `run`) before anything is started; a first trial, with nothing to go back to, is held after its exits are used up and tried again slowly
for ever; GOOD is what was read back. Field case fc-img-2.
Light on purpose: the resident guard imports it.
"""

import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD, TRIAL
from edgeheal.guard import budgets, deployments
from edgeheal.guard.recheck import Recheck
from edgeheal.guard.steps import Refused
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.appstate import Deployment
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.runs import App
    from edgeheal.guard.steps import Job

NS = 1_000_000_000
SLOW_RETRY_S = 900
SERVED_S = 86_400
AGAIN_S = 30.0  # a mark that could not be made is tried again after so long


class Trials:
    """The soak's clock and the judgement of ends."""

    __slots__ = ("_parts",)

    def __init__(self, parts: "Parts") -> None:
        """Nothing runs before the first app is ready."""
        self._parts = parts
        parts.ledger.counting.append(self._counts)
        parts.ledger.keeping.append(self.keep)
        parts.ledger.keeping.append(Recheck(parts).keep)

    # -- the clock ----------------------------------------------------------------------------------------------------------------

    def _counts(self) -> bool:
        return any(app.since_ns for app in self._parts.apps.values())

    def _runs(self, app: "AppKeep") -> bool:
        """Whether the soak's clock may run now."""
        run = self._parts.body.supervisor.app(app.name)
        one = app.running
        if one is None or one.state != TRIAL or run is None or run.run is None or run.run.launch is None:
            return False
        alive = run.phase == f.PHASE_RUNNING and run.run.ready and run.run.launch.image == one.id
        return alive and not app.held_soak and not app.late and self._parts.body.doors.agent_follows()

    def look(self, app: "AppKeep") -> None:
        """Something that the clock depends on changed: take what ran, go on or stand still."""
        self._take(app)
        if app.soak_timer is not None:
            app.soak_timer.cancel()
            app.soak_timer = None
        one = app.running
        if one is None or one.state != TRIAL:
            return
        _ = self._parts.moves  # loaded while a trial runs: going back must not need a disk that may have died by then
        if not self._runs(app):
            return
        app.since_ns = time.monotonic_ns()
        app.soak_timer = self._parts.body.loop.after(one.soak_left, lambda: self._due(app))
        self._parts.ledger.wake()

    def _take(self, app: "AppKeep") -> None:
        """What the clock has run since the last look goes to the deployment (durable with the next write)."""
        if app.since_ns and app.running is not None:
            ran = time.monotonic_ns() - app.since_ns
            app.deployments.ran(app.running.id, soaked_s=ran // NS)
            app.since_ns += ran // NS * NS
        if not self._runs(app):
            app.since_ns = 0

    def left_s(self, app: "AppKeep", one: "Deployment") -> int:
        """Seconds to go, as of now."""
        ran = (time.monotonic_ns() - app.since_ns) // NS if app.since_ns and one.id == app.state.run else 0
        return max(0, one.soak_left - ran) if one.state == TRIAL else 0

    def keep(self) -> None:
        """Make the progress of all soaks durable (every minute while one runs); what a good image served, once a day."""
        for app in self._parts.apps.values():
            self.serve(app)
            self._take(app)
            if app.since_ns or app.unwritten or app.unsaved_s >= SERVED_S:
                app.unwritten = not app.deployments.keep()
                if not app.unwritten:
                    app.unsaved_s = 0
            self.spare(app)

    def spare(self, app: "AppKeep") -> None:
        """A new anchor is kept as a bundle, too."""
        anchor = app.state.anchor()
        if anchor is not None and anchor.id != app.state.spare and not app.busy and self._parts.trust.newest:
            app.move("spare", self._parts.sweep.spare(app), lambda _: None)

    def serve(self, app: "AppKeep", image: bytes = b"") -> None:
        """What runs has served up to now."""
        if app.serves_ns:
            seconds = (time.monotonic_ns() - app.serves_ns) // NS
            app.serves_ns += seconds * NS
            app.unsaved_s += seconds
            app.deployments.ran(image or app.state.run, served_s=seconds)

    def on_agent(self) -> None:
        """The agent came or went."""
        for app in self._parts.apps.values():
            self.look(app)

    def _due(self, app: "AppKeep") -> None:
        app.soak_timer = None
        self._take(app)
        one = app.running
        if one is None or one.state != TRIAL or not self._runs(app):
            return
        if one.soak_left > 0:
            self.look(app)
            return
        app.move("mark good", self.good(app, one.id), lambda said: self._marked(app, said))

    def _marked(self, app: "AppKeep", said: "Any") -> None:
        """A mark that could not be made durable is tried again: until then the trial stays a trial."""
        if isinstance(said, Refused) and app.running is not None and app.running.state == TRIAL:
            self._parts.damaged(4, app.name, "state")
            app.soak_timer = self._parts.body.loop.after(AGAIN_S, lambda: self._due(app))

    def bless(self, app: "AppKeep", image: bytes) -> "Job":
        """A signed word or root shortens the soak that runs: it must run, and be ready."""
        one = app.deployments.find(image)
        run = self._parts.body.supervisor.app(app.name)
        alive = run is not None and run.phase == f.PHASE_RUNNING and run.run is not None and run.run.ready
        if one.state == TRIAL and (image != app.state.run or not alive or app.late):
            raise Refused(reasons.NOT_READY, "it does not run healthy now: a word only shortens a soak that runs")
        return (yield from self.good(app, image))

    def good(self, app: "AppKeep", image: bytes) -> "Job":
        """The trial held: keep its config, mark it good, click the floor."""
        one = app.deployments.find(image)
        if one.state != TRIAL:
            raise Refused(reasons.NOTHING_TO_DO if one.state == GOOD else reasons.TABLE)
        verdict = yield from self._parts.admission.prove(app.state, one, rows=False)
        try:
            n, size, mtime = yield from self._parts.data.keep_config(app, one, verdict.record)
        except Refused:
            n, size, mtime = -1, 0, 0  # no copy: the app's last good one stays the last good one
        if app.state.run != image:
            raise Refused(reasons.NOTHING_TO_DO, "it does not run any more")
        app.deployments.soaked(image, verdict.mark_floor, config=n, config_size=size, config_mtime=mtime)
        app.saw(b"", 0)
        app.since_ns = 0
        self._parts.ledger.budgets.clear(budgets.EXITS, app.name)
        self._parts.trial_ended(app.name, image, good=True)
        self._parts.moves.collect_later(app)
        self.watch_config(app)
        return 0

    # -- config that proved healthy ----------------------------------------------------------------------------------------------------

    def watch_config(self, app: "AppKeep") -> None:
        """Once a GOOD deployment ran healthy for its soak time with a changed config, that config is kept as the last good one."""
        if app.config_timer is not None:
            app.config_timer.cancel()
            app.config_timer = None
        one, record = app.running, self._record(app)
        if one is None or one.state != GOOD or not record.get("config"):
            return
        now = self._parts.data.stat(app.name, one.data, record)
        after = max(1, self._parts.soak_s(app, record))
        app.config_timer = self._parts.body.loop.after(after, lambda: self._config_due(app, one.id, now))

    def _config_due(self, app: "AppKeep", image: bytes, seen: "tuple[int, int]") -> None:
        app.config_timer = None
        one, record = app.running, self._record(app)
        run = self._parts.body.supervisor.app(app.name)
        if one is None or one.id != image or one.state != GOOD or run is None or run.phase != f.PHASE_RUNNING or app.late:
            return
        if self._parts.data.stat(app.name, one.data, record) == seen and self._parts.data.differs(app, record):
            app.move("keep config", self._keep_config(app, image), lambda _: self.watch_config(app))
        else:
            self.watch_config(app)

    def _keep_config(self, app: "AppKeep", image: bytes) -> "Job":
        verdict = yield from self._parts.admission.prove(app.state, app.deployments.find(image), rows=False)
        n, size, mtime = yield from self._parts.data.keep_config(app, app.deployments.find(image), verdict.record)
        if n >= 0:
            app.deployments.configured(image, n, size, mtime)
            self._parts.body.doors.tell(f.pack_event(f.EV_CONFIG, code=2, app=app.name, image=image, a=n))
        return 0

    def _record(self, app: "AppKeep") -> "dict[str, Any]":
        run = self._parts.body.supervisor.app(app.name)
        launch = run.run.launch if run is not None and run.run is not None else None
        return launch.record if launch is not None else {}

    # -- ends ---------------------------------------------------------------------------------------------------------------------

    def ended(self, app: "AppKeep", facts: "dict[str, Any]") -> "tuple[int, bool]":
        """A run ended: (X_* flags, whether the guard goes on from here by itself)."""
        self._take(app)
        app.since_ns = 0
        app.late = False
        one = app.state.deployments.get(bytes(facts["image"]))
        if one is None:
            return 0, False
        self.serve(app, one.id)
        app.serves_ns = 0
        if facts["ordered"] or facts["done"]:
            return 0, False
        app.saw(one.id, 1)
        if one.state != TRIAL or one.id != app.state.run:
            return 0, False
        return self.failed(app, one.id, reasons.KILLED if facts.get("signum") else reasons.EXIT_NONZERO)

    def failed(self, app: "AppKeep", image: bytes, reason: int) -> "tuple[int, bool]":
        """An image on trial failed, seen by the guard: back to the known-good; with none, its exits are counted first."""
        one = app.deployments.find(image)
        if deployments.goes_back_to(app.state, one, lower=True) is None:
            return self._first(app, one)
        move = app.deployments.failed_here(image)
        app.unwritten = app.unwritten or not move.durable
        self._parts.ledger.budgets.spend(budgets.ROLLBACK, app.name, force=True)
        self._parts.trial_ended(app.name, image, good=False, reason=reason, back_to=move.run)
        self._parts.admission.doubt_rows(move.run)
        self._parts.body.loop.later(lambda: app.after(lambda: self._parts.moves.bring_up(app, k.BY_REMEDY)))
        return f.X_TRIAL, True

    def _first(self, app: "AppKeep", one: "Deployment") -> "tuple[int, bool]":
        """Nothing to go back to: restarts apply until the exits are used up; then held, a human called, and tried again slowly."""
        self._parts.ledger.budgets.spend(budgets.EXITS, app.name, force=True)
        self._parts.ledger.soon()
        if self._parts.ledger.budgets.allows(budgets.EXITS, app.name):
            return 0, False
        if not app.state.held[0]:
            self.hold(app, reasons.LAST_GOOD)
            self._parts.trial_ended(app.name, one.id, good=False, reason=reasons.HELD)
        self._slow(app)
        return f.X_TRIAL, True

    def hold(self, app: "AppKeep", reason: int) -> None:
        """Nothing of this app starts until a human, a signed word, or the slow retry says so."""
        try:
            app.deployments.note(held=(reason, self._parts.ledger.box.now_s()))
        except Refused:
            app.state.held = (reason, self._parts.ledger.box.now_s())
            app.unwritten = True
        self._parts.hooks.run("alarm", {"EDGEHEAL_APP": app.name, "EDGEHEAL_VERB": "held", "EDGEHEAL_BY": "guard"}, lambda _: None)

    def _slow(self, app: "AppKeep") -> None:
        if app.retry is None:
            seconds = int(self._parts.body.config.get("slow_retry_s") or SLOW_RETRY_S)
            app.retry = self._parts.body.loop.after(seconds, lambda: self._again(app))

    def _again(self, app: "AppKeep") -> None:
        """The slow retry: one start, the hold stays for everybody else."""
        app.retry = None
        one = app.running
        if one is None or not app.state.held[0] or one.state not in (TRIAL, GOOD):
            return
        app.once = True
        self._parts.body.supervisor.start(app.name, k.BY_REMEDY, lambda reason: self._slow(app) if reason else None)

    def still(self, gap_ms: int) -> None:
        """Our loop stood still: what nobody saw is not soaked."""
        for app in self._parts.apps.values():
            if app.since_ns:
                app.since_ns = min(time.monotonic_ns(), app.since_ns + gap_ms * 1_000_000)
                self.look(app)

    def on_late(self, app: "AppKeep", run: "App") -> None:
        """A heartbeat was missed: the clock stands still; with no agent to judge it, a trial has failed."""
        app.late = True
        image = run.run.launch.image if run.run is not None and run.run.launch is not None else b""
        app.saw(image, 2)
        self.look(app)
        one = app.state.deployments.get(image)
        if one is not None and one.state == TRIAL and one.id == app.state.run and not self._parts.body.doors.agent_follows():
            self.failed(app, image, reasons.TIMEOUT)
