# SPDX-License-Identifier: Apache-2.0
"""Simulated hours of what looks like a fault and is none, over the real engine and its detectors.

Each scene is a device whose apps are well and whose world does something that has been taken for a fault before. A remedy that touches an app or
the box is wrong; an incident above "info" is an alarm. Nothing here sleeps: time is simulated, decisions are not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec, NeedSpec, ProbeSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import Severity, Verdict
from edgeheal.core.policy import Policy
from edgeheal.lab.device import Behaviour, Device

HARMLESS = {Verb.FOLLOW, Verb.LOOK, Verb.PROBE}
HOUR = 3_600
GB = 1 << 20  # KiB
PROBE = ProbeSpec("web", "live", "http", every_ms=30_000, misses=3)
METRIC = MetricSpec("t", every_ms=30_000, stuck_ms=1_800_000, low=-40, high=125)


def wandering(age: float, seed: int = 0) -> float:
    """A temperature of a room, with a coarse sensor."""
    return round(21 + 3 * math.sin(age / 13_000 + seed) + ((round(age / 30) * 7_919 + seed) % 13) / 10, 1)


def memories() -> dict[str, Callable[[float], int]]:
    """What healthy memory looks like, in KiB."""
    return {
        "warm-up": lambda age: round(40_000 + 90_000 * (1 - math.exp(-age / 1_800))),
        "collector": lambda age: round(70_000 + 90 * (age % 900)),
        "nightly": lambda age: 175_000 if 2 * HOUR < age % (24 * HOUR) < 2.5 * HOUR else 60_000,
        "working-day": lambda age: round(90_000 + 50_000 * max(0.0, math.sin(2 * math.pi * age / (24 * HOUR)))),
        "steps": lambda age: 60_000 + 12_000 * min(6, int(age / (5 * HOUR))),
        "cache": lambda age: 80_000 + (round(age) * 7_919 % 9_000),
    }


def device(seed: int) -> Device:
    """Six apps that are well."""
    names = list(memories())
    specs = [
        AppSpec(
            name, memory_kib=200_000, files=256, tasks=64, heartbeat_ms=5_000 if at % 2 else 0, probes=(PROBE,), metrics=(METRIC,),
            needs=(NeedSpec("app", names[0]),) if at == 5 else (),
        )
        for at, name in enumerate(names)
    ]  # fmt: skip
    made = Device(specs, Policy(), seed=seed, sample_s=30)
    for at, (name, memory) in enumerate(memories().items()):
        flaky = lambda age, at=at: Verdict.NO if round(age / 30 + seed * 7 + at) % 101 < 2 else Verdict.UNKNOWN if round(age / 30) % 37 == 0 else Verdict.YES  # noqa: E731
        made.apps[name].images[0].behaviour = Behaviour(
            memory_kib=memory, fds=lambda age: 40 + round(8 * math.sin(age / 700)), probes={"web": flaky}, sensors={"t": lambda age, at=at: wandering(age, at)}
        )
    made.start_all()
    return made


# -- what happens within an hour and is no fault; each is given the device and the hour


def slow_disk(d: Device, _: int) -> None:
    """An SD card that takes half a minute over a flush: all wait, nobody is dead."""
    for value in (700.0, 950.0, 800.0, 300.0, 10.0):
        d.tell(sig.HostSample("stall_io_permille", value))
        d.tell(sig.HostSample("pressure_io_permille", min(1000.0, value + 30)))
        d.run(5)


def heavy_compile(d: Device, _: int) -> None:
    """All processors busy for ten minutes: heartbeats come late, now and then a probe takes too long."""
    for turn in range(60):
        d.tell(sig.HostSample("pressure_cpu_permille", 900.0))
        d.tell(sig.HostSample("load_permille", 6_000.0))
        if turn % 6 == 3:
            for name, app in d.apps.items():
                if app.spec.heartbeat_ms:
                    d.tell(sig.HeartbeatMissed(name, app.run, 5_100))
            d.run(2)
            for name, app in d.apps.items():
                if app.spec.heartbeat_ms:
                    d.tell(sig.HeartbeatBack(name, app.run))
        d.run(8)
    d.tell(sig.HostSample("pressure_cpu_permille", 5.0))
    d.tell(sig.HostSample("load_permille", 300.0))


def clock_step(d: Device, hour: int) -> None:
    """The clock is set: for the first time, by seconds, and (trusted) by an hour."""
    d.tell(sig.HostSample("clock_trusted", float(hour % 3 > 0)))
    d.tell(sig.HostSample("clock_step_s", (86_400.0 * 365, 2.0, 3_600.0)[hour % 3]))
    d.tell(sig.HostSample("clock_trusted", 1.0))


def peer_restart(d: Device, hour: int) -> None:
    """A person restarts an app that others need."""
    d.order(1, list(d.apps)[hour % 6])


def short_outage(d: Device, _: int) -> None:
    """A modem that roams: no carrier for half a minute, the broker back a little later."""
    for layer in ("broker", "carrier", "address", "route"):
        d.tell(sig.LinkIs(layer, up=False))
    d.run(30)
    for layer in ("carrier", "address", "route"):
        d.tell(sig.LinkIs(layer, up=True))
    d.run(20)
    d.tell(sig.LinkIs("broker", up=True))


def kernel_chatter(d: Device, hour: int) -> None:
    """One reset of a USB port, one corrected memory error, one slow task."""
    d.tell(sig.KernelSaid(("usb_reset", "ecc", "hung_task", "io_error", "nic_timeout")[hour % 5], "1-1.2"))


def hovering(d: Device, _: int) -> None:
    """Disk, memory and heat near their limits, for a moment beyond them."""
    for permille in (110.0, 104.0, 101.0, 120.0):
        d.tell(sig.HostSample("disk_free_permille:var", permille))
    for permille in (90.0, 70.0, 300.0):
        d.tell(sig.HostSample("memory_free_permille", permille))
    for degrees in (80.0, 86.0, 79.0):
        d.tell(sig.HostSample("temperature_c:cpu", degrees, 95.0))


def standstill(d: Device, _: int) -> None:
    """The virtual machine is moved: everybody stands still for two minutes."""
    d.still(120.0)
    d.tell(sig.StoodStill(gap_ms=120_000))


def app_says(d: Device, hour: int) -> None:
    """An app complains in its log, and lives."""
    words = (
        "retrying upload",
        "connection reset by peer",
        "cannot parse frame, skipped",
        "no space left on device (simulated)",
        "segmentation fault in plugin",
    )
    d.tell(sig.LogSeen(list(d.apps)[hour % 6], "<*>", 3, 3, words[hour % 5], (), words[hour % 5]))


def unreadable(d: Device, _: int) -> None:
    """A figure that cannot be read is no figure."""
    for metric in ("disk_free_permille:var", "memory_free_permille", "temperature_c"):
        d.tell(sig.HostSample(metric, 0.0, 0.0, int(Verdict.UNKNOWN)))
    d.tell(sig.Usage("cache", d.apps["cache"].run, -1, 200_000, -1, -1, 3, -1, -1, 10, 30_000, "S"))


SCENES: dict[str, Callable[[Device, int], None]] = {
    "slow disk": slow_disk, "heavy compile": heavy_compile, "clock step": clock_step, "restart of a peer": peer_restart, "short outage": short_outage,
    "kernel chatter": kernel_chatter, "hovering": hovering, "standstill": standstill, "words of an app": app_says, "unreadable": unreadable,
}  # fmt: skip


def hours(wanted: int = 1_000, seeds: int = 4) -> dict[str, Any]:
    """So many simulated hours, each with one of the scenes beside what healthy apps do anyway."""
    began = time.monotonic()
    alarms: list[str] = []
    wrong: list[str] = []
    notes = 0
    each = -(-wanted // seeds)
    for seed in range(1, seeds + 1):
        made = device(seed)
        for hour in range(each):
            SCENES[list(SCENES)[(hour + seed) % len(SCENES)]](made, hour // len(SCENES))
            made.run(HOUR)
        told = {i.number: i for i in made.reports}
        alarms += [f"{i.app or 'box'} {i.symptom.name}" for i in told.values() if max(r.severity for r in made.reports if r.number == i.number) > Severity.INFO]
        notes += sum(1 for i in told.values() if max(r.severity for r in made.reports if r.number == i.number) <= Severity.INFO)
        wrong += [f"{a.verb.name} {a.app}" for a in made.acts() if a.verb not in HARMLESS]
    return {
        "hours": each * seeds, "alarms": len(alarms), "wrong_remedies": len(wrong), "notes": notes, "app_hours": each * seeds * 6, "scenes": len(SCENES) + 6,
        "what": sorted(set(alarms + wrong))[:20], "took_s": round(time.monotonic() - began, 1),
    }  # fmt: skip
