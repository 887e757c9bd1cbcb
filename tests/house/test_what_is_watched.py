# SPDX-License-Identifier: Apache-2.0
"""The docs' table of what is watched is whole, and says of each symptom what the code says."""

import sys
from pathlib import Path

import pytest

from edgeheal.core import words
from edgeheal.core.kinds import SymptomKind
from edgeheal.core.policy import Policy
from edgeheal.detect import kernel

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def watched():
    sys.path.insert(0, str(DOCS))
    try:
        import watched as table
    finally:
        sys.path.remove(str(DOCS))
    return table


def test_every_symptom_has_its_line_and_every_cell_is_filled(watched):
    assert set(watched.WATCHED) == set(SymptomKind)
    rows = watched.rows()
    assert [row[0] for row in rows] == [words.SYMPTOMS[kind] for kind in watched.WATCHED]
    assert all(all(cell.strip() for cell in row) and len(row) == len(watched.HEAD) for row in rows)


def test_times_and_remedies_are_those_of_the_code(watched):
    limits = Policy().thresholds
    assert f"{limits.crash_loop_exits} ends" in watched.WATCHED[SymptomKind.CRASH_LOOP][2]
    assert watched.span(limits.link_down_s) in watched.WATCHED[SymptomKind.CARRIER][2]
    assert watched.done(SymptomKind.SENSOR_STUCK) == "power cycle"
    assert watched.done(SymptomKind.FLASH_WEAR) == "hold and look"
    assert watched.done(SymptomKind.TWIN) == "call a human"
    assert "reboot" not in "".join(watched.done(kind) for kind in SymptomKind if kind.name.startswith(("SENSOR", "MEMORY", "FD", "BROKER", "CARRIER")))


def test_every_word_of_the_kernel_that_is_judged_is_listed(watched):
    assert {row[0] for row in watched.KERNEL_ROWS} == set(kernel.ROWS)
    text = (DOCS / "explain/what-it-watches.md").read_text()
    assert "reference/generated/watched.md" in text
