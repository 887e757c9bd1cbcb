# SPDX-License-Identifier: Apache-2.0
"""Lines of instruments as numbers: JSON lines, CSV, NMEA 0183, words, bare numbers.

Duty: one pure function a form, in a table. Invariants: a line that does not fit is None or a KeyError-free miss, never an exception;
an NMEA sentence counts only with a right checksum.
"""

import json
import math
import re
from collections.abc import Callable

_WORDS = re.compile(r"(?P<name>[\w.-]+)\s*[:= ]\s*(?P<value>[-+]?[\d.]+(?:[eE][-+]?\d+)?)")
DEPTH_MOST = 8


def number(text: object) -> float | None:
    """A finite number out of a field."""
    if isinstance(text, bool) or not isinstance(text, int | float | str) or (isinstance(text, str) and ("_" in text or len(text) > 40)):
        return None
    try:
        value = float(text)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def of_json(line: str, field: str) -> float | None:
    """`{"a": {"b": 1.5}}` at `a.b`; a list's place by its number."""
    if not line.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    for key in field.split(".")[:DEPTH_MOST]:
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return number(value)


def of_csv(line: str, field: str) -> float | None:
    """Column `field` (from 0), separated by comma, semicolon or tab."""
    parts = re.split(r"[,;\t]", line)
    return number(parts[int(field)].strip()) if field.isdigit() and int(field) < len(parts) else None


def of_nmea(line: str, field: str) -> float | None:
    """`$WIMWV,214.8,R,0.1,K,A*28` at `WIMWV.1`."""
    name, _, place = field.partition(".")
    body, found, checksum = line.strip().partition("*")
    if not found or body[:1] not in ("$", "!") or not place.isdigit():
        return None
    total = 0
    for char in body[1:].encode("ascii", "replace"):
        total ^= char
    if f"{total:02X}" != checksum[:2].upper():
        return None
    parts = body[1:].split(",")
    return number(parts[int(place)]) if parts[0] == name and int(place) < len(parts) else None


def of_words(line: str, field: str) -> float | None:
    """`temp=21.5 hum: 40` at `temp`."""
    return next((number(found["value"]) for found in _WORDS.finditer(line) if found["name"] == field), None)


def of_number(line: str, field: str) -> float | None:
    """`21.5` and nothing else; there is no field in it."""
    return None if field else number(line.strip())


FORMS: dict[str, Callable[[str, str], float | None]] = {"json": of_json, "csv": of_csv, "nmea": of_nmea, "words": of_words, "number": of_number}
