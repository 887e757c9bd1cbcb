# SPDX-License-Identifier: Apache-2.0
"""Where each key of a TOML text stands, and how its value was written: `tomllib` tells neither.

Duty: the line and the raw text of each key. It judges nothing: the text was parsed by `tomllib` before.
Invariants: never raises and always ends, whatever the text; a key that it misses has no place, which callers take for line 0.
"""

import re
from dataclasses import dataclass

Path = tuple[str, ...]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)")
_PLAIN = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
DEPTH_MOST = 64


@dataclass(frozen=True, slots=True)
class Spot:
    """Line from 1, and the value as written (a table: "")."""

    line: int
    raw: str = ""


def locate(text: str) -> dict[Path, Spot]:
    """Each key's path (tables' too) and its spot; entries of lists and inline tables by their position."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.spots


class _Scanner:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.spots: dict[Path, Spot] = {}
        self._counts: dict[Path, int] = {}

    def document(self) -> None:
        """Headers and key-value lines until the end."""
        table: Path = ()
        while self._blank():
            before = self.at
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table, 0)
            if self.at == before:
                self._rest_of_line()

    def _header(self) -> Path:
        double = self.text.startswith("[[", self.at)
        self.at += 2 if double else 1
        line = self.line
        path = self._key()
        if double:
            self._counts[path] = self._counts.get(path, -1) + 1
            self.spots.setdefault(path, Spot(line))
            path = (*path, str(self._counts[path]))
        self.spots.setdefault(path, Spot(line))
        self._rest_of_line()
        return path

    def _pair(self, table: Path, depth: int) -> None:
        line = self.line
        path = table + self._key()
        self._space()
        if not self.text.startswith("=", self.at):
            return
        self.at += 1
        self._space()
        start = self.at
        self._value(path, depth)
        for cut in range(len(table) + 1, len(path)):
            self.spots.setdefault(path[:cut], Spot(line))
        self.spots[path] = Spot(line, self.text[start : self.at].strip())

    def _key(self) -> Path:
        parts: list[str] = []
        while True:
            self._space()
            if self.text.startswith(('"', "'"), self.at):
                start = self.at
                self._quoted()
                raw = self.text[start + 1 : self.at - 1]
                parts.append(raw if self.text[start] == "'" else _unescaped(raw))
            elif match := _BARE.match(self.text, self.at):
                parts.append(match[0])
                self.at = match.end()
            self._space()
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _value(self, path: Path, depth: int) -> None:
        here = self.text[self.at : self.at + 1]
        if here in ("'", '"') and here:
            self._quoted()
        elif here and here in "[{" and depth < DEPTH_MOST:
            self._items(path, depth, "]" if here == "[" else "}")
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}\n#":
                self.at += 1

    def _items(self, path: Path, depth: int, end: str) -> None:
        """A list or an inline table, up to and with its closing bracket."""
        self.at += 1
        number = 0
        while self._blank():
            before = self.at
            if self.text[self.at] == end:
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
                number += 1
            elif end == "]":
                line = self.line
                self._value((*path, str(number)), depth + 1)
                self.spots[(*path, str(number))] = Spot(line, self.text[before : self.at].strip())
            else:
                self._pair(path, depth + 1)
            if self.at == before:
                return

    def _quoted(self) -> None:
        mark = self.text[self.at]
        if self.text.startswith(mark * 3, self.at):
            mark *= 3
        self.at += len(mark)
        while self.at < len(self.text):
            if self.text.startswith(mark, self.at):
                self.at += len(mark)
                while len(mark) == 3 and self.text.startswith(mark[0], self.at):
                    self.at += 1
                return
            if self.text[self.at] == "\n":
                self.line += 1
            elif self.text[self.at] == "\\" and mark[0] == '"':
                self.at += 1
                self.line += self.text.startswith("\n", self.at)
            self.at += 1

    def _space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\r":
            self.at += 1

    def _blank(self) -> bool:
        """Over white space, newlines and comments; whether something is left."""
        while self.at < len(self.text):
            here = self.text[self.at]
            if here == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif here == "\n":
                self.line += 1
                self.at += 1
            elif here in " \t\r":
                self.at += 1
            else:
                return True
        return False

    def _rest_of_line(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end


def _unescaped(raw: str) -> str:
    def one(match: re.Match[str]) -> str:
        word = match[1]
        if word[0] in "uU" and len(word) > 1:
            number = int(word[1:], 16)
            return chr(number) if number < 0x110000 else match[0]
        return _PLAIN.get(word, match[0])

    return _ESCAPE.sub(one, raw)
