# SPDX-License-Identifier: Apache-2.0
"""One attempt of a probe over a socket: what http and tcp share.

Duty: the values and the connecting half. It keeps no time: deadlines are the schedule's.
Invariants: loopback only, by address and not by name service; no call blocks; a fault of our own (no descriptors, no
ports left) is "could not tell", never the app's failure.
"""

import errno
import re
import select
import socket
from dataclasses import dataclass
from typing import Protocol

from edgeheal.core import reasons
from edgeheal.core.kinds import Verdict

_OURS = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.EACCES, errno.EPERM, errno.EAFNOSUPPORT,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict and its code: an HTTP status (200..599) or a `core.reasons` number."""

    verdict: Verdict
    code: int = reasons.OK


class Attempt(Protocol):
    """An attempt under way. The schedule polls `fd` for `mask`, and calls `go` when it is ready."""

    fd: int
    mask: int

    def go(self, events: int) -> Answer | None:
        """Go on as far as can be had without blocking; the answer once there is one."""

    def expired(self) -> Answer:
        """The answer at the deadline."""

    def close(self) -> None:
        """Let go of the socket."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect, in order of trial, and the HTTP words that go with it."""

    addresses: tuple[tuple[str, int], ...]
    authority: str = ""
    path: str = "/"


_TARGET = re.compile(r"(?:(?P<scheme>http|tcp)://)?(?P<host>\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]*):(?P<port>[0-9]{1,5})(?P<path>/[\x21-\x7e]*)?")
_NO_PORT = re.compile(r"http://(?P<host>\[[0-9a-fA-F:.]+\]|[0-9A-Za-z.-]+)(?P<path>/[\x21-\x7e]*)?")


def place_of(target: str, scheme: str) -> Place:
    """`http://127.0.0.1:8080/health`, `tcp://[::1]:1883`, `:1883`, `localhost:80`; ValueError for anything else, or off loopback."""
    found = _TARGET.fullmatch(target)
    port = 80
    if found is not None:
        port = int(found["port"])
        if (found["scheme"] or scheme) != scheme or not 0 < port < 65_536:
            raise ValueError(target)
    elif scheme == "http":
        found = _NO_PORT.fullmatch(target)
    if found is None or (scheme == "tcp" and found["path"]):
        raise ValueError(target)
    host = found["host"].strip("[]") or "localhost"
    hosts = ("127.0.0.1", "::1") if host == "localhost" else (host,)
    if not all(_is_loopback(h) for h in hosts):
        raise ValueError(target)
    return Place(tuple((h, port) for h in hosts), f"{found['host'] or 'localhost'}:{port}", found["path"] or "/")


def _is_loopback(host: str) -> bool:
    """127.0.0.0/8 or ::1, as an address and not as a name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        packed = socket.inet_pton(family, host)
    except OSError:
        return False
    return packed == b"\0" * 15 + b"\1" if family == socket.AF_INET6 else packed[0] == 127


class Connecting:
    """The connecting half: a non-blocking socket, the next address when one refuses."""

    def __init__(self, place: Place) -> None:
        """Starts at once; a fault that came at once is told by the first `go`."""
        self.place = place
        self.fd = -1
        self.mask = select.POLLOUT
        self.sock: socket.socket | None = None
        self._next = 0
        self._fault = self._try()

    def connected(self) -> Answer | None:
        """None: connected. An answer: it failed, or (UNKNOWN, BUSY) it is still under way."""
        while True:
            fault = self._fault
            if fault == 0:
                return None
            if fault in (errno.EINPROGRESS, errno.EAGAIN):
                fault = self._asked()
                if fault == errno.EINPROGRESS:
                    return Answer(Verdict.UNKNOWN, reasons.BUSY)
                if fault == 0:
                    self._fault = 0
                    return None
            if fault == errno.ECONNREFUSED and self._next < len(self.place.addresses):
                self._fault = self._try()
                continue
            return Answer(Verdict.UNKNOWN, reasons.INTERNAL) if fault in _OURS else Answer(Verdict.NO, reasons.NOT_RUNNING)

    def close(self) -> None:
        """Let go of the socket."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        self.fd = -1

    def _try(self) -> int:
        self.close()
        host, port = self.place.addresses[self._next]
        self._next += 1
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as fault:
            return fault.errno or errno.EIO
        self.fd = self.sock.fileno()
        return self.sock.connect_ex((host, port))

    def _asked(self) -> int:
        """What became of a connect under way; a socket that met itself (a free port chosen as its own source) found nobody."""
        if self.sock is None:
            return errno.EIO
        fault = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault:
            return fault
        try:
            peer = self.sock.getpeername()
        except OSError as problem:
            return errno.EINPROGRESS if problem.errno == errno.ENOTCONN else problem.errno or errno.EIO
        return errno.ECONNREFUSED if peer == self.sock.getsockname() else 0
