# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it lives: its end, its readiness, its heartbeat, its words.

Duty: watch a run's process and its notify socket; keep the deadlines of readiness and heartbeat. What follows is the supervisor's.
Invariants: an end is taken once, with the status the kernel told or none; a heartbeat is judged only after what waits in the socket was
read, and after a standstill of ours only a full period later (fc-pro-3); a word extends a deadline a bounded number of times.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.guard import kernel, notify, procs
from edgeheal.guard.loop import NS
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.app import App, Run
    from edgeheal.guard.body import Body
    from edgeheal.guard.runs import Supervisor

STATUS_WAIT_S = 0.25  # for whoever is the parent of an adopted process to reap it, so that the kernel can tell its status
PERIOD_LEAST_NS = NS // 10
PERIOD_MOST_NS = 3_600 * NS
EXTEND_MOST_NS = 3_600 * NS
BUSY_MOST_S = 3_600
_IN, _HUP = 1, 16


class Watch:
    """Watches runs for the supervisor."""

    def __init__(self, body: "Body", supervisor: "Supervisor") -> None:
        """One for all apps."""
        self._body = body
        self._supervisor = supervisor
        body.loop.on_orphan.append(self._orphan)

    # -- the end of a process

    def adopt(self, app: "App", run: "Run", pid: int) -> bool:
        """Watch a process that is not our child by pidfd; False when it is gone or another by now."""
        first = procs.process(pid)
        if first is None or not first.alive:
            return False
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return False
        if not procs.same(pid, first.start):  # the number may have been given away between the two
            os.close(fd)
            return False
        self._let_go(run)
        run.pid, run.start, run.pidfd = pid, first.start, fd
        self._body.loop.watch(fd, lambda _, events: self._pidfd(app, run, events))
        return True

    def _pidfd(self, app: "App", run: "Run", events: int) -> None:
        """It ended. The kernel tells the status once its parent has reaped it (6.15 and newer): we wait for that, a little."""
        if run.pidfd < 0:
            return
        status = kernel.pidfd_status(run.pidfd)
        if status is None and not events & _HUP:
            fd = run.pidfd
            self._body.loop.watch(fd, lambda _, more: self._pidfd(app, run, more), 0)  # EPOLLHUP comes unasked
            self._body.loop.after(STATUS_WAIT_S, lambda: self._unknown(app, run, fd))
            return
        self._ended(app, run, status)

    def _unknown(self, app: "App", run: "Run", fd: int) -> None:
        if run.pidfd == fd and run.alive:
            self._ended(app, run, kernel.pidfd_status(fd))

    def _orphan(self, pid: int, status: int) -> None:
        """A child that an app left to us: if it is a main process by now (MAINPID), its status is ours to know."""
        for app in self._supervisor.apps.values():
            run = app.run
            if run is not None and run.pid == pid and run.pidfd >= 0:
                self._ended(app, run, status)
                return

    def child_ended(self, app: "App", run: "Run", pid: int, status: int) -> None:
        """Our own child, reaped. What it said before is heard first: it may have named another main process. Before exec has been seen to work the end waits for that word."""
        if run.pid == pid and run.alive and app.run is run and app.notify is not None:
            app.notify.drain()
        if run.pid != pid:
            return  # not the main process any more
        if not run.executed:
            run.early_end = status
            return
        self._ended(app, run, status)

    def _ended(self, app: "App", run: "Run", status: int | None) -> None:
        self._let_go(run)
        self.disarm(run)
        self._supervisor.ended(app, run, status)

    def _let_go(self, run: "Run") -> None:
        if run.pidfd >= 0:
            self._body.loop.unwatch(run.pidfd)
            os.close(run.pidfd)
            run.pidfd = -1

    # -- deadlines

    def disarm(self, run: "Run") -> None:
        """No deadline of this run fires any more."""
        for timer in (run.grace, run.beat):
            if timer is not None:
                timer.cancel()
        run.grace = run.beat = None

    def arm_grace(self, app: "App", run: "Run", ms: int) -> None:
        """It must be ready within so long."""
        if run.grace is not None:
            run.grace.cancel()
        run.grace = self._body.loop.after(ms / 1000, lambda: self._supervisor.facts.grace_over(app, run))

    def arm_beat(self, app: "App", run: "Run") -> None:
        """From now on a heartbeat is expected. One timer a run: it looks at the last one when it fires."""
        if run.period_ns <= 0:
            return
        run.pinged_ns = time.monotonic_ns()
        if run.beat is None:
            run.beat = self._body.loop.at(run.pinged_ns + run.period_ns, lambda: self._beat(app, run))

    def _beat(self, app: "App", run: "Run") -> None:
        run.beat = None
        if not run.alive or run.period_ns <= 0:
            return
        if app.notify is not None:
            app.notify.drain()
        now = time.monotonic_ns()
        due = run.pinged_ns + run.period_ns
        if now < due:
            run.beat = self._body.loop.at(due, lambda: self._beat(app, run))
            return
        if not run.late:
            self._supervisor.facts.late(app, run, (now - run.pinged_ns) // 1_000_000, trigger=False)

    def still(self, gap_ms: int) -> None:
        """We stood still, and so may they have: everybody gets a full period from now."""
        now = time.monotonic_ns()
        for app in self._supervisor.apps.values():
            run = app.run
            if run is None or not run.alive:
                continue
            run.pinged_ns = now
            if run.grace is not None and run.launch is not None:
                self.arm_grace(app, run, run.launch.start_ms)
            if app.ending is not None:
                app.ending.extend(gap_ms / 1000)

    # -- words

    def listen(self, app: "App", uid: int) -> None:
        """Open (or keep) the app's notify socket."""
        path = f"{self._body.layout.notify}/{app.name}.sock"
        if app.notify is not None and os.path.exists(path):
            return
        if app.notify is not None:
            app.notify.close()
            app.notify = None
        try:
            app.notify = notify.NotifySocket(
                self._body.loop, path, uid, lambda pid, sender: self._may_speak(app, pid, sender), lambda words, _: self._said(app, words)
            )
        except OSError:
            app.notify = None

    def _may_speak(self, app: "App", pid: int, uid: int) -> bool:
        """The app's own uid, and a process of the run (one that is gone by now only where the uid is the app's alone)."""
        user = self._body.user_of(app.name)
        if app.run is None or not app.run.alive or uid != user.uid:
            return False
        return self._supervisor.trees.belongs(app, pid) or (user.alone and procs.process(pid) is None)

    def _said(self, app: "App", words: "dict[bytes, bytes]") -> None:
        run = app.run
        if run is None or not run.alive:
            return
        if b"MAINPID" in words:
            self._main_pid(app, run, notify.number(words[b"MAINPID"], 1 << 30))
        if b"WATCHDOG_USEC" in words:
            period = notify.number(words[b"WATCHDOG_USEC"], PERIOD_MOST_NS // 1000) * 1000
            if period > 0:
                run.period_ns = max(period, PERIOD_LEAST_NS)
                if run.ready:
                    self._restart_beat(app, run)
        if b"EXTEND_TIMEOUT_USEC" in words:
            self._extend(app, run, notify.number(words[b"EXTEND_TIMEOUT_USEC"], EXTEND_MOST_NS // 1000))
        if words.get(b"RELOADING") == b"1":
            run.reloading = True
            self._supervisor.facts.said(app, f.SAID_RELOADING)
        if words.get(b"STOPPING") == b"1":
            self.disarm(run)
            self._supervisor.facts.said(app, f.SAID_STOPPING)
        if words.get(b"READY") == b"1":
            run.reloading = False
            self._supervisor.facts.ready(app, run)
        if b"X_EDGEHEAL_BUSY" in words:
            self._supervisor.facts.busy(app, notify.number(words[b"X_EDGEHEAL_BUSY"], BUSY_MOST_S))
        if b"STATUS" in words:
            self._supervisor.facts.said(app, f.SAID_STATUS, say=words[b"STATUS"])
        beat = words.get(b"WATCHDOG")
        if beat == b"1":
            run.pinged_ns = time.monotonic_ns()
            if run.adopted and not run.ready:  # it said READY=1 to nobody, while no guard was there
                self._supervisor.facts.ready(app, run)
            if run.late:
                self._supervisor.facts.back(app, run)
                self._restart_beat(app, run)
        elif beat == b"trigger" and not run.late:
            self._supervisor.facts.late(app, run, 0, trigger=True)

    def _restart_beat(self, app: "App", run: "Run") -> None:
        if run.beat is not None:
            run.beat.cancel()
            run.beat = None
        self.arm_beat(app, run)

    def _extend(self, app: "App", run: "Run", usec: int) -> None:
        """A start or a stop may take longer, up to an hour in all."""
        if usec <= 0 or run.extended_ns + usec * 1000 > EXTEND_MOST_NS:
            return
        run.extended_ns += usec * 1000
        if run.grace is not None:
            self.arm_grace(app, run, usec // 1000)
        elif app.ending is not None:
            app.ending.extend(usec / 1_000_000)
        self._supervisor.facts.said(app, f.SAID_EXTEND, seconds=usec // 1_000_000)

    def _main_pid(self, app: "App", run: "Run", pid: int) -> None:
        """Another process of the same run is the main one from now on."""
        if pid <= 1 or pid == run.pid or procs.uid_of(pid) != self._body.user_of(app.name).uid or not self._supervisor.trees.belongs(app, pid):
            return
        if self.adopt(app, run, pid):
            app.record.keep(pid=run.pid, start=run.start)
