# SPDX-License-Identifier: Apache-2.0
"""One turn of the engine: the state opened for one signal, the effects gathered, and the state closed again.

Duty: bookkeeping - apps, cases, acts, budgets, chance, reports. It decides nothing.
Invariants: the state it was made from is not changed (its numeric memory excepted); acts come before what is told about them; a case is
told at most once a turn, with a higher revision each time.
"""

from typing import Any

from edgeheal.core.app import AppSpec
from edgeheal.core.app_table import AppEvent
from edgeheal.core.effect import Act, Decided, Effect, Recorded, Report, Verb, Wake
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import AppState, IncidentState
from edgeheal.core.now import NS, Now
from edgeheal.core.values import replace
from edgeheal.detect.around import Around
from edgeheal.detect.host import pressed
from edgeheal.detect.link import lowest
from edgeheal.engine import severity
from edgeheal.engine.state import CLOSED_MOST, Pending, State
from edgeheal.recover import app as apps_
from edgeheal.recover.app import App
from edgeheal.recover.backoff import draw
from edgeheal.recover.case import Case

APPS_MOST = 256
CASES_MOST = 256
_SLACK_NS = 30 * NS
_WORKING = frozenset({AppState.HEALTHY, AppState.DEGRADED, AppState.PAUSED})


class Turn:
    """The state as it is being changed. Maps are copied when first written."""

    __slots__ = ("_acts", "_last", "_told", "_words", "acts", "apps", "box", "box_ns", "cases", "catalog", "closed", "fresh", "groups", "ledger", "next_act", "next_incident",
                 "now", "ns", "paused_until_s", "policy", "seed", "state", "still_ns")  # fmt: skip

    def __init__(self, state: State, now: Now) -> None:
        """Open `state` at `now`."""
        self.state = state
        self.now = now
        self.ns = now.mono_ns
        self.seed = state.seed
        self.policy = state.policy
        self.catalog = state.catalog
        self.box = state.box
        self.box_ns = state.box_ns
        self.apps = dict(state.apps)
        self.cases = dict(state.cases)
        self.acts = state.acts
        self.groups = state.groups
        self.ledger = state.ledger
        self.next_act = state.next_act
        self.next_incident = state.next_incident
        self.paused_until_s = state.paused_until_s
        self.still_ns = state.still_ns
        self.closed = state.closed
        self.fresh: set[int] = set()  # cases whose causes were ranked this turn
        self._acts: list[Effect] = []
        self._words: list[Effect] = []
        self._told: dict[int, bool] = {}
        self._last: list[Incident] = []

    # -- apps

    def spec(self, app: str) -> AppSpec:
        """The manifest's words, or an empty manifest for an app that only the guard knows; "" is the box."""
        return self.box if not app else self.catalog.get(app) or AppSpec(app)

    def app(self, name: str) -> App | None:
        """The app, made when the guard speaks of it first; None when there are too many."""
        found = self.apps.get(name)
        if found is None and name and len(self.apps) < APPS_MOST:
            found = self.apps[name] = App(name)
        return found

    def put(self, app: App) -> App:
        """Keep this value of the app."""
        self.apps[app.name] = app
        return app

    def move(self, app: str, event: AppEvent) -> App:
        """Move an app that is known through the table, and keep it."""
        return self.put(apps_.moved(self.apps[app], event, self.ns))

    def paused(self, app: str) -> bool:
        """Whether remedies are paused for it, or for everything."""
        found = self.apps.get(app)
        return self.paused_until_s > self.now.box_s or (found is not None and found.paused(self.now.box_s))

    def around(self, name: str) -> Around:
        """What a detector may know of this app now ("" = the box)."""
        app = self.apps.get(name)
        pressure = pressed(self.state.senses.box.host)
        if app is None:
            box = not name  # always up: what it promises is judged
            began_ns = self.box_ns if box else 0
            return Around(self.now, self.policy, self.spec(name), 0, box, box, started_ns=began_ns, pressed=pressure, still_ns=self.still_ns)
        return Around(
            self.now,
            self.policy,
            self.spec(name),
            app.run,
            app.up,
            app.ready,
            app.wanted,
            app.started_ns,
            app.ready_ns,
            pressure,
            self.still_ns,
            app.state in _WORKING and not self._doubtful(name),
            round(self.state.senses.box.host.left_kib),
            lowest(self.state.senses.box.link),
        )

    def _doubtful(self, name: str) -> bool:
        """Whether its heartbeat is late or a probe missed, and nobody has judged that yet."""
        senses = self.state.senses.apps.get(name)
        return senses is not None and (senses.beat.due_ns > 0 or any(p.misses and not p.on for p in senses.probed.values()))

    # -- cases

    def cases_of(self, app: str) -> list[Case]:
        """Open cases of an app, oldest first."""
        return [c for c in self.cases.values() if c.incident.app == app]

    def keep(self, case: Case, *, tell: bool = False) -> Case:
        """Keep this value of a case; `tell` people about it at the end of the turn."""
        self.cases[case.incident.number] = case
        if tell:
            self._told[case.incident.number] = True
        return case

    def last_word(self, child: Case, parent: Case) -> None:
        """A case that was told of is folded into another: its own last revision says so."""
        incident = replace(child.incident, state=IncidentState.RESOLVED, causes=parent.incident.causes, revision=child.told + 1, closed_ns=self.ns)
        self._last.append(replace(incident, also=(parent.app,) if parent.app else ()))
        self.cases[child.number] = replace(self.cases[child.number], told=child.told + 1)
        self._told.pop(child.number, None)

    # -- chance, budgets, effects

    def chance(self) -> float:
        """A number in [0, 1) out of the state's seed."""
        self.seed, value = draw(self.seed)
        return value

    def act(self, verb: Verb, app: str = "", target: str = "", case: int = 0, *, seconds: float = 0.0, answered: bool = True) -> int:
        """Order something; its number. `seconds`: how long it may take at most; `answered` False: nobody waits for its end."""
        number = self.next_act
        self.next_act += 1
        self._acts.append(Act(number, verb, app, target, case))
        if answered:
            due = self.ns + round(seconds * NS) + _SLACK_NS
            self.acts = {**self.acts, number: Pending(number, verb, app, target, case, self.ns, due)}
        return number

    def settle(self, number: int) -> Pending | None:
        """An act is out no longer."""
        found = self.acts.get(number)
        if found is not None:
            self.acts = {k: v for k, v in self.acts.items() if k != number}
        return found

    def decided(self, what: str, case: Case | None = None, app: str = "", *args: object) -> None:
        """A line for the journal and `explain`."""
        self._words.append(Decided(what, 0 if case is None else case.incident.number, app or ("" if case is None else case.incident.app), args))

    def recorded(self, case: Case) -> None:
        """Keep the recording of this case."""
        self._words.append(Recorded(case.incident.number))

    # -- the end of the turn

    def finish(self, wake_ns: int) -> tuple[State, tuple[Effect, ...]]:
        """The new state and all effects: acts first, then lines, then reports, then the wake."""
        reports = [Report(i) for i in self._reports()]
        effects = [*self._acts, *self._words, *reports]
        if wake_ns != self.state.wake_ns and wake_ns:
            effects.append(Wake(wake_ns))
        changes: dict[str, Any] = {
            "seed": self.seed, "boot": self.now.boot, "last_ns": self.ns, "policy": self.policy, "catalog": self.catalog, "box": self.box, "box_ns": self.box_ns, "apps": self.apps,
            "cases": self.cases, "acts": self.acts, "groups": self.groups, "ledger": self.ledger, "next_incident": self.next_incident,
            "next_act": self.next_act, "wake_ns": wake_ns, "paused_until_s": self.paused_until_s, "still_ns": self.still_ns,
            "closed": self.closed,
        }  # fmt: skip
        return replace(self.state, **changes), tuple(effects)

    def _reports(self) -> list[Incident]:
        """The revisions to tell; what is folded into another case is told by that one."""
        told = list(self._last)
        for number in self._told:
            case = self.cases[number]
            incident = case.incident
            if incident.state is IncidentState.RESOLVED:
                del self.cases[number]
            if case.parent:
                continue
            level, need = severity.of(case, self.apps.get(incident.app))
            incident = replace(incident, severity=level, need=need, revision=case.told + 1)
            told.append(incident)
            if incident.state is IncidentState.RESOLVED:
                self.closed = (*self.closed, incident)[-CLOSED_MOST:]
            else:
                self.cases[number] = replace(case, incident=incident, told=case.told + 1)
        return told
