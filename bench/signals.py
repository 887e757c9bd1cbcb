# SPDX-License-Identifier: Apache-2.0
"""Bench: faults made for real on a whole device, what was noticed, how soon, and who was blamed; healthy look-alikes; the cost of looking.

At least forty faults on a real guard and a real agent with five apps from signed images, in namespaces of their own (network, mounts,
pids): each states its right cause before it is made. Then at least 1,000 simulated hours of what looks like a fault and is none, over the
real engine. Then a pass over 20 processes beside psutil, CPU a minute and memory. `BENCH_FAULTS` (words) leaves all faults out but those
whose name has one of the words. Needs root for its namespaces; without it the faults are {"skipped": why}.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

INSIDE = "BENCH_INSIDE"
NOTES = [
    "short times (sampling 1 s, probes 1 s, link_down 3 s, probation 5 s, wide budgets) so that sixty faults take minutes, not days",
    "no USB, eMMC, thermal zone, hwmon here: files and records stand where the kernel's would; all else is made for real",
    "cpu_ms_per_min: looking alone (20 processes and the box at 1 Hz, detection); device_cpu_ms_per_min: guard and agent under the bench's ten probes a second",
]


def run() -> dict[str, Any]:
    """All figures."""
    from signals_cost import looking, passes
    from signals_hours import hours

    figures: dict[str, Any] = {}
    if os.geteuid() != 0:
        figures["faults"] = {"skipped": "needs root: namespaces, loop devices, a pid limit"}
    else:
        figures |= enter("faults")
    figures["lookalikes"] = hours(int(os.environ.get("BENCH_HOURS", "1000")))
    return figures | passes() | looking()


def enter(part: str) -> Any:
    """Run a part of this bench in namespaces of its own; what it prints last is its answer."""
    words = ["unshare", "-n", "-m", "-p", "-f", "--mount-proc", "--kill-child", sys.executable, str(HERE / "signals.py"), part]
    done = subprocess.run(words, stdout=subprocess.PIPE, env=os.environ | {INSIDE: part}, check=False)
    if done.returncode:
        raise SystemExit(f"signals: {part} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def faults() -> dict[str, Any]:
    """Make each fault, one after the other; and what the device costs at rest."""
    from signals_box import BOX_FAULTS
    from signals_cost import at_rest
    from signals_device import Device
    from signals_faults import APP_FAULTS, SENSOR_FAULTS
    from signals_world import World

    from edgeheal.lab.stage import Stage

    wanted = os.environ.get("BENCH_FAULTS", "").split()
    chosen = [f for f in (*APP_FAULTS, *SENSOR_FAULTS, *BOX_FAULTS) if not wanted or any(w in f.name for w in wanted)]
    found: list[dict[str, Any]] = []
    cost: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="signals-") as folder:
        world = World(Path(folder) / "world")
        try:
            with Stage(Path(folder) / "stage") as stage:
                mounts = [world.disk("media"), world.disk("many", inodes=64), world.disk("sick", damaged=True)]
                mounts += [world.disk("agent", 32, at=stage.root / "var/lib/edgeheal/agent"), world.folder / "mnt-far"]
                mounts[-1].mkdir()
                world.narrow_device()
                device = Device(stage, world, mounts)
                began = time.monotonic()
                device.set_up()
                print(f"signals: the device is up after {time.monotonic() - began:.0f} s", file=sys.stderr)
                if not wanted:
                    cost = at_rest(stage.programs["guard"].process.pid, int(device.status().get("agent_pid", 0)))
                for one in chosen:
                    found.append(make(device, one))
                    print(f"signals: {found[-1]}", file=sys.stderr)
                cost["longest_gap_ms"] = int((device.status().get("agent_view") or {}).get("longest_gap_ms", -1))
                device.events.close()
        finally:
            if os.environ.get("BENCH_KEEP"):
                shutil.copytree(Path(folder) / "stage/logs", os.environ["BENCH_KEEP"], dirs_exist_ok=True)
            world.close()
    right = sum(row["cause_first"] for row in found), sum(row["cause_top3"] for row in found)
    summary = {"made": len(found), "noticed": sum(row["detect_ms"] >= 0 for row in found), "cause_first": right[0], "cause_top3": right[1]}
    return {"faults": found, "summary": summary, **cost, "notes": NOTES}


def make(device: Any, one: Any) -> dict[str, Any]:
    """One fault: at rest, broken, noticed, blamed, mended."""
    from edgeheal.lab.stage import StageError

    rested = device.at_rest(one.about)
    row: dict[str, Any] = {"name": one.name, "symptom": "", "right": one.right[0], "detect_ms": -1, "cause_first": False, "cause_top3": False}
    since, began = device.events.mark(), time.monotonic_ns()
    try:
        at = one.make(device)
        began = at if isinstance(at, int) and not isinstance(at, bool) else began
        event = device.told(since, one.app, one.symptoms, one.subject, one.limit_s, began)
        time.sleep(one.settle_s)
        causes, also = device.blamed(event["id"])
        row |= {
            "symptom": event["symptom"], "detect_ms": (event["at_ns"] - began) // 1_000_000, "cause_first": causes[:1] != [] and causes[0] in one.right,
            "cause_top3": any(c in one.right for c in causes[:3]), "causes": causes,
        }  # fmt: skip
        if one.takes and not set(one.takes) <= set(also):
            row |= {"cause_first": False, "note": f"one incident should speak for {', '.join(one.takes)}, it does for {', '.join(also) or 'nobody'}"}
    except (StageError, OSError, subprocess.SubprocessError) as why:
        row["note"] = str(why)[:400]
    if not rested:
        row["note"] = f"not at rest before it; {row.get('note', '')}"
    try:
        one.mend(device)
    except (StageError, OSError, KeyError) as why:
        row["note"] = f"{row.get('note', '')} mend: {why}"
    return row


if __name__ == "__main__":
    print(json.dumps({"faults": faults}[sys.argv[1]]()))
