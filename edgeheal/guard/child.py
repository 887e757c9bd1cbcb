# SPDX-License-Identifier: Apache-2.0
"""How a short-lived child of the guard speaks: one packed record on stdin, length-prefixed packed records on stdout.

Duty: read the request, give answers, turn every typed error into the one error record. It does no work of its own.
Not imported by the resident guard. Invariants: the last answer is a "done" or an "error"; an error names reason, part, object, hint;
the exit status is 0 when an answer was given, whatever it says.

Request   image.records.pack(dict), at most 64 KiB, then end of file.
Answer    u32 length, image.records.pack(dict) with "k": "progress" {"step","done","total"} | "done" {...} |
          "error" {"reason","message","part","object","hint"}; at most 256 KiB each.
"""

import errno
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError, ImageError
from edgeheal.image.records import RecordError, pack, unpack

MAX_REQUEST = 64 * 1024
MAX_ANSWER = 256 * 1024
PASSED_FD = 3

# steps of a "progress" answer
STEP_PROOF, STEP_OBJECTS, STEP_MOVE, STEP_SYNC, STEP_REREAD, STEP_CHECK = range(6)

_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Answers:
    """Where answers go; `progress` is cheap: it speaks only when a percent more is done."""

    __slots__ = ("_fd", "_told")

    def __init__(self, fd: int = 1) -> None:
        """`fd` is where records are written."""
        self._fd = fd
        self._told = (-1, -1)

    def give(self, kind: str, values: dict[str, Any]) -> None:
        """One answer of `kind`."""
        record = pack({"k": kind, **values})
        data = struct.pack("!I", len(record)) + record
        while data:
            data = data[os.write(self._fd, data) :]

    def progress(self, step: int, done: int, total: int) -> None:
        """So many bytes (or rows) of so many, in this step."""
        told = (step, done * 100 // total if total else 100)
        if told != self._told:
            self._told = told
            self.give("progress", {"step": step, "done": done, "total": total})

    def error(self, reason: int, message: str, *, part: str = "", number: int = -1, hint: str = "") -> None:
        """The one error record; texts are cut to 480 characters."""
        self.give("error", {"reason": reason, "message": message[:480], "part": part[:64], "object": number, "hint": hint[:480]})


def request(fd: int = 0) -> dict[str, Any]:
    """The one request; RecordError when it is none."""
    data = b""
    while len(data) <= MAX_REQUEST:
        piece = os.read(fd, MAX_REQUEST + 1 - len(data))
        if not piece:
            value = unpack(data)
            if not isinstance(value, dict):
                raise RecordError("not a map")
            return value
        data += piece
    raise RecordError("too long")


def run(work: Callable[[dict[str, Any], Answers], dict[str, Any]], *, confined: str = "") -> int:
    """Read the request, do the work, answer; the exit status. `work` returns the values of "done".

    `confined`: "reads" or "writes", the calls that are left to it from here on (guard.seccomp, where there is one); "" for all.
    """
    os.umask(0o077)
    if confined:
        from edgeheal.guard import seccomp

        seccomp.confine(writes=confined == "writes")
    answers = Answers()
    try:
        asked = request()
    except RecordError as fault:
        answers.error(reasons.MALFORMED, f"request: {fault}", hint="guard and child are of different versions")
        return 0
    carry_out(work, asked, answers)
    return 0


def carry_out(work: Callable[[dict[str, Any], Answers], dict[str, Any]], asked: dict[str, Any], answers: Answers) -> None:
    """Do the work and give its last answer, whatever happens."""
    try:
        done = work(asked, answers)
        answers.give("done", {"reason": reasons.OK} | done)
    except EdgeHealError as fault:
        reason = getattr(fault, "reason", 0) or getattr(fault, "code", 0) or reasons.INTERNAL
        answers.error(reason, str(fault), part=getattr(fault, "part", ""), number=getattr(fault, "number", -1), hint=fault.hint)
    except BrokenPipeError:
        return  # the guard that asked is gone: nobody is there to answer
    except OSError as fault:
        told = from_os(fault)
        answers.error(told.reason, str(told), hint=told.hint)
    except Exception as fault:  # noqa: BLE001 - a child's edge: the guard must get an answer, never a silent end
        answers.error(reasons.INTERNAL, f"{type(fault).__name__}: {fault}", hint="report this with `edgeheal doctor --archive`")
        sys.excepthook(type(fault), fault, fault.__traceback__)


def from_os(fault: OSError, part: str = "", number: int = -1) -> ImageError:
    """A fault of the file system as a typed error: no space, or could not read or write."""
    if fault.errno in _SPACE:
        return ImageError(
            fault.strerror or "no space", reason=reasons.NO_SPACE, part=part, number=number, hint="free space on the data partition, then try again"
        )
    name = fault.filename if isinstance(fault.filename, str) else ""
    what = f"{name}: {fault.strerror}" if name else (fault.strerror or str(fault))
    return ImageError(what, reason=reasons.UNREADABLE, part=part, number=number, hint="check the data partition with `edgeheal doctor`")
