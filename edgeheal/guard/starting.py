# SPDX-License-Identifier: Apache-2.0
"""One start of an app, from *asked* to *exec worked*.

Duty: the order of things: old tree gone, needs ready, safe state, admission, record, process. The supervisor says when, and what follows.
Invariants: the record names the run before there is a process; nothing here blocks; a start that has become void (the app's token moved on)
makes no process; every way out ends in `started` or `failed`, once.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.guard import launch as launches
from edgeheal.guard import needs, procs, spawn
from edgeheal.guard.app import App, Run
from edgeheal.guard.launch import Launch
from edgeheal.guard.steps import Refused
from edgeheal.guard.steps import run as drive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from edgeheal.guard.body import Body
    from edgeheal.guard.runs import Supervisor

    Job = Generator[Callable[[Callable[[Any], None]], None], Any, Any]

FOLDER_MODE = 0o700


class Starter:
    """Makes runs."""

    def __init__(self, body: "Body", supervisor: "Supervisor") -> None:
        """One for all apps."""
        self._body = body
        self._supervisor = supervisor

    def begin(self, app: App, by: int, died: bool) -> None:
        """Go through the steps; the supervisor hears `failed` or `executed`."""
        app.token += 1
        token = app.token

        def over(result: "Any") -> None:
            if isinstance(result, Refused) and app.token == token:
                self._supervisor.start_failed(app, result.reason, 0)

        drive(self._steps(app, by, died, token), over)

    def _steps(self, app: App, by: int, died: bool, token: int) -> "Job":
        supervisor, keeper = self._supervisor, self._body.keeper
        if supervisor.trees.maybe(app):
            left = yield lambda resume: supervisor.clear(app, resume)
            if app.token != token:
                return
            if left:
                raise Refused(left)
        known: Launch = yield lambda resume: self._launch(app, k.BY_UNKNOWN, resume)
        if app.token != token:
            return
        if not all(supervisor.is_ready(name) for name in known.hard_apps) or (known.hard_others and needs.missing(known)):
            supervisor.wait_for_needs(app, by, look=bool(known.hard_others))
            return
        reason = yield lambda resume: keeper.before_start(app.name, by, died, resume)
        if app.token != token:
            return
        if reason:
            raise Refused(reason)
        if app.cleaned:
            app.cleaned = False
            yield lambda resume: self._clean(app, known, resume)
            if app.token != token:
                return
        launch: Launch = yield lambda resume: self._launch(app, by, resume)
        if app.token != token:
            return
        self._spawn(app, by, launch)

    def _launch(self, app: App, by: int, resume: "Callable[[Any], None]") -> None:
        def got(launch: "Launch | int") -> None:
            resume(launch if isinstance(launch, Launch) else Refused(launch))

        self._body.keeper.launch(app.name, by, got)

    def _spawn(self, app: App, by: int, launch: Launch) -> None:
        """Fork. The record is written before and after, so that a death of ours in between is understood."""
        now = time.monotonic_ns()
        run = Run(self._number(app), by, launch, started_ns=now)
        app.run = run
        run.period_ns = launch.heartbeat_ms * 1_000_000
        self._supervisor.watch.listen(app, launch.user.uid)
        app.group = self._supervisor.groups.for_start(app.name)
        if app.group is not None:
            app.group.limit(launch.limit("memory_kib"), launch.limit("tasks"), launch.limit("cpu_permille"))
            run.oom_before = app.group.oom_kills()
        app.record.keep(
            boot=self._body.boot, run=run.number, pid=0, start=0, started_ns=now, by=by, intent="run", ready=False, image=run.image, finished=False, told=True
        )
        joined = app.group.opened() if app.group is not None else -1
        try:
            run.pid = spawn.start(
                self._body.loop,
                self._program(app, run, launch, joined),
                lambda code: self._supervisor.executed(app, run, code),
                lambda pid, status: self._supervisor.watch.child_ended(app, run, pid, status),
            )
        except OSError as fault:
            self._supervisor.start_failed(app, reasons.START_FAILED, fault.errno or 0)
            return
        finally:
            if joined >= 0:
                os.close(joined)
        one = procs.process(run.pid)
        run.start = one.start if one is not None else 0
        app.record.keep(pid=run.pid, start=run.start)

    def _program(self, app: App, run: Run, launch: Launch, joined: int) -> spawn.Program:
        layout = self._body.layout
        ours = {
            launches.MARK: f"{app.name}:{run.number}",
            launches.ROOT_MARK: layout.root,
            "EDGEHEAL_METRICS": layout.metric_socket(app.name),
            "NOTIFY_SOCKET": f"{layout.notify}/{app.name}.sock",
            "EDGEHEAL_VOLATILE": self.volatile(app.name, launch),
        }
        if launch.heartbeat_ms:
            ours["WATCHDOG_USEC"] = str(launch.heartbeat_ms * 1000)
        log = self._supervisor.logs.opened(app.name, (launch.limit("log_kib") or launches.LOG_KIB) * 1024)
        env = launch.env(ours)
        marked = {name: env.pop(name) for name in (launches.MARK, launches.ROOT_MARK)}
        user = launch.user
        return spawn.Program(
            launch.argv, env=marked | env, cwd=launch.cwd, uid=user.uid, gid=user.gid, groups=user.groups, stdout=log, stderr=log, limits=launch.rlimits(),
            cgroup=joined, isolate=launch.isolate, quick=self._body.boundary == "none",
        )  # fmt: skip

    def _number(self, app: App) -> int:
        """Run numbers grow over boots without a write to flash: never below the box's age in seconds."""
        last = max(app.run_number, int(app.record.value.get("run") or 0))
        return max(last + 1, self._body.keeper.box_s() & 0xFFFFFFFF) & 0xFFFFFFFF

    def volatile(self, app: str, launch: Launch) -> str:
        """The app's folder for what a clean restart may lose; on tmpfs, its own."""
        path = f"{self._body.layout.run}/volatile/{app}"
        try:
            os.mkdir(path, FOLDER_MODE)
            if os.geteuid() == 0:
                os.chown(path, launch.user.uid, launch.user.gid)
        except FileExistsError:
            pass
        except OSError:
            return ""
        return path

    def _clean(self, app: App, launch: Launch, resume: "Callable[[Any], None]") -> None:
        """Empty that folder, as the app's own uid: root never deletes by path where an app can write."""
        self._body.children.run(
            "edgeheal.guard.clean_child", {"path": self.volatile(app.name, launch)}, lambda _: resume(0),
            uid=launch.user.uid, gid=launch.user.gid, deadline_s=30.0, libraries=False,
        )  # fmt: skip
