# SPDX-License-Identifier: Apache-2.0
"""`fleet tail`: the golden lines, one id everywhere, nothing from outside unescaped."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
from wire_eight import EIGHT, NOW_NS, SESSION

from edgeheal.core.ids import short_id
from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.fleet import views
from edgeheal.wire import packed, standin, summary

AT = time.mktime((2026, 11, 25, 22, 14, 9, 0, 0, -1))
LINES = {
    "sensor stuck": "22:14:09  CRIT gw-0417  Lyon-3   modbus-gw  NEEDS YOU meter 2 stuck 82%      power cycle usb 1-1.2: no gap 34m   3rd/7d  ",
    "out of memory": "22:14:09  warn gw-0417  Lyon-3   modbus-gw  HEALED    out of memory 74%      restart: ok 1.7s       down 1.9s 1st     ",
    "crash loop to rollback": "22:14:09  ERR  gw-0417  Lyon-3   modbus-gw  HEALED    crash loop 93%         rollback 2.3.9: ok 2.9s down 14s  1st     ",
    "network loss": "22:14:09  info gw-0417  Lyon-3   box        HEALED    network 90%            hold and look: ok 423.0s           12th/7d ",
}


def record(kind: str) -> summary.Record:
    return summary.read(packed.with_key(summary.encode(EIGHT[kind], session=SESSION, now_ns=NOW_NS), SESSION, 5))


@pytest.mark.parametrize("kind", LINES)
def test_golden_lines_of_the_tail(kind):
    line = views.incident_line("gw-0417", record(kind), received=AT, place="Lyon-3")
    assert line == LINES[kind] + short_id(SESSION, EIGHT[kind].number)


def test_documents_carry_names_and_the_same_id():
    for kind in EIGHT:
        document = views.incident_document("gw-0417", record(kind), received=AT, size=99, place="Lyon-3")
        assert document["id"] == short_id(SESSION, EIGHT[kind].number)
        assert document["symptom"] == EIGHT[kind].symptom.name
        assert document["bytes"] == 99
        assert all(c["says"] for c in document["causes"])
        assert document["received"].endswith("Z")


def test_what_a_device_says_is_escaped():
    nasty = replace(EIGHT["sensor stuck"], app="\x1b[2J\n", subject="\u202e\x07x")
    line = views.incident_line("gw", summary.read(summary.encode(nasty, session=SESSION)), received=AT)
    assert line.isprintable()
    assert line.isascii()


def test_many_boxes_with_one_fault_are_a_few_lines_and_a_count():
    folding = views.Folding()
    shown = [folding.take(record("out of memory"), 100.0 + n / 10) for n in range(44)]
    assert sum(shown) == 3
    (line,) = folding.ended(120.0)
    assert "41 more like" in line
    assert "(all modbus-gw 2.4.1)" in line
    assert not folding.ended(130.0)
    assert folding.take(record("out of memory"), 130.0)


@pytest.mark.parametrize("kind", list(StandinKind))
def test_stand_ins_are_told(kind):
    body = standin.encode(Standin(kind, (Span(SESSION, 1, 9),), 9, reason=24), SESSION)
    said = summary.read(body).standin
    assert " 9 reports " in views.standin_line("gw", said, received=AT)
