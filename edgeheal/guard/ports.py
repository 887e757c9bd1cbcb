# SPDX-License-Identifier: Apache-2.0
"""A run that ended soon after its start: is its port held by a stranger?

Duty: look at the kernel's table of listeners for the ports that the app's own probes name; ask a helper who it is; tell it. Nobody is killed.
Invariants: only ports of declared tcp and http probes; only after a short run or a failed start; told at most once a minute and app; a
listener that belongs to the app itself is none. Field case fc-pro-2.
Light on purpose: the resident guard imports it.
"""

import time

from edgeheal.guard import procs
from edgeheal.guard.loop import NS
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.app import App, Run
    from edgeheal.guard.body import Body
    from edgeheal.guard.launch import Launch
    from edgeheal.guard.runs import Supervisor

SHORT_NS = 5 * NS
TOLD_EVERY_NS = 60 * NS


def of(launch: "Launch") -> "list[int]":
    """Ports that tcp and http probes of the app name."""
    found = []
    for row in launch.probes:
        if row[2] not in ("tcp", "http") or not isinstance(row[3], str):
            continue
        rest = row[3].partition("://")[2] or row[3]
        port = rest.partition("/")[0].rpartition(":")[2]
        if port.isdigit() and 0 < int(port) < 65_536:
            found.append(int(port))
        elif row[2] == "http":
            found.append(80)
    return found


def look(body: "Body", supervisor: "Supervisor", app: "App", run: "Run") -> bool:
    """Whether somebody listens on a port of an app whose tree is gone; who it is follows as EV_PORT."""
    now = time.monotonic_ns()
    if run.launch is None or run.stop_by >= 0 or now - run.started_ns > SHORT_NS:
        return False
    held = procs.listening(of(run.launch))
    if not held:
        return False
    if app.port_told_ns and now - app.port_told_ns < TOLD_EVERY_NS:
        return True
    app.port_told_ns = now

    def who(frame: "dict[str, Any]") -> None:
        for port, pid, text in frame.get("holders") or [[port, 0, ""] for port in held]:
            supervisor.facts.event(f.EV_PORT, app, a=port, b=pid, say=str(text).encode()[:96])

    body.children.run("edgeheal.guard.port_child", {"ports": sorted(held)}, who, deadline_s=10.0, libraries=False, isolate=False)
    return True
