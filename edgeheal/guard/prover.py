# SPDX-License-Identifier: Apache-2.0
"""Proving an installed tree: a cheap look at every row, or every byte.

Duty: yes, no, or could not read. For the verifying child. Writes nothing, and follows no link.
Invariant: only content that differs is rot; what cannot be read is "could not read", and never counts as differing.
"""

import contextlib
import os
import stat
from collections.abc import Callable
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError
from edgeheal.guard import child
from edgeheal.guard.folders import Folder
from edgeheal.guard.storer import differs, hash_of
from edgeheal.image import manifest, tree
from edgeheal.trust import envelope

Look = Callable[[Folder, tree.Row], str]


def quick(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    """Manifest and tree list by hash; lstat of every row: kind, size, mode, time tag, link target."""
    return _prove(request, answers, _look)


def full(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    """As `quick`, and every content by hash, at idle priority."""
    with contextlib.suppress(OSError):
        os.nice(19)
    return _prove(request, answers, _read)


def _prove(request: dict[str, Any], answers: child.Answers, look: Look) -> dict[str, Any]:
    at = ""
    rows: tuple[tree.Row, ...] = ()
    try:
        with Folder(request["tree"]) as folder:
            at = "manifest"
            rows = _rows(folder, request["id"])
            with Folder("files", folder.fd) as files:
                for i, row in enumerate(rows):
                    at = row.path
                    what = look(files, row)
                    if what:
                        return _answer(reasons.ROT, rows, at, what)
                    answers.progress(child.STEP_CHECK, i + 1, len(rows))
    except (FileNotFoundError, NotADirectoryError):
        return _answer(reasons.ROT, rows, at, "is missing")
    except EdgeHealError as fault:
        return _answer(reasons.ROT, rows, at, str(fault))
    except OSError as fault:
        loops = 40  # ELOOP: a link where a folder or file must be
        return _answer(reasons.ROT if fault.errno == loops else reasons.UNREADABLE, rows, at, fault.strerror or str(fault))
    return _answer(reasons.OK, rows, "", "")


def _answer(reason: int, rows: tuple[tree.Row, ...], differing: str, what: str) -> dict[str, Any]:
    return {"reason": reason, "rows": len(rows), "differs": differing[:1024], "what": what[:200]}


def _rows(folder: Folder, image: bytes) -> tuple[tree.Row, ...]:
    signed = envelope.decode(folder.read("manifest", envelope.MAX_ENVELOPE), envelope.MANIFEST)
    if signed.id != image:
        raise EdgeHealError("is not the manifest of this image")
    return tree.decode(folder.read("tree", manifest.MAX_TREE_BYTES), manifest.decode(signed.body).tree)


def _look(files: Folder, row: tree.Row) -> str:
    status = files.status(row.path)
    if row.kind == tree.LINK:
        if not stat.S_ISLNK(status.st_mode):
            return "is no link"
        below, name = files.at(row.path)
        return "" if os.readlink(name, dir_fd=below) == row.target else "points elsewhere"
    if row.kind == tree.FOLDER:
        return "" if stat.S_ISDIR(status.st_mode) else "is no folder"
    return differs(row, status)


def _read(files: Folder, row: tree.Row) -> str:
    what = _look(files, row)
    if what or row.kind > tree.EXECUTABLE or not row.size:
        return what
    fd, _ = files.open(row.path)
    try:
        return "" if hash_of(fd) == row.digest else "content differs"
    finally:
        os.close(fd)
