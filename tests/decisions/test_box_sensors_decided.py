# SPDX-License-Identifier: Apache-2.0
"""Sensors without an app, their lines and their feeds, on the engine's side; and the field cases fc-sen-1 to 4."""

import pytest

from edgeheal.core import deployment as dep
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import CauseKind, EvidenceCode, IncidentState, Mode, Need, Outcome, RemedyKind, SymptomKind
from edgeheal.core.policy import Policy, RemedyPolicy
from edgeheal.engine import snapshot
from edgeheal.lab.device import Device, Image

S, C, R = SymptomKind, CauseKind, RemedyKind
LINE = "usb-acme_0001"
ACT = {R.POWER_CYCLE: RemedyPolicy(mode=Mode.ACT, cost=120, probation_s=60)}


def meter(n, **more):
    return MetricSpec(f"meter{n}", "V", every_ms=1_000, source=f"slave {n}", bus=LINE, ours=True, **more)


class Bench:
    """A device with sensors of its own that say a living value a second each, until they are muted."""

    def __init__(self, *metrics, apps=(AppSpec("gw"),), policy=None):
        self.device = Device(apps, policy or Policy(start_grace_s=5))
        self.metrics = metrics
        self.muted = set()
        self.factor = 1.0
        self.n = 0
        self.device.tell(sig.CatalogIs(tuple(s.to_plain() for s in apps), AppSpec("", metrics=metrics).to_plain()))
        self.device.start_all()
        self._read()

    def _read(self):
        self.n += 1
        for k, metric in enumerate(self.metrics):
            if metric.name not in self.muted:
                value = (230.0 + (self.n * 7 + k) % 5 + (self.n * 13 % 10) / 10) * self.factor
                self.device.tell(sig.Reading("", metric.name, value, metric.source))
        self.device.later(1.0, self._read)

    def mute(self, *names, seconds=6.0):
        self.muted = set(names)
        self.device.run(seconds)

    def line(self, what, ok, seconds=0.0, text=""):
        self.device.tell(sig.SelfSaid(f"line:{LINE}", what, ok, seconds, text))


def test_a_sensor_without_an_app_is_judged_told_and_resolved():
    bench = Bench(MetricSpec("hall", "C", every_ms=1_000, high=300.0, ours=True))
    bench.device.run(30)
    assert bench.device.open() == []
    bench.mute("hall")
    (incident,) = bench.device.open()
    assert (incident.app, incident.symptom, incident.subject) == ("", S.SENSOR_MISSING, "hall")
    assert incident.causes[0].kind is C.SENSOR
    assert incident.need is Need.VISIT
    bench.mute(seconds=120)
    (closed,) = bench.device.closed()
    assert 5_000 <= closed.gap_ms <= 9_000, "its length is that of the outage, not of the probation"
    assert bench.device.acts() == []


def test_a_sensor_that_never_spoke_is_missed_and_one_that_is_promised_no_more_is_forgotten():
    bench = Bench(MetricSpec("hall", "C", every_ms=1_000, ours=True), MetricSpec("roof", "C", every_ms=1_000, ours=True))
    bench.mute("roof", seconds=30)
    assert [i.subject for i in bench.device.open()] == ["roof"]
    bench.device.tell(sig.CatalogIs((AppSpec("gw").to_plain(),), AppSpec("", metrics=bench.metrics[:1]).to_plain()))
    bench.metrics = bench.metrics[:1]
    bench.device.run(60)
    assert bench.device.open() == []


def test_the_boxs_sensors_are_part_of_the_snapshot():
    bench = Bench(meter(1), meter(2))
    bench.mute("meter2", seconds=20)
    state = bench.device.state
    again = snapshot.from_plain(snapshot.to_plain(state))
    assert again == state
    assert again.box.metrics[1].bus == LINE


def test_fc_sen_1_an_outage_of_the_adapter_is_one_incident_with_its_length_and_restarts_nobody():
    bench = Bench(meter(1), meter(2), apps=(AppSpec("gw", metrics=(MetricSpec("flow", every_ms=1_000, bus=LINE, ours=True),)),))
    device = bench.device
    talk = lambda: (device.tell(sig.Reading("gw", "flow", 5.0 + device.at % 3)) if not bench.muted else None, device.later(1.0, talk))  # noqa: E731
    talk()
    device.run(30)
    bench.muted = {"meter1", "meter2"}
    bench.line("missing", ok=False, seconds=1.0, text="No such file or directory")
    device.run(8)
    told = [i for i in device.open() if i.number in {r.number for r in device.reports}]
    assert [(i.symptom, i.subject) for i in told] == [(S.SENSOR_MISSING, f"line:{LINE}")]
    assert told[0].causes[0].kind is C.BUS
    bench.muted = set()
    bench.line("missing", ok=True, seconds=9.0)
    device.run(200)
    assert device.open() == []
    closed = [i for i in device.closed() if i.subject == f"line:{LINE}"]
    assert len(closed) == 1
    assert 8_000 <= closed[0].gap_ms <= 10_000
    assert device.acts() == [], "no app is restarted for it"


def test_a_line_that_somebody_holds_names_him_and_nothing_is_switched_off():
    bench = Bench(meter(1), meter(2), policy=Policy(start_grace_s=5, hooks=("power-cycle",), remedies=ACT))
    bench.line("held", ok=False, text="held by 4242 (minicom -D /dev/ttyUSB0)")
    bench.mute("meter1", "meter2", seconds=120)
    told = [i for i in bench.device.open() if i.number in {r.number for r in bench.device.reports}]
    assert [i.symptom for i in told] == [S.PORT_HELD]
    assert told[0].causes[0].kind is C.PORT_HELD
    assert "4242 (minicom" in told[0].evidence[0].text
    assert bench.device.acts(Verb.HOOK) == []
    bench.muted = set()
    bench.line("held", ok=True)
    bench.device.run(400)
    assert bench.device.open() == []


def test_fc_sen_3_a_dead_slave_is_one_incident_about_it_and_a_dead_line_is_one_about_the_line():
    bench = Bench(meter(1), meter(2), meter(3))
    bench.device.run(20)
    bench.mute("meter2", seconds=60)
    (incident,) = bench.device.open()
    assert (incident.subject, incident.causes[0].kind) == ("meter2", C.SENSOR)
    assert {r.subject for r in bench.device.reports} == {"meter2"}
    bench.mute("meter1", "meter2", "meter3", seconds=60)
    told = bench.device.open()
    assert len(told) == 1, "the same incident, now about the line"
    assert told[0].causes[0].kind is C.BUS
    bench.mute(seconds=200)
    assert bench.device.open() == []
    assert bench.device.acts() == []


def test_a_power_cycle_names_the_feed_of_what_is_wrong_and_waits_before_it():
    bench = Bench(meter(1, power=4), meter(2, power=7), policy=Policy(start_grace_s=5, hooks=("power-cycle",), remedies=ACT))
    bench.device.run(20)
    bench.mute("meter2", seconds=12)
    assert bench.device.acts(Verb.HOOK) == [], "late is not dead"
    bench.device.run(20)
    assert [a.target for a in bench.device.acts(Verb.HOOK)] == ["power-cycle:7"]
    bench.mute(seconds=300)
    (closed,) = bench.device.closed()
    assert [(t.kind, t.outcome) for t in closed.tried if t.kind is R.POWER_CYCLE] == [(R.POWER_CYCLE, Outcome.CURED)]


def test_what_has_no_common_feed_is_left_to_the_hook():
    bench = Bench(meter(1, power=4), meter(2, power=7), policy=Policy(start_grace_s=5, hooks=("power-cycle",), remedies=ACT))
    bench.device.run(20)
    bench.mute("meter1", "meter2", seconds=60)
    assert [a.target for a in bench.device.acts(Verb.HOOK)] == ["power-cycle"]


def test_a_sensor_that_only_reads_wrongly_keeps_its_power():
    bench = Bench(meter(1, high=300.0, power=1), policy=Policy(start_grace_s=5, hooks=("power-cycle",), remedies=ACT))
    bench.factor = 1.4
    bench.device.run(200)
    assert [i.symptom for i in bench.device.open()] == [S.SENSOR_RANGE]
    assert bench.device.acts() == []


def test_what_an_app_tells_never_takes_its_power_by_itself():
    spec = AppSpec("gw", metrics=(MetricSpec("flow", every_ms=1_000, power=1),))
    bench = Bench(apps=(spec,), policy=Policy(start_grace_s=5, hooks=("power-cycle",), remedies=ACT))
    bench.device.tell(sig.Reading("gw", "flow", 1.0))
    bench.device.run(300)
    assert bench.device.acts(Verb.HOOK) == []


class Stick:
    """fc-sen-2: a radio stick that answers late now and then; a reset silences it for 3 s and makes its next ten answers slow."""

    def __init__(self, bench):
        self.bench = bench
        self.asked = 0
        self.silent_until = 0.0
        self.slow = 0
        self.ask()

    def ask(self):
        device = self.bench.device
        self.asked += 1
        took = 4.0 if self.asked % 50 == 0 else 0.5 if self.slow else 0.003
        self.slow = max(0, self.slow - 1)
        wait = max(took, self.silent_until - device.at)
        device.later(wait, lambda: device.tell(sig.Reading("", "radio", -60.0 + self.asked % 7)))
        device.later(max(wait, 1.0), self.ask)

    def reset(self):
        self.silent_until, self.slow = self.bench.device.at + 3.0, 10


def test_fc_sen_2_a_late_stick_is_not_reset_and_hardly_told():
    bench = Bench(policy=Policy(start_grace_s=5, hooks=("power-cycle",), remedies=ACT))
    device = bench.device
    device.tell(sig.CatalogIs((AppSpec("gw").to_plain(),), AppSpec("", metrics=(MetricSpec("radio", "dBm", every_ms=1_000, ours=True),)).to_plain()))
    stick = Stick(bench)
    device.run(7_200)
    assert stick.asked > 5_000
    assert device.acts(Verb.HOOK) == [], "two hours, no reset"
    assert len({r.number for r in device.reports}) <= 1, "its spread is learned from the first time on"


def test_fc_sen_2_a_reset_that_makes_it_worse_is_withdrawn_and_its_own_noise_does_not_count():
    bench = Bench(MetricSpec("radio", "dBm", every_ms=1_000, ours=True, power=1), policy=Policy(start_grace_s=5, hooks=("power-cycle",), remedies=ACT))
    device = bench.device
    for round_ in range(1, 4):  # an hour well; then silent; 43 s after its reset silent again, for a minute
        bench.mute(seconds=3_600)
        bench.mute("radio", seconds=22)
        assert len(device.acts(Verb.HOOK)) == round_
        bench.mute(seconds=3)
        bench.mute("radio", seconds=5)
        assert not device.words("failed")[round_ - 1 :], "the noise of its settling is no new fault"
        bench.mute(seconds=20)
        assert not device.words("withdrawn")
        bench.mute("radio", seconds=60)
    assert device.words("withdrawn")
    bench.mute(seconds=3_600)
    before = len(device.acts(Verb.HOOK))
    bench.muted = {"radio"}
    device.run(86_400)
    assert len(device.acts(Verb.HOOK)) == before
    assert any(t.outcome is Outcome.WITHDRAWN for i in device.reports for t in i.tried), "and the record says so"


def test_fc_sen_4_three_channels_by_a_hundred_are_one_incident_about_their_scale():
    bench = Bench(*(MetricSpec(f"l{n}", "V", every_ms=1_000, source="meter", ours=True) for n in (1, 2, 3)))
    bench.device.run(300)
    bench.factor = 100.0
    bench.device.run(60)
    (incident,) = bench.device.open()
    assert incident.symptom is S.SENSOR_SCALE
    assert incident.causes[0].kind is C.SENSOR_SCALE
    assert next(e for e in incident.evidence if e.code is EvidenceCode.POWER_OF_TEN).value == 2
    assert bench.device.acts() == []


@pytest.mark.parametrize(("installed", "first"), [(False, C.SENSOR_SCALE), (True, C.APP_IMAGE)])
def test_fc_sen_4_an_image_of_ours_is_suspected_first_only_if_it_came_just_before(installed, first):
    metrics = tuple(MetricSpec(f"l{n}", "V", every_ms=1_000, source="meter") for n in (1, 2, 3))
    device = Device([AppSpec("gw", metrics=metrics)], Policy(start_grace_s=5))
    device.start_all()

    def talk(factor, seconds):
        for n in range(seconds):
            for k, metric in enumerate(metrics):
                device.tell(sig.Reading("gw", metric.name, (230.0 + (n * 7 + k) % 5) * factor))
            device.run(1)

    talk(1.0, 60)
    if installed:
        device.install("gw", Image("img2", dep.WRITTEN))
        device.run(5)
    talk(1.0, 60)
    talk(100.0, 60)
    (incident,) = device.open()
    assert incident.symptom is S.SENSOR_SCALE
    assert incident.causes[0].kind is first
    assert device.acts(Verb.RESTART, Verb.CLEAN_RESTART) == [], "no restart cures a unit"
    if not installed:
        assert device.acts() == []
        assert incident.state is IncidentState.ESCALATED
