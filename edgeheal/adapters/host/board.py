# SPDX-License-Identifier: Apache-2.0
"""Temperature, throttling, supply voltage and wear of the flash, out of sysfs.

Duty: find the board's own files once, read them on a worker (a sensor on a stuck I2C bus makes a read of sysfs wait), tell
samples. Invariants: a board that has none of these is silent about them; a file that fails is unknown, never cold or whole.
Sources: Documentation/ABI/testing/sysfs-class-thermal, hwmon/sysfs-interface (inN_lcrit_alarm: below what the chip can live with), the firmware's get_throttled bits
(bit 0 under-voltage now, bits 1..3 capped, throttled, soft limit now), JEDEC eMMC 5.0 life time estimation (0x01 = 0 to 10 %).
"""

import os
from dataclasses import dataclass

from edgeheal.core import host_metrics as names
from edgeheal.core.kinds import Verdict
from edgeheal.core.signal import HostSample
from edgeheal.ports import Blocking, Emit

ZONES_MOST = 16
INPUTS_MOST = 10
WEAR_EVERY = 360  # looks (an hour at 10 s): wear moves in months

# JEDEC PRE_EOL_INFO: 1 normal, 2 warning (80 % of the spare blocks are used), 3 urgent (90 %)
NORMAL = 1
PRE_EOL = {2: 910.0, 3: 1_000.0}

Samples = list[tuple[str, float, float]]


@dataclass(frozen=True, slots=True)
class _Zone:
    path: str
    name: str
    limit: float


class Board:
    """The board's sensors. `sysfs` is where the kernel's files lie."""

    def __init__(self, emit: Emit, blocking: Blocking, sysfs: str = "/sys") -> None:
        """Nothing is read before the first look."""
        self._emit = emit
        self._blocking = blocking
        self._sysfs = sysfs
        self._zones: tuple[_Zone, ...] | None = None
        self._looks = 0
        self._throttles = -1
        self._silent = False

    def look(self) -> None:
        """Ask for all of it, unless the last question is still out."""
        wear = self._looks % WEAR_EVERY == 0
        if self._blocking.ask("board", lambda: self._read(wear=wear), self._answered):
            self._looks += 1
        elif not self._silent:
            self._silent = True
            self._emit(HostSample(names.TEMPERATURE, verdict=Verdict.UNKNOWN))

    def _answered(self, value: object) -> None:
        self._silent = False
        if isinstance(value, list):
            for metric, figure, limit in value:
                self._emit(HostSample(metric, figure, limit))

    # -- on the worker

    def _read(self, *, wear: bool) -> Samples:
        found: Samples = []
        if self._zones is None:
            self._zones = tuple(self._find_zones())
        for zone in self._zones:
            milli = _integer(f"{zone.path}/temp")
            if milli is not None:
                found.append((f"{names.TEMPERATURE}:{zone.name}", milli / 1000, zone.limit))
        found += self._supply()
        if wear:
            found += self._wear()
        return found

    def _find_zones(self) -> list[_Zone]:
        base = f"{self._sysfs}/class/thermal"
        zones: list[_Zone] = []
        seen: dict[str, int] = {}
        for entry in sorted(n for n in _folder(base) if n.startswith("thermal_zone"))[:ZONES_MOST]:
            path = f"{base}/{entry}"
            name = (_word(f"{path}/type") or entry)[:32].replace(":", "-")
            seen[name] = seen.get(name, 0) + 1
            zones.append(_Zone(path, name if seen[name] == 1 else f"{name}{seen[name]}", self._trip(path)))
        return zones

    def _trip(self, path: str) -> float:
        """Where the kernel takes it for dangerous: the lowest hot or critical trip, degrees; 0 = none. (Passive ones only slow down.)"""
        trips = []
        for number in range(12):
            if _word(f"{path}/trip_point_{number}_type") in ("hot", "critical"):
                milli = _integer(f"{path}/trip_point_{number}_temp")
                if milli is not None and milli > 0:
                    trips.append(milli / 1000)
        return min(trips, default=0.0)

    def _supply(self) -> Samples:
        found: Samples = []
        bits = _word(f"{self._sysfs}/devices/platform/soc/soc:firmware/get_throttled")
        if bits:
            try:
                flags = int(bits, 16)
            except ValueError:
                return found
            return [(names.UNDERVOLTAGE, float(flags & 1), 0.0), (names.THROTTLED, float(bool(flags & 0b1110)), 0.0)]
        low = seen = False
        for entry in sorted(_folder(f"{self._sysfs}/class/hwmon"))[:ZONES_MOST]:
            path = f"{self._sysfs}/class/hwmon/{entry}"
            alarms = [a for n in range(INPUTS_MOST) if (a := _integer(f"{path}/in{n}_lcrit_alarm")) is not None]
            if alarms:
                low = low or any(alarms)
                seen = True
        if seen:
            found.append((names.UNDERVOLTAGE, float(low), 0.0))
        count = _integer(f"{self._sysfs}/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count")
        if count is not None:
            if self._throttles >= 0:
                found.append((names.THROTTLED, float(count > self._throttles), 0.0))
            self._throttles = count
        return found

    def _wear(self) -> Samples:
        found: Samples = []
        for entry in sorted(_folder(f"{self._sysfs}/block")):
            if not entry.startswith("mmcblk") or not entry[6:].isdigit():
                continue
            worst = 0
            for word in (_word(f"{self._sysfs}/block/{entry}/device/life_time") or "").split():
                worst = max(worst, _hex(word))
            spare = _hex(_word(f"{self._sysfs}/block/{entry}/device/pre_eol_info") or "")
            used = max(worst * 100.0 if 1 <= worst <= 11 else 0.0, PRE_EOL.get(spare, 0.0))
            if used or spare == NORMAL:
                found.append((f"{names.FLASH_WEAR}:{entry}", used, 0.0))
        return found


def _word(path: str) -> str | None:
    """The file's words; None when it cannot be read (a sensor that is there but does not answer says EIO)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 256).decode("ascii", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def _integer(path: str) -> int | None:
    word = _word(path)
    try:
        return None if word is None else int(word)
    except ValueError:
        return None


def _hex(word: str) -> int:
    try:
        return int(word, 16)
    except ValueError:
        return 0


def _folder(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
