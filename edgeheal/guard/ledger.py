# SPDX-License-Identifier: Apache-2.0
"""The guard's books: box time, budgets, counters and marks, kept together and kept durable.

Duty: open them, write what waits at stated moments. It judges nothing.
Invariants: box time is kept at each grave act, every 60 s while anything is counted in it, and every 10 min at rest (144 writes of one page a day
instead of 1,440: what a cut loses at rest only makes the box younger); counts of starts follow within a second.
Light on purpose: the resident guard imports it.
"""

from edgeheal.guard.boxtime import KEEP_S, REST_S, BoxTime
from edgeheal.guard.budgets import Budgets
from edgeheal.guard.counters import Counters
from edgeheal.guard.marks import Marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.loop import Loop, Timer

SOON_S = 1.0


class Ledger:
    """All books. `counting` are asked whether something runs in box time; `keeping` are told that it is time to write."""

    __slots__ = ("_loop", "_soon", "_timer", "box", "budgets", "counters", "counting", "keeping", "marks")

    def __init__(self, loop: "Loop", folder: str) -> None:
        """`folder` is the guard's own."""
        self._loop = loop
        self.marks = Marks(folder)
        self.box = BoxTime(folder, floor_s=self.marks.highest("box").get("", 0))
        self.budgets = Budgets(folder, self.box.now_s)
        self.counters = Counters(folder, self.marks)
        self.counting: list[Callable[[], bool]] = [self.budgets.pending]
        self.keeping: list[Callable[[], None]] = []
        self._soon: Timer | None = None
        if self.budgets.damaged:
            self.budgets.floor_of_damage()
            self.budgets.keep()
        self.budgets.ready()
        self.counters.ready()
        self._timer: Timer = loop.after(KEEP_S, self._minute)

    def damaged(self) -> "list[str]":
        """Names of the books whose both records were bad."""
        books = (("box", self.box.damaged), ("budgets", self.budgets.damaged), ("counters", self.counters.damaged))
        return [name for name, bad in books if bad]

    def soon(self) -> None:
        """Something light waits to be written: within a second."""
        if self._soon is None:
            self._soon = self._loop.after(SOON_S, self._write)

    def grave(self) -> bool:
        """A grave act comes: box time is made durable now; False when it cannot be."""
        return self.box.keep()

    def _write(self) -> None:
        self._soon = None
        if self.budgets.dirty:
            self.budgets.keep()
        self.marks.sync()

    def _minute(self) -> None:
        counting = any(ask() for ask in self.counting)
        self.keep()
        self._timer = self._loop.after(KEEP_S if counting else REST_S, self._minute)

    def wake(self) -> None:
        """Something began to count: box time is kept every minute from now on."""
        self._timer.cancel()
        self._timer = self._loop.after(KEEP_S, self._minute)

    def keep(self) -> None:
        """Write everything that waits."""
        for told in self.keeping:
            told()
        self.box.keep()
        self._write()
