# SPDX-License-Identifier: Apache-2.0
"""What the trace readers share: the crash, the face of a reader, names made independent of version and place.

Duty: values and small pure functions. Invariant: what `norm_*` returns holds no address, offset, line number or folder.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

FRAMES_MOST = 64
TOP = 6
NAME_MOST = 80

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`']*[`']")
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|(?<![A-Za-z_])-?\d[\d.,:]*")


@dataclass(frozen=True, slots=True)
class Crash:
    """A crash: `error` the kind of it, `frames` in-app, top first, `message` the app's own words (not yet masked)."""

    language: str
    error: str
    frames: tuple[str, ...] = ()
    message: str = ""


class Reader(Protocol):
    """One language's trace under way."""

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """A reader when a trace begins with this line (`before`: the lines before it, oldest first)."""

    def more(self, line: str) -> bool:
        """Take the line if it belongs to the trace."""

    def crash(self) -> Crash:
        """What it came to."""


def norm_text(text: str) -> str:
    """A message with its quoted parts and numbers left out."""
    return _NUMBER.sub("#", _QUOTED.sub("'..'", text)).strip()[:NAME_MOST]


def with_code(error: str, text: str) -> str:
    """A general error with the system's code, which tells a full disk from a broken pipe."""
    found = re.match(r"\[Errno \d+\]|E[A-Z0-9]{2,14}(?=:)", text)
    return f"{error} {found[0]}" if found and error in ("Error", "OSError", "SystemError") else error


def base(path: str) -> str:
    """The file's name without its folders."""
    return re.split(r"[/\\]", path.strip())[-1][:NAME_MOST]


def top(frames: Iterable[str], foreign: Callable[[str], bool]) -> tuple[str, ...]:
    """The first in-app frames; all of them when none is in-app. A frame repeated by recursion counts once in a row."""
    every = list(frames)
    own = [frame for frame in every if not foreign(frame)]
    kept: list[str] = []
    for frame in own or every:
        if not kept or kept[-1] != frame:
            kept.append(frame[:NAME_MOST])
    return tuple(kept[:TOP])
