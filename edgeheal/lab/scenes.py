# SPDX-License-Identifier: Apache-2.0
"""The demo's scenes: each breaks one thing for real and says what must come of it.

Duty: inject, and name what counts as detected and as healed. What happened is read from the agent's events, the fleet's store
and the app itself, never from here. Invariant: faults are what can happen to anybody's app (signals, files, bundles, packets).
"""

import os
import signal
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeheal.lab.events import Event, Events
from edgeheal.lab.stage import Stage, StageError, until

APP = "sensor-gw"
SLACK_S = 20.0
PROBATION_S = 6.0


@dataclass(slots=True)
class Result:
    """One scene's figures; `bytes` of the incident on the wire, 0 where there is none."""

    name: str
    ok: bool = False
    detect_ms: int = 0
    recover_ms: int = 0
    cause: str = ""
    remedy: str = ""
    bytes: int = 0
    note: str = ""
    incident: str = ""

    def to_json(self) -> dict[str, Any]:
        """The documented object."""
        return {n: getattr(self, n) for n in ("name", "ok", "detect_ms", "recover_ms", "cause", "remedy", "bytes")}


@dataclass(slots=True)
class Play:
    """What scenes work with: the stage, the agent's events, bundles by name, the world around the app."""

    stage: Stage
    events: Events
    port: int
    sensor: Path
    bundles: dict[str, Path] = field(default_factory=dict)
    freeze_sensor: Callable[[bool], None] = lambda _: None

    def app(self) -> dict[str, Any]:
        """The app's row of `edgeheal status --json`."""
        rows = (self.stage.answer("status") or {}).get("apps", [])
        return next((row for row in rows if row["app"] == APP), {})

    def pid(self) -> int:
        """The app's pid."""
        return int(self.app().get("pid", 0))

    def healthy(self) -> bool:
        """Whether the app answers its users."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def post(self, path: str) -> None:
        """Talk to the app."""
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=b""), timeout=2).read()

    def settled(self, *, version: str = "") -> None:
        """Wait until the app does its work, at that version, and nothing is open; a long probation (a fault that came back) is not waited for."""
        patience = time.monotonic() + PROBATION_S

        def ask() -> bool:
            row = self.app()
            well = row.get("state") == "OK" or (row.get("fine") == "HEALTHY" and time.monotonic() > patience)
            return well and (not version or row.get("version") == version) and self.healthy()

        until(ask, SLACK_S + 10, f"{APP} to be OK{' at ' + version if version else ''}", every=0.2)


def _healed(play: Play, result: Result, since: int, began_ns: int, symptoms: set[str], remedy: str, causes: set[str]) -> Result:
    """Wait for the incident, then for its remedy to have been followed by a healthy app; fill in the figures."""
    opened = play.events.wait(
        since, lambda e: e["event"] == "incident" and e["app"] == APP and e["symptom"] in symptoms, SLACK_S, f"an incident ({', '.join(symptoms)})"
    )
    result.detect_ms = (opened["at_ns"] - began_ns) // 1_000_000
    result.incident = opened["id"]
    acted = play.events.wait(since, lambda e: _acted(e, opened["id"], remedy), SLACK_S, f"the remedy {remedy}")
    back = play.events.wait(
        since,
        lambda e: e["event"] == "app" and e["app"] == APP and e["fine"] == "HEALTHY" and e["at_ns"] >= acted["at_ns"],
        SLACK_S,
        f"{APP} to be healthy again",
    )
    result.recover_ms = (back["at_ns"] - began_ns) // 1_000_000
    result.cause, result.remedy = acted["cause"], acted["remedy"]
    result.ok = result.cause in causes and result.remedy == remedy
    if not result.ok:
        result.note = f"expected {remedy} for {' or '.join(causes)}"
    return result


def _acted(event: Event, incident: str, remedy: str) -> bool:
    return event["event"] == "incident" and event["id"] == incident and event.get("remedy") == remedy


def kill(play: Play) -> Result:
    """The app dies of a signal."""
    pid, since = play.pid(), play.events.mark()
    began = _now()
    os.kill(pid, signal.SIGKILL)
    return _healed(play, Result("kill"), since, began, {"EXIT"}, "RESTART", {"APP_CRASH"})


def hang(play: Play) -> Result:
    """The app stands still: alive, but silent."""
    pid, since = play.pid(), play.events.mark()
    began = _now()
    os.kill(pid, signal.SIGSTOP)
    return _healed(play, Result("hang"), since, began, {"HANG", "PROBE_FAILED"}, "RESTART", {"APP_HANG"})


def leak(play: Play) -> Result:
    """The app's memory grows without end; caught long before the limit."""
    since = play.events.mark()
    began = _now()
    play.post("/leak")
    return _healed(play, Result("leak"), since, began, {"MEMORY_GROWTH"}, "RESTART", {"APP_MEMORY"})


def stuck_sensor(play: Play) -> Result:
    """The sensor's value stands still; the app is well and must not be restarted."""
    pid, since, result = play.pid(), play.events.mark(), Result("stuck-sensor")
    began = _now()
    play.freeze_sensor(True)
    opened = play.events.wait(since, lambda e: e["event"] == "incident" and e["symptom"] == "SENSOR_STUCK", SLACK_S, "an incident (SENSOR_STUCK)")
    result.detect_ms = (opened["at_ns"] - began) // 1_000_000
    result.incident, result.cause = opened["id"], opened["cause"]
    play.freeze_sensor(False)
    closed = play.events.wait(
        since, lambda e: e["event"] == "incident" and e["id"] == opened["id"] and e["state"] == "RESOLVED", SLACK_S, "the sensor's incident to resolve"
    )
    result.recover_ms = (closed["at_ns"] - began) // 1_000_000
    result.remedy = closed["remedy"] or "none"
    result.ok = result.cause == "SENSOR" and play.pid() == pid
    result.note = "" if result.ok else f"cause {result.cause}, pid {pid} -> {play.pid()}"
    return result


def bad_config(play: Play) -> Result:
    """Somebody gives the app a config that it cannot read."""
    since = play.events.mark()
    began = _now()
    play.stage.on_device("app", "config", "set", APP, "-", stdin=b'{"listen": "not a port"}')
    return _healed(play, Result("bad-config"), since, began, {"EXIT", "CRASH_LOOP", "START_FAILED"}, "RESTORE_CONFIG", {"APP_CONFIG"})


def _upgrade(play: Play, name: str, version: str, symptoms: set[str]) -> Result:
    """Install a faulty image and wait until the known-good one is back."""
    before, since, result = play.app()["version"], play.events.mark(), Result(name)
    began = _now()
    play.stage.on_device("image", "install", str(play.bundles[version]))
    fits = lambda e: e["event"] == "incident" and e["app"] == APP and e["symptom"] in symptoms  # noqa: E731
    opened = play.events.wait(since, fits, SLACK_S, f"an incident ({', '.join(symptoms)})")
    result.detect_ms = (opened["at_ns"] - began) // 1_000_000
    result.incident = opened["id"]
    acted = play.events.wait(since, lambda e: _acted(e, opened["id"], "ROLLBACK"), SLACK_S, "the rollback")
    play.settled(version=before)
    result.recover_ms = (_now() - began) // 1_000_000
    result.cause, result.remedy = acted["cause"], acted["remedy"]
    result.ok = result.cause == "APP_IMAGE"
    return result


def bad_upgrade(play: Play) -> Result:
    """A new image crashes at its start: rolled back by the guard, and blocked here."""
    result = _upgrade(play, "bad-upgrade", "2.0.0", {"TRIAL_FAILED"})
    again = play.stage.on_device("image", "install", str(play.bundles["2.0.0"]), check=False)
    result.ok = result.ok and again.returncode in (4, 6)
    result.note = "" if result.ok else f"installing it again ended with {again.returncode}"
    return result


def sick_upgrade(play: Play) -> Result:
    """A new image runs, but its probe fails: rolled back."""
    return _upgrade(play, "sick-upgrade", "3.0.0", {"TRIAL_FAILED", "PROBE_FAILED"})


def forged_image(play: Play) -> Result:
    """An image signed by a key that this device does not trust."""
    pid, result = play.pid(), Result("forged-image", remedy="refused")
    began = _now()
    done = play.stage.on_device("image", "install", str(play.bundles["forged"]), "--json", check=False)
    result.detect_ms = result.recover_ms = (_now() - began) // 1_000_000
    result.cause = "TRUST"
    result.ok = done.returncode == 6 and play.pid() == pid
    result.note = "" if result.ok else f"exit {done.returncode}: {done.stderr.decode(errors='replace')[:200]}"
    return result


def forged_command(play: Play) -> Result:
    """A command over MQTT signed by a key that this device does not trust."""
    pid, result = play.pid(), Result("forged-command", remedy="refused", cause="TRUST")
    began = _now()
    done = play.stage.edgeheal(
        "fleet", "command", play.stage.device, "restart", APP, "--tenant", play.stage.tenant, "--key", str(play.stage.keys / "mallory.key"),
        "--broker", f"127.0.0.1:{play.stage.port}", "--wait", "10", "--json", check=False,
    )  # fmt: skip
    result.detect_ms = result.recover_ms = (_now() - began) // 1_000_000
    result.ok = done.returncode in (4, 6) and b"refused" in done.stdout.lower() and play.pid() == pid
    result.note = "" if result.ok else f"exit {done.returncode}: {(done.stdout + done.stderr).decode(errors='replace')[:200]}"
    return result


def agent_killed(play: Play) -> Result:
    """The agent is killed; the app goes on untouched, and one that dies meanwhile is started again."""
    row, result = play.stage.answer("status"), Result("agent-killed", cause="AGENT", remedy="adopted")
    pid, agent = play.pid(), int(row["agent_pid"])
    began = _now()
    os.kill(agent, signal.SIGKILL)

    def back() -> bool:
        doc = play.stage.answer("status") or {}
        return doc.get("agent") == "ok" and int(doc.get("agent_pid", agent)) != agent

    until(back, SLACK_S, "the agent to be back", every=0.1)
    result.detect_ms = result.recover_ms = (_now() - began) // 1_000_000
    result.ok = play.pid() == pid
    result.note = "" if result.ok else f"app pid {pid} -> {play.pid()}"
    return result


def broker_killed(play: Play) -> Result:
    """The broker dies while an incident is being told; it is told once, when there is a broker again."""
    broker, pid, since = play.stage.programs["broker"], play.pid(), play.events.mark()
    broker.kill()
    began = _now()
    os.kill(pid, signal.SIGKILL)
    result = _healed(play, Result("broker-killed"), since, began, {"EXIT"}, "RESTART", {"APP_CRASH"})
    broker.again()
    return result


def manual_rollback(play: Play) -> Result:
    """A good upgrade, and a technician who wants the one before it: one command."""
    result = Result("manual-rollback", cause="PERSON", remedy="ROLLBACK")
    before = play.app()["version"]
    play.stage.on_device("image", "install", str(play.bundles["1.1.0"]))
    play.settled(version="1.1.0")
    play.stage.on_device("image", "mark-good", APP)
    began = _now()
    play.stage.on_device("rollback", APP)
    play.settled(version=before)
    result.detect_ms, result.recover_ms = 0, (_now() - began) // 1_000_000
    result.ok = True
    return result


def _now() -> int:
    return time.monotonic_ns()


SCENES: dict[str, Callable[[Play], Result]] = {
    "kill": kill,
    "hang": hang,
    "leak": leak,
    "stuck-sensor": stuck_sensor,
    "bad-config": bad_config,
    "bad-upgrade": bad_upgrade,
    "sick-upgrade": sick_upgrade,
    "forged-image": forged_image,
    "forged-command": forged_command,
    "agent-killed": agent_killed,
    "broker-killed": broker_killed,
    "manual-rollback": manual_rollback,
}


def play_one(name: str, play: Play) -> Result:
    """One scene; a scene that waits in vain is not ok, the next ones are still played."""
    try:
        return SCENES[name](play)
    except (StageError, OSError, KeyError, ValueError) as fault:
        return Result(name, note=f"{type(fault).__name__}: {fault}")
