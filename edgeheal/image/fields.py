# SPDX-License-Identifier: Apache-2.0
"""Taking fields out of a map that came from outside, each with its bounds, and refusing what is left over.

Duty: typed access with the field's full name in every error. It knows no field itself.
Invariants: an unknown field is refused (a limit that is not understood is not kept), with the nearest known one as a hint;
nothing is converted: text stays text, a bool is no number.
"""

import re
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError

U32 = 2**32 - 1
_MISSING: Any = object()
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class FieldError(ImageError):
    """A field of a manifest (or of image.toml) that cannot be kept; `field` is its full name, like `run.argv[0]`."""

    message_id = "eh-manifest"

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        """`field` where, `message` what is wrong, `hint` the nearest thing that would be right."""
        super().__init__(message, reason=reasons.BAD_MANIFEST, part="manifest", hint=hint, place=f"manifest: {field}" if field else "manifest")
        self.field = field


def printable(text: str) -> bool:
    """Whether a text has no control characters, line separators or lone surrogates."""
    return not _CONTROL.search(text)


class Fields:
    """A map being taken apart; call `end` when all known fields are taken."""

    __slots__ = ("_at", "_known", "_map")

    def __init__(self, value: Any, at: str = "") -> None:
        """`at` is the map's full name, "" for the document."""
        if not isinstance(value, dict):
            raise FieldError(at, f"not a table but {_kind(value)}")
        self._map: dict[str, Any] = value
        self._at = at
        self._known: list[str] = []

    def name(self, field: str) -> str:
        """The full name of a field of this map."""
        return f"{self._at}.{field}" if self._at else field

    def _take(self, field: str, default: Any) -> Any:
        self._known.append(field)
        if field in self._map:
            return self._map[field]
        if default is _MISSING:
            near = _near(field, [str(k) for k in self._map])
            raise FieldError(self.name(field), "is missing", hint=f"did you mean it where you wrote {near[0]!r}?" if near else f"add {field!r}")
        return default

    def raw(self, field: str, default: Any = _MISSING) -> Any:
        """The field as it is."""
        return self._take(field, default)

    def has(self, field: str) -> bool:
        """Whether the field is there."""
        return field in self._map

    def number(self, field: str, low: int, high: int, default: Any = _MISSING) -> int:
        """A whole number from `low` to `high`."""
        value = self._take(field, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise FieldError(self.name(field), f"not a whole number but {_kind(value)}", hint=_unit_hint(field))
        if not low <= value <= high:
            raise FieldError(self.name(field), f"{value} is not from {low} to {high}")
        return value

    def flag(self, field: str, default: Any = _MISSING) -> bool:
        """True or false."""
        value = self._take(field, default)
        if not isinstance(value, bool):
            raise FieldError(self.name(field), f"not true or false but {_kind(value)}")
        return value

    def text(self, field: str, most: int, default: Any = _MISSING, *, pattern: "re.Pattern[str] | None" = None, least: int = 1) -> str:
        """A text of `least` to `most` bytes without control characters, matching `pattern` as a whole."""
        value = self._take(field, default)
        if value is default:
            return str(value)
        return check_text(value, self.name(field), most, pattern=pattern, least=least)

    def choice(self, field: str, words: tuple[str, ...], default: Any = _MISSING) -> str:
        """One of `words`."""
        value = self._take(field, default)
        if not isinstance(value, str) or value not in words:
            near = _near(value, words) if isinstance(value, str) else []
            raise FieldError(
                self.name(field), f"not one of {', '.join(words)}", hint=f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(words)}"
            )
        return value

    def texts(self, field: str, most: int, most_bytes: int, default: Any = _MISSING, *, least: int = 1) -> tuple[str, ...]:
        """A list of `least` to `most` texts; they may hold anything but NUL (arguments of programs)."""
        return check_texts(self._take(field, default), self.name(field), most, most_bytes, least=least)

    def numbers(self, field: str, most: int, low: int, high: int) -> tuple[int, ...]:
        """A list of at most `most` whole numbers, each once; () when absent."""
        value = self._take(field, ())
        at = self.name(field)
        if not isinstance(value, list | tuple) or len(value) > most:
            raise FieldError(at, f"not a list of at most {most} numbers")
        for i, x in enumerate(value):
            if not isinstance(x, int) or isinstance(x, bool) or not low <= x <= high:
                raise FieldError(f"{at}[{i}]", f"not a whole number from {low} to {high}")
        if len(set(value)) != len(value):
            raise FieldError(at, "one number stands there twice")
        return tuple(value)

    def child(self, field: str) -> "Fields | None":
        """The table in a field; None when absent."""
        value = self._take(field, None)
        return None if value is None and field not in self._map else Fields(value, self.name(field))

    def children(self, field: str, most: int) -> "list[Fields]":
        """The tables in a list; [] when absent."""
        value = self._take(field, ())
        if not isinstance(value, list | tuple) or len(value) > most:
            raise FieldError(self.name(field), f"not a list of at most {most} tables")
        return [Fields(item, f"{self.name(field)}[{i}]") for i, item in enumerate(value)]

    def end(self) -> None:
        """Refuse what nobody took."""
        for field in self._map:
            if field not in self._known:
                shown = str(field)[:40]
                near = _near(shown, self._known)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(self._known))}"
                raise FieldError(self.name(shown), "unknown field", hint=hint)


def check_text(value: Any, at: str, most: int, *, pattern: "re.Pattern[str] | None" = None, least: int = 1) -> str:
    """`value` if it is a text of `least` to `most` bytes without control characters, matching `pattern`; FieldError otherwise."""
    if not isinstance(value, str):
        raise FieldError(at, f"not a text but {_kind(value)}")
    if not printable(value):
        raise FieldError(at, "has a control character")
    if not least <= len(value.encode()) <= most:
        raise FieldError(at, f"not {least} to {most} bytes long")
    if pattern is not None and not pattern.fullmatch(value):
        raise FieldError(at, f"{value!r} does not fit {pattern.pattern}")
    return value


def check_texts(value: Any, at: str, most: int, most_bytes: int, *, least: int = 1) -> tuple[str, ...]:
    """`value` if it is a list of `least` to `most` texts without NUL, each at most `most_bytes`; FieldError otherwise."""
    if not isinstance(value, list | tuple) or not least <= len(value) <= most:
        raise FieldError(at, f"not a list of {least} to {most} texts")
    for i, word in enumerate(value):
        if not isinstance(word, str):
            raise FieldError(f"{at}[{i}]", f"not a text but {_kind(word)}")
        if "\0" in word or any("\ud800" <= c <= "\udfff" for c in word) or len(word.encode()) > most_bytes:
            raise FieldError(f"{at}[{i}]", f"has a NUL or is longer than {most_bytes} bytes")
    return tuple(value)


def _near(word: str, known: "list[str] | tuple[str, ...]") -> list[str]:
    from difflib import get_close_matches  # only somebody who erred pays for it

    return get_close_matches(word, known, 1)


def _kind(value: Any) -> str:
    words = {bool: "true or false", int: "a number", float: "a broken number", str: "a text", bytes: "bytes", list: "a list", tuple: "a list", dict: "a table"}
    return words.get(type(value), type(value).__name__)


def _unit_hint(field: str) -> str:
    units = {"_ms": "milliseconds", "_s": "seconds", "_kib": "KiB", "_permille": "thousandths"}
    return next((f"write a plain whole number of {word}" for end, word in units.items() if field.endswith(end)), "write a plain whole number")
