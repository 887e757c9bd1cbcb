# SPDX-License-Identifier: Apache-2.0
"""The journal on its medium: what it promises while the medium is well, slow, full, read-only and worn."""

import errno
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgeheal.adapters.journal_files import JournalFiles, read_all
from edgeheal.core.now import NS, Now
from edgeheal.journal.purse import DAY_S, Purse
from edgeheal.journal.records import DecidedLine, Gap, Intent, LightAct, Outcome, Told, When, pack_state, unpack_state
from edgeheal.lab.storage import CutDisk

W = When(1, 2, 3, True)
SMALL = {"size_bytes": 4 * 8192, "slot_bytes": 8192}


def open_journal(disk, says=None, *, session=b"sessA.", state=lambda: pack_state({"n": 1}), daily=0, **more) -> JournalFiles:
    emit = (says if says is not None else []).append
    return JournalFiles(disk, emit, session=session, now=lambda: Now("boot-1", time.monotonic_ns()), state=state, daily_bytes=daily, **{**SMALL, **more})


def tick(journal: JournalFiles, disk: CutDisk) -> None:
    """What is due within a minute or two, at once."""
    for _ in range(4):
        if journal.due() < time.monotonic_ns() + 100 * NS:
            journal.tick(journal.due())
        disk.ready(-1, 0)


def test_a_first_start_is_fresh_and_the_next_one_is_not() -> None:
    disk = CutDisk()
    assert open_journal(disk).recovered.fresh
    disk.ready(-1, 0)
    journal = open_journal(disk)
    assert journal.keep(Intent(W, 1, 7, "gw"), durable=True)
    found = open_journal(CutDisk(disk.remains())).recovered
    assert not found.fresh
    assert [i.act for i in found.doubt] == [1]
    assert not found.damage


def test_what_may_wait_is_on_the_medium_within_a_second_and_never_costs_a_sync_of_its_own() -> None:
    disk = CutDisk()
    journal = open_journal(disk)
    tick(journal, disk)
    before = disk.syncs
    for n in range(50):
        journal.keep(LightAct(W, n, 3, "gw"))
    assert 0 < journal.due() <= journal._commit._first_ns + 1_000_000_000
    tick(journal, disk)
    assert disk.syncs == before + 1
    assert open_journal(CutDisk(disk.remains())).recovered.act == 49


def test_the_journal_stays_in_its_bound_and_the_newest_segment_stands_alone() -> None:
    disk = CutDisk()
    journal = open_journal(disk, state=lambda: pack_state({"big": "s" * 500}))
    journal.keep(Intent(W, 1, 9, "", "", 4))
    for n in range(2, 2_000):
        journal.keep(DecidedLine(W, "line", n, "gw", ("x" * 50,)))
        if n % 100 == 0:
            tick(journal, disk)
    tick(journal, disk)
    files = disk.remains()
    assert sum(len(d) for n, d in files.items() if n.endswith(".seg")) == 4 * 8192
    found = open_journal(CutDisk(files)).recovered
    assert [i.act for i in found.doubt] == [1]
    assert found.incident == 1_999
    newest = {n: d for n, d in files.items() if n == journal._log.name(journal._log.number)}
    alone = open_journal(CutDisk({**newest, "journal/used": b"1\n"})).recovered
    assert unpack_state(alone.state) == {"big": "s" * 500}
    assert [i.act for i in alone.doubt] == [1]


def test_many_starts_of_the_agent_do_not_push_history_out() -> None:
    disk = CutDisk()
    open_journal(disk).keep(DecidedLine(W, "the first", 1), durable=True)
    for n in range(30):
        journal = open_journal(disk, session=n.to_bytes(6, "big"))
        journal.settle()
    assert journal._log.number == 1
    assert any(isinstance(r, DecidedLine) and r.what == "the first" for r in read_all(disk, **SMALL)[1])


def test_fc_sto_1_a_full_medium_is_lived_through_from_memory_and_the_journal_is_whole_afterwards() -> None:
    for code in (errno.ENOSPC, errno.EROFS, errno.EIO):
        disk, says = CutDisk(), []
        journal = open_journal(disk, says)
        tick(journal, disk)
        disk.fails = code
        assert not journal.keep(Intent(W, 1, 7, "gw"), durable=True)
        for n in range(2, 20):
            journal.keep(LightAct(W, n, 3, "gw"))
            tick(journal, disk)
        assert journal.dark
        disk.fails = 0
        journal.tick(journal._commit.due())
        tick(journal, disk)
        assert not journal.dark
        assert [(s.what, s.ok, s.value) for s in says] == [("unwritable", False, float(code)), ("unwritable", True, 0.0)]
        found = open_journal(CutDisk(disk.remains(0))).recovered
        assert (found.act, [i.act for i in found.doubt]) == (19, [1])


def test_in_the_dark_memory_is_bounded_and_what_was_not_kept_is_counted() -> None:
    disk = CutDisk()
    journal = open_journal(disk, size_bytes=4 << 20, slot_bytes=1 << 18)
    tick(journal, disk)
    disk.fails = errno.ENOSPC
    assert not journal.keep(Intent(W, 1, 7), durable=True)
    for n in range(3_000):
        journal.keep(DecidedLine(W, "x" * 300, n))
    assert journal._commit.waiting_bytes < 700_000
    for n in range(3_000):
        journal.keep(Told(W, b"s" * 6, n, n, 0, bytes(300)))
    assert journal._commit.waiting_bytes < 1_200_000
    disk.fails = 0
    tick(journal, disk)
    assert journal.keep(LightAct(W, 1, 1), durable=True)
    gaps = [r for r in read_all(disk, size_bytes=4 << 20, slot_bytes=1 << 18)[1] if isinstance(r, Gap)]
    assert len(gaps) == 1
    assert gaps[0].why == "unwritable"
    assert gaps[0].lines > 2_000


def test_the_days_budget_silences_lines_but_never_intents_outcomes_or_what_was_told() -> None:
    disk, says = CutDisk(), []
    journal = open_journal(disk, says, daily=400_000)
    for n in range(200):
        journal.keep(DecidedLine(W, "line", 1), durable=True)
    written = journal.flash_bytes
    assert written <= 120_000
    assert journal.keep(Intent(W, 1, 7), durable=True)
    assert journal.keep(Outcome(W, 1, True), durable=True)
    assert journal.keep(Told(W, b"s" * 6, 1, 1, 0), durable=True)
    tick(journal, disk)
    assert [(s.what, s.ok) for s in says] == [("budget", False)]


def test_a_purse_fills_over_the_day_and_its_debt_is_bounded() -> None:
    purse = Purse(1_000_000)
    assert purse.spend(250_000, 0)
    assert not purse.spend(1, 0)
    assert purse.spend(1, 1)
    purse.spend(10_000_000, 1, essential=True)
    assert purse.left(1 + DAY_S / 2) == 250_000
    assert Purse(0).spend(10**9, 0)


def test_a_sync_that_fails_and_forgets_does_not_make_a_later_intent_a_lie() -> None:
    disk = CutDisk()
    journal = open_journal(disk)
    tick(journal, disk)
    disk.sync_fails = errno.EIO
    assert not journal.keep(Intent(W, 1, 7), durable=True)
    disk.sync_fails = 0
    tick(journal, disk)
    assert journal.keep(Intent(W, 2, 7), durable=True)
    assert [i.act for i in open_journal(CutDisk(disk.remains(0))).recovered.doubt] == [1, 2]


def test_a_medium_that_hangs_is_waited_for_once_and_said() -> None:
    disk, says = CutDisk(), []
    journal = open_journal(disk, says)
    tick(journal, disk)
    disk.silent = True
    assert not journal.keep(Intent(W, 1, 7), durable=True)
    assert not journal.keep(Intent(W, 2, 7), durable=True)
    journal.tick(1)
    assert [(s.what, s.ok) for s in says] == [("slow", False)]


def test_a_record_of_a_newer_version_is_kept_unread_and_said() -> None:
    disk, says = CutDisk(), []
    journal = open_journal(disk)
    journal._log.put(77, b"tomorrow")
    journal.keep(Intent(W, 3, 7), durable=True)
    later = open_journal(disk, says)
    later.tick(1)
    assert (later.recovered.unread, [i.act for i in later.recovered.doubt]) == (1, [3])
    assert [(s.what, s.value) for s in says] == [("newer", 1.0)]


def test_without_a_state_a_new_segment_carries_the_last_one_known() -> None:
    disk = CutDisk()
    open_journal(disk, state=lambda: pack_state({"n": 42})).settle()
    journal = open_journal(disk, state=lambda: None)
    for n in range(500):
        journal.keep(DecidedLine(W, "x" * 60, n))
    journal.settle()
    assert unpack_state(open_journal(CutDisk(disk.remains())).recovered.state) == {"n": 42}


class JournalMachine(RuleBasedStateMachine):
    """Acts, restarts, cuts and bad nights in any order; a model that knows what was promised."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = CutDisk()
        self.promised: dict[int, bool] = {}  # act -> whether its outcome was promised, too
        self.maybe: set[int] = set()
        self.ended: set[int] = set()
        self.act = 0
        self.start(b"start.")

    def start(self, session: bytes) -> None:
        self.journal = open_journal(self.disk, session=session)
        doubt = {i.act for i in self.journal.recovered.doubt}
        must = {a for a, ended in self.promised.items() if not ended} - self.ended
        assert must <= doubt
        assert not doubt & {a for a, ended in self.promised.items() if ended}
        assert self.journal.recovered.act >= max(self.promised, default=0)
        self.act = max(self.act, self.journal.recovered.act)

    @rule(durable=st.booleans())
    def intend(self, durable: bool) -> None:
        self.act += 1
        if self.journal.keep(Intent(W, self.act, 7, "gw"), durable=durable) and durable:
            self.promised.update(dict.fromkeys(sorted(self.maybe | {self.act}), False) | {a: e for a, e in self.promised.items()})
            self.maybe.clear()
        else:
            self.maybe.add(self.act)

    @rule(durable=st.booleans(), data=st.data())
    def end(self, durable: bool, data) -> None:
        if not self.act:
            return
        act = data.draw(st.integers(1, self.act))
        self.ended.add(act)
        if self.journal.keep(Outcome(W, act, True), durable=durable) and durable:
            self.promised[act] = True

    @rule(lines=st.integers(1, 60))
    def talk(self, lines: int) -> None:
        for n in range(lines):
            self.journal.keep(DecidedLine(W, "x" * 100, n))

    @rule(code=st.sampled_from([0, 0, errno.ENOSPC, errno.EIO]))
    def night(self, code: int) -> None:
        self.disk.fails = code

    @rule()
    def turn(self) -> None:
        tick(self.journal, self.disk)

    @rule(seed=st.integers(-1, 5))
    def cut(self, seed: int) -> None:
        self.disk = CutDisk(self.disk.remains(seed))
        self.maybe.clear()
        self.start(b"cut...")

    @rule()
    def restart(self) -> None:
        self.disk.fails = 0
        self.journal.settle()
        tick(self.journal, self.disk)
        self.disk = CutDisk(self.disk.remains(-1))
        self.start(b"again.")

    @invariant()
    def bounded(self) -> None:
        assert sum(size for name, size in self.disk.names("journal").items() if name.endswith(".seg")) <= 4 * 8192


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_torn_header_and_each_single_byte_lost_in_the_first_sector_is_survived() -> None:
    disk = CutDisk()
    journal = open_journal(disk)
    for n in range(1, 5):
        journal.keep(Intent(W, n, 7), durable=True)
    files = disk.remains()
    data = files["journal/00.seg"]
    for at in range(64):
        hurt = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        assert [i.act for i in open_journal(CutDisk({**files, "journal/00.seg": hurt})).recovered.doubt] == [1, 2, 3, 4]


@pytest.mark.parametrize("at", [100, 600, 4096])
def test_a_zeroed_stretch_is_damage_with_what_follows_kept(at: int) -> None:
    disk = CutDisk()
    journal = open_journal(disk)
    for n in range(1, 200):
        journal.keep(Intent(W, n, 7), durable=n > 190)
    files = disk.remains()
    name = "journal/00.seg"
    hurt = files[name][:at] + bytes(200) + files[name][at + 200 :]
    found = open_journal(CutDisk({**files, name: hurt})).recovered
    assert found.act == 199
    if at > 512:
        assert [d.what for d in found.damage] == ["torn"]
