# SPDX-License-Identifier: Apache-2.0
"""What every state table shares: a cell, its verdict, and the diagram drawn from the cells.

Duty: shape and drawing. The tables are `app_table` and `incident_table` (the guard's `deployment` is lighter and draws itself).
Invariant: a diagram shows each move once and is made from the table alone.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import NamedTuple, TypeVar

S = TypeVar("S", bound=IntEnum)
E = TypeVar("E", bound=IntEnum)


class Verdict(Enum):
    """What a cell says: go to another state, take it in without effect, or no (the caller is wrong)."""

    MOVE = "move"
    IGNORE = "ignore"
    REFUSE = "refuse"


class Cell(NamedTuple):
    """One cell; `next` is the state itself unless the verdict is MOVE."""

    verdict: Verdict
    next: int


def mermaid(table: Mapping[tuple[S, E], Cell], states: type[S], title: str) -> str:
    """A Mermaid state diagram of all moves; events with the same ends share an arrow."""
    lines = ["stateDiagram-v2", f"    %% {title}: generated from its table"]
    for start in states:
        for end in states:
            events = [e.name for (s, e), c in table.items() if s == start and c.verdict is Verdict.MOVE and c.next == end]
            if events:
                lines.append(f"    {start.name} --> {end.name}: {', '.join(events)}")
    return "\n".join(lines) + "\n"


def ascii_table(table: Mapping[tuple[S, E], Cell], states: type[S], events: type[E]) -> str:
    """The whole table as plain text: a row an event, a column a state; `.` ignore, `x` refuse."""
    head = ["event", *(s.name for s in states)]
    rows = [head]
    for event in events:
        cells = [table[state, event] for state in states]
        rows.append([event.name, *(states(c.next).name if c.verdict is Verdict.MOVE else "." if c.verdict is Verdict.IGNORE else "x" for c in cells)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(w.ljust(n) for w, n in zip(row, widths, strict=True)).rstrip() for row in rows) + "\n"
