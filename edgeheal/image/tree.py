# SPDX-License-Identifier: Apache-2.0
"""The tree: the list of an image's files, links and empty folders, proven by the manifest before any content is.

Duty: decode with every rule of the format, encode, name the distinct contents. It touches no disk.
Invariants: rows ascend bytewise; no path leads through a file, a link or an empty folder; no two paths (folders included) are
equal on a case-blind file system; owner, setuid, xattr, device, fifo and hard link cannot be said at all.
"""

import hashlib
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgpack

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.image import paths
from edgeheal.image.manifest import MAX_IMAGE, MAX_ROWS, MAX_TREE_BYTES, Manifest, TreeRef
from edgeheal.trust.canonical import NotCanonicalError, items

FILE, EXECUTABLE, LINK, FOLDER = range(4)
MODES = {FILE: 0o444, EXECUTABLE: 0o555}
MAX_FILE = 1024**3
TAG_BASE_S = 946_684_800  # 2000-01-01T00:00:00Z
EMPTY = hashlib.sha256(b"").digest()


class Row(NamedTuple):
    """One entry: a file (`size`, `digest`), a link (`target`) or an empty folder."""

    path: str
    kind: int
    size: int = 0
    digest: bytes = b""
    target: str = ""


class Content(NamedTuple):
    """A distinct content: object `number` of the bundle (1 is the first in tree order)."""

    number: int
    digest: bytes
    size: int


def tag_s(digest: bytes) -> int:
    """The modification time that stands for a content: a cheap check, caches and ETags see each change."""
    return TAG_BASE_S + int.from_bytes(digest[:4], "big") % 2**28


def encode(rows: Iterable[Row]) -> bytes:
    """The tree's one byte form; the rows must be sorted by path."""
    packed: bytes = msgpack.packb([_plain(row) for row in rows], use_bin_type=True)
    return packed


def _plain(row: Row) -> list[Any]:
    if row.kind == LINK:
        return [row.path, LINK, row.target]
    return [row.path, FOLDER] if row.kind == FOLDER else [row.path, row.kind, row.size, row.digest]


def reference(rows: tuple[Row, ...], data: bytes) -> TreeRef:
    """What a manifest says of this tree."""
    return TreeRef(hashlib.sha256(data).digest(), len(data), len(rows), sum(row.size for row in rows))


def decode(data: bytes, said: TreeRef) -> tuple[Row, ...]:
    """The rows of a tree that must be the one `said` by the manifest; ImageError(BAD_TREE) with the path that is wrong."""
    if len(data) != said.size_bytes or hashlib.sha256(data).digest() != said.digest:
        raise ImageError("is not the tree that the manifest signs", reason=reasons.BAD_TREE, part="tree", number=0)
    rows = decode_rows(data)
    if len(rows) != said.rows or sum(row.size for row in rows) != said.total_bytes:
        raise ImageError("rows or total size differ from what the manifest says", reason=reasons.BAD_TREE, part="tree", number=0)
    return rows


def decode_rows(data: bytes) -> tuple[Row, ...]:
    """The rows in `data`, with all rules but the manifest's word and that of `contents` (which every reader of contents calls)."""
    if len(data) > MAX_TREE_BYTES:
        raise _fault("", f"{len(data)} bytes, at most {MAX_TREE_BYTES}")
    try:
        rows = tuple(_row(item, i) for i, item in enumerate(items(data)))
    except NotCanonicalError as fault:
        raise _fault("", str(fault)) from None
    if not rows:
        raise _fault("", "is empty")
    _check_form(rows, data)
    _check_order(rows)
    _check_folders(rows)
    if sum(row.size for row in rows) > MAX_IMAGE:
        raise _fault("", f"more than {MAX_IMAGE} bytes in all")
    return rows


def contents(rows: Iterable[Row]) -> tuple[Content, ...]:
    """The distinct contents in tree order; object n of a bundle is the n-th. ImageError when one content has two sizes."""
    sizes: dict[bytes, int] = {}
    found: list[Content] = []
    for row in rows:
        if row.kind > EXECUTABLE:
            continue
        known = sizes.get(row.digest)
        if known is None:
            sizes[row.digest] = row.size
            found.append(Content(len(found) + 1, row.digest, row.size))
        elif known != row.size:
            raise _fault(row.path, "one content with two sizes")
    return tuple(found)


def check_programs(manifest: Manifest, rows: Iterable[Row]) -> None:
    """Everything that the manifest would start must be an executable (or a link) of the tree, unless absolute."""
    kinds = {row.path: row.kind for row in rows}
    for field, word in manifest.programs():
        if not word.startswith("/") and kinds.get(word) not in (EXECUTABLE, LINK):
            what = "is not executable" if word in kinds else "is not in the image"
            raise ImageError(f"{word!r} {what}", reason=reasons.BAD_MANIFEST, part="manifest", place=f"manifest: {field}")
    if manifest.config and manifest.config.schema and kinds.get(manifest.config.schema) not in (FILE, EXECUTABLE):
        place = "manifest: config.schema"
        raise ImageError(f"{manifest.config.schema!r} is not in the image", reason=reasons.BAD_MANIFEST, part="manifest", place=place)


def _row(item: Any, i: int) -> Row:
    if i >= MAX_ROWS:
        raise _fault("", f"more than {MAX_ROWS} rows")
    if not isinstance(item, list) or len(item) < 2:
        raise _fault(f"row {i}", "not a list")
    path, kind = item[0], item[1]
    bad = paths.fault(path)
    if bad:
        raise _fault(_shown(path), bad)
    if not isinstance(kind, int) or isinstance(kind, bool):
        raise _fault(path, "has no kind")
    if kind in (FILE, EXECUTABLE) and len(item) == 4:
        size, digest = item[2], item[3]
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_FILE:
            raise _fault(path, f"size is not from 0 to {MAX_FILE}")
        if not isinstance(digest, bytes) or len(digest) != 32:
            raise _fault(path, "digest is not 32 bytes")
        if (size == 0) != (digest == EMPTY):
            raise _fault(path, "size and digest contradict each other")
        return Row(path, kind, size, digest)
    if kind == LINK and len(item) == 3:
        bad = paths.link_fault(path, item[2])
        if bad:
            raise _fault(path, bad)
        return Row(path, LINK, 0, b"", item[2])
    if kind == FOLDER and len(item) == 2:
        return Row(path, FOLDER)
    raise _fault(path, "is of a kind that cannot be said, or has the wrong number of fields")


def _check_form(rows: tuple[Row, ...], data: bytes) -> None:
    """`encode(rows) == data`, row by row, so that no second copy of a large list is made."""
    packer = msgpack.Packer(use_bin_type=True)
    at = 0
    for piece in itertools.chain([packer.pack_array_header(len(rows))], (packer.pack(_plain(row)) for row in rows)):
        if not data.startswith(piece, at):
            raise _fault("", "not in canonical form")
        at += len(piece)
    if at != len(data):
        raise _fault("", "not in canonical form")


def _check_order(rows: tuple[Row, ...]) -> None:
    before = ""
    for row in rows:
        if row.path <= before:
            raise _fault(row.path, "stands there twice" if row.path == before else "is not in ascending order")
        before = row.path


def _check_folders(rows: tuple[Row, ...]) -> None:
    folders: set[str] = set()
    for row in rows:
        parent = row.path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    through = next((row.path for row in rows if row.path in folders), None)
    if through is not None:
        raise _fault(through, "another path leads through it")
    seen: set[str] = set()
    for path in itertools.chain(sorted(folders), (row.path for row in rows)):
        fold = paths.folded(path)
        if fold in seen:
            other = next(p for p in itertools.chain(sorted(folders), (row.path for row in rows)) if paths.folded(p) == fold)
            raise _fault(path, f"differs from {other!r} in case only")
        seen.add(path if fold == path else fold)


def _shown(path: object) -> str:
    return path.encode("unicode_escape", "backslashreplace").decode()[:80] if isinstance(path, str) else "a path"


def _fault(at: str, what: str) -> ImageError:
    return ImageError(
        what, reason=reasons.BAD_TREE, part="tree", place=f"tree: {_shown(at)}" if at else "tree", hint="nothing was written; build the image again"
    )
