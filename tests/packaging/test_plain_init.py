# SPDX-License-Identifier: Apache-2.0
"""Without an init system to speak of: the guard is a child of a plain init script, which keeps it running and stops all of it in order."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeheal.lab.stage import Stage, until

TOP = Path(__file__).parents[2]
APP = '#!/bin/sh\ntrap "echo x >> $EDGEHEAL_DATA/ended; exit 0" TERM\necho $$ > "$EDGEHEAL_DATA/pid"\nwhile :; do sleep 0.1; done\n'
IMAGE = 'app = "a"\nversion = "1"\nsecurity_counter = 1\ndevice = ["lab"]\nsoak_s = 5\n[run]\nargv = ["a.sh"]\nstop_ms = 3000\n'


class Script:
    """/etc/init.d/edgeheal with the paths of a device in a folder."""

    def __init__(self, stage):
        self.stage = stage
        self.folder = stage.folder
        program = self.folder / "edgeheal"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgeheal.cli.main "$@"\n')
        program.chmod(0o755)
        self.env = stage.environment() | {"EDGEHEAL": str(program), "EDGEHEAL_ROOT": str(stage.root), "EDGEHEAL_LOG": str(self.folder / "log")}

    def __call__(self, word, check=True, **env):
        words = [str(TOP / "packaging/init/edgeheal"), word]
        return subprocess.run(
            words, env=self.env | env, check=check, timeout=60, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def pid(self, name):
        return int((self.stage.root / "run/edgeheal.init" / name).read_text())

    def answers(self):
        return (self.stage.answer("status") or {}).get("agent") == "ok"


@pytest.fixture
def script(tmp_path):
    with Stage(tmp_path) as stage:
        keys = stage.keys
        for role in ("root", "release"):
            stage.edgeheal("key", "new", "--role", role, "-o", str(keys / role))
        trust = stage.root / "usr/share/edgeheal/trust"
        trust.mkdir(parents=True)
        stage.edgeheal("key", "trust", "--root-key", str(keys / "root"), "--release", str(keys / "release"), "-o", str(trust / "00001.eht"))
        (tmp_path / "src/files").mkdir(parents=True)
        (tmp_path / "src/files/a.sh").write_text(APP)
        (tmp_path / "src/files/a.sh").chmod(0o755)
        (tmp_path / "src/image.toml").write_text(IMAGE)
        stage.edgeheal("image", "build", str(tmp_path / "src"), "--key", str(keys / "release"), "-o", str(tmp_path / "a.ehi"))
        stage.write_config('[device]\nid = "one"\nclasses = ["lab"]\n[apps.a]\n[guard]\nsoak_min = "5s"\n')
        one = Script(stage)
        yield one
        one("shutdown", check=False)


def app(stage):
    return next(((path.parent, int(path.read_text())) for path in stage.root.glob("var/lib/edgeheal/data/a/*/pid") if path.read_text().strip()), (None, 0))


@pytest.mark.system
def test_a_plain_init_script_keeps_the_guard_and_stops_the_apps_only_on_the_way_down(script):
    stage = script.stage
    assert script("status", check=False).returncode == 3
    script("start")
    until(script.answers, 60, "guard and agent")
    stage.on_device("image", "install", str(stage.folder / "a.ehi"))
    until(lambda: app(stage)[1], 20, "the app")
    data, pid = app(stage)
    assert "runs already" in script("start").stdout
    guard = script.pid("guard")
    os.kill(guard, signal.SIGKILL)
    until(lambda: script.pid("guard") != guard and script.answers(), 60, "another guard")
    script("restart")
    until(script.answers, 60, "guard and agent after a restart")
    script("reload")
    assert script("status").returncode == 0
    script("stop")
    assert not (stage.root / "run/edgeheal.init/guard").exists()
    assert app(stage) == (data, pid)
    os.kill(pid, 0)
    script("start")
    until(script.answers, 60, "guard and agent after a stop")
    assert app(stage) == (data, pid)
    assert not (data / "ended").exists()
    script("stop", RUNLEVEL="6")
    assert (data / "ended").read_text() == "x\n"
    assert "[began]" in (stage.folder / "log").read_text()


def test_unknown_words_are_usage():
    done = subprocess.run([str(TOP / "packaging/init/edgeheal"), "dance"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "shutdown" in done.stderr
