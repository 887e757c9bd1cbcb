# SPDX-License-Identifier: Apache-2.0
"""What apps tell of their sensors: `name value [unit] [time]` a line, in datagrams to a socket of the app's own.

Duty: receive, check who speaks, parse, bound, emit `Reading`. Whether a value is stuck or missing is the engine's.
Invariants: a datagram counts only with credentials of the app's uid (any, while that is not known: -1), descriptors that
come along are closed; names that the manifest does not promise are dropped and counted; a metric is told at most
`PER_SECOND` times a second (the newest value of a burst is kept); a bad line costs that line.

A value is a decimal number; `nan`, `none` and `-` mean "asked, no answer" (None). The unit, when given, must be the
manifest's. The time (Unix seconds, may have a fraction) is for the app's own use: a reading counts when it comes.
StatsD's `name:value|g` is understood as well.
"""

import array
import contextlib
import math
import os
import re
import select
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeheal.core.app import AppSpec
from edgeheal.core.now import NS
from edgeheal.core.signal import Reading, SelfSaid
from edgeheal.ports import Emit

DATAGRAM_MOST = 4_096
LINES_MOST = 64
TURN_MOST = 64
PER_SECOND = 10
COMPLAIN_NS = 600 * NS
_CRED = struct.Struct("3i")
_CONTROL = socket.CMSG_SPACE(_CRED.size) + socket.CMSG_SPACE(16 * 4)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,63}")
_STATSD = re.compile(r"(?P<name>[^:\s|]+):(?P<value>[^|\s]+)\|[gc](?:\|.*)?")


class BadLineError(ValueError):
    """A line that is no reading; the message says why."""


def parse_line(line: str) -> tuple[str, float | None, str]:
    """`name value [unit] [time]` or StatsD's gauge as (name, value or None, unit or "")."""
    found = _STATSD.fullmatch(line)
    words = [found["name"], found["value"]] if found else line.split()
    if not 2 <= len(words) <= 4:
        raise BadLineError("not `name value [unit] [time]`")
    name, said, *rest = words
    if not _NAME.fullmatch(name):
        raise BadLineError("no name")
    value = None if said.lower() in ("nan", "none", "-") else _number(said)
    unit = rest[0] if rest and not _is_number(rest[0]) else ""
    if len(rest) == 2 and not _is_number(rest[1]):
        raise BadLineError("no time")
    return name, value, unit


def source_of(app: str, name: str) -> str:
    """The device that a metric's name speaks of (`meter1.voltage` -> `meter1`); the app itself when it names none."""
    return re.split(r"[.:/]", name, maxsplit=1)[0] if re.search(r"[.:/]", name) else app


def _number(word: str) -> float:
    if len(word) > 32 or "_" in word:
        raise BadLineError("no number")
    try:
        value = float(word)
    except ValueError:
        raise BadLineError("no number") from None
    if not math.isfinite(value):
        raise BadLineError("not finite")
    return value


def _is_number(word: str) -> bool:
    try:
        _number(word)
    except BadLineError:
        return False
    return True


@dataclass(slots=True)
class _Door:
    """One app's socket."""

    app: str
    sock: socket.socket
    path: str
    units: dict[str, str]
    second: int = 0
    told: dict[str, int] = field(default_factory=dict)
    held: dict[str, float | None] = field(default_factory=dict)
    bad: int = 0
    why: str = ""
    complain_ns: int = 0


class Metrics:
    """A `ports.Source`: one datagram socket per app that promises metrics."""

    def __init__(self, emit: Emit, path_of: Callable[[str], str], clock: Callable[[], int], uid_of: Callable[[str], int] = lambda _: -1) -> None:
        """`path_of` an app is its socket's path (`Layout.metric_socket`); `clock` the monotonic clock in ns; `uid_of` who may speak for it, -1 = not known."""
        self._emit = emit
        self._path_of = path_of
        self._clock = clock
        self._uid_of = uid_of
        self._doors: dict[str, _Door] = {}

    def catalog(self, apps: Sequence[AppSpec]) -> None:
        """Open a door for each app that promises metrics, close the others'."""
        wanted = {spec.name: spec for spec in apps if spec.metrics}
        for app in self._doors.keys() - wanted.keys():
            self._shut(self._doors.pop(app))
        for app, spec in wanted.items():
            units = {metric.name: metric.unit for metric in spec.metrics}
            door = self._doors.get(app)
            if door is None:
                door = self._open(app, units)
                if door is None:
                    continue
                self._doors[app] = door
            door.units = units

    def fds(self) -> dict[int, int]:
        """The doors."""
        return {door.sock.fileno(): select.POLLIN for door in self._doors.values()}

    def ready(self, fd: int, events: int) -> None:
        """Take what is there, a bounded number of datagrams a turn."""
        door = next((d for d in self._doors.values() if d.sock.fileno() == fd), None)
        if door is None:
            return
        for _ in range(TURN_MOST):
            try:
                data, control, flags, _ = door.sock.recvmsg(DATAGRAM_MOST, _CONTROL, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            sender = _sender(control)
            if self._uid_of(door.app) not in (-1, sender):
                self._bad(door, f"uid {sender} may not speak for {door.app}")
            elif flags & socket.MSG_TRUNC:
                self._bad(door, f"datagram longer than {DATAGRAM_MOST}")
            else:
                self._take(door, data)

    def due(self) -> int:
        """The end of the second in which a burst was held back."""
        return min((door.second + NS for door in self._doors.values() if door.held), default=0)

    def tick(self, now_ns: int) -> None:
        """Tell the newest value of each burst."""
        for door in self._doors.values():
            if door.held and now_ns >= door.second + NS:
                held, door.held = door.held, {}
                door.second, door.told = now_ns, {}
                for name, value in held.items():
                    self._emit(Reading(app=door.app, sensor=name, value=value, source=source_of(door.app, name)))

    def close(self) -> None:
        """Shut all doors."""
        for door in self._doors.values():
            self._shut(door)
        self._doors.clear()

    def _open(self, app: str, units: dict[str, str]) -> _Door | None:
        path = self._path_of(app)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            sock.bind(path)
            os.chmod(path, 0o666)  # noqa: S103 - who speaks is told by credentials, not by the file's mode
        except OSError as fault:
            sock.close()
            self._emit(SelfSaid(part="metrics", what="unreachable", ok=False, text=f"{path}: {fault.strerror}"[:200]))
            return None
        return _Door(app, sock, path, units)

    def _shut(self, door: _Door) -> None:
        door.sock.close()
        with contextlib.suppress(OSError):
            os.unlink(door.path)

    def _take(self, door: _Door, data: bytes) -> None:
        lines = data.decode("utf-8", "replace").splitlines()
        if len(lines) > LINES_MOST:
            self._bad(door, f"more than {LINES_MOST} lines")
        for line in lines[:LINES_MOST]:
            if not line.strip():
                continue
            try:
                name, value, unit = parse_line(line.strip())
            except BadLineError as fault:
                self._bad(door, str(fault))
                continue
            promised = door.units.get(name)
            if promised is None:
                self._bad(door, f"{name} is not in the manifest")
            elif unit and promised and unit != promised:
                self._bad(door, f"{name} comes in {unit[:16]}, promised in {promised}")
            else:
                self._tell(door, name, value)

    def _tell(self, door: _Door, name: str, value: float | None) -> None:
        now = self._clock()
        if now - door.second >= NS:
            door.second, door.told = now, {}
        count = door.told[name] = door.told.get(name, 0) + 1
        if count > PER_SECOND:
            door.held[name] = value
        else:
            door.held.pop(name, None)
            self._emit(Reading(app=door.app, sensor=name, value=value, source=source_of(door.app, name)))

    def _bad(self, door: _Door, why: str) -> None:
        """Count, and say it once in a while."""
        door.bad += 1
        now = self._clock()
        if now >= door.complain_ns:
            door.complain_ns = now + COMPLAIN_NS
            self._emit(SelfSaid(part=f"metrics:{door.app}", what="refused", ok=False, value=door.bad, text=why.encode("unicode_escape").decode()[:200]))


def _sender(control: list[tuple[int, int, bytes]]) -> int:
    """The kernel's word on who sent it (-2 = it did not say); descriptors that came along are closed."""
    uid = -2
    for level, kind, data in control:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= _CRED.size:
            uid = _CRED.unpack_from(data)[1]
        elif kind == socket.SCM_RIGHTS:
            passed = array.array("i")
            passed.frombytes(data[: len(data) - len(data) % passed.itemsize])
            for fd in passed:
                os.close(fd)
    return uid
