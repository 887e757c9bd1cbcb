# SPDX-License-Identifier: Apache-2.0
"""Probes that must run as somebody else: programs of the image and freshness of a file, as the app's uid.

Duty: run one, bounded in time and output, and say yes, no or could not tell. When they are due is the agent's.
Invariants: at most one run of a probe at a time (a second ask is BUSY); at its deadline it is ended with its whole tree; no more than
`OUTPUT_MOST` of what it prints is kept, the rest is drained; it never blocks the loop; one that even SIGKILL does not end keeps its place,
so that no second is put beside it. Freshness compares with the look before, never with the clock. Field case fc-sto-1.
Light on purpose: the resident guard imports it.
"""

import binascii
import os
import time

from edgeheal.core import reasons
from edgeheal.guard import kernel, procs, spawn
from edgeheal.guard import launch as launches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeheal.guard.app import App
    from edgeheal.guard.body import Body
    from edgeheal.guard.cgroups import Group
    from edgeheal.guard.launch import Launch
    from edgeheal.guard.loop import Timer
    from edgeheal.guard.runs import Supervisor

    Told = Callable[[int | None, bytes], None]

OUTPUT_MOST = 4_096
ERRANDS_MOST = 32  # at once, all apps together: beyond it a probe is BUSY
NO, YES, UNKNOWN = range(3)
NOBODY = 127  # the shell's word for "no such program", ours for "exec did not work"
MARK = "EDGEHEAL_PROBE"
SEEN_MOST = 512
STALE, MISSING = 1, 2


class Errand:
    """One program under way. `end(exit code, -signal, or None: could not tell; output)` is called once."""

    __slots__ = ("app", "end", "group", "key", "out", "output", "overdue", "pid", "run", "timer")

    def __init__(self, app: "App", key: str, end: "Told") -> None:
        """`key` is what may run once at a time."""
        self.app = app
        self.run = app.run
        self.key = key
        self.end: Told | None = end
        self.output = b""
        self.overdue = False
        self.pid = 0
        self.out = -1
        self.timer: Timer | None = None
        self.group: Group | None = None

    def tell(self, code: int | None) -> None:
        """Once."""
        end, self.end = self.end, None
        if end is not None:
            end(code, self.output)


class Probes:
    """Runs them."""

    def __init__(self, body: "Body", supervisor: "Supervisor") -> None:
        """One for all apps."""
        self._body = body
        self._supervisor = supervisor
        self._running: dict[str, Errand] = {}
        self._seen: dict[str, tuple[bytes, int]] = {}

    def probe(self, app: "App", index: int, then: "Callable[[int, int, int, bytes], None]") -> int:
        """`then(verdict, took ms, reason, hash of the output)`; else the reason why it was not begun."""
        launch = app.run.launch if app.run is not None else None
        if launch is None or not app.running:
            return reasons.NOT_RUNNING
        if not 0 <= index < len(launch.probes):
            return reasons.NOT_CONFIGURED
        name, _, kind, target, every_ms, timeout_ms, _ = launch.probes[index]
        key = f"{app.name}:{name}"
        began = time.monotonic_ns()

        def told(code: int | None, output: bytes) -> None:
            took = (time.monotonic_ns() - began) // 1_000_000
            digest = binascii.crc32(output).to_bytes(4, "big") + len(output).to_bytes(4, "big") if output else b""
            then(*_verdict(code, took, digest))

        if kind == "exec":
            return self.run(app, launch.words([str(word) for word in target]), timeout_ms / 1000, told, key)
        if kind == "freshness" and not str(target).startswith("topic:"):
            judged = self._freshness(key, every_ms, told)
            return self.run(app, [], timeout_ms / 1000, judged, key, work=lambda: _look(f"{launch.data}/{target}"))
        return reasons.NOT_CONFIGURED

    def run(self, app: "App", words: "Sequence[str]", within_s: float, then: "Told", key: str = "", *, work: "Callable[[], int] | None" = None) -> int:
        """Run a program (or `work`) as the app's user, in its folder, with its environment; 0 or the reason why not."""
        key = key or f"{app.name}!{words[0]}"
        launch = app.run.launch if app.run is not None else None
        if key in self._running or len(self._running) >= ERRANDS_MOST:
            return reasons.BUSY
        if launch is None:
            return reasons.NOT_RUNNING
        errand = Errand(app, key, then)
        errand.group = self._supervisor.groups.for_start(f"{app.name}.probe")
        joined = errand.group.opened() if errand.group is not None else -1
        errand.out, out_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            errand.pid = spawn.start(
                self._body.loop,
                self._program(launch, words, out_write, joined, work),
                lambda code: self._executed(errand, code),
                lambda _pid, status: self._exited(errand, status),
            )
        except OSError:
            os.close(errand.out)
            return reasons.START_FAILED
        finally:
            os.close(out_write)
            if joined >= 0:
                os.close(joined)
        self._running[key] = errand
        self._supervisor.trees.spared.add(errand.pid)
        self._body.loop.watch(errand.out, lambda _fd, _events: self._read(errand))
        errand.timer = self._body.loop.after(within_s, lambda: self._overdue(errand))
        return reasons.OK

    def _program(self, launch: "Launch", words: "Sequence[str]", out: int, joined: int, work: "Callable[[], int] | None") -> spawn.Program:
        os.set_blocking(out, True)  # the probe's own end: a program does not expect EAGAIN
        env = launch.env({MARK: launch.app, launches.ROOT_MARK: self._body.layout.root})
        user = launch.user
        return spawn.Program(
            words or ["/"], env=env, cwd=launch.cwd, uid=user.uid, gid=user.gid, groups=user.groups, stdout=out, stderr=out, limits=launch.rlimits(),
            cgroup=joined, work=work,
        )  # fmt: skip

    def _executed(self, errand: Errand, code: int) -> None:
        if code:
            errand.output = os.strerror(code).encode()

    def _read(self, errand: Errand) -> None:
        try:
            data = os.read(errand.out, 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(errand)
        elif len(errand.output) < OUTPUT_MOST:
            errand.output = (errand.output + data)[:OUTPUT_MOST]

    def _overdue(self, errand: Errand) -> None:
        """Its time is up: end it with its whole tree, and say so at once; its place is free once it is gone."""
        errand.overdue = True
        self._kill(errand)
        errand.tell(-kernel.SIGKILL)

    def _kill(self, errand: Errand) -> None:
        """By group where there is one; else its session and what descends from it."""
        if errand.group is not None and errand.group.kill():
            return
        below = [one.pid for one in procs.below(errand.pid, procs.everyone())]
        for target in (-errand.pid, *below, errand.pid):
            try:
                os.kill(target, kernel.SIGKILL)
            except OSError:
                continue

    def _exited(self, errand: Errand, status: int) -> None:
        if errand.out >= 0:
            self._read(errand)
        self._kill_rest(errand)
        self._close(errand)
        self._supervisor.trees.spared.discard(errand.pid)
        self._running.pop(errand.key, None)
        if errand.timer is not None:
            errand.timer.cancel()
        code = os.waitstatus_to_exitcode(status)
        ended_with_app = code < 0 and (errand.app.run is not errand.run or not errand.app.running or errand.app.ending is not None)
        errand.tell(None if ended_with_app or (code == NOBODY and errand.output) else code)

    def _kill_rest(self, errand: Errand) -> None:
        """What a probe forked and left does not outlive it."""
        if errand.group is not None:
            if errand.group.populated():
                errand.group.kill()
            return
        try:
            os.killpg(errand.pid, kernel.SIGKILL)
        except OSError:
            return

    def _close(self, errand: Errand) -> None:
        if errand.out >= 0:
            self._body.loop.unwatch(errand.out)
            os.close(errand.out)
            errand.out = -1

    def _freshness(self, key: str, every_ms: int, then: "Told") -> "Told":
        """Fresh: it changed since we last saw it change, not longer ago than the probe's period."""

        def told(code: int | None, output: bytes) -> None:
            now = time.monotonic_ns()
            if code != 0:
                then(code, output)
                return
            before = self._seen.get(key)
            if before is None or before[0] != output:
                if len(self._seen) >= SEEN_MOST:
                    self._seen.clear()
                self._seen[key] = (output, now)
                then(0 if before is not None else None, output)
                return
            then(0 if now - before[1] < every_ms * 1_000_000 * 9 // 10 else STALE, output)

        return told


def _verdict(code: int | None, took_ms: int, digest: bytes) -> "tuple[int, int, int, bytes]":
    if code is None:
        return UNKNOWN, took_ms, reasons.UNREADABLE, digest
    if code < 0:
        return NO, took_ms, reasons.TIMEOUT if code == -kernel.SIGKILL else reasons.KILLED, digest
    return (YES, took_ms, reasons.OK, digest) if code == 0 else (NO, took_ms, reasons.EXIT_NONZERO, digest)


def _look(path: str) -> int:
    """In the child, as the app's uid: what the file is now, in words that differ when it changes."""
    try:
        seen = os.stat(path)
    except FileNotFoundError:
        return MISSING
    except OSError:
        return NOBODY
    os.write(1, f"{seen.st_mtime_ns} {seen.st_size} {seen.st_ino}".encode())
    return 0
