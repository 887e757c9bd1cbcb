# SPDX-License-Identifier: Apache-2.0
"""One real device with guard, agent, broker and a fleet's store, on which every verb is tried as root, as a member and as a stranger.

Each verb runs in a fork of the test: its own uid, its own (empty) network where that is asked for, its answers caught.
"""

import codecs
import contextlib
import ctypes
import fcntl
import getpass  # noqa: F401 - as below
import gzip  # noqa: F401 - as below
import importlib
import os
import pkgutil
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import syslog  # noqa: F401 - as below
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from monitor_box import OPERATOR, PYTHON, RELEASE, REPO, SELF, Box, image, reachable, until

from edgeheal.cli import main as cli
from edgeheal.core.kinds import ActionCode
from edgeheal.fleet import store as fleet_store
from edgeheal.lab.broker import Broker, free_port

for _package in ("cli", "adapters", "config", "fleet", "image", "trust", "lab", "engine"):  # another uid may not reach our interpreter's own files
    for _module in pkgutil.walk_packages([f"{REPO}/edgeheal/{_package}"], f"edgeheal.{_package}."):
        importlib.import_module(_module.name)
for _encoding in ("ascii", "idna", "latin-1"):
    codecs.lookup(_encoding)
ROOT = os.geteuid() == 0
FIRST = 63_000 + os.getpid() % 32 * 40
AGENT, GROUP, STRANGER = FIRST, FIRST + 5, FIRST + 6
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
USERS = "\n".join(f"{part} = {FIRST + n}" for n, part in enumerate(("agent", "import", "store", "verify", "check", "group")))
LINK = """
[link]
host = "127.0.0.1"
port = {port}
tls = false
heartbeat = "5s"
stored_by = "broker"
[guard.budgets]
starts = ["240 in 10m"]
rollback = ["240 in 7d"]
config = ["240 in 1d"]
import = ["240 in 1d"]
"""


@dataclass(frozen=True)
class Done:
    """How a verb ended."""

    code: int
    out: str
    err: str

    def __str__(self):
        return f"exit {self.code}\n{self.out[-1500:]}\n{self.err[-1500:]}"


class VerbStage:
    """`condition` "well", "agent dead", "guard dead" or "both dead"; the device is brought there when it is asked for."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="verbs"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.broker = Broker(self.folder / "broker", port=self.port)
        self.box = Box(
            self.folder, users=USERS if ROOT else SELF, guard=f'app_uids = "{FIRST + 10}-{FIRST + 39}"' if ROOT else "",
            more=LINK.format(port=self.port), app_lines="",
        )  # fmt: skip
        self.agent = None
        self.work = self.folder / "work"
        self.work.mkdir()
        self.work.chmod(0o1777)
        self.number = 0

    def open(self):
        self.broker.start()
        self.box.start()
        self.start_agent()
        self.images = {v: self.image(v) for v in ("1.0", "1.1", "1.2", "1.3")}
        for version in ("1.0", "1.1"):
            self.box.good(self.images[version])
        for version in ("1.2", "1.3"):
            assert self.box.install(self.images[version], try_it=False) == 0
        self.files()
        return self

    @staticmethod
    def image(version):
        """Talkative, with a probe and a config."""
        probes = [{"name": "ok", "means": "live", "kind": "exec", "target": ["ok"], "every_ms": 3_600_000}]
        argv = [PYTHON, "-I", "-S", "-X", "importtime", "app.py"]
        return image(version, files={"ok": (b"#!/bin/sh\nexit 0\n", True)}, extra={"argv": argv}, config={"path": "demo.conf"}, probes=probes)

    def files(self):
        """What the verbs of the operator's machine work on."""
        work = self.work
        (work / "release.key").write_bytes(RELEASE.pem())
        (work / "operator.key").write_bytes(OPERATOR.pem())
        (work / "operator.key.pub").write_bytes(OPERATOR.public_pem())
        for name in ("release.key", "operator.key"):
            (work / name).chmod(0o644)
        source = work / "source/files"
        source.mkdir(parents=True)
        (source / "app").write_text("#!/bin/sh\nexec sleep 1000\n")
        (source / "app").chmod(0o755)
        (work / "source/image.toml").write_text('app = "demo"\nversion = "9.0"\nsecurity_counter = 3\ndevice = ["gateway"]\n[run]\nargv = ["app"]\n')
        (work / "1.4.ehi").write_bytes(self.image("1.4").bytes())
        shutil.copy(Path(self.box.layout.vendor_trust) / "00001.eht", work / "trust.eht")
        recordings = sorted(Path(__file__).resolve().parents[1].rglob("*.ehr"))
        if recordings:
            shutil.copy(recordings[0], work / "case.ehr")
        fleet_store.Store(str(work / "fleet.db")).close()
        for path in work.rglob("*"):
            path.chmod(0o777 if path.is_dir() or path.name == "app" else 0o666)

    def close(self):
        self.stop_agent()
        self.box.end()
        self.broker.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- conditions

    def become(self, condition):
        guard, agent = condition not in ("guard dead", "both dead"), condition not in ("agent dead", "both dead")
        alive = self.box.process is not None and self.box.process.poll() is None
        if guard and not alive:
            self.box.start()
        if not guard and alive:
            self.box.kill()
        if agent and self.agent is None:
            self.start_agent()
        if not agent and self.agent is not None:
            self.stop_agent()
        if guard and agent:
            until(self._well, 30, "all to be well")

    def _well(self):
        if self.box.phase() == 0:
            self.run(["start", "demo"])  # a row before this one had stopped it
        return '"guard":"ok"' in self.run(["status"]).out and self.box.phase() == 2

    def start_agent(self):
        words = [reachable(), "-m", "edgeheal.cli.main", "agent", "--root", self.box.layout.root]
        env = os.environ | {"PYTHONPATH": f"{REPO}:{sysconfig.get_path('purelib')}"}
        user = {"user": AGENT, "group": AGENT, "extra_groups": []} if ROOT else {}
        with (self.folder / "agent.log").open("ab") as out:
            self.agent = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, umask=0o027, **user)
        try:
            until(lambda: '"agent":"ok"' in self.run(["status"]).out, 30, "the agent")
        except AssertionError:
            raise AssertionError((self.folder / "agent.log").read_text()[-3000:] + self.box.log.read_text()[-1500:]) from None

    def stop_agent(self):
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait(10)
            self.agent = None

    # -- verbs

    def token(self):
        """A fresh signed word: restart, from an operator."""
        self.number += 1
        path = self.work / f"token{self.number}"
        counter = int(time.time()) + self.number
        path.write_bytes(self.box.order(ActionCode.RESTART, counter=counter, nonce=b""))
        path.chmod(0o644)
        return str(path)

    def fresh(self, suffix):
        self.number += 1
        return str(self.work / f"made{self.number}{suffix}")

    def run(self, words, *, uid=0, gids=(), network=True, stdin=b"", seconds=60, json=True, root=True, during=None):
        """One verb in a fork; `words` may hold `{...}` names of this stage's files."""
        argv = [*words, *(["--root", self.box.layout.root] if root else []), *(["--json"] if json else [])]
        out, err, given = (tempfile.TemporaryFile() for _ in range(3))
        given.write(stdin)
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            _child(argv, (given, out, err), uid if ROOT else 0, gids, network)
        end = time.monotonic() + seconds
        if during is not None:
            time.sleep(0.3)
            during()
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > end:
                os.kill(pid, 9)
            time.sleep(0.002)
        texts = []
        for file in (out, err, given):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return Done(os.waitstatus_to_exitcode(status), texts[0], texts[1])


def _nowhere():
    """A network of our own with nothing but the loopback, as on a box whose cable was pulled."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        os._exit(98)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


def _child(argv, files, uid, gids, network):
    code = 99
    with contextlib.suppress(BaseException):
        for number, file in enumerate(files):
            os.dup2(file.fileno(), number)
        os.chdir("/")
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
        if not network:
            _nowhere()
        if uid:
            os.setgroups(list(gids))
            os.setgid(uid)
            os.setuid(uid)
        try:
            code = cli.main(argv)
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:  # noqa: BLE001 - the fork ends here, whatever it met
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
