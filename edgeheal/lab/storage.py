# SPDX-License-Identifier: Apache-2.0
"""Power-cut storage: a disk in memory that remembers which writes were flushed, and can lose power, fill up or fail at any operation.

Duty: `ports.Disk` for tests and drills, with the lies that real media tell: what was not synced may be lost in any part, a sector
at a time, in any order. It needs no folder, no thread and no time.
Invariants: what a `Sync` (or a `Replace`, an `Allocate`) answered well is there after every cut; nothing else is promised;
with the same seed a cut gives the same remains.
"""

import errno
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgeheal.journal.ops import Allocate, Ended, Op, Read, Remove, Replace, Sync, Write

SECTOR = 512


class PowerCutError(Exception):
    """The power went: nothing after this happened."""


@dataclass(slots=True)
class _File:
    safe: bytearray = field(default_factory=bytearray)  # as it is after a cut, at worst
    seen: bytearray = field(default_factory=bytearray)  # as the page cache has it
    loose: list[tuple[int, bytes]] = field(default_factory=list)  # written, not synced


class CutDisk:
    """`ports.Disk`. `cut_at`: the operation (counted from 1) at which the power goes; `fails`: a condition in which operations fail."""

    def __init__(self, files: dict[str, bytes] | None = None, *, cut_at: int = 0) -> None:
        """Begins with `files`, all of them durable."""
        self._files = {name: _File(bytearray(data), bytearray(data)) for name, data in (files or {}).items()}
        self._answers: list[tuple[int, Callable[[Ended], None], Ended]] = []
        self._tickets = 0
        self.cut_at = cut_at
        self.ops = 0
        self.syncs = 0
        self.written_bytes = 0
        self.fails = 0  # errno that every changing operation ends with, 0 = none
        self.sync_fails = 0  # errno of syncs alone, which drop what was written (as a page cache does)
        self.silent = False  # batches are taken and never answered

    # -- ports.Disk

    def submit(self, ops: Sequence[Op], done: Callable[[Ended], None]) -> int:
        """Runs at once; the answer waits for `ready` or `wait`."""
        self._tickets += 1
        if not self.silent:
            self._answers.append((self._tickets, done, self._run(ops)))
        return self._tickets

    def wait(self, ticket: int, timeout_s: float) -> Ended | None:
        """Never blocks: the answer is there or never comes."""
        while self._answers:
            number, done, ended = self._answers.pop(0)
            done(ended)
            if number == ticket:
                return ended
        return None

    def names(self, folder: str) -> dict[str, int]:
        """See the port."""
        return {name: len(file.seen) for name, file in self._files.items() if name.startswith(f"{folder}/")}

    def read(self, name: str, at: int, length: int) -> bytes:
        """See the port."""
        file = self._files.get(name)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, name)
        return bytes(file.seen[at : at + length])

    def fds(self) -> dict[int, int]:
        """None."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """Hand out all answers."""
        while self._answers:
            _, done, ended = self._answers.pop(0)
            done(ended)

    def due(self) -> int:
        """At once while there are answers."""
        return 1 if self._answers else 0

    def tick(self, now_ns: int) -> None:
        """Hand out all answers."""
        self.ready(-1, 0)

    # -- the medium

    def _run(self, ops: Sequence[Op]) -> Ended:
        data = b""
        for op in ops:
            if isinstance(op, Read):
                data = self.read(op.name, op.at, op.length) if op.name in self._files else b""
                continue
            self.ops += 1
            if self.cut_at and self.ops >= self.cut_at:
                raise PowerCutError
            failed = self.fails or (self.sync_fails if isinstance(op, Sync | Replace) else 0)
            if failed:
                self._drop(op)
                return Ended(failed)
            self._change(op)
        return Ended(0, data)

    def _change(self, op: Op) -> None:
        match op:
            case Allocate(name, size):
                file = self._files.setdefault(name, _File())
                for data in (file.safe, file.seen):
                    data.extend(bytes(max(0, size - len(data))))
            case Write(name, at, data):
                file = self._files.setdefault(name, _File())
                _put(file.seen, at, data)
                file.loose.append((at, data))
                self.written_bytes += len(data)
            case Sync(name):
                file = self._files[name]
                file.safe = bytearray(file.seen)
                file.loose.clear()
                self.syncs += 1
            case Replace(name, data):
                self._files[name] = _File(bytearray(data), bytearray(data))
                self.written_bytes += len(data)
                self.syncs += 2
            case Remove(name):
                self._files.pop(name, None)
            case Read():
                pass

    def _drop(self, op: Op) -> None:
        """A sync that fails may have let go of what was written: the next one then says that all is well."""
        if isinstance(op, Sync) and self.sync_fails and op.name in self._files:
            file = self._files[op.name]
            file.seen = bytearray(file.safe)
            file.loose.clear()

    # -- what is left

    def remains(self, seed: int = 0) -> dict[str, bytes]:
        """The files after a cut: synced bytes, and of the rest whatever sectors happened to get there. Seed 0: none of them; -1: all."""
        chance = random.Random(seed)  # noqa: S311 - which sectors a cut loses, not a secret
        left = {}
        for name, file in self._files.items():
            data = bytearray(file.safe)
            for at, written in file.loose:
                for first, stop in _sectors(at, len(written)):
                    if seed == -1 or (seed and chance.random() < 0.5):
                        _put(data, first, written[first - at : stop - at])
            left[name] = bytes(data)
        return left


def _sectors(at: int, length: int) -> Iterator[tuple[int, int]]:
    """The stretches of a write that a medium takes as a whole."""
    while length > 0:
        stop = min(at + length, (at // SECTOR + 1) * SECTOR)
        yield at, stop
        at, length = stop, at + length - stop


def _put(data: bytearray, at: int, written: bytes) -> None:
    if len(data) < at + len(written):
        data.extend(bytes(at + len(written) - len(data)))
    data[at : at + len(written)] = written
