# SPDX-License-Identifier: Apache-2.0
"""Reading a bundle on any machine: judge it as a device would, or only show it.

Duty: the order of proof without a store. Invariant: nothing is written; contents that a device must hold already are counted, not
guessed at.
"""

from collections.abc import Callable
from typing import Any, BinaryIO

from edgeheal.core import reasons
from edgeheal.core.errors import ImageError
from edgeheal.image import admission, bundle, manifest, tree, verdict
from edgeheal.image.manifest_plain import to_plain
from edgeheal.image.reader import BundleReader
from edgeheal.trust import chain, document, envelope
from edgeheal.trust.document import Trust
from edgeheal.trust.verify import signers

Progress = Callable[[int, int], None]


def verify(file: BinaryIO, trust: Trust, device: tuple[str, ...], progress: Progress, *, shared_keys: bool) -> dict[str, Any]:
    """Judge everything that needs no device; what was found. The typed error of the first thing that does not hold."""
    reader = BundleReader(file.read)
    raw_trust, raw = reader.start()
    links = chain.walk(trust, envelope.decode_chain(raw_trust), lambda e: signers(e, part="trust"), shared_keys=shared_keys)
    newest = links[-1].trust if links else trust
    signed = envelope.decode(raw, envelope.MANIFEST)
    by = signers(signed)
    if document.RELEASE not in newest.names(by):
        raise verdict.error(newest.judge(by, document.RELEASE), "manifest")
    said = manifest.decode(signed.body)
    hosts = tuple(word for _, word in said.programs() if word.startswith("/"))
    facts = admission.Facts(said, signed.id, by, newest, None, device or said.device, (0, 0), frozenset(), hosts)
    reason = admission.judge(facts)
    if reason != reasons.OK:
        raise verdict.error(reason, f"{said.app} {said.version}")
    carried, held, total = _contents(reader, said, progress)
    return {
        "id": signed.id, "app": said.app, "version": said.version, "security_counter": said.security_counter, "trust": newest.n,
        "signatures": len(by), "objects": carried, "held": held, "bytes": total,
    }  # fmt: skip


def _contents(reader: BundleReader, said: manifest.Manifest, progress: Progress) -> tuple[int, int, int]:
    index = reader.index()
    first = index.tree()
    if first is None or first.base is not None:
        for row in index:
            reader.skip(row)
        reader.end()
        raise ImageError(
            "is a delta whose tree needs an image that only a device holds", reason=reasons.MISSING_OBJECT, part="tree", number=0,
            hint="install it on a device, or verify the full bundle",
        )  # fmt: skip
    ref = said.tree
    rows = tree.decode(b"".join(reader.content(first, ref.size_bytes, ref.digest, None, part="tree")), ref)
    tree.check_programs(said, rows)
    contents = tree.contents(rows)
    bundle.check_index(index, ref.size_bytes, contents)
    total = sum(c.size for c in contents)
    done = carried = 0
    for row in index:
        if row.number == 0:
            continue
        content = contents[row.number - 1]
        if row.base is None:
            for _ in reader.content(row, content.size, content.digest, None):
                pass
            carried += 1
        else:
            reader.skip(row)
        done += content.size
        progress(done, total)
    reader.end()
    progress(total, total)
    needed = sum(1 for c in contents if c.size)
    return carried, needed - carried, total


def inspect(file: BinaryIO, *, with_files: bool) -> dict[str, Any]:
    """What a bundle says, with every form checked and no signature judged."""
    reader = BundleReader(file.read)
    raw_trust, raw = reader.start()
    signed = envelope.decode(raw, envelope.MANIFEST)
    said = manifest.decode(signed.body)
    index = reader.index()
    shown: dict[str, Any] = {
        "id": signed.id,
        "signed_by": [key for key, _ in signed.signatures],
        "trust": [document.decode(one.body, shared_keys=True).n for one in envelope.decode_chain(raw_trust)],
        "manifest": to_plain(said),
        "carried": sum(1 for row in index if row.number),
        "patches": sum(1 for row in index if row.base is not None),
        "payload_bytes": sum(row.length for row in index),
        "objects": None,
    }
    first = index.tree()
    if first is not None and first.base is None:
        rows = tree.decode(b"".join(reader.content(first, said.tree.size_bytes, said.tree.digest, None, part="tree")), said.tree)
        shown["objects"] = sum(1 for c in tree.contents(rows) if c.size)
        if with_files:
            shown["files"] = [_shown(row) for row in rows]
    return shown


def _shown(row: tree.Row) -> dict[str, Any]:
    modes = {tree.FILE: "r--r--r--", tree.EXECUTABLE: "r-xr-xr-x", tree.LINK: "link     ", tree.FOLDER: "folder   "}
    said: dict[str, Any] = {"path": row.path, "mode": modes[row.kind], "size": row.size}
    return said | ({"sha256": row.digest} if row.digest else {"target": row.target} if row.target else {})
