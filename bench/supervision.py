# SPDX-License-Identifier: Apache-2.0
"""Bench: SIGKILL to running again, start of twenty apps, CPU at rest and memory - beside peers in the same run.

Twenty services (ten in C, ten in Python) write "pid monotonic_ns" when they are up; the bench kills one at a time at random
moments and reads the new line's own time stamp, so polling costs no accuracy. EdgeHeal runs its shipped self: signed images,
default config (only the apps are named), MQTT over TLS and detection on. Figures are medians; quote the ratios.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from supervision_peers import S6, Circus, Monit, Peer, Runit, Service, SmallestC, Supervisord  # noqa: E402

SLEEPER_PY = """import os, signal, sys, time
line = b"%d %d\\n" % (os.getpid(), time.monotonic_ns())
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
os.write(fd, line)
os.close(fd)
while True:
    signal.pause()
"""


def compile_c(folder: Path, name: str) -> Path | None:
    """The bench's C program, compiled; None without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    out = folder / name
    subprocess.run([compiler, "-O2", "-o", str(out), str(HERE / "supervision_c" / f"{name}.c")], check=True)
    return out


def last_up(file: Path) -> tuple[int, int]:
    """(pid, monotonic ns) of the newest complete line; (0, 0) when there is none."""
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except OSError:
        return 0, 0
    if not lines:
        return 0, 0
    pid, at = lines[-1].split()
    return int(pid), int(at)


def wait_up(files: list[Path], seconds: float) -> int:
    """When the last of `files` said it is up (monotonic ns)."""
    end = time.monotonic() + seconds
    while not all(last_up(f)[0] for f in files):
        if time.monotonic() > end:
            missing = [f.name for f in files if not last_up(f)[0]]
            raise RuntimeError(f"not up after {seconds} s: {missing}")
        time.sleep(0.01)
    return max(last_up(f)[1] for f in files)


def kill_one(file: Path, seconds: float = 30.0) -> float:
    """SIGKILL the service behind `file`; ms until its successor was up."""
    pid, _ = last_up(file)
    began = time.monotonic_ns()
    os.kill(pid, 9)
    end = time.monotonic() + seconds
    while True:
        new, at = last_up(file)
        if new != pid and at > began:
            return (at - began) / 1e6
        if time.monotonic() > end:
            raise RuntimeError(f"{file.name} did not come back in {seconds} s")
        time.sleep(0.002)


def cpu_ns(pids: list[int]) -> int:
    """Scheduler run time of the processes."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


def rss_mb(pid: int) -> float:
    """Resident MB of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def bare_python_mb() -> float:
    """Resident MB of a bare `python -I -S` of this run."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]) as bare:
        time.sleep(0.3)
        size = rss_mb(bare.pid)
        bare.kill()
    return size


def services_in(folder: Path, sleeper: Path | None) -> list[Service]:
    """Twenty services: ten in C (Python where no compiler is), ten in Python."""
    script = folder / "sleeper.py"
    script.write_text(SLEEPER_PY)
    found: list[Service] = []
    for i in range(20):
        file = folder / f"up.{i:02d}"
        python = [sys.executable, "-I", "-S", str(script), str(file)]
        found.append((f"c{i:02d}" if i < 10 else f"py{i:02d}", [str(sleeper), str(file)] if i < 10 and sleeper else python, file))
    return found


def kill_round(services: list[Service], kills: int, seed: int, settle_s: tuple[float, float]) -> tuple[list[float], list[float]]:
    """(ms of C services, ms of Python services) over `kills` kills at random moments."""
    rng = random.Random(seed)
    times: tuple[list[float], list[float]] = ([], [])
    for n in range(kills):
        which = (n % 2) * 10 + rng.randrange(10)
        time.sleep(rng.uniform(*settle_s))
        times[n % 2].append(kill_one(services[which][2]))
    return times


def percentile(values: list[float], q: float) -> float:
    """The q-quantile, nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def figures(c: list[float], py: list[float], start_ms: float) -> dict[str, Any]:
    """The common figures."""
    return {
        "restart_ms_p50": round(statistics.median(c), 2),
        "restart_ms_p99": round(percentile(c, 0.99), 2),
        "restart_py_ms_p50": round(statistics.median(py), 2),
        "start_all_ms": round(start_ms, 1),
        "kills": len(c) + len(py),
    }


def measure_peer(peer: Peer, services: list[Service], kills: int) -> dict[str, Any]:
    """One peer's figures, or why there are none."""
    why = peer.missing()
    if why:
        return {"skipped": why}
    for _, _, file in services:
        file.unlink(missing_ok=True)
    began = time.monotonic_ns()
    try:
        peer.start(services)
        start_ms = (wait_up([s[2] for s in services], 60) - began) / 1e6
        time.sleep(3.0)
        c, py = kill_round(services, min(kills, peer.kills), 7, (0.02, 0.1))
        return figures(c, py, start_ms)
    except (RuntimeError, OSError) as fault:
        return {"skipped": f"did not work here: {fault}"}
    finally:
        peer.stop()
        for _, _, file in services:
            pid = last_up(file)[0]
            if pid:
                subprocess.run(["kill", "-9", str(pid)], capture_output=True, check=False)


def run(kills: int = 100) -> dict[str, Any]:
    """All figures of the supervision bench."""
    from supervision_edgeheal import measure_apart, measure_edgeheal

    with tempfile.TemporaryDirectory(prefix="eh-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        sleeper, smallest = compile_c(folder, "sleeper"), compile_c(folder, "smallest")
        services = services_in(folder, sleeper)
        result: dict[str, Any] = {"bare_python_mb": round(bare_python_mb(), 2)}
        result["edgeheal"] = measure_edgeheal(folder / "edgeheal", sleeper, kills, result["bare_python_mb"])
        for peer in (SmallestC(folder / "smallest_c", smallest), S6(folder / "s6"), Runit(folder / "runit"), Monit(folder / "monit"),
                     Supervisord(folder / "supervisord"), Circus(folder / "circus")):  # fmt: skip
            peer.folder.mkdir()
            print(f"{peer.name}: measuring", file=sys.stderr)
            result[peer.name] = measure_peer(peer, services, kills)
        result["edgeheal_uids_apart"] = measure_apart(folder / "apart", sleeper, min(kills, 40))
        smallest_c, own = result["smallest_c"], result["edgeheal"]
        if "skipped" not in smallest_c and "skipped" not in own:
            result["ratio_to_smallest_c"] = {k: round(own[k] / smallest_c[k], 2) for k in ("restart_ms_p50", "restart_ms_p99", "start_all_ms")}
        return result
