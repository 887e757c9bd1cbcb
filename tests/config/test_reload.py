# SPDX-License-Identifier: Apache-2.0
"""A live change: the difference and nothing else; a broken file leaves the last good config in force, whatever happened to it."""

import os
import struct
import subprocess
import sys

import pytest

from edgeheal.cli.main import main
from edgeheal.config.changes import changes, touched
from edgeheal.config.last_good import FILES, LAST_GOOD, in_force, read_copy
from edgeheal.config.load import load
from edgeheal.core import program, reasons
from edgeheal.core.errors import ConfigError
from edgeheal.image.records import pack, unpack

GOOD = 'mode = "ask"\n[link]\nheartbeat = "1m"\nkeep_alive = "1m"\n[apps.gw]\n'
BROKEN = [
    'mode = "ask"\n[link]\nheartbeat = "10ss"\n', "[link]\nheartbeat = 120\n", "interval = inf\n", "[probes]\nevery = 1e999\n", '[link]\nhartbeat = "10s"\n',
    '[probes]\ntimeout = "60s"\nevery = "10s"\n', "", "\0" * 512, GOOD[:9], "[link",
]  # fmt: skip


def test_a_reload_names_each_changed_key_and_what_it_touches(box, write):
    write(GOOD)
    old = load(box).require()
    write(
        'mode = "act"\n[link]\nheartbeat = "1m"\nkeep_alive = "1m"\nport = 1883\n[apps.gw]\ncritical = true\n[apps.new]\nsoak = "1h"\n[spool]\nsize = "1MB"\n'
    )
    found = changes(old, load(box).require())
    assert {(c.key, c.old, c.new, c.touches) for c in found} == {
        ("mode", '"ask"', '"act"', "policy"),
        ("link.port", "8883", "1883", "link"),
        ("apps.gw.critical", "false", "true", "policy"),
        ("apps.new", "", "(new app)", "catalog"),
        ("apps.new.soak", "", '"1h"', "guard"),
        ("spool.size", '"4MB"', '"1MB"', "restart of the agent"),
    }
    assert touched(found) == {"policy", "link", "catalog", "guard", "restart of the agent"}


def test_a_comment_or_another_way_to_write_a_value_changes_nothing(box, write):
    write(GOOD)
    old = load(box).require()
    write('# new\nmode = "ask"\nlink = { heartbeat = "60s", keep_alive = "60000ms" }\n[apps]\ngw = {}\n')
    assert changes(old, load(box).require()) == ()


def test_an_app_that_goes_is_one_change(box, write):
    write(GOOD)
    old = load(box).require()
    write(GOOD.replace("[apps.gw]\n", ""))
    assert [(c.key, c.old, c.new) for c in changes(old, load(box).require())] == [("apps.gw", "(app)", "")]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_fc_cfg_2_a_broken_file_leaves_the_last_good_config_in_force_and_says_so(box, write, text):
    write(GOOD)
    first = in_force(box, box.agent)
    assert (first.source, first.unkept, first.damaged) == (FILES, "", ())
    write(text)
    now = in_force(box, box.agent)
    assert now.source == LAST_GOOD
    assert now.config == first.config
    assert now.problems
    again = in_force(box, box.agent)  # and still so after a restart
    assert again.config == first.config
    write('mode = "observe"\n')
    assert in_force(box, box.agent).source == FILES


def test_a_main_file_that_vanished_is_damage_not_a_change_to_the_defaults(box, write):
    write(GOOD)
    first = in_force(box, box.agent)
    os.unlink(box.config_file)
    now = in_force(box, box.agent)
    assert (now.source, now.config) == (LAST_GOOD, first.config)
    assert "is gone" in now.problems[0].message
    write("# nothing is wanted\n")
    assert in_force(box, box.agent).source == FILES


def test_a_drop_in_that_is_taken_away_is_a_change(box, write):
    write(GOOD)
    extra = write('mode = "act"\n', "50-x.toml")
    assert in_force(box, box.agent).config.mode == "act"
    os.unlink(extra)
    now = in_force(box, box.agent)
    assert (now.source, now.config.mode) == (FILES, "ask")


def test_a_copy_cut_at_any_byte_is_damage_and_the_copy_before_it_stands_in(box, write):
    write(GOOD)
    in_force(box, box.agent)
    write(GOOD.replace("ask", "act"))
    in_force(box, box.agent)
    copy = f"{box.agent}/config.good"
    with open(copy, "rb") as file:
        whole = file.read()
    write("[broken")
    for cut in range(len(whole)):
        with open(copy, "wb") as file:
            file.write(whole[:cut])
        now = in_force(box, box.agent)
        assert (now.source, now.config.mode, now.damaged) == (LAST_GOOD, "ask", (copy,))
    for at in range(0, len(whole), 7):
        with open(copy, "wb") as file:
            file.write(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        assert in_force(box, box.agent).damaged == (copy,)


def test_a_damaged_copy_is_healed_by_good_files_and_told(box, write):
    write(GOOD)
    in_force(box, box.agent)
    copy = f"{box.agent}/config.good"
    with open(copy, "wb"):
        pass
    now = in_force(box, box.agent)
    assert (now.source, now.damaged) == (FILES, (copy,))
    assert read_copy(box.agent)[1] == ()


def test_with_neither_files_nor_copy_there_is_an_error_and_no_default(box, write):
    write("[broken")
    with pytest.raises(ConfigError) as told:
        in_force(box, box.agent)
    assert told.value.place == f"{box.config_file}:1"


def test_a_folder_that_cannot_be_written_costs_only_the_copy(box, write):
    write(GOOD)
    os.rmdir(box.agent)
    now = in_force(box, box.agent)
    assert now.source == FILES
    assert now.unkept


def test_the_copy_holds_no_more_than_the_owner_and_group_may_read(box, write):
    write(GOOD)
    in_force(box, box.agent)
    assert os.stat(f"{box.agent}/config.good").st_mode & 0o007 == 0


def test_reload_with_diff_says_and_does_not(box, write, capsys):
    write(GOOD)
    in_force(box, box.agent)
    write(GOOD.replace("1m", "2m"))
    users = "".join(f'{u} = "self"\n' for u in ("agent", "import", "store", "verify", "check"))
    write(f"[users]\n{users}", "10-users.toml")
    assert main(["config", "reload", "--diff", "--root", box.root]) == 0
    out = capsys.readouterr().out
    assert 'link.heartbeat: "1m" -> "2m"  [link]' in out


def test_reload_of_a_broken_file_sends_nothing_and_exits_1(box, write, capsys):
    write("[broken")
    assert main(["config", "reload", "--root", box.root]) == 1
    assert f"{box.config_file}:1" in capsys.readouterr().out


def read_as_guard(root, **words):
    folders = [p for p in sys.path if p.endswith("site-packages")]
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    argv = program.argv(sys.executable, [here, *folders], "edgeheal.guard.config_reader")
    done = subprocess.run(argv, input=pack({"root": root, **words}), stdout=subprocess.PIPE, timeout=30, check=True)
    (length,) = struct.unpack_from("!I", done.stdout)
    assert len(done.stdout) == 4 + length
    return unpack(done.stdout[4:])


def test_the_guards_reader_answers_with_the_record(box, write):
    write('[device]\nid = "gw"\n[apps.a]\nsoak = "30s"\n')
    answer = read_as_guard(box.root, uid=1000, gid=1001)
    assert (answer["k"], answer["config"]["apps"]["a"]["soak_s"], answer["config"]["users"]["agent"]) == ("done", 30, 1000)


def test_the_guards_reader_tells_a_broken_file_by_place_and_gives_no_record(box, write):
    path = write('[link]\nheartbeat = "10ss"\n')
    answer = read_as_guard(box.root, uid=1000, gid=1001)
    assert (answer["k"], answer["reason"], answer["object"]) == ("error", reasons.BAD_CONFIG, 2)
    assert path in answer["message"]
    assert "10s" in answer["hint"]
    assert "config" not in answer
