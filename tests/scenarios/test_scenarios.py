# SPDX-License-Identifier: Apache-2.0
"""Recordings that real runs left behind: this version reads them, decides as was decided then, and can be asked what if."""

import json
from pathlib import Path

import pytest

from edgeheal.cli import main as cli
from edgeheal.journal import recording

FILES = sorted(Path(__file__).parent.glob("*.ehr"))
HEALED_BY_THE_AGENT = ("kill", "bad-config")  # the others were healed by the guard, or by nobody
AGAIN = "the engine decides differently: if that is meant, `python tests/scenarios/record.py` makes the recordings anew"


def replay(capsys, *words):
    code = cli.main(["replay", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_recording_of_a_real_run_gives_each_of_its_decisions_again(path, capsys):
    code, said = replay(capsys, str(path))
    assert said["steps"] > 5
    assert said["decisions"] > 2
    assert (code, said["differences"]) == (0, []), AGAIN


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_can_be_asked_what_an_observer_would_have_done(path, capsys, tmp_path):
    kept = recording.read(path.read_bytes())
    acts = [effect for part in kept.parts for entry in part.entries for effect in entry.effects if effect[0] == "Act"]
    assert acts or path.stem not in HEALED_BY_THE_AGENT
    policy = tmp_path / "policy.toml"
    policy.write_text('mode = "observe"\n')
    _, said = replay(capsys, str(path), "--policy", str(policy))
    if path.stem in HEALED_BY_THE_AGENT:
        assert said["differences"], "an observer orders no remedy"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_recording_cut_anywhere_is_read_as_far_as_it_goes_or_refused_by_name(path):
    data = path.read_bytes()
    whole = sum(len(part.entries) for part in recording.read(data).parts)
    assert recording.finished(data[-recording.END_BYTES :])
    for end in range(len(data) // 2, len(data), max(1, len(data) // 40)):
        kept = recording.read(data[:end])
        assert sum(len(part.entries) for part in kept.parts) <= whole


def test_there_are_recordings():
    assert {"kill", "bad-config", "bad-upgrade", "stuck-sensor"} <= {path.stem for path in FILES}
    assert all(path.stat().st_size <= 262_144 for path in FILES)
