# SPDX-License-Identifier: Apache-2.0
"""Slots: reused without their past, numbered for ever, damage named."""

from itertools import count

import pytest

from edgeheal.journal.frames import HEAD_BYTES
from edgeheal.journal.segments import SECTOR, Header, SegmentLog, pack_header, unpack_header

SLOT = 2048


class Medium:
    """Files as bytes, written at once."""

    def __init__(self, slots: int = 3) -> None:
        self.files = {f"log/{i:02d}.seg": bytearray(SLOT) for i in range(slots)} | {"log/used": bytearray(5)}
        self.slots = slots

    def write(self, name: str, at: int, data: bytes) -> None:
        self.files[name][at : at + len(data)] = data

    def open(self, salts=None) -> SegmentLog:
        salts = salts or count(1000)
        return SegmentLog("log", b"T", slot_bytes=SLOT, slots=self.slots, sink=self.write, salt=lambda: next(salts))

    def load(self, log: SegmentLog):
        return log.load({n: len(d) for n, d in self.files.items()}, lambda name, at, length: bytes(self.files[name][at : at + length]))


def fill(log: SegmentLog, body: bytes) -> int:
    n = 0
    while log.put(1, body) is not None:
        n += 1
    return n


def test_a_reused_slot_has_no_past() -> None:
    medium = Medium()
    log = medium.open()
    for n in range(6):
        log.free or log.release(log.numbers[0])
        log.roll()
        fill(log, b"old %d" % n)
    log.release(log.numbers[0])
    log.roll()
    log.put(1, b"new")
    held = medium.load(medium.open(count(5000)))
    assert [f.body for f in held.segments[-1].frames] == [b"new"]
    assert not held.damage
    assert [s.number for s in held.segments] == [5, 6, 7]


def test_numbers_go_on_after_a_restart_and_the_newest_segment_is_continued() -> None:
    medium = Medium()
    log = medium.open()
    log.roll()
    log.put(1, b"one")
    again = medium.open(count(9000))
    assert not medium.load(again).fresh
    again.put(1, b"two")
    assert again.number == 1
    held = medium.load(medium.open())
    assert [f.body for f in held.segments[0].frames] == [b"one", b"two"]
    again.roll()
    assert again.number == 2


def test_a_segment_that_lost_its_end_is_named_by_the_next_one() -> None:
    medium = Medium()
    log = medium.open()
    log.roll()
    fill(log, bytes(100))
    log.roll()
    log.put(1, b"next")
    at = SLOT - SECTOR - 3 * (100 + HEAD_BYTES)
    medium.files["log/00.seg"][at : SLOT - SECTOR] = bytes(SLOT - SECTOR - at)
    held = medium.load(medium.open())
    assert [(d.what, d.where) for d in held.damage] == [("cut", "log/00.seg")]


@pytest.mark.parametrize(
    "hurt", [lambda d: d[:0], lambda d: d[:700], lambda d: bytes(SECTOR) + d[SECTOR:], lambda d: bytes(SECTOR) + d[SECTOR:-SECTOR] + bytes(SECTOR)]
)
def test_a_hurt_slot_is_damage_and_is_not_written_to_before_it_is_whole(hurt) -> None:
    medium = Medium()
    log = medium.open()
    log.roll()
    log.put(1, b"one")
    medium.files["log/00.seg"] = bytearray(hurt(bytes(medium.files["log/00.seg"])))
    again = medium.open()
    held = medium.load(again)
    assert held.damage
    assert not held.fresh


def test_headers_say_what_they_are_or_nothing() -> None:
    header = Header(ord("T"), 1, 2**40, 77, 900, SLOT)
    sector = pack_header(header)
    assert len(sector) == SECTOR
    assert unpack_header(sector) == header
    for at in range(32):
        assert unpack_header(sector[:at] + bytes([sector[at] ^ 4]) + sector[at + 1 :]) is None
    assert unpack_header(b"") is None


def test_the_current_segment_is_never_released() -> None:
    log = Medium().open()
    log.roll()
    with pytest.raises(ValueError, match="in use"):
        log.release(1)


def test_nothing_fits_before_the_first_segment_and_beyond_the_last_byte() -> None:
    log = Medium(1).open()
    assert log.put(1, b"x") is None
    assert log.roll()
    assert log.put(1, bytes(log.capacity - HEAD_BYTES)) is not None
    assert log.put(1, b"") is None
    assert not log.roll()
