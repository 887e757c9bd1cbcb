# SPDX-License-Identifier: Apache-2.0
"""Recordings and the ring: what is kept of an incident is whole, bounded, and survives an agent's death."""

import errno
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.adapters.recorder import KEEP, FlightRecorder
from edgeheal.core.effect import Act, Decided, Recorded, Report, Verb, Wake
from edgeheal.core.errors import JournalError
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import CauseKind, IncidentState, Mode, Need, Severity, SymptomKind
from edgeheal.core.now import Now
from edgeheal.core.signal import AppExited, CatalogIs, PolicyIs, Usage
from edgeheal.journal import recording
from edgeheal.journal.records import pack_state, unpack_state
from edgeheal.lab.storage import CutDisk

SESSION = b"sessA."
BASE = Incident(
    number=1, app="gw", symptom=SymptomKind.EXIT, state=IncidentState.OPEN, severity=Severity.WARNING, need=Need.NOTHING, mode=Mode.ACT,
    fingerprint=b"12345678", opened_ns=1, opened_s=2, opened_box_s=3, trusted=True,
)  # fmt: skip


class Agent:
    """Drives a recorder as the agent does; `state` counts the steps, so that a snapshot says how far it is."""

    def __init__(self, folder: str, disk: CutDisk | None = None, *, boot: str = "boot-1", session: bytes = SESSION, most_bytes: int = 4096) -> None:
        self.disk = disk if disk is not None else CutDisk()
        self.says: list = []
        self.steps = 0
        self.recorder = FlightRecorder(
            self.disk, self.says.append, folder=folder, state=lambda: pack_state({"steps": self.steps}), session=session, boot=boot, device="gw-1",
            most_bytes=most_bytes,
        )  # fmt: skip
        if self.recorder.survivor is not None:
            self.steps = unpack_state(self.recorder.survivor.state)["steps"] + len(self.recorder.survivor.steps)
        self.recorder.start()
        self.boot = boot

    def step(self, signal=None, *effects, flush: bool = True) -> None:
        self.steps += 1
        self.recorder.note(Now(self.boot, self.steps * 1_000, 5, 1_700_000_000, True), signal or Usage(app="gw", run=self.steps, memory_kib=1000), effects)
        if flush:
            self.recorder.flush()

    def turn(self) -> None:
        for _ in range(3):
            if self.recorder.due():
                self.recorder.tick(self.recorder.due())
            self.disk.ready(-1, 0)

    def files(self) -> dict[str, bytes]:
        return {n: d for n, d in self.disk.remains().items() if n.endswith(".ehr")}

    def only(self) -> recording.Recording:
        (data,) = self.files().values()
        return recording.read(data)


def steps_of(part: recording.Part) -> list[int]:
    first = unpack_state(part.state)["steps"]
    return list(range(first + 1, first + 1 + len(part.entries)))


def test_an_incident_is_kept_from_before_it_opened_until_it_closed(tmp_path) -> None:
    agent = Agent(str(tmp_path))
    for _ in range(10):
        agent.step()
    agent.step(PolicyIs({"seed": 7}))
    agent.step(CatalogIs(({"name": "gw"},)))
    agent.step(AppExited(app="gw", run=1, code=3), Report(BASE), Recorded(1), Act(1, Verb.RESTART, "gw", "", 1), Wake(99))
    agent.turn()
    assert not agent.only().whole
    for _ in range(5):
        agent.step()
    agent.step(None, Report(replace(BASE, state=IncidentState.RESOLVED, revision=2)))
    agent.turn()
    kept = agent.only()
    assert kept.whole
    assert (kept.policy, kept.catalog) == ({"seed": 7}, [{"name": "gw"}])
    assert kept.header["session"] == SESSION
    assert "gw-1" not in repr(kept.header)
    (part,) = kept.parts
    assert steps_of(part) == list(range(1, 20))
    exit_ = part.entries[12]
    assert exit_.signal == AppExited(app="gw", run=1, code=3)
    assert [e[0] for e in exit_.effects] == ["Report", "Recorded", "Act", "Wake"]
    assert exit_.effects == recording.plain_effects((Report(BASE), Recorded(1), Act(1, Verb.RESTART, "gw", "", 1), Wake(99)))
    assert exit_.now == Now("boot-1", 13_000, 5, 1_700_000_000, True)
    agent.step()
    agent.turn()
    assert steps_of(agent.only().parts[0]) == list(range(1, 20))


def test_a_long_incident_gets_a_new_part_instead_of_a_gap_that_nobody_sees(tmp_path) -> None:
    agent = Agent(str(tmp_path))
    agent.step(None, Recorded(1), Report(BASE))
    agent.turn()
    for _ in range(600):
        agent.step()
    agent.step(None, Decided("approve", 1), Act(2, Verb.ROLLBACK, "gw", "", 1))
    agent.turn()
    kept = agent.only()
    assert len(kept.parts) == 2
    assert steps_of(kept.parts[0]) == [1]
    assert steps_of(kept.parts[1])[-1] == 602
    assert kept.parts[1].entries[-1].effects[1][0] == "Act"


def test_a_recording_stays_in_its_bound_and_says_when_it_is_full(tmp_path) -> None:
    agent = Agent(str(tmp_path), most_bytes=200_000)
    for n in range(6):
        for _ in range(200):
            agent.step(Usage(app=os.urandom(300).hex(), run=1))
        agent.step(None, *((Recorded(1),) if n == 0 else ()), Report(replace(BASE, revision=n)))
        agent.turn()
    agent.step(None, Report(replace(BASE, state=IncidentState.RESOLVED)))
    agent.turn()
    (data,) = agent.files().values()
    assert len(data) <= recording.SIZE_MOST
    assert [s.what for s in agent.says] == ["full"]
    kept = recording.read(data)
    assert kept.whole
    assert kept.parts[0].entries


def test_sixteen_are_kept_and_the_finished_ones_go_first(tmp_path) -> None:
    agent = Agent(str(tmp_path))
    for n in range(1, KEEP + 6):
        agent.step(None, Recorded(n), Report(replace(BASE, number=n)))
        agent.turn()
        if n != 2:
            agent.step(None, Report(replace(BASE, number=n, state=IncidentState.RESOLVED)))
            agent.turn()
    numbers = sorted(int(name.split("-")[1]) for name in agent.files())
    assert len(numbers) == KEEP
    assert numbers[0] == 2
    assert numbers[1:] == list(range(7, KEEP + 6))


def test_the_ring_survives_the_agents_death_with_every_step(tmp_path) -> None:
    agent = Agent(str(tmp_path))
    for _ in range(300):
        agent.step()
    agent.step(flush=False)  # noted, not flushed: lost with the process
    again = Agent(str(tmp_path), session=b"sessB.")
    survivor = again.recorder.survivor
    assert survivor.session == SESSION
    assert unpack_state(survivor.state)["steps"] + len(survivor.steps) == 300
    assert survivor.steps[-1].signal.run == 300
    assert again.steps == 300


@pytest.mark.parametrize("hurt", ["cut", "flip"])
def test_a_torn_ring_copy_is_used_up_to_its_first_damage_and_no_further(tmp_path, hurt: str) -> None:
    agent = Agent(str(tmp_path), most_bytes=1 << 20)
    for _ in range(20):
        agent.step()
    path = tmp_path / "ring.1"
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at] if hurt == "cut" else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        other = FlightRecorder(CutDisk(), [].append, folder=str(tmp_path), state=lambda: None, session=b"sessB.", boot="boot-1")
        survivor = other.survivor
        if survivor is not None:
            assert unpack_state(survivor.state) == {"steps": 0}
            assert [e.signal.run for e in survivor.steps] == list(range(1, len(survivor.steps) + 1))


def test_another_boots_ring_is_not_taken_for_ours(tmp_path) -> None:
    agent = Agent(str(tmp_path))
    agent.step()
    assert Agent(str(tmp_path), boot="boot-2").recorder.survivor is None


def test_a_recording_left_open_by_a_dead_agent_goes_on_as_a_new_part(tmp_path) -> None:
    disk = CutDisk()
    agent = Agent(str(tmp_path), disk)
    agent.step(None, Recorded(1), Report(BASE))
    agent.turn()
    again = Agent(str(tmp_path), CutDisk(disk.remains()), session=b"sessB.")
    again.step(None, Report(replace(BASE, state=IncidentState.RESOLVED, revision=5)))
    again.turn()
    kept = again.only()
    assert kept.whole
    assert len(kept.parts) == 2
    assert kept.parts[1].entries[-1].effects[0][1][21:22] != []
    assert Agent(str(tmp_path), CutDisk(again.disk.remains())).recorder._tapes == {}


def test_a_full_medium_costs_the_recording_not_the_healing_and_it_is_written_afterwards(tmp_path) -> None:
    agent = Agent(str(tmp_path))
    agent.disk.fails = errno.ENOSPC
    agent.step(None, Recorded(1), Report(BASE))
    agent.turn()
    assert agent.files() == {}
    agent.disk.fails = 0
    agent.turn()
    agent.step()
    agent.turn()
    assert [(s.what, s.ok) for s in agent.says] == [("unwritable", False), ("unwritable", True)]
    assert steps_of(agent.only().parts[0])[:1] == [1]


def test_a_run_folder_that_cannot_be_written_is_said_once(tmp_path) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    agent = Agent(str(folder))
    for _ in range(500):
        agent.step()
    agent.turn()
    assert [(s.what, s.ok) for s in agent.says] == [("ring", False)]


def whole_file() -> bytes:
    now = Now("boot-1", 7)
    runs = [recording.pack_entry(now, Usage(run=n), (Wake(n),)) for n in range(20)]
    head = recording.begin({"v": 1, "boot": "boot-1", "incident": 4, "session": SESSION}, {"seed": 1}, [])
    return head + recording.snapshot(pack_state({"steps": 0})) + recording.entries(runs[:10]) + recording.entries(runs[10:]) + recording.end(20)


def test_a_recording_cut_at_every_byte_gives_its_whole_part_or_a_typed_error() -> None:
    data = whole_file()
    assert recording.read(data).whole
    counts = []
    for at in range(len(data)):
        try:
            kept = recording.read(data[:at])
        except JournalError:
            counts.append(-1)
        else:
            assert not kept.whole
            counts.append(sum(len(p.entries) for p in kept.parts))
    assert counts == sorted(counts)
    assert set(counts) == {-1, 0, 10, 20}


def test_every_flipped_bit_of_a_recording_is_noticed() -> None:
    data = whole_file()
    for at in range(len(data)):
        for bit in (1, 128):
            hurt = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            try:
                kept = recording.read(hurt)
            except JournalError:
                continue
            assert not kept.whole
            assert all(e.now.mono_ns == 7 for p in kept.parts for e in p.entries)


def test_a_hole_ends_the_part_so_that_nothing_is_replayed_over_a_gap() -> None:
    data = whole_file()
    at = data.index(recording.entries([recording.pack_entry(Now("boot-1", 7), Usage(run=n), (Wake(n),)) for n in range(10)]))
    kept = recording.read(data[: at + 20] + b"\xff" + data[at + 21 :])
    assert [len(p.entries) for p in kept.parts] == [0]
    assert kept.damaged_bytes > 0


@pytest.mark.parametrize(("data", "word"), [
    (b"", "not a recording"), (b"PK\x03\x04", "not a recording"), (recording.MAGIC + b"\x63", "version 99"), (recording.MAGIC, "version 0"),
    (recording.MAGIC + b"\x01", "header"),
])  # fmt: skip
def test_what_is_no_recording_is_refused_by_name(data: bytes, word: str) -> None:
    with pytest.raises(JournalError, match=word):
        recording.read(data)


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_magic_are_a_recording_or_a_typed_error(data: bytes) -> None:
    try:
        recording.read(recording.MAGIC + b"\x01" + data)
    except JournalError:
        pass


def test_an_inflating_bomb_is_refused() -> None:
    from edgeheal.journal import frames
    from edgeheal.journal.records import deflate

    bomb = frames.make(recording.Kind.SNAPSHOT, deflate(bytes(recording.INFLATED_MOST + 1)), salt=recording.SALT)
    with pytest.raises(JournalError, match="over its bound"):
        recording.read(recording.begin({"v": 1}, None, []) + bomb)


def test_effects_pack_bit_for_bit_and_floats_keep_all_their_bits() -> None:
    from edgeheal.core.incident import Cause

    one = Report(replace(BASE, causes=(Cause(CauseKind.APP_CRASH, 0.1 + 0.2),)))
    other = Report(replace(BASE, causes=(Cause(CauseKind.APP_CRASH, 0.3),)))
    assert recording.pack_effects((one,)) == recording.pack_effects((replace(one),))
    assert recording.pack_effects((one,)) != recording.pack_effects((other,))
