# SPDX-License-Identifier: Apache-2.0
"""`now`: the only time the deciding rooms know.

Duty: carry boot id, monotonic time, box time and wall time as an argument. It reads no clock.
Invariant: decisions use `mono_ns` (within a boot) or `box_s` (across boots); `wall_s` is a label only.
"""

from dataclasses import dataclass

NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Now:
    """One instant. `box_s` is seconds powered, summed over boots; `wall_s` Unix seconds, right only if `trusted`."""

    boot: str
    mono_ns: int
    box_s: int = 0
    wall_s: int = 0
    trusted: bool = False

    def after(self, seconds: float) -> int:
        """`mono_ns` of the moment `seconds` from now."""
        return self.mono_ns + round(seconds * NS)
