# SPDX-License-Identifier: Apache-2.0
"""Building an image: a folder and its image.toml become a bundle.

Duty: walk the folder, hash, squeeze (two workers), write. The same folder gives the same bytes.
Invariants: what the format cannot say (owner, setuid, device, fifo, absolute link) is refused by name; a file that changes while
it is packed is refused; memory does not grow with the files.
"""

import contextlib
import fnmatch
import hashlib
import os
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError, ImageError, UsageError
from edgeheal.image import codec, paths, source, tree
from edgeheal.image.manifest import Manifest
from edgeheal.image.writer import BundleWriter, Squeezed
from edgeheal.trust.envelope import Envelope, encode

SMALL = 2 * 1024 * 1024
_AHEAD = 16

Progress = Callable[[int, int], None]


class Plan(NamedTuple):
    """What is to be packed: `sources` digest -> file."""

    manifest: Manifest
    rows: tuple[tree.Row, ...]
    tree_bytes: bytes
    sources: dict[bytes, str]


def find(place: str) -> tuple[str, str]:
    """(image.toml, folder of files) for a folder or an image.toml."""
    toml = os.path.join(place, "image.toml") if os.path.isdir(place) else place
    if not os.path.isfile(toml):
        raise UsageError("no image.toml there", place=place, hint="name an image.toml, or a folder with image.toml and files/")
    folder = os.path.join(os.path.dirname(os.path.abspath(toml)), "files")
    if not os.path.isdir(folder):
        raise UsageError("no folder files/ beside image.toml", place=folder, hint="put what the app needs into files/")
    return toml, folder


def plan(toml: str, folder: str, text: str, exclude: tuple[str, ...] = (), version: str | None = None) -> Plan:
    """Walk and hash; the manifest that goes with it. `version` stands in for the file's."""
    sources: dict[bytes, str] = {}
    rows = tuple(sorted(_walk(folder, "", exclude, sources), key=lambda row: row.path.encode()))
    if not rows:
        raise ImageError("is empty", reason=reasons.BAD_TREE, part="tree", place=folder, hint="put what the app needs into it")
    data = tree.encode(rows)
    tree.decode_rows(data)
    manifest = source.to_manifest(text, toml, tree.reference(rows, data), {} if version is None else {"version": version})
    try:
        tree.check_programs(manifest, rows)
    except ImageError as fault:
        raise source.placed(fault, text, toml) from None
    return Plan(manifest, rows, data, sources)


def _walk(folder: str, at: str, exclude: tuple[str, ...], sources: dict[bytes, str]) -> Iterator[tree.Row]:
    entries = sorted(os.scandir(os.path.join(folder, at)), key=lambda entry: entry.name)
    empty = True
    for entry in entries:
        path = f"{at}/{entry.name}" if at else entry.name
        if any(fnmatch.fnmatch(path, one) or fnmatch.fnmatch(entry.name, one) for one in exclude):
            continue
        empty = False
        status = entry.stat(follow_symlinks=False)
        bad = _refused(path, status)
        if bad:
            raise ImageError(bad, reason=reasons.BAD_TREE, part="tree", place=entry.path, hint="an image cannot say this; take it out of files/")
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(folder, path, exclude, sources)
        elif stat.S_ISLNK(status.st_mode):
            target = os.readlink(entry.path)
            bad = paths.link_fault(path, target)
            if bad:
                hint = "make it relative and inside files/"
                raise ImageError(bad, reason=reasons.BAD_TREE, part="tree", place=entry.path, hint=hint)
            yield tree.Row(path, tree.LINK, 0, b"", target)
        else:
            digest = _hash(entry.path)
            sources.setdefault(digest, entry.path)
            yield tree.Row(path, tree.EXECUTABLE if status.st_mode & 0o100 else tree.FILE, status.st_size, digest)
    if empty and at:
        yield tree.Row(at, tree.FOLDER)


def _refused(path: str, status: os.stat_result) -> str:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        return "is no file, folder or link"
    if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "is setuid or setgid"
    if stat.S_ISREG(status.st_mode) and status.st_size > tree.MAX_FILE:
        return f"is longer than {tree.MAX_FILE} bytes"
    if unicodedata.normalize("NFC", path) != path:
        return "has a name that is not in Unicode form NFC"
    return paths.fault(path)


def _hash(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as fault:
        raise EdgeHealError(fault.strerror or str(fault), place=path, hint="the builder must be able to read all of files/") from None


def bundle_of(planned: Plan, envelope: Envelope, trust: bytes, how: int, progress: Progress) -> Iterator[bytes]:
    """The bundle's bytes around an envelope."""
    with tempfile.TemporaryFile(prefix="edgeheal-") as spool:
        writer = BundleWriter(spool)
        writer.add(Squeezed(0, *codec.squeeze(planned.tree_bytes)))
        total = sum(c.size for c in tree.contents(planned.rows))
        done = 0
        for content in _squeezed(planned, writer, how):
            done += content.size
            progress(done, total)
        yield from writer.parts(trust, encode(envelope))


def _squeezed(planned: Plan, writer: BundleWriter, how: int) -> Iterator[tree.Content]:
    """Contents in order; small ones are squeezed ahead by two workers, large ones in steps."""
    contents = [c for c in tree.contents(planned.rows) if c.size]
    ahead: dict[int, Future[tuple[int, bytes]]] = {}
    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as stack:
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        asked = 0
        for i, content in enumerate(contents):
            while asked < len(contents) and asked < i + _AHEAD:
                one = contents[asked]
                if one.size <= SMALL:
                    ahead[one.number] = pool.submit(_squeeze_small, planned.sources[one.digest], one, how)
                asked += 1
            if content.number in ahead:
                writer.add(Squeezed(content.number, *ahead.pop(content.number).result()))
            else:
                path = planned.sources[content.digest]
                writer.add_stream(content.number, lambda path=path, content=content: _pieces(path, content), content.size, how)  # type: ignore[misc]
            yield content


def _squeeze_small(path: str, content: tree.Content, how: int) -> tuple[int, bytes]:
    return codec.squeeze(b"".join(_pieces(path, content)), how)


def _pieces(path: str, content: tree.Content) -> Iterator[bytes]:
    made = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(codec.STEP):
            made.update(piece)
            yield piece
    if made.digest() != content.digest:
        raise ImageError("changed while it was packed", reason=reasons.BAD_OBJECT, place=path, hint="build again when nothing writes there")
