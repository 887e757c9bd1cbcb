# SPDX-License-Identifier: Apache-2.0
"""What is seen of a run, told: to the keeper, to those who follow, to whoever waits.

Duty: one method for each thing seen (started, ready, late, back, said, exited ...): mark it on the run, tell it. It starts and stops nothing
but by a standing order.
Invariants: an event carries what was seen and by whose hand, nothing guessed; what an app says is told at most a few times a second and
is never kept in place of what was seen.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.guard import procs
from edgeheal.guard.loop import NS
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.app import App, Run
    from edgeheal.guard.body import Body
    from edgeheal.guard.runs import Supervisor

SAID_EVERY_NS = NS // 4
BUSY_TIMES = 12  # extensions an hour that count


class Facts:
    """Tells what is seen."""

    def __init__(self, body: "Body", supervisor: "Supervisor") -> None:
        """One for all apps."""
        self._body = body
        self._supervisor = supervisor

    def event(self, kind: int, app: "App", *, code: int = 0, a: int = 0, b: int = 0, c: int = 0, say: bytes = b"", keep: bool = True) -> None:
        """One event about an app and its present run."""
        image = app.run.image if app.run is not None else b""
        frame = f.pack_event(kind, code=code, app=app.name, image=image, run=app.run_number, pid=app.pid, a=max(a, 0), b=max(b, 0), c=max(c, 0), say=say)
        self._body.doors.tell(frame, keep=keep)

    def flags(self, app: "App") -> int:
        """F_* of an app as of now."""
        run, seen = app.run, self._body.keeper.seen(app.name)
        launch = run.launch if run is not None else None
        parts = (
            (f.F_CONFIG_DIFFERS, seen.config_differs),
            (f.F_HELD, seen.held),
            (f.F_ADOPTED, run is not None and run.alive and run.adopted),
            (f.F_LATE, run is not None and run.alive and run.late),
            (f.F_BUSY, app.busy_until_ns > time.monotonic_ns()),
            (f.F_CAN_RELOAD, launch is not None and launch.reload[0] != "none"),
            (f.F_READY, run is not None and run.alive and run.ready),
            (f.F_PAUSED, self._body.keeper.wanted(app.name).pause_until > self._body.keeper.box_s()),
            (f.F_ORDERED, self._supervisor.orders.row(app.name) is not None),
            (f.F_AT_ONCE, run is not None and run.alive and run.at_once_ms >= 0),
        )
        flags = 0
        for flag, holds in parts:
            flags |= flag if holds else 0
        return flags

    def row(self, app: "App") -> bytes:
        """The AppRow."""
        keeper = self._body.keeper
        seen, wanted, run = keeper.seen(app.name), keeper.wanted(app.name), app.run
        image = run.image if run is not None and run.alive and run.image else seen.image
        return f.APP_ROW.pack(
            f.VERSION, f.ROW_APP, 0, 0, app.name.encode()[:32], image, app.run_number, app.pid, run.started_ns if run is not None and run.alive else 0,
            wanted.pause_until, wanted.until, f.PHASE_HELD if seen.held and not app.running else app.phase, int(wanted.running), wanted.by, seen.state,
            self.flags(app), app.restarts,
        )  # fmt: skip

    # -- a run's life

    def started(self, app: "App", run: "Run") -> None:
        """Exec worked, or it was adopted."""
        state = self._body.keeper.seen(app.name).state
        self.event(f.EV_STARTED, app, code=state, a=run.by, b=run.started_ns, c=self.flags(app))
        self._body.keeper.on_started(app)

    def ready(self, app: "App", run: "Run") -> None:
        """It is ready: by its own word, by the agent's probe, or by having lived through its start grace."""
        if run.ready or not run.alive or app.phase not in (f.PHASE_STARTING, f.PHASE_RUNNING):
            return
        run.ready = True
        if run.grace is not None:
            run.grace.cancel()
            run.grace = None
        app.phase = f.PHASE_RUNNING
        app.record.keep(ready=True)
        self._supervisor.watch.arm_beat(app, run)
        self.event(f.EV_READY, app, a=(time.monotonic_ns() - run.started_ns) // 1_000_000)
        self._body.keeper.on_ready(app)
        self._supervisor.needs_changed(app)

    def grace_over(self, app: "App", run: "Run") -> None:
        """The start grace is over. With `ready = "notify"` silence means not ready, but of an adopted run: its word may have gone to no guard. Else having lived so long means ready."""
        run.grace = None
        if not run.alive or run.ready:
            return
        if run.launch is not None and run.launch.ready == "notify" and not run.adopted:
            self.event(f.EV_START_FAILED, app, code=reasons.NOT_READY, b=(time.monotonic_ns() - run.started_ns) // 1_000_000)
            taken = self._body.keeper.on_start_failed(app, reasons.NOT_READY, 0)
            if not taken and not self._body.doors.agent_follows():
                self._supervisor.restart_unasked(app)
            return
        self.ready(app, run)

    def late(self, app: "App", run: "Run", late_ms: int, *, trigger: bool) -> None:
        """A heartbeat was missed, or the app gave itself up."""
        run.late = True
        self.event(f.EV_LATE, app, code=int(trigger), a=late_ms)
        self._body.keeper.on_late(app, late_ms, trigger)
        if not self._body.doors.agent_follows() and not app.taken and app.running and app.phase != f.PHASE_STOPPING:
            self._supervisor.restart_unasked(app)

    def back(self, app: "App", run: "Run") -> None:
        """The heartbeat is back."""
        run.late = False
        self.event(f.EV_BACK, app)
        self._body.keeper.on_back(app)

    def said(self, app: "App", code: int, *, seconds: int = 0, say: bytes = b"") -> None:
        """A word of the app: evidence only. Told at most four times a second, kept for nobody."""
        now = time.monotonic_ns()
        if code in (f.SAID_STATUS, f.SAID_EXTEND):
            if now - app.said_ns < SAID_EVERY_NS:
                return
            app.said_ns = now
        self.event(f.EV_SAID, app, code=code, a=seconds, say=say, keep=False)

    def busy(self, app: "App", seconds: int) -> None:
        """Grave remedies wait; capped by whoever asks for the word (notify.BUSY)."""
        if seconds >= 0:
            app.busy_until_ns = time.monotonic_ns() + seconds * NS
            self.said(app, f.SAID_BUSY, seconds=seconds)

    def exited(self, app: "App", run: "Run", status: int | None) -> bool:
        """A run ended: the keeper's judgement first (it makes durable what must be), then the event. True: the keeper goes on from here."""
        code = signum = None
        core = False
        if status is not None:
            exit_code = os.waitstatus_to_exitcode(status)
            code, signum = (exit_code, None) if exit_code >= 0 else (None, -exit_code)
            core = bool(status & 0x80)
        ordered = run.stop_by >= 0
        lived_ms = (time.monotonic_ns() - run.started_ns) // 1_000_000 if run.started_ns else 0
        done = code is not None and run.launch is not None and code in run.launch.done
        facts: dict[str, Any] = {
            "run": run.number, "image": run.image, "code": code, "signum": signum, "ordered": ordered, "oom": self._oom(app, run), "lived_ms": lived_ms,
            "by": run.stop_by if ordered else k.BY_ITSELF, "late": run.late, "done": done, "ready": run.ready,
        }  # fmt: skip
        flags, taken = self._body.keeper.on_exit(app, facts)
        parts = (
            (f.X_CODE, code is not None),
            (f.X_SIGNAL, signum is not None),
            (f.X_OOM, facts["oom"]),
            (f.X_ORDERED, ordered),
            (f.X_DONE, done),
            (f.X_CORE, core),
        )
        for flag, holds in parts:
            flags |= flag if holds else 0
        self.event(f.EV_EXITED, app, code=flags, a=code if code is not None else signum or 0, b=lived_ms, c=facts["by"])
        app.finished = done and not ordered
        run.plain = 0 <= run.at_once_ms <= lived_ms and not (ordered or done or run.late or taken or flags & (f.X_OOM | f.X_TRIAL | f.X_CONFIG_DIFFERS))
        return taken

    def _oom(self, app: "App", run: "Run") -> bool:
        return app.group is not None and app.group.oom_kills() > run.oom_before

    def start_failed(self, app: "App", reason: int, errno: int) -> bool:
        """It could not be started."""
        taken = self._body.keeper.on_start_failed(app, reason, errno)
        self.event(f.EV_START_FAILED, app, code=reason, a=errno)
        return taken

    def unkillable(self, app: "App", members: "list[int]", since_s: float) -> None:
        """SIGKILL was sent and did not end them: where the first of them waits."""
        pid = app.pid or (members[0] if members else 0)
        self.event(f.EV_UNKILLABLE, app, a=int(since_s), b=pid, say=procs.waits_in(pid).encode()[:96])

    def leftovers(self, app: "App", count: int) -> None:
        """Members of an old run were ended."""
        self.event(f.EV_LEFTOVER, app, a=count)
