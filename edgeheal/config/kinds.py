# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: D102 - what `read`, `show` and `form` do stands once, at `Kind`, what bounds mean at each class
"""Kinds of values in a config file: how each is read, shown, bounded, and what the nearest valid form of a wrong one is.

Duty: one TOML value in, one plain value out, or `Misread` with a reason and a form that would have been taken. It knows no
key, file or line.
Invariants: nothing is guessed: a bare number is no duration; zero, negative, `inf`, `nan` and overflow are refused where
they mean nothing; `read(show(v)) == v`; a nearest form is itself valid.
"""

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from edgeheal.core.policy import Budget

MILLIS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
BYTES = {"B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SPOKEN = {
    "ss": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m", "hr": "h", "hrs": "h",
    "hour": "h", "hours": "h", "day": "d", "days": "d", "week": "w", "weeks": "w", "msec": "ms", "msecs": "ms", "millis": "ms",
    "k": "kB", "kb": "kB", "mb": "MB", "gb": "GB", "g": "GB", "kib": "KiB", "mib": "MiB", "gib": "GiB", "b": "B", "bytes": "B",
}  # fmt: skip
_QUANTITY = re.compile(r"(\d{1,12})(?:\.(\d{1,3}))?([A-Za-z]+)")
_LOOSE = re.compile(r"\s*([-+]?)\s*(\d{1,12})(?:\.(\d{1,3}))?\s*([A-Za-z]*)\s*")
_BUDGET = re.compile(r"(\d{1,6}) in (\d{1,9}[a-z]+)")


class Misread(ValueError):  # noqa: N818 - it is no failure of the program, and never leaves this room
    """A value that its kind does not take; `nearest` is a valid form in TOML, "" where there is none."""

    def __init__(self, message: str, nearest: str = "") -> None:
        """Say what was expected, and what would have been taken."""
        super().__init__(message)
        self.nearest = nearest


def quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04X}" for c in escaped) + '"'


class Kind:
    """One kind of value. `suffix` is the unit that the field's name carries and the key's does not."""

    __slots__ = ()
    suffix: ClassVar[str] = ""

    def read(self, raw: Any, base: str) -> Any:
        """The plain value of `raw`; relative paths start at `base`."""
        raise NotImplementedError

    def show(self, value: Any) -> str:
        """The value as it would stand in a file."""
        raise NotImplementedError

    def form(self) -> str:
        """What a reader must write, in a few words."""
        raise NotImplementedError


def _type_word(raw: Any) -> str:
    words = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return words.get(type(raw), "a date or time")


def _whole(number: str, fraction: str | None, factor: int, unit: int) -> int | None:
    """number.fraction times factor in whole units, None where it is not whole."""
    scaled = int(number) * 1_000 + int((fraction or "").ljust(3, "0") or 0)
    value, rest = divmod(scaled * factor, unit * 1_000)
    return value if rest == 0 else None


class _Quantity(Kind):
    """A number with its unit, kept as an integer of `unit` (ms of a duration, bytes of a size)."""

    __slots__ = ("high", "low")
    unit: ClassVar[int] = 1
    table: ClassVar[dict[str, int]] = {}
    example: ClassVar[str] = ""
    floors: ClassVar[bool] = False

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def read(self, raw: Any, base: str) -> int:
        if isinstance(raw, bool) or not isinstance(raw, str):
            if isinstance(raw, float) and not math.isfinite(raw):
                raise Misread(f"must be finite: {self.form()}", self._nearest_default())
            if isinstance(raw, int | float) and not isinstance(raw, bool):
                raise Misread(f"its unit is missing: {self.form()}", self._guess(str(raw)))
            raise Misread(f"expected {self.form()}, not {_type_word(raw)}", self._nearest_default())
        match = _QUANTITY.fullmatch(raw)
        if match is None or match[3] not in self.table:
            raise Misread(f"expected {self.form()}", self._guess(raw))
        value = _whole(match[1], match[2], self.table[match[3]], self.unit)
        if value is None and self.floors:
            value = int(match[1]) * self.table[match[3]] // self.unit
        if value is None:
            raise Misread(f"must be a whole multiple of {self._word(1)}", self._guess(raw))
        if not self.low <= value <= self.high:
            limit = self.low if value < self.low else self.high
            raise Misread(f"must be from {self._word(self.low)} to {self._word(self.high)}", quoted(self._word(limit)))
        return value

    def _guess(self, raw: str) -> str:
        """A valid form of what was probably meant."""
        match = _LOOSE.fullmatch(raw)
        if match is None:
            return self._nearest_default()
        said = match[4] or ("s" if "s" in self.table else "B")
        unit = said if said in self.table else _SPOKEN.get(said.lower(), said.lower())
        if unit not in self.table:
            close = difflib.get_close_matches(said, self.table, 1, 0.3)
            unit = close[0] if close else next(iter(self.table))
        value = _whole(match[2], match[3], self.table[unit], self.unit)
        if value is None:
            value = int(match[2]) * self.table[unit] // self.unit
        elif self.low <= value <= self.high:
            return quoted(f"{match[2]}{'.' + match[3] if match[3] else ''}{unit}")
        return quoted(self._word(min(max(value, self.low), self.high)))

    def _nearest_default(self) -> str:
        return quoted(self._word(min(max(_whole_of(self.example, self.table, self.unit), self.low), self.high)))

    def _word(self, value: int) -> str:
        whole = value * self.unit
        fitting = [(u, f) for u, f in self.table.items() if whole % f == 0 and u != "w"]
        if not whole:
            return "0s" if "s" in self.table else "0B"
        if whole % 1_000 == 0 and "kB" in self.table:
            fitting = [(u, f) for u, f in fitting if "i" not in u]
        unit, factor = max(fitting, key=lambda pair: pair[1])
        return f"{whole // factor}{unit}"

    def show(self, value: Any) -> str:
        return quoted(self._word(value))

    def form(self) -> str:
        return f'a quoted number with its unit ({", ".join(self.table)}), such as "{self.example}"'


def _whole_of(text: str, table: dict[str, int], unit: int) -> int:
    match = _QUANTITY.fullmatch(text)
    return int(match[1]) * table[match[3]] // unit if match else 0


class Millis(_Quantity):
    """A duration kept in milliseconds."""

    __slots__ = ()
    suffix: ClassVar[str] = "_ms"
    table: ClassVar[dict[str, int]] = MILLIS
    example: ClassVar[str] = "10s"


class Seconds(_Quantity):
    """A duration kept in whole seconds."""

    __slots__ = ()
    unit: ClassVar[int] = 1_000
    suffix: ClassVar[str] = "_s"
    table: ClassVar[dict[str, int]] = MILLIS
    example: ClassVar[str] = "10m"


class Size(_Quantity):
    """A size kept in bytes."""

    __slots__ = ()
    suffix: ClassVar[str] = "_bytes"
    table: ClassVar[dict[str, int]] = BYTES
    example: ClassVar[str] = "4MB"


class Kibibytes(_Quantity):
    """A size kept in KiB, rounded down to it: such limits are the kernel's, and none is missed by less than a KiB."""

    __slots__ = ()
    unit: ClassVar[int] = 1 << 10
    floors: ClassVar[bool] = True
    suffix: ClassVar[str] = "_kib"
    table: ClassVar[dict[str, int]] = BYTES
    example: ClassVar[str] = "64MiB"


class Permille(Kind):
    """A share, written in percent ("12.5%") and kept in thousandths."""

    __slots__ = ("high", "low")
    suffix: ClassVar[str] = "_permille"

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def read(self, raw: Any, base: str) -> int:
        match = re.fullmatch(r"(\d{1,5})(?:\.(\d))?%", raw) if isinstance(raw, str) else None
        if match is None:
            number = re.search(r"\d{1,5}", str(raw)) if isinstance(raw, int | float | str) and not isinstance(raw, bool) else None
            near = min(max(int(number[0]) * 10 if number else self.low, self.low), self.high)
            raise Misread(f"expected {self.form()}", self.show(near))
        value = int(match[1]) * 10 + int(match[2] or 0)
        if not self.low <= value <= self.high:
            raise Misread(f"must be from {_percent(self.low)} to {_percent(self.high)}", self.show(min(max(value, self.low), self.high)))
        return value

    def show(self, value: Any) -> str:
        return quoted(_percent(value))

    def form(self) -> str:
        return 'a quoted share in percent, such as "10%"'


def _percent(permille: int) -> str:
    return f"{permille // 10}.{permille % 10}%" if permille % 10 else f"{permille // 10}%"


class Celsius(Kind):
    """A temperature, "85C"."""

    __slots__ = ("high", "low")
    suffix: ClassVar[str] = "_c"

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def read(self, raw: Any, base: str) -> int:
        match = re.fullmatch(r"(-?\d{1,3})C", raw) if isinstance(raw, str) else None
        if match is None or not self.low <= int(match[1]) <= self.high:
            number = re.search(r"-?\d{1,3}", str(raw)) if isinstance(raw, int | float | str) and not isinstance(raw, bool) else None
            near = min(max(int(number[0]) if number else self.high, self.low), self.high)
            raise Misread(f"expected {self.form()}", self.show(near))
        return int(match[1])

    def show(self, value: Any) -> str:
        return f'"{value}C"'

    def form(self) -> str:
        return f'a quoted temperature from "{self.low}C" to "{self.high}C"'


class Number(Kind):
    """A whole number without a unit: a count, a port."""

    __slots__ = ("high", "low")

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high

    def read(self, raw: Any, base: str) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int):
            digits = re.fullmatch(r"\s*(\d{1,9})(?:\.\d*)?\s*", str(raw)) if isinstance(raw, str | float) else None
            raise Misread(f"expected {self.form()}", str(min(max(int(digits[1]), self.low), self.high)) if digits else "")
        if not self.low <= raw <= self.high:
            raise Misread(f"must be from {self.low} to {self.high}", str(min(max(raw, self.low), self.high)))
        return raw

    def show(self, value: Any) -> str:
        return str(value)

    def form(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


class Flag(Kind):
    """true or false."""

    __slots__ = ()

    def read(self, raw: Any, base: str) -> bool:
        if isinstance(raw, bool):
            return raw
        yes = str(raw).strip().lower() in ("true", "yes", "on", "1")
        no = str(raw).strip().lower() in ("false", "no", "off", "0")
        raise Misread("expected true or false, without quotes", "true" if yes else "false" if no else "")

    def show(self, value: Any) -> str:
        return "true" if value else "false"

    def form(self) -> str:
        return "true or false"


class Choice(Kind):
    """One of a few words."""

    __slots__ = ("words",)

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def read(self, raw: Any, base: str) -> str:
        if isinstance(raw, str) and raw in self.words:
            return raw
        close = difflib.get_close_matches(raw.strip().lower() if isinstance(raw, str) else str(raw), self.words, 1, 0.5)
        raise Misread(f"expected {self.form()}", quoted(close[0]) if close else "")

    def show(self, value: Any) -> str:
        return quoted(str(value))

    def form(self) -> str:
        return "one of " + ", ".join(f'"{w}"' for w in self.words if w)


class Text(Kind):
    """A short text; `pattern` bounds it (the default: printable, one line)."""

    __slots__ = ("most", "pattern", "words")

    def __init__(self, most: int = 128, pattern: str = r"[^\x00-\x1f\x7f]*", words: str = "a quoted text") -> None:
        self.most = most
        self.pattern = pattern
        self.words = words

    def read(self, raw: Any, base: str) -> str:
        if not isinstance(raw, str):
            near = quoted(str(raw)) if isinstance(raw, int) and not isinstance(raw, bool) and re.fullmatch(self.pattern, str(raw)) else ""
            raise Misread(f"expected {self.form()}, not {_type_word(raw)}", near)
        if len(raw.encode()) > self.most or re.fullmatch(self.pattern, raw) is None:
            near = re.sub(r"[^a-z0-9-]+", "-", raw.lower()).strip("-")[: self.most]
            raise Misread(f"expected {self.form()}", quoted(near) if near and re.fullmatch(self.pattern, near) else "")
        return raw

    def show(self, value: Any) -> str:
        return quoted(value)

    def form(self) -> str:
        return f"{self.words}, at most {self.most} bytes"


class FilePath(Kind):
    """A path: absolute, or below the config's folder. "" where that means *none*."""

    __slots__ = ("absolute", "required")

    def __init__(self, absolute: bool = False, required: bool = False) -> None:
        self.absolute = absolute
        self.required = required

    def read(self, raw: Any, base: str) -> str:
        if not isinstance(raw, str):
            raise Misread(f"expected {self.form()}, not {_type_word(raw)}")
        if raw == "" and not self.required:
            return raw
        if not raw or len(raw.encode()) > 1_024 or any(c < " " or c == "\x7f" for c in raw):
            raise Misread(f"expected {self.form()}")
        if ".." in raw.split("/"):
            raise Misread('".." is not taken in a path')
        if raw.startswith("/"):
            return raw
        if self.absolute:
            raise Misread("expected an absolute path", quoted("/" + raw.removeprefix("./")))
        return f"{base.rstrip('/')}/{raw.removeprefix('./')}"

    def show(self, value: Any) -> str:
        return quoted(value)

    def form(self) -> str:
        return "a quoted absolute path" if self.absolute else "a quoted path (absolute, or below /etc/edgeheal)"


class Account(Kind):
    """A user or group: its name, its number, or "self" (whoever runs the guard); "" where that means *allotted*."""

    __slots__ = ("empty",)

    def __init__(self, empty: bool = False) -> None:
        self.empty = empty

    def read(self, raw: Any, base: str) -> str | int:
        if isinstance(raw, int) and not isinstance(raw, bool):
            if 0 < raw < 2**32 - 2:
                return raw
            raise Misread("an id must be from 1 to 4294967293; root is not taken")
        if isinstance(raw, str) and (re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", raw) or (raw == "" and self.empty)):
            if raw == "root":
                raise Misread("root is not taken: name a user without privileges")
            return raw
        raise Misread(f"expected {self.form()}", str(raw) if isinstance(raw, str) and re.fullmatch(r"[1-9]\d{0,8}", raw) else "")

    def show(self, value: Any) -> str:
        return str(value) if isinstance(value, int) else quoted(value)

    def form(self) -> str:
        return 'the quoted name of a user or group, a numeric id, or "self"'


class IdRange(Kind):
    """Two ids and all between: "60800-61055"."""

    __slots__ = ()

    def read(self, raw: Any, base: str) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", raw) if isinstance(raw, str) else None
        if match is None:
            raise Misread(f"expected {self.form()}", '"60800-61055"')
        low, high = int(match[1]), int(match[2])
        if not 1_000 <= low <= high or high - low >= 65_536:
            raise Misread("the range must go up, start at 1000 or higher and hold at most 65536 ids", '"60800-61055"')
        return low, high

    def show(self, value: Any) -> str:
        return f'"{value[0]}-{value[1]}"'

    def form(self) -> str:
        return 'a quoted range of ids, such as "60800-61055"'


class BudgetKind(Kind):
    """A number of tries in a window: "5 in 10m"."""

    __slots__ = ("most",)

    def __init__(self, most: int = 100_000) -> None:
        self.most = most

    def read(self, raw: Any, base: str) -> Budget:
        match = _BUDGET.fullmatch(raw) if isinstance(raw, str) else None
        if match is None:
            loose = re.findall(r"\d{1,6}\w*", raw) if isinstance(raw, str) else []
            near = f'"{re.sub(r"[^0-9]", "", loose[0])} in {Seconds(1, 31_536_000)._guess(loose[1]).strip(chr(34))}"' if len(loose) == 2 else '"5 in 10m"'
            raise Misread(f"expected {self.form()}", near)
        try:
            window = Seconds(1, 31_536_000).read(match[2], base)
        except Misread as fault:
            raise Misread(f"the window: {fault}", quoted(f"{int(match[1])} in {fault.nearest.strip(chr(34))}")) from None
        if int(match[1]) > self.most:
            raise Misread(f"at most {self.most} tries can be counted in a window", self.show(Budget(self.most, window)))
        return Budget(int(match[1]), window)

    def show(self, value: Any) -> str:
        return f'"{value.most} in {Seconds(1, 31_536_000)._word(value.per_s)}"'

    def form(self) -> str:
        return 'a quoted "N in WINDOW", such as "5 in 10m"'


class Items(Kind):
    """A list of one kind, without doubles."""

    __slots__ = ("least", "most", "of")

    def __init__(self, of: Kind, most: int = 64, least: int = 0) -> None:
        self.of = of
        self.most = most
        self.least = least

    def read(self, raw: Any, base: str) -> tuple[Any, ...]:
        if not isinstance(raw, list):
            try:
                near = f"[{self.of.show(self.of.read(raw, base))}]"
            except Misread as fault:
                near = f"[{fault.nearest}]" if fault.nearest else ""
            raise Misread(f"expected {self.form()}", near)
        if not self.least <= len(raw) <= self.most:
            raise Misread(f"expected {self.least} to {self.most} entries, found {len(raw)}")
        values: list[Any] = []
        for n, item in enumerate(raw, 1):
            try:
                value = self.of.read(item, base)
            except Misread as fault:
                raise Misread(f"entry {n}: {fault}", self._mended(raw, base)) from None
            if value in values:
                raise Misread(f"entry {n} stands there twice")
            values.append(value)
        return tuple(values)

    def _mended(self, raw: list[Any], base: str) -> str:
        """The list with each wrong entry in its nearest form; "" when one has none."""
        forms: list[str] = []
        for item in raw:
            try:
                form = self.of.show(self.of.read(item, base))
            except Misread as fault:
                form = fault.nearest
            if not form:
                return ""
            if form not in forms:
                forms.append(form)
        return f"[{', '.join(forms)}]"

    def show(self, value: Any) -> str:
        return "[" + ", ".join(self.of.show(v) for v in value) + "]"

    def form(self) -> str:
        return f"a list, each {self.of.form()}"


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word closest to `word`, "" when none is near."""
    close = difflib.get_close_matches(word, known, 1, 0.5) or difflib.get_close_matches(word.lower().replace("-", "_"), known, 1, 0.5)
    return close[0] if close else ""
