# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a config, as a value: where, which key, what was read, what would have been taken.

Duty: hold and word it. Invariants: one line, printable; the value of a key that looks like a secret is never repeated.
"""

import re
from dataclasses import dataclass
from typing import Any

SHOWN_MOST = 60
_SECRET = re.compile(r"pass(word|wd|phrase)?|secret|token|credential|api_?key|private", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Problem:
    """`line` 0: the file as a whole; `read`: the text that stands there; `nearest`: a valid form, or ""; `step`: else what to do."""

    file: str
    line: int
    key: str
    message: str
    read: str = ""
    nearest: str = ""
    step: str = ""

    def place(self) -> str:
        """file:line, as editors take it."""
        return (f"{self.file}:{self.line}" if self.line else self.file) or "(defaults)"

    def sentence(self) -> str:
        """Everything but the place, in one line."""
        found = f", found {self.found()}" if self.read else ""
        return printable(f"{self.key}: {self.message}{found}" if self.key else f"{self.message}{found}")

    def hint(self) -> str:
        """The next step."""
        if self.nearest:
            return f"nearest valid form: {printable(self.nearest)}"
        return printable(self.step) or "mend the file, then run `edgeheal config check`"

    def found(self) -> str:
        """What was read, short, with secrets masked."""
        if looks_secret(self.key) and not self.key.endswith("_file"):
            return "(not shown)"
        return printable(self.read if len(self.read) <= SHOWN_MOST else self.read[: SHOWN_MOST - 3] + "...")

    def to_plain(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "file": self.file, "line": self.line, "key": printable(self.key), "message": printable(self.message),
            "read": self.found() if self.read else "", "nearest": printable(self.nearest), "next": self.hint(),
        }  # fmt: skip


def looks_secret(key: str) -> bool:
    """Whether the last part of a key names a secret."""
    return _SECRET.search(key.rsplit(".", 1)[-1]) is not None


def printable(text: str) -> str:
    """Control characters, and what is not ASCII, escaped."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
