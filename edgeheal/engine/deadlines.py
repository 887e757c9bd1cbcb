# SPDX-License-Identifier: Apache-2.0
"""Time: deadlines of cases, acts, owed starts, approvals, pauses; standstills.

Duty: what becomes of a state by time alone, and when to be called next.
Invariants: a clock step stretches nothing (monotonic and box time only); after a standstill every deadline of others is armed anew, once;
an approval expires into a call for a human, never into acting.
"""

from edgeheal.core import reasons
from edgeheal.core.app_table import AppEvent
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import IncidentState, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.symptom import Symptom
from edgeheal.core.values import replace
from edgeheal.detect import probes
from edgeheal.detect.growth import suspected
from edgeheal.detect.senses import app_due, app_tick, box_due, box_tick
from edgeheal.engine import care, outcome
from edgeheal.engine.notice import notice
from edgeheal.engine.orders import resumed
from edgeheal.engine.turn import Turn
from edgeheal.recover.app import App
from edgeheal.recover.case import Case

OWED_NS = 5 * NS


def stood_still(turn: Turn, gap_ms: int) -> None:
    """Our own loop did not run: nobody is judged by what he did meanwhile."""
    turn.still_ns = turn.ns
    turn.decided("stood still", None, "", gap_ms)
    for senses in turn.state.senses.apps.values():
        probes.forgive(senses.probed)
    shift_ns = gap_ms * 1_000_000
    for case in list(turn.cases.values()):
        if case.act_due_ns:
            turn.keep(replace(case, act_due_ns=case.act_due_ns + shift_ns))
    for name, app in list(turn.apps.items()):
        if app.judging_ns or app.ordered_ns:
            turn.put(replace(app, judging_ns=app.judging_ns + shift_ns if app.judging_ns else 0, ordered_ns=turn.ns if app.ordered_ns else 0))
            turn.decided("armed anew", None, name)


def is_standstill(turn: Turn) -> int:
    """How late this turn is against the deadline asked for, in ms, if that is a standstill; else 0."""
    due = turn.state.wake_ns
    late_ms = (turn.ns - due) // 1_000_000 if due else 0
    return late_ms if late_ms >= turn.policy.thresholds.standstill_ms else 0


def tick(turn: Turn) -> None:
    """Everything that is due now."""
    senses = turn.state.senses
    if senses.due_ns and senses.due_ns <= turn.ns:
        _senses(turn)
    for name, app in list(turn.apps.items()):
        if app.ordered_ns and turn.ns >= app.ordered_ns + OWED_NS:
            _owed(turn, app)
        if app.pause_until_s and app.pause_until_s <= turn.now.box_s:
            turn.put(replace(turn.apps[name], pause_until_s=0))
            resumed(turn, name)
    if turn.paused_until_s and turn.paused_until_s <= turn.now.box_s:
        turn.paused_until_s = 0
    for number in list(turn.cases):
        _case(turn, number)
    _orphans(turn)


def _senses(turn: Turn) -> None:
    """Detectors whose silence became a symptom; then the exact next deadline."""
    senses = turn.state.senses
    found: list[Symptom] = []
    senses.due_ns = 0
    for name, memory in senses.apps.items():
        around = turn.around(name)
        due = app_due(memory, around)
        if due and due <= turn.ns:
            found += app_tick(memory, name, around)
            due = app_due(memory, around)
            due = max(due, turn.ns + NS // 10) if due else 0
        senses.sooner(due)
    box = turn.around("")
    found += box_tick(senses.box, box)
    senses.sooner(box_due(senses.box, box))
    for symptom in found:
        if symptom.app in turn.apps and symptom.serious and symptom.on:
            turn.move(symptom.app, AppEvent.FAIL)
        notice(turn, symptom)


def _owed(turn: Turn, app: App) -> None:
    """Wanted, ended by order, and not started again: the second half of a restart was lost. It is finished."""
    turn.put(replace(app, ordered_ns=0))
    if app.up or not app.wanted or app.held or any(c.act for c in turn.cases_of(app.name)):
        return
    turn.move(app.name, AppEvent.FAIL)
    notice(turn, Symptom(SymptomKind.RESTART_CUT, app.name, serious=True, run=app.run, detect_ms=OWED_NS // 1_000_000))
    turn.act(Verb.START, app.name, "", 0, seconds=turn.policy.start_grace_s)


def _case(turn: Turn, number: int) -> None:
    case = turn.cases[number]
    if not case.open:
        return
    if case.act_due_ns and turn.ns >= case.act_due_ns:
        _silent(turn, case)
        case = turn.cases[number]
    if case.incident.approval_until_s and case.incident.approval_until_s <= turn.now.box_s and case.incident.state is IncidentState.AWAITING_APPROVAL:
        turn.decided("expired", case, case.app, -1 if case.incident.planned is None else int(case.incident.planned))
        care.not_allowed(turn, case)
        case = turn.cases[number]
    if case.verify_ns and turn.ns >= case.verify_ns:
        if all(s.kind is SymptomKind.PORT_HELD for s in case.signs):
            _verified(turn, turn.keep(replace(case, signs=())))
        elif case.incident.state is IncidentState.VERIFYING:
            outcome.failed(turn, case)  # it never went


def _verified(turn: Turn, case: Case) -> None:
    """The probation is over: healthy, or not ready yet and looked at once more."""
    app = turn.apps.get(case.app) if case.app else None
    if app is not None and app.wanted and app.known and not app.ready and not app.removed:
        turn.keep(replace(case, verify_ns=turn.ns + round(turn.policy.remedy(outcome.R.LOOK_AGAIN).probation_s * NS)))
        return
    if any(c.parent == case.number and c.open for c in turn.cases.values()):
        turn.keep(replace(case, verify_ns=turn.ns + 5 * NS))
        return
    outcome.resolved(turn, case)


def _silent(turn: Turn, case: Case) -> None:
    """An act without an answer, or an answer without the fact: the present decides."""
    turn.settle(case.act)
    case = turn.keep(replace(case, act=0, act_due_ns=0))
    app = turn.apps.get(case.app) if case.app else None
    if case.incident.state is not IncidentState.ACTING:
        return
    turn.act(Verb.LOOK, case.app, "", case.number, answered=False)
    if app is not None and app.ready and app.started_ns >= case.began_ns:
        outcome.carried(turn, case)
        turn.keep(replace(turn.cases[case.number], verify_ns=turn.ns + outcome.probation_ns(turn, case, case.remedy or outcome.R.LOOK_AGAIN)))
        return
    outcome.failed(turn, case, reason=reasons.TIMEOUT)


def _orphans(turn: Turn) -> None:
    """Acts whose case is gone, or that nobody answered for long."""
    gone = [n for n, p in turn.acts.items() if turn.ns >= p.due_ns and (turn.cases.get(p.case) is None or turn.cases[p.case].act != n)]
    for number in gone:
        turn.settle(number)


def follow(turn: Turn, app: str) -> None:
    """Closer looks at an app while a growth of it is suspected, or a case is open about what it uses."""
    memory = turn.state.senses.apps.get(app)
    if memory is None or app not in turn.apps:
        return
    wanted = suspected(memory.grown) or any(c.has(SymptomKind.MEMORY_LIMIT) or c.has(SymptomKind.MEMORY_GROWTH) for c in turn.cases_of(app))
    if wanted is not memory.followed:
        memory.followed = wanted
        turn.act(Verb.FOLLOW, app, "on" if wanted else "off", answered=False)


def next_wake(turn: Turn) -> int:
    """The first deadline of anything, monotonic ns; 0 = none."""
    dues = [turn.state.senses.due_ns]
    for case in turn.cases.values():
        dues += (
            case.act_due_ns,
            case.verify_ns if all(s.kind is SymptomKind.PORT_HELD for s in case.signs) or case.incident.state is IncidentState.VERIFYING else 0,
        )
        if case.signs and not case.act and case.incident.state not in (IncidentState.VERIFYING, IncidentState.ACTING):
            dues.append(case.wait_ns)
        if case.incident.approval_until_s:
            dues.append(turn.ns + max(1, case.incident.approval_until_s - turn.now.box_s) * NS)
    for app in turn.apps.values():
        if app.ordered_ns:
            dues.append(app.ordered_ns + OWED_NS)
        if app.pause_until_s > turn.now.box_s:
            dues.append(turn.ns + (app.pause_until_s - turn.now.box_s) * NS)
    if turn.paused_until_s > turn.now.box_s:
        dues.append(turn.ns + (turn.paused_until_s - turn.now.box_s) * NS)
    dues += (p.due_ns for p in turn.acts.values())
    return min((d for d in dues if d), default=0)
