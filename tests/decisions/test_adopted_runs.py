# SPDX-License-Identifier: Apache-2.0
"""What the agent hears late or twice, because guard or agent were away: nothing is started or stopped for it that is well already."""

from edgeheal.core import deployment as dep
from edgeheal.core import host_metrics
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import By, SymptomKind
from edgeheal.core.policy import Policy
from edgeheal.lab.device import Device

STARTS = (Verb.START, Verb.RESTART, Verb.CLEAN_RESTART)


def ended_and_started_by_order() -> Device:
    """An app that died soon after its start while the guard was away; the guard started it by standing order before the agent was back."""
    device = Device([AppSpec("a")], Policy(backoff_first_s=1.0))
    device.start_all()
    device.kill("a")
    device.run(3)
    app = device.apps["a"]
    assert len(device.acts(*STARTS)) == 1
    device.tell(sig.AppExited("a", app.run, lived_ms=400))
    assert len(device.acts(*STARTS)) == 1, "it waits: the last run was short"
    app.run += 1
    device.tell(sig.AppStarted("a", app.run, 99, By.STANDING_ORDER, "img1", dep.GOOD))
    return device


def test_what_a_standing_order_started_while_we_waited_is_not_restarted():
    device = ended_and_started_by_order()
    device.run(5)
    assert len(device.acts(*STARTS)) == 1
    device.tell(sig.AppReady("a", device.apps["a"].run))
    device.run(120)
    assert len(device.acts(*STARTS)) == 1
    (incident,) = device.closed()
    assert incident.symptom is SymptomKind.EXIT


def test_what_a_standing_order_started_and_never_gets_ready_is_cared_for():
    device = ended_and_started_by_order()
    device.run(400)
    assert len(device.acts(*STARTS)) > 1


def test_a_hang_that_a_standing_order_ended_while_we_still_waited_is_told():
    device = Device([AppSpec("a", heartbeat_ms=5_000)])
    device.start_all()
    device.run(100)
    app = device.apps["a"]
    device.tell(sig.HostSample(host_metrics.PRESSURE_CPU, 900.0))
    device.tell(sig.HeartbeatMissed("a", app.run, 5_000))
    assert device.open() == [], "the box is busy: the deadline is stretched"
    device.tell(sig.AppExited("a", app.run, signum=9, ordered=True, by=By.STANDING_ORDER, lived_ms=100_000))
    app.run += 1
    device.tell(sig.AppStarted("a", app.run, 99, By.STANDING_ORDER, "img1", dep.GOOD))
    device.tell(sig.AppReady("a", app.run))
    device.run(200)
    (incident,) = device.closed()
    assert incident.symptom is SymptomKind.HANG


def test_an_ordered_end_of_a_late_run_is_no_hang():
    device = Device([AppSpec("a", heartbeat_ms=5_000)])
    device.start_all()
    device.run(100)
    app = device.apps["a"]
    device.tell(sig.HostSample(host_metrics.PRESSURE_CPU, 900.0))
    device.tell(sig.HeartbeatMissed("a", app.run, 5_000))
    device.tell(sig.AppExited("a", app.run, signum=15, ordered=True, by=By.LOCAL, lived_ms=100_000))
    app.run += 1
    device.tell(sig.AppStarted("a", app.run, 99, By.LOCAL, "img1", dep.GOOD))
    device.tell(sig.AppReady("a", app.run))
    device.run(200)
    assert device.reports == []
