# SPDX-License-Identifier: Apache-2.0
"""Standing orders: how often the guard may start an app again while we are away, as the policy says; placed beforehand.

Duty: one order an app, out of the restart rung's widest budget, renewed long before it ends. It decides nothing; with us there the guard asks us.
Invariants: an app that may not be restarted without asking gets an order of none (the guard's slow retry is all it has); the same order is
not placed twice: the guard keeps it on flash.
"""

import time

from edgeheal.adapters.guard_client import Answer, GuardClient
from edgeheal.core import reasons
from edgeheal.core.kinds import Mode, RemedyKind
from edgeheal.core.now import NS
from edgeheal.core.policy import Policy
from edgeheal.engine.state import State
from edgeheal.wire import guard_frames as frames

LIFE_S = 7 * 86_400
RENEW_NS = LIFE_S // 2 * NS
AGAIN_NS = 600 * NS


def starts(policy: Policy, app: str) -> int:
    """Most starts without us: what the widest window of the restart's budget allows; 0 where a restart is not ours to take."""
    if policy.mode_of(app, RemedyKind.RESTART) is not Mode.ACT:
        return 0
    return max((budget.most for budget in policy.remedy(RemedyKind.RESTART).budgets), default=0)


class Standing:
    """See the module."""

    def __init__(self, guard: GuardClient) -> None:
        """Nothing was placed yet."""
        self._guard = guard
        self.known: set[str] = set()  # apps of which the guard said that it has the order
        self._placed: dict[str, tuple[int, int]] = {}  # app -> (most, when to place it again)
        self._policy: Policy | None = None
        self._due_ns = 0

    def place(self, state: State) -> None:
        """After a turn; costs nothing while nothing changed."""
        now_ns = time.monotonic_ns()
        if not self._guard.connected or (state.policy is self._policy and len(state.apps) == len(self._placed) and now_ns < self._due_ns):
            return
        self._policy = state.policy
        for app in state.apps:
            most = starts(state.policy, app)
            placed, due_ns = self._placed.get(app, (-1, 0))
            if placed != most or now_ns >= due_ns:
                self._placed[app] = (most, now_ns + AGAIN_NS)
                self._ask(app, most)
        self._due_ns = min((due_ns for _, due_ns in self._placed.values()), default=0)

    def _ask(self, app: str, most: int) -> None:
        def then(answer: Answer) -> None:
            if answer.reason == reasons.OK:
                self._placed[app] = (most, time.monotonic_ns() + RENEW_NS)
                self.known.add(app)

        self._guard.ask(frames.ORDER, then, app=app, a=most, b=LIFE_S, code=frames.ORDER_STANDING)

    def guard_lost(self) -> None:
        """Another guard may not have them: it is asked once more (and writes nothing that it has)."""
        self._placed.clear()
        self.known.clear()
