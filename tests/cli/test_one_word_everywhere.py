# SPDX-License-Identifier: Apache-2.0
"""An incident has one word: what `status` shows of its app and its box is what `explain`, lists and the fleet say of it."""

import itertools
from dataclasses import replace

import pytest

from edgeheal.agent import view
from edgeheal.core import words
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import AppState, IncidentState, Mode, Need, Severity, SymptomKind
from edgeheal.recover.app import App

OPEN = [state for state in IncidentState if state is not IncidentState.RESOLVED]
CASE = Incident(
    number=1, session=b"sessA.", app="a", symptom=SymptomKind(1), severity=Severity.CRITICAL, state=IncidentState.ESCALATED, need=Need.LOOK, mode=Mode.ACT,
    trusted=True, fingerprint=b"", opened_ns=1, opened_s=1, opened_box_s=1,
)  # fmt: skip


@pytest.mark.parametrize(("state", "need"), list(itertools.product(OPEN, Need)))
def test_status_and_lists_say_the_same_of_an_open_incident(state, need):
    case = replace(CASE, state=state, need=need)
    app = App("a", known=True, state=AppState.BACKOFF)
    said = words.shown(state, need)
    assert words.SHOWN[view.shown(app, case)] == said
    assert words.SHOWN[view.of_box(case)] == said


def test_a_box_that_has_given_up_and_called_somebody_is_not_shown_as_healing():
    assert words.SHOWN[view.of_box(CASE)] == "NEEDS YOU"
