# SPDX-License-Identifier: Apache-2.0
"""What the installed images of one app hold: contents to link from, to patch from, or not to fetch again.

Duty: look up (digest, kind) in the trees below store/<app>. For the guard's children. It proves no content.
Invariants: a tree list whose manifest does not carry its hash, or whose manifest is not what the folder is named for, is passed
over; only what is asked for is remembered.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edgeheal.core.errors import EdgeHealError
from edgeheal.guard.folders import Folder
from edgeheal.image import manifest, tree
from edgeheal.trust import envelope
from edgeheal.trust.canonical import items

_HEX = frozenset("0123456789abcdef")


class Place(NamedTuple):
    """Where a content lies: file `path` of image `id_hex` (below files/)."""

    id_hex: str
    path: str


def images(app_folder: int, wanted: Iterable[bytes] | None = None) -> list[str]:
    """Names of installed images in store/<app>, newest changed first; only the `wanted` ids, if given."""
    asked = None if wanted is None else {one.hex() for one in wanted}
    names = [n for n in os.listdir(app_folder) if len(n) == 64 and _HEX.issuperset(n) and (asked is None or n in asked)]
    return sorted(names, key=lambda n: os.stat(n, dir_fd=app_folder, follow_symlinks=False).st_mtime_ns, reverse=True)


def tree_list(folder: Folder, id_hex: str) -> bytes | None:
    """The tree list of an installed image if it is what its manifest says; None otherwise."""
    try:
        signed = envelope.decode(folder.read("manifest", envelope.MAX_ENVELOPE), envelope.MANIFEST)
        if signed.id.hex() != id_hex:
            return None
        said = manifest.decode(signed.body).tree
        data = folder.read("tree", manifest.MAX_TREE_BYTES)
    except (OSError, EdgeHealError):
        return None
    return data if hashlib.sha256(data).digest() == said.digest else None


def files(data: bytes) -> Iterator[tuple[bytes, int, str]]:
    """(digest, kind, path) of each file of a tree list that is proven already."""
    for row in items(data):
        if row[1] <= tree.EXECUTABLE:
            yield row[3], row[1], row[0]


def held(store: str, app: str, ids: Iterable[bytes] | None = None) -> Iterator[tuple[bytes, int, Place]]:
    """(digest, kind, place) of every file that the installed images of the app hold."""
    try:
        top = Folder(f"{store}/{app}")
    except OSError:
        return
    with top:
        for name in images(top.fd, ids):
            with Folder(name, top.fd) as folder:
                data = tree_list(folder, name)
            for digest, kind, path in files(data) if data else ():
                yield digest, kind, Place(name, path)


def find_tree(store: str, app: str, digest: bytes) -> bytes | None:
    """The tree list with this digest, if an installed image of the app has it."""
    try:
        top = Folder(f"{store}/{app}")
    except OSError:
        return None
    with top:
        for name in images(top.fd):
            with Folder(name, top.fd) as folder:
                data = tree_list(folder, name)
            if data is not None and hashlib.sha256(data).digest() == digest:
                return data
    return None
