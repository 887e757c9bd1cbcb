# SPDX-License-Identifier: Apache-2.0
"""A stage: one whole device in a folder, with broker and controller beside it, driven by the shipped commands only.

Duty: set up, start, stop and reap guard, agent, broker and controller for the demo, drills, tests and benches.
Not its duty: to know scenes. Invariant: whatever it does, a user could type; nothing of EdgeHeal is imported to cheat.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from edgeheal.core.errors import EdgeHealError


class StageError(EdgeHealError):
    """The stage could not be set or a command on it failed."""

    message_id = "eh-stage"
    hint = "run it with --keep and look at the logs in the stage's folder"


def free_port() -> int:
    """A TCP port that was free a moment ago on the loopback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether somebody listens on a port of the loopback."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


def until(ask: Callable[[], Any], seconds: float, what: str, *, every: float = 0.05) -> Any:
    """The first true answer of `ask`; StageError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise StageError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(every)


class Program:
    """A started program whose output goes to a file; it is reaped by `end`."""

    def __init__(self, name: str, words: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        """Start `words`; stdout and stderr are appended to `log`."""
        self.name = name
        self.words = words
        self._log = log
        self._env = env
        self.process = self._spawn()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as out:
            return subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self._env, start_new_session=True)

    def kill(self) -> None:
        """SIGKILL and reap."""
        self.process.kill()
        self.process.wait(10)

    def again(self) -> None:
        """Start it again."""
        self.process = self._spawn()

    def end(self, seconds: float = 10.0) -> None:
        """SIGTERM, then SIGKILL; reaped in any case."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()


class Stage:
    """One device below `folder`/device, its fleet beside it. Use `with`."""

    def __init__(self, folder: Path, *, broker: str = "iotcore", device: str = "gw-0417", tenant: str = "demo") -> None:
        """`folder` is made; `broker` iotcore or mosquitto."""
        self.folder = folder
        self.root = folder / "device"
        self.device = device
        self.tenant = tenant
        self.broker_kind = broker
        self.port = free_port()
        self.logs = folder / "logs"
        self.keys = folder / "keys"
        self.store = folder / "fleet.db"
        self.programs: dict[str, Program] = {}
        for made in (self.root, self.logs, self.keys):
            made.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        """The stage itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Everything is ended and reaped."""
        self.end()

    def edgeheal(self, *words: str, check: bool = True, stdin: bytes | None = None, seconds: float = 60.0) -> "subprocess.CompletedProcess[bytes]":
        """Run `edgeheal WORDS`, as a user would."""
        done = subprocess.run(
            [sys.executable, "-m", "edgeheal.cli.main", *words], input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True, timeout=seconds, check=False, env=self.environment(),
        )  # fmt: skip
        if check and done.returncode != 0:
            raise StageError(f"`edgeheal {' '.join(words)}` ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
        return done

    def on_device(self, *words: str, check: bool = True, stdin: bytes | None = None, seconds: float = 60.0) -> "subprocess.CompletedProcess[bytes]":
        """`edgeheal WORDS --root DEVICE`."""
        return self.edgeheal(*words, "--root", str(self.root), check=check, stdin=stdin, seconds=seconds)

    def answer(self, *words: str) -> Any:
        """`edgeheal WORDS --root DEVICE --json`, decoded."""
        return json.loads(self.on_device(*words, "--json", check=False).stdout or b"null")

    def environment(self) -> dict[str, str]:
        """The environment of everything started here: the caller's, with this package importable."""
        parent = str(Path(__file__).resolve().parents[2])
        path = os.environ.get("PYTHONPATH", "")
        return os.environ | {"PYTHONPATH": f"{parent}:{path}" if path else parent}

    def start(self, name: str, *words: str) -> Program:
        """Start `edgeheal WORDS` and keep it running under `name`."""
        return self.launch(name, [sys.executable, "-m", "edgeheal.cli.main", *words])

    def launch(self, name: str, words: list[str]) -> Program:
        """Start any program and keep it under `name`."""
        program = Program(name, words, self.logs / f"{name}.log", self.environment())
        self.programs[name] = program
        return program

    def write_config(self, text: str) -> None:
        """The device's edgeheal.toml."""
        path = self.root / "etc/edgeheal/edgeheal.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def watch(self) -> Iterator[dict[str, Any]]:
        """Events of the agent, one dict each, as `edgeheal watch --json` prints them."""
        words = [sys.executable, "-m", "edgeheal.cli.main", "watch", "--json", "--root", str(self.root)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=self.environment()) as process:
            try:
                for line in process.stdout or ():
                    yield json.loads(line)
            finally:
                process.kill()

    def end(self) -> None:
        """Stop everything, the guard last but its apps with it."""
        for name in reversed(list(self.programs)):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.programs[name].end()
        self.programs.clear()
        self._sweep()

    def _sweep(self) -> None:
        """End what was started with this stage's root, and its apps: nothing of a stage outlives it."""
        mark = str(self.root).encode()
        for pid in [int(p) for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]:
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if mark in words or b"EDGEHEAL_DATA=" + mark in Path(f"/proc/{pid}/environ").read_bytes():
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
