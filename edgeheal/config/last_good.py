# SPDX-License-Identifier: Apache-2.0
"""The last good config, kept so that a broken file never leaves a device without one.

Duty: keep the *texts* of a config that was good, with a checksum, and say which config is in force now.
Invariants: damage is not absence: a torn, empty or foreign copy is told, never taken for "no copy"; the copy before it stands in;
a copy is durable (temporary file, fsync, rename, fsync of the folder) before the one before it goes; a main file that vanished
since the last good read is a problem, not a change to the defaults.
"""

import binascii
import contextlib
import json
import os
from dataclasses import dataclass

from edgeheal.config.files import Text
from edgeheal.config.load import Loaded, error_of, load, load_texts
from edgeheal.config.problem import Problem
from edgeheal.config.schema import Config
from edgeheal.core.layout import Layout

NAME = "config.good"
_MAGIC = b"EHCFG1"
COPY_MOST = 16_000_000
FILES, LAST_GOOD = "files", "last good"


@dataclass(frozen=True, slots=True)
class InForce:
    """The config in force. `source`: "files" or "last good"; `problems`: why the files are not; `damaged`: copies that were unreadable.

    `unkept`: why the copy could not be written, "" when it was or did not need to be.
    """

    config: Config
    loaded: Loaded
    source: str
    problems: tuple[Problem, ...] = ()
    damaged: tuple[str, ...] = ()
    unkept: str = ""


def in_force(layout: Layout, folder: str, *, keep: bool = True) -> InForce:
    """The files where they are good, else the last good copy in `folder`; ConfigError where there is neither."""
    loaded = load(layout)
    texts, damaged = read_copy(folder)
    lost = _vanished(layout, loaded.texts, texts)
    if loaded.config is not None and lost is None:
        unkept = write_copy(folder, loaded.texts) if keep and (loaded.texts != texts or damaged) else ""
        return InForce(loaded.config, loaded, FILES, (), damaged, unkept)
    problems = loaded.problems or (() if lost is None else (lost,))
    if texts is not None:
        good = load_texts(texts, layout.etc)
        if good.config is not None:
            return InForce(good.config, good, LAST_GOOD, problems, damaged)
    raise error_of(problems)


def _vanished(layout: Layout, now: tuple[Text, ...], before: tuple[Text, ...] | None) -> Problem | None:
    main = layout.config_file
    if before is None or main not in {t.path for t in before} or main in {t.path for t in now}:
        return None
    return Problem(main, 0, "", "is gone, and was there when it was last good; put it back, or put a file with only a comment there to mean *nothing*")


def read_copy(folder: str) -> tuple[tuple[Text, ...] | None, tuple[str, ...]]:
    """The newest copy that is whole (None: there never was one, or none is whole), and those that are damaged."""
    damaged = []
    for path in (f"{folder}/{NAME}", f"{folder}/{NAME}.1"):
        try:
            with open(path, "rb") as file:
                data = file.read(COPY_MOST)
        except FileNotFoundError:
            continue
        except OSError:
            damaged.append(path)
            continue
        texts = _unpacked(data)
        if texts is not None:
            return texts, tuple(damaged)
        damaged.append(path)
    return None, tuple(damaged)


def write_copy(folder: str, texts: tuple[Text, ...]) -> str:
    """Keep `texts`; "" or why that failed."""
    path = f"{folder}/{NAME}"
    try:
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            data = _packed(texts)
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        whole, _ = read_copy(folder)
        if whole is not None and os.path.exists(path):
            with open(path, "rb") as file:
                if _unpacked(file.read(COPY_MOST)) is not None:
                    os.replace(path, f"{path}.1")
        os.replace(f"{path}.new", path)
        _sync_folder(folder)
    except OSError as fault:
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.new")
        return fault.strerror or str(fault)
    return ""


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _packed(texts: tuple[Text, ...]) -> bytes:
    body = json.dumps([[t.path, t.text] for t in texts]).encode()
    return _head(body) + b"\n" + body


def _head(body: bytes) -> bytes:
    """Length and two checksums of different families: torn writes are the danger here, not forgers."""
    return b"%s %d %08x %04x" % (_MAGIC, len(body), binascii.crc32(body), binascii.crc_hqx(body, 0xFFFF))


def _unpacked(data: bytes) -> tuple[Text, ...] | None:
    """The texts, or None for bytes that are no whole copy."""
    head, _, body = data.partition(b"\n")
    if head != _head(body):
        return None
    try:
        rows = json.loads(body)
    except ValueError:
        return None
    if not isinstance(rows, list) or not all(isinstance(r, list) and len(r) == 2 and all(isinstance(x, str) for x in r) for r in rows):
        return None
    return tuple(Text(path, text) for path, text in rows)
