# SPDX-License-Identifier: Apache-2.0
"""From symptoms to cases: one open case per trouble, symptoms that belong together in it, cases with one cause folded into one.

Duty: open, add, end, fold. What is done about a case is `care`.
Invariants: an app has at most one case about its life; a sensor one of its own; the box one per condition. A symptom that comes back
under a remedy fails that remedy. The end of a condition is an event.
"""

from edgeheal.core.deployment import BAD, GOOD, TRIAL
from edgeheal.core.incident import Evidence, Incident
from edgeheal.core.incident_table import IncidentEvent
from edgeheal.core.kinds import (
    CLASS_OF,
    SENSOR_SYMPTOMS,
    CauseKind,
    ChangeKind,
    Channel,
    EvidenceCode,
    ImageStatus,
    IncidentState,
    Need,
    RemedyKind,
    Severity,
    SymptomKind,
)
from edgeheal.core.now import NS
from edgeheal.core.symptom import Symptom
from edgeheal.core.values import replace
from edgeheal.detect import exits, lines
from edgeheal.diagnose.fingerprint import fingerprint
from edgeheal.diagnose.rank import rank
from edgeheal.engine import look, outcome, sensing
from edgeheal.engine.turn import CASES_MOST, Turn
from edgeheal.recover import case as cases_
from edgeheal.recover.case import Case

S, C = SymptomKind, CauseKind

LIFE = frozenset({
    S.EXIT, S.CRASH_LOOP, S.HANG, S.START_FAILED, S.START_SLOW, S.PROBE_FAILED, S.OOM_KILL, S.APP_HELD, S.UNKILLABLE, S.PORT_HELD, S.TRIAL_FAILED,
    S.MEMORY_GROWTH, S.MEMORY_LIMIT, S.FD_GROWTH, S.THREAD_GROWTH, S.CHILD_GROWTH, S.FOREIGN_RESTARTS, S.CPU_SPIN, S.ZOMBIES, S.RESTART_CUT,
})  # fmt: skip
USES = frozenset({S.MEMORY_GROWTH, S.MEMORY_LIMIT, S.FD_GROWTH, S.THREAD_GROWTH, S.CHILD_GROWTH})
FAILED = frozenset({S.EXIT, S.CRASH_LOOP, S.HANG, S.START_FAILED, S.PROBE_FAILED, S.OOM_KILL})  # the app does not do its work, by its own looks
SENSOR = SENSOR_SYMPTOMS
# a condition of the box -> the cause that apps inherit from it
PARENT: dict[SymptomKind, CauseKind] = {
    S.UNDERVOLTAGE: C.SUPPLY, S.DISK_SPACE: C.DISK_FULL, S.DISK_INODES: C.DISK_FULL, S.DISK_READONLY: C.DISK_FAULT, S.DISK_ERRORS: C.DISK_FAULT,
    S.HOST_MEMORY: C.HOST_MEMORY, S.TEMPERATURE: C.THERMAL, S.CARRIER: C.NETWORK, S.ADDRESS: C.NETWORK, S.ROUTE: C.NETWORK, S.DNS: C.NETWORK,
}  # fmt: skip
# symptoms that happened and are over: nothing will say that they end
PASSING = frozenset({
    S.UNPLANNED_BOOT, S.WATCHDOG, S.DISK_ERRORS, S.USB_RESET, S.RECORD_DAMAGED, S.IMAGE_DIFFERS, S.IMAGE_ROT, S.RESTART_CUT, S.STANDSTILL, S.KERNEL_FAULT,
    S.HARDWARE_ERROR, S.CLOCK_STEP,
})  # fmt: skip
_PASSING_SELF = frozenset({"fault", "too large", "budget", "dropped"})
SIGNS_MOST, ONSETS_MOST, EVIDENCE_MOST, ALSO_MOST = 32, 64, 3, 16
FRAMES_NS = 3 * NS
SOON_S = 600


def notice(turn: Turn, symptom: Symptom) -> None:
    """Take in one symptom."""
    if not symptom.on:
        _ended(turn, symptom)
        return
    case = _home(turn, symptom)
    if case is None:
        if len(turn.cases) >= CASES_MOST:
            turn.decided("too many", None, symptom.app, int(symptom.kind))
            return
        open_case(turn, symptom)
    else:
        _add(turn, case, symptom)


def _home(turn: Turn, symptom: Symptom) -> Case | None:
    """The open case that this symptom belongs to."""
    for case in turn.cases.values():
        incident = case.incident
        if incident.app != symptom.app or not case.open:
            continue
        if symptom.kind in SENSOR:
            if sensing.belongs(turn, case, symptom.app, symptom.kind, symptom.subject):
                return case
        elif symptom.app == "":
            if incident.symptom is symptom.kind and incident.subject == symptom.subject:
                return case
        elif symptom.kind in LIFE:
            if incident.symptom in LIFE:
                return case
        elif incident.symptom is symptom.kind and incident.subject == symptom.subject:
            return case
    return None


def _print(turn: Turn, symptom: Symptom) -> tuple[bytes, tuple[str, ...]]:
    """Fingerprint of a symptom, and the frames of the crash if its log told them just now."""
    frames = symptom.frames
    if symptom.app and not frames:
        log = turn.state.senses.of(symptom.app).log
        if log.frames_ns and turn.ns - log.frames_ns < FRAMES_NS and symptom.kind in (S.EXIT, S.OOM_KILL):
            frames = log.frames
    component = f"{symptom.app}:{symptom.subject}" if symptom.subject and symptom.kind is not S.PORT_HELD else symptom.app
    return fingerprint(int(symptom.kind), component, symptom.detail, frames), frames


def _status(turn: Turn, app: str) -> ImageStatus:
    found = turn.apps.get(app)
    if found is None or not found.image:
        return ImageStatus.NONE
    return {GOOD: ImageStatus.GOOD, TRIAL: ImageStatus.TRIAL, BAD: ImageStatus.BLOCKED}.get(found.image_state, ImageStatus.UNKNOWN)


def open_case(turn: Turn, symptom: Symptom) -> Case:
    """A new incident."""
    number = turn.next_incident
    turn.next_incident += 1
    printed, frames = _print(turn, symptom)
    box_s = turn.now.box_s
    learned = turn.state.learned
    app = turn.apps.get(symptom.app)
    again_s = learned.back_after_s(printed, box_s)
    if 0 <= again_s < SOON_S:
        outcome.came_back(turn, printed)
    age_s = (turn.ns - app.change_ns) / NS if app is not None and app.change_ns else 0.0
    incident = Incident(
        number, symptom.app, symptom.kind, IncidentState.OPEN, Severity.WARNING, Need.NOTHING, turn.policy.mode_of(symptom.app, RemedyKind.RESTART),
        printed, turn.ns, turn.now.wall_s, box_s, turn.now.trusted, subject=symptom.subject, detect_ms=max(0, symptom.detect_ms),
        evidence=symptom.evidence[:EVIDENCE_MOST], recurrence=learned.came(printed, box_s),
        change=app.change if app is not None else ChangeKind.NONE, change_before_s=round(age_s), image=app.image if app is not None else "",
        image_version=app.version if app is not None else "", image_status=_status(turn, symptom.app), session=turn.state.session,
    )  # fmt: skip
    case = Case(
        incident,
        (symptom,),
        (symptom.channel,),
        symptom.run,
        onsets=(turn.ns,),
        detail=symptom.detail,
        frames=frames,
        before_s=_well_s(turn, symptom.app, again_s),
    )
    turn.decided("opened", case, symptom.app, int(symptom.kind), symptom.subject, printed)
    turn.recorded(case)
    case = diagnosed(turn, case)
    turn.keep(case, tell=True)
    if _passes(symptom):
        case = turn.keep(replace(case, signs=()))
        outcome.calm(turn, case)
    elif symptom.app == "" and symptom.kind not in SENSOR:
        _adopt(turn, case)
    else:
        _fold(turn, case)
    return case


def _well_s(turn: Turn, name: str, again_s: int) -> float:
    """How long all was well: since the run was ready, or since the same trouble was resolved."""
    app = turn.apps.get(name)
    run_s = turn.ns / NS if app is None else (turn.ns - app.ready_ns) / NS if app.ready_ns else 0.0
    return min(run_s, float(again_s)) if again_s >= 0 else run_s


def _passes(symptom: Symptom) -> bool:
    return symptom.kind in PASSING or (symptom.kind is S.AGENT_SELF and symptom.detail in _PASSING_SELF)


def diagnosed(turn: Turn, case: Case) -> Case:
    """The case with its causes ranked as of now. A new first cause is told."""
    turn.fresh.add(case.number)
    causes = rank(look.of_case(turn, case))
    incident = case.incident
    before = incident.causes[0].kind if incident.causes else None
    first = causes[0] if causes else None
    klass = CLASS_OF[first.kind if first is not None else C.UNKNOWN]
    case = cases_.step(case, IncidentEvent.DIAGNOSED, {"causes": causes}, cause_class=klass)
    if first is not None and first.kind is not before:
        turn.decided("cause", case, case.app, int(first.kind), first.probability, first.subject)
        turn.keep(case, tell=before is not None)
        if before is not None and case.app and not case.parent:
            _fold(turn, case)
            case = turn.cases[case.number]
    else:
        turn.keep(case)
    return case


def _add(turn: Turn, case: Case, symptom: Symptom) -> None:
    """One more symptom of a case that is open."""
    signs = (*(s for s in case.signs if s.key != symptom.key), symptom)[-SIGNS_MOST:]
    new_witness = symptom.channel not in case.channels
    channels = (*case.channels, symptom.channel) if new_witness else case.channels
    if symptom.kind in USES and case.armed is RemedyKind.RESTART and case.remedy is None:
        case = replace(case, wait_ns=0, armed=None)  # it comes to its limit sooner than was planned for, or is there
    if new_witness and case.incident.state is IncidentState.ESCALATED:
        case = replace(case, wait_ns=0)  # what was not allowed before may be now
    case = replace(case, signs=() if _passes(symptom) else signs, channels=channels, onsets=(*case.onsets, turn.ns)[-ONSETS_MOST:], run=symptom.run or case.run)
    incident = case.incident
    best = look.telling(case) if case.signs else symptom
    raised = look.tells_more(best.kind, incident.symptom)
    evidence = (best.evidence + tuple(e for e in incident.evidence if all(e.code is not b.code for b in best.evidence)))[:EVIDENCE_MOST]
    case = replace(case, incident=replace(incident, symptom=best.kind if raised else incident.symptom, evidence=evidence))
    graver = symptom.app == "" and symptom.serious
    apart = _apart(turn, case, symptom)
    if apart:
        turn.decided("apart", case, case.app, case.parent)
        case = replace(case, parent=0)
    turn.keep(case, tell=raised or graver or apart)
    turn.fresh.discard(case.number)
    if raised:
        turn.decided("also", case, case.app, int(symptom.kind), symptom.subject)
    outcome.again(turn, case, symptom)
    if _passes(symptom):
        outcome.calm(turn, turn.cases[case.number])
    elif turn.cases[case.number].incident.state in outcome.SLOW or turn.cases[case.number].remedy is RemedyKind.HOLD:
        _thought_over(turn, turn.cases[case.number])


def _thought_over(turn: Turn, case: Case) -> None:
    """A case that waits for a person, for its slow retry, or for something to pass, has one more symptom: who is to blame now, and is there an answer to that?"""
    before = case.incident.causes[:1]
    case = diagnosed(turn, case)
    if before and case.incident.causes and before[0].kind is not case.incident.causes[0].kind and case.incident.state is IncidentState.ESCALATED:
        turn.keep(replace(case, wait_ns=0))


def _apart(turn: Turn, case: Case, symptom: Symptom) -> bool:
    """Whether a folded case speaks for itself again: nobody speaks for it any more, or it fails alone, long after those it had failed with."""
    parent = turn.cases.get(case.parent)
    if not case.parent or symptom.kind not in FAILED:
        return False
    if parent is None or not parent.open:
        return True
    first = case.incident.causes[0] if case.incident.causes else None
    needs = first is not None and first.kind is C.DEPENDENCY and first.subject == parent.app
    return parent.app != "" and not needs and turn.ns - parent.incident.opened_ns > round(turn.policy.group_window_s * NS)


def _ended(turn: Turn, symptom: Symptom) -> None:
    """A condition is over."""
    for case in list(turn.cases.values()):
        if case.app != symptom.app or not any(s.key == symptom.key for s in case.signs):
            continue
        left = turn.keep(replace(case, signs=tuple(s for s in case.signs if s.key != symptom.key)))
        turn.decided("ended", left, left.app, int(symptom.kind), symptom.subject)
        if not left.signs:
            outcome.calm(turn, left)
        if symptom.app == "" and symptom.kind in PARENT:
            release(turn, PARENT[symptom.kind])


def release(turn: Turn, cause: CauseKind, subject: str = "") -> None:
    """What held cases back is over: each is looked at once more, at once."""
    for case in list(turn.cases.values()):
        causes = case.incident.causes
        if case.remedy is RemedyKind.HOLD and causes and causes[0].kind is cause and (not subject or causes[0].subject == subject):
            turn.decided("released", case, case.app, int(cause))
            turn.keep(replace(case, wait_ns=0, holds=0))
            app = turn.apps.get(case.app)
            if app is not None:
                turn.put(replace(app, fails=0))  # what it failed of was not its own: the next start is at once


# -- folding


def _fold(turn: Turn, case: Case) -> None:
    """Into the box's case that explains it, into that of an app it needs, or into the first of many that failed at once."""
    first = case.incident.causes[0] if case.incident.causes else None
    if case.incident.symptom in SENSOR:
        _fold_line(turn, case)
        return
    if first is None or case.incident.symptom not in LIFE:
        return
    for other in turn.cases.values():
        if other.number == case.number or other.parent or not other.open:
            continue
        if other.app == "" and PARENT.get(other.incident.symptom) is first.kind:
            join(turn, case, other)
            return
        if first.kind is C.DEPENDENCY and other.app == first.subject and other.incident.symptom in LIFE:
            join(turn, case, other)
            return
    _fold_many(turn, case)


def _fold_line(turn: Turn, case: Case) -> None:
    """A sensor whose line is away or held: the line's case speaks for it."""
    line = sensing.line_of(turn, case.app, case.incident.subject)
    if not line or not sensing.line_down(turn, line):
        return
    for other in turn.cases.values():
        if other.number != case.number and other.app == "" and not other.parent and any(s.subject == lines.PART + line for s in other.signs):
            join(turn, case, other)
            return


def _fold_many(turn: Turn, case: Case) -> None:
    """The third app that fails in the same window: one incident, the first's."""
    window_ns = round(turn.policy.group_window_s * NS)
    recent = [
        c for c in turn.cases.values()
        if c.app and c.app != case.app and c.incident.symptom in FAILED and turn.ns - c.incident.opened_ns <= window_ns
    ]  # fmt: skip
    if case.incident.symptom not in FAILED or len({c.app for c in recent}) < 2:
        return
    first = min(recent, key=lambda c: c.number)
    head = turn.cases.get(first.parent, first)
    for child in (*(c for c in recent if c.number != head.number and not c.parent), case):
        join(turn, turn.cases[child.number], turn.cases[head.number])


def _adopt(turn: Turn, parent: Case) -> None:
    """A condition of the box explains what apps began to suffer just before."""
    cause = PARENT.get(parent.incident.symptom)
    if cause is None:
        return
    window_ns = round(turn.policy.group_window_s * NS)
    for case in list(turn.cases.values()):
        if not case.app or case.parent or case.incident.symptom not in LIFE or turn.ns - case.incident.opened_ns > window_ns:
            continue
        again = diagnosed(turn, case)
        causes = again.incident.causes
        if causes and causes[0].kind is cause and not again.parent:
            join(turn, again, turn.cases[parent.number])


def join(turn: Turn, child: Case, parent: Case) -> None:
    """From now on the parent speaks for the child, and for whom the child spoke; they are still cared for."""
    also = tuple(sorted({*parent.incident.also, *child.incident.also, child.app} - {parent.app}))[:ALSO_MOST]
    fact = Evidence(EvidenceCode.SAME_TIME_APPS, len(also) + (1 if parent.app else 0))
    evidence = (*(e for e in parent.incident.evidence if e.code is not fact.code), fact)[-EVIDENCE_MOST:] if fact.value > 1 else parent.incident.evidence
    parent = turn.keep(replace(parent, incident=replace(parent.incident, also=also, evidence=evidence)), tell=True)
    turn.decided("folded", child, child.app, parent.number)
    turn.keep(replace(child, parent=parent.number))
    if child.told >= 0 and not child.parent:
        turn.last_word(child, parent)
    for other in [c for c in turn.cases.values() if c.parent == child.number]:
        turn.keep(replace(other, parent=parent.number))


def frames_came(turn: Turn, app: str, frames: tuple[str, ...]) -> None:
    """The log told the frames of a crash after its exit was noticed: the fingerprint is revised."""
    for case in list(turn.cases.values()):
        if case.app == app and not case.frames and case.incident.symptom is S.EXIT and turn.ns - case.incident.opened_ns < FRAMES_NS:
            printed = fingerprint(int(S.EXIT), app, case.detail, frames)
            turn.state.learned.came(printed, turn.now.box_s)
            turn.keep(replace(case, frames=frames, incident=replace(case.incident, fingerprint=printed)), tell=True)
            turn.decided("fingerprint", case, app, printed)


def killed_for_memory(turn: Turn, app: str) -> None:
    """The kernel told after the end that it was for memory: symptom, evidence, fingerprint and causes are revised."""
    fact = Evidence(EvidenceCode.OOM)
    for case in turn.cases_of(app):
        incident = case.incident
        if incident.symptom is not S.EXIT or not case.onsets or turn.ns - case.onsets[-1] > exits.OOM_NS:
            continue
        sign = Symptom(S.OOM_KILL, app, channel=Channel.KERNEL, evidence=(fact,), run=case.run, detail="oom", serious=True)
        printed = fingerprint(int(S.OOM_KILL), app, sign.detail, case.frames)
        turn.state.learned.came(printed, turn.now.box_s)
        incident = replace(incident, symptom=S.OOM_KILL, evidence=(fact, *incident.evidence)[:EVIDENCE_MOST], fingerprint=printed)
        channels = case.channels if Channel.KERNEL in case.channels else (*case.channels, Channel.KERNEL)
        signs = tuple(sign if s.kind is S.EXIT else s for s in case.signs)
        turn.keep(replace(case, incident=incident, signs=signs, channels=channels, detail=sign.detail), tell=True)
        turn.decided("fingerprint", case, app, printed)
        diagnosed(turn, turn.cases[case.number])
