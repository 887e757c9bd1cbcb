# SPDX-License-Identifier: Apache-2.0
"""The incident table: what may become of an incident, every (state, event) cell written down.

Duty: answer move / ignore / refuse. Who moves an incident by it is `recover.case`.
Invariant: total. RESOLVED is the end of an incident, never of care: the same fault again is a new incident with its recurrence.
ESCALATED is no sink: it acts again (a person's word), and resolves itself when the app turns healthy.
"""

from enum import IntEnum

from edgeheal.core.kinds import IncidentState
from edgeheal.core.table import Cell, Verdict, ascii_table, mermaid


class IncidentEvent(IntEnum):
    """What can happen to an incident."""

    DIAGNOSED = 0  # causes are ranked (anew)
    ASK = 1  # a remedy waits for approval
    ACT = 2  # a remedy is ordered
    CARRIED = 3  # the remedy was seen done: probation begins
    AGAIN = 4  # the symptom is there (again), or the remedy failed
    HEALTHY = 5  # the symptom stayed gone for its probation
    GIVE_UP = 6  # no remedy is left or allowed: a human is called
    CLOSE = 7  # no longer anybody's concern: app removed, stopped by a person, folded into another


_S = IncidentState
_E = IncidentEvent
_ROWS: dict[IncidentEvent, tuple[IncidentState | str, ...]] = {
    # from         OPEN           DIAGNOSED      AWAITING_APP.  ACTING         VERIFYING      RESOLVED  ESCALATED
    _E.DIAGNOSED: (_S.DIAGNOSED, ".", ".", ".", ".", "x", "."),
    _E.ASK: ("x", _S.AWAITING_APPROVAL, ".", "x", "x", "x", _S.AWAITING_APPROVAL),
    _E.ACT: ("x", _S.ACTING, _S.ACTING, ".", "x", "x", _S.ACTING),
    _E.CARRIED: ("x", ".", ".", _S.VERIFYING, ".", "x", "."),
    _E.AGAIN: (".", ".", ".", _S.DIAGNOSED, _S.DIAGNOSED, "x", "."),
    _E.HEALTHY: (_S.RESOLVED, _S.RESOLVED, _S.RESOLVED, ".", _S.RESOLVED, ".", _S.RESOLVED),
    _E.GIVE_UP: ("x", _S.ESCALATED, _S.ESCALATED, _S.ESCALATED, _S.ESCALATED, "x", "."),
    _E.CLOSE: (_S.RESOLVED, _S.RESOLVED, _S.RESOLVED, _S.RESOLVED, _S.RESOLVED, ".", _S.RESOLVED),
}


def _cell(state: IncidentState, word: IncidentState | str) -> Cell:
    if isinstance(word, IncidentState):
        return Cell(Verdict.MOVE, word)
    return Cell(Verdict.IGNORE if word == "." else Verdict.REFUSE, state)


TABLE: dict[tuple[IncidentState, IncidentEvent], Cell] = {
    (state, event): _cell(state, word) for event, row in _ROWS.items() for state, word in zip(IncidentState, row, strict=True)
}


def decide(state: IncidentState, event: IncidentEvent) -> Cell:
    """The cell."""
    return TABLE[state, event]


def diagram() -> str:
    """Mermaid text of all moves."""
    return mermaid(TABLE, IncidentState, "incident")


def text() -> str:
    """The table as plain text."""
    return ascii_table(TABLE, IncidentState, IncidentEvent)
