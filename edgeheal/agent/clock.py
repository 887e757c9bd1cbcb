# SPDX-License-Identifier: Apache-2.0
"""The agent's clock: turns the machine's clocks into `Now`.

Duty: monotonic time of this boot, box time as the guard last told it, wall time with its flag. It decides nothing.
Invariant: box time never goes back within a run of the agent.
"""

import time

from edgeheal.core.now import NS, Now


def boot_id() -> str:
    """The kernel's id of this boot; "" where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class SystemClock:
    """`ports.Clock` over the real machine."""

    def __init__(self) -> None:
        """Box time counts from 0 until the guard says better; wall time is not trusted until somebody says so."""
        self._boot = boot_id()
        self._box_base_s = 0
        self._box_at_ns = time.monotonic_ns()
        self.trusted = False

    def box_is(self, box_s: int) -> None:
        """The guard's word on box time, as of now."""
        current = self.now().box_s
        self._box_base_s = max(box_s, current)
        self._box_at_ns = time.monotonic_ns()

    def now(self) -> Now:
        """This instant."""
        mono = time.monotonic_ns()
        return Now(self._boot, mono, self._box_base_s + (mono - self._box_at_ns) // NS, int(time.time()), self.trusted)
