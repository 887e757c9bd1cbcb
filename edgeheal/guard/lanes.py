# SPDX-License-Identifier: Apache-2.0
"""Two lanes: small pieces of work side by side on the box's cores, faults told as if one hand had done it all.

Duty: hand numbered items to two threads and wait for them. For the guard's children, whose inflating, hashing, reading and writing all leave
the interpreter's lock. Not imported by the resident guard. It knows no meaning of an item.
Invariants: at most `AHEAD` items are under way, so memory is bounded; of several faults the one of the lowest number is raised; when `end`
returns or raises, nothing is under way any more; a fault stops whatever was not begun.
"""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")

LANES = 2
AHEAD = 6
STACK = 512 * 1024


class Lanes(Generic[Item]):
    """Use it in a `with`: leaving it waits for everything, and raises the first fault (in order of the items, not of time)."""

    def __init__(self, work: Callable[[Item], None]) -> None:
        """`work(item)` runs in a lane, and may raise."""
        self._work = work
        self._given: queue.SimpleQueue[tuple[int, Item] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, BaseException | None]] = queue.SimpleQueue()
        self._number = self._under_way = 0
        self._faults: dict[int, BaseException] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Start the lanes."""
        before = threading.stack_size(STACK)
        self._threads = [threading.Thread(target=self._lane, daemon=True) for _ in range(LANES)]
        for thread in self._threads:
            thread.start()
        threading.stack_size(before)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Wait for what is under way. A fault of a lane belongs to an earlier item than one of the giver's, and is raised in its place."""
        while self._under_way:
            self._take()
        for _ in self._threads:
            self._given.put(None)
        for thread in self._threads:
            thread.join()
        if self._faults:
            raise self._faults[min(self._faults)] from value

    def give(self, item: Item) -> None:
        """Have it done; waits while enough is under way. Raises the first fault as soon as one is known."""
        while self._under_way >= AHEAD:
            self._take()
        if self._faults:
            raise self._faults[min(self._faults)]
        self._number += 1
        self._under_way += 1
        self._given.put((self._number, item))

    def _take(self) -> None:
        number, fault = self._done.get()
        self._under_way -= 1
        if fault is not None:
            self._faults[number] = fault

    def _lane(self) -> None:
        while (given := self._given.get()) is not None:
            number, item = given
            fault: BaseException | None = None
            try:
                self._work(item)
            except BaseException as raised:  # noqa: BLE001 - a thread's edge: the giver raises it
                fault = raised
            self._done.put((number, fault))
