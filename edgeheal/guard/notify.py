# SPDX-License-Identifier: Apache-2.0
"""The sd_notify socket of one app: who spoke, what they said, and no more than is good for us.

Duty: receive, check the sender's kernel-given credentials, parse. What a word means is the supervisor's.
Invariants: a datagram without credentials, of a foreign uid or from outside the run is dropped and counted; descriptors that come along
are closed; words an app says beyond `RATE` a second wait in the kernel, so that the app slows down and not we. Source: sd_notify(3).
Light on purpose: the resident guard imports it.
"""

import _socket
import os
import struct
import time

from edgeheal.guard import doors
from edgeheal.guard.loop import NS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.loop import Loop

MOST_BYTES = 4_096
RATE = 100  # datagrams a second and app
_CRED = struct.Struct("iii")
_SCM_CREDENTIALS = 2
KNOWN = frozenset({
    b"READY", b"RELOADING", b"STOPPING", b"STATUS", b"WATCHDOG", b"WATCHDOG_USEC", b"EXTEND_TIMEOUT_USEC", b"MAINPID", b"X_EDGEHEAL_BUSY", b"ERRNO",
})  # fmt: skip


class NotifySocket:
    """One app's socket. `said(words)` for what was accepted; `belongs(pid, uid)` says whether the sender may speak."""

    __slots__ = ("_belongs", "_full", "_loop", "_said", "_since_ns", "_sock", "_spent", "dropped", "fd", "path")

    def __init__(self, loop: "Loop", path: str, uid: int, belongs: "Callable[[int, int], bool]", said: "Callable[[dict[bytes, bytes], int], None]") -> None:
        """Bound at `path`, for `uid` alone (-1: our own)."""
        self._loop = loop
        self._said = said
        self._belongs = belongs
        self._spent = 0
        self._since_ns = 0
        self._full = False
        self.dropped = 0
        self.path = path
        self._sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        self._sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        doors.bind(self._sock, path, 0o600)
        if uid >= 0 and os.geteuid() == 0:
            os.chown(path, uid, -1)
        self.fd = self._sock.fileno()
        loop.watch(self.fd, self._ready)

    def close(self) -> None:
        """Gone, its file too."""
        self._loop.unwatch(self.fd)
        self._sock.close()
        try:
            os.unlink(self.path)
        except OSError:
            return

    def drain(self) -> None:
        """Take what waits now: before anybody is called late."""
        self._ready(self.fd, 1)

    def _ready(self, fd: int, events: int) -> None:
        for _ in range(RATE):
            if self._full:
                return
            try:
                data, extra, _, _ = self._sock.recvmsg(MOST_BYTES, 512, _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC)
            except OSError:
                return
            self._count(fd)
            pid, uid = self._sender(extra)
            if pid <= 0 or not self._belongs(pid, uid):
                self.dropped += 1
                continue
            words = parse(data)
            if words:
                self._said(words, pid)

    def _count(self, fd: int) -> None:
        """Beyond the rate we stop listening for the rest of the second; no timer runs before that."""
        now = time.monotonic_ns()
        if now - self._since_ns >= NS:
            self._since_ns, self._spent = now, 0
        self._spent += 1
        if self._spent >= RATE:
            self._full = True
            self._loop.unwatch(fd)
            self._loop.at(self._since_ns + NS, self._again)

    def _again(self) -> None:
        self._full, self._spent = False, 0
        if self._sock.fileno() >= 0:
            self._loop.watch(self.fd, self._ready)

    def _sender(self, extra: "list[tuple[int, int, bytes]]") -> "tuple[int, int]":
        pid, uid = 0, -1
        for level, kind, body in extra:
            if level == _socket.SOL_SOCKET and kind == _SCM_CREDENTIALS and len(body) >= _CRED.size:
                pid, uid, _ = _CRED.unpack_from(body)
            elif level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                for got in doors.descriptors(body):
                    os.close(got)
        return pid, uid


def parse(data: bytes) -> "dict[bytes, bytes]":
    """`NAME=value` lines that we know; the last one of a name counts."""
    words: dict[bytes, bytes] = {}
    for line in data.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals and name in KNOWN:
            words[name] = value[:1_024]
    return words


def number(value: bytes, most: int) -> int:
    """A decimal number of a word, at most `most`; -1 when it is none."""
    return min(int(value), most) if value.isdigit() and len(value) < 20 else -1
