# SPDX-License-Identifier: Apache-2.0
"""The hooks that we hand out do what their first lines say, over a made-up /sys, and answer in three words."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HOOKS = Path(__file__).resolve().parents[2] / "firmware_hooks"
FILES = sorted(p for p in HOOKS.glob("*/*.d/*") if p.is_file())


def run(name, **env):
    words = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | {k: str(v) for k, v in env.items()}
    return subprocess.run([HOOKS / name], env=words, capture_output=True, text=True, timeout=20, check=False).returncode


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_each_example_is_executable_plain_shell_without_fault(path):
    assert path.stat().st_mode & 0o111
    assert path.read_text().startswith("#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n")
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here")
    done = subprocess.run(["shellcheck", "--shell=sh", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def usb(tmp_path):
    """A /sys with one USB device behind a hub's port that can be switched."""
    device, port = tmp_path / "sys/bus/usb/devices/1-1.2", tmp_path / "sys/hub/1-1-port2"
    device.mkdir(parents=True)
    port.mkdir(parents=True)
    (port / "disable").write_text("0\n")
    (device / "port").symlink_to(port)
    (device / "authorized").write_text("1\n")
    return {"EDGEHEAL_HOOK_SYS": tmp_path / "sys", "EDGEHEAL_HOOK_OFF_S": 0, "EDGEHEAL_HOOK_TARGETS": tmp_path / "targets"}, device, port


def test_a_usb_port_is_off_for_a_moment_and_never_stays_off(usb):
    env, device, port = usb
    assert run("hooks/power-cycle.d/10-usb-port", EDGEHEAL_TARGET="1-1.2", **env) == 0
    assert (port / "disable").read_text() == "0\n"
    assert run("hooks/power-cycle.d/10-usb-port", EDGEHEAL_TARGET="1-1.2", **(env | {"EDGEHEAL_HOOK_OFF_S": "no number"})) == 1
    assert (port / "disable").read_text() == "0\n", "given back, whatever happens"
    (device / "port").unlink()
    assert run("hooks/power-cycle.d/10-usb-port", EDGEHEAL_TARGET="1-1.2", **env) == 0
    assert (device / "authorized").read_text() == "1\n"


def test_a_usb_port_is_named_by_the_target_or_by_the_only_one_there_is(usb):
    env, _, _ = usb
    assert run("hooks/power-cycle.d/10-usb-port", **env) == 2, "no target"
    env["EDGEHEAL_HOOK_TARGETS"].write_text("1-1.2\n")
    assert run("hooks/power-cycle.d/10-usb-port", **env) == 0
    env["EDGEHEAL_HOOK_TARGETS"].write_text("1-1.2\n1-1.3\n")
    assert run("hooks/power-cycle.d/10-usb-port", **env) == 2, "which one?"
    assert run("hooks/power-cycle.d/10-usb-port", EDGEHEAL_TARGET="../../x", **env) == 2
    assert run("hooks/power-cycle.d/10-usb-port", EDGEHEAL_TARGET="9-9", **env) == 1


def test_an_interface_goes_down_and_comes_up(tmp_path):
    (tmp_path / "class/net/wwan0").mkdir(parents=True)
    said = tmp_path / "said"
    tool = tmp_path / "ip"
    tool.write_text(f'#!/bin/sh\necho "$*" >> {said}\n')
    tool.chmod(0o755)
    env = {"EDGEHEAL_HOOK_SYS": tmp_path, "EDGEHEAL_HOOK_IP": tool}
    assert run("hooks/interface.d/10-down-up", EDGEHEAL_TARGET="wwan0", **env) == 0
    assert said.read_text() == "link set dev wwan0 down\nlink set dev wwan0 up\n"
    assert [run("hooks/interface.d/10-down-up", EDGEHEAL_TARGET=name, **env) for name in ("lo", "", "eth9")] == [2, 2, 1]


def test_a_board_is_well_hot_or_not_known(tmp_path):
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    for name, text in (("temp", "45000"), ("trip_point_0_type", "critical"), ("trip_point_0_temp", "110000")):
        (zone / name).write_text(text + "\n")
    env = {"EDGEHEAL_HOOK_SYS": tmp_path, "EDGEHEAL_HOOK_VAR": tmp_path}
    assert run("checks/required.d/10-board", **env) == 0
    (zone / "temp").write_text("115000\n")
    assert run("checks/required.d/10-board", **env) == 1
    assert run("checks/required.d/10-board", **(env | {"EDGEHEAL_HOOK_VAR": "/nowhere/at/all", "EDGEHEAL_HOOK_SYS": "/nowhere"})) in (0, 2)


def test_a_safe_state_is_reached_and_read_back(tmp_path):
    pump, valve, outputs = tmp_path / "pump", tmp_path / "valve", tmp_path / "outputs"
    pump.write_text("1\n")
    valve.write_text("1\n")
    env = {"EDGEHEAL_HOOK_OUTPUTS": outputs}
    assert run("hooks/safe-state.d/10-outputs-off", **env) == run("hooks/safe-state-check.d/10-outputs-off", **env) == 2, "what is safe is not known"
    outputs.write_text(f"# outputs\n{tmp_path}/none/x 0\n{pump} 0\n{valve} 0\n")
    assert run("hooks/safe-state-check.d/10-outputs-off", **env) == 2
    assert run("hooks/safe-state.d/10-outputs-off", **env) == 1
    assert pump.read_text() == valve.read_text() == "0\n", "one that fails does not keep the others from being made safe"
    outputs.write_text(f"{pump} 0\n{valve} 0\n")
    assert run("hooks/safe-state-check.d/10-outputs-off", **env) == 0
    valve.write_text("1\n")
    assert run("hooks/safe-state-check.d/10-outputs-off", **env) == 1


@pytest.mark.parametrize(("text", "answer"), [("0\n", 0), ("12\n", 75), ("odd\n", 2), ("", 2), (None, 2)])
def test_an_interlock_says_go_not_now_or_could_not_tell(tmp_path, text, answer):
    if text is not None:
        (tmp_path / "moving").write_text(text)
    assert run("hooks/interlock.d/10-machine-at-rest", EDGEHEAL_HOOK_MOVING=tmp_path / "moving") == answer
