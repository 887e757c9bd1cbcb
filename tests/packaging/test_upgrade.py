# SPDX-License-Identifier: Apache-2.0
"""EdgeHeal itself is exchanged under running apps: a short round of the upgrade bench; and what is resident keeps the files that it was started from."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.mark.system
@pytest.mark.slow
def test_versions_are_exchanged_up_and_down_and_no_app_is_stopped_or_doubled_and_no_incident_lost(monkeypatch):
    pytest.importorskip("iotcore")
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    spec = importlib.util.spec_from_file_location("upgrade", BENCH / "upgrade.py")
    upgrade = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(upgrade)
    figures = upgrade.run(rounds=3, seed=5, apps=2)
    wrong = {name: figures[name] for name in ("apps_stopped", "apps_doubled", "incidents_lost", "incidents_doubled") if figures[name]}
    assert not wrong
    assert figures["rounds"] == 3
    assert figures["and_said_so"] == figures["met_another_frame_version"]


def test_a_resident_process_keeps_the_files_of_its_own_version_when_the_link_is_turned(tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copytree(BENCH.parent / "edgeheal", tmp_path / "one/edgeheal", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "current").symlink_to("one")
    code = "from edgeheal.cli.processes import package_parent; print(package_parent())"
    env = os.environ | {"PYTHONPATH": str(tmp_path / "current"), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "one")
