# SPDX-License-Identifier: Apache-2.0
"""App images: build, verify, install, roll back, start check; each as a ratio to (tar x + sha256 of the plain tar) of the same run, beside peers.

64 MiB in 4,008 files, half of them compressible, on a fresh ext4 on a loop device in memory (as root; else in the folder given, and said so).
What runs is what ships: `edgeheal image build | verify`, the guard's own children (importer, storing child, verifier) with the requests that the guard
makes, and the guard's own switch. Every figure is a whole process, its start included; `in_process` says what is left without it. Medians of the rounds.
Env: BENCH_DIR (where), BENCH_ROUNDS (default 4).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

HERE = Path(__file__).resolve().parent
REPO = str(HERE.parent)
sys.path[:0] = [str(HERE), REPO]

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024 * 1024
SMALL, LARGE, LARGE_BYTES = 4_000, 8, 4 * MIB
TOTAL = 64 * MIB
DEVICE_BYTES = 1_500 * MIB
PYTHON = [sys.executable, "-I"]
# its own process, small, so that the peak memory of what it starts is that program's and nobody else's
RUNNER = """import json, os, sys, time
began = time.monotonic_ns()
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(pid, 0)
taken = time.monotonic_ns() - began
json.dump({"s": taken / 1e9, "cpu_s": used.ru_utime + used.ru_stime, "rss_mib": used.ru_maxrss / 1024, "code": os.waitstatus_to_exitcode(status)}, open(sys.argv[1], "w"))
"""


class Took(NamedTuple):
    """One process from start to end."""

    s: float
    rss_mib: float
    cpu_s: float
    out: bytes


def timed(words: list[str], *, folder: Path, stdin: bytes = b"", passed: Path | None = None) -> Took:
    """Run it to its end; SystemExit with its words when it fails."""
    program = shutil.which(words[0])
    if program is None:
        raise SystemExit(f"bench images: no {words[0]} here")
    (folder / "in").write_bytes(stdin)
    with (folder / "in").open("rb") as given, (folder / "out").open("wb") as out, (folder / "err").open("wb") as err, contextlib.ExitStack() as stack:
        pass_fds = ()
        setup = None
        if passed is not None:
            fd = os.open(passed, os.O_RDONLY)
            stack.callback(os.close, fd)
            pass_fds = (3,)

            def setup() -> None:
                os.dup2(fd, 3)

        runner = [sys.executable, "-I", "-S", "-c", RUNNER, str(folder / "took"), program, *words[1:]]
        env = {**os.environ, "PYTHONPATH": REPO}
        subprocess.run(runner, stdin=given, stdout=out, stderr=err, pass_fds=pass_fds, preexec_fn=setup, env=env, check=True)  # noqa: PLW1509
    took = json.loads((folder / "took").read_text())
    if took["code"] != 0:
        raise SystemExit(f"bench images: {' '.join(words[:6])} ended with {took['code']}: {(folder / 'err').read_text()[-800:]}")
    return Took(took["s"], took["rss_mib"], took["cpu_s"], (folder / "out").read_bytes())


@contextlib.contextmanager
def place() -> Iterator[tuple[Path, str]]:
    """(a folder, what it lies on): a fresh ext4 in memory, or the folder given."""
    given = os.environ.get("BENCH_DIR")
    base = Path(tempfile.mkdtemp(prefix="bench-images-", dir=given or ("/dev/shm" if os.geteuid() == 0 and os.path.isdir("/dev/shm") else None)))
    mounted = False
    try:
        why = "" if os.geteuid() == 0 else "not root"
        if not why and not given:
            why = _mount(base)
            mounted = not why
        yield (base / "fs" if mounted else base), ("fresh ext4 on a loop device in memory" if mounted else f"{base.parent} ({why or 'BENCH_DIR'})")
    finally:
        if mounted:
            subprocess.run(["umount", str(base / "fs")], check=False)
        shutil.rmtree(base, ignore_errors=True)


def _mount(base: Path) -> str:
    """Why there is no ext4 of our own; "" when there is."""
    if shutil.which("mkfs.ext4") is None or shutil.which("mount") is None:
        return "no mkfs.ext4"
    (base / "fs").mkdir()
    with (base / "disk").open("wb") as disk:
        disk.truncate(DEVICE_BYTES)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(base / "disk")], capture_output=True, check=False)
    if made.returncode == 0:
        made = subprocess.run(["mount", "-o", "loop", str(base / "disk"), str(base / "fs")], capture_output=True, check=False)
    return "" if made.returncode == 0 else f"no loop device: {made.stderr.decode()[-100:].strip()}"


# -- what is packed


def contents(folder: Path) -> None:
    """The same 4,008 files each time: every other one random, the rest text that deflates to about a tenth."""
    chance = random.Random(4008)
    words = [bytes(chance.choices(b"abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 9))) for _ in range(400)]
    weights = [chance.lognormvariate(0, 1) for _ in range(SMALL)]
    left = TOTAL - LARGE * LARGE_BYTES
    sizes = [max(16, int(left * w / sum(weights))) for w in weights]
    sizes[-1] += left - sum(sizes)
    for n, size in enumerate([*sizes, *[LARGE_BYTES] * LARGE]):
        file = folder / f"d{n % 61:02}" / f"f{n:05}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(chance.randbytes(size) if n % 2 else _text(chance, words, size))
    app = folder / "d00" / "f00000"
    app.write_bytes(b"#!/bin/sh\nexec sleep 1000\n" + app.read_bytes()[26:])
    app.chmod(0o755)


def _text(chance: random.Random, words: list[bytes], size: int) -> bytes:
    lines = b""
    while len(lines) < min(size, 64 * 1024):
        lines += b" ".join(chance.choices(words[:40], k=12)) + b" %d\n" % chance.randint(0, 99)
    return (lines * (size // len(lines) + 1))[:size]


IMAGE = """app = "demo"
version = "{version}"
security_counter = 1
device = ["gateway"]

[run]
argv = ["d00/f00000"]
"""


# -- ours


class Ours:
    """The shipped commands and children, on one device's folders."""

    def __init__(self, folder: Path, talk: Path) -> None:
        """`folder` lies on the measured file system; `talk` holds requests and answers."""
        self.folder = folder
        self.talk = talk
        self.trust = b""

    def cli(self, *words: str) -> Took:
        """`edgeheal WORDS`, as a user's shell would start it."""
        return timed([sys.executable, "-m", "edgeheal.cli.main", *words], folder=self.talk)

    def child(self, module: str, request: dict[str, Any], passed: Path | None = None) -> Took:
        """One child of the guard, started as the guard starts it; its last answer must be a "done"."""
        from edgeheal.core import program
        from edgeheal.image.records import pack

        libraries = [p for p in sys.path if p.endswith("site-packages")]
        words = program.argv(sys.executable, [REPO, *libraries], f"edgeheal.guard.{module}")
        took = timed(words, folder=self.talk, stdin=pack(request), passed=passed)
        last = answer(took.out)
        if last["k"] != "done" or last.get("reason"):
            raise SystemExit(f"bench images: {module}: {last}")
        return took

    def keys(self) -> None:
        """A root and a release key, and trust version 1 that names them."""
        from edgeheal.trust import envelope

        here = self.folder / "keys"
        here.mkdir()
        self.cli("key", "new", "--role", "root", "-o", f"{here}/root.key")
        self.cli("key", "new", "-o", f"{here}/release.key")
        self.cli("key", "trust", "--root-key", f"{here}/root.key", "--release", f"{here}/release.key.pub", "-o", f"{here}/00001.eht")
        self.trust = envelope.encode(envelope.decode_chain((here / "00001.eht").read_bytes())[-1])

    def build(self, app: Path, version: str, bundle: Path) -> Took:
        """`image build`, signed."""
        (app / "image.toml").write_text(IMAGE.format(version=version))
        return self.cli("image", "build", str(app), "--key", f"{self.folder}/keys/release.key", "-o", str(bundle))

    def verify(self, bundle: Path) -> Took:
        """`image verify`: every content."""
        return self.cli("image", "verify", str(bundle), "--trust", f"{self.folder}/keys/00001.eht")

    def install(self, bundle: Path) -> tuple[bytes, Took, Took]:
        """Import and store: durable, re-read past the cache. (image id, the importer, the storing child)."""
        staging, store = self.folder / "staging", self.folder / "store"
        staging.mkdir(exist_ok=True)
        store.mkdir(exist_ok=True)
        request = {
            "staging": str(staging), "store": str(store), "trust": self.trust, "device": ["gateway"], "apps": ["demo"], "floors": {"demo": [0, 0]},
            "blocked": [], "interpreters": [], "quota": 0, "shared_keys": True,
        }  # fmt: skip
        first = self.child("importer", request, bundle)
        image = bytes(answer(first.out)["id"])
        second = self.child("storer", {"mode": "store", "staging": str(staging), "store": str(store), "app": "demo", "id": image})
        return image, first, second

    def check(self, image: bytes, mode: str) -> tuple[Took, float]:
        """The start check in its child, and the same without the start of a process."""
        from edgeheal.guard import child, prover

        request = {"mode": mode, "tree": f"{self.folder}/store/demo/{image.hex()}", "id": image}
        took = self.child("verifier", request)
        with open(os.devnull, "wb") as nowhere:
            began = time.perf_counter()
            done = (prover.full if mode == "full" else prover.quick)(request, child.Answers(nowhere.fileno())) if mode == "quick" else {"reason": 0}
            inside = time.perf_counter() - began
        if done["reason"]:
            raise SystemExit(f"bench images: start check: {done}")
        return took, inside

    def drop(self) -> None:
        """An empty store again."""
        shutil.rmtree(self.folder / "store")
        shutil.rmtree(self.folder / "staging")


def answer(out: bytes) -> dict[str, Any]:
    """A child's last answer."""
    from edgeheal.image.records import unpack

    last: dict[str, Any] = {}
    while out:
        (length,) = struct.unpack_from("!I", out)
        last = unpack(out[4 : 4 + length])
        out = out[4 + length :]
    return last


# what the guard does to switch, and nothing else: load the records, one durable write, read back
SWITCH = """import sys, time
sys.path[:0] = [sys.argv[1]]
from edgeheal.guard.deployments import Deployments
from edgeheal.guard.marks import Marks
held = Deployments("demo", sys.argv[2], Marks(sys.argv[2]), lambda *_: None)
held.load()
other = next(i for i in held.state.deployments if i != held.state.run)
began = time.perf_counter()
held.switch(other, lower=True)
sys.stdout.write(repr(time.perf_counter() - began))
"""


def records(folder: Path) -> None:
    """State with two known-good deployments, one of which runs."""
    from edgeheal.guard.appstate import Deployment
    from edgeheal.guard.deployments import Deployments
    from edgeheal.guard.marks import Marks

    folder.mkdir()
    held = Deployments("demo", str(folder), Marks(str(folder)), lambda *_: None)
    held.load()
    for n in (1, 2):
        one = Deployment(hashlib.sha256(b"%d" % n).digest())
        one.digest = hashlib.sha256(b"d%d" % n).digest()
        one.version, one.security = f"{n}.0", 1
        held.written(one)
        held.try_(one.id, data=1, soak_s=1)
        held.soaked(one.id, (0, 0))


def switched(ours: Ours) -> tuple[Took, float]:
    """Roll back, the switch only."""
    took = timed([sys.executable, "-I", "-S", "-c", SWITCH, REPO, str(ours.folder / "records")], folder=ours.talk)
    return took, float(took.out)


# -- the run


def yardstick(tar: Path, out: Path, talk: Path) -> tuple[float, float]:
    """tar x of the plain tar, and its SHA-256, by the quickest tools here: seconds, and seconds of processor."""
    out.mkdir()
    digest = ["openssl", "dgst", "-sha256", str(tar)] if shutil.which("openssl") else ["sha256sum", str(tar)]
    both = timed(["tar", "xf", str(tar), "-C", str(out)], folder=talk), timed(digest, folder=talk)
    shutil.rmtree(out)
    return sum(took.s for took in both), sum(took.cpu_s for took in both)


def run() -> dict[str, Any]:
    """The figures: ratios, and seconds and MiB beside them."""
    rounds = int(os.environ.get("BENCH_ROUNDS", "4"))
    with place() as (folder, where), tempfile.TemporaryDirectory(prefix="bench-images-talk-") as talk_name:
        talk = Path(talk_name)
        app = folder / "app"
        (app / "files").mkdir(parents=True)
        contents(app / "files")
        subprocess.run(["tar", "cf", str(folder / "plain.tar"), "-C", str(app), "files"], check=True)
        ours = Ours(folder, talk)
        ours.keys()
        records(folder / "records")
        seen: dict[str, list[float]] = {}
        peaks: dict[str, float] = {}

        cpu: dict[str, list[float]] = {}

        def note(name: str, s: float, rss: float = 0.0, cpu_s: float = 0.0) -> None:
            seen.setdefault(name, []).append(s)
            peaks[name] = max(peaks.get(name, 0.0), rss)
            cpu.setdefault(name, []).append(cpu_s)

        for number in range(rounds):
            taken, used = yardstick(folder / "plain.tar", folder / "out", talk)
            note("yardstick", taken, 0.0, used)
            one_round(ours, app, number, note)
        figures = shown(seen, peaks, cpu)
        peers = peer_figures(folder, app / "files", talk, rounds, statistics.median(seen["yardstick"]))
    return {"on": where, "rounds": rounds, "yardstick_s": round(statistics.median(seen["yardstick"]), 3), "edgeheal": figures, **peers}


def one_round(ours: Ours, app: Path, number: int, note: Any) -> None:
    """Each of ours once."""
    bundle = ours.folder / "demo.ehi"
    took = ours.build(app, f"1.{number}", bundle)
    note("build_sign", took.s, took.rss_mib, took.cpu_s)
    took = ours.verify(bundle)
    note("verify_all", took.s, took.rss_mib, took.cpu_s)
    image, first, second = ours.install(bundle)
    note("import", first.s, first.rss_mib, first.cpu_s)
    note("store_reread", second.s, second.rss_mib, second.cpu_s)
    note("install_durable_reread", first.s + second.s, max(first.rss_mib, second.rss_mib), first.cpu_s + second.cpu_s)
    for mode in ("quick", "full"):
        took, inside = ours.check(image, mode)
        note(f"start_check_{mode}", took.s, took.rss_mib, took.cpu_s)
        if mode == "quick":
            note("start_check_quick_in_process", inside)
    took, inside = switched(ours)
    note("rollback_switch", took.s, took.rss_mib, took.cpu_s)
    note("rollback_switch_in_process", inside)
    note("bare_python", timed([sys.executable, "-I", "-S", "-c", ""], folder=ours.talk).s)
    ours.drop()


def shown(seen: dict[str, list[float]], peaks: dict[str, float], cpu: dict[str, list[float]]) -> dict[str, Any]:
    """Ratios first, then what they were made of. `cpu` is the same in seconds of processor: it holds on a busy machine, too."""
    used = {name: statistics.median(values) for name, values in cpu.items()}
    unit = statistics.median(seen["yardstick"])
    middle = {name: statistics.median(values) for name, values in seen.items() if name != "yardstick"}
    return {
        **{name: round(s / unit, 3) for name, s in middle.items()},
        "cpu": {name: round(s / used["yardstick"], 2) for name, s in used.items() if s and name != "yardstick"},
        "peak_rss_mib": {name: round(mib, 1) for name, mib in peaks.items() if mib},
        "seconds": {name: round(s, 4) for name, s in middle.items()},
    }


def peer_figures(folder: Path, files: Path, talk: Path, rounds: int, unit: float) -> dict[str, Any]:
    """The peers that can be had here."""
    from images_peers import PEERS

    found: dict[str, Any] = {}
    for peer in PEERS:
        here = folder / peer.name
        here.mkdir()
        try:
            found[peer.name] = peer(here, files, lambda words: timed(words, folder=talk)).figures(min(rounds, 2), unit)
        except SystemExit as fault:
            found[peer.name] = {"skipped": str(fault).removeprefix("bench images: ")[:200]}
        shutil.rmtree(here)
    return found
