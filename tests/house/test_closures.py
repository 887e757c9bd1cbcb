# SPDX-License-Identifier: Apache-2.0
"""What stays resident for years stays light: the guard without third parties or heavy modules, the agent without cryptography."""

import importlib.util
import os
import subprocess
import sys

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HEAVY = ("hashlib", "dataclasses", "typing", "tomllib", "subprocess", "enum", "json", "re", "logging", "asyncio", "threading", "inspect", "pwd", "argparse")
THIRD = ("msgpack", "cryptography", "psutil", "paho", "serial", "iotcore", "cbor2")


def loaded_by(module, folders):
    """Modules in memory after a bare interpreter imported `module`."""
    code = f"import sys; sys.path[:0]={folders!r}; before=set(sys.modules); import {module}; print(' '.join(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


def here(module):
    return importlib.util.find_spec(module) is not None


@pytest.mark.skipif(not here("edgeheal.guard.main"), reason="edgeheal.guard.main is not here")
def test_the_resident_guard_loads_no_third_party_and_nothing_heavy():
    loaded = loaded_by("edgeheal.guard.main", [TOP])
    assert [m for m in loaded if m.split(".")[0] in THIRD] == []
    assert [m for m in loaded if m in HEAVY or m.split(".")[0] in ("asyncio", "concurrent", "email", "urllib")] == []


@pytest.mark.skipif(not here("edgeheal.guard.main"), reason="edgeheal.guard.main is not here")
def test_the_resident_guard_has_none_of_its_childrens_modules():
    loaded = loaded_by("edgeheal.guard.main", [TOP])
    children = ("importer", "storer", "verifier", "config_reader", "data_child", "child")
    assert [m for m in loaded if m in {f"edgeheal.guard.{c}" for c in children}] == []


@pytest.mark.skipif(not here("edgeheal.agent.main"), reason="edgeheal.agent.main is not here")
def test_the_resident_agent_never_loads_cryptography():
    folders = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    loaded = loaded_by("edgeheal.agent.main", [TOP, *folders])
    assert [m for m in loaded if m.split(".")[0] in ("cryptography", "cffi", "asyncio")] == []


def test_package_files_are_empty():
    full = []
    for folder, _, names in os.walk(f"{TOP}/edgeheal"):
        path = f"{folder}/__init__.py"
        if "__init__.py" in names and os.path.getsize(path) and any(not line.startswith("#") for line in open(path).read().splitlines() if line.strip()):
            full.append(path)
    assert full == []
