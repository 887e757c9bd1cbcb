# SPDX-License-Identifier: Apache-2.0
"""A hostile agent: verbs at the agent's door, under the agent's uid, well-formed and not, as fast as the guard answers.

Duty: ask, count. What may not have happened is judged by the bench and the tests that drive it. Invariant: one seed, one order of verbs.
"""

import contextlib
import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.core.errors import EdgeHealError
from edgeheal.wire import guard_frames as f

PLAIN = (f.STATUS, f.IMAGES, f.BUDGETS, f.CHALLENGE, f.HOLD_SOAK, f.HEARTBEAT)  # what an agent may ask for all day
GRAVE = (f.TRY, f.SWITCH, f.GIVE_UP, f.MARK_FAILED, f.HOOK, f.REBOOT, f.RESTORE_CONFIG)  # what has a warrant, a witness or a budget
ANY = tuple(verb for verb in f.VERBS if verb not in (f.HELLO, f.FOLLOW, f.OPEN_LOG, f.PROBE))
CARRY = (f.IMPORT, f.PRESENT, f.SET_CONFIG, f.SET_SECRET, f.TRUST)  # verbs with a descriptor
BROKEN_EVERY = 50  # one verb in so many is no frame at all


@contextlib.contextmanager
def under(uid: int) -> Iterator[None]:
    """What is connected inside is connected by `uid` (-1: as we are)."""
    if uid >= 0:
        os.seteuid(uid)
    try:
        yield
    finally:
        if uid >= 0:
            os.seteuid(0)


class Hostile:
    """The attack and its counts: `asked`, `accepted` (answered OK), `broken` (frames that are none)."""

    def __init__(self, path: str, apps: Sequence[str], images: Sequence[bytes], *, uid: int = -1, seed: int = 1) -> None:
        """`path` is the agent's door; verbs name any of `apps` and `images`."""
        self._path = path
        self._apps = tuple(apps)
        self._images = tuple(images)
        self._uid = uid
        self._rng = random.Random(seed)  # noqa: S311  no secret: an order that can be repeated
        self.asked = self.accepted = self.broken = 0

    def go(self, verbs: int, each: Callable[[int], None] | None = None) -> None:
        """So many verbs over one connection; `each(n)` after every one, for whoever measures."""
        with under(self._uid):
            door = GuardDoor(self._path, timeout_s=60)
        with door:
            door.ask(f.FOLLOW)
            for n in range(verbs):
                self.asked += 1
                if n % BROKEN_EVERY == BROKEN_EVERY - 1:
                    self._break()
                else:
                    self._ask(door, n)
                if each is not None:
                    each(n)

    def _ask(self, door: GuardDoor, n: int) -> None:
        rng = self._rng
        verb = rng.choice((PLAIN, PLAIN, GRAVE, ANY)[n % 4])
        app, image = rng.choice(self._apps), rng.choice(self._images)
        if verb == f.HOOK and rng.random() < 0.5:
            image = b""  # a hook that has no target
        fd = os.memfd_create("x") if verb in CARRY else -1
        try:
            answer = door.ask(verb, app=app, image=image, a=rng.choice((0, 1, 2, 2**63)), b=rng.randrange(3), fd=fd)
            self.accepted += answer.reason == 0
        finally:
            if fd >= 0:
                os.close(fd)

    def _break(self) -> None:
        """A connection of its own with bytes that are no frame, or with many descriptors; the guard hangs up."""
        self.broken += 1
        with contextlib.suppress(OSError, EdgeHealError), under(self._uid), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.settimeout(5)
            sock.connect(self._path)
            sock.send(f.pack_plain(f.HELLO, request=1, a=f.VERSION))
            sock.recv(f.MAX_FRAME)
            frame = self._rng.randbytes(self._rng.choice((1, 7, 88, 255, 9_000)))
            socket.send_fds(sock, [frame], [0] * self._rng.choice((0, 1, 9, 200)))
            sock.recv(f.MAX_FRAME)
