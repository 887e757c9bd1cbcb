# SPDX-License-Identifier: Apache-2.0
"""Sensors that speak in lines over a serial line.

Duty: cut what comes into lines, parse each for the sensors on it, tell `Reading`; a sensor that has said nothing for two periods is told
as no answer once a period. Invariants: a garbled line costs that line; at most `LINE_MOST` bytes wait for their end; a flood is thinned
to the sensor's period.
"""

import time
from collections.abc import Callable, Sequence

from edgeheal.adapters.sensors.parse import FORMS
from edgeheal.adapters.sensors.serial_line import SerialLine
from edgeheal.adapters.sensors.spec import Line, LineSensor
from edgeheal.core.signal import Reading
from edgeheal.ports import Blocking, Emit

MS = 1_000_000
LINE_MOST = 1_024


class Lines:
    """A `ports.Source`: one serial line and the sensors on it."""

    def __init__(self, emit: Emit, blocking: Blocking, line: Line, sensors: Sequence[LineSensor], clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`sensors` all speak on this line."""
        self._emit = emit
        self._clock = clock
        self._sensors = tuple(sensors)
        self._rest = b""
        self._skip = False
        self._told: dict[str, int] = {s.spec.name: clock() for s in sensors}
        self._missed: dict[str, int] = dict(self._told)
        self.port = SerialLine(line, emit, blocking, clock)

    def fds(self) -> dict[int, int]:
        """The line, while it is there."""
        return {self.port.fd: self.port.mask()} if self.port.up else {}

    def ready(self, fd: int, events: int) -> None:
        """Take what came."""
        if fd != self.port.fd:
            return
        data = self.port.read(events)
        if not self.port.up:
            self._rest = b""
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for raw in lines:
            if self._skip:
                self._skip = False
            elif raw:
                self._take(raw.decode("ascii", "replace"))
        if len(self._rest) > LINE_MOST:
            self._rest, self._skip = b"", True

    def due(self) -> int:
        """The next look-up of the line, or the next silence to tell."""
        silence = min((self._due_of(s) for s in self._sensors), default=0)
        return silence if self.port.up else min(self.port.due_ns, silence or self.port.due_ns)

    def tick(self, now_ns: int) -> None:
        """Look for the line; tell who is silent."""
        self.port.tick(now_ns)
        for sensor in self._sensors:
            if now_ns >= self._due_of(sensor):
                spec = sensor.spec
                self._missed[spec.name] = now_ns
                self._emit(Reading(spec.app, spec.name, None, spec.source or spec.name, (now_ns - self._told[spec.name]) // MS))

    def close(self) -> None:
        """Let go of the line."""
        self.port.lose()

    def _due_of(self, sensor: LineSensor) -> int:
        name, every_ns = sensor.spec.name, sensor.spec.every_ms * MS
        return max(self._told[name] + 2 * every_ns, self._missed[name] + every_ns)

    def _take(self, line: str) -> None:
        now = self._clock()
        for sensor in self._sensors:
            spec = sensor.spec
            raw = FORMS[sensor.form](line, sensor.field)
            if raw is not None and (now - self._told[spec.name] >= spec.every_ms * MS // 2 or self._missed[spec.name] == self._told[spec.name]):
                self._told[spec.name] = now
                self._emit(Reading(spec.app, spec.name, spec.value(raw), spec.source or spec.name))
