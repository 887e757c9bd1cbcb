# SPDX-License-Identifier: Apache-2.0
"""What became of a remedy: seen done, failed, in doubt, cured - and what is learned from it.

Duty: probation, the end of cases, memory. What is tried next is `care`.
Invariants: done is what was seen (a new run, a fact read back), never that an order was taken; a symptom inside the probation fails the
remedy; a failed remedy moves up, never down; what made it worse is withdrawn.
"""

from edgeheal.core import reasons
from edgeheal.core.app_table import AppEvent
from edgeheal.core.effect import GRAVE, Verb
from edgeheal.core.incident import Evidence, Tried
from edgeheal.core.incident_table import IncidentEvent
from edgeheal.core.kinds import SENSOR_SYMPTOMS, CauseClass, EvidenceCode, ImageStatus, IncidentState, Outcome, RemedyKind, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.symptom import Symptom
from edgeheal.core.values import replace
from edgeheal.engine.turn import Turn
from edgeheal.recover.case import Case, ended, folded, moved, tried

R = RemedyKind
# remedies that are done when a new run of the app is seen
BY_RUN = frozenset({R.RESTART, R.CLEAN_RESTART, R.RESTART_GROUP, R.RESTORE_CONFIG, R.ROLLBACK})
# a repeat of these may help as long as the budget lasts: it passes or it does not
REPEATS = frozenset({R.RESTART})
REPEAT_CLASSES = frozenset({CauseClass.CRASH, CauseClass.HANG, CauseClass.EXTERNAL, CauseClass.CONFIGURATION})
# states in which only the slow retry acts
SLOW = frozenset({IncidentState.ESCALATED, IncidentState.AWAITING_APPROVAL})
SOON_S = 86_400
CALM_MOST_S = 600.0
WORSE_LEAST = 3
SOONER = 0.25
SETTLE_NS = 30 * NS
CANNOT_HARM = frozenset({R.RESTART, R.CLEAN_RESTART, R.RESTORE_CONFIG, R.ROLLBACK})
EVIDENCE_MOST = 3


def probation_ns(turn: Turn, case: Case, remedy: RemedyKind) -> int:
    """How long the symptom must stay gone; longer when it came back before (up to three times its last pause, at most 10 min)."""
    base = turn.policy.remedy(remedy).probation_s
    if case.incident.recurrence > 1:
        gone_s = turn.state.learned.back_after_s(case.incident.fingerprint, turn.now.box_s)
        if 0 <= gone_s < SOON_S:
            base = max(base, min(3.0 * (gone_s - (turn.ns - case.incident.opened_ns) / NS), CALM_MOST_S))
    return round(base * NS)


def calm(turn: Turn, case: Case) -> None:
    """No symptom is left: from now on it must stay so."""
    remedy = case.remedy if case.remedy is not None and case.remedy is not R.HOLD else R.LOOK_AGAIN
    wait_ns = case.wait_ns if case.incident.state in SLOW or case.remedy is R.HOLD else 0
    armed = case.armed if case.incident.state in SLOW else None
    calm_ns = min(probation_ns(turn, case, remedy), _own_pace_ns(turn, case))
    incident = case.incident
    if incident.symptom is SymptomKind.SENSOR_MISSING:  # the gap in its data ends here, not when it is believed
        incident = replace(incident, gap_ms=(turn.ns - incident.opened_ns) // 1_000_000 + incident.detect_ms)
    turn.keep(replace(case, incident=incident, verify_ns=turn.ns + calm_ns, wait_ns=wait_ns, armed=armed))


def _own_pace_ns(turn: Turn, case: Case) -> int:
    """A sensor that nothing was done about is judged at its own pace: a few periods, or what it may stand still."""
    metric = next((m for m in turn.spec(case.app).metrics if m.name == case.incident.subject), None)
    if metric is None or case.remedy is not None or not (metric.every_ms or metric.stuck_ms):
        return 3_600 * NS
    return max(3 * metric.every_ms, metric.stuck_ms) * 1_000_000


def carried(turn: Turn, case: Case) -> None:
    """The remedy was seen done."""
    if case.incident.state is IncidentState.ACTING:
        turn.decided("carried", case, case.app, int(case.remedy if case.remedy is not None else R.LOOK_AGAIN))
    turn.keep(moved(replace(case, act=0, act_due_ns=0), IncidentEvent.CARRIED))


def run_began(turn: Turn, app: str, by: int, image: str) -> None:
    """A new run of an app: remedies that are done by it are done."""
    for case in turn.cases_of(app):
        same_image = bool(image and image == case.left_image)
        if case.remedy in BY_RUN and not (case.remedy is R.ROLLBACK and same_image):
            carried(turn, replace(case, rolled_back=case.rolled_back or case.remedy is R.ROLLBACK))
        elif case.remedy is R.ROLLBACK:
            continue
        elif case.act:
            turn.keep(replace(case, act=0, act_due_ns=0))
        elif case.remedy is None and case.incident.state not in SLOW:
            turn.keep(replace(case, armed=None, wait_ns=0))
            turn.decided("started by", case, app, by)


def run_ready(turn: Turn, app: str, down_ns: int) -> None:
    """The run does its work: downtime is counted, probations begin."""
    gone_ms = (turn.ns - down_ns) // 1_000_000 if down_ns else 0
    for case in turn.cases_of(app):
        if any_life(case) and gone_ms:
            turn.keep(replace(case, incident=replace(case.incident, downtime_ms=case.incident.downtime_ms + gone_ms)))
        if case.has(SymptomKind.PORT_HELD):  # whether it got its port shows only if it stays up
            turn.keep(replace(turn.cases[case.number], verify_ns=turn.ns + probation_ns(turn, case, R.LOOK_AGAIN)))
        if case.remedy is None or case.remedy not in BY_RUN:
            continue
        if case.incident.state is IncidentState.ACTING:
            carried(turn, turn.cases[case.number])
        turn.keep(replace(turn.cases[case.number], verify_ns=turn.ns + probation_ns(turn, case, case.remedy)))


def any_life(case: Case) -> bool:
    """Whether the case is about the app's run (and so its downtime counts there)."""
    return case.incident.symptom not in SENSOR_SYMPTOMS


def again(turn: Turn, case: Case, symptom: Symptom) -> None:
    """A symptom under a remedy. While the act is out the old run may still show it; once seen done, it fails the remedy."""
    state = case.incident.state
    if state is IncidentState.VERIFYING and case.remedy is R.POWER_CYCLE and turn.ns - case.began_ns < SETTLE_NS and symptom.kind in SENSOR_SYMPTOMS:
        return  # what was switched off and on makes noise of its own; what stays fails at the end of the probation
    if state is IncidentState.VERIFYING and case.remedy is not None:
        failed(turn, case, refill=symptom)
        return
    if state is IncidentState.ACTING and symptom.serious and case.remedy is R.RELOAD and symptom.kind in (SymptomKind.EXIT, SymptomKind.OOM_KILL):
        failed(turn, case, refill=symptom)  # a reload that ended the app is a failed remedy, not a wanted stop
        return
    if state is IncidentState.ACTING and symptom.kind is SymptomKind.START_FAILED:
        failed(turn, case, reason=reasons.START_FAILED)
        return
    if state is IncidentState.ACTING and symptom.kind is SymptomKind.UNKILLABLE:
        failed(turn, case, reason=reasons.UNKILLABLE)
        return
    turn.keep(replace(case, verify_ns=0, act=0 if symptom.serious and case.remedy in (None, R.HOLD) else case.act))


def failed(turn: Turn, case: Case, *, reason: int = 0, refill: Symptom | None = None, outcome: Outcome = Outcome.FAILED) -> None:
    """The remedy did not help (or could not be used): remember, and open the way up."""
    remedy = case.remedy
    if remedy is None:
        turn.keep(moved(case, IncidentEvent.AGAIN))
        return
    incident = case.incident
    worse = outcome is Outcome.FAILED and refill is not None and _worse(turn, case, remedy, refill)
    case = ended(case, Outcome.WITHDRAWN if worse else outcome, turn.ns, reason)
    if outcome is Outcome.FAILED and case.cause_class is not CauseClass.EXTERNAL:
        turn.state.learned.outcome(incident.fingerprint, remedy, won=False, box_s=turn.now.box_s)
    if worse:
        turn.state.learned.withdraw(incident.fingerprint, remedy, turn.now.box_s)
        turn.decided("withdrawn", case, case.app, int(remedy))
    repeats = remedy in REPEATS and case.cause_class in REPEAT_CLASSES and outcome is Outcome.FAILED and not worse
    floor = max(case.floor, remedy if repeats else R(min(remedy + 1, R.CALL)))
    app = turn.apps.get(case.app)
    if app is not None and app.up and remedy in BY_RUN:
        turn.put(replace(app, fails=app.fails + 1))
    if refill is not None and case.began_ns:
        case = _refilled(turn, case, refill)
    turn.settle(case.act)
    turn.decided("failed", case, case.app, int(remedy), reason, int(floor))
    turn.keep(moved(replace(case, remedy=None, act=0, act_due_ns=0, verify_ns=0, wait_ns=0, floor=floor, armed=None), IncidentEvent.AGAIN))


def _refilled(turn: Turn, case: Case, symptom: Symptom) -> Case:
    """How fast it was back on the new run, kept as evidence."""
    app = turn.apps.get(case.app)
    since_ns = app.started_ns if app is not None and app.started_ns >= case.began_ns else case.began_ns
    if symptom.kind not in (SymptomKind.MEMORY_GROWTH, SymptomKind.MEMORY_LIMIT, SymptomKind.FD_GROWTH, SymptomKind.THREAD_GROWTH):
        return case
    fact = Evidence(EvidenceCode.REFILL_S, round((turn.ns - since_ns) / NS, 1))
    evidence = (fact, *(e for e in case.incident.evidence if e.code is not EvidenceCode.REFILL_S))[:EVIDENCE_MOST]
    return replace(case, incident=replace(case.incident, evidence=evidence))


def _worse(turn: Turn, case: Case, remedy: RemedyKind, symptom: Symptom) -> bool:
    """Did it get worse after us: back much sooner than it came by itself, again and again.

    Where the app does not do its work there is nothing to make worse by restarting it or by going back.
    """
    if not case.was_up or (symptom.serious and remedy in CANNOT_HARM):
        return False
    sooner = (turn.ns - case.began_ns) / NS < SOONER * case.before_s
    return turn.state.learned.was_back(case.incident.fingerprint, remedy, sooner=sooner) >= WORSE_LEAST


def came_back(turn: Turn, fingerprint: bytes) -> None:
    """It was resolved minutes ago and is here again: what was taken for its cure was none."""
    record = turn.state.learned.prints.get(fingerprint.hex())
    if record is not None and record.cured_by >= 0:
        turn.state.learned.outcome(fingerprint, R(record.cured_by), won=False, box_s=turn.now.box_s)


def resolved(turn: Turn, case: Case, *, event: IncidentEvent = IncidentEvent.HEALTHY) -> None:
    """The end of a case."""
    if event is IncidentEvent.HEALTHY and case.incident.state is IncidentState.ACTING:
        carried(turn, case)
        case = turn.cases[case.number]
    incident = case.incident
    cured = case.remedy if case.remedy is not None and case.remedy is not R.HOLD and event is IncidentEvent.HEALTHY else None
    if cured is not None:
        case = ended(case, Outcome.CURED, turn.ns)
        turn.state.learned.outcome(incident.fingerprint, cured, won=True, box_s=turn.now.box_s)
    else:
        case = ended(replace(case, remedy=None), Outcome.CURED if event is IncidentEvent.HEALTHY else Outcome.SKIPPED, turn.ns)
    turn.state.learned.closed(incident.fingerprint, turn.now.box_s, -1 if cured is None else int(cured))
    turn.settle(case.act)
    case = replace(case, incident=replace(case.incident, closed_ns=turn.ns, planned=None, planned_at_ns=0))
    case = moved(case, event)
    turn.decided("resolved", case, case.app, -1 if cured is None else int(cured))
    turn.keep(case, tell=True)
    turn.recorded(case)
    _told_parent(turn, case)
    if case.app and not any(c.signs for c in turn.cases_of(case.app) if c.number != case.number):
        turn.move(case.app, AppEvent.CLEAR) if (app := turn.apps.get(case.app)) is not None and app.ready else None


def _told_parent(turn: Turn, case: Case) -> None:
    """What was done for a folded app stands in the incident that speaks for it."""
    parent = turn.cases.get(case.parent)
    if parent is None:
        return
    for entry in case.incident.tried:
        parent = tried(parent, replace(entry, target=case.app))
    gone = max(parent.incident.downtime_ms, case.incident.downtime_ms)
    turn.keep(replace(parent, incident=replace(parent.incident, downtime_ms=gone)))


def act_ended(turn: Turn, number: int, *, ok: bool, reason: int, doubt: bool) -> None:
    """The answer to an act."""
    pending = turn.settle(number)
    if pending is None:
        return
    case = turn.cases.get(pending.case)
    if case is None or case.act != number:
        return
    case = turn.keep(replace(case, act=0, act_due_ns=0))
    if doubt:
        in_doubt(turn, case, pending.verb)
    elif not ok:
        refused(turn, case, reason)
    elif case.remedy is R.RESTORE_CONFIG and pending.verb is Verb.RESTORE_CONFIG:
        _start_after(turn, case)
    elif case.remedy is not None and (case.remedy not in BY_RUN or not case.app) and case.incident.state is IncidentState.ACTING:
        carried(turn, case)
        case = turn.cases[case.number]
        loop_ns = turn.state.senses.box.boots.loop_ns if case.incident.symptom is SymptomKind.BOOT_LOOP else 0  # stays up for so long, else it is back
        turn.keep(replace(case, verify_ns=max(turn.ns, loop_ns) + probation_ns(turn, case, case.remedy or R.LOOK_AGAIN)))
    elif case.incident.state is IncidentState.ACTING:
        app = turn.apps.get(case.app)
        wait_s = turn.policy.start_grace_s + turn.spec(case.app).start_ms / 1000
        if app is None or not app.up or app.started_ns < case.began_ns:
            turn.keep(replace(case, act_due_ns=turn.ns + round(wait_s * NS)))


def _start_after(turn: Turn, case: Case) -> None:
    """The config is back: the app is started with it."""
    app = turn.apps.get(case.app)
    verb = Verb.RESTART if app is not None and app.up else Verb.START
    seconds = turn.policy.start_grace_s + turn.spec(case.app).stop_ms / 1000
    number = turn.act(verb, case.app, "", case.number, seconds=seconds)
    turn.keep(replace(case, act=number, act_due_ns=turn.ns + round((seconds + 30) * NS)))


def in_doubt(turn: Turn, case: Case, verb: Verb) -> None:
    """Nobody knows whether it happened: the fact is asked for. A grave act is never repeated blindly; a light one is harmless to repeat."""
    grave = verb in GRAVE
    turn.decided("in doubt", case, case.app, int(case.remedy) if case.remedy is not None else -1)
    turn.act(Verb.LOOK, case.app, "", case.number, answered=False)
    case = ended(case, Outcome.IN_DOUBT, turn.ns, reasons.IN_DOUBT)
    wait_s = turn.policy.remedy(R.LOOK_AGAIN).probation_s if grave else turn.policy.backoff_first_s
    floor = max(case.floor, case.remedy or R.LOOK_AGAIN)
    barred = bar(case, case.remedy, reasons.IN_DOUBT) if grave else case.barred
    case = replace(case, remedy=None, act=0, act_due_ns=0, wait_ns=turn.ns + round(wait_s * NS), floor=floor, barred=barred)
    turn.keep(moved(case, IncidentEvent.AGAIN))


def never_came(turn: Turn, app: str) -> None:
    """The guard says that the app is down and nothing is under way: a start of ours that is still out did not reach it."""
    for case in turn.cases_of(app):
        pending = turn.acts.get(case.act)
        if pending is None or pending.verb is not Verb.START:
            continue
        turn.settle(case.act)
        turn.decided("never came", case, app, case.act)
        lost = unspent(turn, case)
        if lost.remedy in BY_RUN:
            lost = replace(ended(lost, Outcome.IN_DOUBT, turn.ns, reasons.IN_DOUBT), remedy=None)
        turn.keep(moved(replace(lost, act=0, act_due_ns=0, wait_ns=0), IncidentEvent.AGAIN))


def unspent(turn: Turn, case: Case) -> Case:
    """What was not carried out is given back to its budget."""
    if not case.spent:
        return case
    turn.ledger = turn.ledger.refund(case.spent[-1], 1)
    return replace(case, spent=case.spent[:-1])


def bar(case: Case, remedy: RemedyKind | None, reason: int) -> tuple[tuple[RemedyKind, int], ...]:
    """The rungs that may no longer be used, with this one."""
    if remedy is None:
        return case.barred
    return (*(b for b in case.barred if b[0] is not remedy), (remedy, reason))


# what somebody's no means for the remedy
WAITS = frozenset(
    {
        reasons.BUSY,
        reasons.APP_BUSY,
        reasons.NOT_NOW,
        reasons.LEFTOVERS,
        reasons.TIMEOUT,
        reasons.INTERLOCK,
        reasons.PAUSED,
        reasons.NOT_READY,
        reasons.NOT_RUNNING,
    }
)
FINE = frozenset({reasons.ALREADY, reasons.NOTHING_TO_DO})


def refused(turn: Turn, case: Case, reason: int) -> None:
    """Somebody said no to an act."""
    remedy = case.remedy
    if remedy is None or remedy is R.HOLD:
        return
    if reason in FINE and remedy in (R.RESTART, R.CLEAN_RESTART):
        turn.act(Verb.LOOK, case.app, "", case.number, answered=False)
        turn.keep(replace(case, act_due_ns=turn.ns + round(turn.policy.start_grace_s * NS)))
        return
    case = unspent(turn, case)
    if reason in WAITS:
        turn.decided("not now", case, case.app, int(remedy), reason)
        wait_s = min(turn.policy.backoff_cap_s, turn.policy.backoff_first_s * 2.0 ** min(case.holds, 20))
        case = replace(folded(ended(case, Outcome.REFUSED, turn.ns, reason)), remedy=None, wait_ns=turn.ns + round(wait_s * NS), holds=case.holds + 1)
        turn.keep(moved(case, IncidentEvent.AGAIN))
        return
    outcome = Outcome.FAILED if reason in (reasons.START_FAILED, reasons.EXIT_NONZERO, reasons.KILLED, reasons.HOOK) else Outcome.REFUSED
    turn.keep(replace(case, barred=bar(case, remedy, reason) if outcome is Outcome.REFUSED else case.barred))
    failed(turn, turn.cases[case.number], reason=reason, outcome=outcome)


def note_tried(turn: Turn, case: Case, remedy: RemedyKind, outcome: Outcome, reason: int) -> Case:
    """A line in what was tried that is over at once (skipped, would)."""
    last = next((t for t in reversed(case.incident.tried) if t.kind is remedy), None)
    if last is not None and last.outcome is outcome and last.reason == reason:
        return case
    return turn.keep(tried(case, Tried(remedy, outcome, 0.0, turn.ns, reason)))


def trial_failed(turn: Turn, app: str, image: str, back_to: str) -> None:
    """The guard judged a trial and went back (or had nowhere to go): its remedy is told as ours."""
    for case in turn.cases_of(app):
        if case.has(SymptomKind.TRIAL_FAILED):
            _went_back(turn, case, image, back_to)


def _went_back(turn: Turn, case: Case, image: str, back_to: str) -> None:
    app = case.app
    turn.settle(case.act)
    if case.remedy is not None and case.remedy is not R.ROLLBACK:
        case = ended(case, Outcome.FAILED, turn.ns)
    if case.remedy is not R.ROLLBACK:
        case = tried(case, Tried(R.ROLLBACK, Outcome.RUNNING, 0.0, turn.ns, 0, _version(turn, app, back_to) or back_to))
    incident = replace(case.incident, image=image, image_version=_version(turn, app, image) or case.incident.image_version, image_status=ImageStatus.BLOCKED)
    case = replace(
        case,
        incident=incident,
        remedy=R.ROLLBACK,
        act=0,
        act_due_ns=0,
        armed=None,
        began_ns=turn.ns,
        verify_ns=0,
        wait_ns=0,
        rolled_back=True,
        left_image=image,
    )
    if not back_to:
        case = ended(case, Outcome.REFUSED, turn.ns, reasons.LAST_GOOD)
        turn.keep(moved(replace(case, remedy=None, floor=R.CALL), IncidentEvent.AGAIN), tell=True)
        return
    case = moved(moved(case, IncidentEvent.AGAIN), IncidentEvent.ACT)
    wait_s = turn.policy.start_grace_s + turn.spec(app).start_ms / 1000
    turn.keep(replace(case, act_due_ns=turn.ns + round(wait_s * NS)), tell=True)
    found = turn.apps[app]
    if found.up and found.image == back_to:
        run_began(turn, app, 0, back_to)
        if found.ready:
            run_ready(turn, app, 0)


def _version(turn: Turn, app: str, image: str) -> str:
    return next((d.version for d in turn.apps[app].deployments if d.image == image), "")


def rebooted(turn: Turn, case: Case) -> None:
    """The reboot we ordered was seen done."""
    carried(turn, case)
    turn.keep(replace(turn.cases[case.number], verify_ns=turn.ns + probation_ns(turn, case, R.REBOOT)))
