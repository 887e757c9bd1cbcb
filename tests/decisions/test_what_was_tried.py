# SPDX-License-Identifier: Apache-2.0
"""What an incident says was tried: each thing once, an image by the name that people know."""

from edgeheal.core import deployment as dep
from edgeheal.core import reasons, words
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import CauseKind, EvidenceCode
from edgeheal.core.kinds import Outcome as O
from edgeheal.core.kinds import RemedyKind as R
from edgeheal.lab.device import Behaviour, Device, Image


def test_a_guard_that_is_away_does_not_fill_the_row_of_what_was_tried():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.refuse = {Verb.START: reasons.NOT_RUNNING, Verb.RESTART: reasons.NOT_RUNNING}
    device.kill("a", 11)
    device.run(600)
    assert len(device.acts(Verb.START)) > 3, "it was asked for again and again"
    (incident,) = device.open()
    assert [(t.kind, t.outcome, t.reason) for t in incident.tried] == [(R.RESTART, O.REFUSED, reasons.NOT_RUNNING)]
    device.refuse = {}
    device.run(600)
    (healed,) = device.closed()
    assert [(t.kind, t.outcome) for t in healed.tried] == [(R.RESTART, O.REFUSED), (R.RESTART, O.CURED)]


def two_images(state):
    device = Device([AppSpec("a")])
    app = device.apps["a"]
    app.images = [Image("aa01", dep.GOOD, version="2.3.9"), Image("bb02", state, Behaviour(lives_s=5.0), "2.4.1")]
    app.running = "bb02"
    device._deployments("a")
    device.start_all()
    return device


def test_a_rollback_is_told_by_the_version_it_went_to():
    for state in (dep.TRIAL, dep.GOOD):
        device = two_images(state)
        device.run(4_000)
        back = [t for i in device.reports for t in i.tried if t.kind is R.ROLLBACK]
        assert back
        assert {t.target for t in back} == {"2.3.9"}
        assert words.remedy(R.ROLLBACK, back[0].target) == "rollback 2.3.9"


def test_fc_pro_2_who_runs_the_same_program_beside_us_is_the_first_cause():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=0.5)
    device.kill("a", 6)
    device.run(0.1)
    device.tell(sig.ForeignStart("a", 1, "/bin/gateway --debug[4242] tech1"))
    device.run(20)
    (incident,) = device.open()
    assert incident.causes[0].kind is CauseKind.FOREIGN_HAND
    assert incident.causes[0].subject == "/bin/gateway --debug[4242] tech1"
    assert "by somebody else /bin/gateway --debug[4242] tech1" in words.evidence(
        next(e for e in incident.causes[0].evidence if e.code is EvidenceCode.STARTS_FOREIGN)
    )
