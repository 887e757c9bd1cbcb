# SPDX-License-Identifier: Apache-2.0
"""What may be asked of a medium: six small operations, run in order, the first failure ends the batch.

Duty: name the operations between those who decide what is written (journal, spool, recordings) and who writes (adapters.disk,
lab.storage). It writes nothing. Names are relative to the agent's folder, "/" between folder and file, never "..".
Invariant: a batch is durable up to its last `Sync` that was answered without an error, and nothing more may be assumed.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allocate:
    """A new file of `size_bytes` zeros with its space reserved: made under another name, synced, renamed, folder synced. Exists already: kept."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Write:
    """`data` at offset `at` of a file (made when it does not exist), in one call."""

    name: str
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """The file's data is on the medium (fdatasync)."""

    name: str


@dataclass(frozen=True, slots=True)
class Replace:
    """The whole file anew: temporary file, fsync, rename, fsync of the folder."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Remove:
    """The file is gone; it never was: fine, too."""

    name: str


@dataclass(frozen=True, slots=True)
class Read:
    """`length` bytes from `at`; shorter at the file's end. The batch's last `Read` is its answer."""

    name: str
    at: int
    length: int


Op = Allocate | Write | Sync | Replace | Remove | Read


@dataclass(frozen=True, slots=True)
class Ended:
    """How a batch ended: `errno` 0 or the number of the first failure; `data` what its last `Read` gave; `took_us` in the medium."""

    errno: int = 0
    data: bytes = b""
    took_us: int = 0
