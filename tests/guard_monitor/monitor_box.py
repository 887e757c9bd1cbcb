# SPDX-License-Identifier: Apache-2.0
"""A whole device in a folder: the real guard, its real doors, real signed images of a small shell or Python app."""

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "images"))

from workshop import OPERATOR, RELEASE, TECHNICIAN, Made, make_trust

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.core import program, reasons
from edgeheal.core.kinds import ActionCode
from edgeheal.core.layout import Layout
from edgeheal.trust import envelope
from edgeheal.trust.envelope import Envelope
from edgeheal.wire import commands
from edgeheal.wire import guard_frames as f

REPO = str(Path(__file__).resolve().parents[2])
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable

CONFIG = """
[device]
id = "gw-1"
tenant = "acme"
classes = ["gateway"]
[guard]
spawn_agent = false
soak_min = "5s"
interpreters = ["{python}"]
{guard}
[users]
{users}
{apps}
{more}
"""
SELF = 'agent = "self"\nimport = "self"\nstore = "self"\nverify = "self"\ncheck = "self"'
APART = "agent = 60701\nimport = 60702\nstore = 60703\nverify = 60704\ncheck = 60705"

# an app that tells where and as what it runs, and then does as MODE says
APP = r"""
import json, os, pathlib, signal, socket, sys, time
here = pathlib.Path(os.environ["EDGEHEAL_DATA"])
mode = os.environ.get("MODE", "run")
say = {k: os.environ.get(k) for k in ("EDGEHEAL_IMAGE", "EDGEHEAL_DATA", "EDGEHEAL_CONFIG", "EDGEHEAL_SECRETS")} | {"uid": os.getuid(), "pid": os.getpid(), "mode": mode}
try:
    say["config"] = pathlib.Path(os.environ["EDGEHEAL_CONFIG"]).read_text()
except (KeyError, OSError):
    say["config"] = None
schema = here / "schema"
want = os.environ.get("SCHEMA")
if want:
    if schema.exists() and schema.read_text() != want and mode != "migrates":
        print("schema", schema.read_text(), "unknown", flush=True)
        sys.exit(3)
    schema.write_text(want)
with open(here / "runs", "a") as file:
    file.write(json.dumps(say) + "\n")
    file.flush()
    os.fsync(file.fileno())
def notify(words):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(words.encode(), os.environ["NOTIFY_SOCKET"])
if mode == "crash":
    sys.exit(7)
if mode == "badconfig" or (say["config"] or "").startswith("bad"):
    sys.exit(8)
if os.environ.get("DEAF"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
notify("READY=1")
if mode == "late-crash":
    time.sleep(float(os.environ.get("AFTER", "0.3")))
    os.kill(os.getpid(), 11)
while True:
    signal.pause()
"""


def image(version, *, app="demo", mode="run", env=None, security=3, extra=None, keys=(RELEASE,), files=None, **fields):
    """A signed bundle of the app above."""
    content = {"app.py": (APP.encode(), False), "version": (version.encode(), False)} | (files or {})
    run = {
        "argv": [PYTHON, "-I", "-S", "app.py"], "ready": "notify", "start_ms": 10_000, "stop_ms": 2000,
        "env": {"MODE": mode} | (env or {}),
    } | (extra or {})  # fmt: skip
    fields = {"run": run, "app": app, "version": version, "security_counter": security, "soak_s": 5} | fields
    return Made(content, keys=keys, **fields)


class Box:
    """One device below `folder`."""

    def __init__(self, folder, *, apps=("demo",), guard="", more="", trust=None, app_lines="", users=SELF):
        self.layout = Layout(str(folder / "root"))
        self.folder = folder
        self.process = None
        self.log = folder / "guard.log"
        tables = "\n".join(f"[apps.{name}]\n{app_lines}" for name in apps)
        self.write_config(guard=guard, apps=tables, more=more, users=users)
        self.trust = trust or make_trust()
        Path(self.layout.vendor_trust).mkdir(parents=True)
        (Path(self.layout.vendor_trust) / "00001.eht").write_bytes(envelope.encode(self.trust))
        self.counter = 0

    @classmethod
    def over(cls, folder, like):
        """A device whose folder is a copy of another's."""
        box = object.__new__(cls)
        box.layout, box.folder, box.process, box.log = Layout(str(folder / "root")), folder, None, folder / "guard.log"
        box.trust, box.counter = like.trust, like.counter
        return box

    def write_config(self, *, guard="", apps="", more="", users=SELF):
        path = Path(self.layout.config_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CONFIG.format(python=PYTHON, guard=guard, apps=apps, more=more, users=users))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    # -- the guard

    def start(self):
        # as `edgeheal guard` execs it, without the command line's own third of a second
        words = program.argv(reachable(), [REPO], "edgeheal.guard.main", "--root", self.layout.root, "--libraries", sysconfig.get_path("purelib"))
        env = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, start_new_session=True)
        until(lambda: os.path.exists(self.layout.guard_socket) and self.answers(), 20, f"the guard ({self.log.read_text()[-2000:]})")
        return self

    def answers(self):
        with contextlib.suppress(Exception), GuardDoor(self.layout.guard_socket, timeout_s=2) as door:
            return door.ask(f.STATUS).reason == 0
        return False

    def kill(self):
        """SIGKILL, and reaped."""
        self.process.kill()
        self.process.wait(10)

    def again(self):
        """As after a crash of the guard."""
        self.kill()
        return self.start()

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self.sweep()

    def sweep(self):
        """End whatever of this device still runs."""
        mark = f"EDGEHEAL_ROOT={self.layout.root}".encode()
        for pid in [int(p) for p in os.listdir("/proc") if p.isdigit()]:
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, 9)

    # -- asking

    def door(self, timeout_s=30):
        return GuardDoor(self.layout.guard_socket, timeout_s=timeout_s)

    def agent(self):
        """The agent's door, following."""
        door = GuardDoor(self.layout.guard_agent_socket, timeout_s=30)
        assert door.ask(f.FOLLOW).reason == 0
        return door

    def ask(self, verb, **words):
        with self.door() as door:
            return door.ask(verb, **words)

    def install(self, made, *, try_it=True):
        """IMPORT and TRY, as root; the reason of what failed, else 0."""
        path = self.folder / f"{made.id.hex()[:8]}.ehi"
        path.write_bytes(made.bytes())
        with self.door(120) as door, path.open("rb") as file:
            answer = door.ask(f.IMPORT, fd=file.fileno())
            if answer.reason or not try_it:
                return answer.reason
            return door.ask(f.TRY, app=answer.app, image=made.id).reason

    def rows(self, app="demo"):
        """id -> row as a dict."""
        answer = self.ask(f.IMAGES, app=app)
        names = ("version", "kind", "code", "request", "app", "image", "label", "state", "reason", "was", "flags", "soak_left", "served", "security", "schema")
        rows = [dict(zip(names, f.IMAGE_ROW.unpack(r), strict=True)) for r in answer.rows]
        return {r["image"]: r for r in rows}

    def state(self, made, app="demo"):
        """The deployment's state, or None."""
        row = self.rows(app).get(made.id)
        return row and row["state"]

    def running(self, app="demo"):
        """Id of what `run` names."""
        return next((i for i, r in self.rows(app).items() if r["flags"] & f.I_RUNNING), b"")

    def phase(self, app="demo"):
        row = f.APP_ROW.unpack(self.ask(f.STATUS, app=app).rows[0])
        return row[11]

    def runs(self, app="demo", generation=1):
        """What the app's runs told, oldest first."""
        path = Path(self.layout.data) / app / str(generation) / "runs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def all_runs(self, app="demo"):
        """Of all generations."""
        folder = Path(self.layout.data) / app
        return [run for g in sorted(folder.glob("*/runs")) for run in [json.loads(line) for line in g.read_text().splitlines()]]

    def good(self, made, app="demo"):
        """Install, have it ready, and mark it good by root's word."""
        reason = self.install(made)
        assert reason == 0, (reasons.word(reason), self.log.read_text()[-3000:])
        until(lambda: self.phase(app) == f.PHASE_RUNNING, 15, f"{made.id.hex()[:8]} to run: {self.log.read_text()[-2000:]}")
        until(lambda: self.ask(f.MARK_GOOD, app=app, image=made.id).reason == 0, 10, "mark good")
        return made

    # -- signed words

    def order(
        self,
        action,
        *,
        app="demo",
        made=None,
        by=OPERATOR,
        keys=None,
        nonce=None,
        counter=None,
        seconds=0,
        expires=None,
        device="gw-1",
        tenant="acme",
        command_id=None,
    ):
        """The bytes of a signed command."""
        if counter is None:
            self.counter += 1
            counter = self.counter
        now = int(time.time())
        said = commands.Command(
            command_id=command_id or hashlib.sha256(os.urandom(8)).digest()[:16], tenant=tenant, device=device, action=ActionCode(action), issued=now,
            expires=now + 600 if expires is None else expires, by=by.public[:8], counter=counter, app=app, image=made.id if made else b"", seconds=seconds,
            nonce=self.nonce() if nonce is None else nonce,
        )  # fmt: skip
        one = Envelope(envelope.COMMAND, commands.encode_body(said))
        for key in keys or (by,):
            one = key.sign(one)
        return envelope.encode(one)

    def nonce(self):
        return self.ask(f.CHALLENGE).a.to_bytes(8, "big")

    def present(self, raw, *, agent=False, sealed=True):
        """PRESENT at the people's or the agent's door; the answer."""
        fd = os.memfd_create("word", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(fd, raw)
            if sealed:
                fcntl.fcntl(fd, 1033, 0x1 | 0x2 | 0x4 | 0x8)
            with GuardDoor(self.layout.guard_agent_socket if agent else self.layout.guard_socket) as door:
                return door.ask(f.PRESENT, fd=fd)
        finally:
            os.close(fd)


def reachable():
    """An interpreter that other uids can start, too: ours, unless it lies in somebody's closed home."""
    real = Path(sys.executable).resolve()
    return sys.executable if all(p.stat().st_mode & 0o001 for p in real.parents) else "/usr/bin/python3"


def until(ask, seconds, what):
    """The first true answer."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)


__all__ = ["OPERATOR", "RELEASE", "TECHNICIAN", "Box", "image", "until"]
