# SPDX-License-Identifier: Apache-2.0
"""The command line: processor time and wall clock of `status` and `explain` beside a bare interpreter, `systemctl status` and `monit status`.

The device is a whole one as the demo sets it, with an app that was killed and healed, so that there is something to tell. Each command is a
process of its own, started in turn with the others; figures are medians, CPU is user + system of the process and its children.
`systemctl_ms` and `monit_ms` are CPU, too; `wall_ms` has the wall clock of each. A peer that cannot be had says why.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 25
WARM = 2


def run() -> dict[str, Any]:
    """Medians of ROUNDS each."""
    from edgeheal.lab import demo, scenes
    from edgeheal.lab.stage import Stage

    with tempfile.TemporaryDirectory(prefix="bench-cli-", ignore_cleanup_errors=True) as name, Stage(Path(name)) as stage:
        play, world = demo.set_stage(stage, lambda _: None)
        healed = scenes.play_one("kill", play)
        if not healed.ok:
            raise SystemExit(f"bench cli: the device did not heal: {healed}")
        ours = [sys.executable, "-m", "edgeheal.cli.main"]
        commands = {
            "bare": [sys.executable, "-c", "pass"],
            "status": [*ours, "status", "--root", str(stage.root)],
            "explain": [*ours, "explain", _incident(stage), "--root", str(stage.root)],
        }
        skipped: dict[str, str] = {}
        commands |= _systemctl(skipped)
        monit = _monit(Path(name), commands, skipped)
        try:
            figures = _measured(commands, stage.environment())
        finally:
            world.close()
            if monit is not None:
                monit.kill()
                monit.wait()
    out: dict[str, Any] = {
        "status_cpu_ms": figures["status"][0], "explain_cpu_ms": figures["explain"][0], "bare_cpu_ms": figures["bare"][0],
        "systemctl_ms": figures["systemctl"][0] if "systemctl" in figures else {"skipped": skipped["systemctl"]},
        "monit_ms": figures["monit"][0] if "monit" in figures else {"skipped": skipped["monit"]},
    }  # fmt: skip
    return out | {"wall_ms": {key: wall for key, (_, wall) in figures.items()}}


def _incident(stage: Any) -> str:
    rows = stage.answer("incidents")
    rows = rows["incidents"] if isinstance(rows, dict) else rows
    return str(rows[0]["id"])


def _systemctl(skipped: dict[str, str]) -> dict[str, list[str]]:
    if not shutil.which("systemctl"):
        skipped["systemctl"] = "systemd is not installed"
    elif not os.path.isdir("/run/systemd/system"):
        skipped["systemctl"] = "systemd is not the init of this machine"
    else:
        return {"systemctl": ["systemctl", "--no-pager", "status", "--lines=0", "dbus.service"]}
    return {}


def _monit(folder: Path, commands: dict[str, list[str]], skipped: dict[str, str]) -> "subprocess.Popen[bytes] | None":
    """A monit that watches one process, and the command that asks it."""
    program = shutil.which("monit")
    if not program:
        skipped["monit"] = "monit is not installed"
        return None
    config = folder / "monitrc"
    pid = folder / "app.pid"
    pid.write_text(str(os.getpid()))
    config.write_text(
        f"set daemon 30\nset pidfile {folder}/m.pid\nset idfile {folder}/m.id\nset statefile {folder}/m.state\n"
        f"set httpd unixsocket {folder}/m.sock allow bench:watcher\ncheck process app with pidfile {pid}\n"
    )
    config.chmod(0o600)
    process = subprocess.Popen([program, "-I", "-c", str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    words = [program, "-c", str(config), "status"]
    end = time.monotonic() + 10
    while subprocess.run(words, capture_output=True, check=False).returncode != 0:
        if time.monotonic() > end or process.poll() is not None:
            process.kill()
            process.wait()
            skipped["monit"] = "monit did not answer within 10 s"
            return None
        time.sleep(0.1)
    commands["monit"] = words
    return process


def _measured(commands: dict[str, list[str]], env: dict[str, str]) -> dict[str, tuple[float, float]]:
    """(CPU ms, wall ms) of each: medians over rounds in which each has its turn."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(ROUNDS + WARM):
        for name, words in commands.items():
            taken[name].append(_once(words, env))
    return {name: tuple(statistics.median(row[i] for row in rows[WARM:]) for i in (0, 1)) for name, rows in taken.items()}  # type: ignore[misc]


def _once(words: list[str], env: dict[str, str]) -> tuple[float, float]:
    began = time.monotonic()
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 10):
        raise SystemExit(f"bench cli: {' '.join(words)} ended with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000, wall * 1000
