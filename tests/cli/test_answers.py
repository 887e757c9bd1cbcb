# SPDX-License-Identifier: Apache-2.0
"""The forms of answers that a quiet device does not give: incidents of all kinds, results, records that stand for others, as agent and fleet tell them."""

import json
import sys
from pathlib import Path

import pytest

from edgeheal.agent import view
from edgeheal.cli import incidents
from edgeheal.cli.answer_words import closed
from edgeheal.cli.answers import ANSWERS
from edgeheal.core.kinds import ActionCode, ResultState
from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.fleet import views
from edgeheal.wire import results, summary
from edgeheal.wire.packed import with_key
from edgeheal.wire.results import Result

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "wire"))
import wire_eight

jsonschema = pytest.importorskip("jsonschema")


def fits(answer, document):
    plain = json.loads(json.dumps(document, default=lambda value: value.hex()))
    jsonschema.validate(plain, closed(ANSWERS[answer]))
    return plain


@pytest.mark.parametrize("kind", wire_eight.EIGHT)
def test_an_incident_has_one_form_whoever_tells_it(kind):
    incident = wire_eight.EIGHT[kind]
    by_agent = fits("explain", view.incident_document(incident))
    from_files = fits("incidents", incidents.documents([incident]))[0]
    assert by_agent == from_files, "with the agent dead it reads the same"
    fits("event", view.event_of(incident))
    record = summary.read(with_key(summary.encode(incident), incident.session, 7))
    document = views.incident_document("gw-1", record, received=1_795_600_200.0, size=158, place="pump house")
    fits("fleet incidents", [document])
    fits("fleet event", {"incident": document})


def test_results_and_stand_ins_have_theirs():
    for state in ResultState:
        body = results.encode(Result(bytes(range(16)), state, reason=4, action=int(ActionCode.RESTART), app="gw", took_ms=12))
        document = views.result_document("gw-1", results.read(with_key(body, b"\1" * 6, 3)), received=1_795_600_200.0)
        fits("fleet event", {"result": document})
        fits("fleet command", {"command": "00" * 16, "bytes": 220, "counter": 9, "results": [document]})
    standin = Standin(StandinKind.DROPPED, (Span(b"\1" * 6, 1, 4),), 4, 1, first_s=1_795_600_000, last_s=1_795_600_100)
    fits("fleet event", {"standin": views.standin_document(standin) | {"device": "gw-1"}})


def test_a_form_that_is_not_described_is_seen():
    document = incidents.documents([next(iter(wire_eight.EIGHT.values()))])[0]
    for wrong in (document | {"more": 1}, document | {"state": "SLEEPING"}, {k: v for k, v in document.items() if k != "says"}):
        with pytest.raises(jsonschema.ValidationError):
            fits("incidents", [wrong])
