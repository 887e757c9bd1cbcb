# SPDX-License-Identifier: Apache-2.0
"""Traces of Python (traceback, faulthandler) and Node (V8 stack, heap exhaustion).

Duty: see `readers.shape`. Frames are `file:function`.
"""

import re
from collections.abc import Iterable
from typing import Self

from edgeheal.adapters.logs.readers.shape import FRAMES_MOST, Crash, base, norm_text, top, with_code

_FILE = re.compile(r"^[\s|+]*File \"(?P<path>[^\"]*)\", line \d+(?:,? in (?P<name>.+))?$")
_RAISED = re.compile(r"^[\s|]*(?P<type>[A-Za-z_][\w.]*)(?:: (?P<text>.*))?$")
_CHAIN = ("During handling of the above exception", "The above exception was the direct cause")
_PY_FOREIGN = re.compile(r"site-packages|dist-packages|[/\\]lib(?:64)?[/\\]python\d|^<frozen|\.zip[/\\]")


class PythonTrace:
    """`Traceback (most recent call last):` ... `Type: text`, with chained ones and exception groups."""

    def __init__(self, indent: int) -> None:
        """`indent`: how far the trace stands from the left."""
        self._indent = indent
        self._frames: list[tuple[str, str]] = []
        self._error = ""
        self._text = ""

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the heading, whatever a logger put before it."""
        at = line.find("Traceback (most recent call last):")
        return None if at < 0 else cls(at if not line[:at].strip() else 0)

    def more(self, line: str) -> bool:
        """Frames and their source lines, then the raised line, then what is chained to it."""
        bare = line.strip()
        if "Traceback (most recent call last):" in line:
            if self._error and not self._chained:
                return False  # another one, of its own
            self._frames, self._error, self._chained = [], "", False
            return True
        if self._error:
            self._chained = self._chained or bare.startswith(_CHAIN)
            return not bare or bare.startswith(_CHAIN) or bare.startswith(("+-", "|"))
        found = _FILE.match(line)
        if found:
            if len(self._frames) < FRAMES_MOST * 4:
                self._frames.append((found["path"], found["name"] or "<module>"))
            return True
        if line[: self._indent + 1].strip() == "" and bare:  # a source line, its marks, "[Previous line repeated ...]"
            return True
        raised = _RAISED.match(line)
        if raised and self._frames:
            self._error, self._text = raised["type"], raised["text"] or ""
            return True
        return False

    _chained = False

    def crash(self) -> Crash:
        """The last one raised; its innermost frame is the top."""
        frames = [(path, f"{base(path)}:{name.strip()}") for path, name in reversed(self._frames)]
        own = [frame for path, frame in frames if not _PY_FOREIGN.search(path)]
        error = with_code(self._error.rsplit(".", 1)[-1] or "exception", self._text)
        return Crash("python", error, top(own or (f for _, f in frames), lambda _: False), self._text)


class PythonFatal:
    """`Fatal Python error: ...` with faulthandler's stacks, most recent call first."""

    def __init__(self, error: str) -> None:
        """`error`: what the interpreter says."""
        self._error = error
        self._frames: list[tuple[str, str]] = []
        self._reading = False

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the interpreter's own words."""
        at = line.find("Fatal Python error: ")
        return None if at < 0 else cls(line[at + 20 :])

    def more(self, line: str) -> bool:
        """The current thread's frames; other threads' are passed over."""
        if line.startswith(("Current thread", "Thread 0x", "Stack (most recent")):
            self._reading = line.startswith(("Current", "Stack"))
            return True
        found = _FILE.match(line)
        if found:
            if self._reading and len(self._frames) < FRAMES_MOST:
                self._frames.append((found["path"], found["name"] or "<module>"))
            return True
        return not line.strip() or line.startswith(("Python runtime state:", "Extension modules:", "<no Python frame>", "  <no Python frame>", "  ..."))

    def crash(self) -> Crash:
        """The error without the name of the failing function's details."""
        own = [f"{base(path)}:{name.strip()}" for path, name in self._frames if not _PY_FOREIGN.search(path)]
        every = [f"{base(path)}:{name.strip()}" for path, name in self._frames]
        return Crash("python", norm_text(self._error), top(own or every, lambda _: False), self._error)


_AT = re.compile(
    r"^\s+at (?:async )?(?:(?P<name>.+?) \()?(?P<path>(?:file://|node:|[A-Za-z]:\\)?[^():\s][^():]*|<anonymous>|evalmachine[^:]*):\d+(?::\d+)?\)?$"
)
_AT_BARE = re.compile(r"^\s+at (?:async )?(?P<name>.+?) \((?:<anonymous>|native|index \d+)\)$")
_THROWN = re.compile(r"^(?:.*?\b)?(?:Uncaught |\[)?(?P<type>(?:[A-Za-z_$][\w$.]*)?(?:Error|Exception|Rejection|Warning))(?: \[\w+\])?(?::\s(?P<text>.*))?\]?$")


class NodeTrace:
    """`Type: text` and lines `    at name (file:line:column)`."""

    def __init__(self, error: str, text: str) -> None:
        """`error`, `text`: the line above the first frame that names one."""
        self._error = error
        self._text = text
        self._frames: list[tuple[str, str]] = []
        self._depth = 0
        self._cause = False

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the first frame; the heading is looked for above it."""
        if not line.lstrip().startswith("at ") or not _AT.match(line) or ".java:" in line or ".kt:" in line:
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
        """Frames, the properties of the error, and the cause (whose frames are not the throwing ones)."""
        opens = line.rstrip().endswith(" {")
        bare_line = line.rstrip().removesuffix(" {")
        found = _AT.match(bare_line) or _AT_BARE.match(bare_line)
        if found:
            self._depth += opens
            if not self._cause and len(self._frames) < FRAMES_MOST:
                self._frames.append((found.groupdict().get("path") or "", found["name"] or "<anonymous>"))
            return True
        bare = line.strip()
        if bare.startswith(("[cause]:", "Caused by:")):
            self._cause = True
            return True
        if opens:
            self._depth += 1
            return True
        if bare.startswith("}"):
            self._depth -= 1
            return True
        return bool(bare.startswith("... ")) or (self._depth > 0 and line[:1] == " ") or bare.startswith("Node.js v")

    def crash(self) -> Crash:
        """Own frames: none of node's, none of installed packages."""
        named = [(path, f"{base(path)}:{_js_name(name)}") for path, name in self._frames]
        own = [frame for path, frame in named if not path.startswith("node:") and "node_modules" not in path and not path.startswith("internal/") and path]
        return Crash("node", with_code(self._error, self._text), top(own or (frame for _, frame in named), lambda _: False), self._text)


def _js_name(name: str) -> str:
    name = re.sub(r" \[as [^\]]*\]$", "", name.removeprefix("async ").strip())
    return re.sub(r"^Object\.(?=<anonymous>|\w)", "", name)


class NodeHeap:
    """`FATAL ERROR: ... JavaScript heap out of memory` and V8's native frames, which are not the app's."""

    def __init__(self, text: str) -> None:
        """`text`: V8's own words."""
        self._text = text

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At V8's last words."""
        return cls(line[line.index("FATAL ERROR:") + 13 :]) if "FATAL ERROR:" in line and "JavaScript heap" in line else None

    def more(self, line: str) -> bool:
        """Native frames."""
        return not line.strip() or re.match(r"^\s*\d+: 0x|^-+ |^<---", line) is not None

    def crash(self) -> Crash:
        """No frame of the app is known."""
        return Crash("node", "heap out of memory", (), self._text)
