# SPDX-License-Identifier: Apache-2.0
"""What guard and agent say of themselves: priority and id, one line each, bounded in rate and size, also where there is no journal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeheal.adapters import own_log
from edgeheal.agent.chronicle import Chronicle
from edgeheal.core.signal import ConfigIs, SelfSaid
from edgeheal.lab.stage import Stage, until


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def lines(reader):
    return os.read(reader, 65536).decode().splitlines()


def test_a_line_carries_priority_and_id_and_stays_one_line_whatever_was_put_into_it(pipe):
    own_log.OwnLog("guard", fd=pipe[1]).say("fault", "a\nb \x1b[31mred\x00")
    assert lines(pipe[0]) == ["<3>edgeheal guard: [fault] a; b \\x1b[31mred\\x00"]


@pytest.mark.parametrize(("level", "told"), [("error", ["cannot-begin"]), ("warning", ["cannot-begin", "trouble"]), ("info", ["cannot-begin", "trouble", "began"]),
                                             ("debug", ["cannot-begin", "trouble", "began", "decided"])])  # fmt: skip
def test_the_level_says_what_is_told(pipe, level, told):
    log = own_log.OwnLog("agent", level, pipe[1])
    for message in ("cannot-begin", "trouble", "began", "decided"):
        log.say(message, "x")
    assert [line.split("[")[1].split("]")[0] for line in lines(pipe[0])] == told


def test_of_one_id_only_so_many_lines_pass_and_the_number_left_out_is_said(pipe, monkeypatch):
    at = [1000.0]
    monkeypatch.setattr(own_log.time, "monotonic", lambda: at[0])
    log = own_log.OwnLog("agent", fd=pipe[1])
    told = sum(log.say("trouble", f"{n}") for n in range(500))
    assert told == own_log.BURST
    assert log.say("began", "another id is not held up")
    at[0] += own_log.WINDOW_S
    log.say("trouble", "again")
    assert [line.partition("] ")[2] for line in lines(pipe[0])][-2:] == [f"{500 - own_log.BURST} more of these were left out", "again"]


@pytest.mark.parametrize("flags", [os.O_APPEND, 0])
def test_without_a_journal_a_file_keeps_its_newer_half_below_a_cap_and_has_the_time_in_front(tmp_path, flags, monkeypatch):
    monkeypatch.setattr(own_log, "FILE_MOST", 20_000)
    monkeypatch.setattr(own_log, "BURST", 10_000)
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    log = own_log.OwnLog("agent", fd=fd)
    for n in range(3_000):
        log.say("trouble", f"number {n}")
        assert path.stat().st_size < 20_200
    os.close(fd)
    said = path.read_text()
    assert "\0" not in said
    assert said.splitlines()[-1].endswith("edgeheal agent: warning: [trouble] number 2999")
    assert said[:4].isdigit()


def test_the_journal_gets_priorities_and_no_cap(tmp_path, monkeypatch):
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    monkeypatch.setenv("JOURNAL_STREAM", f"{os.fstat(fd).st_dev}:{os.fstat(fd).st_ino}")
    own_log.OwnLog("guard", fd=fd).say("began", "x")
    os.close(fd)
    assert path.read_text() == "<6>edgeheal guard: [began] x\n"


def test_a_trouble_is_told_when_it_begins_and_when_it_is_over(pipe):
    chronicle = Chronicle(own_log.OwnLog("agent", fd=pipe[1]))
    for one in (SelfSaid("link", "lost", ok=True), SelfSaid("link", "lost", ok=False, text="no route"), SelfSaid("link", "lost", ok=True),
                   ConfigIs(ok=False, place="a.toml:3", message="no such key"), SelfSaid("guard", "version", ok=False, value=9.0)):  # fmt: skip
        chronicle.heed(one)
    heard = [line.split("[")[1].split("]")[0] for line in lines(pipe[0])]
    assert heard == ["trouble", "trouble-over", "config-refused", "version-differs"]


@pytest.mark.system
def test_guard_and_agent_of_a_device_say_that_they_began_and_an_incident_and_end(tmp_path):
    with Stage(tmp_path) as stage:
        stage.write_config('[device]\nid = "one"\n[apps.a]\n')
        stage.start("guard", "guard", "--root", str(stage.root))
        until(lambda: (stage.answer("status") or {}).get("agent") == "ok", 60, "the agent to answer")
        (stage.root / "etc/edgeheal/edgeheal.toml").write_text("[device\n")
        stage.programs["guard"].process.send_signal(signal.SIGHUP)
        log = stage.logs / "guard.log"
        until(lambda: "edgeheal guard: error: [config-refused]" in log.read_text(), 20, "the refusal")
        until(lambda: "incident-opened" in log.read_text(), 20, "the incident about the config")
        stage.programs["guard"].process.send_signal(signal.SIGINT)
        stage.programs["guard"].process.wait(30)
    said = log.read_text()
    assert "edgeheal guard: info: [began]" in said
    assert "edgeheal agent: info: [began]" in said
    assert "[ended]" in said


def test_a_level_that_does_not_exist_is_usage():
    done = subprocess.run([sys.executable, "-m", "edgeheal.cli.main", "guard", "--log-level", "loud"], capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})  # fmt: skip
    assert done.returncode == 2
    assert "error" in done.stderr
