# SPDX-License-Identifier: Apache-2.0
"""One coverage-guided fuzzer in a process of its own: TARGET SECONDS FOLDER. Any end of a parser but a value or its typed error is kept in FOLDER."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "images")]

import atheris  # noqa: E402 - installed by whoever wants to fuzz

if TYPE_CHECKING:
    from collections.abc import Callable

with atheris.instrument_imports(include=["edgeheal"]):
    from edgeheal.config.files import Text
    from edgeheal.config.load import load_texts
    from edgeheal.core.errors import EdgeHealError
    from edgeheal.guard import notify
    from edgeheal.image import bundle, codec, manifest, patch, records, source, tree
    from edgeheal.image.reader import BundleReader
    from edgeheal.trust import envelope
    from edgeheal.trust.canonical import NotCanonicalError
    from edgeheal.wire import commands, guard_frames, policy_doc, summary
    from edgeheal.wire.guard_event import Event
    from edgeheal.wire.guard_signals import Words


def _bundle(data: bytes) -> None:
    reader = BundleReader(io.BytesIO(data).read)
    trust, signed = reader.start()
    envelope.decode_chain(trust)
    envelope.decode(signed, envelope.MANIFEST)
    index = reader.index()
    for row in index:
        for _ in reader.content(row, 4_096, bytes(32), None):
            pass
    reader.end()


def _patch(data: bytes) -> None:
    base = bytes(range(256)) * 4
    made = b"".join(patch.apply([data], lambda offset, length: base[offset : offset + length], len(base), 2_000))
    assert len(made) <= 2_000


def _inflate(data: bytes) -> None:
    for how in (codec.DEFLATE, codec.LZMA2):
        with contextlib.suppress(codec.CodecError):
            assert sum(map(len, codec.inflate(how, iter((data,)), 10_000))) <= 10_000
        with contextlib.suppress(codec.CodecError):
            assert len(codec.inflate_whole(how, data, 10_000)) <= 10_000


def _event(data: bytes) -> None:
    Words().event(Event(data[: guard_frames.EVENT.size].ljust(guard_frames.EVENT.size, b"\0")))


TARGETS: dict[str, Callable[[bytes], object]] = {
    "config": lambda data: load_texts((Text("f.toml", data.decode("utf-8", "replace")),), "/etc/edgeheal"),
    "image_toml": lambda data: source.parse(data.decode("utf-8", "replace"), "image.toml"),
    "bundle": _bundle,
    "manifest": manifest.decode,
    "tree": tree.decode_rows,
    "index": bundle.decode_index,
    "patch": _patch,
    "inflate": _inflate,
    "envelope": lambda data: envelope.decode(data, envelope.COMMAND),
    "summary": summary.decode,
    "command": commands.decode_body,
    "policy": policy_doc.decode_body,
    "guard_event": _event,
    "notify": notify.parse,
    "records": records.unpack,
}
TYPED = (EdgeHealError, records.RecordError, patch.PatchError, codec.CodecError, NotCanonicalError)


def seeds(folder: str) -> None:
    """Whole examples to begin with."""
    from workshop import Made

    made = Made()
    whole = {
        "bundle": made.bytes(), "manifest": made.body, "tree": made.tree_bytes, "index": bundle.encode_index(made.index),
        "envelope": envelope.encode(made.envelope), "image_toml": b'app = "a"\nversion = "1"\n[run]\nargv = ["x"]\n', "notify": b"READY=1\nSTATUS=x\n",
        "config": b'[device]\nid = "a"\n[apps.x]\nsoak = "5s"\n', "records": records.pack({"v": 1, "a": [1, b"x", "y", None]}),
    }  # fmt: skip
    for name, data in whole.items():
        os.makedirs(f"{folder}/{name}", exist_ok=True)
        Path(f"{folder}/{name}/seed").write_bytes(data)


def main() -> None:
    """Fuzz until the seconds are over, or something untyped comes."""
    name, seconds, folder = sys.argv[1:4]
    seeds(folder)
    os.makedirs(f"{folder}/{name}", exist_ok=True)
    parse = TARGETS[name]

    def one(data: bytes) -> None:
        with contextlib.suppress(*TYPED):
            parse(data)

    words = [sys.argv[0], f"{folder}/{name}", f"-max_total_time={seconds}", "-max_len=4096", "-rss_limit_mb=1024", "-timeout=10"]
    atheris.Setup([*words, f"-artifact_prefix={folder}/found-{name}-", "-print_final_stats=1"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
