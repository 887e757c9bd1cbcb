# SPDX-License-Identifier: Apache-2.0
"""The fleet's verbs, as a person types them: live out of the broker, stored out of the database, a signed command there and back."""

import json
import os
import subprocess
import sys

import pytest

from edgeheal.core import reasons
from edgeheal.core.kinds import ActionCode, ResultState
from edgeheal.trust import sign
from edgeheal.wire import results

pytestmark = pytest.mark.system
BROKERS_MOST = 1


def edgeheal(*words: str, start: bool = False):
    words = (sys.executable, "-m", "edgeheal.cli.main", *words)
    if start:
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.run(words, capture_output=True, timeout=60, check=False)


@pytest.fixture
def told(broker, controller, device):
    dev = device(broker.port)
    for n in range(1, 6):
        dev.say(n)
    dev.until(lambda: dev.spool.depth()[0] == 0)
    return dev


def test_stored_incidents_and_devices_as_table_and_json(told, controller):
    done = edgeheal("fleet", "incidents", "--store", controller.store, "--json")
    documents = json.loads(done.stdout)
    assert [d["number"] for d in documents] == [5, 4, 3, 2, 1] or {d["number"] for d in documents} == {1, 2, 3, 4, 5}
    assert done.returncode == 0
    lines = edgeheal("fleet", "incidents", "--store", controller.store).stdout.decode().splitlines()
    assert len(lines) == 5
    assert all("HEALED" in line and "gw-1" in line for line in lines)
    (row,) = json.loads(edgeheal("fleet", "devices", "--store", controller.store, "--json").stdout)
    assert (row["device"], row["online"], row["place"], row["agent"]) == ("gw-1", True, "Lyon-3", "0.1.0")
    table = edgeheal("fleet", "devices", "--store", controller.store).stdout.decode()
    assert "gw-1" in table
    assert "online" in table
    assert not json.loads(edgeheal("fleet", "incidents", "--store", controller.store, "--open", "--json").stdout)


def test_the_tail_of_the_store_follows(told, controller):
    tail = edgeheal("fleet", "tail", "--store", controller.store, "--last", "3", "--json", "--seconds", "20", start=True)
    try:
        first = [json.loads(tail.stdout.readline()) for _ in range(3)]
        assert all("incident" in d for d in first)
        told.say(99)
        told.until(lambda: told.spool.depth()[0] == 0)
        assert json.loads(tail.stdout.readline())["incident"]["number"] == 99
    finally:
        tail.kill()
        tail.wait()
        tail.stdout.close()
        tail.stderr.close()


def test_the_tail_is_live_and_devices_are_there_without_a_store(told, broker):
    address = ("--broker", f"127.0.0.1:{broker.port}", "--tenant", "t")
    tail = edgeheal("fleet", "tail", *address, "--seconds", "30", start=True)
    try:
        os.set_blocking(tail.stdout.fileno(), False)
        line = b""
        number = 100

        def came() -> bool:
            nonlocal line, number
            if told.spool.depth()[0] == 0:
                number += 1
                told.say(number)
            line += tail.stdout.read() or b""
            return b"\n" in line

        told.until(came, seconds=20)
        assert b"gw-1" in line
        assert b"Lyon-3" in line
    finally:
        tail.kill()
        tail.wait()
        tail.stdout.close()
        tail.stderr.close()
    (row,) = json.loads(edgeheal("fleet", "devices", *address, "--json").stdout)
    assert row["device"] == "gw-1"


def test_nobody_there_is_told_with_the_next_step():
    done = edgeheal("fleet", "tail", "--broker", "127.0.0.1:1", "--no-follow")
    assert done.returncode == 1
    assert b"next:" in done.stderr
    assert edgeheal("fleet", "incidents", "--store", "/nonexistent/fleet.db").returncode == 1


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "operator.key"
    path.write_bytes(sign.from_seed(b"o" * 32).pem())
    return str(path)


@pytest.mark.parametrize(("state", "reason", "code"), [
    (ResultState.DONE, 0, 0), (ResultState.FAILED, reasons.START_FAILED, 1), (ResultState.REFUSED, reasons.BAD_SIGNATURE, 6), (ResultState.REFUSED, reasons.PAUSED, 4),
])  # fmt: skip
def test_a_command_goes_there_and_its_result_comes_back(told, broker, key, state, reason, code):
    words = ("fleet", "command", "gw-1", "rollback", "gw", "--key", key, "--broker", f"127.0.0.1:{broker.port}", "--tenant", "t", "--json", "--wait", "20")
    process = edgeheal(*words, start=True)
    told.until(lambda: told.downs, what="the command")
    command = told.downs[0].command
    assert (command.action, command.app, command.device, command.tenant, command.nonce) == (ActionCode.ROLLBACK, "gw", "gw-1", "t", b"nonce123")
    for step in (ResultState.ACCEPTED, state):
        result = results.Result(command.command_id, step, reason if step == state else 0, int(command.action), "gw")
        told.spool.put(results.encode(result), severity=1, fingerprint=result.fingerprint, critical=True)
    told.until(lambda: process.poll() is not None, seconds=20)
    out, err = process.communicate()
    document = json.loads(out)
    assert process.returncode == code, (out, err)
    assert [r["state"] for r in document["results"]] == ["ACCEPTED", state.name]
    assert document["bytes"] <= 260


def test_the_counter_of_a_key_rises_with_every_command(tmp_path, key):
    counters = []
    for n in range(3):
        done = edgeheal("fleet", "command", "gw-1", "pause", "--for", "60", "--key", key, "--tenant", "t", "-o", str(tmp_path / f"c{n}"), "--broker", "x:1")
        assert done.returncode == 0
        from edgeheal.wire import commands

        counters.append(commands.peek((tmp_path / f"c{n}").read_bytes()).counter)
    assert counters == sorted(set(counters))


def test_a_device_that_does_not_answer_is_said_so(told, broker, key):
    told.link.close()
    done = edgeheal("fleet", "command", "gw-9", "pause", "--for", "60", "--key", key, "--broker", f"127.0.0.1:{broker.port}", "--tenant", "t", "--wait", "0.5")
    assert done.returncode == 3
    assert b"has not answered" in done.stderr
