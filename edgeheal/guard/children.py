# SPDX-License-Identifier: Apache-2.0
"""The guard's short-lived helpers: a module of ours, run in its own process as somebody else, with a deadline.

Duty: start one, pass it a request and a descriptor, hand its answers on as they come, end it with its whole tree. It reads no answer's meaning.
Invariants: at most `MOST` at a time (later ones wait in line); an answer is at most 256 KiB; a child that says nothing, dies, or overstays its deadline
ends in `on_end` with an error record of its own, exactly once; nobody who asked is left waiting. What it wrote to stderr goes to ours.
Form: see guard.child (request one packed record on stdin, answers u32 length + packed record on stdout, descriptor 3 passed).
Light on purpose: the resident guard imports it.

    job = children.run("edgeheal.guard.verifier", {...}, on_end, on_frame=..., uid=..., gid=..., fd=..., deadline_s=30)
    on_frame(dict)   each "progress"        on_end(dict)   the last one: {"k": "done", ...} or {"k": "error", "reason", "message", ...}
    job.cancel()     end it now; on_end gets {"k": "error", "reason": KILLED}
"""

import os
import resource
import struct
import sys

from edgeheal.core import program, reasons
from edgeheal.guard import spawn
from edgeheal.image.records import RecordError, pack, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from edgeheal.guard.loop import Loop, Timer

    Frame = dict[str, Any]

MOST = 6
REQUEST_MOST = 65_536
ANSWER_MOST = 262_144
GRACE_S = 2.0  # after its last answer it may take so long to exit
_LENGTH = struct.Struct("!I")


def failure(reason: int, message: str, hint: str = "") -> "Frame":
    """An error record as a child would give it."""
    return {"k": "error", "reason": reason, "message": message, "part": "", "object": -1, "hint": hint or "see `edgeheal doctor`"}


class Children:
    """Starts helpers. `folders` go on their import path; `spare` are libraries (third parties) for those that ask for them."""

    def __init__(self, loop: "Loop", folders: "Sequence[str]", libraries: "Sequence[str]" = ()) -> None:
        """`folders` hold the package, `libraries` third parties."""
        self._loop = loop
        self._folders = list(folders)
        self._libraries = list(libraries)
        self._running: set[Job] = set()
        self._waiting: list[Job] = []

    def run(
        self,
        module: str,
        request: "Frame",
        on_end: "Callable[[Frame], None]",
        *,
        on_frame: "Callable[[Frame], None] | None" = None,
        uid: int = -1,
        gid: int = -1,
        groups: "Sequence[int]" = (),
        fd: int = -1,
        deadline_s: float = 30.0,
        isolate: bool = True,
        memory_mb: int = 512,
        libraries: bool = True,
    ) -> "Job":
        """Start `module`'s main() soon. `fd` is duplicated: the caller still closes its own. Never raises; faults come by `on_end`."""
        job = Job(self, module, request, on_end, on_frame)
        folders = [*self._folders, *(self._libraries if libraries else ())]
        words = program.argv(sys.executable, folders, module)
        limits = [
            (resource.RLIMIT_CORE, 0, 0),
            (resource.RLIMIT_AS, memory_mb << 20, memory_mb << 20),
            (resource.RLIMIT_NOFILE, 256, 256),
        ]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        job.program = spawn.Program(words, env=env, uid=uid, gid=gid, groups=groups, stderr=2, limits=limits, isolate=isolate, umask=0o077)
        job.passed = os.dup(fd) if fd >= 0 else -1
        job.deadline_s = deadline_s
        self._waiting.append(job)
        self._loop.later(self._next)
        return job

    def idle(self) -> bool:
        """Whether no helper runs or waits."""
        return not self._running and not self._waiting

    def _next(self) -> None:
        while self._waiting and len(self._running) < MOST:
            job = self._waiting.pop(0)
            self._running.add(job)
            job.begin(self._loop)

    def over(self, job: "Job") -> None:
        """A job has ended (its own word)."""
        self._running.discard(job)
        if job in self._waiting:
            self._waiting.remove(job)
        if self._waiting:
            self._loop.later(self._next)


class Job:
    """One helper under way."""

    __slots__ = ("_children", "_inbox", "_last", "_loop", "_on_end", "_on_frame", "_out", "_over", "_pid", "_rest", "_stdin", "_timer", "deadline_s", "module", "passed", "program")  # fmt: skip

    def __init__(
        self, children: Children, module: str, request: "Frame", on_end: "Callable[[Frame], None]", on_frame: "Callable[[Frame], None] | None"
    ) -> None:
        """Made by `Children.run`."""
        self._children = children
        self.module = module
        self._rest = b""
        self._last: Frame | None = None
        try:
            self._rest = pack(request)
        except RecordError as fault:
            self._last = failure(reasons.INTERNAL, f"request: {fault}")
        if len(self._rest) > REQUEST_MOST:
            self._last = failure(reasons.TOO_LARGE, f"request of {len(self._rest)} bytes")
        self._on_end = on_end
        self._on_frame = on_frame
        self._inbox = bytearray()
        self._pid = 0
        self._stdin = -1
        self._out = -1
        self._over = False
        self._timer: Timer | None = None
        self._loop: Loop | None = None
        self.program: spawn.Program | None = None
        self.passed = -1
        self.deadline_s = 30.0

    def cancel(self) -> None:
        """End it now."""
        self._last = self._last or failure(reasons.KILLED, "ended before it was done")
        if self._pid:
            self._kill()
        elif not self._over:
            self._end()

    def begin(self, loop: "Loop") -> None:
        """Called by `Children` when it is its turn."""
        self._loop = loop
        if self._over or self._last is not None or self.program is None:
            self._end()
            return
        try:
            in_read, self._stdin = os.pipe2(os.O_CLOEXEC)
            self._out, out_write = os.pipe2(os.O_CLOEXEC)
        except OSError as fault:
            self._last = failure(reasons.INTERNAL, f"no pipe: {fault.strerror}")
            self._end()
            return
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._out, False)
        self.program.stdin, self.program.stdout, self.program.passed = in_read, out_write, self.passed
        try:
            self._pid = spawn.start(loop, self.program, self._executed, self._exited)
        except OSError as fault:
            self._last = failure(reasons.INTERNAL, f"no process: {fault.strerror}")
        os.close(in_read)
        os.close(out_write)
        if not self._pid:
            self._end()
            return
        loop.watch(self._stdin, self._write, 4)
        loop.watch(self._out, self._read)
        self._timer = loop.after(self.deadline_s, self._overdue)

    def _executed(self, code: int) -> None:
        if code:
            self._last = failure(reasons.START_FAILED, os.strerror(code), "is the Python that runs the guard still there?")

    def _write(self, fd: int, events: int) -> None:
        try:
            self._rest = self._rest[os.write(fd, self._rest) :]
        except BlockingIOError:
            return
        except OSError:
            self._rest = b""
        if not self._rest:
            self._close_stdin()

    def _read(self, fd: int, events: int) -> None:
        try:
            data = os.read(fd, 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_out()
            return
        self._inbox += data
        while len(self._inbox) >= 4:
            (length,) = _LENGTH.unpack_from(self._inbox)
            if length > ANSWER_MOST:
                self._spoil(f"an answer of {length} bytes")
                return
            if len(self._inbox) < 4 + length:
                return
            raw = bytes(self._inbox[4 : 4 + length])
            del self._inbox[: 4 + length]
            self._frame(raw)

    def _frame(self, raw: bytes) -> None:
        try:
            frame = unpack(raw)
        except RecordError as fault:
            self._spoil(f"an answer that is no record: {fault}")
            return
        kind = frame.get("k") if isinstance(frame, dict) else None
        if kind in ("done", "error"):
            self._last = self._last or frame
            if self._timer is not None and self._loop is not None:
                self._timer.cancel()
                self._timer = self._loop.after(GRACE_S, self._kill)
        elif kind == "progress" and self._on_frame is not None and self._last is None:
            self._on_frame(frame)
        elif kind != "progress":
            self._spoil("an answer of an unknown kind")

    def _spoil(self, what: str) -> None:
        self._last = self._last or failure(reasons.MALFORMED, f"{self.module}: {what}")
        self._kill()

    def _overdue(self) -> None:
        self._last = self._last or failure(reasons.TIMEOUT, f"{self.module} overstayed its {self.deadline_s:.0f} s")
        self._kill()

    def _kill(self) -> None:
        """It is a session leader of its own: its group goes with it."""
        self._close_out()
        if self._pid:
            for target in (-self._pid, self._pid):
                try:
                    os.kill(target, 9)
                except OSError:
                    continue

    def _exited(self, pid: int, status: int) -> None:
        """Whatever it wrote before it ended is still in the pipe."""
        while self._out >= 0 and self._last is None:
            before = len(self._inbox)
            self._read(self._out, 1)
            if self._out >= 0 and len(self._inbox) == before and self._last is None:
                break
        try:
            os.killpg(pid, 9)
        except OSError:
            pass
        self._pid = 0
        code = os.waitstatus_to_exitcode(status)
        self._last = self._last or failure(reasons.KILLED if code < 0 else reasons.EXIT_NONZERO, f"{self.module} ended with {code} and no answer")
        self._end()

    def _close_stdin(self) -> None:
        if self._stdin >= 0 and self._loop is not None:
            self._loop.unwatch(self._stdin)
            os.close(self._stdin)
        self._stdin = -1

    def _close_out(self) -> None:
        if self._out >= 0 and self._loop is not None:
            self._loop.unwatch(self._out)
            os.close(self._out)
        self._out = -1

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._close_stdin()
        self._close_out()
        if self.passed >= 0:
            os.close(self.passed)
            self.passed = -1
        if self._timer is not None:
            self._timer.cancel()
        self._children.over(self)
        self._on_end(self._last or failure(reasons.INTERNAL, "no answer"))
