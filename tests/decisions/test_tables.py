# SPDX-License-Identifier: Apache-2.0
"""The two state tables are total, every cell is as written, and diagrams come from them alone."""

import itertools

import pytest

from edgeheal.core import app_table, incident_table
from edgeheal.core.app_table import AppEvent
from edgeheal.core.incident_table import IncidentEvent
from edgeheal.core.kinds import AppState, IncidentState
from edgeheal.core.table import Verdict

TABLES = [(app_table, AppState, AppEvent), (incident_table, IncidentState, IncidentEvent)]

# a second writing of the tables, by hand: state initials, "." ignore, "x" refuse
APP = """
STARTED  STARTING   .          STARTING   STARTING   STARTING   STARTING   STARTING   .
READY    HEALTHY    HEALTHY    .          .          HEALTHY    HEALTHY    HEALTHY    .
SUSPECT  .          .          DEGRADED   .          .          .          .          .
FAIL     FAILING    FAILING    FAILING    FAILING    .          FAILING    FAILING    .
CLEAR    .          .          .          HEALTHY    HEALTHY    HEALTHY    .          .
ACT      RECOVERING RECOVERING RECOVERING RECOVERING RECOVERING .          RECOVERING x
WAIT     BACKOFF    BACKOFF    x          x          BACKOFF    BACKOFF    .          .
STOP     .          STOPPED    STOPPED    STOPPED    STOPPED    STOPPED    STOPPED    .
PAUSE    PAUSED     PAUSED     PAUSED     PAUSED     PAUSED     PAUSED     PAUSED     .
RESUME   .          .          .          .          .          .          .          STOPPED
"""
INCIDENT = """
DIAGNOSED DIAGNOSED .                 .         .         .         x .
ASK       x         AWAITING_APPROVAL .         x         x         x AWAITING_APPROVAL
ACT       x         ACTING            ACTING    .         x         x ACTING
CARRIED   x         .                 .         VERIFYING .         x .
AGAIN     .         .                 .         DIAGNOSED DIAGNOSED x .
HEALTHY   RESOLVED  RESOLVED          RESOLVED  .         RESOLVED  . RESOLVED
GIVE_UP   x         ESCALATED         ESCALATED ESCALATED ESCALATED x .
CLOSE     RESOLVED  RESOLVED          RESOLVED  RESOLVED  RESOLVED  . RESOLVED
"""


@pytest.mark.parametrize(("module", "states", "events"), TABLES)
def test_the_table_is_total_and_a_cell_that_does_not_move_stays(module, states, events):
    assert set(module.TABLE) == set(itertools.product(states, events))
    for (state, _), cell in module.TABLE.items():
        assert cell.next in list(states)
        if cell.verdict is not Verdict.MOVE:
            assert cell.next == state


@pytest.mark.parametrize(("text", "module", "states", "events"), [(APP, *TABLES[0]), (INCIDENT, *TABLES[1])])
def test_every_cell_is_as_written(text, module, states, events):
    for line in text.strip().splitlines():
        name, *words = line.split()
        for state, word in zip(states, words, strict=True):
            cell = module.decide(state, events[name])
            said = states(cell.next).name if cell.verdict is Verdict.MOVE else "." if cell.verdict is Verdict.IGNORE else "x"
            assert said == word, (state.name, name)
    assert {line.split()[0] for line in text.strip().splitlines()} == {e.name for e in events}


@pytest.mark.parametrize(("module", "states", "events"), TABLES)
def test_the_diagram_shows_each_move_once(module, states, events):
    drawn = [line for line in module.diagram().splitlines() if "-->" in line]
    moves = {(s, module.TABLE[s, e].next, e) for s, e in module.TABLE if module.TABLE[s, e].verdict is Verdict.MOVE}
    assert sum(len(line.split(": ")[1].split(", ")) for line in drawn) == len(moves)
    assert all(e.name in module.text() for e in events)


def test_an_incident_leaves_resolved_never_and_escalated_is_no_sink():
    for event in IncidentEvent:
        assert incident_table.decide(IncidentState.RESOLVED, event).next == IncidentState.RESOLVED
    out = {incident_table.decide(IncidentState.ESCALATED, e).next for e in IncidentEvent}
    assert {IncidentState.ACTING, IncidentState.RESOLVED} <= out


def test_no_state_of_an_app_is_a_sink():
    for state in AppState:
        assert any(app_table.decide(state, e).verdict is Verdict.MOVE for e in AppEvent)
