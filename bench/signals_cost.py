# SPDX-License-Identifier: Apache-2.0
"""What looking costs: one pass over twenty processes beside psutil in the same run, and CPU and memory of a device at rest.

Duty: measure. Both passes read the same of each process (memory, descriptors, threads, CPU time, state); psutil is spared the children.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COUNT = 20
ROUNDS = 60


def passes() -> dict[str, float]:
    """ms a pass over twenty sleeping processes, ours and psutil's, turn and turn about."""
    import psutil

    from edgeheal.adapters.processes.source import Processes

    sleepers = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]) for _ in range(COUNT)]
    try:
        time.sleep(0.5)
        ours = Processes(lambda _: None)
        for n, one in enumerate(sleepers):
            ours.watch(f"app{n}", 1, one.pid)
        theirs = [psutil.Process(one.pid) for one in sleepers]
        taken: dict[str, list[float]] = {"ours": [], "psutil": []}
        for _ in range(ROUNDS):
            began = time.perf_counter_ns()
            for n in range(COUNT):
                ours.sample(f"app{n}", time.monotonic_ns())
            middle = time.perf_counter_ns()
            for one in theirs:
                with one.oneshot():
                    one.memory_info()
                    one.num_fds()
                    one.num_threads()
                    one.cpu_times()
                    one.status()
            taken["ours"].append((middle - began) / 1e6)
            taken["psutil"].append((time.perf_counter_ns() - middle) / 1e6)
        ours.close()
        return {"pass_ms": round(statistics.median(taken["ours"]), 3), "psutil_pass_ms": round(statistics.median(taken["psutil"]), 3)}
    finally:
        for one in sleepers:
            one.kill()
            one.wait()


def looking(seconds: float = 15.0) -> dict[str, float]:
    """CPU ms a minute of looking alone: twenty processes and the box at 1 Hz through adapters, detectors and the engine, in this process."""
    from edgeheal.adapters.blocking import Workers
    from edgeheal.adapters.host.source import Host
    from edgeheal.adapters.processes.source import Processes
    from edgeheal.agent.brain import Brain
    from edgeheal.agent.clock import SystemClock
    from edgeheal.agent.loop import Loop
    from edgeheal.core import signal as sig
    from edgeheal.core.app import AppSpec
    from edgeheal.core.policy import Policy
    from edgeheal.engine.state import initial

    sleepers = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]) for _ in range(COUNT)]
    try:
        brain = Brain(initial(1, b"looker"), SystemClock().now)
        brain.hear(sig.PolicyIs(Policy().to_plain()))
        brain.hear(sig.CatalogIs(tuple(AppSpec(f"app{n}", memory_kib=65_536, files=256, tasks=64).to_plain() for n in range(COUNT))))
        processes, workers = Processes(brain.hear, every_s=1.0), Workers()
        host = Host(brain.hear, workers, {"var": "/"}, time.monotonic_ns, every_s=1.0)
        brain.listen(processes.heed)
        for n, one in enumerate(sleepers):
            brain.hear(sig.AppStarted(f"app{n}", 1, one.pid))
            brain.hear(sig.AppReady(f"app{n}", 1))
        loop, began = Loop(brain.hear), time.monotonic()
        for name, source in (("processes", processes), ("host", host), ("workers", workers)):
            loop.add(name, source)
        spent = 0.0

        def turn() -> None:
            nonlocal spent
            brain.drain()
            if not spent and time.monotonic() - began > 2.0:
                spent = time.process_time()
            if time.monotonic() - began > 2.0 + seconds:
                loop.stop()

        loop.run(turn)
        return {"cpu_ms_per_min": round((time.process_time() - spent) * 60_000 / seconds, 1)}
    finally:
        for one in sleepers:
            one.kill()
            one.wait()


def cpu_ms(pids: list[int]) -> int:
    """CPU of these processes so far, user and system, their ended children left out."""
    ticks = 0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks * 1000 // os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def bare_mb() -> float:
    """Resident MB of a bare interpreter of this run."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]) as bare:
        time.sleep(0.3)
        size = resident_mb(bare.pid)
        bare.kill()
    return size


def at_rest(guard: int, agent: int, seconds: float = 20.0) -> dict[str, Any]:
    """CPU a minute of guard and agent, and the agent's memory over a bare interpreter, on the bench's own device (five apps, all at 1 Hz, probes too)."""
    before = cpu_ms([guard, agent])
    time.sleep(seconds)
    spent = cpu_ms([guard, agent]) - before
    return {"device_cpu_ms_per_min": round(spent * 60 / seconds, 1), "agent_over_bare_mb": round(resident_mb(agent) - bare_mb(), 2)}
