# SPDX-License-Identifier: Apache-2.0
"""A device whose watchdogs, boot id and reset reasons are the test's."""

import shutil
import subprocess
from pathlib import Path

import pytest
from dog_box import DogBox


@pytest.fixture(scope="session")
def fakedog(tmp_path_factory):
    """The preloaded library, compiled once."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc: the fake watchdog cannot be compiled")
    made = tmp_path_factory.mktemp("fakedog") / "fakedog.so"
    source = Path(__file__).with_name("fakedog.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture
def dog_box(tmp_path, fakedog):
    """Makes devices: `dog_box(dogs={...}, guard=..., more=...)`; they are ended with everything that ran on them."""
    made = []

    def make(**words):
        folder = tmp_path / f"box{len(made)}"
        folder.mkdir()
        made.append(DogBox(folder, fakedog, **words))
        return made[-1]

    yield make
    for box in made:
        box.end()
