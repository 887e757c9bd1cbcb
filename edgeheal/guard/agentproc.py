# SPDX-License-Identifier: Apache-2.0
"""The agent as a child of the guard, where no manager starts it; and an agent that is stuck, wherever it comes from.

Duty: start it as its own user, start it again when it ends (soon, then ever more seldom, for ever), end it when its own loop is silent too long.
Invariants: one agent at a time (one that an older guard started is taken over, by pid and start ticks); its death touches no app; the
guard feeds it nothing and believes it nothing; at rest it does not wake us: it sets anew a timer of the kernel that we share, and that fires when it is stuck.
Light on purpose: the resident guard imports it.
"""

import os
import sys
import time

from edgeheal.core import program
from edgeheal.guard import kernel, procs, spawn
from edgeheal.guard.loop import NS
from edgeheal.guard.record import RunRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.body import Body
    from edgeheal.guard.doors import Client

FIRST_S = 0.2
MOST_S = 60.0
HEALTHY_NS = 120 * NS
STUCK_LEAST_S = 5
GRACE_S = 2
START_S = 20  # from its start, or the end of its connection, to being there


class AgentProcess:
    """Keeps one agent running, if the config says that the guard shall."""

    def __init__(self, body: "Body") -> None:
        """Nothing is started before `begin`."""
        self._body = body
        self._record = RunRecord(f"{body.layout.run}/guard", "agent")
        self._pid = 0
        self._pidfd = -1
        self._started_ns = 0
        self._wait_s = FIRST_S
        self._timer = kernel.timer()
        self._suspected_ns = 0
        self._ending = False
        self._refused = 0
        self._follows_yet = False
        self.on_end: list[Callable[[], None]] = []  # told of a process of ours that ended before it ever followed
        body.doors.on_agent.append(self._follows)
        body.loop.on_still.append(lambda _: self._arm())
        if self._timer >= 0:
            body.loop.watch(self._timer, self._silent)

    def begin(self) -> None:
        """Take over the one that runs, or start one."""
        if not self._spawns() or self._pid:
            return
        record = self._record.load()
        pid, start = int(record.get("pid") or 0), int(record.get("start") or 0)
        if record.get("boot") == self._body.boot and pid and procs.same(pid, start):
            try:
                self._pidfd = os.pidfd_open(pid)
            except OSError:
                self._start()
                return
            if procs.same(pid, start):
                self._pid, self._started_ns = pid, time.monotonic_ns()
                self._body.loop.watch(self._pidfd, lambda _fd, _events: self._ended())
                self._arm()
                return
            os.close(self._pidfd)
        self._start()

    def end(self) -> None:
        """In order, with the guard: TERM, and no new one."""
        self._ending = True
        self._signal(kernel.SIGTERM)

    def beat(self, client: "Client") -> None:
        """Its loop is alive."""
        self._arm()

    def shared(self) -> "tuple[int, int]":
        """The timer's descriptor for the agent, and to how many seconds it shall set it each time; (-1, 0) when nobody is judged."""
        limit = self._limit_s()
        return (os.dup(self._timer), limit) if limit and self._timer >= 0 else (-1, 0)

    def _spawns(self) -> bool:
        return bool((self._body.config.get("agent") or {}).get("spawn")) and not self._ending

    def _start(self) -> None:
        if not self._spawns() or self._pid:
            return
        body = self._body
        words = program.argv(sys.executable, [body.package, *body.libraries], "edgeheal.agent.main", "--root", body.layout.root)
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": body.layout.agent, "EDGEHEAL_ROOT": body.layout.root}
        for name in ("EDGEHEAL_LOG_LEVEL", "NO_COLOR", "TZ"):
            if name in os.environ:
                env[name] = os.environ[name]
        users = body.config.get("users") or {}
        full = body.boundary != "none"
        uid = int(users.get("agent", -1)) if full else -1
        gid = int(users.get("agent_gid", -1)) if full else -1
        self._started_ns = time.monotonic_ns()
        try:
            job = spawn.Program(words, env=env, uid=uid, gid=gid if gid >= 0 else uid, stdout=1, stderr=2, umask=0o027)
            self._pid = spawn.start(body.loop, job, self._executed, lambda _pid, _status: self._ended())
        except OSError:
            self._later()
            return
        one = procs.process(self._pid)
        self._record.keep(boot=body.boot, pid=self._pid, start=one.start if one is not None else 0)
        self._arm()

    def _executed(self, code: int) -> None:
        """The word of exec; a failure is said once until one works."""
        if code and code != self._refused:
            self._body.loop.log.say("cannot-start-agent", f"cannot start the agent: {sys.executable}: {os.strerror(code)} (may its user reach and run it?)")
        self._refused = code

    def _ended(self) -> None:
        if self._pidfd >= 0:
            self._body.loop.unwatch(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._pid = 0
        self._record.keep(pid=0)
        if not self._follows_yet and not self._ending:
            for told in self.on_end:
                told()
        self._follows_yet = False
        if time.monotonic_ns() - self._started_ns > HEALTHY_NS:
            self._wait_s = FIRST_S
        self._later()

    def _later(self) -> None:
        if self._spawns():
            self._body.loop.after(self._wait_s, self._start)
            self._wait_s = min(self._wait_s * 2, MOST_S)

    def _follows(self, there: bool) -> None:
        """It came, or it went: either way its time counts from now."""
        self._follows_yet = self._follows_yet or there
        self._arm()

    def _limit_s(self) -> int:
        """How long it may be silent; one of ours that does not even follow (yet) has its start, too. 0: nobody is judged."""
        limit = int((self._body.config.get("agent") or {}).get("stuck_s", 0))
        if limit <= 0:
            return 0
        if self._body.doors.agent_follows():
            return max(limit, STUCK_LEAST_S)
        return max(limit, START_S) if self._pid else 0

    def _arm(self) -> None:
        """Its time counts from now."""
        self._suspected_ns = 0
        kernel.timer_set(self._timer, self._limit_s())

    def _silent(self, fd: int, events: int) -> None:
        """The time is over. Once more a little: a box that stood still gives it a chance to say that it is alive."""
        try:
            os.read(fd, 8)
        except OSError:
            return  # set anew in between
        now = time.monotonic_ns()
        if not self._limit_s():
            return
        if not self._suspected_ns or now - self._suspected_ns > 2 * GRACE_S * NS:
            self._suspected_ns = now
            kernel.timer_set(self._timer, GRACE_S)
            return
        self._end_stuck()
        self._arm()

    def _end_stuck(self) -> None:
        following = self._body.doors.agents()
        for client in following:
            if client.uid == os.geteuid() or self._body.boundary != "none":
                self._kill(client.pid)
            self._body.doors.drop(client)
        if not following:
            self._signal(kernel.SIGKILL)

    def _kill(self, pid: int) -> None:
        """A stuck agent is ended; whoever starts it (we, or the manager) starts it again."""
        if pid > 1 and pid != os.getpid():
            try:
                os.kill(pid, kernel.SIGKILL)
            except OSError:
                return

    def _signal(self, signum: int) -> None:
        if self._pidfd >= 0:
            kernel.pidfd_send(self._pidfd, signum)
        elif self._pid:
            os.kill(self._pid, signum)
