# SPDX-License-Identifier: Apache-2.0
"""A boot loop: which answer comes next.

Duty: choose among rollback of the app with the youngest image, the OS hook, safe mode. Carrying it out is `care`'s.
Invariants: never a reboot; an answer that was given in this loop is not given again, whoever remembers it (the guard does, durably); a box that loses
its power is not answered at all: a person must look at the supply.
"""

from collections.abc import Iterator

from edgeheal.core import reasons
from edgeheal.core.kinds import CauseKind, Mode, RemedyKind
from edgeheal.engine.choice import fits
from edgeheal.engine.turn import Turn
from edgeheal.recover.app import App
from edgeheal.recover.case import Case
from edgeheal.recover.ladder import Stand, hinders

R = RemedyKind
_ANSWER = {R.ROLLBACK: 1, R.OS_ROLLBACK: 2, R.SAFE_MODE: 4}  # as the guard counts them
SUPPLY = frozenset({CauseKind.POWER_LOSS, CauseKind.SUPPLY})


def rung(turn: Turn, case: Case) -> tuple[RemedyKind, App | None]:
    """The next answer and the app it is about; CALL when there is none."""
    causes = case.incident.causes
    if causes and causes[0].kind in SUPPLY:
        return R.CALL, None
    return next(_open(turn, case), (R.CALL, None))


def _open(turn: Turn, case: Case) -> Iterator[tuple[RemedyKind, App | None]]:
    boots = turn.state.senses.box.boots
    for remedy, bit in _ANSWER.items():
        app = turn.apps.get(boots.suspect) if remedy is R.ROLLBACK and boots.suspect else None
        if boots.answers & bit or remedy < case.floor or any(b[0] is remedy for b in case.barred) or (remedy is R.ROLLBACK and app is None):
            continue
        stand = Stand(app, turn.spec(app.name) if app is not None else None, turn.policy)
        off = turn.policy.remedy(remedy).mode is Mode.OBSERVE and turn.policy.mode is not Mode.OBSERVE  # not enabled here
        if not off and fits(turn, case, app, remedy) and hinders(remedy, stand) == reasons.OK:
            yield remedy, app
