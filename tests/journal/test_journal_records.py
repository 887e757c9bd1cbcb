# SPDX-License-Identifier: Apache-2.0
"""Records: typed values to bytes and back; what a newer version wrote is kept unread."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.journal import frames, records
from edgeheal.journal.fold import fold
from edgeheal.journal.records import DecidedLine, Gap, Intent, LightAct, Outcome, Session, Snapshot, Told, Unread, When, body_of, record_of

W = When(5_000_000_000, 77, 1_700_000_000, True)
EACH = [
    Session(W, b"abcdef", "boot-1", "0.1.0"), Snapshot(W, b"packed state"), DecidedLine(W, "restart", 3, "gw", (1, "x", None, 2.5, [1, [2]])),
    LightAct(W, 4, 3, "gw", "", 3), Intent(W, 5, 7, "gw", "ab" * 32, 3), Outcome(W, 5, True, 0, 1200, False), Told(W, b"abcdef", 9, 3, 2, b"summary"),
    Gap(W, 12, "budget"),
]  # fmt: skip
# golden: what version 1 wrote; it must stay readable
GOLDEN = {
    Intent: "9694cf000000012a05f2004dce6553f100c30507a26777a26162" + "03",
    Outcome: "9694cf000000012a05f2004dce6553f100c305c300cd04b0c2",
}


def frame_of(record) -> frames.Frame:
    kind, body = body_of(record)
    return frames.Frame(kind, 1, body)


@pytest.mark.parametrize("record", EACH, ids=lambda r: type(r).__name__)
def test_each_record_comes_back_as_it_was(record) -> None:
    back = record_of(frame_of(record))
    assert back == record or isinstance(record, DecidedLine)
    assert type(back) is type(record)


def test_the_bytes_of_version_1_stay_as_they_are() -> None:
    assert body_of(Intent(W, 5, 7, "gw", "ab", 3))[1].hex() == GOLDEN[Intent]
    assert body_of(Outcome(W, 5, True, 0, 1200, False))[1].hex() == GOLDEN[Outcome]


@pytest.mark.parametrize("record", EACH, ids=lambda r: type(r).__name__)
def test_a_record_of_an_older_or_newer_minor_form_is_read_as_far_as_it_goes(record) -> None:
    kind, body = body_of(record)
    plain = msgpack.unpackb(body)
    longer = msgpack.packb([*plain, "a field of tomorrow"])
    assert type(record_of(frames.Frame(kind, 1, longer))) is type(record)


def test_a_newer_kind_or_version_is_kept_unread() -> None:
    kind, body = body_of(EACH[4])
    assert record_of(frames.Frame(99, 1, b"?")) == Unread(99, 1, b"?")
    assert record_of(frames.Frame(kind, 2, body)) == Unread(kind, 2, body)
    assert fold([frames.Frame(99, 1, b"?")]).unread == 1


@given(st.integers(1, 9), st.binary(max_size=80))
def test_any_body_is_a_record_or_unread_never_an_error(kind: int, body: bytes) -> None:
    record_of(frames.Frame(kind, 1, body))


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4), max_leaves=20))  # fmt: skip
def test_states_come_back_as_they_were(plain) -> None:
    packed = records.pack_state(plain)
    assert records.unpack_state(packed) == plain
    assert records.pack_state(records.unpack_state(packed)) == packed


def test_inflating_is_bounded() -> None:
    bomb = records.deflate(bytes(300_000))
    assert len(bomb) < 5_000
    with pytest.raises(ValueError, match="over its bound"):
        records.inflate(bomb, 10_000)
    for cut in range(0, len(bomb), 9):
        with pytest.raises(ValueError):
            records.inflate(bomb[:cut], 2_000_000)


def test_an_intent_without_outcome_is_in_doubt_however_old() -> None:
    run = [Session(W, b"a" * 6), Intent(W, 1, 7, "gw"), Outcome(W, 1, True), Intent(W, 2, 9), Session(W, b"b" * 6), Snapshot(W, b"s"), Intent(W, 3, 7, "x")]
    found = fold(map(frame_of, run))
    assert [i.act for i in found.doubt] == [2, 3]
    assert found.state == b"s"
    assert [type(r) for r in found.lines] == [Intent]
    assert (found.act, found.session.session) == (3, b"b" * 6)


def test_numbers_never_fall_and_the_newest_revision_counts() -> None:
    run = [
        Told(W, b"s" * 6, 1, 8, 0, b"r0"),
        Told(W, b"s" * 6, 2, 8, 1, b"r1"),
        DecidedLine(W, "x", 5),
        Told(W, b"s" * 6, 3, 8, 0, b"late"),
        LightAct(W, 40, 1),
    ]
    found = fold(map(frame_of, run))
    assert [t.body for t in found.told] == [b"r1"]
    assert (found.incident, found.act) == (8, 40)


def test_an_outcome_without_its_intent_is_only_a_line() -> None:
    found = fold([frame_of(Outcome(W, 9, False, 99))])
    assert not found.doubt
    assert len(found.lines) == 1
