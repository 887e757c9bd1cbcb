# SPDX-License-Identifier: Apache-2.0
"""The power goes at every single operation of the journal's medium: every durable intent is known again, with its outcome or in doubt."""

import pytest

from edgeheal.adapters.journal_files import JournalFiles
from edgeheal.core.now import Now
from edgeheal.journal.records import DecidedLine, Intent, Outcome, When, pack_state, unpack_state
from edgeheal.lab.storage import CutDisk, PowerCutError

W = When(1, 2, 3, True)
SMALL = {"size_bytes": 4 * 4096, "slot_bytes": 4096, "daily_bytes": 0}


class Life:
    """Grave acts one after the other; what is known to be durable is noted outside."""

    def __init__(self, disk: CutDisk) -> None:
        self.disk = disk
        self.intents: set[int] = set()
        self.outcomes: set[int] = set()
        self.state = 0
        self.snapshots = [0]

    def open(self, session: bytes = b"sessA.") -> JournalFiles:
        return JournalFiles(self.disk, lambda s: None, session=session, now=lambda: Now("boot", 1), state=lambda: pack_state({"n": self.state}), **SMALL)

    def run(self, acts: int = 60) -> None:
        try:
            journal = self.open()
            for n in range(1, acts + 1):
                self.state = n
                journal.keep(DecidedLine(W, "would", 1, "app", ("x" * 200,)))
                if journal.keep(Intent(W, n, 7, "app", "", n), durable=True):
                    self.intents.add(n)
                if n % 4 and journal.keep(Outcome(W, n, True), durable=True):
                    self.outcomes.add(n)
        except PowerCutError:
            pass


def test_a_cut_at_any_operation_leaves_each_durable_intent_with_its_outcome_or_in_doubt() -> None:
    whole = Life(CutDisk())
    whole.run()
    assert whole.disk.ops > 200
    assert len(whole.open(b"sessB.").recovered.doubt) == 15
    for cut_at in range(1, whole.disk.ops + 1):
        for seed in (0,) if cut_at % 3 else (0, -1, cut_at):
            life = Life(CutDisk(cut_at=cut_at))
            life.run()
            found = Life(CutDisk(life.disk.remains(seed))).open(b"sessB.").recovered
            doubt = {i.act for i in found.doubt}
            must = {n for n in life.intents if n % 4 == 0}
            assert must <= doubt, (cut_at, seed, must - doubt)
            assert not doubt & life.outcomes, (cut_at, seed, doubt & life.outcomes)
            assert found.act >= max(life.intents, default=0)
            assert not found.fresh or not life.intents
            if life.intents:
                assert found.state is not None
                assert unpack_state(found.state)["n"] <= life.state


@pytest.mark.parametrize("what", ["zero", "cut"])
def test_damage_to_any_stretch_of_any_file_is_named_and_costs_only_what_it_hit(what: str) -> None:
    life = Life(CutDisk())
    life.run(60)
    files = life.disk.remains(-1)
    for name in sorted(n for n in files if n.endswith(".seg")):
        if not any(files[name]):
            continue
        for at in range(0, len(files[name]), 512):
            data = files[name]
            hurt = data[:at] if what == "cut" else data[:at] + bytes(512) + data[at + 512 :]
            if hurt == data:
                continue
            found = Life(CutDisk({**files, name: hurt})).open(b"sessB.").recovered
            assert not found.fresh
            assert found.damage or found.act >= 59 or what == "zero", (name, at)
            assert found.act >= 40 or found.damage, (name, at)


def test_fc_sto_2_emptied_files_are_damage_and_never_a_fresh_start() -> None:
    life = Life(CutDisk())
    life.run(60)
    files = life.disk.remains(-1)
    used = [n for n in files if any(files[n])]
    for name in used:
        found = Life(CutDisk({**files, name: b""})).open(b"sessB.").recovered
        assert not found.fresh
        assert name == "journal/used" or found.damage, name
    for empty in (b"", None):
        gone = {n: (b"" if empty == b"" else bytes(len(files[n]))) for n in files if n != "journal/used"}
        found = Life(CutDisk({**gone, "journal/used": b""})).open(b"sessB.").recovered
        assert not found.fresh
        assert found.damage
