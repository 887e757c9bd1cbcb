# SPDX-License-Identifier: Apache-2.0
"""A sensor that sends what its chip or driver says when it has nothing to say: 0, -127, 85, 65535.

Duty: tell such a default from a measurement. Sources: DS18B20 data sheet (power-on value 85 C), DallasTemperature (-127 = disconnected),
a bus that reads all ones (65535, 4294967295, -1 as unsigned), the ends of signed registers.
Healthy look-alikes: a value that passes through one of them, a measurement that rests there (a pump that is off reads 0), a set point of 85.
Invariants: it must be the very number, several times in a row; 0 and 85 count only after a value that lived far from them.
"""

from edgeheal.core.app import MetricSpec
from edgeheal.detect.normal import Normal

SAME = 3
NEVER = frozenset({-127.0, 65_535.0, 4_294_967_295.0, -32_768.0})  # no measurement reads exactly this again and again
POWER_ON = 85.0
DEGREES = frozenset({"C", "°C", "degC", "celsius"})
# what rests at nothing: flows, currents, powers, speeds, light, rain
RESTS = frozenset({
    "A", "mA", "W", "kW", "MW", "VA", "var", "l/min", "l/s", "l/h", "m3/h", "m3/s", "rpm", "1/min", "m/s", "km/h", "%", "lx", "W/m2", "mm", "mm/h",
    "Wh", "kWh", "count", "pulses", "N", "kN", "g", "kg", "bytes",
})  # fmt: skip
LIVING = 3  # different values among the last ones


def is_default(value: float, spec: MetricSpec, ring: list[float], normal: Normal) -> bool:
    """Whether this very number is none of the sensor's own. `ring`: its last good values."""
    raw = round((value - spec.offset) / spec.scale, 6) if spec.scale else value
    last = normal.recent or ring
    if not spec.unit and not spec.every_ms:
        return False  # a number of no unit and no pace is no measurement
    for number in (value, raw):
        if number in NEVER:
            return spec.low is None or value < spec.low or (spec.high is not None and value > spec.high) or _lived_far(value, last)
        if number == POWER_ON and spec.unit in DEGREES:
            return _lived_far(value, last)
    if (value == 0.0 or raw == 0.0) and spec.unit not in RESTS:
        promised = spec.low is not None and value < spec.low
        return (promised or (normal.settled and normal.apart(value))) and _lived_far(value, last)
    return False


def _lived_far(value: float, last: list[float]) -> bool:
    """Whether the last values lived, and lived far from this one."""
    if len(set(last)) < LIVING:
        return False
    low, high = min(last), max(last)
    return value < low - 2 * (high - low) or value > high + 2 * (high - low)
