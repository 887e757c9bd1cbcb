# SPDX-License-Identifier: Apache-2.0
"""The storing child: under the store's uid, without a decompressor, reads staging again and makes an installed tree of it.

Duty: build files/ out of proven objects and hard links, set modes and time tags, one checked syncfs, re-read uncached, rename into the store.
It judges no signature (the verifier does that) and inflates nothing.
Invariants: nothing follows a link; a content that is not what the manifest's tree says is never renamed into the store; an
empty file is never hard-linked; it may be run again after a cut at any point.

Request (see guard.child):
  "mode"     "store" | "clean" | "spare" | "adopt" | "usage"
  "staging"  str   folder of staging           "store" str  folder of the store
  "app"      str                                "id" bytes32
  "trees"    [bytes32] or absent                installed images of the app that may be linked from (absent: all there)
No descriptor is passed.

store: staging/<id>/ (already handed over to this uid) becomes store/<app>/<id>/{manifest,tree,files/}.
       Progress: steps 2 move, 3 sync, 4 re-read. Done: {"bytes","files","linked","reread"}.
       Error ALREADY when store/<app>/<id> stands; MISSING_OBJECT, BAD_OBJECT (content), BAD_TREE, BAD_MANIFEST, NO_SPACE, UNREADABLE.
clean: removes staging/<id> or store/<app>/trash/<id> (whichever are there), component by component. Done: {"removed": entries}.
spare: writes store/spare/<app>.ehi, a full bundle of the installed tree <id>, by temp, fsync, rename, fsync. Done: {"bytes"}.
       "trust" bytes (consecutive trust envelopes to put in front), optional.
usage: counts what the store takes, files with several names once. Done: {"bytes"}.
adopt: makes folders the store needs (store/, store/<app>/, store/spare/). Done: {}.
"""

import contextlib
import ctypes
import hashlib
import os
import stat
import threading
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError, ImageError
from edgeheal.guard import child, installed, spare
from edgeheal.guard.folders import FOLDER_FLAGS, NEW_FLAGS, READ_FLAGS, Folder, remove, write_all
from edgeheal.guard.lanes import Lanes
from edgeheal.image import manifest, tree
from edgeheal.image.codec import STEP
from edgeheal.image.manifest import Manifest
from edgeheal.trust import envelope

_FOLDER_MODE = 0o755
_NEW, _LINKED = 2, 1  # how a row came to its path
_REREAD_BYTES, _REREAD_FILES = 1024 * 1024, 64  # a batch for a lane


def main(_words: list[str] | None = None) -> int:
    """The child's way in."""
    return child.run(work, confined="writes")


def work(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    """One mode."""
    modes = {"store": _store, "clean": _clean, "spare": _spare, "adopt": _adopt, "usage": _usage}
    return modes[request["mode"]](request, answers)


def _adopt(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    with Folder(request["store"]) as store:
        for path in ("spare", request.get("app", "")):
            if path:
                store.at(f"{path}/x", make=_FOLDER_MODE)
        os.fsync(store.fd)
    return {}


def _usage(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    with Folder(request["store"]) as store:
        return {"bytes": _bytes_below(store.fd, set())}


def _bytes_below(fd: int, seen: set[int]) -> int:
    """Bytes of all files below a folder; an inode of many names counts once, what vanishes meanwhile not at all."""
    total = 0
    for name in os.listdir(fd):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                below = os.open(name, FOLDER_FLAGS, dir_fd=fd)
                try:
                    total += _bytes_below(below, seen)
                finally:
                    os.close(below)
            elif stat.S_ISREG(status.st_mode) and status.st_ino not in seen:
                if status.st_nlink > 1:
                    seen.add(status.st_ino)
                total += status.st_size
    return total


def _clean(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    name = request["id"].hex()
    gone = 0
    for path in (request["staging"], f"{request['store']}/{request['app']}/trash"):
        try:
            below = os.open(path, FOLDER_FLAGS)
        except FileNotFoundError:
            continue
        try:
            gone += remove(name, below)
        finally:
            os.close(below)
    return {"removed": gone}


def _spare(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    return {"bytes": spare.write(request["store"], request["app"], request["id"], bytes(request.get("trust", b"")))}


def _store(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    name = request["id"].hex()
    with Folder(request["store"]) as store, Folder(request["staging"]) as staging:
        app_folder, _ = store.at(f"{request['app']}/x", make=_FOLDER_MODE)
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=app_folder, follow_symlinks=False)
            raise ImageError("stands in the store already", reason=reasons.ALREADY, part="store", hint="nothing to do")
        with Folder(name, staging.fd) as folder:
            done = Storing(request, folder, answers).run()
        os.rename(name, name, src_dir_fd=staging.fd, dst_dir_fd=app_folder)
        os.fsync(app_folder)
        os.fsync(store.fd)
        os.fsync(staging.fd)
    return done


class Storing:
    """One image in staging/<id>, on its way to be an installed tree."""

    def __init__(self, request: dict[str, Any], folder: Folder, answers: child.Answers) -> None:
        """`folder` is staging/<id>."""
        self._request = request
        self._folder = folder
        self._answers = answers
        self._uid = os.geteuid()
        self._first: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})

    def run(self) -> dict[str, Any]:
        """Build, sync, re-read; the values of "done"."""
        said, rows = self._lists()
        early = threading.Thread(target=_flush_early, args=(os.dup(self._folder.fd),), daemon=True)
        early.start()
        self._sweep(rows)
        self._folder.at("files/x", make=_FOLDER_MODE)
        for i, row in enumerate(rows):
            if row.kind <= tree.EXECUTABLE and row.size:
                self._first[row.kind].setdefault(row.digest, i)
        numbers = {c.digest: c.number for c in tree.contents(rows)}
        with Folder("files", self._folder.fd) as files:
            there = self._from_installed(files, rows, numbers)
            linked = sum(there)
            for i, row in enumerate(rows):
                if row.kind != tree.LINK and not there[i]:
                    there[i] = self._place(files, rows, i, numbers.get(row.digest, 0), there)
                self._answers.progress(child.STEP_MOVE, i + 1, len(rows))
            for row in rows:
                if row.kind == tree.LINK:
                    self._symlink(files, row)
            remove("objects", self._folder.fd)
            remove("trust", self._folder.fd)
            os.fchmod(self._folder.fd, _FOLDER_MODE)
            self._answers.progress(child.STEP_SYNC, 0, 1)
            early.join()
            sync_all(self._folder.fd)
            reread = self._reread(rows, there)
        return {"bytes": said.tree.total_bytes, "files": len(rows), "linked": linked, "reread": reread}

    def _lists(self) -> tuple[Manifest, tuple[tree.Row, ...]]:
        """Manifest and tree list, read again and made read-only; the id must be the one that was asked for."""
        signed = envelope.decode(self._folder.read("manifest", envelope.MAX_ENVELOPE), envelope.MANIFEST)
        if signed.id != self._request["id"]:
            raise ImageError("is not the manifest of this image", reason=reasons.BAD_MANIFEST, part="manifest")
        said = manifest.decode(signed.body)
        if said.app != self._request["app"]:
            raise ImageError(f"is of app {said.app}", reason=reasons.NO_SUCH_APP, part="manifest")
        data = self._folder.read("tree", manifest.MAX_TREE_BYTES)
        rows = tree.decode(data, said.tree)
        tree.check_programs(said, rows)
        self._folder.write("manifest", envelope.encode(signed), 0o444)
        self._folder.write("tree", data, 0o444)
        return said, rows

    def _sweep(self, rows: tuple[tree.Row, ...]) -> None:
        """Remove what no row names: leftovers of a cut, or what a hostile importer put there."""
        known = {"manifest", "tree", "objects", "files"}
        for name in os.listdir(self._folder.fd):
            if name not in known:
                remove(name, self._folder.fd)
        if "files" not in os.listdir(self._folder.fd):
            return
        kinds = {row.path: row.kind for row in rows}
        folders = {row.path for row in rows if row.kind == tree.FOLDER}
        for row in rows:
            parent = row.path.rpartition("/")[0]
            while parent and parent not in folders:
                folders.add(parent)
                parent = parent.rpartition("/")[0]
        fd = os.open("files", FOLDER_FLAGS, dir_fd=self._folder.fd)
        try:
            _sweep(fd, "", kinds, folders)
        finally:
            os.close(fd)

    def _from_installed(self, files: Folder, rows: tuple[tree.Row, ...], numbers: dict[bytes, int]) -> bytearray:
        """Hard links to what installed images hold and nobody staged, if it looks as it must; row -> whether it is there as a link."""
        there = bytearray(len(rows))
        staged = self._staged()
        at, held = "", None
        with contextlib.ExitStack() as stack:
            for digest, kind, place in installed.held(self._request["store"], self._request["app"], self._request.get("trees")):
                i = self._first[kind].get(digest, -1)
                if i < 0 or there[i] or numbers[digest] in staged:
                    continue
                if place.id_hex != at or held is None:
                    stack.close()
                    at = place.id_hex
                    held = stack.enter_context(Folder(f"{self._request['store']}/{self._request['app']}/{at}/files"))
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    if not differs(rows[i], held.status(place.path)):
                        self._link(held, place.path, files, rows[i])
                        there[i] = _LINKED
        return there

    def _staged(self) -> set[int]:
        try:
            fd = os.open("objects", FOLDER_FLAGS, dir_fd=self._folder.fd)
        except FileNotFoundError:
            return set()
        try:
            return {int(name) for name in os.listdir(fd) if name.isascii() and name.isdecimal() and len(name) < 6}
        finally:
            os.close(fd)

    def _place(self, files: Folder, rows: tuple[tree.Row, ...], i: int, number: int, there: bytearray) -> int:
        """Bring one file or empty folder to its path; how it came there."""
        row = rows[i]
        if row.kind == tree.FOLDER:
            files.at(f"{row.path}/x", make=_FOLDER_MODE)
            return _NEW
        below, name = files.at(row.path, make=_FOLDER_MODE)
        if not row.size:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=below)
            self._finish(os.open(name, NEW_FLAGS, 0o600, dir_fd=below), row)
            return _NEW
        first = self._first[row.kind][row.digest]
        if first < i:
            self._link(files, rows[first].path, files, row)
            return there[first]
        if not (self._moved(below, name, row, number) or self._copied(files, rows, row, i)):
            raise ImageError("neither staging nor an installed image has it", reason=reasons.MISSING_OBJECT, part="object", number=number)
        return _NEW

    def _moved(self, below: int, name: str, row: tree.Row, number: int) -> bool:
        """The staged object becomes the file; or it became it before a cut."""
        with contextlib.suppress(FileNotFoundError):
            objects, _ = self._folder.at("objects/x")
            os.rename(str(number), name, src_dir_fd=objects, dst_dir_fd=below)
        try:
            fd = os.open(name, READ_FLAGS, dir_fd=below)
        except FileNotFoundError:
            return False
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != row.size or status.st_uid != self._uid:
            os.close(fd)
            raise ImageError("is not the file that was staged", reason=reasons.BAD_OBJECT, part="object", number=number)
        self._finish(fd, row)
        return True

    def _copied(self, files: Folder, rows: tuple[tree.Row, ...], row: tree.Row, i: int) -> bool:
        """The same content of the other kind, which needs a file of its own."""
        other = self._first[1 - row.kind].get(row.digest, i)
        if other >= i:
            return False
        source, _ = files.open(rows[other].path)
        try:
            below, name = files.at(row.path)
            fd = os.open(name, NEW_FLAGS, 0o600, dir_fd=below)
            while step := os.read(source, STEP):
                write_all(fd, step)
        finally:
            os.close(source)
        self._finish(fd, row)
        return True

    @staticmethod
    def _link(source: Folder, path: str, files: Folder, row: tree.Row) -> None:
        """A further name for a file; a name that a cut left is made again."""
        folder, held = source.at(path)
        folder = os.dup(folder)
        try:
            below, name = files.at(row.path, make=_FOLDER_MODE)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=below)
            os.link(held, name, src_dir_fd=folder, dst_dir_fd=below, follow_symlinks=False)
        finally:
            os.close(folder)

    @staticmethod
    def _finish(fd: int, row: tree.Row) -> None:
        try:
            os.fchmod(fd, tree.MODES[row.kind])
            os.utime(fd, (tree.tag_s(row.digest), tree.tag_s(row.digest)))
        finally:
            os.close(fd)

    @staticmethod
    def _symlink(files: Folder, row: tree.Row) -> None:
        below, name = files.at(row.path, make=_FOLDER_MODE)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=below)
        os.symlink(row.target, name, dir_fd=below)

    def _reread(self, rows: tuple[tree.Row, ...], there: bytearray) -> int:
        """Every file that is new here, from the medium: size, mode, tag, owner, hash. A further name of a file is looked at, not read again."""
        total = sum(row.size for row in rows)
        done = fresh = size = 0
        batch: list[int] = []
        with Lanes[list[int]](lambda numbers: self._prove(rows, numbers)) as lanes:
            for i, row in enumerate(rows):
                if row.kind <= tree.EXECUTABLE and there[i] == _NEW:
                    batch.append(i)
                    size += row.size
                    fresh += 1
                if size > _REREAD_BYTES or len(batch) >= _REREAD_FILES:
                    lanes.give(batch)
                    batch, size = [], 0
                done += row.size
                self._answers.progress(child.STEP_REREAD, done, total)
            if batch:
                lanes.give(batch)
        return fresh

    def _prove(self, rows: tuple[tree.Row, ...], numbers: list[int]) -> None:
        """Some rows, in a lane; what is not as it must be does not stay."""
        with Folder("files", self._folder.fd) as files:
            for i in numbers:
                row = rows[i]
                try:
                    prove(files, row, self._uid, read=not row.size or self._first[row.kind][row.digest] == i)
                except EdgeHealError:
                    below, name = files.at(row.path)
                    os.unlink(name, dir_fd=below)
                    raise


def differs(row: tree.Row, status: os.stat_result) -> str:
    """What an lstat says against a file's row, "" when nothing."""
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_size != row.size:
        return f"has {status.st_size} bytes, not {row.size}"
    if stat.S_IMODE(status.st_mode) != tree.MODES[row.kind]:
        return f"has mode {stat.S_IMODE(status.st_mode):04o}"
    return "" if int(status.st_mtime) == tree.tag_s(row.digest) else "has another time tag"


def prove(files: Folder, row: tree.Row, uid: int, *, read: bool) -> None:
    """Compare a file's status and, with `read`, all of its content past the cache; ImageError(BAD_OBJECT)."""
    fd, status = files.open(row.path)
    try:
        what = differs(row, status) or ("" if status.st_uid == uid else "is owned by somebody else")
        if read:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if read and not what and hash_of(fd) != row.digest:
            what = "read back is not what was written"
    finally:
        os.close(fd)
    if what:
        raise ImageError(what, reason=reasons.BAD_OBJECT, part="object", place=f"files/{row.path}", hint="the medium may be failing; see `edgeheal doctor`")


def hash_of(fd: int) -> bytes:
    """SHA-256 of what a descriptor still gives."""
    made = hashlib.sha256()
    while step := os.read(fd, STEP):
        made.update(step)
    return made.digest()


def sync_all(fd: int) -> None:
    """One checked `syncfs`: since Linux 5.8 it tells a write-back error."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "syncfs")


def _flush_early(fd: int) -> None:
    """Have the medium busy with what was staged while names are made. Its own open file: the checked sync afterwards hears every fault itself."""
    own = -1
    try:
        own = os.open(".", FOLDER_FLAGS, dir_fd=fd)
        sync_all(own)
    except OSError:
        return
    finally:
        os.close(fd)
        if own >= 0:
            os.close(own)


def _sweep(fd: int, at: str, kinds: dict[str, int], folders: set[str]) -> None:
    for name in os.listdir(fd):
        path = f"{at}/{name}" if at else name
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and path in folders:
            below = os.open(name, FOLDER_FLAGS, dir_fd=fd)
            try:
                _sweep(below, path, kinds, folders)
            finally:
                os.close(below)
        elif not (stat.S_ISREG(status.st_mode) and kinds.get(path, tree.LINK) <= tree.EXECUTABLE):
            remove(name, fd)
