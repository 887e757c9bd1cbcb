# SPDX-License-Identifier: Apache-2.0
"""Traces of compiled programs: Rust panics, sanitizers, glibc's last words, failed assertions, uncaught C++ exceptions.

Duty: see `readers.shape`. Frames are function names, with the file's name where it is known and the library's where nothing is.
"""

import re
from collections.abc import Iterable
from typing import Self

from edgeheal.adapters.logs.readers.shape import FRAMES_MOST, Crash, base, norm_text, top

_PANIC = re.compile(r"thread '[^']*'(?: \(\d+\))? (?:has )?panicked at (?P<rest>.*)$")
_PLACE = re.compile(r"^(?P<file>[^\s:']+):\d+(?::\d+)?:?$")
_OLD = re.compile(r"^'(?P<text>.*)', (?P<file>[^\s:']+):\d+(?::\d+)?$")
_RUST_FRAME = re.compile(r"^\s+\d+:\s+(?:0x[0-9a-f]+ - )?(?P<name>.+)$")
_RUST_FOREIGN = re.compile(
    r"^(?:<?(?:std|core|alloc|tokio|futures\w*|backtrace)::|<?(?:std|core|alloc)::|rust_begin_unwind|rust_panic|__rust|_start|__libc_start|main$|<alloc::|<core::|<std::|clone3?$|start_thread)"
)


class RustPanic:
    """`thread 'main' panicked at src/main.rs:4:5:` (or the form before 1.73), with or without a backtrace."""

    def __init__(self, file: str, text: str) -> None:
        """`text` "" = the message is the next line."""
        self._file = file
        self._text = text
        self._frames: list[str] = []
        self._stack = False

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the run-time's words."""
        found = _PANIC.search(line) if "panicked at " in line else None
        if found is None:
            return None
        old = _OLD.match(found["rest"])
        if old:
            return cls(old["file"], old["text"])
        place = _PLACE.match(found["rest"])
        return cls(place["file"] if place else "", "" if place else found["rest"])

    def more(self, line: str) -> bool:
        """The message, then the backtrace."""
        bare = line.strip()
        if bare == "stack backtrace:":
            self._stack = True
            return True
        if bare.startswith("note: "):
            return True
        if self._stack:
            found = _RUST_FRAME.match(line)
            if found and len(self._frames) < FRAMES_MOST:
                self._frames.append(_rust_name(found["name"]))
            return found is not None or bare.startswith("at ")
        if not self._text and bare:
            self._text = bare
            return True
        return False

    def crash(self) -> Crash:
        """Without a backtrace the file is all that is known of the place."""
        frames = top(self._frames, lambda f: _RUST_FOREIGN.match(f) is not None) or ((base(self._file),) if self._file else ())
        return Crash("rust", norm_text(self._text) or "panic", frames, self._text)


def _rust_name(name: str) -> str:
    return re.sub(r"::h[0-9a-f]{16}$", "", name.strip())


_SANITIZER = re.compile(r"(?:==\d+==\s*)?(?:ERROR|WARNING): (?P<tool>\w+Sanitizer): (?P<kind>[\w-]+(?: [a-z]+)*)")
_FRAME = re.compile(r"^\s*#\d+\s+(?:0x[0-9a-f]+\s+)?(?:in\s+)?(?P<name>[^\s(+][^(+]*(?:\([^)]*\)(?:\s*const)?)?)?\s*(?P<rest>.*)$")
_IN_FILE = re.compile(r"(?P<file>/?[\w./+-]+\.(?:c|cc|cpp|cxx|h|hh|hpp|m|mm|rs|S))(?::\d+)*")
_MODULE = re.compile(r"\((?P<module>[^()+]+)\+0x[0-9a-f]+\)")
_HELPERS = re.compile(
    r"^(?:__asan|__interceptor|__sanitizer|__tsan|__msan|__ubsan|__hwasan|__lsan|_*(?:malloc|calloc|realloc|c?free|strdup|strcpy|strncpy|memcpy|memmove|memset|strlen|strcat|sprintf|vsnprintf)\b"
    r"|operator (?:new|delete)|_*abort\b|_*raise\b|gsignal|_*pthread_kill|__libc|__assert|__fortify|__stack_chk|__chk_fail|__GI_|_start\b|_Unwind|__cxa|std::terminate|__gnu_cxx|libc\.so|libasan|libstdc|ld-linux|libpthread|linux-vdso|start_thread|clone3?\b)"
)


def _native_frame(line: str) -> str | None:
    """`#1 0x4f in read_frame /src/port.c:12:5`, `#1 0x4f (libx.so+0x12)`, `#0  0x1 in f (a=1) at port.c:12` as `name` (with its file)."""
    found = _FRAME.match(line)
    if found is None or not line.lstrip().startswith("#"):
        return None
    text = (found["name"] or "") + found["rest"]
    file = _IN_FILE.search(text)
    module = _MODULE.search(text)
    name = _IN_FILE.split(found["name"] or "")[0]
    name = re.sub(r"\(.*$", "", name).replace(" at ", " ").strip()
    if not name or name == "<unknown module>" or name.startswith("/"):
        return base(module["module"]) if module else base(file["file"]) if file else "?"
    return f"{base(file['file'])}:{name}" if file else name


def _foreign(frame: str) -> bool:
    return _HELPERS.match(frame.rpartition(":")[2] if ".c" in frame or ".h" in frame or ".S" in frame else frame) is not None


class Sanitizer:
    """Address-, Leak-, Thread-, MemorySanitizer: the first stack is where it happened."""

    def __init__(self, tool: str, kind: str) -> None:
        """`tool` and `kind` of the report."""
        self._tool = tool
        self._kind = kind
        self._frames: list[str] = []
        self._first = True
        self._summary = False

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the report's heading."""
        found = _SANITIZER.search(line) if "Sanitizer: " in line and "SUMMARY" not in line else None
        return None if found is None else cls(found["tool"], re.sub(r" on (?:unknown )?address.*| \(pid.*", "", found["kind"]))

    def more(self, line: str) -> bool:
        """Up to its own end; stacks after the first tell of allocation and threads."""
        frame = _native_frame(line)
        if frame is not None:
            if self._first and len(self._frames) < FRAMES_MOST:
                self._frames.append(frame)
            return True
        if self._frames and not line.strip():
            self._first = False
        if line.startswith("SUMMARY: "):
            self._summary = True
            return True
        if re.match(r"^==\d+==ABORTING", line) or line.startswith("=="):
            return True
        return not self._summary or not line.strip() or line[0] in " =\t" or line.startswith("Shadow ")

    def crash(self) -> Crash:
        """Tool and kind name the error."""
        return Crash("c", f"{self._tool}:{self._kind}", top(self._frames, _foreign), f"{self._tool}: {self._kind}")


class UndefinedBehaviour:
    """`file.c:12:5: runtime error: ...` (UBSan), with or without a stack."""

    def __init__(self, file: str, text: str) -> None:
        """`file`, `text` of the line."""
        self._file = file
        self._text = text
        self._frames: list[str] = []

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the line itself."""
        found = re.match(r"^(?P<file>[^\s:]+):\d+:\d+: runtime error: (?P<text>.*)$", line)
        return cls(found["file"], found["text"]) if found else None

    def more(self, line: str) -> bool:
        """The stack, when it was asked to print one."""
        frame = _native_frame(line)
        if frame is not None and len(self._frames) < FRAMES_MOST:
            self._frames.append(frame)
        return frame is not None or line.startswith("SUMMARY: UndefinedBehaviorSanitizer")

    def crash(self) -> Crash:
        """The kind of fault by its words."""
        return Crash("c", f"UBSan:{norm_text(self._text)}"[:80], top(self._frames, _foreign) or (base(self._file),), self._text)


_GLIBC = re.compile(
    r"(?:\*\*\* )?(?:Error in [`'][^']*': )?(?P<text>stack smashing detected|buffer overflow detected|invalid %N\$ use detected|%n in writable segments? detected"
    r"|double free or corruption(?: \([!\w]+\))?|corrupted (?:double-linked list|size vs\. prev_size)(?: [\w ]+)?|(?:free|malloc|realloc|calloc|munmap_chunk|malloc_consolidate|memalign)\(\): [\w ,>()-]+"
    r"|break adjusted to free malloc space|Fatal glibc error: .*)"
)
_BACKTRACE = re.compile(r"^(?P<module>[^\s(\[]+)(?:\((?P<name>[^)+]*)(?:\+0x[0-9a-f]+)?\))?\s?\[0x[0-9a-f]+\]$")


class Glibc:
    """What glibc says before it aborts, and the backtrace that older ones (or backtrace_symbols_fd) print after it."""

    def __init__(self, text: str) -> None:
        """`text`: glibc's words."""
        self._text = text
        self._frames: list[str] = []
        self._map = False

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At its words, which stand at the left."""
        found = _GLIBC.match(line)
        return cls(found["text"].strip()) if found else None

    def more(self, line: str) -> bool:
        """The backtrace and the memory map."""
        if line.startswith("======="):
            self._map = "Memory map" in line
            return True
        if self._map:
            return re.match(r"^[0-9a-f]+-[0-9a-f]+ ", line) is not None
        found = _BACKTRACE.match(line)
        if found and len(self._frames) < FRAMES_MOST:
            self._frames.append(found["name"] or base(found["module"]))
        return found is not None

    def crash(self) -> Crash:
        """Its words name the error."""
        return Crash("c", re.sub(r"\s*: 0x[0-9a-f]+.*$", "", norm_text(self._text)), top(self._frames, _foreign), self._text)


class Assertion:
    """`prog: file.c:12: func: Assertion `x' failed.`"""

    def __init__(self, file: str, function: str, text: str) -> None:
        """The parts of the line."""
        self._file = file
        self._function = function
        self._text = text

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the line itself."""
        found = re.match(r"^(?:[^\s:]+: )?(?P<file>[^\s:]+):\d+: (?P<name>.+?): Assertion [`'](?P<text>.*)' failed\.?$", line)
        return cls(found["file"], found["name"], found["text"]) if found else None

    def more(self, line: str) -> bool:
        """It is one line."""
        return False

    def crash(self) -> Crash:
        """The asserted words name the error."""
        name = re.sub(r"\(.*$", "", self._function).split(" ")[-1]
        return Crash("c", f"assert {self._text}"[:80], (f"{base(self._file)}:{name}",), f"Assertion '{self._text}' failed")


class Terminate:
    """`terminate called after throwing an instance of 'X'` and `  what():  text`."""

    def __init__(self, error: str) -> None:
        """`error`: the exception's type."""
        self._error = error
        self._text = ""

    @classmethod
    def begin(cls, line: str, before: Iterable[str]) -> Self | None:
        """At the run-time's words."""
        found = re.match(r"^terminate called (?:after throwing an instance of '(?P<type>[^']+)'|(?P<none>without an active exception|recursively))", line)
        return cls(found["type"] or found["none"]) if found else None

    def more(self, line: str) -> bool:
        """The exception's own words."""
        at = line.find("what():")
        if at < 0 or line[:at].strip():
            return False
        self._text = line[at + 7 :].strip()
        return True

    def crash(self) -> Crash:
        """No frame is known; the words stand in for the place."""
        return Crash("c", self._error[:80], (norm_text(self._text),) if self._text else (), self._text)
