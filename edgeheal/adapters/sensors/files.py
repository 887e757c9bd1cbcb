# SPDX-License-Identifier: Apache-2.0
"""Sensors that are files: sysfs, hwmon, IIO, 1-Wire.

Duty: read each at its period on a worker (a bus that hangs makes a read wait), tell `Reading`. A file that is gone, empty, says
EIO or no number is "asked, no answer" (None). It judges no value.
Invariants: one read per sensor is out; a read that does not come back in time is told as no answer each period, and the others go on.
Sources: 1-Wire: w1_therm (`crc=xx YES`, `t=21375`, thousandths); IIO: sysfs-bus-iio (value = (raw + offset) x scale); hwmon: sysfs-interface.
"""

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeheal.adapters.sensors.spec import FileSensor
from edgeheal.core.signal import Reading
from edgeheal.ports import Blocking, Emit

MS = 1_000_000
SIZE_MOST = 4_096
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_W1 = re.compile(r"crc=[0-9a-f]{2} (YES|NO)\s.*?t=(-?\d+)", re.DOTALL)


def parse_file(text: str) -> float | None:
    """The file's number: 1-Wire's with its checksum, else the first number if nothing but its unit follows."""
    if "crc=" in text:
        found = _W1.search(text)
        return int(found[2]) / 1000 if found and found[1] == "YES" else None
    found = _NUMBER.match(text.strip())
    if found is None or not re.fullmatch(r"\s*[^\d\s]{0,12}\s*", text.strip()[found.end() :]):
        return None
    value = float(found[0])
    return value if abs(value) < float("inf") else None


@dataclass(slots=True)
class _Row:
    sensor: FileSensor
    due_ns: int
    asked_ns: int = 0


class Files:
    """A `ports.Source`."""

    def __init__(
        self, emit: Emit, blocking: Blocking, sensors: Sequence[FileSensor], clock: Callable[[], int] = time.monotonic_ns, sysfs: str = "/sys"
    ) -> None:
        """`sysfs` is where the kernel's files lie."""
        self._emit = emit
        self._blocking = blocking
        self._clock = clock
        self._sysfs = sysfs
        self._rows = [_Row(sensor, clock() + index * MS) for index, sensor in enumerate(sensors)]

    def fds(self) -> dict[int, int]:
        """Nothing to wait for: answers come through the workers."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """Never called."""

    def due(self) -> int:
        """The next read."""
        return min((row.due_ns for row in self._rows), default=0)

    def tick(self, now_ns: int) -> None:
        """Ask for what is due."""
        for row in self._rows:
            if now_ns >= row.due_ns:
                row.due_ns = now_ns + row.sensor.spec.every_ms * MS
                self._ask(row, now_ns)

    def close(self) -> None:
        """Read no more."""
        self._rows.clear()

    def _ask(self, row: _Row, now_ns: int) -> None:
        path, spec = row.sensor.path, row.sensor.spec

        def answered(value: object) -> None:
            took_ms = (self._clock() - row.asked_ns) // MS
            raw = value if isinstance(value, float) else None
            self._emit(Reading(spec.app, spec.name, None if raw is None else spec.value(raw), spec.source or spec.name, took_ms))

        if self._blocking.ask(f"sensor:{spec.name}", lambda: read_sensor(path, self._sysfs), answered):
            row.asked_ns = now_ns
        else:
            self._emit(Reading(spec.app, spec.name, None, spec.source or spec.name, (now_ns - row.asked_ns) // MS))


def read_sensor(path: str, sysfs: str) -> float | None:
    """The file's number; OSError. Blocks as long as the device does.

    An IIO `_raw` is brought to its unit by the `_scale` and `_offset` beside it (of the channel, else of its kind); a hwmon `_input` whose `_fault`
    is 1 has no value.
    """
    found = resolve(path, sysfs)
    raw = parse_file(_text(found))
    folder, file = os.path.split(found)
    if raw is None:
        return None
    if file.endswith("_input") and _beside(folder, file.removesuffix("_input") + "_fault") == 1:
        return None
    if file.endswith("_raw"):
        offset, scale = (_of_channel(folder, file.removesuffix("_raw"), what) for what in ("_offset", "_scale"))
        raw = (raw + (offset or 0.0)) * (1.0 if scale is None else scale)
    return raw


def _of_channel(folder: str, channel: str, what: str) -> float | None:
    """`in_voltage0_scale`, else `in_voltage_scale`, which all channels of the kind share; None: neither is there."""
    own = _beside(folder, channel + what)
    return _beside(folder, channel.rstrip("0123456789") + what) if own is None else own


def _beside(folder: str, file: str) -> float | None:
    try:
        return parse_file(_text(f"{folder}/{file}"))
    except OSError:
        return None


def _text(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, SIZE_MOST).decode("ascii", "replace")
    finally:
        os.close(fd)


def resolve(path: str, sysfs: str) -> str:
    """The present path of a sensor that is named by its device; FileNotFoundError."""
    kind, found, rest = path.partition(":")
    if not found or path.startswith("/"):
        return path
    if kind == "w1":
        return f"{sysfs}/bus/w1/devices/{rest}/w1_slave"
    base = {"hwmon": f"{sysfs}/class/hwmon", "iio": f"{sysfs}/bus/iio/devices"}.get(kind)
    name, _, file = rest.partition("/")
    for entry in sorted(os.listdir(base)) if base else ():
        try:
            with open(f"{base}/{entry}/name", encoding="ascii", errors="replace") as handle:
                if handle.read(128).strip() == name:
                    return f"{base}/{entry}/{file}"
        except OSError:
            continue
    raise FileNotFoundError(2, "no such sensor", path)
