# SPDX-License-Identifier: Apache-2.0
"""How grave a case is and what it needs of people, in the words of the screens.

Duty: two tables and one rule. critical: an app is down or the box at risk and the remedies are used up; error: healed by rollback,
config restore or reboot, or an approval is needed; warning: healed by a restart, or heading for a limit; info: nothing lost.
"""

from edgeheal.core.kinds import CauseKind, IncidentState, Need, Outcome, RemedyKind, Severity, SymptomKind
from edgeheal.recover.app import App
from edgeheal.recover.case import Case

S, C = SymptomKind, CauseKind

# symptoms that lose nothing by themselves
INFO = frozenset({
    S.CARRIER, S.ADDRESS, S.ROUTE, S.DNS, S.BROKER, S.UNPLANNED_BOOT, S.STANDSTILL, S.CLOCK_STEP, S.CLOCK_UNTRUSTED, S.LOG_ERROR, S.BASELINE,
})  # fmt: skip
# symptoms that lose data or risk the box once nothing more can be done about them
GRAVE = frozenset({S.SENSOR_MISSING, S.DISK_READONLY, S.BOOT_LOOP, S.GUARD_LOST, S.UNKILLABLE, S.APP_HELD, S.TWIN, S.UNDERVOLTAGE})
HEAVY = frozenset({RemedyKind.RESTORE_CONFIG, RemedyKind.ROLLBACK, RemedyKind.POWER_CYCLE, RemedyKind.REBOOT, RemedyKind.OS_ROLLBACK, RemedyKind.SAFE_MODE})
VISIT = frozenset({C.SENSOR, C.BUS, C.SUPPLY, C.DISK_FAULT, C.DEVICE_IO, C.THERMAL})
# causes that are waited out without a word of a person
PATIENT = frozenset({C.NETWORK, C.BROKER, C.DEPENDENCY, C.HOST_LOAD, C.CLOCK, C.UNKNOWN})
_QUIET_NEED = frozenset({S.UNPLANNED_BOOT, S.STANDSTILL, S.CLOCK_STEP, S.WATCHDOG})


def top(case: Case) -> CauseKind:
    """The likeliest cause."""
    causes = case.incident.causes
    return causes[0].kind if causes else C.UNKNOWN


def need_of(case: Case) -> Need:
    """What it needs while nothing more is tried."""
    if case.incident.symptom in _QUIET_NEED:
        return Need.NOTHING
    return Need.VISIT if top(case) in VISIT else Need.LOOK


def of(case: Case, app: App | None) -> tuple[Severity, Need]:
    """(severity, need) of a case as it stands; `app` None for the box."""
    incident = case.incident
    info = incident.symptom in INFO and not any(s.serious for s in case.signs)
    down = app is not None and app.wanted and not app.ready
    done = {t.kind for t in incident.tried if t.outcome in (Outcome.CURED, Outcome.RUNNING)}
    match incident.state:
        case IncidentState.RESOLVED:
            if done & HEAVY:
                return Severity.ERROR, Need.NOTHING
            return (Severity.INFO if info else Severity.WARNING), Need.NOTHING
        case IncidentState.AWAITING_APPROVAL:
            return Severity.ERROR, Need.APPROVE
        case IncidentState.ESCALATED:
            if info:
                return Severity.INFO, need_of(case)
            grave = down or incident.symptom in GRAVE or any(s.serious and not s.app for s in case.signs)
            return (Severity.CRITICAL if grave else Severity.ERROR), need_of(case)
    if case.remedy is RemedyKind.HOLD and top(case) not in PATIENT:
        return (Severity.CRITICAL if down else Severity.WARNING), need_of(case)
    if info:
        return Severity.INFO, Need.NOTHING
    if case.has(S.FOREIGN_RESTARTS):
        return Severity.WARNING, Need.LOOK
    if any(s.serious and not s.app for s in case.signs):
        return Severity.CRITICAL, need_of(case)
    return (Severity.ERROR if done & HEAVY else Severity.WARNING), Need.NOTHING
