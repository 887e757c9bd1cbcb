# SPDX-License-Identifier: Apache-2.0
"""The agent's folder on the medium: batches of small operations, run in order by one thread, so that no fsync stops the loop.

Duty: carry out `journal.ops` below one folder and answer in the loop's thread. It decides nothing and retries nothing.
Invariants: one batch at a time, in order; the first failure ends its batch and is told by number; a medium that never answers
costs this one thread, never the loop; no wake-up at rest. Implements `ports.Disk`.
"""

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from edgeheal.core.errors import JournalError
from edgeheal.journal.ops import Allocate, Ended, Op, Read, Remove, Replace, Sync, Write

OPEN_MOST = 8
LOOK_NS = 200_000_000
FILE_MODE = 0o640
FOLDER_MODE = 0o2750
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW

Done = Callable[[Ended], None]


class Files:
    """The operations themselves, below `root`; used by one thread at a time. Raises OSError."""

    def __init__(self, root: str) -> None:
        """`root` is made when something is first written there."""
        self._root = root
        self._open: dict[str, int] = {}
        self._young: set[str] = set()  # made by us, their folder not synced yet
        self._loose: set[str] = set()  # written to, not synced yet

    def run(self, ops: Sequence[Op]) -> bytes:
        """All of a batch; what its last `Read` gave."""
        data = b""
        if len(ops) == 2 and self._at_once(*ops):
            return data
        for op in ops:
            match op:
                case Allocate():
                    self._allocate(op.name, op.size_bytes)
                case Write():
                    self._loose.add(op.name)
                    self._write(self._file(op.name), op.at, op.data)
                case Sync():
                    self._sync(op.name)
                case Replace():
                    self._replace(op.name, op.data)
                case Remove():
                    self._forget(op.name)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self._path(op.name))
                case Read():
                    data = self.read(op.name, op.at, op.length)
        return data

    def _at_once(self, first: Op, second: Op) -> bool:
        """The commonest batch, one write and its sync, as one call; False: not that, or the file system cannot."""
        if not (isinstance(first, Write) and isinstance(second, Sync) and first.name == second.name) or first.name in self._loose:
            return False
        fd = self._file(first.name)
        if first.name in self._young:
            return False
        try:
            return os.pwritev(fd, [first.data], first.at, os.RWF_DSYNC) == len(first.data)
        except OSError as fault:
            if fault.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return False
            raise

    def read(self, name: str, at: int, length: int) -> bytes:
        """Bytes of a file, shorter at its end."""
        fd = self._open.get(name)
        if fd is not None:
            return os.pread(fd, length, at)
        fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.pread(fd, length, at)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of all descriptors."""
        for name in list(self._open):
            self._forget(name)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _folder(self, name: str) -> str:
        return os.path.dirname(self._path(name))

    def _forget(self, name: str) -> None:
        fd = self._open.pop(name, None)
        if fd is not None:
            os.close(fd)

    def _file(self, name: str) -> int:
        fd = self._open.pop(name, None)
        if fd is None:
            try:
                fd = os.open(self._path(name), _FLAGS)
            except FileNotFoundError:
                os.makedirs(self._folder(name), FOLDER_MODE, exist_ok=True)
                fd = os.open(self._path(name), _FLAGS | os.O_CREAT, FILE_MODE)
                self._young.add(name)
        self._open[name] = fd
        while len(self._open) > OPEN_MOST:
            self._forget(next(iter(self._open)))
        return fd

    @staticmethod
    def _write(fd: int, at: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, at)
            view, at = view[done:], at + done

    def _sync(self, name: str) -> None:
        fd = self._file(name)
        if name not in self._young:
            os.fdatasync(fd)
            self._loose.discard(name)
            return
        os.fsync(fd)
        _sync_folder(self._folder(name))
        self._young.discard(name)
        self._loose.discard(name)

    def _allocate(self, name: str, size_bytes: int) -> None:
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_size >= size_bytes:
                return
            fd = self._file(name)
            os.posix_fallocate(fd, 0, size_bytes)
            os.fsync(fd)
            return
        os.makedirs(self._folder(name), FOLDER_MODE, exist_ok=True)
        part = f"{path}.part"
        fd = os.open(part, _FLAGS | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            os.fsync(fd)
        except OSError:
            os.unlink(part)
            raise
        finally:
            os.close(fd)
        os.rename(part, path)
        _sync_folder(self._folder(name))

    def _replace(self, name: str, data: bytes) -> None:
        self._forget(name)
        os.makedirs(self._folder(name), FOLDER_MODE, exist_ok=True)
        part = f"{self._path(name)}.part"
        fd = os.open(part, _FLAGS | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        try:
            self._write(fd, 0, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(part, self._path(name))
        _sync_folder(self._folder(name))


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class FolderDisk:
    """`ports.Disk` over a real folder."""

    def __init__(self, root: str) -> None:
        """`root`: the agent's folder. The thread starts with the first batch."""
        self._files = Files(root)
        self._start_files = Files(root)
        self._root = root
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._asked: SimpleQueue[tuple[int, Sequence[Op]] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[int, Ended]] = SimpleQueue()
        self._out: dict[int, Done] = {}
        self._since: dict[int, int] = {}
        self._longest_ns = 0
        self._tickets = 0
        self._awaited = 0  # the ticket that the loop's thread blocks on: its end needs no bell
        self._look_ns = 0
        self._thread: threading.Thread | None = None

    def submit(self, ops: Sequence[Op], done: Done) -> int:
        """See `ports.Disk`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="disk", daemon=True)
            self._thread.start()
        self._tickets += 1
        self._out[self._tickets] = done
        self._since[self._tickets] = time.monotonic_ns()
        self._asked.put((self._tickets, ops))
        return self._tickets

    def wait(self, ticket: int, timeout_s: float) -> Ended | None:
        """See `ports.Disk`. Batches asked for before it are answered on the way."""
        deadline = time.monotonic() + timeout_s
        self._awaited = ticket
        try:
            while ticket in self._out:
                got, ended = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
                self._give(got, ended)
                if got == ticket:
                    return ended
        except Empty:
            self._look_ns = time.monotonic_ns() + LOOK_NS  # its bell may have been left out just now
        finally:
            self._awaited = 0
        return None

    def names(self, folder: str) -> dict[str, int]:
        """See `ports.Disk`."""
        found = {}
        try:
            with os.scandir(f"{self._root}/{folder}") as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        found[f"{folder}/{entry.name}"] = entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            return {}
        except OSError as fault:
            raise JournalError(fault.strerror or str(fault), place=f"{self._root}/{folder}") from None
        return found

    def read(self, name: str, at: int, length: int) -> bytes:
        """See `ports.Disk`."""
        return self._start_files.read(name, at, length)

    def fds(self) -> dict[int, int]:
        """The bell that rings when a batch has ended."""
        return {self._bell: select.POLLIN}

    def ready(self, fd: int, events: int) -> None:
        """Hand out the answers that are there."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(fd)
        while True:
            try:
                ticket, ended = self._answers.get_nowait()
            except Empty:
                return
            self._give(ticket, ended)

    def longest_ms(self) -> int:
        """The longest that a batch took (or has been out) since this was asked last, from its being asked for."""
        now_ns = time.monotonic_ns()
        longest_ns = max(self._longest_ns, now_ns - min(self._since.values(), default=now_ns))
        self._longest_ns = 0
        return longest_ns // 1_000_000

    def _give(self, ticket: int, ended: Ended) -> None:
        self._longest_ns = max(self._longest_ns, time.monotonic_ns() - self._since.pop(ticket))
        self._out.pop(ticket)(ended)

    def due(self) -> int:
        """Only while a batch is out that somebody waited for in vain."""
        return self._look_ns

    def tick(self, now_ns: int) -> None:
        """Look for its answer."""
        if self._look_ns and now_ns >= self._look_ns:
            self.ready(self._bell, select.POLLIN)
            self._look_ns = now_ns + LOOK_NS if self._out else 0

    def close(self, timeout_s: float = 2.0) -> bool:
        """End the thread once all batches have ended; False when the medium did not answer within the time."""
        deadline = time.monotonic() + timeout_s
        for ticket in list(self._out):
            self.wait(ticket, max(0.0, deadline - time.monotonic()))
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive():
                return False
        self._thread = None
        os.close(self._bell)
        return True

    def _work(self) -> None:
        while (task := self._asked.get()) is not None:
            ticket, ops = task
            started = time.monotonic_ns()
            data, number = b"", 0
            try:
                data = self._files.run(ops)
            except OSError as fault:
                number = fault.errno or errno.EIO
            ring = self._awaited != ticket
            self._answers.put((ticket, Ended(number, data, (time.monotonic_ns() - started) // 1_000)))
            if ring:
                os.eventfd_write(self._bell, 1)
        self._files.close()
