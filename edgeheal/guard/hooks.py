# SPDX-License-Identifier: Apache-2.0
"""Hooks: drop-in executables of the integrator, run at named points, and what they answered.

Duty: run `hooks/<point>.d/*` (and `checks/<kind>.d/*`) in order of name, each with a time limit, and give one of three answers. It decides nothing.
Invariants: exit 0 is *go*, 75 *not now*, 1 *no*; any other status, a signal, an overstay or a file that cannot be trusted is *could not tell*, and
where permission is asked that is no; one point runs at most once at a time; the environment holds enumerated words only, never text from outside;
a hook is ended at its deadline with its session; output is kept, bounded. A point without files is *go* and says that nothing ran.
Source: greenboot's habit (required.d, wanted.d), the three verdicts of field case fc-img-5.
Light on purpose: the resident guard imports it.

Environment: PATH, LANG, EDGEHEAL_POINT, EDGEHEAL_VERB (what is about to happen, or the point's own word); where it applies EDGEHEAL_APP (a configured
app or empty), EDGEHEAL_TARGET (a line of hooks/<point>.targets or empty), EDGEHEAL_BY (interlock.BY_WORDS, or guard). Contract: firmware_hooks/README.md.
"""

import os
import stat

from edgeheal.core import reasons
from edgeheal.guard import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.loop import Loop

NO, YES, UNKNOWN = range(3)  # core.kinds.Verdict; the guard loads no enum
NOT_NOW_STATUS = 75  # EX_TEMPFAIL
LIMIT_S = 30.0
MOST_FILES = 32
MOST_OUTPUT = 65_536
RESERVED = frozenset({"interlock", "safe-state", "safe-state-check", "pre-install", "reboot", "power-off", "alarm"})
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


class Told:
    """What a point answered: `verdict` NO / YES / UNKNOWN, `reason` core.reasons, `status` of the deciding file, its `name`, how many `ran`."""

    __slots__ = ("name", "ran", "reason", "status", "verdict")

    def __init__(self, verdict: int, reason: int, status: int = 0, name: str = "", ran: int = 0) -> None:
        """Made by `Hooks`."""
        self.verdict = verdict
        self.reason = reason
        self.status = status
        self.name = name
        self.ran = ran


def is_point(name: str) -> bool:
    """Whether this may name a hook point: a folder's name of ours, no path."""
    return 0 < len(name) <= 32 and name[0] not in ".-" and _NAME.issuperset(name)


class Hooks:
    """Runs points below `folder`. `told(point, Told)` hears of each run."""

    __slots__ = ("_busy", "_folder", "_logs", "_loop", "_told", "limit_s")

    def __init__(self, loop: "Loop", folder: str, logs: str, told: "Callable[[str, Told], None]") -> None:
        """`folder` holds `<point>.d`, `logs` gets `<point>.hook` files."""
        self._loop = loop
        self._folder = folder
        self._logs = logs
        self._told = told
        self._busy: set[str] = set()
        self.limit_s = LIMIT_S

    def exists(self, point: str) -> bool:
        """Whether anything would run at this point."""
        return bool(is_point(point) and _files(f"{self._folder}/{point}.d"))

    def target(self, point: str, name: str, number: int = 0) -> str:
        """The line of `<point>.targets` that is `name`, or the `number`th of them from 1 (blank ones and `#` do not count); "" when there is none.

        Only what root wrote down reaches a hook.
        """
        try:
            with open(f"{self._folder}/{point}.targets", encoding="utf-8") as file:
                lines = [line.strip() for line in file.read(65_536).splitlines()]
        except (OSError, UnicodeDecodeError):
            return ""
        lines = [line for line in lines if line and line[0] != "#"]
        if number:
            return lines[number - 1] if 0 < number <= len(lines) else ""
        return name if name in lines else ""

    def run(self, point: str, env: "dict[str, str]", done: "Callable[[Told], None]", *, uid: int = -1, gid: int = -1, wanted: bool = False) -> None:
        """Run a point; `done` later, once. `wanted`: go on after a no (checks that only inform)."""
        if point in self._busy:
            done(Told(UNKNOWN, reasons.BUSY))
            return
        try:
            files = _files(f"{self._folder}/{point}.d")
        except PermissionError as fault:
            self._end(point, Told(UNKNOWN, reasons.UNREADABLE, name=str(fault)), done)
            return
        self._busy.add(point)
        words = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "EDGEHEAL_POINT": point, **env}
        _Run(self._loop, files, words, f"{self._logs}/{point}.hook", self.limit_s, lambda told: self._end(point, told, done)).go(uid, gid, wanted)

    def _end(self, point: str, told: Told, done: "Callable[[Told], None]") -> None:
        self._busy.discard(point)
        if told.ran or told.verdict != YES:
            self._told(point, told)
        done(told)


def _files(folder: str) -> "list[str]":
    """Executables of a point in order of name. PermissionError for one that others could have written."""
    try:
        names = sorted(n for n in os.listdir(folder) if not n.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as fault:
        raise PermissionError(f"{folder}: {fault.strerror}") from None
    found = []
    for path in [folder, *(f"{folder}/{name}" for name in names[:MOST_FILES])]:
        said = os.stat(path)
        if said.st_uid not in (0, os.geteuid()) or stat.S_IMODE(said.st_mode) & 0o002:
            raise PermissionError(f"{path}: others could have written it")
        if path != folder and stat.S_ISREG(said.st_mode) and said.st_mode & 0o111:
            found.append(path)
    return found


class _Run:
    """One point under way."""

    __slots__ = ("_done", "_env", "_files", "_limit_s", "_log", "_loop", "_overdue", "_pid", "_ran", "_timer", "_verdict")

    def __init__(self, loop: "Loop", files: "list[str]", env: "dict[str, str]", log: str, limit_s: float, done: "Callable[[Told], None]") -> None:
        self._loop = loop
        self._files = files
        self._env = env
        self._log = log
        self._limit_s = limit_s
        self._done = done
        self._ran = 0
        self._pid = 0
        self._overdue = False
        self._verdict = Told(YES, reasons.OK)

    def go(self, uid: int, gid: int, wanted: bool) -> None:
        """The next file, or the end."""
        if self._ran >= len(self._files) or (self._verdict.verdict != YES and not wanted):
            self._verdict.ran = self._ran
            self._done(self._verdict)
            return
        path = self._files[self._ran]
        self._ran += 1
        self._overdue = False
        program = spawn.Program([path], env=self._env, uid=uid, gid=gid, stdout=-1, stderr=-1, no_new_privs=uid >= 0)
        out = self._open()
        program.stdout = program.stderr = out
        failed: list[int] = []
        try:
            self._pid = spawn.start(self._loop, program, failed.append, lambda _, status: self._ended(path, status, failed, uid, gid, wanted))
        except OSError:
            self._judge(path, reasons.START_FAILED, -1, UNKNOWN)
            self._loop.later(lambda: self.go(uid, gid, wanted))
        else:
            self._timer = self._loop.after(self._limit_s, self._late)
        finally:
            if out >= 0:
                os.close(out)

    def _open(self) -> int:
        """Where output goes: truncated once it is too long, so that it stays bounded."""
        try:
            fd = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        except OSError:
            return -1
        if os.fstat(fd).st_size > MOST_OUTPUT:
            os.ftruncate(fd, 0)
        return fd

    def _late(self) -> None:
        self._overdue = True
        for target in (-self._pid, self._pid):
            try:
                os.kill(target, 9)
            except OSError:
                continue

    def _ended(self, path: str, status: int, failed: "list[int]", uid: int, gid: int, wanted: bool) -> None:
        self._timer.cancel()
        try:
            os.killpg(self._pid, 9)  # what it left in its session
        except OSError:
            pass
        code = os.waitstatus_to_exitcode(status)
        if self._overdue:
            self._judge(path, reasons.TIMEOUT, code, UNKNOWN)
        elif failed and failed[0]:
            self._judge(path, reasons.START_FAILED, failed[0], UNKNOWN)
        elif code < 0:
            self._judge(path, reasons.KILLED, code, UNKNOWN)
        elif code == NOT_NOW_STATUS:
            self._judge(path, reasons.NOT_NOW, code, NO)
        elif code == 1:
            self._judge(path, reasons.HOOK, code, NO)
        elif code:
            self._judge(path, reasons.HOOK, code, UNKNOWN)
        self.go(uid, gid, wanted)

    def _judge(self, path: str, reason: int, status: int, verdict: int) -> None:
        """The first word against it stands; a no outweighs a could-not-tell."""
        if self._verdict.verdict == YES or (verdict == NO and self._verdict.verdict == UNKNOWN):
            self._verdict = Told(verdict, reason, status, os.path.basename(path))
