# SPDX-License-Identifier: Apache-2.0
"""Budgets: how often a remedy was used for an app and a class of cause, in box time.

Duty: remember and count. The guard has coarser budgets of its own below these.
Invariants: frozen; counts live across boots (box seconds); the memory is bounded; classes that spend nothing are `FREE`.
"""

from dataclasses import dataclass

from edgeheal.core.kinds import CauseClass, RemedyKind
from edgeheal.core.policy import Budget

KEYS_MOST = 512
FREE = frozenset({CauseClass.EXTERNAL})


def key(app: str, cause: CauseClass, remedy: RemedyKind) -> str:
    """The ledger's name of (app, class of cause, remedy)."""
    return f"{app}/{int(cause)}/{int(remedy)}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """`spent`: key -> box seconds of each use, oldest first."""

    spent: dict[str, tuple[int, ...]]

    def spend(self, name: str, box_s: int, budgets: tuple[Budget, ...]) -> "Ledger":
        """After one more use; uses older than every window are dropped."""
        longest = max((b.per_s for b in budgets), default=0)
        most = max((b.most for b in budgets), default=0)
        uses = (*(t for t in self.spent.get(name, ()) if t > box_s - longest), box_s)[-max(most, 1) :]
        spent = {k: v for k, v in self.spent.items() if k != name}
        spent[name] = uses
        while len(spent) > KEYS_MOST:
            del spent[next(iter(spent))]
        return Ledger(spent)

    def refund(self, name: str, uses: int) -> "Ledger":
        """After giving back the last `uses`: they were spent on a cause that is not the app's."""
        kept = self.spent.get(name, ())
        if not uses or not kept:
            return self
        return Ledger({**self.spent, name: kept[: max(0, len(kept) - uses)]})

    def free_at_s(self, name: str, box_s: int, budgets: tuple[Budget, ...]) -> int:
        """Box second from which one more use fits all windows; `box_s` or less = now; -1 = never."""
        at = box_s
        uses = self.spent.get(name, ())
        for budget in budgets:
            if budget.most <= 0:
                return -1
            inside = [t for t in uses if t > box_s - budget.per_s]
            if len(inside) >= budget.most:
                at = max(at, inside[-budget.most] + budget.per_s)
        return at

    def left(self, name: str, box_s: int, budgets: tuple[Budget, ...]) -> int:
        """Uses left now, the least over all windows; a large number without budgets."""
        uses = self.spent.get(name, ())
        return min((max(0, b.most - sum(1 for t in uses if t > box_s - b.per_s)) for b in budgets), default=1_000)
