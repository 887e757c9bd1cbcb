# SPDX-License-Identifier: Apache-2.0
"""Reading and writing whole files for the command line, with errors that name the file.

Duty: bounded reads, replacement by temp and rename. Invariant: a file that exists is never left half-written; a secret is never
readable by others, not even for a moment.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable

from edgeheal.core.errors import EdgeHealError, UsageError


def read(path: str, most: int) -> bytes:
    """The whole of a file of at most `most` bytes; `-` is stdin."""
    try:
        with open(0 if path == "-" else path, "rb") as file:
            data = file.read(most + 1)
    except OSError as fault:
        raise UsageError(fault.strerror or str(fault), place=path, hint="check the name and its permissions") from None
    if len(data) > most:
        raise UsageError(f"is longer than {most} bytes", place=path, hint="is this the right file?")
    return data


def write(path: str, pieces: Iterable[bytes], *, mode: int = 0o644, replace: bool = True, owner: tuple[int, int] | None = None) -> int:
    """Write a file by temp, fsync, rename; its length. `replace` False refuses an existing one; `owner` (uid, gid) needs root."""
    folder = os.path.dirname(os.path.abspath(path))
    if not replace and os.path.lexists(path):
        raise UsageError("exists already", place=path, hint="name another file; keys and trust are never overwritten")
    temp = ""
    try:
        fd, temp = tempfile.mkstemp(prefix=".edgeheal-", dir=folder)
        size = 0
        with open(fd, "wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            if owner is not None:
                os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            os.fsync(fd)
        os.replace(temp, path)
        temp = ""
    except OSError as fault:
        raise EdgeHealError(fault.strerror or str(fault), place=path, hint="check space and permissions of the folder") from None
    finally:
        if temp:
            with contextlib.suppress(OSError):
                os.unlink(temp)
    return size
