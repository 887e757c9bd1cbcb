# SPDX-License-Identifier: Apache-2.0
"""What a config may not say is refused by file, line, key, what was read and the nearest valid form."""

import os

import pytest

from edgeheal.config.decode import all_keys
from edgeheal.config.load import load
from edgeheal.core.errors import ConfigError


@pytest.fixture
def only(box, write):
    """The one problem that a text has."""

    def problem_of(text):
        write(text)
        loaded = load(box)
        assert loaded.config is None
        assert len(loaded.problems) == 1, [p.sentence() for p in loaded.problems]
        return loaded.problems[0]

    return problem_of


# key, value as written, part of the nearest valid form ("" where there is none)
WRONG_UNITS = [
    ("link", "heartbeat", '"10ss"', '"10s"'),
    ("link", "heartbeat", "120", '"120s"'),
    ("link", "heartbeat", "120.5", '"2m"'),
    ("link", "heartbeat", '"1m30"', '"'),
    ("link", "heartbeat", '"10"', '"10s"'),
    ("link", "heartbeat", '"10 s"', '"10s"'),
    ("link", "heartbeat", '"10S"', '"10s"'),
    ("link", "heartbeat", '"10 seconds"', '"10s"'),
    ("link", "heartbeat", '"5min"', '"5m"'),
    ("link", "heartbeat", '""', '"'),
    ("link", "heartbeat", "inf", '"'),
    ("link", "heartbeat", "-inf", '"'),
    ("link", "heartbeat", "nan", '"'),
    ("link", "heartbeat", "1e999", '"'),
    ("link", "heartbeat", '"inf"', '"'),
    ("link", "heartbeat", '"1e9s"', '"'),
    ("link", "heartbeat", '"0s"', '"5s"'),
    ("link", "heartbeat", '"-10s"', '"10s"'),
    ("link", "heartbeat", '"99999999999999999999s"', '"'),
    ("link", "heartbeat", '"999999999d"', '"1d"'),
    ("link", "heartbeat", '"500ms"', '"5s"'),
    ("link", "heartbeat", "true", '"'),
    ("link", "heartbeat", "2020-01-01", '"'),
    ("link", "heartbeat", '["10s"]', '"'),
    ("link", "heartbeat", "{ s = 10 }", '"'),
    ("probes", "every", '"0ms"', '"100ms"'),
    ("spool", "size", "4000000", '"'),
    ("spool", "size", '"4mb"', '"4MB"'),
    ("spool", "size", '"4M"', '"4MB"'),
    ("spool", "size", '"4 GB"', '"1GB"'),
    ("spool", "size", '"0B"', '"256kB"'),
    ("spool", "size", '"-1MB"', '"1MB"'),
    ("spool", "size", "inf", '"'),
    ("thresholds", "disk_low", '"10"', '"10%"'),
    ("thresholds", "disk_low", "0.1", '%"'),
    ("thresholds", "disk_low", '"200%"', '"90%"'),
    ("thresholds", "temperature", "85", '"85C"'),
    ("thresholds", "temperature", '"85F"', '"85C"'),
    ("thresholds", "crash_loop", '["5 in 10"]', '"5 in 10s"'),
    ("thresholds", "crash_loop", '["5 per 10m"]', '"5 in 10m"'),
    ("thresholds", "crash_loop", '"5 in 10m"', '["5 in 10m"]'),
    ("thresholds", "crash_loop", '["5 in 0s"]', '"5 in 1s"'),
    ("link", "port", '"8883"', "8883"),
    ("link", "port", "0", "1"),
    ("link", "port", "70000", "65535"),
    ("link", "port", "1883.0", "1883"),
    ("link", "tls", '"yes"', "true"),
    ("link", "tls", "0", "false"),
    ("link", "encoding", '"JSON"', '"json"'),
    ("link", "encoding", '"msgpak"', '"msgpack"'),
    ("link", "host", "17", '"17"'),
    ("link", "ca", '"../../etc/shadow"', ""),
    ("guard", "app_uids", '"60800"', '"60800-61055"'),
    ("guard", "app_uids", '"10-20"', '"60800-61055"'),
    ("guard", "interpreters", '["bin/sh"]', '"/bin/sh"'),
    ("users", "agent", '"root"', ""),
    ("users", "agent", "0", ""),
    ("users", "agent", '"61001"', "61001"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "key", "written", "near"), WRONG_UNITS, ids=lambda v: str(v)[:24])
def test_fc_cfg_2_a_wrong_value_is_refused_with_its_place_and_the_nearest_form(box, write, only, table, key, written, near):
    problem = only(f"# a comment\n\n[{table}]\n{key} = {written}\n")
    assert problem.place() == f"{box.config_file}:4"
    assert problem.key == f"{table}.{key}"
    assert problem.read == written
    assert near in problem.nearest
    assert bool(near) == bool(problem.nearest)


@pytest.mark.parametrize(("table", "key", "written", "near"), [row for row in WRONG_UNITS if row[3]], ids=lambda v: str(v)[:24])
def test_fc_cfg_2_the_nearest_form_would_have_been_taken(box, write, only, table, key, written, near):
    problem = only(f"[{table}]\n{key} = {written}\n")
    write(f"[{table}]\n{problem.nearest}\n")
    problems = [p for p in load(box).problems if p.key == problem.key and "expected" in p.message]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "key", "line", "near"),
    [
        ('[link]\nhartbeat = "10s"', "link.hartbeat", 2, "link.heartbeat"),
        ("interval = inf", "interval", 1, ""),
        ('[proobes]\nevery = "10s"', "proobes", 1, "probes"),
        ('[link]\nlink.host = "x"', "link.link", 2, ""),
        ('heartbeat = "10s"', "heartbeat", 1, "link.heartbeat"),
        ('[remedies.restrat]\nmode = "ask"', "remedies.restrat", 1, "remedies.restart"),
        ('[apps.gw.remedies]\nroll-back = "ask"', "apps.gw.remedies.roll-back", 2, "apps.gw.remedies.rollback"),
        ('[apps."My App"]\nmode = "ask"', "apps.'My App'", 1, "[apps.my-app]"),
        ("[apps.UP]", "apps.UP", 1, "[apps.up]"),
        ('apps = "x"', "apps", 1, "[apps]"),
        ('[[apps]]\nname = "x"', "apps", 1, "[apps]"),
        ("[apps]\ngw = 1", "apps.gw", 2, "[apps.gw]"),
        ('[remedies]\nrestart = "act"', "remedies.restart", 2, "[remedies.restart]"),
        ("[link]\nport = 1\nPORT = 2", "link.PORT", 3, "link.port"),
        ("[guard]\nbudgets = []", "guard.budgets", 2, "[guard.budgets]"),
        ('device = { id = "a", nmae = "b" }', "device.nmae", 1, ""),
    ],
)  # fmt: skip
def test_fc_cfg_2_an_unknown_key_is_refused_with_the_nearest_known_one(box, write, only, text, key, line, near):
    problem = only(text + "\n")
    assert (problem.key, problem.line) == (key, line)
    assert near in problem.nearest


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('[probes]\nevery = "10s"\ntimeout = "60s"', {"probes.timeout", "probes.every"}),
        ('[probes]\nevery = "1s"', {"probes.timeout", "probes.every"}),
        ('[backoff]\nfirst = "10m"', {"backoff.first"}),
        ('[backoff]\ncap = "1h"', {"backoff.cap"}),
        ('[sampling]\nsuspected = "30s"', {"sampling.suspected"}),
        ('[thresholds]\ndisk_low = "2%"', {"thresholds.disk_critical", "thresholds.disk_low"}),
        ('[guard]\nstuck = "10s"', {"guard.stuck"}),
        ('[journal]\nring = "9MB"', {"journal.ring"}),
        ('[link]\nhost = "broker"', {"device.id", "link.host"}),
        ('[device]\nid = "a"\n[link]\nhost = "b"\ncert = "keys/a.pem"', {"link.cert"}),
        ('[link]\ntls = false\nca = "ca.pem"', {"link.ca", "link.tls"}),
        ('[link]\nuser = "me"', {"link.user"}),
        ('[remedies.restart]\nbudget = ["5 in 10m", "3 in 1d"]', {"remedies.restart.budget"}),
        ('[remedies.restart]\nbudget = ["5 in 10m", "6 in 10m"]', {"remedies.restart.budget"}),
        ('[remedies.restart]\ncool_down = "1h"', {"remedies.restart.cool_down", "remedies.restart.budget"}),
        ('[guard.budgets]\nreboot = ["3 in 6h", "2 in 7d"]', {"guard.budgets.reboot"}),
        ('[remedies.reboot]\nmode = "act"', {"remedies.reboot.mode"}),
        ('[remedies.power_cycle]\nmode = "act"', {"remedies.power_cycle.mode"}),
        ('[apps.a]\nneeds = ["app:b"]', {"apps.a.needs"}),
        ('[apps.a]\nneeds = ["app:a"]', {"apps.a.needs"}),
        ('[apps.a]\nneeds = ["app:b"]\n[apps.b]\nneeds = ["app:a"]', {"apps.a.needs", "apps.b.needs"}),
        ('[apps.a]\nuser = "same"\n[apps.b]\nuser = "same"', {"apps.b.user"}),
        ('[apps.a]\nuser = "edgeheal-agent"', {"apps.a.user"}),
        ("[apps.a]\nuser = 60900", {"apps.a.user"}),
        ('[users]\nstore = "edgeheal-agent"', {"users.store"}),
        ('[users]\nstore = "self"', {"users.store"}),
        ('[watchdog]\ndevice = "/dev/watchdog"\ntimeout = "5s"', {"watchdog.timeout"}),
    ],
    ids=lambda v: v.replace("\n", " ")[:50] if isinstance(v, str) else "",
)  # fmt: skip
def test_fc_cfg_2_values_that_contradict_each_other_are_refused(box, write, text, keys):
    write(text + "\n")
    loaded = load(box)
    assert loaded.config is None
    assert {p.key for p in loaded.problems} & keys, [p.sentence() for p in loaded.problems]
    assert all(p.line for p in loaded.problems)


def test_all_problems_are_listed_in_order_of_place_not_only_the_first(box, write):
    first = write('[link]\nheartbeat = "10ss"\nhartbeat = 1\n[probes]\nevery = inf\n')
    second = write("[spool]\nsize = 4\n", "50-spool.toml")
    loaded = load(box)
    assert [(p.file, p.line) for p in loaded.problems] == [(first, 2), (first, 3), (first, 5), (second, 2)]
    with pytest.raises(ConfigError) as told:
        loaded.require()
    assert "and 3 more" in str(told.value)
    assert told.value.place == f"{first}:2"
    assert told.value.hint


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("[link\nhost = 1", 1, "TOML"),
        ('a = "x', 1, "TOML"),
        ('[link]\nhost = "a"\nhost = "b"', 3, "TOML"),
        ("[link]\n[link]", 2, "TOML"),
        ("x = 0" + "0" * 5, 1, "TOML"),
        ("x = " + "9" * 1000, 1, ""),
        ("x = " + "[" * 900, 0, ""),
        (".".join("a" * 500) + " = 1", 1, ""),
    ],
)  # fmt: skip
def test_what_is_no_toml_is_told_by_line(box, write, text, line, word):
    write(text)
    problems = load(box).problems
    assert len(problems) == 1
    assert word in problems[0].message
    assert problems[0].line in (line, 1)


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"\xff\xfe", b"\xef\xbb\xbfmode = 'act'", b"# " + b"x" * 2000, b"\n" * 200_000, b"a=1\n\xc3\x28"])
def test_a_damaged_file_is_a_problem_and_never_an_empty_config(box, write, data):
    with open(box.config_file, "wb") as file:
        file.write(data)
    loaded = load(box)
    assert loaded.config is None
    assert loaded.problems[0].file == box.config_file


def test_a_file_that_is_no_file_is_refused_without_waiting_for_it(box, write):
    os.mkfifo(box.config_file)
    assert "regular" in load(box).problems[0].message


def test_a_drop_in_that_would_be_passed_over_is_told(box, write):
    write('mode = "ask"\n', "site.toml")
    problem = load(box).problems[0]
    assert problem.nearest == "50-site.toml"


def test_no_file_at_all_is_the_defaults(box, write):
    loaded = load(box)
    assert loaded.problems == ()
    assert loaded.config is not None
    assert loaded.origins == {}


@pytest.mark.parametrize("key", ["password", "broker_password", "token", "api_key", "passwd"])
def test_a_secret_in_a_config_is_refused_and_not_repeated(box, write, only, key):
    problem = only(f'[link]\n{key} = "p4ss-0002"\n')
    told = str(problem.to_plain()) + problem.sentence() + problem.hint()
    assert "p4ss-0002" not in told
    assert "password_file" in told


def test_what_a_file_says_cannot_write_to_the_terminal(box, write, only):
    problem = only('mode = "\\u001b[31mact"\n[device]\n')
    assert "\x1b" not in problem.sentence() + problem.hint()
    problem = only('"\\u001b[2J" = 1\n')
    assert "\x1b" not in problem.sentence() + problem.hint()


def test_every_key_of_the_schema_is_documented_and_its_default_valid(box, write):
    from edgeheal.config.flat import UNSAID, rows
    from edgeheal.config.schema import App, Config

    text: dict[str, list[str]] = {}
    for row in rows(Config(apps={"gw": App()})):
        assert row.doc
        assert row.touches, row.key
        if row.shown != UNSAID:
            text.setdefault(row.table, []).append(f"{row.name} = {row.shown}")
    write("\n".join(f"[{t}]\n" + "\n".join(lines) if t else "\n".join(lines) for t, lines in sorted(text.items())))
    loaded = load(box)
    assert loaded.problems == ()
    assert loaded.config == Config(apps={"gw": App()})
    assert len(all_keys()) > 100
