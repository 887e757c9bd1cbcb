# SPDX-License-Identifier: Apache-2.0
"""Proving an installed tree: a cheap look at every row, or every byte.

Duty: yes, no, or could not read. For the verifying child. Writes nothing, and follows no link.
Invariant: only content that differs is rot; what cannot be read is "could not read", and never counts as differing.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError
from edgeheal.guard import child
from edgeheal.guard.folders import READ_FLAGS, Folder
from edgeheal.guard.storer import differs, hash_of
from edgeheal.image import manifest, tree
from edgeheal.trust import envelope
from edgeheal.trust.canonical import items

# (folder descriptor, name in it, raw row of the list) -> what is wrong, "" when nothing
Look = Callable[[int, str, list[Any]], str]


def quick(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    """Manifest and tree list by hash; lstat of every row: kind, size, mode, time tag, link target."""
    return _prove(request, answers, _look)


def full(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    """As `quick`, and every content by hash, at idle priority."""
    with contextlib.suppress(OSError):
        os.nice(19)
    return _prove(request, answers, _read)


def _prove(request: dict[str, Any], answers: child.Answers, look: Look) -> dict[str, Any]:
    at, seen = "manifest", 0
    try:
        with Folder(request["tree"]) as folder:
            data, total = _list(folder, request["id"])
            with Folder("files", folder.fd) as files:
                fd, above = files.fd, ""
                for row in items(data):
                    at = row[0]
                    parent, _, name = at.rpartition("/")
                    if parent != above:
                        fd, above = files.at(at)[0], parent
                    what = look(fd, name, row)
                    if what:
                        return _answer(reasons.ROT, seen, at, what)
                    seen += 1
                    answers.progress(child.STEP_CHECK, seen, total)
    except (FileNotFoundError, NotADirectoryError):
        return _answer(reasons.ROT, seen, at, "is missing")
    except EdgeHealError as fault:
        return _answer(reasons.ROT, seen, at, str(fault))
    except OSError as fault:
        return _answer(reasons.ROT if fault.errno == errno.ELOOP else reasons.UNREADABLE, seen, at, fault.strerror or str(fault))
    return _answer(reasons.OK, seen, "", "")


def _answer(reason: int, rows: int, differing: str, what: str) -> dict[str, Any]:
    return {"reason": reason, "rows": rows, "differs": differing[:1024], "what": what[:200]}


def _list(folder: Folder, image: bytes) -> tuple[bytes, int]:
    """The tree list, which is the signed one by hash (its rules were checked when it came), and its rows."""
    signed = envelope.decode(folder.read("manifest", envelope.MAX_ENVELOPE), envelope.MANIFEST)
    if signed.id != image:
        raise EdgeHealError("is not the manifest of this image")
    said = manifest.decode(signed.body).tree
    data = folder.read("tree", manifest.MAX_TREE_BYTES)
    if hashlib.sha256(data).digest() != said.digest:
        raise EdgeHealError("is not the tree that the manifest signs")
    return data, said.rows


def _look(below: int, name: str, row: list[Any]) -> str:
    status = os.stat(name, dir_fd=below, follow_symlinks=False)
    kind = row[1]
    if kind == tree.LINK:
        if not stat.S_ISLNK(status.st_mode):
            return "is no link"
        return "" if os.readlink(name, dir_fd=below) == row[2] else "points elsewhere"
    if kind == tree.FOLDER:
        return "" if stat.S_ISDIR(status.st_mode) else "is no folder"
    return differs(tree.Row(*row), status)


def _read(below: int, name: str, row: list[Any]) -> str:
    what = _look(below, name, row)
    if what or row[1] > tree.EXECUTABLE or not row[2]:
        return what
    fd = os.open(name, READ_FLAGS, dir_fd=below)
    try:
        return "" if hash_of(fd) == row[3] else "content differs"
    finally:
        os.close(fd)
