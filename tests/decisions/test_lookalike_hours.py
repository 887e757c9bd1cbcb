# SPDX-License-Identifier: Apache-2.0
"""Healthy hours on a simulated device: nothing may be done to what is well."""

import math

import pytest

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec, ProbeSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import Verdict
from edgeheal.core.policy import Policy
from edgeheal.lab.device import Behaviour, Device

HARMLESS = {Verb.FOLLOW, Verb.LOOK, Verb.PROBE}


def memory(name: str):
    return {
        "plateau": lambda age: round(40_000 + 60_000 * (1 - math.exp(-age / 900))),
        "collector": lambda age: round(60_000 + 50 * (age % 600)),
        "nightly": lambda age: 170_000 if 7_200 < age % 86_400 < 9_000 else 60_000,
        "wave": lambda age: round(90_000 + 40_000 * math.sin(age / 13_750)),
    }[name]


def healthy_device(seed: int) -> Device:
    probe = ProbeSpec("web", "live", "http", every_ms=60_000, misses=3)
    metric = MetricSpec("t", every_ms=60_000, stuck_ms=3_600_000, low=-40, high=125)
    names = ["plateau", "collector", "nightly", "wave"]
    device = Device([AppSpec(n, memory_kib=200_000, heartbeat_ms=1_000, probes=(probe,), metrics=(metric,)) for n in names], Policy(), seed=seed, sample_s=60)
    for at, name in enumerate(names):
        flaky = lambda age, at=at: Verdict.NO if round(age / 60 + seed * 7 + at) % 97 < 2 else Verdict.UNKNOWN if round(age / 60) % 31 == 0 else Verdict.YES  # noqa: E731
        value = lambda age, at=at: 20 + at + math.sin(age / 4_000) + ((round(age) * 7_919) % 13) / 10  # noqa: E731
        device.apps[name].images[0].behaviour = Behaviour(memory_kib=memory(name), probes={"web": flaky}, sensors={"t": value})
    device.start_all()
    return device


@pytest.mark.parametrize("seed", [1, 2])
def test_healthy_days_see_no_remedy_and_no_incident(seed):
    device = healthy_device(seed)
    for hour in range(36):
        device.run(3_590)
        match hour % 6:
            case 0:
                device.tell(sig.HostSample("clock_step_s", 86_400.0))
            case 1:
                for value in (900.0, 950.0, 20.0):
                    device.tell(sig.HostSample("pressure_cpu_permille", value))
                    device.tell(sig.HostSample("stall_io_permille", value))
            case 2:
                device.tell(sig.LinkIs("broker", up=False))
                device.run(5)
                device.tell(sig.LinkIs("broker", up=True))
            case 3:
                device.tell(sig.HostSample("memory_free_permille", 60))
                device.tell(sig.HostSample("memory_free_permille", 300))
            case 4:
                device.tell(sig.KernelSaid("usb_reset", "1-1.2"))
            case 5:
                device.order(1, "wave")
        device.run(10)
    assert [a for a in device.acts() if a.verb not in HARMLESS] == []
    assert device.reports == []


def test_a_restart_of_a_peer_and_a_heavy_compile_blame_nobody():
    device = healthy_device(3)
    device.run(600)
    device.tell(sig.HostSample("pressure_cpu_permille", 990.0))
    device.tell(sig.HostSample("load_permille", 9_000.0))
    for name in ("plateau", "wave"):
        device.tell(sig.HeartbeatMissed(name, 1, 1_000))
    device.run(0.9)
    for name in ("plateau", "wave"):
        device.tell(sig.HeartbeatBack(name, 1))
    device.tell(sig.HostSample("pressure_cpu_permille", 5.0))
    device.order(1, "collector")
    device.run(600)
    assert [a for a in device.acts() if a.verb not in HARMLESS] == []
    assert device.reports == []


def test_no_wrong_reboot_however_long_and_whatever_is_wrong_with_an_app():
    device = Device([AppSpec("a", heartbeat_ms=1_000)], Policy(remedies={k: type(r)(budgets=r.budgets, cost=r.cost) for k, r in Policy().remedies.items()}))
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=3)
    device.start_all()
    device.run(10 * 86_400)
    assert device.reboots == 0
    assert device.acts(Verb.REBOOT, Verb.HOOK, Verb.OS_ROLLBACK) == []
