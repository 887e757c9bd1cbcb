# SPDX-License-Identifier: Apache-2.0
"""What the spool promises to the link and to the fleet."""

import errno
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from spool_fleet import A, B, C, Fleet, open_spool, tick

from edgeheal.adapters.spool import CURSOR
from edgeheal.core import reasons
from edgeheal.core.spooled import StandinKind
from edgeheal.journal.blame import BREAKS_MOST
from edgeheal.lab.storage import CutDisk


def put(spool, n: int, *, severity: int = 1, critical: bool = True, fingerprint: bytes = b"", size: int = 100, incident: int = 0) -> int:
    return spool.put(b"%06d" % n + bytes(size), severity=severity, fingerprint=fingerprint, critical=critical, incident=incident, at_s=1000 + n)


def kinds(spool) -> set[StandinKind]:
    return {s.kind for s in spool._index.standins.values()}


def test_the_gravest_goes_first_and_the_oldest_within() -> None:
    spool = open_spool(CutDisk())
    for n, severity in enumerate((0, 2, 1, 3, 2, 3), 1):
        put(spool, n, severity=severity)
    assert [seq for _, seq, _ in spool.pending(10)] == [4, 6, 2, 5, 3, 1]
    assert [seq for _, seq, _ in spool.pending(2, {(A, 4), (A, 2)})] == [6, 5]


def test_a_record_is_kept_until_stored_covers_it_and_a_puback_frees_nothing() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    for n in range(1, 6):
        put(spool, n)
    spool.passed(A, 1)
    assert spool.depth() == (5, 0)
    spool.stored(A, 2, (5,))
    assert [seq for _, seq, _ in spool.pending(10)] == [3, 4]
    spool.stored(A, 4, ())
    assert spool.depth() == (0, 0)


def test_an_acknowledgement_of_what_was_never_given_frees_nothing_of_what_comes_later() -> None:
    spool = open_spool(CutDisk())
    put(spool, 1)
    spool.stored(A, 1_000_000, (7, 9, 4_000_000_000))
    spool.stored(b"strange", 10, (1,))
    put(spool, 2)
    assert [seq for _, seq, _ in spool.pending(10)] == [2]


def test_records_of_an_older_session_are_sent_under_their_own_session() -> None:
    disk = CutDisk()
    put(open_spool(disk, A), 1)
    put(open_spool(disk, B), 1)
    spool = open_spool(disk, C)
    assert [(s, q) for s, q, _ in spool.pending(10)] == [(A, 1), (B, 1)]
    assert put(spool, 1) == 1
    spool.stored(A, 1, ())
    assert [(s, q) for s, q, _ in spool.pending(10)] == [(B, 1), (C, 1)]


def test_after_a_restart_what_the_fleet_has_is_not_sent_again() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    for n in range(1, 40):
        put(spool, n, severity=n % 4)
    spool.stored(A, 10, tuple(range(20, 40, 2)))
    assert spool.settle()
    again = open_spool(CutDisk(disk.remains()), B)
    assert {q for _, q, _ in again.pending(100)} == set(range(11, 20)) | set(range(21, 40, 2))
    assert not kinds(again)


def test_a_lost_cursor_sends_twice_and_never_too_little() -> None:
    for cursor in (b"", bytes(200), b"x" * 50):
        disk = CutDisk()
        spool = open_spool(disk)
        for n in range(1, 30):
            put(spool, n)
        spool.stored(A, 10, ())
        spool.settle()
        says: list = []
        again = open_spool(CutDisk({**disk.remains(), CURSOR: cursor}), B, says)
        assert {q for _, q, _ in again.pending(100)} >= set(range(11, 30))
        again.tick(1 << 62)
        assert [s.what for s in says if not s.ok][:1] == ["damaged"]


def test_fc_sto_2_an_emptied_spool_is_damage_and_is_told() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    for n in range(1, 60):
        put(spool, n)
    files = disk.remains()
    for name in [n for n in files if n.endswith(".seg") and any(files[n])]:
        for hurt in (b"", bytes(len(files[name])), files[name][: len(files[name]) // 2]):
            says: list = []
            again = open_spool(CutDisk({**files, name: hurt}), B, says)
            again.tick(1 << 62)
            here = {q for s, q, _ in again.pending(1000) if s == A}
            lost = {q for s in again._index.standins.values() for span in s.ranges for q in range(span.first, span.last + 1)}
            assert not again.fresh
            assert any(s.what == "damaged" for s in says) or here | lost >= set(range(1, max(here) + 1))
    for gone in ({n: b"" for n in files}, {n: d if n == "spool/used" else bytes(len(d)) for n, d in files.items()}):
        says = []
        again = open_spool(CutDisk(gone), B, says)
        again.tick(1 << 62)
        assert not again.fresh
        assert {s.what for s in says} == {"damaged"}


def test_every_cut_of_the_file_leaves_whole_records_and_an_undamaged_way_on() -> None:
    disk = CutDisk()
    spool = open_spool(disk, slots=6, slot_bytes=2048)
    for n in range(1, 7):
        put(spool, n, size=20)
    name = "spool/00.seg"
    data = disk.remains()[name]
    files = disk.remains()
    for at in range(500, 1100):
        again = open_spool(CutDisk({**files, name: data[:at] + bytes(len(data) - at)}), B, slots=6, slot_bytes=2048)
        seqs = [q for s, q, _ in again.pending(100) if s == A]
        assert seqs == list(range(1, len(seqs) + 1))
        seq = put(again, 1)
        assert (B, seq) in {(s, q) for s, q, _ in again.pending(100)}


def test_a_hole_in_the_middle_is_named_and_what_lies_behind_it_is_kept() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    for n in range(1, 11):
        put(spool, n)
    files = disk.remains()
    hurt = bytearray(files["spool/00.seg"])
    at = hurt.index(b"000005")
    hurt[at] ^= 1
    again = open_spool(CutDisk({**files, "spool/00.seg": bytes(hurt)}), B)
    assert {q for s, q, _ in again.pending(100) if s == A} == set(range(1, 11)) - {5}
    (lost,) = [s for s in again._index.standins.values() if s.kind is StandinKind.LOST]
    assert [(s.session, s.first, s.last) for s in lost.ranges] == [(A, 5, 5)]


def test_a_record_that_rots_while_it_waits_is_told_as_lost_and_the_queue_goes_on() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    for n in range(1, 4):
        put(spool, n)
    tick(spool, disk)
    spool._log._bodies.grow_old()
    file = disk._files["spool/00.seg"]
    file.seen[file.seen.index(b"000002") - 30] ^= 0xFF
    assert [q for _, q, _ in spool.pending(10)] == [1, 3]
    spool.tick(1 << 62)
    assert kinds(spool) == {StandinKind.LOST}
    assert spool.depth()[0] == 3


def test_the_bound_folds_equal_fingerprints_first_and_loses_no_count() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    put(spool, 1, severity=0, fingerprint=b"lonely..")
    for n in range(2, 400):
        put(spool, n, fingerprint=b"same....")
    assert kinds(spool) == {StandinKind.FOLDED}
    assert spool.depth()[1] == 0
    folded = sum(s.count for s in spool._index.standins.values())
    assert folded + spool.depth()[0] - len(spool._index.standins) == 399
    body_of_newest = [b for s, q, b in spool.pending(1000) if (s, q) in spool._index.standins]
    assert body_of_newest
    first = min(s.first_s for s in spool._index.standins.values())
    assert first == 1002


def test_the_bound_drops_the_oldest_of_the_lowest_severity_and_says_how_many() -> None:
    disk, fleet, says = CutDisk(), Fleet(), []
    spool = open_spool(disk, A, says)
    for n in range(1, 500):
        put(spool, n, severity=3 if n % 10 == 0 else n % 2)
    assert spool.depth()[1] > 100
    dropped = sum(s.count for s in spool._index.standins.values() if s.kind is StandinKind.DROPPED)
    assert dropped == spool.depth()[1]
    fleet.drain(spool)
    mine = {q for s, q in fleet.rows if s == A}
    assert {n for n in range(10, 500, 10)} <= {int(b[:6]) for b in fleet.rows.values() if not b.startswith(b"standin")}
    assert mine | {q for s, q in fleet.spoken_for} == set(range(1, max(mine) + 1))
    assert spool.depth()[0] == 0
    tick(spool, disk)
    assert [s.value for s in says if s.what == "dropped"] == [float(dropped)]


def test_a_newer_revision_stands_for_the_older_ones_of_its_incident_when_room_is_short() -> None:
    spool = open_spool(CutDisk())
    for n in range(1, 400):
        put(spool, n, incident=n % 5 + 1, severity=n % 4)
    assert kinds(spool) == {StandinKind.SUPERSEDED}
    bodies = [b for _, _, b in spool.pending(1000)]
    assert {b"%06d" % n for n in range(395, 400)} <= {b[:6] for b in bodies}


def test_the_files_never_outgrow_the_bound() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    for n in range(900):
        put(spool, n, severity=n % 4, critical=n % 50 == 0, fingerprint=(n % 7).to_bytes(8, "big") if n % 3 else b"")
        if n % 100 == 0:
            disk.ready(-1, 0)
    assert sum(size for name, size in disk.names("spool").items() if name.endswith(".seg")) == 8 * 4096
    assert spool._index.live_bytes <= 8 * 4096


def test_fc_lnk_2_a_refused_record_is_set_aside_kept_counted_and_told() -> None:
    disk, says = CutDisk(), []
    spool = open_spool(disk, A, says)
    for n in range(1, 101):
        put(spool, n)
    spool.refused(A, 3, reasons.NOT_ALLOWED)
    spool.refused(A, 3, reasons.NOT_ALLOWED)
    seqs = [q for _, q, _ in spool.pending(200)]
    assert 3 not in seqs
    assert len(seqs) == 100
    assert spool.aside() == [(A, 3, reasons.NOT_ALLOWED)]
    assert spool.body(A, 3).startswith(b"000003")
    fleet = Fleet()
    fleet.drain(spool)
    assert spool.depth()[0] == 0
    assert len(fleet.rows) == 100
    assert fleet.spoken_for == {(A, 3)}
    tick(spool, disk)
    assert [s.value for s in says if s.what == "set_aside"] == [float(reasons.NOT_ALLOWED)]
    spool.settle()
    again = open_spool(CutDisk(disk.remains()), B)
    assert again.aside() == [(A, 3, reasons.NOT_ALLOWED)]
    assert again.pending(10) == []


def test_fc_lnk_2_a_record_that_breaks_the_connection_is_found_among_twenty() -> None:
    spool = open_spool(CutDisk())
    for n in range(1, 101):
        put(spool, n)
    bad, stored, breaks = 3, set(), 0
    for _ in range(1000):
        batch = spool.pending(20)
        if not batch:
            break
        keys = [(s, q) for s, q, _ in batch]
        if (A, bad) in keys:
            spool.broke(keys)
            breaks += 1
        else:
            stored |= {q for _, q in keys}
            for key in keys:
                spool.passed(*key)
            upto = next(i for i in range(1, 1000) if i not in stored) - 1
            spool.stored(A, upto, tuple(sorted(q for q in stored if q > upto)))
    assert breaks == BREAKS_MOST + 1
    assert spool.aside() == [(A, bad, reasons.POISON)]
    assert len(stored) == 100  # 99 and the record that tells of the one


def test_a_bad_line_condemns_no_record() -> None:
    spool = open_spool(CutDisk())
    for n in range(1, 21):
        put(spool, n)
    for _ in range(2):
        for _ in range(20):
            batch = spool.pending(20)
            spool.broke([(s, q) for s, q, _ in batch])
    assert spool.aside() == []
    assert spool.depth()[0] == 20


def test_a_body_that_no_broker_takes_is_refused_at_the_door_and_told() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    seq = put(spool, 1, size=20_000)
    fleet = Fleet()
    fleet.drain(spool)
    assert fleet.spoken_for == {(A, seq)}
    assert spool.depth() == (0, 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_fc_sto_1_a_night_without_space_loses_nothing_that_fits_in_memory_and_is_whole_in_the_morning(code: int) -> None:
    disk, says = CutDisk(), []
    spool = open_spool(disk, A, says, slots=64)
    put(spool, 1)
    disk.fails = code
    for n in range(2, 50):
        put(spool, n)
        tick(spool, disk)
    assert spool.dark
    assert len(spool.pending(100)) == 49
    disk.fails = 0
    tick(spool, disk)
    tick(spool, disk)
    assert not spool.dark
    assert [(s.what, s.ok, s.value) for s in says] == [("unwritable", False, float(code)), ("unwritable", True, 0.0)]
    again = open_spool(CutDisk(disk.remains(0)), B, slots=64)
    assert {q for _, q, _ in again.pending(100)} == set(range(1, 50))


def test_a_sync_that_fails_and_drops_what_was_written_costs_nothing() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    put(spool, 1)
    disk.sync_fails = errno.EIO
    put(spool, 2)
    disk.sync_fails = 0
    tick(spool, disk)
    tick(spool, disk)
    assert put(spool, 3) == 3
    assert [q for _, q, _ in open_spool(CutDisk(disk.remains(0)), B).pending(10)] == [1, 2, 3]


def test_a_medium_that_never_answers_is_waited_for_once() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    put(spool, 1)
    disk.silent = True
    for n in range(2, 6):
        put(spool, n)
    assert [q for _, q, _ in spool.pending(10, {(A, 1)})] == [2, 3, 4, 5]


def test_seqs_that_were_given_and_never_got_there_do_not_block_the_acknowledgement() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    for n in range(1, 30):
        put(spool, n, critical=False)
    disk.cut_at = 0
    left = disk.remains(3)
    again = open_spool(CutDisk(left), B)
    fleet = Fleet()
    fleet.drain(again)
    assert again.depth()[0] == 0


def test_a_record_of_a_newer_version_stays_where_it_is_and_is_said() -> None:
    from edgeheal.journal import frames

    disk, says = CutDisk(), []
    spool = open_spool(disk)
    put(spool, 1)
    spool._segments.put(9, b"from the future")
    spool._segments.put(1, b"record of version 2", version=2)
    spool.settle()
    again = open_spool(CutDisk(disk.remains()), B, says)
    again.tick(1 << 62)
    assert [(s.what, s.value) for s in says] == [("newer", 2.0)]
    assert [q for s, q, _ in again.pending(10) if s == A] == [1]
    assert frames.HEAD_BYTES == 12


def test_what_a_stored_stand_in_spoke_for_never_comes_back() -> None:
    disk, fleet = CutDisk(), Fleet()
    spool = open_spool(disk)
    for n in range(1, 300):
        put(spool, n, severity=2 if n % 3 else 0)
    fleet.take(spool)
    told = {key for key in fleet.rows if key in spool._index.standins}
    assert told
    spool.stored(A, 0, tuple(seq for _, seq in told))
    assert spool.settle()
    again = open_spool(CutDisk(disk.remains()), B)
    assert not {(s, q) for s, q, _ in again.pending(1000)} & (fleet.spoken_for | told)


def test_a_record_that_is_written_after_its_segment_was_read_is_read_again() -> None:
    disk = CutDisk()
    spool = open_spool(disk)
    for n in range(1, 60):
        put(spool, n)
        spool._log._bodies.grow_old()
        assert [b[:6] for _, _, b in spool.pending(100)] == [b"%06d" % k for k in range(1, n + 1)]
