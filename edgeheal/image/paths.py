# SPDX-License-Identifier: Apache-2.0
"""What a path inside an image may be, and what it may not.

Duty: rules for paths and link targets, as text. It touches no disk.
Invariants: what passes has no way out of its folder: relative, no empty, `.` or `..` component, no backslash, no control
character, NFC, each component at most 255 bytes, all at most 1024 bytes and 32 levels.
"""

import unicodedata

from edgeheal.image.fields import printable

MAX_PATH = 1024
MAX_COMPONENT = 255
MAX_LEVELS = 32


def fault(path: object) -> str:
    """What is wrong with a path, "" when nothing is."""
    if not isinstance(path, str):
        return "not a text"
    if path.isascii() and path.isprintable() and "\\" not in path:
        size = len(path)
    else:
        bad = _character_fault(path)
        if bad:
            return bad
        size = len(path.encode())
    if size > MAX_PATH:
        return f"longer than {MAX_PATH} bytes"
    parts = path.split("/")
    if len(parts) > MAX_LEVELS:
        return f"deeper than {MAX_LEVELS} levels"
    if parts[0] == "":
        return "absolute or empty"
    for part in parts:
        if part in ("", ".", ".."):
            return "has a component that is empty, . or .."
        if size > MAX_COMPONENT and len(part.encode()) > MAX_COMPONENT:
            return f"has a component longer than {MAX_COMPONENT} bytes"
    return ""


def link_fault(path: str, target: object) -> str:
    """What is wrong with a link at `path` to `target`: it must be relative and stay in the tree; "" when nothing is.

    `..` only at the beginning: after a component that may itself be a link, going up would end where no text can tell.
    """
    if not isinstance(target, str) or not target:
        return "has no target"
    bad = _character_fault(target)
    if bad:
        return f"target {bad}"
    if target.startswith("/"):
        return "target is absolute"
    if len(target.encode()) > MAX_PATH:
        return f"target is longer than {MAX_PATH} bytes"
    parts = target.split("/")
    if any(part == "" or len(part.encode()) > MAX_COMPONENT for part in parts):
        return "target has a component that is empty or too long"
    if target == ".":
        return ""
    if "." in parts:
        return "target has a component that is ."
    up = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    if ".." in parts[up:]:
        return "target goes up after it went down"
    return "target leaves the tree" if up > path.count("/") else ""


def resolve(path: str, target: str) -> str:
    """Where a link at `path` to a checked `target` points, as a path of the tree ("" = its top)."""
    parts = path.split("/")[:-1]
    for part in target.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def folded(path: str) -> str:
    """What two paths that a case-blind file system holds for one have in common."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _character_fault(text: str) -> str:
    if "\\" in text:
        return "has a backslash"
    if not printable(text):
        return "has a control character"
    if unicodedata.normalize("NFC", text) != text:
        return "is not in Unicode form NFC"
    return ""
