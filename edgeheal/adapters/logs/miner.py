# SPDX-License-Identifier: Apache-2.0
"""The template miner: lines that were written by one statement of a program fall into one group.

Duty: text in, group out. A fixed-depth parse in the manner of Drain (He et al., ICWS 2017), with variables masked by the shape of
a word first. It reads no file and judges nothing.
Invariants: at most `GROUPS_MOST` groups, `TOKENS_MOST` tokens a line and `CHARS_MOST` characters of it are looked at; when the
table is full the group unused for longest goes; a group's template only grows more general; the same lines in the same order
give the same groups.

A group is found by the number of its tokens and its first constant ones, then by the share of equal tokens (`ALIKE`); runs of
variables count as one, so that lists of any length meet.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass

GROUPS_MOST = 160
TOKENS_MOST = 40
CHARS_MOST = 512
TEXTS_MOST = 256
TEXT_MOST = 200
ALIKE = 0.7
ANY = "<*>"

# a word's part that holds a digit, with what glues numbers, addresses, times and ids together; a host with its port
_NUMBERS = re.compile(r"[A-Za-z][\w-]*(?:\.[\w-]+)+:\d+|[\w.$@%+~\\-]*\d[\w.$@%+~\\-]*(?:[:/][\w.$@%+~\\-]*)*")
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\][\w.@%+~$-]+){2,}[/\\]?|\b[a-z]{2,6}://\S+")
_QUOTED = re.compile(r"\"(?!(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) )[^\"]{1,200}\"|(?<![\w])'[^']{1,200}'(?![\w])")
_ASIDE = re.compile(r"\s+\((?:<\*>\s?[A-Za-z%]{0,3})?\)|<(?=<\*>)")  # a quantity said once more in another unit; "less than"
_STARS = re.compile(r"<\*>(?:[\s,;:/|.+#-]*<\*>)+")
_VALUE = re.compile(r"(?<=[=])[^\s,;)\]}]+")
_SHAPED = re.compile(r"[\d/\\=]")
_UNITS = frozenset(
    {"ns", "us", "ms", "s", "sec", "secs", "second", "seconds", "min", "h", "hours", "B", "kB", "KB", "MB", "GB", "KiB", "MiB", "GiB", "bytes", "%"}
)


@dataclass(slots=True)
class Group:
    """Lines alike. `number` is its name for as long as it lives."""

    number: int
    tokens: list[str]
    count: int = 0

    @property
    def template(self) -> str:
        """The constant words, `<*>` where they differ."""
        return " ".join(self.tokens)


def shape(word: str) -> str:
    """One word with what varies by its shape replaced."""
    if "/" in word or "\\" in word:
        word = _PATH.sub(ANY, word)
    word = _NUMBERS.sub(ANY, word)
    return _VALUE.sub(ANY, word) if "=" in word else word


def masked(line: str) -> str:
    """The line's words, those that vary by their shape replaced; runs of variables and units after them are one."""
    line = line[:CHARS_MOST]
    if '"' in line or "'" in line:
        line = _QUOTED.sub(ANY, line)
    text = " ".join([shape(word) if _SHAPED.search(word) else word for word in line.split()])
    if " (" in text or "<<" in text:
        text = _ASIDE.sub("", text)
    text = _STARS.sub(ANY, text)
    words: list[str] = []
    for word in text.split()[:TOKENS_MOST]:
        if words and words[-1] == ANY and (word == ANY or word in _UNITS):
            continue
        words.append(word)
    return " ".join(words)


class Miner:
    """Groups of one app."""

    def __init__(self, groups_most: int = GROUPS_MOST, alike: float = ALIKE) -> None:
        """Starts knowing nothing."""
        self._most = groups_most
        self._alike = alike
        self._groups: OrderedDict[int, Group] = OrderedDict()
        self._leaves: dict[tuple[int, str], list[Group]] = {}
        self._seen: dict[str, int] = {}
        self._next = 1
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, line: str, times: int = 1) -> tuple[Group, bool]:
        """The line's group, and whether it is new."""
        text = masked(line)
        number = self._seen.get(text)
        group = None if number is None else self._groups.get(number)
        new = False
        if group is None:
            tokens = text.split() or ["-"]
            group = self._find(tokens)
            if group is None:
                group, new = self._make(tokens), True
            else:
                self._widen(group, tokens)
            if len(self._seen) >= TEXTS_MOST:
                self._seen.clear()
            if len(text) <= TEXT_MOST:
                self._seen[text] = group.number
        self._groups.move_to_end(group.number)
        group.count += times
        return group, new

    def template(self, number: int) -> str:
        """A group's template; "" when it is gone."""
        group = self._groups.get(number)
        return "" if group is None else group.template

    def _key(self, tokens: list[str]) -> tuple[int, str]:
        return len(tokens), ANY if ANY in tokens[0] else tokens[0]

    def _find(self, tokens: list[str]) -> Group | None:
        """The group with the largest share of equal constant tokens, when that is enough; a group is left at the first token too many."""
        best, best_score = None, -1.0
        for group in self._leaves.get(self._key(tokens), ()):
            same = differ = 0
            most = len(tokens) * (1 - self._alike)
            for mine, theirs in zip(group.tokens, tokens, strict=True):
                if mine == theirs:
                    same += ANY not in mine or mine[0].isalpha()
                elif mine != ANY:
                    differ += 1
                    if differ > most:
                        break
            else:
                score = same / (same + differ) if same + differ else 1.0
                if score >= self._alike and score > best_score:
                    best, best_score = group, score
                    if differ == 0:
                        break
        return best

    def _make(self, tokens: list[str]) -> Group:
        if len(self._groups) >= self._most:
            _, old = self._groups.popitem(last=False)
            key = self._key(old.tokens)
            self._leaves[key].remove(old)
            if not self._leaves[key]:
                del self._leaves[key]
            self.evicted += 1
        group = Group(self._next, tokens)
        self._next += 1
        self._groups[group.number] = group
        self._leaves.setdefault(self._key(tokens), []).append(group)
        return group

    def _widen(self, group: Group, tokens: list[str]) -> None:
        for place, (mine, theirs) in enumerate(zip(group.tokens, tokens, strict=True)):
            if mine != theirs and place > 0:
                group.tokens[place] = ANY
