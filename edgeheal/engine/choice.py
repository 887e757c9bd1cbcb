# SPDX-License-Identifier: Apache-2.0
"""Which remedy now: what is usable within floor, bars, budgets, preconditions, witnesses and modes - and of those the least costly way up.

Duty: choose. What is then done is `care`. Invariants: a rung below the floor is never chosen; what evidence cannot carry to may be asked
of a person, never done; from a trial the way back is open, once.
"""

from edgeheal.core import reasons
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import CauseKind, Mode, Outcome, RemedyKind, SymptomKind
from edgeheal.core.policy import Budget
from edgeheal.diagnose.topology import needed_by
from edgeheal.engine import outcome
from edgeheal.engine.notice import SENSOR
from edgeheal.engine.turn import Turn
from edgeheal.recover import budget
from edgeheal.recover.app import App
from edgeheal.recover.case import Case
from edgeheal.recover.choose import P_LEAST, PRIOR_LEAST, Option, choose, holding, posterior, prior, priors
from edgeheal.recover.ladder import APP_WIDE, BOX_WIDE, CURES, Stand, hinders
from edgeheal.recover.witness import reach

R = RemedyKind
VERBS: dict[RemedyKind, Verb] = {
    R.LOOK_AGAIN: Verb.PROBE, R.RELOAD: Verb.RELOAD, R.RESTART: Verb.RESTART, R.CLEAN_RESTART: Verb.CLEAN_RESTART, R.RESTART_GROUP: Verb.RESTART,
    R.RESTORE_CONFIG: Verb.RESTORE_CONFIG, R.ROLLBACK: Verb.ROLLBACK, R.POWER_CYCLE: Verb.HOOK, R.REBOOT: Verb.REBOOT,
    R.OS_ROLLBACK: Verb.OS_ROLLBACK, R.SAFE_MODE: Verb.SAFE_MODE,
}  # fmt: skip
# conditions of the box that a peripheral's power may end; all others are waited out or need a person
BOX_CURABLE = frozenset({SymptomKind.MOUNT_HANG})
POWER_HELPS = frozenset({SymptomKind.SENSOR_MISSING, SymptomKind.SENSOR_STUCK, SymptomKind.SENSOR_DEFAULT})
BY_NEW_RUN = frozenset({R.RELOAD, R.RESTART, R.CLEAN_RESTART, R.RESTART_GROUP})
ASK_COST = 150.0
OF_APP = frozenset({k for k in CauseKind if k.name.startswith("APP_")})
SLOW = frozenset({R.LOOK_AGAIN, R.RELOAD})
SLOW_LEAST = 0.25  # these cost an app that does not work their whole probation: only where they are likely to be enough
ONCE = (Budget(1, 10 * 365 * 86_400),)


def stand_of(turn: Turn, case: Case, app: App | None) -> Stand:
    """What the ladder's preconditions look at."""
    dependents = needed_by(case.app, turn.catalog) if case.app else ()
    return Stand(app, turn.spec(case.app) if case.app else None, turn.policy, dependents, case.rolled_back)


def mode_of(turn: Turn, case: Case, app: App | None, remedy: RemedyKind) -> Mode:
    """How far this remedy may go for this case; a person's approval lifts `ask`."""
    name = case.app if app is None else app.name
    mode = turn.policy.mode_of(name, remedy)
    if remedy is R.ROLLBACK and app is not None and not app.in_trial and turn.spec(name).downgrade == "ask":
        mode = min(mode, Mode.ASK)
    return Mode.ACT if mode is Mode.ASK and remedy in case.approved else mode


def key_of(case: Case, remedy: RemedyKind) -> str:
    """The ledger's name of this remedy for this case."""
    return budget.key(case.app, case.cause_class, remedy)


def fits(turn: Turn, case: Case, app: App | None, remedy: RemedyKind) -> bool:
    """Whether the budgets leave one more use."""
    if case.cause_class in budget.FREE:
        return True
    box_s = turn.now.box_s
    free_s = turn.ledger.free_at_s(key_of(case, remedy), box_s, turn.policy.remedy(remedy).budgets)
    if free_s < 0 or free_s > box_s:
        return False
    return remedy is not R.ROLLBACK or turn.ledger.left(image_key(app), box_s, ONCE) > 0


def image_key(app: App | None) -> str:
    """The ledger's name of going back from what runs: once per image."""
    return f"image/{app.name}/{app.image}" if app is not None else "image"


def usable(turn: Turn, case: Case, stand: Stand, remedy: RemedyKind) -> bool:
    """Preconditions, budget, floor, bars, what was withdrawn; not the mode."""
    if remedy < case.floor or any(b[0] is remedy for b in case.barred) or not fits(turn, case, stand.app, remedy):
        return False
    if turn.state.learned.is_withdrawn(case.incident.fingerprint, remedy, turn.now.box_s):
        return False
    if remedy in BOX_WIDE:
        first = case.incident.causes[0].kind if case.incident.causes else CauseKind.UNKNOWN
        if remedy not in CURES[first]:
            return False
    return hinders(remedy, stand) == reasons.OK


def pick(turn: Turn, case: Case, app: App | None) -> RemedyKind:
    """The remedy to use now; HOLD to wait it out, CALL when nothing is left."""
    causes = case.incident.causes
    serious = any(s.serious for s in case.signs)
    if app is not None and app.in_trial and serious and app.other_good() is not None and not app.stuck and _usable_in_trial(case):
        return R.ROLLBACK
    if holding(causes):
        return R.HOLD
    if app is None and case.incident.symptom not in BOX_CURABLE and case.incident.symptom not in SENSOR:
        return R.CALL
    carries = reach(case.channels)
    stand = stand_of(turn, case, app)
    options = []
    helps = priors(causes)
    spared = _spared(case)
    for remedy in VERBS:
        if helps.get(remedy, 0.0) < PRIOR_LEAST or (spared and remedy in APP_WIDE) or (remedy is R.POWER_CYCLE and not _wakes(case)):
            continue
        if remedy in BY_NEW_RUN and all(s.kind is SymptomKind.SENSOR_SCALE for s in case.signs):
            continue  # no new run of the same image brings back a unit
        p = posterior(helps[remedy], *turn.state.learned.tries(case.incident.fingerprint, remedy))
        if p <= (SLOW_LEAST if remedy in SLOW else P_LEAST) or not usable(turn, case, stand, remedy):
            continue
        mode = mode_of(turn, case, app, remedy)
        if remedy > carries and mode is Mode.ACT:
            continue
        cost = float(turn.policy.remedy(remedy).cost) + (ASK_COST if mode is not Mode.ACT else 0.0)
        options.append(Option(remedy, cost, p))
    _skipped(turn, case, app)
    best = choose(tuple(options), float(turn.policy.remedy(R.CALL).cost))
    if best is None:
        return R.CALL
    turn.decided("chose", turn.cases[case.number], case.app, int(best.kind), round(best.p, 4), tuple((int(o.kind), round(o.p, 4)) for o in options))
    return best.kind


def _usable_in_trial(case: Case) -> bool:
    """From a trial the way back is always open, once."""
    return not case.rolled_back and not any(b[0] is R.ROLLBACK for b in case.barred)


def _wakes(case: Case) -> bool:
    """Whether taking its power may help: not a sensor that only reads wrongly."""
    return any(s.kind not in SENSOR or s.kind in POWER_HELPS for s in case.signs)


def _spared(case: Case) -> bool:
    """A sensor is wrong and nothing points to the app first: the app is left alone."""
    first = case.incident.causes[0].kind if case.incident.causes else CauseKind.UNKNOWN
    return all(s.kind in SENSOR for s in case.signs) and first not in OF_APP


def _skipped(turn: Turn, case: Case, app: App | None) -> None:
    """A restart is what everybody would try: where it cannot help, that is said once."""
    if app is None:
        return
    reason = reasons.UNKILLABLE if app.stuck else reasons.OK
    if reason or _spared(case) or prior(case.incident.causes, R.RESTART) < PRIOR_LEAST:
        for remedy in (R.RESTART, R.CLEAN_RESTART) if app.stuck else (R.RESTART,):
            outcome.note_tried(turn, turn.cases[case.number], remedy, Outcome.SKIPPED, reason)
