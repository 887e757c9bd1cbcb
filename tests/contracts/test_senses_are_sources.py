# SPDX-License-Identifier: Apache-2.0
"""Every sense keeps the contract of `ports.Source`, whatever the loop does to it."""

import os
import select
import time

import pytest

from edgeheal.adapters.blocking import Workers
from edgeheal.adapters.host.source import Host
from edgeheal.adapters.kernel import Kernel
from edgeheal.adapters.logs.source import Logs
from edgeheal.adapters.metrics import Metrics
from edgeheal.adapters.probes.schedule import Probes
from edgeheal.adapters.processes.source import Processes
from edgeheal.adapters.sensors.files import Files
from edgeheal.adapters.sensors.lines import Lines
from edgeheal.adapters.sensors.modbus import Modbus
from edgeheal.adapters.sensors.spec import FileSensor, Line, LineSensor, Register, SensorSpec
from edgeheal.core.app import AppSpec, MetricSpec, ProbeSpec
from edgeheal.core.signal import AppExited, AppReady, AppSeen, AppStarted, Signal, StartFailed, from_plain, to_plain
from edgeheal.ports import Source

SPEC = AppSpec("a", probes=(ProbeSpec("t", "live", "tcp", "127.0.0.1:9", 200, 100), ProbeSpec("e", "live", "exec", "x", 200, 100)), metrics=(MetricSpec("m"),))


def made(name, tmp_path, out) -> Source:
    clock, workers = time.monotonic_ns, Workers()
    (tmp_path / "log").write_text("hello there\n")
    match name:
        case "workers":
            return workers
        case "processes":
            return Processes(out.append, every_s=0.1)
        case "probes":
            probes = Probes(out.append, lambda *_: False, clock)
            probes.catalog([SPEC])
            return probes
        case "metrics":
            metrics = Metrics(out.append, lambda app: str(tmp_path / app), clock)
            metrics.catalog([SPEC])
            return metrics
        case "logs":
            return Logs(out.append, lambda app, give: give(os.open(tmp_path / "log", os.O_RDONLY)), lambda app, upto, done: done(), clock)
        case "kernel":
            return Kernel(out.append, clock, path=str(tmp_path / "none"))
        case "host":
            return Host(out.append, workers, {"var": str(tmp_path)}, clock, every_s=0.1)
        case "files":
            return Files(out.append, workers, [FileSensor(SensorSpec("s", every_ms=50), str(tmp_path / "log"))])
        case "lines":
            return Lines(out.append, workers, Line(str(tmp_path / "no")), [LineSensor(SensorSpec("s", every_ms=50), "json", "x")])
        case _:
            return Modbus(out.append, workers, Line(str(tmp_path / "no")), [Register(SensorSpec("s", every_ms=50), 1, 0)])


SENSES = ["workers", "processes", "probes", "metrics", "logs", "kernel", "host", "files", "lines", "modbus"]
SIGNALS = [
    AppStarted(app="a", run=1, pid=os.getpid()), AppStarted(app="a", run=1, pid=os.getpid()), AppReady(app="a", run=1), AppReady(app="nobody"),
    AppSeen(app="a", run=1, phase=2, pid=os.getpid()), AppExited(app="a", run=1), AppExited(app="a", run=1), AppStarted(app="b", run=2, pid=-1),
    StartFailed(app="a"), AppSeen(app="a", run=3, phase=2, pid=os.getpid()), AppSeen(app="a", run=3, phase=6), AppStarted(app="a", run=4, pid=os.getpid()),
]  # fmt: skip


@pytest.mark.parametrize("name", SENSES)
def test_a_sense_is_a_source_that_never_blocks_and_tells_only_plain_signals(name, tmp_path):
    out: list[Signal] = []
    sense = made(name, tmp_path, out)
    heed = getattr(sense, "heed", lambda _: None)
    longest = 0.0
    for turn in range(60):
        if turn % 3 == 0 and turn // 3 < len(SIGNALS):
            heed(SIGNALS[turn // 3])
        began = time.monotonic()
        fds = sense.fds()
        due = sense.due()
        for fd in fds:
            sense.ready(fd, 1)
        sense.ready(999_999, 1)  # a descriptor that is not ours any more
        sense.tick(time.monotonic_ns() + turn * 50_000_000)
        longest = max(longest, time.monotonic() - began)
        assert all(isinstance(fd, int) and fd >= 0 and mask > 0 for fd, mask in fds.items())
        assert isinstance(due, int)
        assert due >= 0
    sense.tick(time.monotonic_ns() + 3600 * 10**9)  # the box stood still
    assert longest < 0.2
    for signal in out:
        assert from_plain(to_plain(signal)) == signal
    sense.close()


@pytest.mark.parametrize("name", [n for n in SENSES if n != "workers"])
def test_a_closed_sense_leaves_no_descriptor_behind(name, tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    out: list[Signal] = []
    sense = made(name, tmp_path, out)
    heed = getattr(sense, "heed", lambda _: None)
    heed(AppSeen(app="a", run=1, phase=2, pid=os.getpid()))
    for _ in range(3):
        sense.fds()
        sense.tick(time.monotonic_ns() + 10**9)
    sense.close()
    end = time.monotonic() + 5
    while (left := len(set(os.listdir("/proc/self/fd")) - before)) > 1 and time.monotonic() < end:
        select.select([], [], [], 0.01)  # a worker may be in the middle of a look
    assert left <= 1  # the workers' bell, which is not the sense's
