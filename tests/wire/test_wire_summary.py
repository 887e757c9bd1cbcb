# SPDX-License-Identifier: Apache-2.0
"""An incident on the wire: small, whole, readable by the next version and the one before."""

import json
import statistics
from dataclasses import fields, replace
from pathlib import Path

import msgpack
import pytest
from wire_eight import EIGHT, NOW_NS, SESSION

from edgeheal.core import words
from edgeheal.core.incident import Cause, Evidence, Tried
from edgeheal.core.kinds import CauseKind, EvidenceCode, IncidentState, Outcome, RemedyKind, SymptomKind
from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.wire import packed, results, standin, summary

GOLDEN = Path(__file__).parent / "golden"
SEQ = 4_711


def sent(incident):
    return packed.with_key(summary.encode(incident, session=SESSION, now_ns=NOW_NS), SESSION, SEQ)


def test_the_eight_kinds_are_small():
    sizes = {kind: len(sent(incident)) for kind, incident in EIGHT.items()}
    assert statistics.median(sizes.values()) <= 158, sizes
    assert max(sizes.values()) <= 245, sizes


@pytest.mark.parametrize("kind", EIGHT)
def test_every_field_of_the_summary_table_arrives(kind):
    incident = EIGHT[kind]
    record = summary.read(sent(incident))
    got = record.incident
    exact = {f.name for f in fields(incident)} - {
        "opened_ns", "closed_ns", "opened_box_s", "causes", "evidence", "tried", "image", "planned_at_ns", "session",
    }  # fmt: skip
    for name in exact:
        assert getattr(got, name) == getattr(incident, name), name
    assert [(c.kind, round(c.probability, 2), c.subject) for c in got.causes] == [(c.kind, round(c.probability, 2), c.subject) for c in incident.causes]
    assert [(e.code, pytest.approx(e.value, rel=1e-6), e.limit, e.text, e.speaks_for) for e in got.evidence] == [
        (e.code, e.value, e.limit, e.text, e.speaks_for) for e in incident.evidence
    ]
    assert [(t.kind, t.outcome, t.reason, t.target) for t in got.tried] == [(t.kind, t.outcome, t.reason, t.target) for t in incident.tried]
    assert sum(t.seconds for t in got.tried) == pytest.approx(sum(t.seconds for t in incident.tried), abs=0.01)
    assert incident.image.startswith(got.image)
    assert (record.session, record.seq) == (SESSION, SEQ)
    assert record.open_ms == 75_000
    assert got.session == SESSION


@pytest.mark.parametrize("kind", EIGHT)
def test_any_plain_msgpack_reader_can_read_it(kind):
    version, body = msgpack.unpackb(sent(EIGHT[kind]), strict_map_key=False)
    assert version == 1
    assert all(isinstance(k, int) for k in body)


@pytest.mark.parametrize("kind", EIGHT)
def test_json_says_the_same_and_comes_back(kind):
    raw = sent(EIGHT[kind])
    text = summary.to_json(raw)
    assert json.loads(text)["session"] == SESSION.hex()
    assert summary.read(text) == summary.read(raw)
    assert summary.headline(text) == summary.headline(raw)


@pytest.mark.parametrize("kind", EIGHT)
def test_golden_bytes_stay_readable_and_are_still_what_we_write(kind):
    path = GOLDEN / f"summary-1-{kind.replace(' ', '-')}.hex"
    assert bytes.fromhex(path.read_text()) == sent(EIGHT[kind]), "a change of the bytes needs a new version and a new golden file beside this one"
    assert summary.read(bytes.fromhex(path.read_text())).incident.symptom == EIGHT[kind].symptom


def test_columns_agree_with_the_whole():
    for incident in EIGHT.values():
        h, r = summary.headline(sent(incident)), summary.read(sent(incident))
        assert (h.session, h.seq, h.number, h.owner) == (r.session, r.seq, r.incident.number, r.incident.session)
        assert (h.app, h.symptom, h.severity, h.state, h.need) == (
            r.incident.app, r.incident.symptom, r.incident.severity, r.incident.state, r.incident.need,
        )  # fmt: skip
        assert (h.revision, h.opened_s, h.fingerprint, h.image) == (r.incident.revision, r.incident.opened_s, r.incident.fingerprint, r.incident.image)
        assert h.cause == r.incident.causes[0].kind
        assert h.percent == round(r.incident.causes[0].probability * 100)


def test_unknown_keys_of_a_newer_sender_are_kept():
    body = summary.encode(EIGHT["disk full"], session=SESSION)
    newer = packed.spliced(body, {900: [1, {"x": 2}], 901: "new"}, "test")
    assert summary.read(newer).rest == {900: [1, {"x": 2}], 901: "new"}


def test_unknown_numbers_of_kinds_are_kept_as_numbers_and_shown():
    doc = msgpack.unpackb(sent(EIGHT["process crash"]), strict_map_key=False)
    doc[1][summary.K_HEAD][0] = 999
    doc[1][summary.K_CAUSES] = [[777, 50]]
    doc[1][summary.K_TRIED] = [[55, 44, 100]]
    incident = summary.decode(msgpack.packb(doc, use_single_float=True))
    assert int(incident.symptom) == 999
    assert incident.causes[0].kind == 777
    assert "999" in words.headline(incident)
    assert "55" in words.last_tried(incident.tried)
    again = summary.decode(summary.encode(replace(incident, opened_ns=0), session=SESSION))
    assert int(again.symptom) == 999


def test_a_newer_version_is_refused_as_such_but_its_key_can_be_read():
    newer = b"\x92\x02" + sent(EIGHT["disk full"])[2:]
    with pytest.raises(summary.packed.WireError) as caught:
        summary.read(newer)
    assert caught.value.code == 2
    assert packed.key_of(newer) == (SESSION, SEQ)


def test_an_incident_of_an_earlier_session_names_it():
    old = replace(EIGHT["disk full"], session=b"oldone")
    body = summary.encode(old, session=SESSION)
    assert summary.read(packed.with_key(body, SESSION, 1)).incident.session == b"oldone"


def test_what_does_not_fit_is_shed_and_never_the_outcome():
    fat = replace(
        EIGHT["crash loop to rollback"], app="a" * 32, subject="s" * 90, image_version="v" * 64, also=tuple(f"app-{i}" * 4 for i in range(16)),
        causes=tuple(Cause(k, 0.3, "subject" * 9) for k in list(CauseKind)[1:9]),
        evidence=tuple(Evidence(k, 1.234567e9, 7.7, "text " * 20) for k in list(EvidenceCode)[1:9]),
        tried=tuple(Tried(RemedyKind(i % 12), Outcome(i % 8), 3.3, reason=i, target="t" * 50) for i in range(40)),
        planned=RemedyKind.REBOOT, planned_at_ns=NOW_NS + 10**15, approval_until_s=2**31, state=IncidentState.AWAITING_APPROVAL, closed_ns=0,
        recurrence=10**6, recurrence_window_s=1, trusted=False,
    )  # fmt: skip
    raw = packed.with_key(summary.encode(fat, session=b"other!", now_ns=NOW_NS), SESSION, 2**32 - 1)
    assert len(raw) <= summary.SUMMARY_MOST
    got = summary.decode(raw)
    assert got.tried[-1].outcome == Outcome(39 % 8)
    assert len(got.causes) >= 2
    assert got.symptom == SymptomKind.CRASH_LOOP


def test_figures_that_are_none_do_not_break_the_message():
    odd = replace(
        EIGHT["sensor stuck"],
        evidence=(Evidence(EvidenceCode.SENSOR_VALUE, float("nan"), float("inf")), Evidence(EvidenceCode.MEMORY_KIB, 1e300, -1e300)),
        tried=(Tried(RemedyKind.RESTART, Outcome.CURED, float("nan")),), downtime_ms=-5, opened_s=-1,
    )  # fmt: skip
    summary.decode(summary.encode(odd, session=SESSION))


@pytest.mark.parametrize("kind", list(StandinKind))
def test_a_record_that_stands_for_others_names_them(kind):
    body = summary.encode(EIGHT["process crash"], session=SESSION) if kind in (StandinKind.FOLDED, StandinKind.SUPERSEDED) else b""
    ranges = (Span(SESSION, 3, 9), Span(b"before", 1, 2), Span(SESSION, 12, 12))
    stand = Standin(kind, ranges, 10, 2, b"fprint!!", 100, 200, 4, body)
    record = summary.read(packed.with_key(standin.encode(stand, SESSION), SESSION, 20))
    assert record.standin is not None
    assert (record.standin.kind, record.standin.ranges, record.standin.count) == (kind, ranges, 10)
    assert (record.standin.severity, record.standin.first_s, record.standin.last_s, record.standin.reason) == (2, 100, 200, 4)
    assert record.incident.number == (17 if body else 0)
    again = Standin(kind, (Span(SESSION, 3, 20),), 11, 2, b"fprint!!", 100, 300, 4, standin.encode(stand, SESSION))
    assert summary.read(standin.encode(again, SESSION)).standin.ranges == (Span(b"", 3, 20),)


def test_a_stand_in_for_results_stays_a_result():
    body = results.encode(results.Result(b"c" * 16, results.ResultState.REFUSED, 51))
    folded = standin.encode(Standin(StandinKind.FOLDED, (Span(SESSION, 1, 4),), 4, body=body), SESSION)
    assert results.topic_kind(folded) == "up/result"
    assert results.read(packed.with_key(folded, SESSION, 5)).standin.count == 4


def test_every_known_kind_has_a_word():
    for table, kind in (
        (words.SYMPTOMS, SymptomKind),
        (words.CAUSES, CauseKind),
        (words.REMEDIES, RemedyKind),
        (words.OUTCOMES, Outcome),
        (words.EVIDENCE, EvidenceCode),
    ):
        assert set(table) == set(kind), set(kind) ^ set(table)
    for incident in EIGHT.values():
        assert words.sentence(incident)
