# SPDX-License-Identifier: Apache-2.0
"""Faults of apps: each made for real, its right cause stated before it is made.

A fault is a name, what must be noticed (any of `symptoms`, of `app`, "" the box), the causes that are right (the first is the one stated), and two
hands: `make` breaks something, `mend` takes it away.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from signals_device import Device, monotonic_ns
from signals_world import run


@dataclass(frozen=True, slots=True)
class Fault:
    """`settle_s`: when the causes are read after the first word; `apps`: who must be well before it; `takes`: apps that the one incident must speak for."""

    name: str
    app: str
    symptoms: frozenset[str]
    right: tuple[str, ...]
    make: Callable[[Device], object]
    mend: Callable[[Device], object] = lambda _: None
    subject: str = ""
    settle_s: float = 1.0
    limit_s: float = 20.0
    apps: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()

    @property
    def about(self) -> tuple[str, ...]:
        """Apps that it touches."""
        return self.apps or ((self.app,) if self.app else ())


def fault(
    name: str, app: str, symptoms: str, right: str, make: Callable[[Device], object], mend: Callable[[Device], object] = lambda _: None, **more: object
) -> Fault:
    """Short hand."""
    return Fault(name, app, frozenset(symptoms.split()), tuple(right.split()), make, mend, **more)  # type: ignore[arg-type]


def says(app: str, words: str) -> Callable[[Device], object]:
    """An order to a specimen."""
    return lambda d: d.order(app, words)


def _always(app: str, words: str) -> Callable[[Device], object]:
    """From now on it goes wrong at each start; a person restarts it."""

    def make(d: Device) -> None:
        d.always(app, words)
        d.stage.on_device("restart", app, check=False)

    return make


def _well(app: str) -> Callable[[Device], object]:
    def mend(d: Device) -> None:
        d.always(app, "")
        d.probe_breaks(app, False)
        d.order(app, "well")

    return mend


def _bad_config(app: str) -> Callable[[Device], object]:
    return lambda d: d.stage.on_device("app", "config", "set", app, "-", stdin=b'{"period_s": "often"}')


def _port_taken(d: Device) -> None:
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    d.always("camera", "exit 1")
    d.stage.on_device("restart", "camera", check=False)
    end = time.monotonic() + 10
    while True:
        try:
            holder.bind(("127.0.0.1", d.ports["camera"]))
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
    holder.listen()
    d.always("camera", "")
    d.__dict__["holder"] = holder


def _port_free(d: Device) -> None:
    d.__dict__.pop("holder").close()


def _again_and_again(d: Device) -> None:
    for _ in range(5):
        d.kill("logger", signal.SIGTERM)
        time.sleep(1.5)


def _oom(d: Device) -> None:
    """A memory group of the kernel's own kind around the app, and an app that wants more than it has."""
    group = Path("/sys/fs/cgroup/memory")
    mine = next((line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line), "")
    base = group / mine.strip("/") if (group / mine.strip("/")).is_dir() else group
    made = base / f"signals-bench-{monotonic_ns()}"
    made.mkdir()
    (made / "memory.limit_in_bytes").write_text(str(40 << 20))
    (made / "cgroup.procs").write_text(str(d.pid("historian")))
    d.__dict__["group"] = made
    d.order("historian", "eat 60")


def _oom_over(d: Device) -> None:
    group = d.__dict__.pop("group")
    for _ in range(50):
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.1)


def _upgrade(app: str, version: str, what: str) -> Callable[[Device], object]:
    def make(d: Device) -> int:
        bundle = d.build(app, version, fault=what)
        at_ns = monotonic_ns()
        d.stage.on_device("image", "install", str(bundle))
        return at_ns

    return make


def _frozen(d: Device) -> None:
    """The volume below the app freezes, the app waits in the kernel, and then somebody wants it restarted."""
    where = d.mounts[0]
    run("fsfreeze", "-f", str(where))
    d.order("logger", f"write-main {where}/x")
    time.sleep(0.5)
    d.stage.on_device("restart", "logger", check=False)


def _thaw(d: Device) -> None:
    run("fsfreeze", "-u", str(d.mounts[0]), check=False)


def _needs_down(d: Device) -> None:
    d.always("historian", "never")
    d.always("uplink", "needs")
    d.stage.on_device("restart", "historian", check=False)
    d.kill("uplink")


def _needs_back(d: Device) -> None:
    d.always("historian", "")
    d.always("uplink", "")


LOST = "ERROR resolve example.test failed"
APP_FAULTS: tuple[Fault, ...] = (
    fault("killed", "meter", "EXIT", "APP_CRASH", lambda d: d.kill("meter")),
    fault("aborts", "historian", "EXIT", "APP_CRASH", says("historian", "abort")),
    fault("segmentation fault", "camera", "EXIT", "APP_CRASH", says("camera", "segv")),
    fault("exits with a status", "logger", "EXIT", "APP_CRASH", says("logger", "exit 3")),
    fault("exits with status 0", "meter", "EXIT", "APP_CRASH", says("meter", "exit 0")),
    fault("uncaught exception", "historian", "EXIT", "APP_CRASH", says("historian", "raise")),
    fault("one TERM by a stranger", "uplink", "EXIT", "FOREIGN_HAND", lambda d: d.kill("uplink", signal.SIGTERM)),
    fault("stands still", "meter", "HANG PROBE_FAILED", "APP_HANG", lambda d: d.kill("meter", signal.SIGSTOP)),
    fault("heart stops, the rest goes on", "historian", "HANG", "APP_HANG", says("historian", "mute"), _well("historian")),
    fault("answers nobody, the heart beats", "camera", "PROBE_FAILED", "APP_HANG", says("camera", "deaf"), _well("camera")),
    fault("answers nobody, no heart", "logger", "PROBE_FAILED", "APP_HANG", says("logger", "deaf"), _well("logger")),
    fault("spins on a processor", "historian", "HANG PROBE_FAILED CPU_SPIN", "APP_HANG APP_BUSY", says("historian", "spin 1"), settle_s=0.3),
    fault("the probe is what is broken", "meter", "PROBE_FAILED", "PROBE", lambda d: d.probe_breaks("meter", True), _well("meter"), settle_s=9.0),
    fault("leaks memory", "camera", "MEMORY_GROWTH", "APP_MEMORY", says("camera", "leak 300")),
    fault("jumps over its memory limit", "logger", "MEMORY_LIMIT", "APP_MEMORY", says("logger", "eat 90")),
    fault("killed by the kernel for memory", "historian", "OOM_KILL", "APP_MEMORY", _oom, _oom_over),
    fault("leaks descriptors, and says it cannot resolve", "uplink", "FD_GROWTH", "APP_DESCRIPTORS", says("uplink", "fds 8"), limit_s=30),
    fault("leaks descriptors until it ends of it", "camera", "EXIT FD_GROWTH", "APP_DESCRIPTORS", says("camera", "fds-and-go 12")),
    fault("leaks threads", "camera", "THREAD_GROWTH", "APP_THREADS", says("camera", "threads 5")),
    fault("leaks children", "logger", "CHILD_GROWTH THREAD_GROWTH", "APP_THREADS", says("logger", "children 8"), limit_s=35),
    fault("never gets ready", "meter", "START_SLOW START_FAILED", "APP_HANG", _always("meter", "never"), _well("meter")),
    fault("ends at each start", "historian", "CRASH_LOOP", "APP_CRASH", _always("historian", "exit 4"), _well("historian"), limit_s=30),
    fault("a config it cannot read", "camera", "EXIT CRASH_LOOP START_FAILED", "APP_CONFIG", _bad_config("camera")),
    fault("a new image that crashes", "camera", "TRIAL_FAILED", "APP_IMAGE", _upgrade("camera", "2.0.0", "crash")),
    fault("a new image that runs, but is sick", "uplink", "TRIAL_FAILED PROBE_FAILED", "APP_IMAGE", _upgrade("uplink", "3.0.0", "sick"), limit_s=30),
    fault("its port is taken", "camera", "PORT_HELD EXIT CRASH_LOOP", "PORT_HELD", _port_taken, _port_free, settle_s=2.0),
    fault("restarted by a stranger, again and again", "logger", "FOREIGN_RESTARTS", "FOREIGN_HAND", _again_and_again, limit_s=30),
    fault("what it needs never comes up", "uplink", "EXIT", "DEPENDENCY", _needs_down, _needs_back, apps=("uplink", "historian"), settle_s=0.5),
    fault("waits in the kernel and cannot be ended", "logger", "UNKILLABLE", "DEVICE_IO", _frozen, _thaw, settle_s=0.5, limit_s=30),
)
SENSOR_FAULTS: tuple[Fault, ...] = (
    fault("one channel falls silent", "meter", "SENSOR_MISSING", "SENSOR", says("meter", "silent flow"), _well("meter"), subject="flow"),
    fault("all channels fall silent", "meter", "SENSOR_MISSING", "BUS", says("meter", "silent temperature pressure flow"), _well("meter"), settle_s=4.0),
    fault("a value stands still", "meter", "SENSOR_STUCK", "SENSOR", says("meter", "value 21.5\n"), _well("meter")),
    fault("a value out of range", "meter", "SENSOR_RANGE", "SENSOR", says("meter", "value 4000"), _well("meter")),
    fault("all values times 100", "meter", "SENSOR_SCALE", "SENSOR_SCALE", says("meter", "scale 100"), _well("meter")),
)
