# SPDX-License-Identifier: Apache-2.0
"""`scripts/install` and `uninstall`, into a folder that stands for an image."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


def run(script, to, *words, python=sys.executable):
    # the distribution's libraries stand for those of the interpreter that runs this test
    env = os.environ | {"DESTDIR": str(to), "EDGEHEAL_PYTHON": python, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p.endswith("-packages"))}
    return subprocess.run([str(TOP / "scripts" / script), *words], capture_output=True, text=True, timeout=150, check=False, env=env)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    to = tmp_path_factory.mktemp("image")
    done = run("install", to, "--distro", "--init", "systemd", "--controller")
    assert done.returncode == 0, done.stderr
    return to


def test_units_and_their_helpers_are_put_where_the_units_look(image):
    for name in ("guard", "agent", "controller"):
        text = (image / f"usr/lib/systemd/system/edgeheal-{name}.service").read_text()
        for line in text.splitlines():
            if line.startswith(("ExecStart=", "ExecStop=", "ExecStartPre=")):
                program = line.partition("=")[2].lstrip("-").split()[0]
                assert os.access(image / program[1:], os.X_OK), program


def test_what_was_installed_runs(image):
    python = image / "usr/lib/edgeheal/venv/bin/python"
    code = "import edgeheal, sys; print(edgeheal.__path__[0])"
    done = subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().startswith(str(image))
    assert "/usr/lib/edgeheal/venv/bin/python -I -m edgeheal.cli.main" in (image / "usr/bin/edgeheal").read_text()


def test_an_image_carries_no_identity(image):
    assert list((image / "etc/edgeheal").rglob("*.toml")) == []
    assert list((image / "etc/edgeheal/keys").iterdir()) == []


def test_nothing_installed_is_writable_by_others(image):
    loose = [p for p in image.rglob("*") if not p.is_symlink() and p.stat().st_mode & 0o022]
    assert loose == []


def test_what_lacks_a_library_changes_nothing(tmp_path):
    done = run("install", tmp_path, "--init", "none", "--wheels", str(tmp_path))
    assert done.returncode != 0
    assert not (tmp_path / "usr/bin/edgeheal").exists()


def test_an_upgrade_and_a_removal_keep_config_and_data_until_purged(tmp_path):
    assert run("install", tmp_path, "--distro", "--init", "openrc").returncode == 0
    (tmp_path / "etc/edgeheal/edgeheal.toml").write_text("# mine\n")
    again = run("install", tmp_path, "--distro", "--init", "openrc")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "usr/lib/edgeheal/venv").readlink() == Path("venv-2")
    assert (tmp_path / "usr/lib/edgeheal/venv-1/bin").is_dir(), "what runs goes on with the files that it was started from"
    assert run("uninstall", tmp_path).returncode == 0
    assert (tmp_path / "etc/edgeheal/edgeheal.toml").read_text() == "# mine\n"
    assert not (tmp_path / "usr/lib/edgeheal").exists()
    assert not (tmp_path / "usr/bin/edgeheal").exists()
    assert run("uninstall", tmp_path, "--purge").returncode == 0
    assert [p for p in tmp_path.rglob("*") if not p.is_dir()] == []


@pytest.mark.parametrize("script", ["install", "uninstall"])
def test_unknown_words_are_usage(tmp_path, script):
    done = run(script, tmp_path, "--nonsense")
    assert done.returncode == 2
    assert "scripts/" in done.stderr
