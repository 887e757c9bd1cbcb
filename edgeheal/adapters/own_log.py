# SPDX-License-Identifier: Apache-2.0
"""What guard and agent say of themselves: one line on stderr each, with priority and message id; bounded in rate and, in a file, in size.

Duty: judge by level and rate, form the line for who reads it, keep a file below its cap. It decides nothing and never raises.
Invariants: each message id has one priority, in `MESSAGES`; a line is one line, whatever was put into it; of one id at most `BURST` lines in
`WINDOW_S`, then the number left out is said; a regular file keeps its newer half when it has grown to `FILE_MOST`.
The form: for the journal (JOURNAL_STREAM names our stderr) and for a pipe `<priority>edgeheal NAME: [id] text`, as sd-daemon(3) reads it; for a
terminal or a file the time in front in place of the priority.
Light on purpose: the resident guard imports it, too.
"""

import os
import stat
import time

ERROR, WARNING, NOTICE, INFO, DEBUG = 3, 4, 5, 6, 7
LEVELS = {"error": ERROR, "warning": WARNING, "info": INFO, "debug": DEBUG}
WORDS = {2: "critical", ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info", DEBUG: "debug"}
BURST = 20
WINDOW_S = 60.0
FILE_MOST = 1_048_576
LINE_MOST = 800

# id -> priority; the page on the command line's neighbours lists them
MESSAGES = {
    "began": INFO, "ended": INFO, "cannot-begin": ERROR, "cannot-start-agent": ERROR, "fault": ERROR, "no-config": ERROR, "config-refused": ERROR,
    "config-read": INFO, "trouble": WARNING, "trouble-over": INFO, "version-differs": ERROR, "incident-opened": WARNING, "incident-goes-on": INFO,
    "incident-needs-you": 2, "incident-resolved": NOTICE, "act": INFO, "act-ended": DEBUG, "decided": DEBUG, "signal": DEBUG,
}  # fmt: skip


class OwnLog:
    """`say(id, text)`."""

    def __init__(self, name: str, level: str = "info", fd: int = 2) -> None:
        """`name` guard or agent; an unknown `level` is info."""
        self._name = name
        self._most = LEVELS.get(level, INFO)
        self._fd = fd
        self._file, self._plain = _kind(fd)
        self._since: dict[str, float] = {}
        self._count: dict[str, int] = {}

    def wants(self, message: str) -> bool:
        """Whether this id is told at all at this level."""
        return MESSAGES[message] <= self._most

    def say(self, message: str, text: str) -> bool:
        """One line; False when it was left out."""
        priority = MESSAGES[message]
        if priority > self._most:
            return False
        now = time.monotonic()
        if now - self._since.get(message, -WINDOW_S) >= WINDOW_S:
            left_out = self._count.get(message, 0) - BURST
            self._since[message], self._count[message] = now, 0
            if left_out > 0:
                self._write(priority, message, f"{left_out} more of these were left out")
        self._count[message] = self._count.get(message, 0) + 1
        if self._count[message] > BURST:
            return False
        self._write(priority, message, text)
        return True

    def _write(self, priority: int, message: str, text: str) -> None:
        line = "; ".join(part.strip() for part in text.splitlines() if part.strip())[:LINE_MOST]
        line = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in line)
        if self._plain:
            said = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} edgeheal {self._name}: {WORDS[priority]}: [{message}] {line}\n"
        else:
            said = f"<{priority}>edgeheal {self._name}: [{message}] {line}\n"
        try:
            if self._file and os.fstat(self._fd).st_size >= FILE_MOST:
                _halve(self._fd)
            os.write(self._fd, said.encode("utf-8", "backslashreplace"))
        except OSError:
            return  # nobody is there to be told


def _kind(fd: int) -> "tuple[bool, bool]":
    """(a regular file, lines for people rather than for a log daemon)."""
    try:
        now = os.fstat(fd)
        if os.environ.get("JOURNAL_STREAM", "") == f"{now.st_dev}:{now.st_ino}":
            return False, False
        return stat.S_ISREG(now.st_mode), stat.S_ISREG(now.st_mode) or os.isatty(fd)
    except OSError:
        return False, False


def _halve(fd: int) -> None:
    """Keep the newer half of a file that somebody else opened for us to append to; where it cannot be read, nothing is kept."""
    kept = b""
    try:
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        reader = -1
    if reader >= 0:
        try:
            size = os.fstat(reader).st_size
            kept = os.pread(reader, FILE_MOST // 2, max(0, size - FILE_MOST // 2)).partition(b"\n")[2]
        finally:
            os.close(reader)
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)  # where it was not opened with O_APPEND, it would go on beyond a hole
    os.write(fd, kept)
