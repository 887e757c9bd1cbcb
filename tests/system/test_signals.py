# SPDX-License-Identifier: Apache-2.0
"""A short round of the signals bench: a few faults made for real on a whole device are noticed, and the right one is blamed first."""

import importlib
import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
signals = importlib.import_module("signals")
hours = importlib.import_module("signals_hours")

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("gcc") or not os.path.exists("/dev/fuse"), reason="needs root, gcc, /dev/fuse, loop devices"
)


@pytest.fixture(scope="module")
def figures():
    os.environ["BENCH_FAULTS"] = "resolve mount five"
    try:
        return signals.enter("faults")
    finally:
        del os.environ["BENCH_FAULTS"]


def row(figures, words):
    return next(r for r in figures["faults"] if words in r["name"])


@pytest.mark.root
@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_root
class TestOnADevice:
    def test_fc_log_1_an_app_without_descriptors_that_speaks_of_names_is_blamed_for_descriptors(self, figures):
        found = row(figures, "cannot resolve")
        assert (found["symptom"], found["causes"][0]) == ("FD_GROWTH", "APP_DESCRIPTORS"), found

    def test_fc_sto_3_a_mount_that_answers_nobody_is_named_and_the_loop_goes_on(self, figures):
        found = row(figures, "mount answers nobody")
        assert (found["symptom"], found["causes"][0]) == ("MOUNT_HANG", "DEVICE_IO"), found
        assert figures["longest_gap_ms"] < 1_000, "nothing of it blocked the loop"

    def test_fc_log_3_four_broken_apps_under_one_weak_supply_are_one_incident(self, figures):
        found = row(figures, "weak supply")
        assert (found["symptom"], found["causes"][0], found["cause_first"]) == ("UNDERVOLTAGE", "SUPPLY", True), found


def test_healthy_hours_see_no_remedy():
    found = hours.hours(12, 1)
    assert found["hours"] >= 12
    assert found["wrong_remedies"] == 0, found["what"]
