# SPDX-License-Identifier: Apache-2.0
"""From messages to rows: nothing with a key is lost, nothing without one stops the rest, twins are seen."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
from wire_eight import EIGHT, SESSION

from edgeheal.core import reasons
from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.fleet.ingest import Ingest
from edgeheal.fleet.packets import Message
from edgeheal.fleet.store import Batch
from edgeheal.wire import birth, health, packed, standin, summary


def sent(kind: str = "incident", payload: bytes = b"", device: str = "gw", tenant: str = "t", retain: bool = False) -> Message:
    return Message(f"eh/1/{tenant}/{device}/up/{kind}", payload, 1, retain)


def take(*messages: Message, ingest: Ingest | None = None) -> tuple[Batch, Ingest]:
    ingest = ingest or Ingest("t")
    batch = Batch()
    for message in messages:
        ingest.take(message, 100.0, batch)
    return batch, ingest


BODY = summary.encode(EIGHT["process crash"], session=SESSION)


def test_a_record_of_a_newer_version_is_kept_raw_and_acknowledged():
    newer = b"\x92\x02" + packed.with_key(BODY, SESSION, 7)[2:]
    batch, ingest = take(sent(payload=newer))
    assert batch.records == [("gw", SESSION, 7, 100.0, 1, reasons.UNKNOWN_VERSION, newer)]
    assert batch.seqs == {("gw", SESSION): [7]}
    assert not batch.incidents
    assert ingest.counts.malformed == 1


def test_messages_that_are_none_cost_themselves():
    batch, ingest = take(
        sent(payload=b"junk"), sent(payload=BODY), sent("state", b"\x00"), sent("health", b"x" * 9_999), sent("nonsense", b"x"), sent(payload=b""),
        sent(payload=packed.with_key(BODY, SESSION, 1), tenant="other"), Message("zigbee/x", b"x", 1, False), sent(payload=packed.with_key(BODY, SESSION, 2)),
    )  # fmt: skip
    assert [row[2] for row in batch.records] == [2]
    assert ingest.counts.malformed == 4


def test_ranges_of_a_stand_in_count_as_stored():
    stand = Standin(StandinKind.DROPPED, (Span(SESSION, 3, 9), Span(b"before", 1, 2)), 9)
    batch, _ = take(sent(payload=packed.with_key(standin.encode(stand, SESSION), SESSION, 10)))
    assert batch.spans == {("gw", SESSION): [(3, 9)], ("gw", b"before"): [(1, 2)]}
    assert not batch.incidents


def said(session: bytes, *, online: bool = True, hardware: bytes = b"") -> bytes:
    return birth.encode(birth.Birth(session, online=online, hardware=hardware))


def test_a_restart_is_no_twin_and_two_in_turns_are():
    _, ingest = take(sent("state", said(b"aaaaaa")), sent("state", said(b"aaaaaa", online=False)), sent("state", said(b"bbbbbb")))
    assert ingest.counts.twins == 0
    batch, _ = take(sent("state", said(b"aaaaaa")), ingest=ingest)
    assert batch.twins == {"gw": (100.0, b"bbbbbb")}


def test_a_heart_that_beats_under_the_old_session_is_a_twin():
    _, ingest = take(sent("state", said(b"aaaaaa")), sent("state", said(b"bbbbbb")), sent("health", health.encode(health.Health(b"aaaaaa", 1))))
    assert ingest.counts.twins == 1


def test_another_hardware_under_the_name_is_a_twin():
    _, ingest = take(sent("state", said(b"aaaaaa", hardware=b"one")), sent("state", said(b"bbbbbb", hardware=b"two")))
    assert ingest.counts.twins == 1


def test_who_comes_is_greeted_and_an_old_word_is_not():
    assert take(sent("state", said(b"aaaaaa")))[0].greeted == {"gw"}
    assert not take(sent("state", said(b"aaaaaa"), retain=True))[0].greeted
