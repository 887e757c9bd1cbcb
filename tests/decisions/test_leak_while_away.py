# SPDX-License-Identifier: Apache-2.0
"""fc-mem-3: the leak that only lives while the uplink is down, and leaks without a limit of their own."""

import pytest

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import By, CauseKind, EvidenceCode, RemedyKind, SymptomKind
from edgeheal.core.policy import Policy
from edgeheal.lab.device import Behaviour, Device

MIB = 1_024


class Leak:
    """200 kB a second while the uplink is down, flat otherwise; anew with each run."""

    def __init__(self, device):
        self.device = device
        self.kib = 40 * MIB
        self.down = False
        self.at = device.at
        self.started = 0.0

    def __call__(self, age):
        now = self.device.at
        if now - age > self.started + 0.5:
            self.started, self.kib, self.at = now - age, 40 * MIB, now
        if self.down:
            self.kib += round(200 * (now - self.at))
        self.at = now
        return self.kib


def offline(total_mib, limit_mib=0, phases=4):
    device = Device([AppSpec("gw", memory_kib=limit_mib * MIB), AppSpec("other")], Policy(start_grace_s=10), sample_s=5.0)
    leak = Leak(device)
    device.apps["gw"].images[0].behaviour = Behaviour(memory_kib=leak)
    device.start_all()
    device.run(60)

    def box():
        left = (total_mib - 300) * MIB - leak.kib
        device.tell(sig.HostSample("memory_free_permille", 1_000 * left / (total_mib * MIB), float(total_mib * MIB)))
        device.later(10, box)

    box()
    for _ in range(phases):
        device.tell(sig.LinkIs("broker", up=True))
        leak.down = False
        device.run(60)
        device.tell(sig.LinkIs("broker", up=False))
        leak.down = True
        device.run(60)
    return device, leak


def growth(device):
    return [i for i in device.reports if i.symptom is SymptomKind.MEMORY_GROWTH]


@pytest.mark.parametrize(("total_mib", "limit_mib"), [(1_024, 120), (460, 0)])
def test_fc_mem_3_the_leak_is_foretold_and_tied_to_the_outage_with_and_without_a_limit(total_mib, limit_mib):
    device, _ = offline(total_mib, limit_mib)
    device.run(900)  # and the uplink stays down
    incident = growth(device)[0]
    assert incident.causes[0].kind is CauseKind.APP_MEMORY
    fact = next(e for e in incident.evidence if e.code is EvidenceCode.GROWS_WHILE)
    assert (fact.value, fact.limit, fact.text) == (fact.limit, fact.value, "broker")
    assert fact.value >= 2
    hours = next(e for e in incident.evidence if e.code is EvidenceCode.HOURS_TO_LIMIT)
    assert 0 < hours.value < 1
    used = next(e for e in incident.evidence if e.code is EvidenceCode.MEMORY_KIB)
    assert used.value < 0.8 * used.limit, "well before the limit"
    assert incident.planned is RemedyKind.RESTART or device.acts(Verb.RESTART), "a planned restart of that one app"
    assert {a.app for a in device.acts(Verb.RESTART)} <= {"gw"}
    assert By.REMEDY in device.apps["gw"].by
    assert device.reboots == 0
    assert device.acts(Verb.REBOOT) == []
    assert len(device.apps["other"].starts) == 1


def test_fc_mem_3_four_of_four_times():
    device, _ = offline(2_048, 130)
    device.run(120)
    last = growth(device)[-1]
    fact = next(e for e in last.evidence if e.code is EvidenceCode.GROWS_WHILE)
    assert fact.value == fact.limit
    assert fact.value >= 4


def test_a_leak_that_has_nothing_to_do_with_the_uplink_is_not_tied_to_it():
    device, leak = offline(1_024, 120, phases=0)
    leak.down = True
    for _ in range(6):
        device.tell(sig.LinkIs("broker", up=False))
        device.run(40)
        device.tell(sig.LinkIs("broker", up=True))
        device.run(40)
    incident = growth(device)[0]
    assert not [e for e in incident.evidence if e.code is EvidenceCode.GROWS_WHILE]


def test_an_app_that_fills_a_share_of_the_box_and_stays_there_is_no_leak():
    device = Device([AppSpec("gw")], Policy(start_grace_s=10), sample_s=5.0)
    device.apps["gw"].images[0].behaviour = Behaviour(memory_kib=lambda age: round(300 * MIB * (1 - 2.0 ** (-age / 60))))
    device.start_all()
    for _ in range(300):
        used = 300 * MIB * (1 - 2.0 ** (-device.at % 1_000 / 60))
        device.tell(sig.HostSample("memory_free_permille", 1_000 * (900 * MIB - used) / (1_024 * MIB), float(1_024 * MIB)))
        device.run(10)
    assert growth(device) == []
