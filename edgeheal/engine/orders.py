# SPDX-License-Identifier: Apache-2.0
"""Orders of people and commands that the guard accepted: wanted state, pause, approvals, planned updates.

Duty: take them into the state. Invariants: an order is never a failure; an approval names one incident and one remedy; a rejection
ends the question, not the care.
"""

from edgeheal.core.app_table import AppEvent
from edgeheal.core.ids import normalise, short_id
from edgeheal.core.incident_table import IncidentEvent
from edgeheal.core.kinds import ActionCode, By, ChangeKind, IncidentState
from edgeheal.core.signal import Ordered
from edgeheal.core.values import replace
from edgeheal.detect import senses as senses_
from edgeheal.engine import care, outcome
from edgeheal.engine.turn import Turn
from edgeheal.recover.app import App, changed
from edgeheal.recover.case import Case

A = ActionCode


def ordered(turn: Turn, s: Ordered) -> None:
    """One order."""
    turn.decided("ordered", None, s.app, s.action, s.arg[:64], s.by[:64])
    match s.action:
        case A.APPROVE | A.REJECT:
            _answer(turn, s)
        case A.PAUSE | A.RESUME:
            _pause(turn, s)
        case _:
            app = turn.app(s.app) if s.app else None
            if app is not None:
                _about(turn, app, s)


def _about(turn: Turn, app: App, s: Ordered) -> None:
    by = int(By.LOCAL if s.by in ("", "local") or s.order == "" else By.COMMAND)
    match s.action:
        case A.STOP:
            turn.put(replace(app, wanted=False, wanted_by=by, ordered_ns=0, down_ns=0))
            let_go(turn, app.name)
            if not app.up:
                turn.move(app.name, AppEvent.STOP)
        case A.START:
            turn.put(replace(app, wanted=True, wanted_by=by, ordered_ns=0 if app.up else turn.ns, fails=0))
        case A.RESTART:
            turn.put(replace(app, ordered_ns=0 if app.up else turn.ns, fails=0))
            _unarm(turn, app.name)
        case A.ROLLBACK | A.INSTALL:
            turn.put(changed(replace(app, fails=0), ChangeKind.IMAGE, turn.ns))
            _unarm(turn, app.name)
        case A.CONFIG:
            turn.put(changed(app, ChangeKind.CONFIG, turn.ns))


def let_go(turn: Turn, app: str) -> None:
    """A person stopped it: what was wrong with it is nobody's concern now."""
    for case in turn.cases_of(app):
        outcome.resolved(turn, case, event=IncidentEvent.CLOSE)
    senses_.stopped(turn.state.senses.of(app), app)


def _unarm(turn: Turn, app: str) -> None:
    """A person does it himself: what we had in mind for it is put off by one grace."""
    for case in turn.cases_of(app):
        if case.act == 0 and case.incident.state is not IncidentState.VERIFYING:
            turn.keep(replace(case, armed=None, wait_ns=turn.ns + round(turn.policy.start_grace_s * 1_000_000_000)))


def _pause(turn: Turn, s: Ordered) -> None:
    until_s = max(0, s.until_s) if s.action == A.PAUSE else 0
    if s.action == A.PAUSE and until_s <= turn.now.box_s:
        return
    names = [s.app] if s.app else list(turn.apps)
    if not s.app:
        turn.paused_until_s = until_s
    for name in names:
        app = turn.apps.get(name)
        if app is None:
            continue
        turn.put(replace(app, pause_until_s=until_s))
        if s.action == A.PAUSE:
            turn.move(name, AppEvent.PAUSE)
        else:
            resumed(turn, name)


def resumed(turn: Turn, name: str) -> None:
    """A pause is over: the app is what is seen of it, and its cases are looked at."""
    app = turn.move(name, AppEvent.RESUME)
    if app.up:
        turn.move(name, AppEvent.READY if app.ready else AppEvent.STARTED)
    elif app.wanted:
        turn.move(name, AppEvent.FAIL)
    for case in turn.cases_of(name):
        turn.keep(replace(case, wait_ns=min(case.wait_ns, turn.ns)))


def _answer(turn: Turn, s: Ordered) -> None:
    """Approve or reject the remedy that an incident asks for; `arg` its short id or number, "" the app's only one."""
    for case in list(turn.cases.values()):
        if case.incident.state is not IncidentState.AWAITING_APPROVAL or not _named(case, s):
            continue
        remedy = case.incident.planned
        if s.action == A.APPROVE and remedy is not None:
            allowed = turn.keep(replace(case, approved=(*case.approved, remedy), wait_ns=0))
            turn.decided("approved", allowed, case.app, int(remedy), s.by[:64])
            care.approved(turn, allowed, remedy)
        else:
            turn.decided("rejected", case, case.app, -1 if remedy is None else int(remedy), s.by[:64])
            care.not_allowed(turn, case)
        return
    turn.decided("nothing asked", None, s.app, s.arg[:64])


def _named(case: Case, s: Ordered) -> bool:
    if not s.arg:
        return bool(s.app) and case.app == s.app
    said = normalise(s.arg)
    return said == str(case.number) or (4 <= len(said) <= 6 and said == short_id(case.incident.session, case.number, len(said)))
