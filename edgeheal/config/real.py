# SPDX-License-Identifier: Apache-2.0
"""The kind of a number with a fraction, in a unit that another key names.

Duty: read, show and say its form, as `kinds` does for all others. Invariant: finite, and within its bounds.
"""

import math
import re
from typing import Any

from edgeheal.config.kinds import Kind, Misread


class Real(Kind):
    """A number in a unit of its own that another key names: a factor, a bound of a sensor's value."""

    __slots__ = ("most", "zero")

    def __init__(self, most: float = 1e12, *, zero: bool = True) -> None:
        self.most = most
        self.zero = zero

    def read(self, raw: Any, base: str) -> float:
        """The number; Misread."""
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
            number = re.match(r"\s*([-+]?\d{1,12}(?:\.\d{1,9})?)", raw) if isinstance(raw, str) else None
            raise Misread(f"expected {self.form()}, without quotes", number[1].removeprefix("+") if number else "")
        if abs(raw) > self.most or (raw == 0 and not self.zero):
            raise Misread(f"expected {self.form()}", "" if raw else "1.0")
        return float(raw)

    def show(self, value: Any) -> str:
        """In TOML."""
        return repr(float(value))

    def form(self) -> str:
        """What may be written."""
        return f"a number from {-self.most:g} to {self.most:g}" + ("" if self.zero else ", not 0")
