# SPDX-License-Identifier: Apache-2.0
"""The identity under which the agent speaks to the fleet: whether it is this machine's, how long its certificate lasts, when its files are new.

Duty: look now and then; say what is wrong as a signal about ourselves; have the link made anew when its files changed. It proves nothing: TLS does.
Invariants: an identity of another machine is never used, and only the fleet's side suffers: everything heals all the same; a certificate that
ends is told WARN_S before; one that was replaced is taken without a restart.
"""

import os
import time
from collections.abc import Callable

from edgeheal.adapters import identity
from edgeheal.config.schema import Link
from edgeheal.core.errors import TrustError
from edgeheal.core.layout import Layout
from edgeheal.core.now import NS
from edgeheal.core.signal import SelfSaid, Signal
from edgeheal.trust import certificate

LOOK_NS = 300 * NS
DAY_S = 86_400
WARN_S = 30 * DAY_S
PART = "identity"

Print = tuple[tuple[str, int, int, int], ...]


class Identity:
    """A `ports.Source`. `renew` is called when the link's files are others than those it was made with."""

    def __init__(
        self, emit: Callable[[Signal], None], layout: Layout, link: Callable[[], Link], renew: Callable[[], None], wall: Callable[[], float] = time.time
    ) -> None:
        """`link` is the part of the config that names the files; `wall` tells Unix seconds."""
        self._emit = emit
        self._layout = layout
        self._link = link
        self._renew = renew
        self._wall = wall
        self._due_ns = 1
        self._seen = self._print()
        self._said: dict[str, str] = {}
        self.fault = identity.fault(layout)

    def fds(self) -> dict[int, int]:
        """None."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """Nothing to read."""

    def due(self) -> int:
        """The next look."""
        return self._due_ns

    def tick(self, now_ns: int) -> None:
        """Look."""
        self._due_ns = now_ns + LOOK_NS
        self._tell("twin", self.fault)
        self._certificate()
        now = self._print()
        if now != self._seen:
            self._seen = now
            self._renew()

    def look(self) -> None:
        """At once: somebody said that files are new."""
        self.fault = identity.fault(self._layout)
        self._due_ns = 1

    def _print(self) -> Print:
        """Which files they are: path, inode, size, time."""
        link = self._link()
        found = []
        for path in (link.ca, link.cert, link.key, link.password_file):
            try:
                stat = os.stat(path) if path else None
            except OSError:
                stat = None
            found.append((path, *((stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat is not None else (0, 0, 0))))
        return tuple(found)

    def _certificate(self) -> None:
        link = self._link()
        ends = unreadable = ""
        if link.host and link.tls and link.cert:
            try:
                with open(link.cert, "rb") as file:
                    one = certificate.read(file.read(certificate.MOST), place=link.cert)
            except (OSError, TrustError) as fault:
                unreadable = str(fault)
            else:
                ends = said(one.ends, self._wall())
        self._tell("expires", ends)
        self._tell("certificate", unreadable)

    def _tell(self, what: str, text: str) -> None:
        """Once when it begins or changes, once when it is over."""
        if text != self._said.get(what, ""):
            self._said[what] = text
            self._emit(SelfSaid(part=PART, what=what, ok=not text, text=text[:200]))


def said(ends: int, now: float) -> str:
    """How it stands with a certificate that ends at `ends`; "" when there is time."""
    left = ends - now
    if left <= 0:
        return "the device's certificate has ended: edgeheal setup --cert"
    return f"the device's certificate ends in {int(left // DAY_S)} d: edgeheal setup --cert" if left < WARN_S else ""
