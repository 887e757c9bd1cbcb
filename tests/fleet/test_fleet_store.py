# SPDX-License-Identifier: Apache-2.0
"""The fleet's store: each key once, the highest revision, old things forgotten, marks that never fall."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeheal.core.errors import StoreError
from edgeheal.fleet.ranges import Covered
from edgeheal.fleet.store import Batch, Store

A = b"session-a"[:6]


def batch(*seqs: int, device: str = "gw", at: float = 100.0, session: bytes = A) -> Batch:
    made = Batch()
    for seq in seqs:
        made.records.append((device, session, seq, at, 1, 0, b"raw%d" % seq))
        made.seqs.setdefault((device, session), []).append(seq)
    return made


def incident(number: int, revision: int, severity: int = 1, at: float = 100.0) -> tuple:
    return ("gw", A, number, revision, number, "app", 1, severity, 0, 0, 50, b"fprint!!", 1, 80, "ab", at, at, b"raw")


@pytest.fixture
def store(tmp_path):
    made = Store(str(tmp_path / "fleet.db"))
    yield made
    made.close()


def test_a_key_is_kept_once(store):
    assert store.commit(batch(1, 2, 3)) == 3
    assert store.commit(batch(2, 3, 4)) == 1
    assert store.counts()["records"] == 4


def test_the_highest_revision_wins_in_any_order(store):
    for revision in (2, 0, 5, 3):
        made = Batch()
        made.incidents.append(incident(1, revision, severity=revision % 4))
        store.commit(made)
    (row,) = store.incidents()
    assert (row["revision"], row["severity"]) == (5, 1)
    assert row["first"] == 100.0


def test_the_contiguous_mark_waits_for_holes_and_ranges_fill_them(store):
    store.commit(batch(1, 2, 5, 6))
    assert store.covered(("gw", A)).upto == 2
    filled = batch(7)
    filled.spans[("gw", A)] = [(3, 4)]
    store.commit(filled)
    assert store.covered(("gw", A)).upto == 7


def test_marks_are_known_again_after_a_restart_and_after_retention(tmp_path):
    path = str(tmp_path / "fleet.db")
    store = Store(path)
    store.commit(batch(1, 2, 3, 9))
    store.close()
    again = Store(path)
    assert again.covered(("gw", A)).upto == 3
    assert again.covered(("gw", A)).beyond() == [(9, 9)]
    assert again.forget_before(1_000.0) == 4
    again.close()
    third = Store(path)
    assert third.covered(("gw", A)).upto == 3
    assert third.counts()["records"] == 0
    third.close()


def test_old_records_go_and_young_ones_stay(store):
    store.commit(batch(*range(1, 51), at=10.0))
    store.commit(batch(*range(51, 61), at=99.0))
    old = Batch()
    old.incidents.append(incident(1, 0, at=10.0))
    old.incidents.append(incident(2, 0, at=99.0))
    store.commit(old)
    assert store.forget_before(50.0) == 51
    assert store.counts()["records"] == 10
    assert [row["number"] for row in store.incidents()] == [2]


def test_a_failed_commit_leaves_nothing_and_the_next_one_is_whole(store):
    bad = batch(1, 2)
    bad.incidents.append((None,) * 3)
    with pytest.raises(sqlite3.Error):
        store.commit(bad)
    assert store.counts()["records"] == 0
    assert store.covered(("gw", A)).upto == 0
    assert store.commit(batch(1, 2)) == 2


def test_a_newer_store_is_not_touched(tmp_path):
    path = str(tmp_path / "fleet.db")
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError):
        Store(path)
    with pytest.raises(StoreError):
        Store(str(tmp_path / "missing.db"), writable=False)
    (tmp_path / "junk.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError):
        Store(str(tmp_path / "junk.db"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)), max_size=30))
def test_covered_is_what_a_set_says(spans):
    covered, said = Covered(), set()
    for first, length in spans:
        covered.cover(first, first + length)
        said |= set(range(first, first + length + 1))
        upto = next(n for n in range(100) if n + 1 not in said)
        assert covered.upto == upto
        assert {n for n in range(1, 60) if covered.has(n)} == said
        assert sum(last - first + 1 for first, last in covered.beyond()) == len([n for n in said if n > upto])
