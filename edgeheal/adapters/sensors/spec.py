# SPDX-License-Identifier: Apache-2.0
"""What a sensor of the box is: where its value comes from, how often, and how its number is made.

Duty: frozen values, made from config by whoever starts the agent. Invariant: value = raw x scale + offset.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SensorSpec:
    """One channel. `name` unique on the box, `source` the device it belongs to ("" = the name itself), `app` whose it is, "" = the box's."""

    name: str
    source: str = ""
    app: str = ""
    every_ms: int = 10_000
    scale: float = 1.0
    offset: float = 0.0

    def value(self, raw: float) -> float:
        """The number in the sensor's unit."""
        return raw * self.scale + self.offset


@dataclass(frozen=True, slots=True)
class FileSensor:
    """A file of sysfs' kind. `path`: absolute, or `hwmon:NAME/FILE`, `iio:NAME/FILE`, `w1:ID` (found anew: their numbers change from boot to boot)."""

    spec: SensorSpec
    path: str


@dataclass(frozen=True, slots=True)
class LineSensor:
    """A field of a line: `form` json, csv, nmea or words; `field` a key (dotted for json), a column from 0, or `SENTENCE.n`."""

    spec: SensorSpec
    form: str
    field: str


@dataclass(frozen=True, slots=True)
class TopicSensor:
    """A field of what is published under `topic`; `form` and `field` as of a line, or `number`."""

    spec: SensorSpec
    topic: str
    form: str
    field: str


@dataclass(frozen=True, slots=True)
class Register:
    """A Modbus value: `function` 1..4, `kind` bit, u16, i16, u32, i32 or f32, `swapped` low word first."""

    spec: SensorSpec
    slave: int
    address: int
    function: int = 3
    kind: str = "u16"
    swapped: bool = False

    @property
    def words(self) -> int:
        """How many registers (or bits) one value takes."""
        return 2 if self.kind in ("u32", "i32", "f32") else 1


@dataclass(frozen=True, slots=True)
class Line:
    """A serial line: `link` is its stable name (`/dev/serial/by-id/...`), or `usb:VID:PID[:SERIAL]`; `parity` N, E or O."""

    link: str
    baud: int = 9_600
    parity: str = "N"
    stop_bits: int = 1
