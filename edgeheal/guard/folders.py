# SPDX-License-Identifier: Apache-2.0
"""Moving about below a folder by descriptors, following no link.

Duty: open, make and remove below one open folder, component by component. For the guard's children, which meet folders that
somebody else may be changing at the same moment.
Invariants: a component that is a link (or no folder) is an error, never followed; the cached folders are those of the last path,
so sorted paths cost one open a folder.
"""

import contextlib
import os
import stat
from types import TracebackType
from typing import Self

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 64


class Folder:
    """An open folder and the folders below it on the way to the last path."""

    __slots__ = ("_stack", "fd")

    def __init__(self, path: str, below: int | None = None) -> None:
        """Open `path` (relative to the folder descriptor `below`, if given); a link is refused."""
        self.fd = os.open(path, FOLDER_FLAGS, dir_fd=below)
        self._stack: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        """The folder itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Close everything."""
        self.close()

    def close(self) -> None:
        """Close all descriptors."""
        self._pop(0)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _pop(self, keep: int) -> None:
        while len(self._stack) > keep:
            os.close(self._stack.pop()[1])

    def at(self, path: str, *, make: int = 0) -> tuple[int, str]:
        """(descriptor of the folder that holds the last component, that component); missing folders are made with mode `make`, if given.

        The descriptor is valid until the next call.
        """
        *folders, name = path.split("/")
        if len(folders) > MAX_DEPTH:
            raise OSError(36, "too deep", path)
        same = 0
        while same < len(folders) and same < len(self._stack) and self._stack[same][0] == folders[same]:
            same += 1
        self._pop(same)
        for folder in folders[same:]:
            above = self._stack[-1][1] if self._stack else self.fd
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, make, dir_fd=above)
            fd = os.open(folder, FOLDER_FLAGS, dir_fd=above)
            self._stack.append((folder, fd))
            if make:
                os.fchmod(fd, make)
        return (self._stack[-1][1] if self._stack else self.fd), name

    def open(self, path: str) -> tuple[int, os.stat_result]:
        """A descriptor to read a regular file, and its status; OSError for anything else."""
        folder, name = self.at(path)
        fd = os.open(name, READ_FLAGS, dir_fd=folder)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise OSError(22, "is no regular file", path)
        return fd, status

    def status(self, path: str) -> os.stat_result:
        """Its lstat."""
        folder, name = self.at(path)
        return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def read(self, path: str, most: int) -> bytes:
        """The whole of a regular file of at most `most` bytes; OSError when it is longer."""
        fd, status = self.open(path)
        try:
            if status.st_size > most:
                raise OSError(27, "is too long", path)
            data = b""
            while len(data) <= min(most, status.st_size):
                piece = os.read(fd, min(most, status.st_size) + 1 - len(data))
                if not piece:
                    return data
                data += piece
            raise OSError(27, "is too long", path)
        finally:
            os.close(fd)

    def write(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """Make (or replace) a file with this content."""
        folder, name = self.at(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        fd = os.open(name, NEW_FLAGS, 0o600, dir_fd=folder)
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
        finally:
            os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """All of `data`, in as many writes as it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def remove(name: str, below: int, depth: int = 0) -> int:
    """Remove an entry with all below it, following nothing; how many entries went. Missing is 0."""
    try:
        status = os.stat(name, dir_fd=below, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=below)
        return 1
    if depth > MAX_DEPTH:
        raise OSError(36, "too deep", name)
    fd = os.open(name, FOLDER_FLAGS, dir_fd=below)
    try:
        if not status.st_mode & 0o200 and status.st_uid == os.geteuid():
            os.fchmod(fd, 0o700)
        gone = sum(remove(entry, fd, depth + 1) for entry in os.listdir(fd))
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=below)
    return gone + 1
