# SPDX-License-Identifier: Apache-2.0
"""The guard as keeper of images: it answers the body's questions and owns the parts that answer people's and the agent's verbs.

Duty: put the parts together; admission and budget of each start; wanted state; what exits and silences mean for a trial.
It decides nothing about causes, and parses nothing that came from outside: verdicts come from children.
Invariants: `launch` is the one road into running; what must be durable first is durable when a question is answered; an app whose records are damaged
waits for its rebuild, one whose record is of a newer version runs on as it is and is not moved.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.core.deployment import TRIAL
from edgeheal.guard import asks, budgets, keeper
from edgeheal.guard import launch as launches
from edgeheal.guard.admission import LAUNCH_MOST, Admission
from edgeheal.guard.agentless import Agentless
from edgeheal.guard.appdata import AppData
from edgeheal.guard.appkeep import AppKeep
from edgeheal.guard.blocks import DAMAGED, FRESH, NEWER
from edgeheal.guard.boots import TO_REBOOT, Boots
from edgeheal.guard.deployments import Deployments
from edgeheal.guard.ledger import Ledger
from edgeheal.guard.looking import Looking
from edgeheal.guard.parts import Parts
from edgeheal.guard.steps import Refused, run
from edgeheal.guard.trial import Trials
from edgeheal.guard.trustkeep import TrustKeep
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.appstate import Deployment
    from edgeheal.guard.body import Body
    from edgeheal.guard.runs import App
    from edgeheal.guard.steps import Job

    Record = dict[str, Any]

PERSONS = frozenset({k.BY_LOCAL, k.BY_COMMAND})
UNBOUNDED = frozenset({k.BY_LOCAL, k.BY_COMMAND, k.BY_BOOT, k.BY_DEPENDENCY})
TRUST_AGAIN_S = 30.0
LOOK_S = 0.5  # apps first, then why we booted


class Monitor(keeper.Keeper):
    """The keeper of images and of state."""

    def __init__(self, body: "Body") -> None:
        """Nothing is read before `begin`. Verbs are registered at once."""
        self._body = body
        self._parts = parts = Parts(body)
        self._begun = False
        self._agentless = Agentless(parts)
        parts.data = AppData(parts)

    def begin(self, then: "Callable[[], None]") -> None:
        """Open the books, read all records; what needs children goes on behind."""
        body, parts = self._body, self._parts
        for folder in (body.layout.guard, body.layout.guard_apps):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        parts.ledger = Ledger(body.loop, body.layout.guard)
        parts.trust = TrustKeep(body, parts.ledger.counters)
        parts.admission = Admission(body, parts.trust, parts.until_proven)
        parts.trials = Trials(parts)
        Looking(parts).register()
        body.doors.on_confirmed.append(self._confirmed)
        if parts.ledger.counters.open_acts():
            body.loop.later(parts.warrants.resume)
        parts.boots = Boots(parts)
        body.agent.on_end.append(self._agentless.ended)
        parts.boots.begin()
        body.loop.after(LOOK_S, parts.boots.look)
        for name in parts.ledger.damaged():
            parts.damaged(1, "", name)
        self._begun = True
        self.on_config(body.config)
        parts.boots.out_on_trial()
        then()
        run(self._prove(), lambda _: None)

    def _confirmed(self, events: "list[bytes]") -> None:
        """Ends of commands that the agent has durably."""
        for event in events:
            if event[1] == f.EV_DONE:
                self._parts.ledger.counters.told(event[f.COMMAND_ID])

    def _load(self, name: str) -> AppKeep:
        """Read an app's records. With both bad, what the marks log remembers stands in until the rebuild is done."""
        parts = self._parts
        folder = self._body.layout.app_state(name)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        app = AppKeep(name, Deployments(name, folder, parts.ledger.marks, parts.moved))
        try:
            found = app.deployments.load()
        except OSError:
            found = DAMAGED
        if found == FRESH and (parts.trees(name) or parts.ledger.marks.known(name)):
            found = DAMAGED  # absence is damage where something was
        if found == DAMAGED:
            app.rebuilding = True
            app.deployments.state = parts.ledger.marks.recall(name)
            parts.damaged(1, name, "state")
        elif found == NEWER:
            parts.damaged(3, name, "state")
        return app

    def _prove(self) -> "Job":
        """Trust and what shall run, by one child; then the apps that must be rebuilt. A start waits for its own app's proof only."""
        reason = yield from self._by_one_child()
        if reason != reasons.OK:
            reason = yield from self._parts.trust.prove()
        if reason != reasons.OK:
            self._parts.damaged(1, "", "trust")
            self._body.loop.after(TRUST_AGAIN_S, lambda: run(self._again(), lambda _: None))
        for app in [a for a in self._parts.apps.values() if a.rebuilding]:
            yield from self._rebuild(app)
        self._parts.settle()
        for app in list(self._parts.apps.values()):
            if set(self._parts.trees(app.name)) != {one.hex for one in app.state.deployments.values()}:
                self._parts.moves.collect_later(app)
            self._parts.trials.spare(app)
        if os.path.isdir(self._body.layout.staging) and os.listdir(self._body.layout.staging):
            yield from self._parts.sweep.staging()

    def _by_one_child(self) -> "Job":
        """The boot child's answers, taken as they come; its reason."""
        trust, chain = self._parts.trust, self._parts.trust.read()
        if not chain:
            return reasons.TRUST_CHAIN
        apps = [
            {
                "app": a.name, "id": a.running.id, "k": a.running.trust, "floor": list(a.state.floor), "blocked": [k for k, _ in a.state.blocked],
                "tree": self._body.layout.tree(a.name, a.running.hex),
            }
            for a in self._parts.apps.values() if a.running is not None and not a.rebuilding
        ]  # fmt: skip
        request = {
            "trust": trust.request(), "device": self._parts.admission.classes(), "interpreters": self._parts.admission.interpreters(),
            "shared_keys": trust.shared_keys, "rows": True, "apps": apps,
        }  # fmt: skip

        def heard(frame: "Record") -> None:
            if frame.get("what") == "trust":
                trust.take(frame["done"], chain)
            elif frame.get("what") == "app":
                app = self._parts.apps.get(frame["app"])
                if app is not None and app.running is not None and app.running.id == frame["id"]:
                    self._parts.admission.seen_at_boot(app.state, app.running, frame["manifest"], int(frame["rows"]))
                    self._parts.settle(app.name)

        fd = asks.memory(chain)
        try:
            yield asks.closing(asks.helper(self._body, asks.BOOT, request, duty="verify", fd=fd, deadline_s=120, on_frame=heard), fd)
        except Refused as refused:
            return refused.reason if not trust.newest else reasons.OK
        return reasons.OK

    def _again(self) -> "Job":
        """Trust could not be read at the start: once more, until it can; then what was refused for it is started."""
        if not self._parts.trust.newest:
            yield from self._prove()
        for app in self._parts.apps.values():
            if self._parts.trust.newest and app.running is not None and self.wanted(app.name).running:
                self._body.supervisor.start(app.name, k.BY_BOOT)

    def _rebuild(self, app: AppKeep) -> "Job":
        if not self._parts.trust.newest:
            return
        try:
            yield from self._parts.rejudge.rebuild(app)
        except Refused as refused:
            self._parts.damaged(4, app.name, refused.message)

    # -- the body's questions -----------------------------------------------------------------------------------------------------

    def apps(self) -> "list[str]":
        """Names of the apps that exist here, in a fixed order."""
        return sorted(self._parts.apps)

    def box_s(self) -> int:
        """Box time, now; 0 before the books are open (a guard without any config)."""
        return self._parts.ledger.box.now_s() if self._begun else 0

    def launch(self, app: str, by: int, then: "Callable[[launches.Launch | int], None]") -> None:
        """Admission and budget of a start; BY_UNKNOWN only asks what runs."""
        held = self._parts.apps.get(app)
        if held is None:
            then(reasons.NO_SUCH_APP)
        elif by == k.BY_UNKNOWN and held.rebuilding:
            self._parts.until_proven(lambda _: then(self._known(held) or reasons.NO_SUCH_IMAGE))
        elif by == k.BY_UNKNOWN:
            then(self._known(held) or reasons.NO_SUCH_IMAGE)
        else:
            run(self._admit(held, by), lambda said: then(said.reason if isinstance(said, Refused) else said))

    def _known(self, app: AppKeep) -> "launches.Launch | None":
        """What runs, from its launch record alone: for adoption, and to know its needs."""
        one = app.running
        if one is None:
            return None
        verdict = self._parts.admission.verdict(app.state, one)
        record = verdict.record if verdict is not None else self._read(app, one)
        return self._launch(app, one, record) if record else None

    def _read(self, app: AppKeep, one: "Deployment") -> "Record | None":
        """The launch record, if it is what the state says."""
        try:
            with open(f"{self._body.layout.app_state(app.name)}/{one.hex}.launch", "rb") as file:
                raw = file.read(LAUNCH_MOST + 1)
        except OSError:
            return None
        return self._parts.admission.record(raw, one.launch)

    def _launch(self, app: AppKeep, one: "Deployment", record: "Record") -> launches.Launch:
        data = self._parts.data
        return launches.Launch(
            record, tree=self._body.layout.tree(app.name, one.hex), data=data.generation(app.name, one.data), user=self._body.user_of(app.name),
            config=data.live(app.name, one.data, record), secrets=data.secrets(app.name), word=app.word, image_state=one.state,
        )  # fmt: skip

    def _admit(self, app: AppKeep, by: int) -> "Job":
        """The one road into running."""
        yield lambda resume: self._parts.until_proven(resume, app.name)
        once, app.once = app.once, False
        state = app.state
        if by not in PERSONS and not once:
            if state.held[0]:
                raise Refused(reasons.HELD)
            if by in (k.BY_REMEDY, k.BY_STANDING_ORDER) and state.pause[1] > self.box_s():
                raise Refused(reasons.PAUSED)
        one = app.running
        if one is None:
            raise Refused(reasons.NO_SUCH_IMAGE)
        reason = self._parts.ledger.budgets.spend(budgets.STARTS, app.name, force=once or by in UNBOUNDED)
        if reason:
            raise Refused(reason)
        self._parts.ledger.soon()
        try:
            verdict = yield from self._parts.admission.prove(state, one)
        except Refused as refused:
            self._parts.moves.judged(app, one, refused.reason)
            raise
        if state.held[0] and by in PERSONS:
            app.deployments.note(held=(0, 0))
        return self._launch(app, one, verdict.record)

    def seen(self, app: str) -> keeper.Seen:
        """The running deployment as of now."""
        held = self._parts.apps.get(app)
        one = held.running if held is not None else None
        if held is None or one is None:
            return keeper.Seen(held=bool(held and held.state.held[0]))
        verdict = self._parts.admission.verdict(held.state, one)
        differs = verdict is not None and self._parts.data.differs(held, verdict.record)
        return keeper.Seen(one.id, one.state, config_differs=differs, held=bool(held.state.held[0]))

    def wanted(self, app: str) -> keeper.Wanted:
        """Wanted state and pause; an `until` that has passed is dropped."""
        held = self._parts.apps.get(app)
        if held is None:
            return keeper.Wanted(running=False)
        running, by, until = held.state.wanted
        pause = held.state.pause[1]
        now = self.box_s()
        if until and until <= now:
            running, by, until = 1, k.BY_BOOT, 0
        return keeper.Wanted(bool(running), by, until, pause if pause > now else 0)

    def want(self, app: str, running: bool, by: int, until: int = 0) -> int:
        """Make it durable; 0 or a reason."""
        held = self._parts.apps.get(app)
        if held is None:
            return reasons.NO_SUCH_APP
        try:
            held.deployments.note(wanted=(int(running), by, until))
        except Refused as refused:
            return refused.reason
        self._parts.ledger.marks.say(f"wanted {app} {int(running)} {by} {until}")
        self._parts.ledger.soon()
        if until and not running:
            self._parts.ledger.wake()
        return reasons.OK

    def before_stop(self, app: str, run: int, by: int, then: "Callable[[int], None]") -> None:
        """Safe state, read back, for an app that moves things."""
        if self._parts.apps[app].actuates:
            self._parts.interlock.before_stop(app, by, then)
        else:
            then(0)

    def before_start(self, app: str, by: int, died: bool, then: "Callable[[int], None]") -> None:
        """Safe state after a death, interlock for what starts by itself."""
        if self._parts.apps[app].actuates:
            self._parts.interlock.before_start(app, by, died, then)
        else:
            then(0)

    # -- what was seen --------------------------------------------------------------------------------------------------------------

    def on_started(self, app: "App") -> None:
        """A new run is not late; from now on its image serves."""
        held = self._parts.apps[app.name]
        held.late = False
        held.serves_ns = time.monotonic_ns()

    def on_ready(self, app: "App") -> None:
        """The soak's clock may run; a changed config may prove itself."""
        held = self._parts.apps[app.name]
        self._parts.trials.look(held)
        self._parts.trials.watch_config(held)

    def on_late(self, app: "App", late_ms: int, trigger: bool) -> None:
        """A missed heartbeat is a witness."""
        self._parts.trials.on_late(self._parts.apps[app.name], app)

    def on_back(self, app: "App") -> None:
        """The heartbeat is back: the clock goes on."""
        held = self._parts.apps[app.name]
        held.late = False
        self._parts.trials.look(held)

    def on_start_failed(self, app: "App", reason: int, errno: int) -> bool:
        """A trial that cannot even be started, or does not get ready, has failed."""
        held = self._parts.apps.get(app.name)
        one = held.running if held is not None else None
        if held is None or one is None or one.state != TRIAL or reason not in (reasons.START_FAILED, reasons.NOT_READY, reasons.TIMEOUT):
            return False
        held.saw(one.id, 1)
        return self._parts.trials.failed(held, one.id, reason)[1]

    def on_exit(self, app: "App", facts: "Record") -> "tuple[int, bool]":
        """What an end means."""
        held = self._parts.apps.get(app.name)
        return self._parts.trials.ended(held, facts) if held is not None else (0, False)

    def on_agent(self, there: bool) -> None:
        """Soaks stand still without an agent; one that goes again and again has an answer of its own."""
        self._parts.trials.on_agent()
        self._agentless.on_agent(there)

    def on_config(self, config: "Record") -> None:
        """The config names the apps; those it no longer names keep their records on disk."""
        parts = self._parts
        words = config.get("apps") or {}
        for name in [n for n in parts.apps if n not in words]:
            del parts.apps[name]
        for name, word in words.items():
            if name not in parts.apps:
                parts.apps[name] = self._load(name)
                if parts.apps[name].rebuilding and parts.proven:
                    run(self._rebuild(parts.apps[name]), lambda _: None)
            parts.apps[name].word = word
        parts.ledger.budgets.take_limits(config.get("budgets") or {})
        if (config.get("watchdog") or {}).get("device"):
            self._body.loop.later(parts.verbs.box.feed)

    def on_still(self, gap_ms: int) -> None:
        """A standstill is not soaked."""
        self._parts.trials.still(gap_ms)

    def ending(self, then: "Callable[[], None]") -> None:
        """Told to end: does the whole system go down, and comes it back? The mark is kept, the dogs are left as that needs."""
        if not self._begun:
            then()
            return
        from edgeheal.guard import shutdown

        def known(how: int) -> None:
            self._parts.boots.ended(how)
            self._handed_over(how)
            then()

        shutdown.ask(self._parts, known)

    def _handed_over(self, how: int) -> None:
        """A reboot is watched over to its end; what may be a power-off must not become one; a guard that is stopped by hand resets nobody."""
        if not (self._body.config.get("watchdog") or {}).get("device"):
            return
        dogs = self._parts.verbs.box.watchdog
        if how == TO_REBOOT:
            dogs.last_feed()
        else:
            dogs.disarm()

    def close(self) -> None:
        """Write what waits."""
        if self._begun:
            self._parts.ledger.keep()
