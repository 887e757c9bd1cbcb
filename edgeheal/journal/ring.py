# SPDX-License-Identifier: Apache-2.0
"""The ring of signals: every step since the last snapshot, bounded, in two generations; and how recordings are cut from it.

Duty: hold what happened lately so that it can be replayed, say when a new snapshot is due, give each open recording what it
has not yet. It writes nothing. Invariants: a generation is a snapshot and *all* steps after it; at most two are held, each
bounded; a recording that fell behind both begins a new part with a snapshot instead of pretending there was no gap.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from edgeheal.core.effect import Act, Decided, Effect, Recorded, Report
from edgeheal.core.kinds import IncidentState
from edgeheal.core.now import Now
from edgeheal.core.signal import Signal
from edgeheal.journal import recording

GENERATION_BYTES = 128 * 1024
FEW = 50  # a younger window than so many steps takes the generation before along
RESERVE_BYTES = 64 * 1024  # of a recording's bound, kept for what is decided later

Step = tuple[Now, Signal, tuple[Effect, ...]]


@dataclass(slots=True)
class Generation:
    """A snapshot and the packed steps after it. `number` grows by one each time."""

    number: int
    state: bytes
    steps: list[bytes] = field(default_factory=list)
    size_bytes: int = 0


class Ring:
    """Notes are cheap (kept as they are); `pack` turns them into bytes once a turn."""

    def __init__(self, most_bytes: int = GENERATION_BYTES) -> None:
        """`most_bytes` of a generation, its snapshot not counted."""
        self._most = most_bytes
        self._raw: list[Step] = []
        self.generations: list[Generation] = []

    def note(self, now: Now, signal: Signal, effects: tuple[Effect, ...]) -> None:
        """One step, with what it led to."""
        self._raw.append((now, signal, effects))

    def pack(self) -> list[bytes]:
        """What was noted since the last call, packed and now part of the newest generation."""
        raw, self._raw = self._raw, []
        packed = [recording.pack_entry(*step) for step in raw]
        if self.generations:
            newest = self.generations[-1]
            newest.steps += packed
            newest.size_bytes += sum(map(len, packed))
        return packed

    @property
    def full(self) -> bool:
        """Whether the next generation must begin (nothing may be noted between its snapshot and that)."""
        return not self.generations or self.generations[-1].size_bytes >= self._most

    def turn(self, state: bytes, number: int = 0) -> Generation:
        """Begin a generation with this snapshot; the one before the last is let go."""
        last = self.generations[-1].number if self.generations else 0
        newest = Generation(max(last + 1, number), state)
        self.generations = [*self.generations[-1:], newest]
        return newest

    def window(self) -> Generation:
        """Where a recording that opens now begins."""
        older, newest = self.generations[0], self.generations[-1]
        return older if len(newest.steps) < FEW else newest


@dataclass(slots=True)
class Tape:
    """One recording that is being kept. `at` the (generation, step) it has got to; None: begin with a snapshot."""

    name: str
    incident: int
    at: tuple[int, int] | None = None
    size_bytes: int = 0
    steps: int = 0
    decided: bool = True  # something about its incident was decided since it was last written
    closing: bool = False
    full: bool = False  # what came last did not fit
    first_ns: int = 0
    written_ns: int = 0

    def cut(self, ring: Ring) -> bytes:
        """What it has not yet, as frames; b"" when there is nothing, or when it does not fit (`full` is set then)."""
        held = [g.number for g in ring.generations]
        going_on = self.at is not None and self.at[0] in held
        starts = [ring.window(), ring.generations[-1]] if self.at is None else [ring.generations[0], ring.generations[-1]]
        room = recording.SIZE_MOST - recording.END_BYTES - self.size_bytes - (0 if self.closing else RESERVE_BYTES)
        for start in [None] if going_on else starts:
            chunk, count = self._from(ring, start)
            if len(chunk) <= room:
                newest = ring.generations[-1]
                self.at = (newest.number, len(newest.steps))
                self.steps += count
                return chunk
        self.full = True
        return b""

    def _from(self, ring: Ring, start: Generation | None) -> tuple[bytes, int]:
        """All steps since `start`'s snapshot, it included; or since the place we had got to."""
        out = [] if start is None else [recording.snapshot(start.state)]
        number, index = (start.number, 0) if start is not None else self.at or (0, 0)
        count = 0
        for generation in ring.generations:
            if generation.number >= number:
                steps = generation.steps[index if generation.number == number else 0 :]
                out.append(recording.entries(steps))
                count += len(steps)
        return b"".join(out), count


def about(effects: Iterable[Effect]) -> tuple[set[int], set[int], set[int]]:
    """Incidents that these effects (open a recording for, decide about, close)."""
    opened: set[int] = set()
    decided: set[int] = set()
    closed: set[int] = set()
    for effect in effects:
        match effect:
            case Recorded(incident=number):
                opened.add(number)
            case Report(incident=incident):
                (closed if incident.state is IncidentState.RESOLVED else decided).add(incident.number)
            case Act(incident=number) | Decided(incident=number):
                if number:
                    decided.add(number)
            case _:
                pass
    return opened, decided, closed
