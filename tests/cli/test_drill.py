# SPDX-License-Identifier: Apache-2.0
"""Drills on a real box: with consent and a time limit, on an app that may be hurt; whatever was stopped goes on. Approving and rejecting a remedy."""

import json
import os
import time
from pathlib import Path

import pytest
import verb_stage
from monitor_box import PYTHON, image, until

from edgeheal.cli.answer_words import closed
from edgeheal.cli.answers import ANSWERS

jsonschema = pytest.importorskip("jsonschema")

APP = """
import os, signal, socket, time
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
say = lambda words: sock.sendto(words, os.environ["NOTIFY_SOCKET"])
say(b"READY=1")
while True:
    if not os.path.exists(os.environ["EDGEHEAL_DATA"] + "/quiet"):
        say(b"WATCHDOG=1")
    time.sleep(0.2)
"""
QUICK = """
[remedies.restart]
probation = "1s"
[backoff]
healthy_after = "1s"
"""


@pytest.fixture
def box(monkeypatch):
    monkeypatch.setattr(verb_stage, "LINK", QUICK)
    made = verb_stage.VerbStage()
    try:
        made.box.start()
        made.start_agent()
        app = image("1.0", files={"app.py": (APP.encode(), False)}, extra={"argv": [PYTHON, "-I", "-S", "app.py"], "heartbeat_ms": 1500})
        made.box.good(app)
        until(lambda: json.loads(made.run(["status"]).out)["shown"] == "OK", 30, "all to be well")
        yield made
    finally:
        made.close()


def drill(box, *words, **how):
    return box.run(["drill", "run", *words], seconds=90, **how)


def row(box):
    return json.loads(box.run(["status"]).out)["apps"][0]


@pytest.mark.system
@pytest.mark.timeout(170)
def test_a_drill_on_a_box_needs_consent_and_a_well_app_and_heals_it(box):
    before = row(box)["pid"]
    refused = drill(box, "kill", "--on-this-box")
    assert refused.code == 4
    assert "--yes" in json.loads(refused.out)["error"]["hint"]
    assert drill(box, "bad-upgrade", "--on-this-box", "--yes").code == 2, "not one for a real box"
    assert row(box)["pid"] == before, "nothing was hurt"
    done = drill(box, "kill", "hang", "--on-this-box", "--yes", "--for", "80s")
    assert done.code == 0, done
    kill, hang = json.loads(done.out)["scenes"]
    assert (kill["name"], kill["cause"], kill["remedy"]) == ("kill", "APP_CRASH", "RESTART")
    assert (hang["name"], hang["cause"], hang["remedy"]) == ("hang", "APP_HANG", "RESTART")
    assert row(box)["pid"] != before
    config = Path(box.box.layout.config_file)
    config.write_text(config.read_text().replace("[apps.demo]", "[apps.demo]\nactuates = true"))
    moved = drill(box, "kill", "--on-this-box", "--yes")
    assert moved.code == 4
    assert "moves something" in moved.out


@pytest.mark.system
def test_when_the_time_is_over_what_was_stopped_goes_on(box):
    quiet = image("1.1", files={"app.py": (APP.encode(), False)}, extra={"argv": [PYTHON, "-I", "-S", "app.py"]})  # nobody would notice that it hangs
    box.box.good(quiet)
    until(lambda: row(box)["state"] == "OK" and row(box)["version"] == "1.1" and json.loads(box.run(["status"]).out)["shown"] == "OK", 30, "it to be well")
    began, pid = time.monotonic(), row(box)["pid"]
    done = drill(box, "hang", "--on-this-box", "--yes", "--for", "3s")
    assert time.monotonic() - began < 30
    assert done.code == 1, done
    assert json.loads(done.out)["scenes"][0]["note"]
    state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    assert state in "SR", "it goes on"


@pytest.mark.system
@pytest.mark.parametrize("answer", ["approve", "reject"])
def test_a_remedy_that_waits_is_carried_out_when_approved_and_not_when_rejected(box, answer):
    config = Path(box.box.layout.config_file)
    config.write_text(config.read_text().replace("[remedies.restart]\n", '[remedies.restart]\nmode = "ask"\n'))
    assert box.run(["config", "reload"]).code == 0
    pid = row(box)["pid"]
    os.kill(pid, 9)
    found = until(lambda: [i for i in json.loads(box.run(["incidents", "--open"]).out) if i["need"] == "APPROVE"], 30, "a question")
    ident = found[0]["id"]
    if verb_stage.ROOT:
        member = {"uid": verb_stage.STRANGER, "gids": (verb_stage.GROUP,)}
        assert box.run(["approve", ident], **member).code == 4, "approving is root's"
    assert box.run(["approve", "ZZZZ"]).code != 0
    done = box.run([answer, ident])
    assert done.code == 0, done
    if answer == "approve":
        until(lambda: row(box)["pid"] not in (0, pid) and row(box)["state"] == "OK", 30, "it to be restarted")
    else:
        until(lambda: [i for i in json.loads(box.run(["incidents"]).out) if i["id"] == ident and i["need"] != "APPROVE"], 30, "the answer to count")
        time.sleep(1)
        assert row(box)["pid"] == 0


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.skipif(not verb_stage.ROOT, reason="needs root to take the network away")
def test_a_drill_is_played_on_a_stage_without_any_network():
    done = verb_stage.VerbStage.run(None, ["drill", "run", "kill"], network=False, root=False, seconds=150)
    assert done.code == 0, done
    jsonschema.validate(json.loads(done.out), closed(ANSWERS["drill"]))
