# SPDX-License-Identifier: Apache-2.0
"""The ten-minute start works as it is written: its blocks are run in order, in an empty folder, with the shipped command."""

import importlib.util
import os
import re
import signal
import subprocess
import sys

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = f"{TOP}/docs/start/ten-minutes.md"
PARTS = ("edgeheal.guard.main", "edgeheal.agent.main", "edgeheal.cli.device", "edgeheal.cli.status", "edgeheal.cli.incidents")


def blocks():
    with open(PAGE, encoding="utf-8") as file:
        return re.findall(r"^```bash\n(.*?)^```", file.read(), re.MULTILINE | re.DOTALL)


def sweep(root):
    """End what still carries the device's folder in its environment or words."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/environ", "rb") as one, open(f"/proc/{name}/cmdline", "rb") as two:
                if root.encode() in one.read() + two.read():
                    os.kill(int(name), signal.SIGKILL)
        except OSError:
            continue


@pytest.mark.system
@pytest.mark.timeout(180)
@pytest.mark.skipif(any(importlib.util.find_spec(p) is None for p in PARTS), reason="the command line is not whole here")
def test_the_ten_minute_start_works_as_it_is_written(tmp_path):
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "edgeheal"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={TOP} exec {sys.executable} -m edgeheal.cli.main "$@"\n')
    command.chmod(0o755)
    folder = tmp_path / "w"
    folder.mkdir()
    assert len(blocks()) >= 8
    script = "set -eu\n" + "\n".join(f"echo '== block {n}' >&2\n{text}" for n, text in enumerate(blocks(), 1))
    env = {k: v for k, v in os.environ.items() if not k.startswith("EDGEHEAL_")} | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=150, check=False)
    finally:
        sweep(str(folder / "box"))
    log = (folder / "guard.log").read_text(errors="replace")[-3000:] if (folder / "guard.log").exists() else ""
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n-- guard.log\n{log}"
