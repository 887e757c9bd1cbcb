# SPDX-License-Identifier: Apache-2.0
"""Signed words from the fleet: handed to the guard as they came, and what became of them told once.

Duty: carry envelopes from the link to the guard's verb PRESENT (a sealed memfd), and the verdict back as results.
Invariants: the agent judges no signature and keeps no counter; with the guard away a word waits (bounded), it is never judged here; what
was refused is told from the answer, what was carried out from the guard's EV_DONE alone, which outlives the death of either of us: a word
that is presented again because the guard was lost is no refusal, its end is still to come; each end is spooled before the guard may forget it.
"""

import os
from collections import OrderedDict, deque
from collections.abc import Callable
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl

from edgeheal.adapters.guard_client import Answer, GuardClient
from edgeheal.adapters.mqtt.down import CommandCame, Down, PolicyCame
from edgeheal.core import reasons
from edgeheal.core.kinds import ResultState
from edgeheal.core.now import Now
from edgeheal.wire import guard_frames
from edgeheal.wire.guard_event import Event
from edgeheal.wire.results import COMMAND_BYTES, Result

WAITING_MOST = 32
TOLD_MOST = 64


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
        self._again: set[bytes] = set()
        self._told: OrderedDict[bytes, None] = OrderedDict()

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
            if isinstance(word, CommandCame) and word.command.command_id in self._again & self._told.keys():
                self._again.discard(word.command.command_id)
                continue
            self._out = word
            if not self._guard.ask(guard_frames.PRESENT, self._judged, fd=sealed(word.data)):
                self._out = None
                self._waiting.appendleft(word)
                return

    def ended(self, event: Event) -> None:
        """EV_DONE: what became of a command, ours or one that an agent before us or a person had presented."""
        command = event.image[:COMMAND_BYTES]
        if command in self._told:
            return
        self._told[command] = None
        while len(self._told) > TOLD_MOST:
            self._told.popitem(last=False)
        state = ResultState.DONE if event.code == reasons.OK else _refused(event.code)
        self._tell(Result(command, state, event.code, action=event.a, app=event.app, at_s=self._now().wall_s))
        self._guard.confirm_soon()

    def guard_lost(self) -> None:
        """What was out is presented again: the guard remembers what it carried out."""
        if self._out is not None:
            if isinstance(self._out, CommandCame):
                self._again.add(self._out.command.command_id)
            self._waiting.appendleft(self._out)
            self._out = None

    def _judged(self, answer: Answer) -> None:
        if answer.reason == reasons.NOT_RUNNING and not self._guard.connected:
            return  # the guard went away: `guard_lost` has put the word back
        word, self._out = self._out, None
        if isinstance(word, CommandCame):
            self._verdict(word, answer)
        self.go()

    def _verdict(self, word: CommandCame, answer: Answer) -> None:
        """Told here is a refusal, or that it waits for something; an end was or will be an event."""
        command = word.command.command_id
        again = command in self._again
        self._again.discard(command)
        if again or answer.b if answer.reason == reasons.REPLAY else command in self._told:
            return
        state = ResultState.RUNNING if answer.reason == reasons.OK else _refused(answer.reason)
        self._tell(self._result(word, state, answer.reason, answer.app))

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
