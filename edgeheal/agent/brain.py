# SPDX-License-Identifier: Apache-2.0
"""The agent's heart: signals in order through `engine.step`, each step noted, each effect handed on.

Duty: hold the engine's state and the queue. It decides nothing and carries nothing out.
Invariants: one signal at a time, in the order heard; what an effect causes at once is queued behind what was heard before;
every step is noted for the flight recorder before its effects are carried out.
"""

from collections import deque
from collections.abc import Callable

from edgeheal.core.effect import Effect
from edgeheal.core.now import Now
from edgeheal.core.signal import Signal
from edgeheal.engine.state import State
from edgeheal.engine.step import step

QUEUE_MOST = 10_000

Note = Callable[[Now, Signal, tuple[Effect, ...]], None]
Carry = Callable[[Effect], None]
Hear = Callable[[Signal], None]


class Brain:
    """`hear` from anywhere in the loop, `drain` once a turn."""

    def __init__(self, state: State, clock: Callable[[], Now]) -> None:
        """`state` from `engine.state.initial` or a snapshot; `clock` gives `now`."""
        self.state = state
        self._clock = clock
        self._queue: deque[Signal] = deque()
        self._listeners: list[Hear] = []
        self._note: Note | None = None
        self._carry: Carry | None = None
        self._overhears: list[Carry] = []
        self.steps = 0
        self.dropped = 0

    def wire(self, note: Note, carry: Carry) -> None:
        """Where steps are noted and effects carried out."""
        self._note, self._carry = note, carry

    def listen(self, hear: Hear) -> None:
        """Tell `hear` each signal, before the engine judges it."""
        self._listeners.append(hear)

    def overhear(self, carry: Carry) -> None:
        """Tell `carry` each effect, once it is carried out."""
        self._overhears.append(carry)

    def hear(self, signal: Signal) -> None:
        """A signal from the world. Bounded: beyond `QUEUE_MOST` the newest are dropped and counted."""
        if len(self._queue) >= QUEUE_MOST:
            self.dropped += 1
            return
        self._queue.append(signal)

    def drain(self) -> None:
        """Step through all that was heard."""
        while self._queue:
            signal = self._queue.popleft()
            for hear in self._listeners:
                hear(signal)
            self._step(signal)

    def _step(self, signal: Signal) -> None:
        now = self._clock()
        self.state, effects = step(self.state, signal, now)
        self.steps += 1
        if self._note is not None:
            self._note(now, signal, effects)
        if self._carry is not None:
            for effect in effects:
                self._carry(effect)
                for carry in self._overhears:
                    carry(effect)
