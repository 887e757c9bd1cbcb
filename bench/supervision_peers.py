# SPDX-License-Identifier: Apache-2.0
"""The peers of the supervision bench: each runs the same twenty services and is asked the same questions.

A service is a (name, argv, file) triple; it appends "pid monotonic_ns" to its file when it is up. A peer knows how to start,
how to stop, and why it cannot be had here. Sources of their configuration: each tool's own manual.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

Service = tuple[str, list[str], Path]


class Peer:
    """A supervisor of its own process tree."""

    name = ""
    program = ""
    kills = 100

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def missing(self) -> str:
        """Why it cannot be had here; "" when it can."""
        return "" if shutil.which(self.program) else f"{self.program} is not installed"

    def start(self, services: list[Service]) -> None:
        raise NotImplementedError(self.name)

    def run(self, words: list[str], *, stdin: bytes | None = None) -> None:
        with (self.folder / "log").open("ab") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        if stdin and self.process.stdin:
            self.process.stdin.write(stdin)
            self.process.stdin.close()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def pids(self) -> list[int]:
        return [self.process.pid] if self.process else []


class SmallestC(Peer):
    name = "smallest_c"

    def __init__(self, folder: Path, binary: Path | None) -> None:
        super().__init__(folder)
        self.binary = binary

    def missing(self) -> str:
        return "" if self.binary else "no C compiler (gcc) here"

    def start(self, services: list[Service]) -> None:
        lines = "".join(" ".join(argv) + "\n" for _, argv, _ in services)
        self.run([str(self.binary), str(len(services))], stdin=lines.encode())


class S6(Peer):
    name, program = "s6", "s6-svscan"

    def start(self, services: list[Service]) -> None:
        for name, argv, _ in services:
            run = self.folder / name / "run"
            run.parent.mkdir()
            run.write_text("#!/bin/sh\nexec " + " ".join(argv) + "\n")
            run.chmod(0o755)
        self.run(["s6-svscan", str(self.folder)])


class Runit(Peer):
    name, program = "runit", "runsvdir"

    def start(self, services: list[Service]) -> None:
        for name, argv, _ in services:
            run = self.folder / "sv" / name / "run"
            run.parent.mkdir(parents=True)
            run.write_text("#!/bin/sh\nexec " + " ".join(argv) + "\n")
            run.chmod(0o755)
        self.run(["runsvdir", str(self.folder / "sv")])


class Monit(Peer):
    name, program = "monit", "monit"

    def start(self, services: list[Service]) -> None:
        text = f"set daemon 1\nset pidfile {self.folder}/monit.pid\nset idfile {self.folder}/monit.id\nset statefile {self.folder}/monit.state\n"
        for name, argv, file in services:
            script = self.folder / f"{name}.sh"
            script.write_text(f"#!/bin/sh\n{' '.join(argv)} </dev/null >/dev/null 2>&1 &\necho $! > {file}.pid\n")
            script.chmod(0o755)
            text += f'check process {name} with pidfile {file}.pid\n  start program = "{script}"\n'
        config = self.folder / "monitrc"
        config.write_text(text)
        config.chmod(0o600)
        self.run(["monit", "-I", "-c", str(config)])


class Supervisord(Peer):
    name = "supervisord"

    def missing(self) -> str:
        return "" if _importable("supervisor") else "supervisor is not installed"

    def start(self, services: list[Service]) -> None:
        text = f"[supervisord]\nnodaemon=true\nlogfile={self.folder}/sd.log\npidfile={self.folder}/sd.pid\nuser=root\n"
        if os.getuid():
            text = text.replace("user=root\n", "")
        for name, argv, _ in services:
            text += f"[program:{name}]\ncommand={' '.join(argv)}\nautorestart=true\nstartretries=1000\n"
        config = self.folder / "sd.conf"
        config.write_text(text)
        self.run([sys.executable, "-m", "supervisor.supervisord", "-c", str(config)])


class Circus(Peer):
    name, kills = "circus", 40  # seconds each

    def missing(self) -> str:
        return "" if _importable("circus") else "circus is not installed"

    def start(self, services: list[Service]) -> None:
        text = f"[circus]\nendpoint=ipc://{self.folder}/c\npubsub_endpoint=ipc://{self.folder}/p\nstats_endpoint=ipc://{self.folder}/s\n"
        for name, argv, _ in services:
            text += f"[watcher:{name}]\ncmd={argv[0]}\nargs={' '.join(argv[1:])}\nnumprocesses=1\nmax_retry=1000\n"
        config = self.folder / "circus.ini"
        config.write_text(text)
        self.run([sys.executable, "-m", "circus.circusd", str(config)])


def _importable(module: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
