# SPDX-License-Identifier: Apache-2.0
"""A short round of the hostile bench: the harness sees a seeded hole of each kind, and the guard as it is has none of them."""

import importlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
hostile = importlib.import_module("hostile")

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root and separate uids"),
]


@pytest.mark.parametrize("hole", hostile.HOLES)
def test_the_harness_sees_a_seeded_hole(hole):
    assert hostile.seen(hole, hostile.attack(400, hole))


def test_a_hostile_agent_moves_nothing_it_may_not():
    figures = hostile.attack(2_000)
    assert figures["accepted"] >= 0.3 * figures["asked"]
    assert (figures["unwarranted"], figures["exceeded"], figures["outside"]) == (0, 0, []), figures
    assert figures["works"]
    assert figures["grown_kib"] < 1_024


def test_hostile_apps_are_contained_and_the_calm_one_does_not_feel_them():
    assert {name: why for name, why in hostile.hostile_apps.cases().items() if why} == {}
