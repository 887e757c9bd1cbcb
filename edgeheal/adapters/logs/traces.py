# SPDX-License-Identifier: Apache-2.0
"""Stack traces in an app's log: put together from their lines and reduced to what two versions of one crash share.

Duty: lines in, `Crash` out, for Python, C and C++ (glibc, assert, terminate, sanitizers), Java, Go, Node and Rust. It knows no file.
Invariants: a trace holds at most `LINES_MOST` lines and `FRAMES_MOST` frames in memory; a line that is of no trace is given
back; nothing here raises, whatever the bytes. Addresses, offsets, line numbers, folders and argument values never reach a
frame; frames of run-time libraries and of throw and abort helpers are left out unless there are no others.

One class per language in `readers`; this module keeps the row of them and the last lines (a Java or Node trace is known by
its second line).
"""

import re
from collections import deque

from edgeheal.adapters.logs.readers import native, scripted, virtual
from edgeheal.adapters.logs.readers.shape import Crash, Reader

LINES_MOST = 400
BEFORE_MOST = 8  # an error's text may have several lines before its first frame

READERS: tuple[type[Reader], ...] = (
    scripted.PythonTrace,
    scripted.PythonFatal,
    scripted.NodeHeap,
    scripted.NodeTrace,
    virtual.JavaTrace,
    virtual.JavaFatal,
    virtual.GoPanic,
    native.RustPanic,
    native.Sanitizer,
    native.UndefinedBehaviour,
    native.Glibc,
    native.Assertion,
    native.Terminate,
)

HINT = re.compile(
    r"Traceback \(most|Fatal Python error|FATAL ERROR:|^\s+at |^Exception in thread |^# A fatal error|^panic: |^fatal error: |^runtime: goroutine"
    r"|panicked at |Sanitizer: |runtime error: |^terminate called|Assertion [`']|\*\*\* |corrupt|\(\): |^Fatal glibc|^break adjusted"
)  # a line without any of these begins no trace


class Traces:
    """One app's lines. `feed` each in order; `flush` when the log has gone quiet or the app has ended."""

    def __init__(self) -> None:
        """No trace under way."""
        self._before: deque[str] = deque(maxlen=BEFORE_MOST)
        self._now: Reader | None = None
        self._lines = 0

    def feed(self, line: str) -> tuple[bool, Crash | None]:
        """(whether the line belongs to a trace, the crash that ended with the line before it or None)."""
        ended: Crash | None = None
        if self._now is not None:
            self._lines += 1
            if self._lines <= LINES_MOST and self._now.more(line):
                return True, None
            ended = self.flush()
        begun = self._begin(line)
        if not begun:
            self._before.append(line)
        return begun, ended

    def flush(self) -> Crash | None:
        """End the trace under way."""
        reader, self._now = self._now, None
        self._before.clear()
        return None if reader is None else reader.crash()

    @property
    def busy(self) -> bool:
        """Whether a trace is under way."""
        return self._now is not None

    def _begin(self, line: str) -> bool:
        if not HINT.search(line):
            return False
        for kind in READERS:
            reader = kind.begin(line, self._before)
            if reader is not None:
                self._now, self._lines = reader, 1
                return True
        return False
