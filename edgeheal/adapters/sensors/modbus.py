# SPDX-License-Identifier: Apache-2.0
"""A Modbus RTU master that shares one line among its slaves fairly.

Duty: ask each register at its period, one question at a time, tell `Reading`. It resets nothing and judges nothing.
Invariants: the wait for one answer is at most the poll period shared among all slaves, so that a dead one cannot starve the others; a
slave that missed `MISSES` answers in a row is asked once a minute only (`SILENT_NS`) until it answers; each of its due values is
still told as no answer, and after `again` nobody is asked rarely for `LIVELY_NS`. A late answer is thrown away, never taken for another's.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeheal.adapters.sensors.rtu import ANSWER_MOST, answer, request
from edgeheal.adapters.sensors.serial_line import SerialLine
from edgeheal.adapters.sensors.spec import Line, Register
from edgeheal.core.now import NS
from edgeheal.core.signal import Reading
from edgeheal.ports import Blocking, Emit

MS = 1_000_000
MISSES = 3
SILENT_NS = 60 * NS
LIVELY_NS = 60 * NS
BITS_A_CHAR = 11
SILENT_CHARS = 4  # 3.5 characters between frames


@dataclass(slots=True)
class _Row:
    register: Register
    due_ns: int


@dataclass(slots=True)
class _Slave:
    """`missed` answers in a row; `ask_ns`: not before then while it is silent."""

    missed: int = 0
    ask_ns: int = 0


class Modbus:
    """A `ports.Source`: one line, its registers."""

    def __init__(
        self, emit: Emit, blocking: Blocking, line: Line, registers: Sequence[Register], clock: Callable[[], int] = time.monotonic_ns, timeout_ms: int = 1_000
    ) -> None:
        """`timeout_ms` is the longest wait for one answer; it is shortened to what the periods allow."""
        self._emit = emit
        self._clock = clock
        now = clock()
        self._rows = [_Row(register, now) for register in registers]
        self._slaves = {register.slave: _Slave() for register in registers}
        shortest_ms = min((register.spec.every_ms for register in registers), default=1_000)
        self._timeout_ns = min(timeout_ms, max(20, shortest_ms // (len(registers) + 1))) * MS
        self._gap_ns = SILENT_CHARS * BITS_A_CHAR * NS // max(300, line.baud)
        self._asked: _Row | None = None
        self._asked_ns = 0
        self._free_ns = 0
        self._got = b""
        self._lively_ns = 0
        self.port = SerialLine(line, emit, blocking, clock)

    def fds(self) -> dict[int, int]:
        """The line, while it is there."""
        return {self.port.fd: self.port.mask()} if self.port.up else {}

    def ready(self, fd: int, events: int) -> None:
        """Part of an answer."""
        if fd != self.port.fd:
            return
        self._got = (self._got + self.port.read(events))[-ANSWER_MOST:]
        if self._asked is None:
            self._got = b""
            return
        value, whole = answer(self._asked.register, self._got)
        if whole:
            self._end(value, answered=True)
        elif not self.port.up:
            self._end(None, answered=False)

    def due(self) -> int:
        """The deadline of the question that is out, or the next question."""
        if not self._rows:
            return 0
        if self._asked is not None:
            return self._asked_ns + self._timeout_ns
        following = min(row.due_ns for row in self._rows)
        if not self.port.up:
            return min(self.port.due_ns, following)
        return max(self._free_ns, following)

    def tick(self, now_ns: int) -> None:
        """Give up on who is late; ask who is due."""
        self.port.tick(now_ns)
        if self._asked is not None:
            if now_ns < self._asked_ns + self._timeout_ns:
                return
            self._end(None, answered=False)
        for row in sorted(self._rows, key=lambda r: r.due_ns):
            if now_ns < row.due_ns:
                return
            slave = self._slaves[row.register.slave]
            if not self.port.up or now_ns < slave.ask_ns:
                self._tell(row, None, 0)  # not asked: nobody there, or silent and not yet to be tried again
            elif now_ns < self._free_ns or self._ask(row, now_ns):
                return

    def close(self) -> None:
        """Let go of the line."""
        self.port.lose()

    def again(self) -> None:
        """Something was switched off and on: whoever was silent may be there again, now or in a moment."""
        self._lively_ns = self._clock() + LIVELY_NS
        for slave in self._slaves.values():
            slave.ask_ns = slave.missed = 0

    def _ask(self, row: _Row, now_ns: int) -> bool:
        self.port.drain()
        self._got = b""
        if not self.port.write(request(row.register)):
            self._tell(row, None, 0)
            return False
        self._asked, self._asked_ns = row, now_ns
        return True

    def _end(self, value: float | None, *, answered: bool) -> None:
        row, self._asked = self._asked, None
        if row is None:
            return
        now = self._clock()
        self._free_ns = now + self._gap_ns
        slave = self._slaves[row.register.slave]
        slave.missed = 0 if answered else slave.missed + 1
        slave.ask_ns = now + SILENT_NS if slave.missed >= MISSES and now >= self._lively_ns else 0
        self._tell(row, value, (now - self._asked_ns) // MS)

    def _tell(self, row: _Row, raw: float | None, took_ms: int) -> None:
        spec = row.register.spec
        every_ns = spec.every_ms * MS
        row.due_ns += every_ns * max(1, (self._clock() - row.due_ns) // every_ns + 1)
        self._emit(Reading(spec.app, spec.name, None if raw is None else spec.value(raw), spec.source or f"slave {row.register.slave}", took_ms))
