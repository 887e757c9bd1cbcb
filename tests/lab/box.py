# SPDX-License-Identifier: Apache-2.0
"""A box with an init system of its own: a small Debian in a folder, booted as a container in which the init system is PID 1.

Duty: make the tree once (mmdebstrap), put an overlay over it, boot it, run commands in it, reboot it, take it down. It knows nothing of EdgeHeal but
how to hand it over (a copy of the checkout, its libraries as wheels).
Invariants: whatever is missing is a skip by name with its reason; nothing is left running or mounted; the network of a box is its own loopback.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
KEPT = Path(os.environ.get("EDGEHEAL_LAB_DIR", TOP / ".lab"))
BASE = ("python3", "python3-venv", "procps", "iproute2")
REBOOT = 133  # how a container kept in its caller's unit asks to be started again
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BoxError(AssertionError):
    """Something in the box did not come about."""


def needs() -> None:
    """Skip, by name, where a box cannot be had."""
    if os.environ.get("EDGEHEAL_LAB") != "1":
        pytest.skip("slow: boots an init system; ./scripts/lab box runs it")
    if os.geteuid() != 0:
        pytest.skip("needs root: containers and mounts")
    for command, package in (("systemd-nspawn", "systemd-container"), ("mmdebstrap", "mmdebstrap")):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not here (Debian: apt-get install {package})")


def quiet(*words: str, seconds: float = 600.0) -> str:
    """Run it here; its output, or a BoxError with it."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False)
    if done.returncode != 0:
        raise BoxError(f"{' '.join(words)}: {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def tree(*packages: str) -> Path:
    """A Debian with these packages, made once for this release of Debian and this list."""
    wanted = sorted({*BASE, *packages})
    name = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:12]
    made, tar = KEPT / f"tree-{name}", KEPT / f"tree-{name}.tar"
    if not made.is_dir():
        KEPT.mkdir(parents=True, exist_ok=True)
        try:
            quiet("mmdebstrap", "--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={','.join(wanted)}", _suite(), str(tar))
        except BoxError as fault:
            pytest.skip(f"no Debian tree to be had: {str(fault)[-300:]}")
        half = KEPT / f"tree-{name}.new"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        quiet("tar", "-C", str(half), "--exclude=./dev/*", "-xf", str(tar))
        (half / "etc/machine-id").unlink(missing_ok=True)
        half.rename(made)
        tar.unlink()
    return made


def _suite() -> str:
    found = [line.partition("=")[2].strip('"\n') for line in Path("/etc/os-release").read_text().splitlines() if line.startswith("VERSION_CODENAME=")]
    return found[0] if found else "bookworm"


def wheels() -> Path:
    """The product's libraries as wheels, for a box without network."""
    lock = TOP / "requirements-demo.lock"
    made = KEPT / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not made.is_dir():
        half = made.with_suffix(".new")
        try:
            quiet("python3", "-m", "pip", "download", "-q", "--require-hashes", "--only-binary", ":all:", "-d", str(half), "-r", str(lock))
        except BoxError as fault:
            pytest.skip(f"no wheels to be had: {str(fault)[-300:]}")
        half.rename(made)
    return made


class Box:
    """One box over a tree. Use `with`; `boot`, `sh`, `reboot`, `power_off`."""

    def __init__(self, folder: Path, below: Path, *, options: tuple[str, ...] = (), init: tuple[str, ...] = ("-b",)) -> None:
        self.folder = folder
        self.root = folder / "root"
        self._below = below
        self.options = options
        self._init = init
        self._console = folder / "console.log"
        self.small: Small | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Box":
        for name in ("root", "upper", "work"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={self._below},upperdir={self.folder}/upper,workdir={self.folder}/work"
        quiet("mount", "-t", "overlay", "edgeheal-lab", "-o", options, str(self.root))
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        subprocess.run(["umount", "-l", str(self.root)], check=False)

    def hand_over(self) -> None:
        """The checkout and its wheels, to /root/edgeheal and /root/wheels."""
        to = self.root / "root/edgeheal"
        for name in ("edgeheal", "packaging", "scripts"):
            shutil.copytree(TOP / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(TOP / "requirements-demo.lock", to)
        shutil.copytree(wheels(), self.root / "root/wheels")

    def boot(self, seconds: float = 60.0) -> None:
        """Start it; returns when its init system answers."""
        with self._console.open("ab") as out:
            words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--link-journal=no"]
            words += ["-D", str(self.root), *self.options, *self._init]
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, preexec_fn=self._own_group)
        self.until(lambda: self.init_pid() > 0, seconds, "the box to begin")

    def init_pid(self) -> int:
        """PID 1 of the box, seen from here; 0 when there is none."""
        if self._process is None:
            return 0
        return next((pid for pid in _offspring(self._process.pid) if _is_first(pid)), 0)

    def sh(self, text: str, *, check: bool = True, seconds: float = 120.0) -> str:
        """What a shell in the box prints."""
        pid = self.init_pid()
        if not pid:
            raise BoxError(f"the box is down: {self.console()[-2000:]}")
        words = [
            "nsenter",
            "-t",
            str(pid),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "-C",
            "-r",
            "-w",
            "/usr/bin/env",
            "-i",
            f"PATH={PATH}",
            "HOME=/root",
            "sh",
            "-c",
            text,
        ]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)
        if check and done.returncode != 0:
            raise BoxError(f"{text}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done.stdout

    def ok(self, text: str) -> bool:
        """Whether a command in the box says yes; no while the box is down."""
        with contextlib.suppress(BoxError, subprocess.TimeoutExpired):
            self.sh(text, seconds=30)
            return True
        return False

    def until(self, ask, seconds: float, what: str):
        """The first true answer."""
        end = time.monotonic() + seconds
        while True:
            answer = ask()
            if answer:
                return answer
            if time.monotonic() > end or (self._process is not None and self._process.poll() is not None):
                raise BoxError(f"waited in vain for {what}: {self.console()[-2000:]}")
            time.sleep(0.1)

    def reboot(self, command: str = "systemctl reboot", seconds: float = 150.0) -> float:
        """An ordered reboot; how long the way down took. The container says by its exit code that it was one, and begins again with a new boot id."""
        took = self.power_off(command, seconds, code=REBOOT)
        self.boot()
        return took

    def power_off(self, command: str = "systemctl poweroff", seconds: float = 150.0, *, code: int = 0) -> float:
        """An ordered end; how long it took."""
        began = time.monotonic()
        self.sh(command, check=False)
        assert self._process is not None
        assert self._process.wait(seconds) == code
        self._process = None
        return time.monotonic() - began

    def kill(self) -> None:
        """As a power cut: all at once."""
        pid = self.init_pid()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
            self._process = None

    def _own_group(self) -> None:
        """A control group of its own, where groups are kept in several hierarchies: the box's init system takes the root of what it finds."""
        for top in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"):
            with contextlib.suppress(OSError):
                if os.path.isfile(f"{top}/cgroup.procs"):
                    os.makedirs(f"{top}/edgeheal-lab", exist_ok=True)
                    Path(f"{top}/edgeheal-lab/cgroup.procs").write_text(str(os.getpid()))
        if self.small is not None:
            self.small.enter()

    def console(self) -> str:
        """What the box said."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""


class Small:
    """A group of the host's that makes a box small: so much memory, so much of one core."""

    def __init__(self, memory_mb: int, cpu_percent: int) -> None:
        self.places = [Path(f"/sys/fs/cgroup/{kind}/edgeheal-small") for kind in ("memory", "cpu")]
        if not all(place.parent.is_dir() for place in self.places):
            pytest.skip("no control groups for memory and cpu of the kind that this test sets (version 1)")
        for place in self.places:
            place.mkdir(exist_ok=True)
        memory, cpu = self.places
        (memory / "memory.limit_in_bytes").write_text(str(memory_mb << 20))
        (cpu / "cpu.cfs_period_us").write_text("100000")
        (cpu / "cpu.cfs_quota_us").write_text(str(cpu_percent * 1000))

    def enter(self) -> None:
        """This process, and what it starts."""
        for place in self.places:
            (place / "cgroup.procs").write_text(str(os.getpid()))

    def peak_mb(self) -> float:
        """Most memory since the last `again`, caches of files among it (they give way)."""
        return int((self.places[0] / "memory.max_usage_in_bytes").read_text()) / 1e6

    def own_mb(self) -> float:
        """Memory of all processes now, without caches."""
        words = dict(line.split() for line in (self.places[0] / "memory.stat").read_text().splitlines())
        return int(words["total_rss"]) / 1e6

    def killed(self) -> int:
        """Processes that were killed for memory."""
        return int((self.places[0] / "memory.oom_control").read_text().split("oom_kill ")[1])

    def again(self) -> None:
        """Forget the peak."""
        (self.places[0] / "memory.max_usage_in_bytes").write_text("0")

    def close(self) -> None:
        """Gone."""
        for place in self.places:
            with contextlib.suppress(OSError):
                place.rmdir()


def _offspring(pid: int) -> list[int]:
    """All descendants, nearest first."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents.setdefault(int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]), []).append(int(name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found[1:]


def _is_first(pid: int) -> bool:
    """Whether it is PID 1 of a namespace below ours, and has come to its own program."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
        return len(numbers) >= 2 and numbers[-1] == "1" and b"nspawn" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, StopIteration):
        return False
