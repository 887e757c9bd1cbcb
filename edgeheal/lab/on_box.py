# SPDX-License-Identifier: Apache-2.0
"""Drills on a real box: one app is hurt as a user could hurt it, and what the box does about it is watched, within a time limit.

Duty: say whether it is safe, inject, wait for the agent's own words, put back. Not its duty: consent (the command line asks for it).
Invariants: only an app that runs its known-good image, is well, and moves nothing in the world; never while something is open or paused; nothing of
the box is changed but by signals to processes; when the time is over whatever was stopped goes on.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeheal.config.schema import Config
from edgeheal.core.errors import EdgeHealError, RefusedByPolicyError
from edgeheal.lab.events import Events
from edgeheal.lab.scenes import Result
from edgeheal.lab.stage import StageError


class DrillRefusedError(RefusedByPolicyError):
    """Not here, or not now."""

    message_id = "eh-drill"
    hint = "play it on a stage instead: leave out --on-this-box"


class OnBox:
    """The device below `root`, looked at by the shipped commands; what `lab.events` follows."""

    def __init__(self, root: str) -> None:
        """`root` as for every verb."""
        self.root = Path(root)

    def environment(self) -> dict[str, str]:
        """This package, importable."""
        return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}

    def status(self) -> dict[str, Any]:
        """`edgeheal status --json`."""
        words = [sys.executable, "-m", "edgeheal.cli.main", "status", "--json", "--root", str(self.root)]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False, env=self.environment())
        found: dict[str, Any] = json.loads(done.stdout or b"{}")
        return found

    def app(self, name: str) -> dict[str, Any]:
        """Its row."""
        return next((row for row in self.status().get("apps", []) if row["app"] == name), {})


@dataclass(slots=True)
class Drill:
    """One drill that runs. `end` is the monotonic moment at which it is over, whatever happened."""

    box: OnBox
    events: Events
    app: str
    pid: int
    agent: int
    end: float

    def left(self) -> float:
        """Seconds that it still has."""
        return max(0.1, self.end - time.monotonic())


def choose(box: OnBox, config: Config, wanted: str) -> tuple[str, int, int]:
    """(app, pid, the agent's pid) that may be hurt; DrillRefusedError says why none may."""
    status = box.status()
    rows = status.get("apps", [])
    if status.get("agent") != "ok" or status.get("guard") != "ok":
        raise DrillRefusedError("agent or guard does not answer", hint="edgeheal doctor")
    fitting = [row for row in rows if not wanted or row["app"] == wanted]
    if len(fitting) != 1:
        raise DrillRefusedError(f"which app? {', '.join(row['app'] for row in rows) or 'there is none'}", hint="name it: --app APP")
    row = fitting[0]
    said = config.apps[row["app"]]
    if said.actuates or (said.actuates is None and said.devices):
        raise DrillRefusedError(f"{row['app']} moves something in the world (actuates, or devices)")
    if status["shown"] != "OK":
        raise DrillRefusedError(f"something is going on already ({status['shown']})", hint="edgeheal explain; a drill is for a box that is well")
    if status.get("mode") != "act":
        raise DrillRefusedError(f"mode is {status.get('mode')}: nothing would be healed")
    if row["image_state"] != "good":
        raise DrillRefusedError(f"{row['app']} runs an image that is {row['image_state'] or 'unknown'}, not known good", hint="wait for its soak")
    return row["app"], int(row["pid"]), int(status["agent_pid"])


def kill(drill: Drill) -> Result:
    """The app dies of a signal."""
    return _hurt(drill, "kill", signal.SIGKILL)


def hang(drill: Drill) -> Result:
    """The app stands still: alive, but silent."""
    return _hurt(drill, "hang", signal.SIGSTOP)


def _hurt(drill: Drill, name: str, signum: int) -> Result:
    """Send it, and wait until the agent said an incident, a remedy, and a healthy app."""
    result, since, began = Result(name), drill.events.mark(), time.monotonic_ns()
    os.kill(drill.pid, signum)
    try:
        opened = drill.events.wait(since, lambda e: e["event"] == "incident" and e["app"] == drill.app, drill.left(), "an incident")
        result.detect_ms = (opened["at_ns"] - began) // 1_000_000
        result.incident = opened["id"]
        acted = drill.events.wait(since, lambda e: e["event"] == "incident" and e["id"] == opened["id"] and bool(e["remedy"]), drill.left(), "a remedy")
        healthy = lambda e: e["event"] == "app" and e["app"] == drill.app and e["fine"] == "HEALTHY" and e["at_ns"] >= acted["at_ns"]  # noqa: E731
        back = drill.events.wait(since, healthy, drill.left(), f"{drill.app} to be healthy")
        result.recover_ms, result.cause, result.remedy = (back["at_ns"] - began) // 1_000_000, acted["cause"], acted["remedy"]
        result.ok = True
    finally:
        if signum == signal.SIGSTOP:
            with contextlib.suppress(OSError):
                os.kill(drill.pid, signal.SIGCONT)
    return result


def agent_killed(drill: Drill) -> Result:
    """The agent is killed; the app goes on untouched."""
    result, began = Result("agent-killed", cause="AGENT", remedy="adopted"), time.monotonic_ns()
    os.kill(drill.agent, signal.SIGKILL)
    while time.monotonic() < drill.end:
        status = drill.box.status()
        if status.get("agent") == "ok" and status["agent_pid"] != drill.agent:
            break
        time.sleep(0.2)
    else:
        raise StageError("the agent did not come back in time")
    result.detect_ms = result.recover_ms = (time.monotonic_ns() - began) // 1_000_000
    after = int(drill.box.app(drill.app).get("pid", 0))
    result.ok = after == drill.pid
    result.note = "" if result.ok else f"{drill.app} pid {drill.pid} -> {after}"
    return result


DRILLS: dict[str, Callable[[Drill], Result]] = {"kill": kill, "hang": hang, "agent-killed": agent_killed}


def play(root: str, config: Config, names: list[str], wanted: str, seconds: float) -> list[Result]:
    """Play them one after the other, `seconds` for all; what could not be done is a result that is not ok."""
    box, end, results = OnBox(root), time.monotonic() + seconds, list[Result]()
    app, pid, agent = choose(box, config, wanted)
    events = Events(box)
    try:
        events.wait(0, lambda e: e["event"] == "watching", max(1.0, end - time.monotonic()), "the agent's events")
        for name in names:
            while results and time.monotonic() < end:  # the one before is over when the box is well again
                with contextlib.suppress(DrillRefusedError):
                    app, pid, agent = choose(box, config, wanted)
                    break
                time.sleep(0.5)
            try:
                results.append(DRILLS[name](Drill(box, events, app, pid, agent, end)))
            except (EdgeHealError, OSError) as fault:
                results.append(Result(name, note=str(fault)))
    finally:
        events.close()
    return results
