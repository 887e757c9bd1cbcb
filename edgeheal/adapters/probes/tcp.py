# SPDX-License-Identifier: Apache-2.0
"""The tcp probe: somebody accepts a connection on a loopback port.

Duty: connect, close. It sends and reads nothing.
Invariant: the answer is yes, no (refused, or nobody took it in time), or could not tell (a fault of our own).
"""

from edgeheal.adapters.probes.attempt import Answer, Connecting, place_of
from edgeheal.core import reasons
from edgeheal.core.kinds import Verdict


class TcpAttempt(Connecting):
    """One connect."""

    @classmethod
    def begin(cls, target: str) -> "TcpAttempt":
        """`127.0.0.1:1883`, `tcp://[::1]:1883` or `:1883`; ValueError when it is none of these."""
        return cls(place_of(target, "tcp"))

    def go(self, events: int) -> Answer | None:
        """Connected, refused, or not yet."""
        answer = self.connected()
        if answer is None:
            return Answer(Verdict.YES)
        return None if answer.code == reasons.BUSY else answer

    def expired(self) -> Answer:
        """Nobody took the connection: a full backlog is as good as nobody."""
        return Answer(Verdict.NO, reasons.TIMEOUT)
