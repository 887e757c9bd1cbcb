# SPDX-License-Identifier: Apache-2.0
"""The power goes, the disk is full, or a call fails, at every system call of install, switch, mark, rollback and collect: old or new, never neither.

One life of a device's store, by the shipped parts in the guard's order: a bundle is imported, stored, made WRITTEN, tried, marked good; the box goes back to
the old image; an unneeded one is dropped and removed. At each call that touches the file system a process of its own is (a) killed, a write half done,
(b) told ENOSPC, (c) told EIO, reads included. Then the records are loaded, every byte of every image they name is proven, and the life is lived again to
its end. As root each kill is also a *crash state*: the block device is copied at that moment, without what was not flushed, mounted, and judged likewise.
Points that leave neither old nor new, an untyped error, or a life that cannot be finished are `broken`. Env: BENCH_EVERY (each n-th point, default 1).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
REPO = str(HERE.parent)
sys.path[:0] = [REPO, str(HERE.parent / "tests" / "images")]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGES = (
    "open", "write", "pwrite", "rename", "link", "unlink", "mkdir", "rmdir", "symlink", "fchmod", "utime", "fsync", "fdatasync", "ftruncate", "remove",
)  # fmt: skip
READS = ("read", "pread", "stat", "listdir", "readlink")
DISK_BYTES = 24 * 1024 * 1024
FINE, BROKEN = 0, 9  # exit statuses of a judge


class Fault:
    """Counts calls of `os` in this process and spoils the n-th."""

    def __init__(self, how: str, at: int) -> None:
        """`how`: "count", "kill", or the name of an errno."""
        self.how = how
        self.at = at
        self.count = 0

    def install(self) -> None:
        """From now on, in this process."""
        from edgeheal.guard import storer

        for name in (*CHANGES, *(READS if self.how == "EIO" else ())):
            setattr(os, name, self._around(name, getattr(os, name)))
        storer.sync_all = self._around("syncfs", storer.sync_all)

    def _around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            if name == "open" and self.how != "EIO" and not words[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                return real(*words, **more)
            self.count += 1
            if self.count == self.at:
                self._strike(name, real, words)
            return real(*words, **more)

        return call

    def _strike(self, name: str, real: Callable[..., Any], words: tuple[Any, ...]) -> None:
        if self.how == "kill":
            if name in ("write", "pwrite"):
                real(words[0], bytes(words[1])[: len(words[1]) // 2], *words[2:])
            os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, self.how)
        raise OSError(code, os.strerror(code))


class Silent:
    """Answers that nobody reads."""

    def progress(self, *_: Any) -> None:
        """Nothing."""


class Store:
    """A device's store and records below one folder, and the life lived in it."""

    def __init__(self, folder: Path, world: World) -> None:
        """`world` holds the bundles."""
        self.folder = folder
        self.world = world

    def _parts(self) -> Any:
        from edgeheal.guard.deployments import Deployments
        from edgeheal.guard.marks import Marks

        (self.folder / "guard").mkdir(exist_ok=True, parents=True)
        held = Deployments("demo", str(self.folder / "guard"), Marks(str(self.folder / "guard")), lambda *_: None)
        found = held.load()
        return held, found

    def install(self, made: Any) -> None:
        """Import, store, launch record, WRITTEN; whatever was done before is taken up."""
        from edgeheal.core import reasons
        from edgeheal.core.errors import ImageError
        from edgeheal.guard import importer, storer
        from edgeheal.guard.appstate import Deployment
        from edgeheal.guard.blocks import sync_folder
        from edgeheal.image.reader import BundleReader

        staging, store = str(self.folder / "staging"), str(self.folder / "store")
        request = {
            "staging": staging, "store": store, "trust": self.world.trust, "device": ["gateway"], "apps": ["demo"], "floors": {}, "blocked": [],
            "interpreters": [], "quota": 0,
        }  # fmt: skip
        importer.Import(request, BundleReader(io.BytesIO(made.data).read), Silent()).run()  # type: ignore[arg-type]
        try:
            storer.work({"mode": "store", "staging": staging, "store": store, "app": "demo", "id": made.id}, Silent())  # type: ignore[arg-type]
        except ImageError as fault:
            if fault.reason != reasons.ALREADY:
                raise
            if not self.whole(made.id):
                raise
            storer.work({"mode": "clean", "staging": staging, "store": store, "app": "demo", "id": made.id}, Silent())  # type: ignore[arg-type]
        held, _ = self._parts()
        if made.id not in held.state.deployments:
            path = f"{self.folder}/guard/{made.id.hex()}.launch"
            fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(fd, b"launch record of " + made.id)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(f"{path}.new", path)
            sync_folder(f"{self.folder}/guard")
            one = Deployment(made.id, made.version, made.id[::-1])
            one.security = 3
            held.written(one)

    def good(self, made: Any) -> None:
        """Try it, mark it good."""
        from edgeheal.core.deployment import GOOD, TRIAL

        held, _ = self._parts()
        one = held.state.deployments[made.id]
        if one.state != GOOD and (one.state != TRIAL or held.state.run != made.id):
            held.try_(made.id, data=1, soak_s=5)
        if held.state.deployments[made.id].state == TRIAL:
            held.soaked(made.id, (0, 3))

    def back(self) -> None:
        """To the first image."""
        held, _ = self._parts()
        if held.state.run != self.world.one.id:
            held.switch(self.world.one.id)

    def collect(self) -> None:
        """The second image leaves the state, then the store; nobody's trash goes, too."""
        from edgeheal.core.deployment import EMPTY
        from edgeheal.guard import storer

        held, _ = self._parts()
        gone = self.world.two.id
        if gone in held.state.deployments and held.state.deployments[gone].state != EMPTY:
            held.drop(gone)
        app = self.folder / "store/demo"
        if (app / gone.hex()).exists():
            with contextlib.suppress(FileExistsError):
                os.mkdir(app / "trash", 0o755)
            os.rename(app / gone.hex(), app / "trash" / gone.hex())
        request = {"mode": "clean", "staging": str(self.folder / "staging"), "store": str(self.folder / "store"), "app": "demo", "id": gone}
        storer.work(request, Silent())  # type: ignore[arg-type]

    def life(self) -> None:
        """All of it."""
        self.install(self.world.three)
        self.good(self.world.three)
        self.back()
        self.collect()

    def whole(self, image: bytes) -> bool:
        """Every byte of an installed image."""
        from edgeheal.guard import prover

        return not prover.full({"tree": f"{self.folder}/store/demo/{image.hex()}", "id": image}, Silent())["reason"]  # type: ignore[arg-type]

    def judge(self) -> str:
        """What is broken now, and after the life was lived to its end; "" when nothing is."""
        return self._sound() or self._again()

    def _sound(self) -> str:
        from edgeheal.core.deployment import BAD, EMPTY, GOOD, UNKNOWN
        from edgeheal.guard.blocks import FOUND

        held, found = self._parts()
        if found != FOUND:
            return f"the record is {('fresh', 'found', 'damaged', 'newer')[found]}"
        state = held.state
        if state.run not in (self.world.one.id, self.world.three.id):
            return "run names neither the old nor the new image"
        if state.deployments.get(self.world.one.id) is None or state.deployments[self.world.one.id].state != GOOD:
            return "the known-good is gone"
        for one in state.deployments.values():
            if one.state in (EMPTY, BAD, UNKNOWN):
                return f"{one.version} is in a state that nothing led to"
            if not self.whole(one.id):
                return f"{one.version} is in the books, and not whole on disk"
            if not (self.folder / "guard" / f"{one.hex}.launch").exists():
                return f"{one.version} has no launch record"
        return ""

    def _again(self) -> str:
        try:
            self.life()
        except Exception as fault:  # noqa: BLE001 - a judge: whatever it is, the life could not be finished
            return f"cannot be finished: {type(fault).__name__}: {fault}"
        held, _ = self._parts()
        if sorted(held.state.deployments) != sorted((self.world.one.id, self.world.three.id)) or held.state.run != self.world.one.id:
            return "the end is another one"
        if os.listdir(self.folder / "staging") or sorted(os.listdir(self.folder / "store/demo/trash")):
            return "something is left in staging or trash"
        return self._sound()


class Image:
    """A bundle by itself."""

    def __init__(self, version: str, files: dict[str, tuple[bytes, bool]]) -> None:
        """Signed by the workshop's release key."""
        from workshop import Made

        made = Made(
            {"app": (b"#!/bin/sh\nexec sleep 9\n", True)} | files, run={"argv": ["app"]}, version=version, links=(("current", "app"),), folders=("empty",)
        )
        self.version, self.id, self.data = version, made.id, made.bytes()


class World:
    """Three images that share most of their files, and the trust that signs them."""

    def __init__(self) -> None:
        """The same each time."""
        from workshop import make_trust

        from edgeheal.trust import envelope

        shared = {f"lib/f{n:02}": (b"%d" % n * 700, n % 5 == 0) for n in range(12)}
        self.trust = envelope.encode(make_trust())
        self.one = Image("1.0", shared | {"own": (b"1" * 3000, False)})
        self.two = Image("2.0", shared | {"own": (b"2" * 3000, False)})
        fresh = {f"new/{n % 4}/f{n:02}": (os.urandom(900 + 90 * n), n % 3 == 0) for n in range(98)}
        self.three = Image("3.0", shared | fresh | {"big": (os.urandom(70_000), False), "nothing": (b"", False)})


def forked(work: Callable[[], int]) -> int:
    """Exit status of `work` in a process of its own; -9 when it was killed."""
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def spoiled(store: Store, fault: Fault, told: Path) -> Callable[[], int]:
    """The life with its fault. A typed end is fine, any other is not."""

    def work() -> int:
        from edgeheal.core.errors import EdgeHealError
        from edgeheal.guard.steps import Refused

        fault.install()
        try:
            store.life()
        except (EdgeHealError, OSError, Refused):
            return FINE  # an OSError is typed by the child's edge (guard.child), a Refused is the guard's own answer
        except Exception as wrong:  # noqa: BLE001 - the judge of untyped ends
            told.write_text(f"untyped: {type(wrong).__name__}: {wrong}")
            return BROKEN
        finally:
            if not fault.at or fault.at > fault.count:
                told.write_text(str(fault.count))
        return FINE

    return work


class Bench:
    """All points of all kinds, in one folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` is ours alone."""
        self.folder = folder
        self.world = World()
        self.every = max(1, int(os.environ.get("BENCH_EVERY", "1")))
        self.broken: list[str] = []
        self.base = folder / "base"
        self._first()

    def _first(self) -> None:
        """The device before: the first image is known good and runs, the second waits."""
        for name in ("staging", "store", "guard"):
            (self.base / name).mkdir(parents=True)
        store = Store(self.base, self.world)
        store.install(self.world.two)
        store.install(self.world.one)
        store.good(self.world.one)

    def count(self, how: str) -> int:
        """Calls of a whole life, as this kind counts them."""
        with self.fresh() as work:
            fault = Fault(how, 0)
            told = self.folder / "told"
            if forked(spoiled(Store(work, self.world), fault, told)):
                raise SystemExit(f"bench powercut: a life without a fault ends badly: {told.read_text()}")
            return int(told.read_text())

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """A copy of the device before."""
        work = self.folder / "work"
        subprocess.run(["cp", "-a", str(self.base), str(work)], check=True)
        try:
            yield work
        finally:
            shutil.rmtree(work)

    def point(self, how: str, at: int) -> None:
        """One fault, and its judgement."""
        told = self.folder / "told"
        with self.fresh() as work:
            code = forked(spoiled(Store(work, self.world), Fault(how, at), told))
            wrong = told.read_text() if code == BROKEN else "" if code in (FINE, -signal.SIGKILL) else f"ended with {code}"
            self.verdict(how, at, wrong or self.judged(work))

    def judged(self, work: Path) -> str:
        """The judge's word, from a process of its own."""
        said = self.folder / "said"

        def work_of_judge() -> int:
            word = Store(work, self.world).judge()
            said.write_text(word)
            return BROKEN if word else FINE

        return said.read_text() if (code := forked(work_of_judge)) == BROKEN else "" if code == FINE else f"the judge ended with {code}"

    def verdict(self, how: str, at: int, wrong: str) -> None:
        """Keep what is broken."""
        if wrong:
            self.broken.append(f"{how} at {at}: {wrong}")
            print(self.broken[-1], file=sys.stderr)

    def crash_states(self, most: int) -> int:
        """Each kill on a device of its own whose blocks are copied at that moment: what was not flushed is lost."""
        count = 0
        disk, copy, here, there = (self.folder / name for name in ("disk", "copy", "here", "there"))
        here.mkdir()
        there.mkdir()
        with (self.folder / "disk.base").open("wb") as file:
            file.truncate(DISK_BYTES)
        mkfs = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", str(self.base), str(self.folder / "disk.base")]
        subprocess.run(mkfs, check=True, capture_output=True)
        for at in range(1, most + 1, self.every):
            shutil.copyfile(self.folder / "disk.base", disk)
            with mounted(disk, here):
                forked(spoiled(Store(here, self.world), Fault("kill", at), self.folder / "told"))
                shutil.copyfile(disk, copy)
            with mounted(copy, there):
                self.verdict("crash state of kill", at, self.judged(there))
            count += 1
        return count


@contextlib.contextmanager
def mounted(disk: Path, place: Path) -> Iterator[None]:
    """An ext4 that flushes only when it is told to, or when it must."""
    subprocess.run(["mount", "-o", "loop,commit=300", str(disk), str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def run() -> dict[str, Any]:
    """The figures."""
    os.nice = lambda _step: 0  # a full look gives way to everybody; a judge here is waited for
    began = time.monotonic()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="bench-powercut-", dir=memory) as name:
        bench = Bench(Path(name))
        points: dict[str, int] = {}
        for how in ("kill", "ENOSPC", "EIO"):
            most = bench.count("EIO" if how == "EIO" else "count")
            points[how] = 0
            for at in range(1, most + 1, bench.every):
                bench.point(how, at)
                points[how] += 1
            print(f"{how}: {points[how]} points, {len(bench.broken)} broken", file=sys.stderr)
        crash: Any = {"skipped": "needs root, mount and mkfs.ext4"}
        if os.geteuid() == 0 and shutil.which("mkfs.ext4") and shutil.which("mount"):
            crash = bench.crash_states(bench.count("count"))
        return {
            "points": sum(points.values()), "by_kind": points, "crash_states": crash, "broken": len(bench.broken), "first_broken": bench.broken[:5],
            "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip
