# SPDX-License-Identifier: Apache-2.0
"""image.toml: the manifest as people write it, in the same words.

Duty: text in, manifest out; every error names file, line and the nearest key. It opens no file: who builds gives text and tree.
Invariant: what it accepts is exactly what image.manifest accepts; there is no second list of fields.
"""

import re
import tomllib
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.image import manifest
from edgeheal.image.fields import FieldError
from edgeheal.image.manifest import Manifest, TreeRef

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_AT_LINE = re.compile(r"\(at line (\d+)")
_QUOTES = ('"""', "'''")


def parse(text: str, name: str) -> dict[str, Any]:
    """The plain table in the text of file `name`; ImageError with the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        found = _AT_LINE.search(str(fault))
        line = found.group(1) if found else str(text.count("\n") + 1)
        what = str(fault).split(" (at")[0]
        raise ImageError(what, reason=reasons.BAD_MANIFEST, place=f"{name}:{line}", hint="mend this line; values are written as in TOML") from None


def to_manifest(text: str, name: str, tree: TreeRef, instead: dict[str, Any] | None = None) -> Manifest:
    """The manifest that the file says, with the tree that goes with it; top-level fields in `instead` stand in for the file's."""
    plain = parse(text, name)
    for field in ("v", "tree"):
        if field in plain:
            raise ImageError(
                f"{field!r} is not written by hand", reason=reasons.BAD_MANIFEST, place=f"{name}:{line_of(text, field)}", hint="leave this line out"
            )
    try:
        return manifest.from_plain(plain | (instead or {}) | {"v": 1, "tree": [tree.digest, tree.size_bytes, tree.rows, tree.total_bytes]})
    except FieldError as fault:
        raise _placed(fault, text, name) from None


def placed(fault: ImageError, text: str, name: str) -> ImageError:
    """An error about a field, with file and line; others as they are."""
    if isinstance(fault, FieldError):
        return _placed(fault, text, name)
    field = fault.place.removeprefix("manifest: ")
    return ImageError(fault.message, reason=fault.reason, place=f"{name}:{line_of(text, field)}: {field}", hint=fault.hint) if field != fault.place else fault


def _placed(fault: FieldError, text: str, name: str) -> ImageError:
    place = f"{name}:{line_of(text, fault.field)}: {fault.field}" if fault.field else name
    return ImageError(fault.message, reason=fault.reason, place=place, hint="" if fault.hint is ImageError.hint else fault.hint)


def line_of(text: str, field: str) -> int:
    """The line (from 1) where a field stands, or the nearest table that holds it."""
    lines = _lines(text)
    while field:
        if field in lines:
            return lines[field]
        cut = max(field.rfind("."), field.rfind("["))
        field = field[:cut] if cut > 0 else ""
    return 1


def _lines(text: str) -> dict[str, int]:
    """Full name of each table and key -> line."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    at, inside = "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        header = _HEADER.match(line)
        key = _KEY.match(line)
        if header:
            at = _dotted(header.group(2))
            if header.group(1) == "[[":
                counts[at] = counts.get(at, -1) + 1
                at = f"{at}[{counts[at]}]"
            lines.setdefault(at, number)
        elif key:
            name = _dotted(key.group(1))
            lines.setdefault(f"{at}.{name}" if at else name, number)
        inside = next((q for q in _QUOTES if line.count(q) % 2), "")
    return lines


def _dotted(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))
