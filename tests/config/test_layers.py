# SPDX-License-Identifier: Apache-2.0
"""Vendor < etc < conf.d, key by key, and the origin of each value."""

import json

import pytest

from edgeheal.cli.main import main
from edgeheal.config.accounts import resolve
from edgeheal.config.guard_record import guard_record
from edgeheal.config.load import load
from edgeheal.config.policy import policy_of
from edgeheal.config.schema import Config
from edgeheal.core.kinds import Mode, RemedyKind
from edgeheal.core.policy import Budget, Policy
from edgeheal.image.records import pack, unpack


def test_the_later_layer_wins_key_by_key(box, write):
    vendor = write('mode = "observe"\n[link]\nheartbeat = "10m"\nport = 1\n', "10-vendor.toml", vendor=True)
    main_file = write('[link]\nport = 2\n[apps.gw]\nsoak = "1h"\n')
    write("[link]\nport = 3\n[apps.gw]\ncritical = true\n", "20-site.toml")
    last = write("[link]\nport = 4\n", "90-last.toml")
    loaded = load(box)
    config = loaded.require()
    assert (config.mode, config.link.heartbeat_s, config.link.port) == ("observe", 600, 4)
    assert (config.apps["gw"].soak_s, config.apps["gw"].critical) == (3_600, True)
    assert str(loaded.origins["mode"]) == f"{vendor}:1"
    assert str(loaded.origins["link.port"]) == f"{last}:2"
    assert str(loaded.origins["apps.gw.soak"]) == f"{main_file}:4"
    assert "link.host" not in loaded.origins


def test_a_list_is_replaced_not_joined(box, write):
    write('[device]\nclasses = ["a", "b"]\n')
    write('[device]\nclasses = ["c"]\n', "50-x.toml")
    assert load(box).require().device.classes == ("c",)


def test_the_line_of_a_value_is_found_however_it_is_written(box, write):
    path = write('device.id = "a" # one\n"mode" = \'ask\'\nlink = {\'port\' = 5, "user" = "u",\n password_file = "p"}\n'.replace(",\n", ", "))
    loaded = load(box)
    assert loaded.problems == ()
    assert {k: o.line for k, o in loaded.origins.items()} == {"device.id": 1, "mode": 2, "link.port": 3, "link.user": 3, "link.password_file": 3}
    write('[device]\nplace = """a # no comment\\\n  [x]"""\nclasses = [ # yes\n "b", # ]\n "c"]\n[  link . "x" ]\n')
    loaded = load(box)
    assert [(p.key, p.line) for p in loaded.problems if p.key.startswith("link")] == [("link.x", 7)]
    assert path


def test_relative_paths_lie_beside_the_config(box, write):
    write('[device]\nid="a"\n[link]\nca = "keys/ca.pem"\ncert = "/abs/c.pem"\nkey = "keys/k"\n')
    link = load(box).require().link
    assert (link.ca, link.cert) == (f"{box.etc}/keys/ca.pem", "/abs/c.pem")


def test_the_device_limits_stand_where_an_app_says_nothing(box, write):
    write('[limits]\nmemory = "64MiB"\nfiles = 99\n[apps.a]\n[apps.b.limits]\nfiles = 7\n')
    apps = load(box).require().apps
    assert (apps["a"].limits.memory_kib, apps["a"].limits.files) == (65_536, 99)
    assert (apps["b"].limits.memory_kib, apps["b"].limits.files) == (65_536, 7)


def test_the_defaults_are_those_of_the_engine_and_of_the_documented_table():
    policy = policy_of(Config())
    plain, engine = policy.to_plain(), Policy().to_plain()
    for key in set(plain) - {"seed", "remedies"}:
        assert plain[key] == engine[key], key
    for kind in RemedyKind:
        assert policy.remedy(kind) == Policy().remedy(kind)
    c = Config()
    assert (c.probes.every_ms, c.probes.timeout_ms, c.probes.misses, c.probes.start_grace_ms) == (10_000, 3_000, 3, 60_000)
    assert (c.sampling.every_ms, c.sampling.suspected_ms, c.backoff.slow_retry_ms) == (10_000, 1_000, 900_000)
    assert (c.link.heartbeat_s, c.link.keep_alive_s, c.spool.size_bytes, c.recordings.size_bytes, c.recordings.count) == (300, 240, 4_000_000, 256_000, 16)
    assert (c.guard.soak_min_s, c.approval_s, c.journal.daily_bytes) == (86_400, 86_400, 2_000_000)
    assert policy.remedy(RemedyKind.RESTART).budgets == (Budget(5, 600), Budget(20, 86_400))
    assert policy.remedy(RemedyKind.REBOOT).mode == Mode.ASK


def test_the_policy_says_what_the_files_say(box, write):
    write(
        'mode = "ask"\n[device]\nid = "gw-7"\n[apps.a]\nmode = "observe"\ndevices = ["/dev/ttyS0"]\n[apps.a.remedies]\nrollback = "ask"\n'
        '[remedies.restart]\nbudget = ["2 in 1m"]\nprobation = "1500ms"\n[backoff]\nfirst = "250ms"\n[thresholds]\ncrash_loop = ["3 in 1m"]\ntemperature = "70C"\n'
    )
    policy = policy_of(load(box).require())
    assert (policy.mode, policy.apps["a"].mode, policy.apps["a"].actuates) == (Mode.ASK, Mode.OBSERVE, True)
    assert policy.apps["a"].remedies == {RemedyKind.ROLLBACK: Mode.ASK}
    assert policy.remedy(RemedyKind.RESTART).budgets == (Budget(2, 60),)
    assert policy.remedy(RemedyKind.RESTART).probation_s == 1.5
    assert (policy.backoff_first_s, policy.thresholds.crash_loop_exits, policy.thresholds.temperature_c) == (0.25, 3, 70.0)
    assert policy.seed != policy_of(Config()).seed
    assert Policy.from_plain(policy.to_plain()) == policy


def test_the_guards_record_packs_and_has_every_documented_key(box, write):
    write(
        '[apps.a]\nneeds = ["app:b"]\nwants = ["network:wan"]\nsoak = "30s"\n[apps.b]\nactuates = false\n[users]\nagent = "self"\nimport = "self"\nstore = "self"\nverify = "self"\ncheck = "self"\n'
    )
    loaded = load(box)
    accounts, problems = resolve(loaded.require(), loaded.origins)
    assert problems == ()
    record = guard_record(loaded.require(), accounts)
    assert unpack(pack(record)) == record
    assert set(record) >= {
        "v", "device", "users", "apps", "app_uids", "interpreters", "soak_min_s", "budgets", "reboots", "watchdog", "agent", "local_rollback",
        "quota_bytes", "hooks", "policy_bounds", "stale_days", "trust_keep",
    }  # fmt: skip
    assert set(record["users"]) >= {"agent", "agent_gid", "import", "store", "verify", "check", "group"}
    app = record["apps"]["a"]
    assert set(app) >= {
        "uid", "gid", "groups", "actuates", "devices", "network", "max_bytes", "max_inodes", "soak_s", "memory_kib", "cpu_permille", "tasks", "files",
        "log_kib",
    }  # fmt: skip
    assert app["needs"] == [["app", "b", True], ["network", "wan", False]]
    assert set(record["budgets"]) == {"starts", "exits", "rollback", "hook", "power", "reboot", "config", "import"}


def test_the_guards_budgets_are_those_it_has_without_a_config():
    from edgeheal.guard import budgets

    record = guard_record(Config(), resolve(Config(), {}, (1000, 1000))[0])
    for number, name in enumerate(budgets.KINDS):
        assert tuple(tuple(row) for row in record["budgets"][name]) == budgets.DEFAULTS[number], name


def test_without_root_everybody_is_ourselves(box, write):
    write('[apps.a]\nuser = "nobody-here"\n')
    loaded = load(box)
    accounts, problems = resolve(loaded.require(), loaded.origins, (1234, 1235))
    assert problems == ()
    assert set(accounts.parts.values()) == {(1234, 1235)}
    assert accounts.apps == {"a": (-1, -1)}


def test_as_root_a_user_that_is_not_there_is_told_with_its_place(box, write):
    path = write(
        '[users]\nagent = 61201\nimport = 61202\nstore = 61203\nverify = 61204\ncheck = 61205\n[apps.a]\nuser = "no-such-user"\ngroups = ["no-such-group"]\n'
    )
    loaded = load(box)
    _, problems = resolve(loaded.require(), loaded.origins, (0, 0))
    assert [(p.place(), p.key) for p in problems] == [(f"{path}:8", "apps.a.user"), (f"{path}:9", "apps.a.groups")]


@pytest.mark.parametrize(("agent", "app_user"), [("61201", "61201"), ('"daemon"', "1"), ("1", '"daemon"')])
def test_as_root_no_app_shares_a_uid_with_the_agent_by_name_or_number(box, write, agent, app_user):
    write(f"[users]\nagent = {agent}\nimport = 61202\nstore = 61203\nverify = 61204\ncheck = 61205\n[apps.a]\nuser = {app_user}\n")
    loaded = load(box)
    problems = loaded.problems or resolve(loaded.config, loaded.origins, (0, 0))[1]
    assert ["apps.a.user"] == [p.key for p in problems]
    assert "already" in problems[0].message


def test_show_names_the_origin_of_each_value(box, write, capsys):
    path = write('mode = "ask"\n[limits]\nfiles = 9\n[apps.gw]\n')
    assert main(["config", "show", "--origin", "--json", "--root", box.root]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["source"] == "files"
    assert shown["values"]["mode"] == {"value": "ask", "origin": f"{path}:1"}
    assert shown["values"]["link.heartbeat"] == {"value": "5m", "origin": "default"}
    assert shown["values"]["apps.gw.limits.files"] == {"value": 9, "origin": f"{path}:3"}
    assert shown["values"]["apps.gw.actuates"]["value"] is None
    assert main(["config", "show", "--origin", "--root", box.root, "apps.gw", "mode"]) == 0
    text = capsys.readouterr().out
    assert "[apps.gw]" in text
    assert f"# {path}:1" in text
    assert "[link]" not in text


def test_what_show_prints_is_itself_a_config_of_the_same_values(box, write, capsys):
    write('mode = "ask"\n[device]\nid = "gw"\n[apps.gw]\ndevices = ["/dev/null"]\n[apps.gw.remedies]\nreboot = "observe"\n[remedies.restart]\nbudget = []\n')
    before = load(box).require()
    assert main(["config", "show", "--root", box.root]) == 0
    write(capsys.readouterr().out)
    assert load(box).require() == before


def test_check_lists_every_problem_and_exits_1(box, write, capsys):
    path = write('[link]\nheartbeat = "10ss"\nhartbeat = "10s"\n')
    assert main(["config", "check", "--root", box.root]) == 1
    out, err = capsys.readouterr()
    assert f"{path}:2: link.heartbeat:" in out
    assert 'nearest valid form: heartbeat = "10s"' in out
    assert f"{path}:3: link.hartbeat: unknown key" in out
    assert "2 problems" in err
    assert main(["config", "check", "--json", "--root", box.root]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], [p["line"] for p in told["problems"]]) == (False, [2, 3])


def test_check_takes_a_file_that_is_not_in_place_yet(box, write, capsys, tmp_path):
    write("this is broken\n")
    new = tmp_path / "new.toml"
    new.write_text('mode = "ask"\n')
    assert main(["config", "check", str(new), "--root", box.root]) == 0
    new.write_text('mode = "asks"\n')
    assert main(["config", "check", str(new), "--root", box.root]) == 1
    assert f"{new}:1" in capsys.readouterr().out
    assert main(["config", "check", str(tmp_path / "none.toml"), "--root", box.root]) == 2


USERS = "[users]\n" + "".join(f'{u} = "self"\n' for u in ("agent", "import", "store", "verify", "check"))


def test_check_tells_of_named_files_that_are_not_there_or_that_everybody_may_read(box, write, capsys):
    key = write("secret", "key.pem")
    path = write(USERS + f'[device]\nid = "a"\n[link]\ncert = "gone.pem"\nkey = "{key}"\n')
    loaded = load(box)
    assert loaded.problems == ()  # healing does not hang on it
    assert main(["config", "check", "--root", box.root]) == 1
    out = capsys.readouterr().out
    assert f"{path}:10: link.cert: {box.etc}/gone.pem cannot be looked at" in out
    assert f"{path}:11: link.key: {key} is readable by everybody" in out
