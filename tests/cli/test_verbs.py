# SPDX-License-Identifier: Apache-2.0
"""Every verb that is named works: its help, and the root said before it."""

import json

import pytest

from edgeheal.cli.main import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert "usage: edgeheal" in capsys.readouterr().out


def test_root_may_stand_before_the_verb(tmp_path, capsys):
    assert main(["--root", str(tmp_path), "--json", "config", "check"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_doctor_names_a_next_step_for_each_wrong_line(tmp_path, capsys):
    assert main(["--root", str(tmp_path), "doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {f["what"] for f in found if not f["ok"]} == {"trust", "space", "guard", "agent"}
    assert all(f["next"] for f in found if not f["ok"])


def test_drills_are_listed(capsys):
    assert main(["drill", "list", "--json"]) == 0
    assert "kill" in {row["name"] for row in json.loads(capsys.readouterr().out)}
