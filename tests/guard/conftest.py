# SPDX-License-Identifier: Apache-2.0
"""A real guard in its own process, its root in a temporary folder, apps by launch records that the test writes."""

import grp
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.core.errors import EdgeHealError
from edgeheal.image.records import pack
from edgeheal.wire import guard_frames as f

HERE = Path(__file__).parent
PACKAGE = str(HERE.parents[1])
STUB = str(HERE / "app_stub.py")
PYTHON = next(
    (p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if os.access(p, os.X_OK)), os.path.realpath(sys.executable)
)  # one that every uid may run
DUTIES = ("agent", "import", "store", "verify", "check")
ROOTS_USERS = 'agent = "daemon"\nimport = "bin"\nstore = "games"\nverify = "man"\ncheck = "lp"\ngroup = "users"\n'


def until(ask, seconds=10.0, what="it"):
    """The first true answer; polls, since what is asked lives in another process."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        select.select([], [], [], 0.005)


def alive(pid):
    """A zombie is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Box:
    """One device below `root`, its guard, and a person's (root's) door."""

    def __init__(self, root, plain=False):
        self.root = root
        self.plain = plain and os.geteuid() == 0
        self.no_cgroups = False
        self.bare = root / "bare"
        self.bare.mkdir(parents=True)
        self.process = None
        self.doors = []
        self.config("")

    def config(self, extra):
        path = self.root / "etc/edgeheal/edgeheal.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        users = ROOTS_USERS if os.geteuid() == 0 and not self.plain else f'group = "{grp.getgrgid(os.getgid()).gr_name}"\n'
        if self.plain:
            users = ""
        path.write_text(
            f'[device]\nid = "box-1"\ntenant = "t"\nclasses = ["gateway"]\n{extra}\n'
            + ("" if "[guard]" in extra else "[guard]\nspawn_agent = false\n")
            + ("" if "[users]" in extra else f"[users]\n{users}")
        )

    def app(self, name, *words, argv=None, **record):
        """A launch record; `words` are the stub's switches."""
        argv = argv or [PYTHON, "-I", "-S", STUB, *words]
        files = self.bare / name / "files"
        files.mkdir(parents=True, exist_ok=True)
        full = {
            "v": 1, "app": name, "id": b"\1" * 32, "version": "1", "argv": argv, "env": {}, "cwd": "", "ready": "start", "start_ms": 5000, "stop_signal": "TERM",
            "stop_ms": 1000, "reload": ["none"], "heartbeat_ms": 0, "done": [], "worker": "main", "devices": [], "network": True, "limits": {}, "probes": [],
            "soak_s": 5, "needs": [], "security": 1, "min_security": 0, "schema": 0, "config": None, "data": None, "digest": b"\2" * 32,
        }  # fmt: skip
        (self.bare / f"{name}.launch").write_bytes(pack(full | record))

    def start(self, wait=True, door=True, libraries=""):
        words = [PYTHON, "-I", "-S", str(HERE / "bare_guard.py"), PACKAGE, "--root", str(self.root), "--libraries", libraries]
        if self.no_cgroups:
            words = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "guard", *words]
        log = open(self.root / "guard.log", "ab")
        who = {"user": "nobody", "group": "nogroup", "extra_groups": []} if self.plain else {}
        if self.plain:
            subprocess.run(["chown", "-R", "nobody:nogroup", self.root], check=True)
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": "/usr/bin:/bin"}, **who)
        log.close()
        if wait:
            until(lambda: self.up() or self.process.poll() is not None, what="the guard's door")
            assert self.process.poll() is None, (self.root / "guard.log").read_text()
            return self.door() if door else None
        return None

    def up(self):
        try:
            GuardDoor(self.people()).__exit__()
        except EdgeHealError:
            return False
        return True

    def people(self):
        return str(self.root / "run/edgeheal/guard.sock")

    def door(self, agent=False, follow=True):
        path = str(self.root / "run/edgeheal/guard-agent.sock") if agent else self.people()
        door = Follower(path)
        self.doors.append(door)
        if follow:
            door.ask(f.FOLLOW)
        return door

    def port(self):
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            return sock.getsockname()[1]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def row(self, app):
        with GuardDoor(self.people()) as door:
            rows = door.ask(f.STATUS, app=app).rows
        names = (
            "v",
            "kind",
            "code",
            "request",
            "app",
            "image",
            "run",
            "pid",
            "started",
            "pause",
            "until",
            "phase",
            "wanted",
            "by",
            "state",
            "flags",
            "restarts",
        )
        return dict(zip(names, f.APP_ROW.unpack(rows[0]), strict=True))

    def data(self, app):
        return self.root / f"var/lib/edgeheal/data/{app}/0"

    def log(self, app):
        """The stub's own log: (word, pid) lines."""
        path = self.data(app) / "log"
        return [(line.split()[0], int(line.split()[1])) for line in path.read_text().splitlines()] if path.exists() else []

    def count(self, app, word="up"):
        return sum(line[0] == word for line in self.log(app))

    def end(self):
        for door in self.doors:
            door.__exit__()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._sweep()
        from edgeheal.guard.cgroups import Groups

        until(lambda: not Groups(str(self.root)).available or not Groups(str(self.root)).close(), what="empty groups")

    def _sweep(self):
        mark = f"EDGEHEAL_ROOT={self.root}".encode()
        for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
            try:
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    os.kill(int(pid), signal.SIGKILL)
            except OSError:
                continue


class Follower(GuardDoor):
    """A door that collects events."""

    def __init__(self, path):
        self.seen = []
        super().__init__(path, timeout_s=15)

    def ask(self, verb, **words):
        return super().ask(verb, on_event=self.seen.append, **words)

    def send(self, verb, app=""):
        """Ask and do not wait for the answer."""
        self._number += 1
        self._sock.send(f.pack_plain(verb, request=self._number, app=app))

    def next(self, kind, app=None, seconds=10.0, **where):
        """The next event of that kind (earlier ones are passed over)."""
        end = time.monotonic() + seconds
        while True:
            for at, event in enumerate(self.seen):
                if event.kind == kind and app in (None, event.app) and all(getattr(event, k) == v for k, v in where.items()):
                    del self.seen[: at + 1]
                    return event
            left = end - time.monotonic()
            assert left > 0, f"no event {kind:#x} of {app} {where}; seen {[(hex(e.kind), e.app, e.code) for e in self.seen]}"
            self.seen += self.events(left)


def _box(plain, request):
    root = Path(tempfile.mkdtemp(prefix="eh-", dir="/tmp"))
    root.chmod(0o755)
    made = Box(root, plain)
    yield made
    report = getattr(request.node, "rep_call", None)
    if report is not None and report.failed and (root / "guard.log").exists():
        print((root / "guard.log").read_text())
    made.end()
    shutil.rmtree(root, ignore_errors=True)


# where a uid and a group an app make no difference to what is promised
ONCE = {"test_doors", "test_absence", "test_provider", "test_resident", "test_unkillable", "test_log_flood"}


def pytest_generate_tests(metafunc):
    """As root with a uid an app, and as one plain user (no control groups, boundary none)."""
    if "box" in metafunc.fixturenames:
        once = metafunc.module.__name__.rpartition(".")[2] in ONCE
        plain = metafunc.module.__name__.endswith("test_agent_process") and os.geteuid() == 0
        metafunc.parametrize("box", ["plain"] if plain else ["as-we-are"] if once else ["as-we-are", "plain"], indirect=True)


@pytest.fixture
def box(request):
    """One device and its guard."""
    if request.param == "plain" and os.geteuid() != 0:
        pytest.skip("we are a plain user already")
    yield from _box(request.param == "plain", request)


@pytest.fixture
def bare_box(request):
    """As root, with a uid an app, on a machine without control groups."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs root and mount namespaces")
    for box in _box(False, request):
        box.no_cgroups = True
        yield box


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    setattr(item, f"rep_{report.when}", report)
    return report
