# SPDX-License-Identifier: Apache-2.0
"""The spare: an installed image written out again as a full bundle on other blocks, to heal from.

Duty: pack store/<app>/<id> into store/spare/<app>.ehi. For the storing child. The manifest keeps its signatures: how an image
travels is not signed.
Invariants: every content is proven while it is packed; the old spare stays until the new one is durable.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.guard.folders import Folder, write_all
from edgeheal.image import codec, manifest, tree
from edgeheal.image.writer import BundleWriter, Squeezed
from edgeheal.trust import envelope

_PART, _SPOOL = ".part", ".spool"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(store: str, app: str, image: bytes, trust: bytes) -> int:
    """Pack one installed image; the bundle's length."""
    with Folder(store) as top, Folder(f"{store}/{app}/{image.hex()}") as folder:
        below, _ = top.at("spare/x", make=0o755)
        with _scratch(below, f"{app}{_SPOOL}") as spool, _scratch(below, f"{app}{_PART}") as part:
            writer = BundleWriter(os.fdopen(os.dup(spool), "w+b"))
            signed = _fill(writer, folder, image)
            size = 0
            for piece in writer.parts(trust, signed):
                write_all(part, piece)
                size += len(piece)
            os.fchmod(part, 0o444)
            os.fsync(part)
            os.rename(f"{app}{_PART}", f"{app}.ehi", src_dir_fd=below, dst_dir_fd=below)
        os.fsync(below)
    return size


def _fill(writer: BundleWriter, folder: Folder, image: bytes) -> bytes:
    signed = folder.read("manifest", envelope.MAX_ENVELOPE)
    opened = envelope.decode(signed, envelope.MANIFEST)
    if opened.id != image:
        raise ImageError("is not the manifest of this image", reason=reasons.ROT, part="manifest")
    data = folder.read("tree", manifest.MAX_TREE_BYTES)
    rows = tree.decode(data, manifest.decode(opened.body).tree)
    writer.add(Squeezed(0, *codec.squeeze(data)))
    paths = {row.digest: row.path for row in reversed(rows) if row.kind <= tree.EXECUTABLE}
    with Folder("files", folder.fd) as files:
        for content in tree.contents(rows):
            if content.size:
                writer.add_stream(content.number, lambda c=content: _pieces(files, paths[c.digest], c), content.size, codec.DEFLATE)  # type: ignore[misc]
    return signed


def _pieces(files: Folder, path: str, content: tree.Content) -> Iterator[bytes]:
    fd, _ = files.open(path)
    made = hashlib.sha256()
    try:
        while step := os.read(fd, codec.STEP):
            made.update(step)
            yield step
    finally:
        os.close(fd)
    if made.digest() != content.digest:
        raise ImageError("content differs", reason=reasons.ROT, part="object", number=content.number, place=f"files/{path}")


@contextlib.contextmanager
def _scratch(below: int, name: str) -> Iterator[int]:
    """A new file that is gone in the end unless it was renamed."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=below)
    fd = os.open(name, _FLAGS, 0o600, dir_fd=below)
    try:
        yield fd
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=below)
