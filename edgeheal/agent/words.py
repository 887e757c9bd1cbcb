# SPDX-License-Identifier: Apache-2.0
"""Signed words from the fleet: handed to the guard as they came, and what became of them told once.

Duty: carry envelopes from the link to the guard's verb PRESENT (a sealed memfd), and the verdict back as results.
Invariants: the agent judges no signature and keeps no counter; each verdict is one result, spooled before the next word is taken;
with the guard away a word waits (bounded), it is never judged here.
"""

import os
from collections import deque
from collections.abc import Callable
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl

from edgeheal.adapters.guard_client import Answer, GuardClient
from edgeheal.adapters.mqtt.down import CommandCame, Down, PolicyCame
from edgeheal.core import reasons
from edgeheal.core.kinds import ResultState
from edgeheal.core.now import Now
from edgeheal.wire import guard_frames
from edgeheal.wire.results import Result

WAITING_MOST = 32


def sealed(data: bytes) -> int:
    """A memfd with `data` that nobody can change any more; the caller closes it."""
    fd = os.memfd_create("edgeheal-words", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_SEAL)
    return fd


class SignedWords:
    """One word at a time to the guard, in the order they came."""

    def __init__(self, guard: GuardClient, tell: Callable[[Result], None], now: Callable[[], Now]) -> None:
        """`tell` spools a result, durably."""
        self._guard = guard
        self._tell = tell
        self._now = now
        self._waiting: deque[Down] = deque()
        self._out: Down | None = None

    def take(self, word: Down) -> None:
        """A word came down."""
        if len(self._waiting) >= WAITING_MOST:
            self._refuse(word, reasons.BUSY)
            return
        self._waiting.append(word)
        self.go()

    def go(self) -> None:
        """Hand the next one over, if the guard is there and none is out."""
        while self._out is None and self._waiting and self._guard.connected:
            word = self._waiting.popleft()
            self._out = word
            if not self._guard.ask(guard_frames.PRESENT, self._judged, fd=sealed(word.data)):
                self._out = None
                self._waiting.appendleft(word)
                return

    def guard_lost(self) -> None:
        """What was out is presented again: the guard remembers what it carried out."""
        if self._out is not None:
            self._waiting.appendleft(self._out)
            self._out = None

    def _judged(self, answer: Answer) -> None:
        word, self._out = self._out, None
        if answer.reason == reasons.NOT_RUNNING and word is not None and not self._guard.connected:
            self._waiting.appendleft(word)
            return
        if isinstance(word, CommandCame):
            state = ResultState.DONE if answer.reason == reasons.OK else _refused(answer.reason)
            self._tell(self._result(word, state, answer.reason, answer.app))
        self.go()

    def _refuse(self, word: Down, reason: int) -> None:
        if isinstance(word, CommandCame):
            self._tell(self._result(word, ResultState.REFUSED, reason, ""))

    def _result(self, word: CommandCame, state: ResultState, reason: int, app: str) -> Result:
        command = word.command
        return Result(command.command_id, state, reason, action=int(command.action), app=app or command.app, at_s=self._now().wall_s)


def _refused(reason: int) -> ResultState:
    """Judged and not carried out, too late, or carried out in vain."""
    if reason == reasons.EXPIRED:
        return ResultState.EXPIRED
    return ResultState.FAILED if reason >= reasons.START_FAILED else ResultState.REFUSED


__all__ = ["CommandCame", "PolicyCame", "SignedWords", "sealed"]
