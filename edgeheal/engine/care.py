# SPDX-License-Identifier: Apache-2.0
"""What is done about a case now: choose within budgets, witnesses, modes and approvals; wait; act; call a human.

Duty: one decision a case a turn. Ends of remedies are `outcome`.
Invariants: nothing is done while an act is out, a wait runs, or remedies are paused; a rung below the floor is never used; an app that no
signal ends is never started twice; "given up" is a slow retry for ever, with somebody told.
"""

from edgeheal.core import reasons
from edgeheal.core.app_table import AppEvent
from edgeheal.core.effect import GRAVE, Verb
from edgeheal.core.incident import Tried
from edgeheal.core.incident_table import IncidentEvent
from edgeheal.core.kinds import CauseKind, EvidenceCode, IncidentState, Mode, Outcome, RemedyKind, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.values import replace
from edgeheal.diagnose.topology import needed_by
from edgeheal.engine import loops, outcome, sensing
from edgeheal.engine.choice import ONCE, VERBS, image_key, key_of, mode_of, pick, stand_of, usable
from edgeheal.engine.notice import LIFE, SENSOR, diagnosed
from edgeheal.engine.state import Group
from edgeheal.engine.turn import Turn
from edgeheal.recover import budget
from edgeheal.recover import case as cases_
from edgeheal.recover.app import App
from edgeheal.recover.backoff import delay_s
from edgeheal.recover.case import TRIED_MOST, Case, ended, moved, tried
from edgeheal.recover.choose import holding, prior
from edgeheal.recover.ladder import HOOK_OF, hinders

R = RemedyKind
S = SymptomKind
GROWTH = frozenset({S.MEMORY_GROWTH, S.FD_GROWTH, S.THREAD_GROWTH, S.CHILD_GROWTH})
LEAD_S = 300.0  # a planned restart comes so long before the limit
STRONGER = frozenset({R.RESTORE_CONFIG, R.ROLLBACK, R.POWER_CYCLE, R.REBOOT, R.OS_ROLLBACK, R.SAFE_MODE})
_STARTS = frozenset({R.RESTART, R.CLEAN_RESTART})
_ENDS = frozenset({S.EXIT, S.OOM_KILL, S.START_FAILED, S.CRASH_LOOP})


def care(turn: Turn, number: int) -> None:
    """Do what is due for this case."""
    case = turn.cases[number]
    state = case.incident.state
    if case.act or case.wait_ns > turn.ns or not case.signs or state in (IncidentState.RESOLVED, IncidentState.VERIFYING, IncidentState.ACTING):
        return
    app = turn.apps.get(case.app) if case.app else None
    if app is not None and not app.wanted:
        outcome.resolved(turn, case, event=IncidentEvent.CLOSE)
        return
    if turn.paused(case.app):
        _until_resumed(turn, case, app)
        return
    if case.incident.symptom is S.BOOT_LOOP:
        _answer_loop(turn, case)
        return
    if app is not None and app.judging_ns > turn.ns:
        turn.keep(replace(case, wait_ns=app.judging_ns))
        return
    if app is not None and app.up and not app.ready and all(s.kind in _ENDS for s in case.signs):
        return  # somebody started it meanwhile: its being ready, its end or the end of its grace is an event
    if state in (IncidentState.ESCALATED, IncidentState.AWAITING_APPROVAL):
        _retry(turn, case, app)
        return
    if all(s.kind is S.FOREIGN_RESTARTS for s in case.signs):
        return  # it runs: somebody is told, nothing is done to it
    if number not in turn.fresh:
        case = diagnosed(turn, case)
    if _planned_later(turn, case):
        return
    if case.remedy is R.HOLD:
        if holding(case.incident.causes):
            _held(turn, case, app)
            return
        case = turn.keep(replace(ended(turn.cases[number], Outcome.CURED, turn.ns), remedy=None))
    remedy = case.armed if case.armed is not None and usable(turn, case, stand_of(turn, case, app), case.armed) else pick(turn, case, app)
    match remedy:
        case R.HOLD:
            _hold(turn, case, app)
        case R.CALL:
            escalate(turn, case)
        case _:
            _perform(turn, case, app, remedy)


def _answer_loop(turn: Turn, case: Case) -> None:
    """The box boots again and again: its own answers, never another reboot."""
    if case.incident.state is IncidentState.AWAITING_APPROVAL:
        turn.keep(replace(case, wait_ns=turn.ns + round(turn.policy.slow_retry_s * NS)))
        return
    case = diagnosed(turn, case) if case.number not in turn.fresh else turn.cases[case.number]
    remedy, app = loops.rung(turn, case)
    if remedy is not R.CALL:
        _perform(turn, case, app, remedy)
    elif case.incident.state is IncidentState.ESCALATED:
        turn.keep(replace(case, wait_ns=turn.ns + round(turn.policy.slow_retry_s * NS)))
    else:
        escalate(turn, case)


def _until_resumed(turn: Turn, case: Case, app: App | None) -> None:
    until_s = max(turn.paused_until_s, 0 if app is None else app.pause_until_s)
    turn.decided("paused", case, case.app, until_s)
    turn.keep(replace(case, wait_ns=turn.ns + max(1, until_s - turn.now.box_s) * NS))


def _planned_later(turn: Turn, case: Case) -> bool:
    """A growth far from its limit: the restart is planned for shortly before it."""
    if not case.signs or any(s.kind not in GROWTH for s in case.signs):
        return False
    hours = [e.value for s in case.signs for e in s.evidence if e.code is EvidenceCode.HOURS_TO_LIMIT]
    wait_s = min(hours) * 3600 - LEAD_S if hours else 0.0
    if wait_s <= 0 or case.armed is R.RESTART:
        return False
    at = turn.ns + round(wait_s * NS)
    turn.decided("planned", case, case.app, int(R.RESTART), round(wait_s))
    turn.keep(replace(case, wait_ns=at, armed=R.RESTART, incident=replace(case.incident, planned=R.RESTART, planned_at_ns=at)), tell=True)
    return True


# -- acting


def _perform(turn: Turn, case: Case, app: App | None, remedy: RemedyKind) -> None:
    case = turn.cases[case.number]
    mode = mode_of(turn, case, app, remedy)
    if mode is Mode.OBSERVE:
        _would(turn, case, remedy)
        return
    if mode is Mode.ASK:
        _ask(turn, case, remedy)
        return
    verb = _verb(remedy, app)
    if verb in GRAVE and app is not None and app.busy_ns > turn.ns:
        turn.keep(replace(case, wait_ns=app.busy_ns, armed=remedy))
        return
    wait_s = 0.0 if case.armed is remedy else _wait_s(turn, case, app, remedy)
    if wait_s > 0:
        at = turn.ns + round(wait_s * NS)
        turn.keep(replace(case, wait_ns=at, armed=remedy, incident=replace(case.incident, planned=remedy, planned_at_ns=at)))
        turn.decided("waits", case, case.app, int(remedy), round(wait_s, 3))
        if app is not None and not app.up:
            turn.move(case.app, AppEvent.WAIT)
        return
    _order(turn, case, app, remedy, verb)


def _wait_s(turn: Turn, case: Case, app: App | None, remedy: RemedyKind) -> float:
    """Back-off of a start, or the rest of the remedy's cool-down, jittered."""
    if remedy in _STARTS and app is not None:
        if app.up and turn.ns - app.started_ns >= turn.policy.healthy_s * NS:
            turn.put(replace(app, fails=1))
            return 0.0
        return delay_s(turn.policy, app.fails, turn.chance()) if app.fails > 1 else 0.0
    if remedy is R.POWER_CYCLE and case.signs and all(s.kind in SENSOR for s in case.signs):
        wait_s = sensing.patience_s(turn, case) - (turn.ns - case.incident.opened_ns) / NS
        if wait_s > 0:
            return wait_s  # late is not dead
    cool_s = turn.policy.remedy(remedy).cool_down_s
    uses = turn.ledger.spent.get(key_of(case, remedy), ())
    left = cool_s - (turn.now.box_s - uses[-1]) if cool_s > 0 and uses else 0.0
    return left + turn.chance() * cool_s if left > 0 else 0.0


def _verb(remedy: RemedyKind, app: App | None) -> Verb:
    if remedy in (R.RESTART, R.RESTART_GROUP) and app is not None and not app.up:
        return Verb.START
    if remedy is R.ROLLBACK and app is not None and app.in_trial:
        return Verb.GIVE_UP_TRIAL
    return VERBS[remedy]


def _order(turn: Turn, case: Case, app: App | None, remedy: RemedyKind, verb: Verb) -> None:
    name = case.app if app is None else app.name  # a loop of the box may be answered by an app's rollback
    spec = turn.spec(name)
    target = HOOK_OF.get(remedy, "")
    if remedy is R.POWER_CYCLE and (feed := sensing.power_of(turn, case)):
        target = f"{target}:{feed}"  # a number: the guard knows what it stands for
    if verb is Verb.GIVE_UP_TRIAL and app is not None:
        target = app.image
    seconds = spec.stop_ms / 1000 + max(turn.policy.start_grace_s, spec.start_ms / 1000)
    number = turn.act(verb, name, target, case.number, seconds=seconds)
    if case.cause_class not in budget.FREE:
        turn.ledger = turn.ledger.spend(key_of(case, remedy), turn.now.box_s, turn.policy.remedy(remedy).budgets)
        if remedy is R.ROLLBACK:
            turn.ledger = turn.ledger.spend(image_key(app), turn.now.box_s, ONCE)
    elif remedy is R.ROLLBACK:
        turn.ledger = turn.ledger.spend(image_key(app), turn.now.box_s, ONCE)
    charged = case.spent if case.cause_class in budget.FREE else (*case.spent, key_of(case, remedy))[-8:]
    back = app.other_good() if remedy is R.ROLLBACK and app is not None else None
    shown = target if back is None else back.version or target  # what it goes back to, as people know it
    done = (*case.incident.tried, Tried(remedy, Outcome.RUNNING, 0.0, turn.ns, 0, shown))[-TRIED_MOST:]
    incident = {"tried": done, "planned": None, "planned_at_ns": 0, "approval_until_s": 0}
    case = cases_.step(
        case, IncidentEvent.ACT, incident, remedy=remedy, armed=None, act=number, began_ns=turn.ns, act_due_ns=turn.ns + round((seconds + 30) * NS),
        verify_ns=0, wait_ns=0, was_up=app is None or app.up, left_image=app.image if app is not None else "", spent=charged,
    )  # fmt: skip
    turn.keep(case)
    turn.decided("act", case, case.app, int(remedy), number, target)
    if app is not None:
        turn.move(name, AppEvent.ACT)
    if remedy is R.RESTART_GROUP:
        turn.groups = (*turn.groups, Group(case.number, case.app, needed_by(case.app, turn.catalog)))[-8:]


def _would(turn: Turn, case: Case, remedy: RemedyKind) -> None:
    """Mode observe: the same decision, nothing done."""
    before = case.incident.tried
    case = outcome.note_tried(turn, case, remedy, Outcome.WOULD, reasons.MODE)
    at = turn.ns + round(turn.policy.slow_retry_s * NS)
    turn.decided("would", case, case.app, int(remedy))
    turn.keep(replace(case, wait_ns=at, armed=None), tell=case.incident.tried != before)


def _ask(turn: Turn, case: Case, remedy: RemedyKind) -> None:
    until_s = turn.now.box_s + round(turn.policy.approval_s)
    incident = replace(case.incident, planned=remedy, planned_at_ns=0, approval_until_s=until_s)
    wait_ns = turn.ns + round(turn.policy.slow_retry_s * NS)
    case = moved(replace(case, incident=incident, armed=remedy, wait_ns=wait_ns, remedy=None, verify_ns=0), IncidentEvent.ASK)
    turn.decided("asks", case, case.app, int(remedy), until_s)
    turn.keep(case, tell=True)


# -- holding and giving up


def _hold(turn: Turn, case: Case, app: App | None) -> None:
    """Nothing of ours helps: wait it out, look from time to time, spend nothing. What was spent on it before is given back."""
    case = turn.cases[case.number]
    for name in case.spent:
        turn.ledger = turn.ledger.refund(name, 1)
    case = tried(case, Tried(R.HOLD, Outcome.RUNNING, 0.0, turn.ns))
    case = replace(case, remedy=R.HOLD, armed=None, spent=(), holds=0)
    turn.decided("holds", case, case.app, int(case.incident.causes[0].kind))
    turn.keep(case, tell=True)
    _next_look(turn, case, app)


def _next_look(turn: Turn, case: Case, app: App | None) -> None:
    wait_s = delay_s(turn.policy, case.holds + 3, 0.5 + turn.chance() / 2)
    at = turn.ns + round(wait_s * NS)
    turn.keep(replace(case, wait_ns=at, holds=case.holds + 1, incident=replace(case.incident, planned=R.HOLD, planned_at_ns=at)))
    if app is not None and not app.up:
        turn.move(case.app, AppEvent.WAIT)


def _held(turn: Turn, case: Case, app: App | None) -> None:
    """A look while held: what is down is started once more, what runs is probed."""
    case = turn.cases[case.number]
    waits = any(c.kind is CauseKind.DEPENDENCY for c in case.incident.causes[:1])  # until what it needs is ready: that is an event
    if app is not None and case.incident.symptom in LIFE and not app.stuck and not waits:
        if app.up:
            turn.act(Verb.PROBE, case.app, "", case.number, answered=False)
        else:
            _start(turn, case, app)
            case = turn.cases[case.number]
    _next_look(turn, case, app)


def _start(turn: Turn, case: Case, app: App) -> None:
    """A start that spends nothing and moves no table of the incident."""
    verb = Verb.RESTART if app.up else Verb.START
    seconds = turn.policy.start_grace_s + turn.spec(case.app).stop_ms / 1000
    number = turn.act(verb, case.app, "", case.number, seconds=seconds)
    turn.keep(replace(case, act=number, act_due_ns=turn.ns + round((seconds + 30) * NS)))
    turn.move(case.app, AppEvent.ACT)
    turn.decided("retries", case, case.app, number)


def escalate(turn: Turn, case: Case) -> None:
    """The remedies are used up: a human is called, and a slow retry goes on for ever."""
    case = turn.cases[case.number]
    at = turn.ns + round(turn.policy.slow_retry_s * NS)
    incident = replace(case.incident, planned=R.RESTART if _retries(case, turn.apps.get(case.app)) else None, planned_at_ns=at, approval_until_s=0)
    case = moved(replace(case, incident=incident, remedy=None, armed=None, wait_ns=at, act=0, act_due_ns=0), IncidentEvent.GIVE_UP)
    turn.decided("called", case, case.app)
    turn.keep(case, tell=True)
    turn.recorded(case)
    app = turn.apps.get(case.app)
    if app is not None and not app.up:
        turn.move(case.app, AppEvent.WAIT)


def _retries(case: Case, app: App | None) -> bool:
    """Whether a slow restart can help at all."""
    if app is None or app.stuck or app.held or case.incident.symptom not in LIFE:
        return False
    return not app.up or prior(case.incident.causes, R.RESTART) >= 0.1


def _retry(turn: Turn, case: Case, app: App | None) -> None:
    """The slow retry of an escalated case, or of one that waits for approval."""
    at = turn.ns + round(turn.policy.slow_retry_s * NS)
    if case.incident.state is IncidentState.ESCALATED:
        remedy = pick(turn, diagnosed(turn, case), app)
        if remedy in STRONGER:  # a witness, a budget or an image that was missing is there now
            case = turn.keep(replace(turn.cases[case.number], wait_ns=at))
            _perform(turn, case, app, remedy)
            return
        case = turn.cases[case.number]
    if app is None or not _retries(case, app) or turn.policy.mode_of(case.app, R.RESTART) is not Mode.ACT:
        turn.keep(replace(case, wait_ns=at))
        return
    _start(turn, case, app)
    turn.keep(replace(turn.cases[case.number], wait_ns=at))


def group_ready(turn: Turn, app: str) -> None:
    """An app of a group is ready: the next dependent is restarted, once."""
    left = []
    for group in turn.groups:
        if group.waits != app or not group.then:
            if group.waits != app:
                left.append(group)
            continue
        then = [n for n in group.then if (a := turn.apps.get(n)) is not None and a.wanted and not a.stuck]
        if then:
            first = turn.apps[then[0]]
            turn.act(Verb.RESTART if first.up else Verb.START, first.name, "", group.case, answered=False)
            turn.decided("dependent", turn.cases.get(group.case), first.name)
            left.append(Group(group.case, first.name, tuple(then[1:])))
    turn.groups = tuple(left)


def approved(turn: Turn, case: Case, remedy: RemedyKind) -> None:
    """A person said yes: it is used now if it still can be, else he is told why not."""
    app = turn.apps.get(case.app) if case.app else None
    why = hinders(remedy, stand_of(turn, case, app))
    if why != reasons.OK:
        outcome.note_tried(turn, case, remedy, Outcome.REFUSED, why)
        escalate(turn, case)
        return
    turn.settle(case.act)
    _order(turn, replace(case, act=0), app, remedy, _verb(remedy, app))


def not_allowed(turn: Turn, case: Case) -> None:
    """Nobody said yes in time, or somebody said no: it is not asked again in this incident, and a human is called."""
    remedy = case.incident.planned
    case = turn.keep(replace(case, barred=outcome.bar(case, remedy, reasons.NEEDS_APPROVAL)))
    if remedy is not None:
        case = outcome.note_tried(turn, case, remedy, Outcome.REFUSED, reasons.NEEDS_APPROVAL)
    escalate(turn, case)
