# SPDX-License-Identifier: Apache-2.0
"""Group commit: collects writes, says when they must be on the medium, and loses none when the medium fails for a while.

Duty: the waiting room between a log and its medium: one batch in flight at a time, a deadline of a second for what may wait,
at once for what is durable, a growing wait after a failure. It does no I/O: `submit` and `wait` come from the port.
Invariants: a write leaves only when a sync behind it was answered well; after a failure everything since the last good sync is
written again (a failed fsync may have dropped it from memory); the beginning and the end of the trouble are each said once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeheal.core.now import NS
from edgeheal.journal.ops import Ended, Op, Sync, Write

PAGE_BYTES = 4_096
GROUP_NS = NS
RETRY_FIRST_NS = 1 * NS
RETRY_CAP_NS = 60 * NS

Submit = Callable[[Sequence[Op], Callable[[Ended], None]], int]
Wait = Callable[[int, float], Ended | None]


@dataclass(slots=True)
class _Stretch:
    name: str
    at: int
    data: bytearray


def _pages(stretch: _Stretch) -> int:
    """Bytes of the pages that a stretch touches: what the medium writes for it at least."""
    return ((stretch.at + len(stretch.data) - 1) // PAGE_BYTES - stretch.at // PAGE_BYTES + 1) * PAGE_BYTES


class GroupCommit:
    """One log's way to its medium. `said(errno)` is called at the first failure and, with 0, when the medium is whole again."""

    def __init__(self, submit: Submit, wait: Wait, said: Callable[[int], None]) -> None:
        """`submit` and `wait` as in `ports.Disk`."""
        self._submit = submit
        self._wait = wait
        self._said = said
        self._stretches: list[_Stretch] = []
        self._extra: list[Op] = []
        self._flying: list[_Stretch] = []
        self._flying_extra: list[Op] = []
        self._ticket = 0
        self._late = False  # somebody waited for the batch in flight in vain: nobody waits for it again
        self._first_ns = 0
        self._urgent = False
        self._retry_ns = 0
        self._wait_ns = RETRY_FIRST_NS
        self._added = 0
        self._sent = 0
        self._safe = 0
        self.dark = False  # the medium does not take what we give it
        self.waiting_bytes = 0  # that are not known to be on the medium
        self.bytes_written = 0
        self.syncs = 0
        self.slowest_us = 0

    @property
    def mark(self) -> int:
        """A mark behind all that was added so far, for `safe`."""
        return self._added

    def safe(self, mark: int) -> bool:
        """Whether everything up to `mark` is on the medium."""
        return self._safe >= mark

    def add(self, name: str, at: int, data: bytes, now_ns: int) -> None:
        """Write `data` there with the next batch."""
        last = self._stretches[-1] if self._stretches else None
        if last is not None and last.name == name and last.at + len(last.data) == at:
            last.data += data
        else:
            self._stretches.append(_Stretch(name, at, bytearray(data)))
        self.waiting_bytes += len(data)
        self._added += 1
        self._first_ns = self._first_ns or now_ns

    def also(self, op: Op, now_ns: int) -> None:
        """Another operation of the same batch, run before its writes."""
        self._extra.append(op)
        self._added += 1
        self._first_ns = self._first_ns or now_ns

    def due(self) -> int:
        """Monotonic ns at which `pump` has something to do; 0 = nothing."""
        if self._ticket or not (self._stretches or self._extra):
            return 0
        return self._retry_ns if self.dark else self._first_ns if self._urgent else self._first_ns + GROUP_NS

    def pump(self, now_ns: int) -> None:
        """Send what is due."""
        due = self.due()
        if due and now_ns >= due:
            self._send(now_ns)

    def urge(self, now_ns: int) -> None:
        """What waits goes now, or as soon as the batch before it has ended."""
        self._urgent = True
        self.pump(now_ns)

    def settle(self, now_ns: int, timeout_s: float) -> bool:
        """Wait until all that was added is on the medium: True; False: not within the time (at most twice it), or the medium fails.

        While the medium is known to fail or to hang it is tried at its own pace, not at ours: then the answer is False at once.
        """
        mark = self._added
        for _ in range(3):
            if self.safe(mark):
                return True
            if self._ticket and self._late:
                return False
            if not self._ticket:
                if self.dark and now_ns < self._retry_ns:
                    return False
                self._send(now_ns)
            if self._ticket and self._wait(self._ticket, timeout_s) is None:
                self._urgent = self._late = True
                return False
            if self.dark:
                return False
        return self.safe(mark)

    def _send(self, now_ns: int) -> None:
        self._flying, self._stretches = self._stretches, []
        self._flying_extra, self._extra = self._extra, []
        self._sent = self._added
        self._first_ns = 0
        self._urgent = False
        ops: list[Op] = [*self._flying_extra]
        ops += [Write(s.name, s.at, bytes(s.data)) for s in self._flying]
        ops += [Sync(name) for name in dict.fromkeys([s.name for s in self._flying])]
        self._ticket = -1
        ticket = self._submit(ops, lambda ended: self._ended(ended, now_ns))
        if self._ticket == -1:
            self._ticket = ticket

    def _ended(self, ended: Ended, sent_ns: int) -> None:
        self._ticket = 0
        self._late = False
        self.slowest_us = max(self.slowest_us, ended.took_us)
        if ended.errno:
            self._failed(ended, sent_ns)
            return
        for stretch in self._flying:
            self.waiting_bytes -= len(stretch.data)
            self.bytes_written += _pages(stretch)
        self.syncs += 1
        self._flying = []
        self._flying_extra = []
        self._safe = self._sent
        self._wait_ns = RETRY_FIRST_NS
        if self.dark:
            self.dark = False
            self._said(0)
        if self._urgent:
            self._first_ns = self._first_ns or sent_ns

    def _failed(self, ended: Ended, sent_ns: int) -> None:
        """Put it all back in front, wait, say so once."""
        self._stretches = self._flying + self._stretches
        self._extra = self._flying_extra + self._extra
        self._flying = []
        self._flying_extra = []
        self._first_ns = self._first_ns or sent_ns
        self._retry_ns = sent_ns + ended.took_us * 1000 + self._wait_ns
        self._wait_ns = min(self._wait_ns * 2, RETRY_CAP_NS)
        if not self.dark:
            self.dark = True
            self._said(ended.errno)

    def forget(self, name: str) -> None:
        """What waits for this file will not be written: it was given up."""
        kept = [s for s in self._stretches if s.name != name]
        self.waiting_bytes -= sum(len(s.data) for s in self._stretches) - sum(len(s.data) for s in kept)
        self._stretches = kept
