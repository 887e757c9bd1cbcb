# SPDX-License-Identifier: Apache-2.0
"""The app table: what may become of an app's fine state, every (state, event) cell written down.

Duty: answer move / ignore / refuse. It knows no time and no cause; who moves an app by it is `recover.app`.
Invariant: total. PAUSED is left by RESUME only, to STOPPED: the caller then tells it what is seen.
"""

from enum import IntEnum

from edgeheal.core.kinds import AppState
from edgeheal.core.table import Cell, Verdict, ascii_table, mermaid


class AppEvent(IntEnum):
    """What can happen to an app."""

    STARTED = 0  # a new run
    READY = 1  # the run does its work
    SUSPECT = 2  # a symptom that leaves it working
    FAIL = 3  # it ended, hangs, or does not do its work
    CLEAR = 4  # no symptom is left on a run that is ready
    ACT = 5  # a remedy is on its way to it
    WAIT = 6  # held in back-off
    STOP = 7  # stopped by order, finished, or not wanted
    PAUSE = 8
    RESUME = 9


_S = AppState
_E = AppEvent
_ROWS: dict[AppEvent, tuple[AppState | str, ...]] = {
    # from           STOPPED        STARTING       HEALTHY        DEGRADED       FAILING        RECOVERING     BACKOFF        PAUSED
    _E.STARTED: (_S.STARTING, ".", _S.STARTING, _S.STARTING, _S.STARTING, _S.STARTING, _S.STARTING, "."),
    _E.READY: (_S.HEALTHY, _S.HEALTHY, ".", ".", _S.HEALTHY, _S.HEALTHY, _S.HEALTHY, "."),
    _E.SUSPECT: (".", ".", _S.DEGRADED, ".", ".", ".", ".", "."),
    _E.FAIL: (_S.FAILING, _S.FAILING, _S.FAILING, _S.FAILING, ".", _S.FAILING, _S.FAILING, "."),
    _E.CLEAR: (".", ".", ".", _S.HEALTHY, _S.HEALTHY, _S.HEALTHY, ".", "."),
    _E.ACT: (_S.RECOVERING, _S.RECOVERING, _S.RECOVERING, _S.RECOVERING, _S.RECOVERING, ".", _S.RECOVERING, "x"),
    _E.WAIT: (_S.BACKOFF, _S.BACKOFF, "x", "x", _S.BACKOFF, _S.BACKOFF, ".", "."),
    _E.STOP: (".", _S.STOPPED, _S.STOPPED, _S.STOPPED, _S.STOPPED, _S.STOPPED, _S.STOPPED, "."),
    _E.PAUSE: (_S.PAUSED, _S.PAUSED, _S.PAUSED, _S.PAUSED, _S.PAUSED, _S.PAUSED, _S.PAUSED, "."),
    _E.RESUME: (".", ".", ".", ".", ".", ".", ".", _S.STOPPED),
}


def _cell(state: AppState, word: AppState | str) -> Cell:
    if isinstance(word, AppState):
        return Cell(Verdict.MOVE, word)
    return Cell(Verdict.IGNORE if word == "." else Verdict.REFUSE, state)


TABLE: dict[tuple[AppState, AppEvent], Cell] = {
    (state, event): _cell(state, word) for event, row in _ROWS.items() for state, word in zip(AppState, row, strict=True)
}


def decide(state: AppState, event: AppEvent) -> Cell:
    """The cell."""
    return TABLE[state, event]


def diagram() -> str:
    """Mermaid text of all moves."""
    return mermaid(TABLE, AppState, "app")


def text() -> str:
    """The table as plain text."""
    return ascii_table(TABLE, AppState, AppEvent)
