# SPDX-License-Identifier: Apache-2.0
"""The importer: a child that reads a bundle from a passed descriptor and writes what is proven into staging, and nowhere else.

Duty: one pass, in the order of proof: magic, trust chain, threshold, decode, device, revoked or blocked, floor, space; only then
tree and objects. Runs under its own uid without network. It links nothing, renames nothing, and knows no state.
Invariants: memory is bounded, whatever the bundle says (guard.objects); every step is relative to a folder descriptor and follows no link;
the first fault ends it with part and object named and nothing but staging touched; after a fault of the bundle nothing is left
but objects that are proven.

Request (see guard.child):
  "staging"  str   folder of staging, owned by the store's uid, where this uid may make <id>/      (staging/)
  "store"    str   folder of the store, for bases of patches and contents already held; "" = none
  "trust"    bytes newest trust envelope that the guard holds
  "device"   [str] classes of this device
  "apps"     [str] apps that the device's config names; an image of another app is refused (NO_SUCH_APP)
  "floors"   {app: [epoch, counter]}        the floor of each app's state record
  "blocked"  [bytes32]                      blocked image ids and (tree, run) digests
  "interpreters" [str]                      absolute programs of the host that an image may start
  "quota"    int   bytes that an image may have at most (0: 8 GiB)
  "left"     int   bytes that the store may still grow by; absent: as far as the disk goes. NO_SPACE before the first object is written
  "shared_keys" bool  one key may stand in two roles (default false)
  "only"     bytes32 or absent               refuse another image id than this (a warrant named it)
Descriptor 3: the bundle, read once from its present place (a file, a pipe, a socket).

Progress: step 0 proof, 1 objects (bytes made of bytes in all).
Done: {"reason": 0, "id": bytes32, "app": str, "version": str, "security": int, "bytes": int (whole tree), "written": int, "reused": int,
       "held": int (objects that the store holds), "trust": n of the newest trust in the bundle or held, "new_trust": bool}
Error: reason, part ("magic", "trust", "envelope", "manifest", "index", "tree", "object", "payload", "space"), object, hint.
  For MISSING_OBJECT the record's "object" is the first one that neither bundle nor store has.

Leaves staging/<id hex>/{manifest, tree, objects/<n>, trust (only when the bundle brought newer versions: those envelopes, oldest first)},
folders 0700, files 0600. A retry hashes what is there and writes only the rest.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError, ImageError
from edgeheal.guard import child, installed
from edgeheal.guard.apart import signers
from edgeheal.guard.folders import FOLDER_FLAGS, READ_FLAGS, Folder, remove
from edgeheal.guard.objects import Objects
from edgeheal.image import admission, bundle, manifest, tree, verdict
from edgeheal.image.codec import STEP
from edgeheal.image.manifest import MAX_IMAGE, Manifest
from edgeheal.image.reader import Base, BundleReader
from edgeheal.trust import chain, document, envelope

_MARGIN = 1024 * 1024  # free bytes left to others
_BLOCK = 4096
_STAGED, _HELD = 1, 2  # where an object is: in staging, in the store (or empty)


def main(_words: list[str] | None = None) -> int:
    """The child's way in."""
    return child.run(work, confined="writes")


def work(request: dict[str, Any], answers: child.Answers) -> dict[str, Any]:
    """One bundle."""
    with open(child.PASSED_FD, "rb", buffering=STEP) as source:
        return Import(request, BundleReader(source.read), answers).run()


class Import:
    """One bundle on its way into staging."""

    def __init__(self, request: dict[str, Any], reader: BundleReader, answers: child.Answers) -> None:
        """`request` as in the module's docstring."""
        self._request = request
        self._reader = reader
        self._answers = answers
        self._store: str = request.get("store", "")
        self._app = ""
        self._reused = self._written = self._held = 0

    def run(self) -> dict[str, Any]:
        """The whole order of proof; the values of "done"."""
        signed, said, links, newest = self._prove()
        self._app = said.app
        self._answers.progress(child.STEP_PROOF, 1, 1)
        self._room(said.tree.size_bytes, 4)
        rows = self._reader.index()
        staging = os.open(self._request["staging"], FOLDER_FLAGS)
        try:
            name = signed.id.hex()
            fresh = self._make(name, staging)
            with Folder(name, staging) as folder:
                self._stage(folder, (signed, said, links), rows, (name, staging) if fresh else None)
        finally:
            os.close(staging)
        return {
            "id": signed.id, "app": said.app, "version": said.version, "security": said.security_counter, "bytes": said.tree.total_bytes,
            "written": self._written, "reused": self._reused, "held": self._held, "trust": newest.n, "new_trust": bool(links),
        }  # fmt: skip

    def _prove(self) -> tuple[envelope.Envelope, Manifest, tuple[chain.Link, ...], document.Trust]:
        """Magic, trust chain, threshold, decode, device, revoked or blocked, floor."""
        request = self._request
        shared = bool(request.get("shared_keys"))
        held = document.decode(envelope.decode(request["trust"], envelope.TRUST, part="trust").body, shared_keys=shared)
        raw_trust, raw_envelope = self._reader.start()
        links = chain.walk(held, envelope.decode_chain(raw_trust), lambda e: signers(e, part="trust"), shared_keys=shared)
        newest = links[-1].trust if links else held
        signed = envelope.decode(raw_envelope, envelope.MANIFEST)
        by = signers(signed)
        if document.RELEASE not in newest.names(by):
            raise verdict.error(newest.judge(by, document.RELEASE), "manifest")
        said = manifest.decode(signed.body)
        what = f"{said.app} {said.version}"
        if request.get("only", signed.id) != signed.id:
            raise verdict.error(reasons.NO_SUCH_IMAGE, what)
        if said.app not in request["apps"]:
            raise verdict.error(reasons.NO_SUCH_APP, what)
        epoch, counter = request["floors"].get(said.app, (0, 0))
        facts = admission.Facts(
            said, signed.id, by, newest, None, tuple(request["device"]), (epoch, counter), frozenset(request["blocked"]), tuple(request["interpreters"])
        )
        reason = admission.judge(facts)
        if reason != reasons.OK:
            raise verdict.error(reason, what)
        quota = int(request.get("quota") or MAX_IMAGE)
        if said.tree.total_bytes > quota:
            raise ImageError(f"{said.tree.total_bytes} bytes, the quota is {quota}", reason=reasons.TOO_LARGE, part="space", hint="raise [guard] quota")
        return signed, said, links, newest

    def _room(self, need: int, files: int) -> None:
        status = os.statvfs(self._request["staging"])
        free = status.f_bavail * status.f_frsize - _MARGIN
        if free < need + files * _BLOCK or (status.f_files and status.f_favail < files + 16):
            raise ImageError(
                f"{need} bytes are needed, {max(0, free)} are free", reason=reasons.NO_SPACE, part="space", hint="free space on the data partition"
            )

    def _make(self, name: str, staging: int) -> bool:
        """Make staging/<id>; whether it is new. A folder that is not ours is refused."""
        try:
            os.mkdir(name, 0o700, dir_fd=staging)
        except FileExistsError:
            if os.stat(name, dir_fd=staging, follow_symlinks=False).st_uid != os.geteuid():
                raise ImageError("staging holds this image as somebody else's", reason=reasons.BUSY, part="staging", hint="clean staging first") from None
            return False
        return True

    def _stage(
        self,
        folder: Folder,
        proven: tuple[envelope.Envelope, Manifest, tuple[chain.Link, ...]],
        index: bundle.Index,
        made: tuple[str, int] | None,
    ) -> None:
        signed, said, links = proven
        try:
            rows = self._tree(folder, said, index)
            tree.check_programs(said, rows)
            contents = tree.contents(rows)
            kinds = _kinds(rows)
            del rows
            bundle.check_index(index, said.tree.size_bytes, contents)
            folder.write("manifest", envelope.encode(signed))
            if links:
                folder.write("trust", b"".join(envelope.encode(link.envelope) for link in links))
        except (EdgeHealError, OSError):
            if made:
                remove(*made)
            raise
        self._contents(folder, kinds, contents, index)

    def _tree(self, folder: Folder, said: Manifest, index: bundle.Index) -> tuple[tree.Row, ...]:
        """The tree, out of the bundle, an earlier attempt, or an installed image that has the very same."""
        ref = said.tree
        first = index.tree()
        if first is not None:
            base = self._tree_base(first.base)
            data = b"".join(self._reader.content(first, ref.size_bytes, ref.digest, base, part="tree"))
        else:
            data = self._held_tree(folder, ref.digest)
        rows = tree.decode(data, ref)
        folder.write("tree", data)
        return rows

    def _tree_base(self, digest: bytes | None) -> Base | None:
        held = installed.find_tree(self._store, self._app, digest) if digest and self._store else None
        return Base(lambda offset, length: held[offset : offset + length], len(held)) if held is not None else None

    def _held_tree(self, folder: Folder, digest: bytes) -> bytes:
        with contextlib.suppress(OSError):
            data = folder.read("tree", manifest.MAX_TREE_BYTES)
            if hashlib.sha256(data).digest() == digest:
                return data
        held = installed.find_tree(self._store, self._app, digest) if self._store else None
        if held is None:
            raise ImageError(
                "neither bundle nor store has the tree", reason=reasons.MISSING_OBJECT, part="tree", number=0, hint="fetch object 0 from a full bundle"
            )
        return held

    def _contents(self, folder: Folder, kinds: dict[bytes, int], contents: tuple[tree.Content, ...], index: bundle.Index) -> None:
        """Prove and write what the bundle brings and nobody holds; then everything must be there."""
        folder.at("objects/x", make=0o700)
        bases = self._look_up(kinds, {row.base for row in index if row.base and row.number})
        there = self._present(folder, contents)
        for c in contents:
            if not c.size or kinds[c.digest] == 0:
                there[c.number] |= _HELD
        self._held = sum(1 for c in contents if c.size and there[c.number] == _HELD)
        need = sum(c.size for c in contents if c.size and there[c.number] != _HELD)
        left = self._request.get("left")
        if left is not None and need > left:
            what = f"{need} bytes are needed, the quota of all images leaves {max(0, left)}"
            raise ImageError(what, reason=reasons.NO_SPACE, part="quota", hint="drop an image, or raise [guard] quota")
        self._room(sum(c.size + _BLOCK for c in contents if not there[c.number]), len(contents))
        total = sum(c.size for c in contents)
        done = 0
        with Objects(folder.at("objects/x")[0], self._reader) as objects:
            for row in index:
                if row.number == 0:
                    continue
                content = contents[row.number - 1]
                if there[row.number]:
                    self._reader.skip(row)
                else:
                    with self._base(bases.get(row.base or b"")) as base:
                        objects.write(row, content, base)
                    there[row.number] = _STAGED
                    self._written += 1
                done += content.size
                self._answers.progress(child.STEP_OBJECTS, done, total)
        self._reader.end()
        missing = there.find(0, 1)
        if missing > 0:
            hint = "fetch this and later missing objects from a full bundle"
            raise ImageError("neither bundle nor store has it", reason=reasons.MISSING_OBJECT, part="object", number=missing, hint=hint)

    def _look_up(self, kinds: dict[bytes, int], wanted: set[bytes]) -> dict[bytes, installed.Place]:
        """Take from `kinds` what installed images hold, so that 0 means held in every kind; where the bases of patches lie."""
        bases: dict[bytes, installed.Place] = {}
        for digest, kind, place in installed.held(self._store, self._app) if self._store else ():
            if digest in kinds:
                kinds[digest] &= ~(1 << kind)
            if digest in wanted:
                bases.setdefault(digest, place)
        return bases

    def _present(self, folder: Folder, contents: tuple[tree.Content, ...]) -> bytearray:
        """Object number -> whether an earlier attempt left it as it must be; whatever else lies there goes."""
        objects, _ = folder.at("objects/x")
        there = bytearray(len(contents) + 1)
        for name in os.listdir(objects):
            number = int(name) if name.isascii() and name.isdecimal() and len(name) < 6 else 0
            if 0 < number <= len(contents) and name == str(number) and contents[number - 1].size and _is(objects, name, contents[number - 1]):
                there[number] = _STAGED
                self._reused += 1
            else:
                remove(name, objects)
        return there

    @contextlib.contextmanager
    def _base(self, place: installed.Place | None) -> Iterator[Base | None]:
        if place is None:
            yield None
            return
        with Folder(f"{self._store}/{self._app}/{place.id_hex}/files") as files:
            fd, status = files.open(place.path)
            try:
                yield Base(lambda offset, length: os.pread(fd, length, offset), status.st_size)
            finally:
                os.close(fd)


def _kinds(rows: tuple[tree.Row, ...]) -> dict[bytes, int]:
    """Content -> in which kinds the tree uses it, as bits; the empty content is nobody's."""
    kinds: dict[bytes, int] = {}
    for row in rows:
        if row.kind <= tree.EXECUTABLE and row.size:
            kinds[row.digest] = kinds.get(row.digest, 0) | 1 << row.kind
    return kinds


def _is(objects: int, name: str, content: tree.Content) -> bool:
    """Whether objects/<name> is a plain file of ours with this very content."""
    try:
        fd = os.open(name, READ_FLAGS, dir_fd=objects)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if status.st_size != content.size or status.st_nlink != 1 or status.st_uid != os.geteuid():
            return False
        made = hashlib.sha256()
        while step := os.read(fd, STEP):
            made.update(step)
        return made.digest() == content.digest
    except OSError:
        return False
    finally:
        os.close(fd)
