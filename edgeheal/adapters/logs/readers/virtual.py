# SPDX-License-Identifier: Apache-2.0
"""Traces of Java (and what runs on its machine) and of Go.

Duty: see `readers.shape`. Frames are `package.Class.method` and `package.function`.
"""

import re
from collections.abc import Iterable
from typing import Self

from edgeheal.adapters.logs.readers.shape import FRAMES_MOST, Crash, base, norm_text, top

_AT = re.compile(
    r"^\s+at (?:[\w.@-]+/{1,2}(?:[\w.@-]*/)?)?(?P<name>[\w.$<>/-]+)\((?:[\w$ .-]+\.(?:java|kt|kts|scala|groovy|clj)(?::\d+)?|Native Method|Unknown Source|<generated>)\)"
)
_THROWN = re.compile(r"^(?:.*?\b)?(?P<type>(?:[a-z_][\w$]*\.)+[A-Z][\w$]*)(?::\s?(?P<text>.*))?$")
_FOREIGN = re.compile(r"^(?:java|javax|jdk|sun|com\.sun|kotlin|kotlinx|scala|groovy|org\.codehaus\.groovy)[.]")


class JavaTrace:
    """`Type: text`, `at frame` lines, `Caused by:`; the last cause is the one that counts."""

    def __init__(self, error: str, text: str) -> None:
        """`error`, `text`: of the heading."""
        self._error = error
        self._text = text
        self._frames: list[str] = []
        self._suppressed = False

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At `Exception in thread`, or at the first frame with its heading above it."""
        if line.startswith("Exception in thread "):
            found = _THROWN.match(line.rpartition('" ')[2])
            return cls(found["type"], found["text"] or "") if found else None
        if not line.lstrip().startswith("at ") or not _AT.match(line):
            return None
        for above in reversed(tuple(before)):
            found = _THROWN.match(above.strip())
            if found:
                reader = cls(found["type"], found["text"] or "")
                reader.more(line)
                return reader
        reader = cls("exception", "")
        reader.more(line)
        return reader

    def more(self, line: str) -> bool:
        """Frames and causes."""
        found = _AT.match(line)
        if found:
            if not self._suppressed and len(self._frames) < FRAMES_MOST:
                self._frames.append(_java_name(found["name"]))
            return True
        bare = line.strip()
        if bare.startswith("Caused by: "):
            thrown = _THROWN.match(bare[11:])
            self._error, self._text = (thrown["type"], thrown["text"] or "") if thrown else (bare[11:][:80], "")
            self._frames, self._suppressed = [], False
            return True
        if bare.startswith("Suppressed: "):
            self._suppressed = True
            return True
        return re.fullmatch(r"\.\.\. \d+ (?:more|common frames omitted)", bare) is not None

    def crash(self) -> Crash:
        """The innermost cause."""
        return Crash("java", self._error.rsplit(".", 1)[-1].rsplit("$", 1)[-1], top(self._frames, lambda f: _FOREIGN.match(f) is not None), self._text)


def _java_name(name: str) -> str:
    name = re.sub(r"\$\$(?:Lambda|EnhancerBy|FastClassBy)[\w$/.]*?(?=\.|$)", "", name)
    name = re.sub(r"(lambda\$\w+)\$\d+", r"\1", name)
    return re.sub(r"\$\d+(?=\.|$)", "", name).rsplit("/", 1)[-1]


class JavaFatal:
    """`# A fatal error has been detected by the Java Runtime Environment:` (HotSpot's own report)."""

    def __init__(self) -> None:
        """Nothing known yet."""
        self._error = "fatal error"
        self._frame = ""
        self._next = False

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At its heading."""
        return cls() if line.startswith("# A fatal error has been detected by the Java Runtime") else None

    def more(self, line: str) -> bool:
        """All its lines begin with #."""
        if not line.startswith("#"):
            return False
        bare = line.strip("# \t")
        signal = re.match(r"(SIG\w+|EXCEPTION_\w+|Internal Error)\b", bare)
        if signal:
            self._error = signal[1]
        elif bare.startswith("Problematic frame"):
            self._next = True
        elif self._next and bare:
            self._next = False
            name = re.search(r"\[(?P<lib>[^+\]]+)\+0x[0-9a-f]+\](?:\s+(?P<name>[^\s+]+))?", bare)
            self._frame = f"{base(name['lib'])}:{name['name'] or '?'}" if name else norm_text(bare)
        return True

    def crash(self) -> Crash:
        """Signal and problematic frame."""
        return Crash("java", self._error, (self._frame,) if self._frame else (), self._error)


_GO_FUNC = re.compile(r"^(?P<name>[\w./*()\[\]{}~%·,@-]+?)\((?:[^()]|\([^)]*\))*\)$")
_GO_FOREIGN = re.compile(r"^(?:runtime|panic|testing|reflect|sync|internal|syscall)(?:[./]|$)")


class GoPanic:
    """`panic: text` or `fatal error: text`, then goroutines; the first one panicked."""

    def __init__(self, text: str, *, fatal: bool) -> None:
        """`text`: the reason."""
        self._text = text
        self._fatal = fatal
        self._frames: list[str] = []
        self._goroutines = 0

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the run-time's words, which stand at the left."""
        if line.startswith("panic: "):
            return cls(line[7:], fatal=False)
        if line.startswith(("fatal error: ", "runtime: goroutine stack exceeds")):
            return cls(line.removeprefix("fatal error: "), fatal=True)
        return None

    def more(self, line: str) -> bool:
        """The first goroutine's frames; the others are passed over."""
        bare = line.rstrip()
        if bare.startswith("fatal error: "):
            self._text = bare[13:]
            return True
        if bare.startswith("goroutine ") and bare.endswith(":"):
            self._goroutines += 1
            return True
        if not bare or bare[0] == "\t" or bare.startswith(("[signal ", "created by ", "panic: ", "exit status ", "runtime: ", "runtime stack:", "...")):
            return True
        found = _GO_FUNC.match(bare)
        if found:
            if self._goroutines == 1 and len(self._frames) < FRAMES_MOST:
                self._frames.append(_go_name(found["name"]))
            return True
        return self._goroutines == 0 and len(self._frames) == 0 and bare.startswith("\t")

    def crash(self) -> Crash:
        """A run-time error by its words, anything else as a panic of that text."""
        text = re.sub(r"\s*\[recovered.*$", "", self._text)
        return Crash("go", norm_text(text.removeprefix("runtime error: ")), top(self._frames, lambda f: _GO_FOREIGN.match(f) is not None), text)


def _go_name(name: str) -> str:
    name = re.sub(r"\[[^\]]*\]", "", name)  # instantiations
    name = re.sub(r"/v\d+(?=[./])", "", name).replace("%2e", ".")
    return name.rsplit("/", 1)[-1]
