# SPDX-License-Identifier: Apache-2.0
"""The shipped units: exposure within its bars, and nothing in the guard's that an app could not live with."""

import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parents[2] / "packaging"
SYSTEMD = PACKAGING / "systemd"
BARS = {"guard": 6.7, "agent": 2.0, "controller": 2.0}


def unit(name):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(SYSTEMD / f"edgeheal-{name}.service")
    return parser["Service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", BARS)
def test_exposure_stays_within_its_bar(name):
    words = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(SYSTEMD / f"edgeheal-{name}.service")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"LC_ALL": "C", "SYSTEMD_COLORS": "0"})
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze cannot judge a file: {done.stderr.strip()[:100]}")
    print(name, found[1])
    assert float(found[1]) <= BARS[name]


@pytest.mark.parametrize(
    "word",
    [
        "NoNewPrivileges", "PrivateNetwork", "MemoryDenyWriteExecute", "IPAddressDeny", "PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock",
        "PrivateTmp", "ProtectSystem", "ProtectKernelTunables", "ProtectControlGroups", "RestrictSUIDSGID", "SystemCallArchitectures", "RestrictNamespaces",
        "LockPersonality", "PrivateUsers", "ProtectProc", "DynamicUser",
    ],
)  # fmt: skip
def test_the_guard_s_unit_takes_nothing_from_apps_that_they_may_need(word):
    assert word not in unit("guard")  # network, devices, writable and executable memory, setgid folders, 32-bit programs


def test_the_guard_s_unit_spares_the_apps():
    guard = unit("guard")
    assert guard["KillMode"] == "process"
    assert guard["OOMPolicy"] == "continue"
    assert guard["Delegate"]
    assert guard["Type"] == "notify"


@pytest.mark.parametrize("name", BARS)
def test_a_unit_is_started_again_for_ever(name):
    assert unit(name)["Restart"] == "always"
    assert "StartLimitIntervalSec=0" in (SYSTEMD / f"edgeheal-{name}.service").read_text()


def test_the_users_of_the_config_are_made():
    from edgeheal.config.schema import Users

    text = (SYSTEMD / "edgeheal.sysusers").read_text()
    users = Users()
    for name in (users.agent, users.import_, users.store, users.verify, users.check):
        assert re.search(rf"^u {name} ", text, re.M), name
    assert re.search(rf"^g {users.group} ", text, re.M)
    assert "\nm " not in text  # the agent is never in the people's group


def test_the_agent_is_left_to_its_unit():
    from edgeheal.config.files import read_file
    from edgeheal.config.load import load_texts

    config = load_texts((read_file(str(SYSTEMD / "10-systemd.toml")),), str(SYSTEMD)).require()
    assert config.guard.spawn_agent is False


SLEEPER = "import signal, sys\nsignal.signal(signal.SIGINT, lambda *_: sys.exit(9))\nprint('up', flush=True)\nsignal.pause()\n"


@pytest.mark.parametrize(("state", "ended"), [("running", None), ("stopping", 9), ("degraded", None)])
def test_only_a_shutdown_stops_the_apps(state, ended):
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        helper = subprocess.Popen([str(SYSTEMD / "at-shutdown"), str(process.pid)], env=os.environ | {"EDGEHEAL_SYSTEM_STATE": state})
        if ended is not None:
            assert process.wait(30) == ended  # reaped: only now can the helper see that it is gone
        assert helper.wait(30) == 0
        assert process.poll() == ended
    finally:
        process.send_signal(signal.SIGKILL) if process.poll() is None else None
        process.wait(10)
        process.stdout.close()
