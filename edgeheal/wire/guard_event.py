# SPDX-License-Identifier: Apache-2.0
"""One event of the guard, unpacked: bytes in, a value out.

Duty: name the fields. What an event means as a signal is `guard_signals`'. Light: the command line loads it.
"""

from edgeheal.core.errors import WireError
from edgeheal.wire import guard_frames as f


class Event:
    """One unpacked event."""

    __slots__ = ("a", "app", "b", "c", "code", "image", "kind", "number", "pid", "run", "say")

    def __init__(self, frame: bytes) -> None:
        """WireError when it is none."""
        if len(frame) != f.EVENT.size:
            raise WireError(f"an event of {len(frame)} bytes", place="guard")
        _, self.kind, self.code, self.number, app, self.image, self.run, self.pid, self.a, self.b, self.c, say = f.EVENT.unpack(frame)
        self.app = "".join(char if char.isprintable() else "?" for char in f.text(app))
        self.say = say.rstrip(b"\0")
