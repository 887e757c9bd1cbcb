# SPDX-License-Identifier: Apache-2.0
"""Each cell of the docs' table of verbs, on a real device: who may say it, what works when agent, guard or network are gone, what it answers.

A verb is tried under each condition; the code it ends with, and the form of what it answers, are what the table promises.
"""

import json
from functools import partial

import pytest
from verb_stage import GROUP, ROOT, STRANGER, VerbStage

from edgeheal.cli.answer_words import closed
from edgeheal.cli.answers import ANSWERS, document
from edgeheal.cli.facts import FACTS, Right, Works
from edgeheal.cli.main import VERBS

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("iotcore")
pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

RESIDENT = ("agent", "guard", "controller")  # they run until they are ended: the stage itself is made of them
LINES = ("log line", "event", "fleet event")
CONDITIONS = ("well", "no network", "member", "stranger", "agent dead", "guard dead", "both dead")
BY_WORDS = {f.words: f for f in FACTS if f.words not in RESIDENT}


def words_of(words, s, condition):
    """(argv, further words for `run`) of one row."""
    broker = ["--broker", f"127.0.0.1:{s.port}", "--tenant", "acme"]
    here, work = {"root": True}, {"root": False}
    key, trust = str(s.work / "release.key"), str(s.work / "trust.eht")
    bundle = str(s.work / "1.4.ehi")
    wait = "10" if condition in ("well", "member", "stranger") else "0.3"
    made = {
        "watch": (["watch"], {"seconds": 1.0, "during": partial(s.run, ["restart", "demo"])}),
        "logs": (["logs", "demo"], here),
        "probe": (["probe", "demo"], here),
        "approve": (["approve", "AAAA"], here),
        "reject": (["reject", "AAAA"], here),
        "pause": (["pause", "--for", "1m"], here),
        "redeem": (["redeem", s.token() if condition not in ("guard dead", "both dead") else trust], here),
        "image build": (["image", "build", str(s.work / "source"), "--key", key, "-o", s.fresh(".ehi")], work),
        "image sign": (["image", "sign", bundle, "--key", key, "-o", s.fresh(".ehi")], work),
        "image verify": (["image", "verify", bundle, "--trust", trust], work),
        "image inspect": (["image", "inspect", bundle, "--files"], work),
        "image install": (["image", "install", bundle, "--no-try"], here),
        "image try": (["image", "try", "demo", "1.2"], here),
        "image mark-good": (["image", "mark-good", "demo"], here),
        "image allow": (["image", "allow", "demo", s.images["1.3"].id.hex()], here),
        "image drop": (["image", "drop", "demo", s.images["1.3"].id.hex()], here),
        "key new": (["key", "new", "-o", s.fresh(".key")], work),
        "key trust": (["key", "trust", "--root-key", key, "--release", str(s.work / "operator.key.pub"), "-o", s.fresh(".eht")], work),
        "key sign": (["key", "sign", trust, "--key", key], work),
        "key show": (["key", "show", trust, key], work),
        "app config set": (["app", "config", "set", "demo", "-"], {"stdin": b"good"}),
        "app config restore": (["app", "config", "restore", "demo"], here),
        "app secret set": (["app", "secret", "set", "demo", "token"], {"stdin": b"s3cr3t"}),
        "drill list": (["drill", "list"], work),
        "replay": (["replay", str(s.work / "case.ehr")], here),
        "fleet tail": (["fleet", "tail", *broker, "--seconds", "0.5"], work),
        "fleet devices": (["fleet", "devices", *broker], work),
        "fleet incidents": (["fleet", "incidents", "--store", str(s.work / "fleet.db")], work),
        "fleet command": (["fleet", "command", "gw-1", "restart", "demo", *broker, "--key", str(s.work / "operator.key"), "--wait", wait], work),
        "setup": (["setup", "--device", "gw-1", "--tenant", "acme", "--broker", f"127.0.0.1:{s.port}", "--no-tls"], here),
        "doctor --archive": (["doctor", "--archive", s.fresh(".tar.gz")], here),
    }  # fmt: skip
    return made.get(words, (words.split(), here))


@pytest.fixture(scope="module")
def stage():
    made = VerbStage()
    try:
        yield made.open()
    finally:
        made.close()


def test_every_verb_stands_in_the_table_with_all_its_words():
    assert {f.words.split()[0] for f in FACTS} == set(VERBS)
    assert {f.answer for f in FACTS} - {""} <= set(ANSWERS)
    assert len({f.words for f in FACTS}) == len(FACTS)


def test_the_schemas_are_schemas():
    jsonschema.Draft202012Validator.check_schema(document())


def expected(facts, condition):
    """(codes that the table allows, whether an answer in the verb's own form must be there)."""
    served = tuple(c for c in facts.exits if c not in (3, 4)) or facts.exits
    if facts.words in ("fleet command", "status --check"):  # nobody answered is an answer
        served = facts.exits
    cell = {"agent dead": facts.agent_dead, "guard dead": facts.guard_dead, "no network": facts.network}.get(condition, Works.YES)
    if condition == "both dead" and Works.NO in (facts.agent_dead, facts.guard_dead):
        cell = Works.NO
    if cell is Works.NO or (condition == "both dead" and facts.words == "config reload"):
        return (3,), False
    if cell is Works.NEEDS:
        return (1, 3), False
    rank = {"member": 1, "stranger": 0}.get(condition, 2)
    needs = {Right.ANYONE: 0, Right.GROUP: 1, Right.ROOT: 2, Right.ONLY_ROOT: 2}[facts.right]
    if rank < needs:
        return (4,), False
    return served, True


@pytest.mark.parametrize("words", BY_WORDS)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_cell_of_the_table(stage, words, condition):
    facts = BY_WORDS[words]
    if condition in ("member", "stranger", "no network") and not ROOT:
        pytest.skip("needs root to be somebody else, or to take the network away")
    if words == "drill run":
        pytest.skip("a stage of its own: tried once, without network, in test_drill.py")
    if words == "replay" and not (stage.work / "case.ehr").exists():
        pytest.skip("no recording is kept with the tests")
    stage.become(condition)
    argv, how = words_of(words, stage, condition)
    who = {"member": {"uid": STRANGER, "gids": (GROUP,)}, "stranger": {"uid": STRANGER}}.get(condition, {})
    done = stage.run(argv, **who, network=condition != "no network", **how)
    codes, answered = expected(facts, condition)
    if done.code == 4 and answered and not json.loads(done.out)["error"]["hint"].startswith(("do it as root", "be root")):
        codes = (*codes, 4)  # its state, not its right: there is nothing to allow, to put back, ...
    if words == "watch" and answered:
        assert done.code in (-9, 3), done
    else:
        assert done.code in codes, f"{codes} {done}"
    assert done.code in (*facts.exits, 130, -9)
    forms = [json.loads(line) for line in done.out.splitlines()] if words in LINES or facts.answer in LINES else [json.loads(done.out)]
    for form in forms:
        failed = isinstance(form, dict) and "error" in form
        if failed:
            assert done.code, done
            assert form["error"]["exit_code"] == done.code
            assert form["error"]["hint"]
        jsonschema.validate(form, closed(ANSWERS["error" if failed else facts.answer]))
    if answered and done.code in (0, -9):
        assert forms or words in ("fleet tail",), done
