# SPDX-License-Identifier: Apache-2.0
"""The agent's one loop: descriptors and deadlines of all sources, in one thread.

Duty: wait, call whoever is ready or due, notice when the loop itself stood still. It knows no source by name.
Invariants: no source is called from anywhere else; a source that raises costs itself one turn and becomes a signal about
the agent, never the loop's end; at rest it wakes only for deadlines that sources asked for.
"""

import select
import time
from collections.abc import Callable

from edgeheal.core.now import NS
from edgeheal.core.signal import SelfSaid, Signal, StoodStill
from edgeheal.ports import Source

IDLE_S = 60.0
FAULTS_MOST = 20


class Loop:
    """Drives `ports.Source`s. `emit` takes the loop's own signals (a standstill, a source's fault)."""

    def __init__(self, emit: Callable[[Signal], None], standstill_ms: int = 5_000) -> None:
        """`standstill_ms`: a turn that comes so much later than asked for is a standstill."""
        self._emit = emit
        self._standstill_ms = standstill_ms
        self._sources: list[tuple[str, Source]] = []
        self._faults: dict[str, int] = {}
        self._stop = False
        self.turns = 0
        self.longest_gap_ms = 0
        self._recent_gap_ms = 0

    def gap_ms(self) -> int:
        """The longest call of a source since this was asked last."""
        longest, self._recent_gap_ms = self._recent_gap_ms, 0
        return longest

    def add(self, name: str, source: Source) -> None:
        """Drive `source` from now on; `name` is what a fault of it is reported under."""
        self._sources.append((name, source))

    def drop(self, name: str) -> None:
        """Drive it no longer."""
        self._sources = [one for one in self._sources if one[0] != name]

    def stop(self) -> None:
        """End `run` after this turn."""
        self._stop = True

    def run(self, before_wait: Callable[[], None]) -> None:
        """Run until `stop`. `before_wait` is called each turn once all sources are served (drain, flush)."""
        while not self._stop:
            before_wait()
            poll, owners = self._watch()
            due = self._next_due()
            asked = time.monotonic_ns()
            wait_s = IDLE_S if due == 0 else max(0.0, (due - asked) / NS)
            try:
                events = poll.poll(min(wait_s, IDLE_S) * 1000)
            except InterruptedError:
                events = []
            self.turns += 1
            self._notice_gap(asked, min(wait_s, IDLE_S))
            for fd, mask in events:
                name, source = owners[fd]
                self._call(name, source.ready, fd, mask)
            now = time.monotonic_ns()
            for name, source in self._sources:
                at = source.due()
                if at and at <= now:
                    self._call(name, source.tick, now)

    def _notice_gap(self, asked_ns: int, wait_s: float) -> None:
        """A poll that returned far later than asked: the box or we stood still."""
        late_ms = (time.monotonic_ns() - asked_ns) // 1_000_000 - int(wait_s * 1000)
        if late_ms >= self._standstill_ms:
            self._emit(StoodStill(gap_ms=late_ms))

    def _next_due(self) -> int:
        return min((at for _, source in self._sources if (at := source.due())), default=0)

    def _watch(self) -> tuple[select.poll, dict[int, tuple[str, Source]]]:
        """What the sources want now. Poll, not epoll: a source may close a descriptor and get the same number again."""
        poll = select.poll()
        owners: dict[int, tuple[str, Source]] = {}
        for name, source in self._sources:
            for fd, mask in source.fds().items():
                poll.register(fd, mask)
                owners[fd] = (name, source)
        return poll, owners

    def _call(self, name: str, method: Callable[..., None], *args: int) -> None:
        started = time.monotonic_ns()
        try:
            method(*args)
        except Exception as fault:  # noqa: BLE001 - the loop's edge: a source's fault becomes an incident about ourselves
            count = self._faults[name] = self._faults.get(name, 0) + 1
            if count <= FAULTS_MOST or count & (count - 1) == 0:
                self._emit(SelfSaid(part=name, what="fault", ok=False, value=count, text=f"{type(fault).__name__}: {fault}"[:200]))
        took_ms = (time.monotonic_ns() - started) // 1_000_000
        self.longest_gap_ms = max(self.longest_gap_ms, took_ms)
        self._recent_gap_ms = max(self._recent_gap_ms, took_ms)
