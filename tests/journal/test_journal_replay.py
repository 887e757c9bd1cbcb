# SPDX-License-Identifier: Apache-2.0
"""Replay: what a device kept of an incident gives each of its decisions again, bit for bit, on another machine."""

import json

import pytest

from edgeheal.adapters.recorder import FlightRecorder
from edgeheal.cli import main as cli
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Act, Verb
from edgeheal.core.kinds import Mode
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy
from edgeheal.core.signal import ActEnded, AppExited, AppReady, AppSeen, AppStarted, CatalogIs, PolicyIs, Tick
from edgeheal.engine import snapshot
from edgeheal.engine.state import initial
from edgeheal.engine.step import step
from edgeheal.journal.records import pack_state
from edgeheal.lab.storage import CutDisk

SESSION = b"sessA."


class Box:
    """The real engine and the real recorder; an app that crashes, an act that succeeds."""

    def __init__(self, folder: str) -> None:
        self.state = initial(7, SESSION)
        self.disk = CutDisk()
        self.recorder = FlightRecorder(
            self.disk, lambda s: None, folder=folder, state=lambda: pack_state(snapshot.to_plain(self.state)), session=SESSION, boot="boot-1", device="gw-1"
        )
        self.mono = NS
        self.recorder.start()
        self.hear(PolicyIs(Policy().to_plain()))
        self.hear(CatalogIs((AppSpec("gw", image="ab" * 32, version="1.0").to_plain(),)))
        self.hear(AppSeen(app="gw", run=1, phase=3, pid=10, image="ab" * 32, image_state=4))
        self.hear(AppReady(app="gw", run=1))

    def hear(self, signal, after_s: float = 0.5) -> None:
        self.mono += int(after_s * NS)
        now = Now("boot-1", self.mono, self.mono // NS, 1_795_600_000 + self.mono // NS, True)
        self.state, effects = step(self.state, signal, now)
        self.recorder.note(now, signal, effects)
        self.recorder.flush()
        for effect in effects:
            if isinstance(effect, Act):
                self.hear(ActEnded(effect.number, ok=True), 0.01)

    def crash(self, run: int) -> None:
        self.hear(AppExited(app="gw", run=run, code=3, lived_ms=90_000), 90)
        self.hear(AppStarted(app="gw", run=run + 1, pid=10 + run, by=1, image="ab" * 32, image_state=4), 0.1)
        self.hear(AppReady(app="gw", run=run + 1), 0.2)
        for _ in range(3):
            self.hear(Tick(), 40)

    def files(self) -> dict[str, bytes]:
        self.recorder.write_out()
        self.disk.ready(-1, 0)
        return {n.rsplit("/", 1)[1]: d for n, d in self.disk.remains().items() if n.endswith(".ehr")}


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> str:
    box = Box(str(tmp_path_factory.mktemp("run")))
    for run in range(1, 4):
        box.crash(run)
    files = box.files()
    assert files
    folder = tmp_path_factory.mktemp("root") / "var/lib/edgeheal/agent/recordings"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return str(sorted(folder.iterdir())[0])


def run(capsys, *words: str) -> tuple[int, str, str]:
    code = cli.main(["replay", *words])
    out = capsys.readouterr()
    return code, out.out, out.err


def as_json(capsys, *words: str) -> tuple[int, dict]:
    code, out, _ = run(capsys, *words, "--json")
    return code, json.loads(out)


def test_a_recording_gives_the_same_decisions_bit_for_bit(case: str, capsys) -> None:
    code, said = as_json(capsys, case)
    assert code == 0
    assert said["differences"] == []
    assert said["same"] == said["steps"] > 5
    assert said["decisions"] > 1
    code, text, _ = run(capsys, case)
    assert code == 0
    assert "0 otherwise" in text


def test_an_incident_of_this_device_is_found_by_its_short_id(case: str, capsys) -> None:
    root, short = case.split("/var/lib")[0], case.rsplit("-", 1)[1].removesuffix(".ehr")
    assert run(capsys, short.lower(), "--root", root)[0] == 0
    code, _, err = run(capsys, "ZZZZ", "--root", root)
    assert code == 1
    assert "no recording of ZZZZ" in err


def test_another_policy_shows_what_it_would_have_done(case: str, capsys, tmp_path) -> None:
    observe = tmp_path / "observe.json"
    observe.write_text(json.dumps({"mode": int(Mode.OBSERVE)}))
    code, said = as_json(capsys, case, "--policy", str(observe))
    assert code == 0
    acts = [e for d in said["differences"] for e in d["then"] if e[0] == "Act" and e[2] in (Verb.RESTART, Verb.START)]
    now = [e for d in said["differences"] for e in d["now"] if e[0] == "Act" and e[2] in (Verb.RESTART, Verb.START)]
    assert acts
    assert not now
    toml = tmp_path / "edgeheal.toml"
    toml.write_text('mode = "observe"\n')
    assert as_json(capsys, case, "--policy", str(toml))[1]["differences"]


def test_another_signal_shows_what_would_have_followed(case: str, capsys) -> None:
    code, listed = as_json(capsys, case, "--signals")
    assert code == 0
    exit_ = next(row for row in listed if row["signal"]["kind"] == "AppExited")
    code, said = as_json(capsys, case, "--fault", f"{exit_['seq']}=null")
    assert code == 0
    assert said["differences"][0]["seq"] == exit_["seq"]
    assert said["differences"][0]["now"] == []
    code, said = as_json(capsys, case, "--fault", f'{exit_["seq"]}={{"code": 0, "done": true}}')
    assert code == 0
    assert said["differences"]
    code, text, _ = run(capsys, case, "--fault", f"{exit_['seq']}=null")
    assert "then" in text
    assert "restart" in text or "start" in text


@pytest.mark.parametrize(("words", "code", "word"), [
    (["--fault", "999999=null"], 2, "no signal 999999"), (["--fault", "1"], 2, "cannot read"), (["--fault", "1=[1]"], 2, "cannot read"),
    (["--fault", '1={"nonsense": 1}'], 2, "no field"), (["--fault", '1={"kind": "Nobody"}'], 2, "no signal 'Nobody'"),
    (["--policy", "/nonexistent.toml"], 1, "nonexistent"),
])  # fmt: skip
def test_a_wrong_word_gets_a_clear_error(case: str, capsys, words: list[str], code: int, word: str) -> None:
    got, _, err = run(capsys, case, *words)
    assert got == code
    assert word in err
    assert "next:" in err


def test_a_tampered_decision_is_found(case: str, capsys, tmp_path) -> None:
    from edgeheal.journal import recording

    kept = recording.read(open(case, "rb").read())
    state = kept.parts[0].state
    entries = [recording.msgpack.packb([e.now.mono_ns, e.now.box_s, e.now.wall_s, e.now.trusted, e.plain, e.effects]) for e in kept.parts[0].entries]
    at = next(i for i, e in enumerate(kept.parts[0].entries) if any(x[0] == "Act" for x in e.effects))
    e = kept.parts[0].entries[at]
    changed = [[*x[:2], 9, *x[3:]] if x[0] == "Act" else x for x in e.effects]
    entries[at] = recording.msgpack.packb([e.now.mono_ns, e.now.box_s, e.now.wall_s, e.now.trusted, e.plain, changed])
    forged = tmp_path / "forged.ehr"
    forged.write_bytes(recording.begin(kept.header, kept.policy, kept.catalog) + recording.snapshot(state) + recording.entries(entries))
    code, said = as_json(capsys, str(forged))
    assert code == 1
    assert [d["seq"] for d in said["differences"]] == [at + 1]


def test_a_recording_that_was_cut_off_or_garbled_is_run_as_far_as_it_goes_or_refused_by_place(case: str, capsys, tmp_path) -> None:
    data = open(case, "rb").read()
    part = tmp_path / "part.ehr"
    part.write_bytes(data[: len(data) * 2 // 3])
    code, _, err = run(capsys, str(part))
    assert code == 0 or "missing" in err
    part.write_bytes(b"garbage")
    code, _, err = run(capsys, str(part))
    assert code == 1
    assert "not a recording" in err


def test_what_an_app_said_moves_no_cursor(capsys) -> None:
    from edgeheal.cli.replay_screen import describe_signal
    from edgeheal.core.signal import LogSeen, to_plain

    line = describe_signal(to_plain(LogSeen(app="gw", template="\x1b[2Jboom\r\n", count=2)))
    assert line.isascii()
    assert line.isprintable()
