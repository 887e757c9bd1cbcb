# SPDX-License-Identifier: Apache-2.0
"""The wall clock: whether anybody who knows has set it, and whether it jumped.

Duty: compare the wall clock with the clock that runs on through suspend, and ask the kernel for its synchronised flag.
It sets nothing and decides nothing: wall time is a label.
Invariants: a suspend is no step; slewing is no step; a clock before the build of this program is never trusted.
Source: adjtimex(2): STA_UNSYNC 0x40, set until a time daemon disciplines the clock.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable

from edgeheal.core import host_metrics as names
from edgeheal.core.now import NS
from edgeheal.core.signal import HostSample
from edgeheal.core.version import BUILT_S
from edgeheal.ports import Emit

STEP_S = 1.5  # chrony slews at most a tenth: 1 s in a period of 10 s
STA_UNSYNC = 0x40
SYNC_MARK = "/run/systemd/timesync/synchronized"


class _Timex(ctypes.Structure):
    """struct timex, as far as `status`; the rest is room (208 bytes on 64-bit, 128 on 32-bit)."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("room", ctypes.c_ubyte * 256),
    )  # fmt: skip


def kernel_synchronised() -> bool:
    """Whether a time daemon disciplines the clock, as the kernel says; no when it cannot be asked."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        timex = _Timex()
        state: int = libc.adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return False
    return state >= 0 and not timex.status & STA_UNSYNC


class Wall:
    """The wall clock's witness. `trusted` is the last answer, for labels."""

    def __init__(
        self, emit: Emit, synchronised: Callable[[], bool] = kernel_synchronised, wall_ns: Callable[[], int] = time.time_ns, mark: str = SYNC_MARK
    ) -> None:
        """`synchronised` asks the kernel; `wall_ns` is the wall clock."""
        self._emit = emit
        self._synchronised = synchronised
        self._wall_ns = wall_ns
        self._mark = mark
        self._offset_ns: int | None = None
        self.trusted: bool | None = None

    def look(self) -> None:
        """Tell a step, and a change of trust."""
        wall = self._wall_ns()
        offset = wall - _boottime_ns()
        if self._offset_ns is not None and abs(offset - self._offset_ns) >= STEP_S * NS:
            self._emit(HostSample(names.CLOCK_STEP, round((offset - self._offset_ns) / NS, 1)))
        self._offset_ns = offset
        trusted = wall // NS >= BUILT_S and (os.path.exists(self._mark) or self._synchronised())
        if trusted != self.trusted:
            self.trusted = trusted
            self._emit(HostSample(names.CLOCK_TRUSTED, float(trusted)))


def _boottime_ns() -> int:
    """Time since boot with suspend counted; plain monotonic where there is no such clock."""
    with contextlib.suppress(OSError, AttributeError):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.monotonic_ns()
