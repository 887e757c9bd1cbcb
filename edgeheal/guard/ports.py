# SPDX-License-Identifier: Apache-2.0
"""A run that ended soon after its start: is its port held by a stranger, does somebody else run the same program?

Duty: ask a helper who listens on the ports that the app's own probes name, and who else runs out of the image's folder; tell it. Nobody is
killed. Invariants: only ports of declared tcp and http probes; only after a short run or a failed start; each told at most once a minute and
app; what belongs to the app itself, or was started by us, is no stranger. Field case fc-pro-2.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.guard.launch import ROOT_MARK
from edgeheal.guard.loop import NS
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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
        if port.isascii() and port.isdigit() and 0 < int(port) < 65_536:
            found.append(int(port))
        elif row[2] == "http":
            found.append(80)
    return found


def look(body: "Body", supervisor: "Supervisor", app: "App", run: "Run", then: "Callable[[bool], None]") -> None:
    """`then(whether a stranger holds a port of an app whose tree is gone)`, at once where there is nothing to ask; who goes out as EV_PORT, EV_FOREIGN.

    A helper reads the kernel's tables: with many connections that takes tens of milliseconds.
    """
    now, launch = time.monotonic_ns(), run.launch
    if launch is None or run.stop_by >= 0 or now - run.started_ns > SHORT_NS:
        then(False)
        return
    ports, strangers = of(launch), not app.strangers_ns or now - app.strangers_ns >= TOLD_EVERY_NS
    if not ports:
        then(False)
        then = _nobody
    if not ports and not strangers:
        return
    if strangers:
        app.strangers_ns = now

    def who(frame: "dict[str, Any]") -> None:
        holders = [row for row in frame.get("holders") or [] if not row[1] or not supervisor.trees.belongs(app, row[1])]
        if holders and (not app.port_told_ns or time.monotonic_ns() - app.port_told_ns >= TOLD_EVERY_NS):
            app.port_told_ns = time.monotonic_ns()
            for port, pid, text in holders:
                supervisor.facts.event(f.EV_PORT, app, a=port, b=pid, say=str(text).encode()[:96])
        for pid, text in frame.get("strangers") or []:
            if not supervisor.trees.belongs(app, pid):
                supervisor.facts.event(f.EV_FOREIGN, app, a=pid, say=str(text).encode()[:96])
        then(bool(holders))

    request = {"ports": sorted(set(ports)), "tree": launch.tree if strangers else "", "guard": os.getpid(), "mark": f"{ROOT_MARK}={body.layout.root}"}
    body.children.run("edgeheal.guard.port_child", request, who, deadline_s=10.0, libraries=False, isolate=False)


def _nobody(_held: bool) -> None:
    """Nobody waits for the answer any more."""
