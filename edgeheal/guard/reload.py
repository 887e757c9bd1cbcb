# SPDX-License-Identifier: Apache-2.0
"""The reload remedy: only of a ready run, only as declared, and looked at afterwards.

Duty: signal the worker, or run the declared program as the app's user; then see whether the app is still there and ready.
Invariants: nothing is sent before readiness or to a wrapper (fc-cfg-1); an end within the look is a failed reload, not a wanted stop.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import reasons
from edgeheal.guard import kernel
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.app import App, Run
    from edgeheal.guard.body import Body
    from edgeheal.guard.runs import Supervisor

LOOK_S = 0.4
PROGRAM_S = 10.0


class Reloader:
    """Reloads for the supervisor."""

    def __init__(self, body: "Body", supervisor: "Supervisor") -> None:
        """One for all apps."""
        self._body = body
        self._supervisor = supervisor

    def reload(self, app: "App | None", then: "Callable[[int], None]") -> None:
        """`then(0)` once it was seen alive and ready afterwards."""
        if app is None:
            then(reasons.NO_SUCH_APP)
            return
        run = app.run
        if run is None or not run.alive or app.phase not in (f.PHASE_STARTING, f.PHASE_RUNNING):
            then(reasons.NOT_RUNNING)
        elif not run.ready:
            then(reasons.NOT_READY)
        elif run.launch is None or run.launch.reload[0] == "none":
            then(reasons.NO_RELOAD)
        elif run.launch.reload[0] == "signal":
            name = run.launch.reload[1] if len(run.launch.reload) > 1 else "HUP"
            sent = self._supervisor.trees.signal(app, self._supervisor.trees.worker(app), kernel.number_of(name))
            self._seen(app, run, then) if sent else then(reasons.NOT_RUNNING)
        else:
            words = run.launch.words(run.launch.reload[1:] if run.launch.reload[0] == "argv" else run.launch.reload)
            self._supervisor.probes.run(app, words, PROGRAM_S, lambda code, _: self._seen(app, run, then) if code == 0 else then(reasons.EXIT_NONZERO))

    def _seen(self, app: "App", run: "Run", then: "Callable[[int], None]") -> None:
        """Look once soon; an app that says RELOADING is given its start grace to say READY."""
        deadline_s = (run.launch.start_ms if run.launch is not None else 0) / 1000

        def look(waited_s: float) -> None:
            if app.run is not run or not run.alive:
                then(reasons.KILLED)
            elif run.reloading and waited_s < deadline_s:
                self._body.loop.after(LOOK_S, lambda: look(waited_s + LOOK_S))
            else:
                then(reasons.TIMEOUT if run.reloading else reasons.OK)

        self._body.loop.after(LOOK_S, lambda: look(LOOK_S))
