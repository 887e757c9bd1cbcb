# SPDX-License-Identifier: Apache-2.0
"""Leave for the guard to answer an app's next end by a start at once, given while the engine would do just that.

Duty: keep what the guard has been told equal to what `engine.at_once` says. It decides nothing.
Invariants: leave is for one run and one start, and ends with our connection; it is taken back in the turn in which it stops holding.
"""

from operator import is_

from edgeheal.adapters.guard_client import GuardClient
from edgeheal.core.now import Now
from edgeheal.engine.at_once import ASK, at_once
from edgeheal.engine.state import State
from edgeheal.wire import guard_frames as frames


class Leave:
    """See the module."""

    def __init__(self, guard: GuardClient) -> None:
        """`guard` is asked; its answers change nothing."""
        self._guard = guard
        self._given: dict[str, int] = {}
        self._judged: list[object] = []

    def give(self, state: State, now: Now) -> None:
        """After a turn. Values that are still the same ones are not judged again: most signals change none of them."""
        if not self._guard.connected:
            return
        seen: list[object] = [state.policy, state.catalog, state.ledger, state.closed, state.paused_until_s, *state.apps.values(), *state.cases.values()]
        if len(seen) == len(self._judged) and all(map(is_, seen, self._judged)):
            return
        self._judged = seen
        for name, app in state.apps.items():
            ms = at_once(state, name, now)
            given = self._given.get(name)
            if ms != ASK and given != app.run:
                self._given[name] = app.run
                self._say(name, app.run, frames.ORDER_AT_ONCE, ms)
            elif ms == ASK and given is not None:
                del self._given[name]
                if given == app.run and app.up:
                    self._say(name, app.run, frames.ORDER_ASK, 0)

    def guard_lost(self) -> None:
        """A guard that comes back knows of none."""
        self._given.clear()
        self._judged = []

    def _say(self, app: str, run: int, code: int, ms: int) -> None:
        self._guard.ask(frames.ORDER, lambda _: None, app=app, a=run, b=ms, code=code)
