# SPDX-License-Identifier: Apache-2.0
"""A short round of the commands bench: no hostile word moves a whole device by any road, each is answered, and right ones between them are carried out."""

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
commands = importlib.import_module("commands")

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_no_hostile_word_is_carried_out_by_any_road_and_no_right_one_is_refused():
    figures = commands.run(150)
    assert (figures["carried_out"], figures["untyped"], figures["valid_refused"]) == (0, 0, 0), figures
    assert figures["tried"] == 150
    assert figures["valid"] >= 6
    assert len(figures["answers"]) >= 10, "all kinds of refusal were met"
    assert figures["bytes"] <= 260
