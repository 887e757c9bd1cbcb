# SPDX-License-Identifier: Apache-2.0
"""What can be said with the agent dead, or everything: from the guard's door, else from the files.

Duty: make the documents of `agent.view` out of the guard's rows and the journal on disk. It changes nothing.
Invariant: what cannot be known is UNKNOWN, never guessed.
"""

import os
import time
from dataclasses import replace
from typing import Any

from edgeheal.adapters import journal_files
from edgeheal.adapters.disk import FolderDisk
from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.cli import render
from edgeheal.config.last_good import in_force
from edgeheal.core import deployment, reasons, words
from edgeheal.core.errors import AgentUnreachableError, EdgeHealError
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import Shown
from edgeheal.core.layout import Layout
from edgeheal.wire import boot_facts, guard_frames, guard_signals, summary

_RUNNING = {guard_frames.PHASE_STARTING, guard_frames.PHASE_RUNNING, guard_frames.PHASE_STOPPING, guard_frames.PHASE_STUCK}


def status(layout: Layout) -> dict[str, Any]:
    """The status document without the agent."""
    device, place, names = _config(layout)
    notes = ["the agent does not answer: apps go on running, the guard starts them again when they end"]
    rows: list[dict[str, Any]] = []
    boundary, guard, boot = "unknown", "ok", ""
    try:
        with GuardDoor(layout.guard_socket, timeout_s=5) as door:
            boundary = door.hello.boundary
            rows = _rows(door)
            boot = _boot(door)
    except AgentUnreachableError as fault:
        guard = "gone"
        notes = [f"neither agent nor guard answers ({fault.message}): what is shown comes from the files"]
        rows = [_unknown(name) for name in names]
    if boundary == "none":
        notes.append("boundary: none (guard, agent and apps are one user)")
    states = {row["state"] for row in rows}
    order = (Shown.NEEDS_YOU, Shown.UNKNOWN, Shown.HEALING, Shown.PAUSED)
    shown = next((words.SHOWN[kind] for kind in order if words.SHOWN[kind] in states), words.SHOWN[Shown.OK if rows else Shown.UNKNOWN])
    return {
        "device": device, "place": place, "shown": shown if guard == "ok" else words.SHOWN[Shown.UNKNOWN], "up_s": _up_s(), "boot_reason": boot,
        "agent": "unreachable", "agent_pid": 0, "guard": guard, "boundary": boundary, "apps": rows, "box": [],
        "fleet": {"up": False, "waiting": None, "dropped": None, "text": "unknown: the agent tells the fleet"},
        "today": {"counts": {}, "parts": ["unknown without the agent"]}, "notes": notes, "next": "edgeheal doctor",
    }  # fmt: skip


def _config(layout: Layout) -> tuple[str, str, list[str]]:
    try:
        config = in_force(layout, layout.agent, keep=False).config
    except EdgeHealError:
        return "this device", "", []
    return config.device.id or "this device", config.device.place, sorted(config.apps)


def _boot(door: GuardDoor) -> str:
    """Why it booted, "" from a guard that does not tell."""
    try:
        answer = door.ask(guard_frames.WHY)
    except AgentUnreachableError:
        return ""
    return boot_facts.signal(boot_facts.of_rows(answer.rows)).verdict if answer.reason == reasons.OK else ""


def _rows(door: GuardDoor) -> list[dict[str, Any]]:
    speak = guard_signals.Words()
    told = [row for row in door.ask(guard_frames.STATUS).rows if len(row) == guard_frames.APP_ROW.size]
    seen = [speak.app_row(row) for row in told]
    ordered = {app.app for app, row in zip(seen, told, strict=True) if guard_frames.APP_ROW.unpack(row)[15] & guard_frames.F_ORDERED}
    rows = []
    now_ns = time.monotonic_ns()
    for app in seen:
        images = [speak.image_row(row)[1] for row in door.ask(guard_frames.IMAGES, app=app.app).rows if len(row) == guard_frames.IMAGE_ROW.size]
        running = next((i for i in images if i[4]), None)
        up = app.phase in _RUNNING
        if app.held:
            shown = Shown.NEEDS_YOU
        elif app.pause_until_s:
            shown = Shown.PAUSED
        else:
            shown = Shown.OK if up or not app.wanted else Shown.HEALING
        rows.append({
            "app": app.app, "state": words.SHOWN[shown], "fine": guard_frames.PHASES[app.phase].upper(),
            "since_s": max(0, (now_ns - app.started_ns) // 1_000_000_000) if up and app.started_ns else 0, "version": running[1] if running else "",
            "image": app.image, "image_state": deployment.STATES[app.image_state].lower() if app.image else "", "trial": app.image_state == deployment.TRIAL,
            "soak_left_s": running[5] if running else 0,
            "before": next((i[1] for i in images if not i[4] and i[2] == deployment.GOOD), ""), "run": app.run, "pid": app.pid if up else 0,
            "ready": app.phase == guard_frames.PHASE_RUNNING, "wanted": "running" if app.wanted else "stopped",
            "why": "held: no image may run" if app.held else "", "incident": "", "standing_order": app.app in ordered,
            "images": [
                {"id": i[0], "version": i[1], "state": deployment.STATES[i[2]].lower(), "reason": deployment.REASONS[i[3]], "running": i[4]} for i in images
            ],
        })  # fmt: skip
    return rows


def _unknown(name: str) -> dict[str, Any]:
    return {
        "app": name, "state": words.SHOWN[Shown.UNKNOWN], "fine": "UNKNOWN", "since_s": 0, "version": "", "image": "", "image_state": "", "trial": False,
        "soak_left_s": 0, "before": "", "run": 0, "pid": 0, "ready": False, "wanted": "", "why": "", "incident": "", "standing_order": False, "images": [],
    }  # fmt: skip


def incidents(layout: Layout) -> list[Incident]:
    """The newest told revision of each incident that the journal on disk holds, oldest first."""
    if not os.path.isdir(layout.journal):
        return []
    disk = FolderDisk(layout.agent)
    try:
        found, _ = journal_files.read_all(disk)
    finally:
        disk.close()
    told = []
    for line in found.told:
        try:
            found_incident = summary.decode(line.body)
            told.append(found_incident if found_incident.session else replace(found_incident, session=line.session))
        except EdgeHealError:
            continue
    return told


def _up_s() -> int:
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            return int(float(file.read().split()[0]))
    except (OSError, ValueError):
        return 0


def utc(wall_s: float) -> str:
    """RFC 3339."""
    return render.utc(wall_s)
