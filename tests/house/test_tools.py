# SPDX-License-Identifier: Apache-2.0
"""Lint, format, types and the import contract hold for the whole checkout; the docs build without a warning."""

import importlib.util
import os
import subprocess
import sys

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(*words, **kind):
    env = os.environ | {"PYTHONPATH": TOP, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=TOP, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False, **kind)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-6000:]}"
    return done.stdout


def test_ruff_finds_nothing():
    run("ruff", "check", "--output-format", "concise", ".")


def test_every_file_is_formatted():
    run("ruff", "format", "--check", ".")


@pytest.mark.timeout(600)
def test_mypy_strict_finds_nothing():
    run("mypy")


def test_the_import_contract_is_kept():
    run("lint-imports")


@pytest.mark.skipif(
    importlib.util.find_spec("sphinx") is None or importlib.util.find_spec("myst_parser") is None, reason="sphinx or myst-parser is not installed"
)
def test_the_docs_build_without_a_warning(tmp_path):
    run(sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(tmp_path / "trees"), "docs", str(tmp_path / "html"))
    assert (tmp_path / "html" / "reference" / "generated" / "config.html").exists()
