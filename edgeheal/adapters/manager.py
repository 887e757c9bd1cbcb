# SPDX-License-Identifier: Apache-2.0
"""The manager that started us (systemd, or who speaks its protocol): told that we are ready, alive, ending.

Duty: read `NOTIFY_SOCKET` and `WATCHDOG_USEC`, send datagrams. It decides nothing; without a manager it does nothing.
Invariants: both names leave the environment at once, so that nobody we start speaks for us; sending never blocks and never raises; alive
is said from the loop alone, at half the time that the manager waits. Source: sd_notify(3), sd_watchdog_enabled(3).
Light on purpose: the resident guard imports it, too.
"""

import _socket
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

NAMES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
LONGEST = 107  # bytes of a socket's path


class Manager:
    """A `ports.Source` for the agent; the guard calls `alive` from a timer of its own loop each `period_ns` (0: nobody waits for it)."""

    def __init__(self, environ: "MutableMapping[str, str] | None" = None) -> None:
        """Takes the manager's words out of `environ` (this process's)."""
        source = os.environ if environ is None else environ
        path, usec, pid = (source.pop(name, "") for name in NAMES)
        self._path = path if path[:1] in {"/", "@"} and len(os.fsencode(path)) <= LONGEST else ""
        ours = not pid or pid == str(os.getpid())
        asked = int(usec) if self._path and ours and usec.isdecimal() and len(usec) < 18 else 0
        self.period_ns = asked * 1_000 // 2
        self._due = 0

    def ready(self, fd: int = -1, events: int = 0) -> None:
        """Begun: READY=1. As a source it has no descriptor that could be ready."""
        if fd < 0:
            self.said(f"READY=1\nMAINPID={os.getpid()}")
            self._due = time.monotonic_ns() + self.period_ns if self.period_ns else 0

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        line = " ".join(text.split())
        self.said(f"STATUS={line}")

    def ending(self) -> None:
        """In order."""
        self.said("STOPPING=1")

    def alive(self) -> None:
        """The loop turns."""
        self.said("WATCHDOG=1")

    def fds(self) -> "dict[int, int]":
        """None."""
        return {}

    def due(self) -> int:
        """When to say that we are alive."""
        return self._due

    def tick(self, now_ns: int) -> None:
        """Say so."""
        self._due = now_ns + self.period_ns
        self.alive()

    def said(self, text: str) -> bool:
        """Send it; False when nobody was told."""
        if not self._path:
            return False
        address = "\0" + self._path[1:] if self._path[0] == "@" else self._path
        try:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        except OSError:
            return False
        try:
            sock.sendto(text.encode(), address)
        except OSError:
            return False
        finally:
            sock.close()
        return True
