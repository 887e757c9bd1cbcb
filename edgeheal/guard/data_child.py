# SPDX-License-Identifier: Apache-2.0
"""The data child: works inside an app's own folder, under the app's own uid, once the app is gone (or for a single file, beside it).

Duty: make, copy, migrate and remove data generations; keep, restore and set an app's config; put a secret. Run by the guard, which never touches
anything below a folder that an app can write. Not imported by the resident guard.
Invariants: generation g is never changed by making g+1; a generation appears whole, by rename, after one syncfs; nothing follows a link; what is
copied is bounded in bytes and entries; what is no file, folder or link is left out.

Request (see guard.child): "mode" and "folder" str (data/<app>), "generation" int; further by mode:
  prepare   makes <generation>/, config/, secret/ where missing; "seed" str a file of the image that becomes the config "path" where there is none
            ("" none).                                                                                   Done: {"made": bool, "seeded": bool}
  copy      "source" int, "most_bytes", "most_entries" int; "argv" [str] (migrate, or empty), "env" {}, "cwd" str, "timeout_s" int:
            <source>/ -> <generation>.part, migrate the copy, syncfs, rename.                            Done: {"bytes","entries"}
  back      as copy, the other way: "source" is the older image's generation, "argv" the newer one's `back`, which finds the newer data in
            EDGEHEAL_DATA_FROM ("from" int) and works on the copy in EDGEHEAL_DATA; a failure leaves everything as it was.
  remove    removes <generation> (not with "part" true) and <generation>.part.                                                  Done: {"removed": int}
  keep      "path" str (config in data), "n" int: copy to config/<n>.                                     Done: {"size","mtime"} of the live file
  restore   "path", "n": config/<n> back to the live file.                                                Done: {"size","mtime"}
  set       "path", "check" [str], "env", "cwd", "timeout_s"; descriptor 3 = content (at most 4 MiB): checked, then live. Done: {"size","mtime"}
  first     descriptor 3 = content of a config for which no image says a place yet; "prepare" puts it there.   Done: {"size","mtime"}
  secret    "name" str; descriptor 3 = content (at most 64 KiB).                                          Done: {"size"}
"""

import contextlib
import ctypes
import os
import stat
import subprocess
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import StoreError
from edgeheal.guard import child

STEP = 256 * 1024
MOST_CONFIG = 4 * 1024 * 1024
MOST_SECRET = 64 * 1024
MOST_DEPTH = 64
FIRST = "first"  # config/first: what was set before there was any image
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DataError(StoreError):
    """What the app's folder does not allow; `reason` is a core.reasons number."""

    def __init__(self, message: str, reason: int, *, part: str = "data", hint: str = "") -> None:
        """`part` names the file or step."""
        super().__init__(message, hint=hint)
        self.reason = reason
        self.part = part


def main(_: list[str]) -> int:
    """One request, one answer."""
    return child.run(_work)


def _work(request: dict[str, Any], _: child.Answers) -> dict[str, Any]:
    folder = os.open(request["folder"], FOLDER)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, folder)
        match request["mode"]:
            case "prepare":
                return _prepare(folder, int(request["generation"]), str(request.get("seed", "")), str(request.get("path", "")))
            case "copy" | "back":
                return _copy(folder, request)
            case "remove":
                name = str(int(request["generation"]))
                return {"removed": (0 if request.get("part") else _remove(folder, name)) + _remove(folder, f"{name}.part")}
            case "keep":
                return _keep(folder, request)
            case "restore":
                return _restore(folder, request)
            case "set":
                return _set(folder, request)
            case "first":
                with _opened("config", FOLDER, folder) as kept:
                    return _replace(kept, FIRST, _all(child.PASSED_FD, MOST_CONFIG, "config"))
            case "secret":
                return _secret(folder, str(request["name"]))
    raise DataError(f"unknown mode {request['mode']!r}", reasons.MALFORMED)


def _prepare(folder: int, generation: int, seed: str, path: str) -> dict[str, Any]:
    made = seeded = False
    for name, mode in ((str(generation), 0o700), ("config", 0o700), ("secret", 0o700)):
        try:
            os.mkdir(name, mode, dir_fd=folder)
            made = True
        except FileExistsError:
            os.close(os.open(name, FOLDER, dir_fd=folder))
    os.fsync(folder)
    if path:
        with _place(folder, generation, path, make=True) as (place, name):
            if not _there(name, place):
                seeded = _seed(folder, seed, place, name)
    return {"made": made, "seeded": seeded}


def _seed(folder: int, seed: str, place: int, name: str) -> bool:
    """The first content of a config that is not there: what a person set before there was an image, else what the image brings."""
    with _opened("config", FOLDER, folder) as kept:
        if _there(FIRST, kept):
            data, _ = _read(kept, FIRST, MOST_CONFIG)
            _replace(place, name, data)
            os.unlink(FIRST, dir_fd=kept)
            return True
    if not seed or not os.path.isfile(seed):
        return False
    with open(seed, "rb") as file:
        _replace(place, name, file.read(MOST_CONFIG))
    return True


class _Copying:
    """A copy under way: how much may still be taken."""

    def __init__(self, most_bytes: int, most_entries: int) -> None:
        self.left_bytes = most_bytes or 1 << 62
        self.left_entries = most_entries or 1 << 62
        self.bytes = 0
        self.entries = 0

    def take(self, count: int, entries: int = 0) -> None:
        """Count; NO_SPACE beyond the bound."""
        self.bytes += count
        self.entries += entries
        if self.bytes > self.left_bytes or self.entries > self.left_entries:
            raise DataError("the copy is larger than the app's quota", reasons.NO_SPACE, hint="raise max_bytes or max_inodes of the app, or clean its data")

    def tree(self, source: int, target: int, depth: int = 0) -> None:
        """Everything below `source` into the empty `target`, links as links."""
        if depth > MOST_DEPTH:
            raise DataError("folders nested too deep", reasons.TOO_MANY)
        for name in sorted(os.listdir(source)):
            said = os.stat(name, dir_fd=source, follow_symlinks=False)
            self.take(0, 1)
            if stat.S_ISDIR(said.st_mode):
                os.mkdir(name, 0o700, dir_fd=target)
                with _opened(name, FOLDER, source) as inner, _opened(name, FOLDER, target) as made:
                    self.tree(inner, made, depth + 1)
                    os.fchmod(made, stat.S_IMODE(said.st_mode) & 0o777)
            elif stat.S_ISLNK(said.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            elif stat.S_ISREG(said.st_mode):
                self.file(name, source, name, target, stat.S_IMODE(said.st_mode) & 0o777, said.st_mtime_ns)

    def file(self, name: str, source: int, to: str, target: int, mode: int, mtime_ns: int = 0) -> None:
        """One regular file."""
        with (
            _opened(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, source) as read,
            _opened(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, target, mode or 0o600) as write,
        ):
            if not stat.S_ISREG(os.fstat(read).st_mode):
                raise DataError(f"{name} is no file any more", reasons.BAD_OBJECT)
            while data := os.read(read, STEP):
                self.take(len(data))
                while data:
                    data = data[os.write(write, data) :]
            os.fchmod(write, mode)
            if mtime_ns:
                os.utime(write, ns=(mtime_ns, mtime_ns))


@contextlib.contextmanager
def _opened(name: str, flags: int, folder: int, mode: int = 0o600) -> Any:
    fd = os.open(name, flags, mode, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _copy(folder: int, request: dict[str, Any]) -> dict[str, Any]:
    """A new generation out of an old one, which stays as it is."""
    source, target = str(int(request["source"])), str(int(request["generation"]))
    part = f"{target}.part"
    _remove(folder, part)
    if _there(target, folder):
        raise DataError(f"generation {target} is there already", reasons.ALREADY)
    copying = _Copying(int(request.get("most_bytes", 0)), int(request.get("most_entries", 0)))
    os.mkdir(part, 0o700, dir_fd=folder)
    try:
        with _opened(source, FOLDER, folder) as read, _opened(part, FOLDER, folder) as made:
            copying.tree(read, made)
        if request.get("argv"):
            place = f"{request['folder']}/{part}"
            newer = int(request.get("from", request["source"]))
            _program(
                request, {"EDGEHEAL_DATA": place, "EDGEHEAL_DATA_FROM": f"{request['folder']}/{newer}"}, place, str(request["mode"]).replace("copy", "migrate")
            )
        with _opened(part, FOLDER, folder) as made:
            _sync(made)
    except (DataError, OSError):
        _remove(folder, part)
        raise
    os.rename(part, target, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)
    return {"bytes": copying.bytes, "entries": copying.entries}


def _sync(folder: int) -> None:
    """One checked syncfs: it returns what write-back could not keep. Where libc has none, everything is flushed."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        os.sync()
    elif call(folder) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _program(request: dict[str, Any], more: dict[str, str], cwd: str, what: str) -> None:
    """Run a program of the image on a copy; its failure is a hook's *no*."""
    env = {str(k): str(v) for k, v in request.get("env", {}).items()} | more
    try:
        done = subprocess.run(
            [str(w) for w in request["argv"]], env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=None,
            timeout=int(request.get("timeout_s", 60)), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DataError(f"{what} did not end in time", reasons.TIMEOUT, part=what, hint="the old data stands; see the app's log") from None
    except OSError as fault:
        raise DataError(f"{what} could not be started: {fault.strerror}", reasons.HOOK, part=what) from None
    if done.returncode != 0:
        raise DataError(f"{what} ended with {done.returncode}", reasons.HOOK, part=what, hint="the old data stands; see the app's log")


def _there(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove(folder: int, name: str) -> int:
    """Entries removed; links are removed, never followed."""
    try:
        said = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if not stat.S_ISDIR(said.st_mode):
        os.unlink(name, dir_fd=folder)
        return 1
    with _opened(name, FOLDER, folder) as inner:
        os.fchmod(inner, 0o700)
        count = sum(_remove(inner, entry) for entry in os.listdir(inner))
    os.rmdir(name, dir_fd=folder)
    return count + 1


# -- config and secrets ---------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _place(folder: int, generation: int, path: str, *, make: bool = False) -> Any:
    """(descriptor of the folder that holds the config, its name), reached component by component."""
    *parents, name = path.split("/")
    if not name or any(p in ("", ".", "..") for p in (*parents, name)):
        raise DataError(f"no path in data: {path}", reasons.MALFORMED)
    fd = os.open(str(generation), FOLDER, dir_fd=folder)
    try:
        for part in parents:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=fd)
            inner = os.open(part, FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd, name
    finally:
        os.close(fd)


def _replace(folder: int, name: str, data: bytes, mode: int = 0o600) -> dict[str, Any]:
    """Temp, fsync, rename, fsync of the folder, read back."""
    temp = f".{name}.edgeheal"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temp, dir_fd=folder)
    with _opened(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, folder, 0o600) as fd:
        rest = data
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fchmod(fd, mode)
        os.fsync(fd)
        if os.pread(fd, len(data) + 1, 0) != data:
            raise DataError(f"{name}: read back something else", reasons.UNWRITABLE)
    os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)
    said = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return {"size": said.st_size, "mtime": said.st_mtime_ns}


def _read(folder: int, name: str, most: int) -> tuple[bytes, os.stat_result]:
    with _opened(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, folder) as fd:
        said = os.fstat(fd)
        if not stat.S_ISREG(said.st_mode):
            raise DataError(f"{name} is no file", reasons.BAD_OBJECT)
        return _all(fd, most, name), said


def _all(fd: int, most: int, name: str) -> bytes:
    data = b""
    while piece := os.read(fd, STEP):
        data += piece
        if len(data) > most:
            raise DataError(f"{name}: more than {most} bytes", reasons.TOO_LARGE)
    return data


def _keep(folder: int, request: dict[str, Any]) -> dict[str, Any]:
    with _place(folder, int(request["generation"]), request["path"]) as (place, name):
        try:
            data, said = _read(place, name, MOST_CONFIG)
        except FileNotFoundError:
            return {"size": -1, "mtime": 0}
    with _opened("config", FOLDER, folder) as kept:
        _replace(kept, str(int(request["n"])), data)
    return {"size": said.st_size, "mtime": said.st_mtime_ns}


def _restore(folder: int, request: dict[str, Any]) -> dict[str, Any]:
    with _opened("config", FOLDER, folder) as kept:
        try:
            data, _ = _read(kept, str(int(request["n"])), MOST_CONFIG)
        except FileNotFoundError:
            raise DataError(f"no config {request['n']} was kept", reasons.NOTHING_TO_DO) from None
    with _place(folder, int(request["generation"]), request["path"], make=True) as (place, name):
        return _replace(place, name, data)


def _set(folder: int, request: dict[str, Any]) -> dict[str, Any]:
    data = _all(child.PASSED_FD, MOST_CONFIG, "config")
    with _place(folder, int(request["generation"]), request["path"], make=True) as (place, name):
        if request.get("argv"):
            trial = f".{name}.trial"
            _replace(place, trial, data)
            where = f"{request['folder']}/{int(request['generation'])}/{os.path.dirname(request['path'])}".rstrip("/")
            try:
                _program(request, {"EDGEHEAL_CONFIG": f"{where}/{trial}"}, request["cwd"], "check")
            finally:
                os.unlink(trial, dir_fd=place)
        return _replace(place, name, data)


def _secret(folder: int, name: str) -> dict[str, Any]:
    if not name or len(name) > 32 or name.startswith(".") or "/" in name or not name.isprintable():
        raise DataError(f"no name of a secret: {name!r}", reasons.MALFORMED)
    data = _all(child.PASSED_FD, MOST_SECRET, "secret")
    with contextlib.suppress(FileExistsError):
        os.mkdir("secret", 0o700, dir_fd=folder)
    with _opened("secret", FOLDER, folder) as place:
        return {"size": _replace(place, name, data, 0o400)["size"]}
