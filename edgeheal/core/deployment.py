# SPDX-License-Identifier: Apache-2.0
"""The deployment table: what may become of an image installed on this device.

Duty: answer, for every (state, event), move / ignore / refuse. The guard alone runs it; the engine sees a view.
Invariant: total - every cell is written down; an illegal pair changes nothing. Source: docs/reference, image store.
Imports nothing, so that the resident guard stays light.

A cell is `(verdict, next state, duty)`. `duty` says what else the caller owes: roll back, run, or nothing.
Where a cell depends on a fact (is it the last good one? is it running? why is it BAD?) the fact picks the cell:
`decide` takes those facts as arguments and the table holds a cell for each.
"""

UNKNOWN, EMPTY, WRITTEN, TRIAL, GOOD, BAD = range(6)
STATES = ("UNKNOWN", "EMPTY", "WRITTEN", "TRIAL", "GOOD", "BAD")

(E_WRITTEN, E_TRY, E_SOAKED, E_FAILED, E_GIVEN_UP, E_REVOKED, E_ALLOW, E_DIFFERS, E_DROP, E_PROVEN) = range(10)
EVENTS = ("written", "try", "soaked", "failed", "given up", "revoked", "allow", "differs", "drop", "proven")

MOVE, IGNORE, REFUSE = range(3)
VERDICTS = ("move", "ignore", "refuse")

# why a deployment is BAD; `allow` lifts FAILED only
R_NONE, R_FAILED, R_REVOKED, R_ROT = range(4)
REASONS = ("", "failed", "revoked", "rot")

# what the caller owes besides writing the new state
D_NONE, D_RUN, D_ROLL_BACK, D_HOLD, D_STAY_BLOCKED = range(5)
DUTIES = ("", "run it", "roll back", "hold and call", "id stays blocked")

_IGN = (IGNORE, -1, D_NONE)
_REF = (REFUSE, -1, D_NONE)
_VEIL = (MOVE, UNKNOWN, D_NONE)

TABLE: dict[tuple[int, int], tuple[int, int, int]] = {
    (EMPTY, E_WRITTEN): (MOVE, WRITTEN, D_NONE),
    (WRITTEN, E_WRITTEN): _IGN, (TRIAL, E_WRITTEN): _IGN, (GOOD, E_WRITTEN): _IGN, (BAD, E_WRITTEN): _REF,
    (EMPTY, E_TRY): _REF, (WRITTEN, E_TRY): (MOVE, TRIAL, D_RUN), (TRIAL, E_TRY): _IGN, (GOOD, E_TRY): (MOVE, GOOD, D_RUN), (BAD, E_TRY): _REF,
    (EMPTY, E_SOAKED): _REF, (WRITTEN, E_SOAKED): _REF, (TRIAL, E_SOAKED): (MOVE, GOOD, D_NONE), (GOOD, E_SOAKED): _IGN, (BAD, E_SOAKED): _REF,
    (EMPTY, E_FAILED): _IGN, (WRITTEN, E_FAILED): _IGN, (TRIAL, E_FAILED): (MOVE, BAD, D_ROLL_BACK), (GOOD, E_FAILED): (MOVE, WRITTEN, D_ROLL_BACK), (BAD, E_FAILED): _IGN,
    (EMPTY, E_GIVEN_UP): _IGN, (WRITTEN, E_GIVEN_UP): _IGN, (TRIAL, E_GIVEN_UP): (MOVE, WRITTEN, D_ROLL_BACK), (GOOD, E_GIVEN_UP): (MOVE, GOOD, D_ROLL_BACK), (BAD, E_GIVEN_UP): _IGN,
    (EMPTY, E_REVOKED): _IGN, (WRITTEN, E_REVOKED): (MOVE, BAD, D_NONE), (TRIAL, E_REVOKED): (MOVE, BAD, D_ROLL_BACK), (GOOD, E_REVOKED): (MOVE, BAD, D_ROLL_BACK), (BAD, E_REVOKED): (MOVE, BAD, D_NONE),
    (EMPTY, E_ALLOW): _IGN, (WRITTEN, E_ALLOW): _IGN, (TRIAL, E_ALLOW): _IGN, (GOOD, E_ALLOW): _IGN, (BAD, E_ALLOW): (MOVE, WRITTEN, D_NONE),
    (EMPTY, E_DIFFERS): _IGN, (WRITTEN, E_DIFFERS): _VEIL, (TRIAL, E_DIFFERS): _VEIL, (GOOD, E_DIFFERS): _VEIL, (BAD, E_DIFFERS): _VEIL,
    (EMPTY, E_DROP): _IGN, (WRITTEN, E_DROP): (MOVE, EMPTY, D_NONE), (TRIAL, E_DROP): _REF, (GOOD, E_DROP): (MOVE, EMPTY, D_NONE), (BAD, E_DROP): (MOVE, EMPTY, D_STAY_BLOCKED),
    (EMPTY, E_PROVEN): _IGN, (WRITTEN, E_PROVEN): _IGN, (TRIAL, E_PROVEN): _IGN, (GOOD, E_PROVEN): _IGN, (BAD, E_PROVEN): _IGN,
    # UNKNOWN veils `was`: proven or written lifts it, revoked is BAD, drop is judged as `was`, the rest refuse
    (UNKNOWN, E_WRITTEN): (MOVE, UNKNOWN, D_NONE), (UNKNOWN, E_PROVEN): (MOVE, UNKNOWN, D_NONE),
    (UNKNOWN, E_TRY): _REF, (UNKNOWN, E_SOAKED): _REF, (UNKNOWN, E_FAILED): _REF, (UNKNOWN, E_GIVEN_UP): _REF,
    (UNKNOWN, E_REVOKED): (MOVE, BAD, D_ROLL_BACK), (UNKNOWN, E_ALLOW): _REF, (UNKNOWN, E_DIFFERS): _IGN, (UNKNOWN, E_DROP): (MOVE, UNKNOWN, D_NONE),
}  # fmt: skip


def decide(
    state: int, event: int, *, was: int = EMPTY, reason: int = R_NONE, running: bool = False, last_good: bool = False, keep: bool = False
) -> tuple[int, int, int]:
    """Return `(verdict, next state, duty)` for one deployment.

    `was` is the state behind an UNKNOWN veil, `reason` why it is BAD, `running` whether `state.run` names it,
    `last_good` whether no other GOOD one may run without approval, `keep` whether trust lets a revoked one run on.
    """
    if state == UNKNOWN and event in (E_WRITTEN, E_PROVEN):
        return (MOVE, was, D_NONE)
    if state == UNKNOWN and event == E_DROP:
        verdict, after, duty = decide(was, event, reason=reason, running=running, last_good=last_good, keep=keep)
        return (verdict, after, duty)
    verdict, after, duty = TABLE[state, event]
    if state == GOOD:
        if event == E_FAILED and last_good:
            return _REF
        if event == E_DROP and (running or last_good):
            return _REF
        if event == E_REVOKED and last_good:
            return (MOVE, BAD, D_NONE if keep else D_HOLD)
        if event == E_GIVEN_UP and last_good:
            return _REF
    if state == BAD and event == E_ALLOW and reason != R_FAILED:
        return _REF
    if event == E_DROP and running:
        return _REF
    if duty == D_ROLL_BACK and not running:
        duty = D_NONE
    return (verdict, after, duty)
