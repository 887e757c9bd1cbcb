# SPDX-License-Identifier: Apache-2.0
"""A short round of the chaos bench: agent, guard, controller and broker are killed while apps die of faults; nothing is stopped, doubled or lost."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench/chaos.py"


def bench():
    """The bench as a module."""
    spec = importlib.util.spec_from_file_location("chaos", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.system
@pytest.mark.slow
def test_fc_pro_5_twenty_kills_amid_thirty_faults_stop_double_and_lose_nothing():
    pytest.importorskip("iotcore")
    chaos = bench()
    figures = chaos.run(kills=20, faults=30, seed=11, apps=6, every_s=1.0, amid=0.5)
    assert figures["kills"] >= 20
    assert figures["faults"] == 30
    assert {name: figures[name] for name in ("apps_stopped", "apps_doubled", "lost", "doubled")} == {
        "apps_stopped": 0,
        "apps_doubled": 0,
        "lost": 0,
        "doubled": 0,
    }


@pytest.fixture
def matched():
    """`match` of the bench over faults and incidents that the test writes: app "a", times in seconds, settled all the time but in `away`."""
    chaos = bench()

    def judge(faults, incidents, away=(0.0, 0.0), others=()):
        truth = chaos.Truth(Path("/nowhere"))
        truth.faults = [chaos.Fault("a", "kill", 1, n, 1_000.0 + at) for n, at in enumerate(faults)]
        truth.settled = [1_000.0 + tick / 10 for tick in range(1_000) if not away[0] <= tick / 10 <= away[1]]
        stamp = "1970-01-01T00:%02d:%02dZ"
        rows = [
            {"app": "a", "also": [], "symptom": "EXIT", "state": "RESOLVED", "id": str(n), "open_ms": 1_000, "opened": stamp % divmod(1_000 + at, 60)}
            for n, at in enumerate(incidents)
        ]
        rows[:0] = [rows[0] | {"app": "b", "also": ["a"], "id": "other", "symptom": "DISK_LOW", "opened": stamp % divmod(1_000 + at, 60)} for at in others]
        lost, surplus = chaos.match(truth, rows)
        return len(lost), len(surplus)

    return judge


def test_the_count_sees_a_lost_a_doubled_and_a_shared_incident(matched):
    assert matched([10, 30], [10, 30]) == (0, 0)
    assert matched([10, 30], [30]) == (1, 0), "the first was never told"
    assert matched([10], [10, 13]) == (0, 1), "the same end told twice"
    assert matched([10], [60]) == (1, 1), "too late to be this one"
    assert matched([10.0, 10.8], [10]) == (0, 0), "again inside its probation"
    assert matched([10, 14], [16], away=(9.0, 15.9)) == (0, 0), "nobody was there to tell the two apart"
    assert matched([10, 14], [16], away=(14.5, 15.9)) == (1, 0), "somebody was there between the two"
    assert matched([10, 24], [10], others=[25]) == (0, 0), "the incident of another that names it"
    assert matched([10, 24, 30], [10, 24, 31], others=[31]) == (0, 0), "which does not make one of its own superfluous"
