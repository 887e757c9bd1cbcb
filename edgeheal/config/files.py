# SPDX-License-Identifier: Apache-2.0
"""The layered files of a config as texts: which there are, in what order, read with bounds.

Duty: vendor's `*.toml`, then `edgeheal.toml`, then `conf.d/NN-*.toml`, each sort by name. It understands no TOML.
Invariants: damage is not absence: a missing file is fine, an empty, all-zero, unreadable or oversized one is a problem; a
name in conf.d that would be passed over in silence is a problem.
"""

import os
import re
import stat
from dataclasses import dataclass

from edgeheal.config.problem import Problem
from edgeheal.core.layout import Layout

FILE_MOST = 131_072
FILES_MOST = 64
LINE_MOST = 1_024  # a dotted key costs the parser the square of its length


@dataclass(frozen=True, slots=True)
class Text:
    """One file, whole."""

    path: str
    text: str


def read_layers(layout: Layout) -> tuple[tuple[Text, ...], tuple[Problem, ...]]:
    """The files below `layout` that make its config, lowest layer first, and what is wrong with them as files."""
    problems: list[Problem] = []
    vendor = _names(layout.vendor_config, problems)
    dropins = _names(layout.config_dropins, problems)
    must = "its name must start with two digits and a dash, which say the order"
    odd = [n for n in map(os.path.basename, dropins) if re.match(r"\d\d-", n) is None]
    problems += [Problem(f"{layout.config_dropins}/{n}", 0, "", must, nearest=f"50-{n}") for n in odd]
    texts = []
    for path in [*vendor, layout.config_file, *dropins]:
        found = read_file(path)
        if isinstance(found, Text):
            texts.append(found)
        elif isinstance(found, Problem):
            problems.append(found)
    return tuple(texts), tuple(problems)


def _names(folder: str, problems: list[Problem]) -> list[str]:
    """The `*.toml` of a folder, sorted; [] when there is no such folder."""
    try:
        names = sorted(n for n in os.listdir(folder) if n.endswith(".toml") and not n.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as fault:
        problems.append(Problem(folder, 0, "", f"cannot be listed: {fault.strerror}"))
        return []
    if len(names) > FILES_MOST:
        problems.append(Problem(folder, 0, "", f"holds {len(names)} files; at most {FILES_MOST} are taken"))
        return []
    return [f"{folder}/{n}" for n in names]


def read_file(path: str) -> Text | Problem | None:
    """One file; None when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    except OSError as fault:
        return Problem(path, 0, "", f"cannot be opened: {fault.strerror}")
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return Problem(path, 0, "", "is no regular file")
        data = _all(fd)
    except OSError as fault:
        return Problem(path, 0, "", f"cannot be read: {fault.strerror}")
    finally:
        os.close(fd)
    return _text(path, data)


def _all(fd: int) -> bytes:
    parts = []
    left = FILE_MOST + 1
    while left > 0 and (part := os.read(fd, left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _text(path: str, data: bytes) -> Text | Problem:
    """The bytes as text, or why they are none."""
    if not data.strip(b"\0"):
        return Problem(path, 0, "", "is empty or all zeros, as after a power cut; remove it, or write a comment into it")
    if len(data) > FILE_MOST:
        return Problem(path, 0, "", f"is larger than {FILE_MOST} bytes")
    if data.startswith(b"\xef\xbb\xbf"):
        return Problem(path, 1, "", "starts with a byte order mark; save it as plain UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as fault:
        return Problem(path, data.count(b"\n", 0, fault.start) + 1, "", "is no UTF-8 here")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LINE_MOST:
            return Problem(path, number, "", f"a line is longer than {LINE_MOST} characters")
    return Text(path, text)
