# SPDX-License-Identifier: Apache-2.0
"""The support archive: an allow-list with secrets masked, and the same masks before whatever is published."""

import base64
import io
import json
import tarfile
import time
import urllib.parse
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from monitor_box import PYTHON, image, until
from verb_stage import VerbStage

from edgeheal.cli import doctor_archive
from edgeheal.cli.answer_words import closed
from edgeheal.cli.answers import ANSWERS
from edgeheal.cli.main import main
from edgeheal.core.mask import Masker, said_secrets

jsonschema = pytest.importorskip("jsonschema")

ENV, CONFIG, SECRET = "s3cr3t-0001", "p4ss-0002", "t0ken-0003"
KEY_LINE = base64.b64encode(b"not a key, but a line of one, long enough").decode()

APP = """
import base64, os, socket, sys, time
env, config, secret = os.environ["API_KEY"], "p4ss-0002", open(os.environ["EDGEHEAL_SECRETS"] + "/token").read()
print("GET https://u:" + config + "@host/ 200")
print("using token", secret, "of", secret.encode().hex())
for lead in ("", "x", "xy"):
    print('{"level": "error", "body": "' + base64.b64encode((lead + env + "&" + config).encode()).decode() + '"}')
print("hex", env.encode().hex(), "url", "".join("%%%02X" % b for b in env.encode()))
sys.stdout.flush()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(("STATUS=connected with " + env + "\\nREADY=1").encode(), os.environ["NOTIFY_SOCKET"])
time.sleep(1)
def connect():
    raise ValueError("the server refused " + env + " and https://u:" + config + "@host/")
connect()
"""


def forms(value):
    """As whoever wants to find it would write it."""
    raw = value.encode()
    found = {value, raw.hex(), raw.hex().upper(), "".join(f"%{b:02X}" for b in raw), "".join(f"%{b:02x}" for b in raw), urllib.parse.quote(value)}
    for lead in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"A" * lead + raw + b"A" * 3).decode()
            first, last = -(-lead * 4 // 3), (lead + len(raw)) * 4 // 3
            found.add(text[first + (lead > 0) : last - 1])
    return {form.encode() for form in found}


def held(data, *values):
    return [form for value in values for form in forms(value) if form in data]


@pytest.fixture(scope="module")
def stage():
    made = VerbStage()
    try:
        made.broker.start()
        made.box.start()
        yield made
    finally:
        made.close()


def listen(port, into):
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "ear", protocol=paho.MQTTv5) if hasattr(paho, "CallbackAPIVersion") else paho.Client("ear")
    client.on_message = lambda _c, _d, message: into.append((message.topic, bytes(message.payload)))
    client.connect("127.0.0.1", port)
    client.subscribe("#", qos=1)
    client.loop_start()
    return client


@pytest.mark.system
@pytest.mark.timeout(120)
def test_fc_sec_3_no_planted_secret_leaves_in_the_archive_or_in_a_message(stage):
    pytest.importorskip("iotcore")
    published = []
    ear = listen(stage.port, published)
    stage.start_agent()
    crashing = image(
        "1.0", files={"app.py": (APP.encode(), False)}, config={"path": "demo.json"}, env={"API_KEY": ENV},
        extra={"argv": [PYTHON, "-I", "-S", "app.py"], "env": {"API_KEY": ENV}},
    )  # fmt: skip
    assert stage.run(["app", "config", "set", "demo", "-"], stdin=json.dumps({"mqtt": {"password": CONFIG}}).encode()).code in (0, 1, 4)
    assert stage.run(["app", "secret", "set", "demo", "token"], stdin=SECRET.encode()).code == 0
    assert stage.box.install(crashing) == 0
    until(lambda: stage.run(["app", "config", "set", "demo", "-"], stdin=json.dumps({"mqtt": {"password": CONFIG}}).encode()).code == 0, 10, "its config")
    until(lambda: any(topic.endswith("up/incident") for topic, _ in published), 40, "the crash to be told")
    logged = until(lambda: (log := stage.run(["logs", "demo", "-n", "200"], json=False).out) and "ValueError" in log and log, 20, "its words")
    assert "***" in logged
    until(lambda: list(Path(stage.box.layout.recordings).glob("*.ehr")), 30, "a recording")
    time.sleep(1.0)
    path = stage.fresh(".tar.gz")
    done = stage.run(["doctor", "--archive", path])
    assert done.code == 0, done
    answer = json.loads(done.out)
    raw = Path(path).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        parts = {member.name: tar.extractfile(member).read() for member in tar}
    assert Path(path).stat().st_mode & 0o077 == 0
    everything = b"\n".join(parts.values())
    assert b"ValueError" in everything, "the evidence is there"
    assert b"API_KEY" in parts["edgeheal/apps.json"], "the environment by name"
    assert [held(data, ENV, CONFIG, SECRET) for data in (everything, raw)] == [[], []]
    assert any(name.startswith("edgeheal/recordings/") for name in parts)
    manifest = json.loads(parts["edgeheal/manifest.json"])
    assert {f"edgeheal/{e['name']}" for e in manifest["entries"]} | {"edgeheal/manifest.json"} == set(parts)
    assert manifest["masked"] == answer["masked"] > 0
    assert manifest["left_out"]
    # what the device keeps was masked on its way in, as far as the agent may know: an app's config is closed to it, so shapes alone count there
    for kept in Path(stage.box.layout.recordings).glob("*.ehr"):
        signals = stage.run(["replay", str(kept), "--signals"]).out
        assert "ValueError" in signals
        assert held(signals.encode(), ENV) == []
        assert CONFIG not in signals
    ear.loop_stop()
    assert published
    assert held(b"\n".join(payload for _, payload in published), ENV, CONFIG) == []
    seen = b""
    for word in ("incidents", "explain", "status", "doctor"):
        document = json.loads(stage.run([word]).out)
        jsonschema.validate(document, closed(ANSWERS[word]))
        seen += json.dumps(document).encode()
    assert held(seen, ENV, CONFIG) == []


def test_the_search_finds_each_form_at_each_place():
    for value in (ENV, CONFIG, SECRET):
        raw = value.encode()
        said = [value, raw.hex(), raw.hex().upper(), "".join(f"%{b:02X}" for b in raw), "".join(f"%{b:02x}" for b in raw), urllib.parse.quote(value)]
        said += [
            encode(b"A" * lead + raw + b"A" * tail).decode()
            for encode in (base64.b64encode, base64.urlsafe_b64encode)
            for lead in range(4)
            for tail in range(4)
        ]
        for text in said:
            assert held(b"x" + text.encode() + b"y", value), text
            assert Masker([value]).holds(f"x{text}y"), text
            assert not held(Masker([value]).masked(text).encode(), value), text


def test_an_archive_with_a_secret_in_it_is_not_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor_archive._Mask, "plain", lambda _, value: value)
    monkeypatch.setenv("MY_API_KEY", "hunter-2-hunter")
    monkeypatch.setattr(doctor_archive, "_system", lambda _: {"kernel": "hunter-2-hunter"})
    assert main(["doctor", "--archive", str(tmp_path / "a.tar.gz"), "--root", str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["id"] == "eh-archive-secret"
    assert not (tmp_path / "a.tar.gz").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('[mqtt]\npassword = "p4ss-0002"', {"p4ss-0002"}),
        ('{"mqtt": {"password": "p4ss-0002"}}', {"p4ss-0002"}),
        ("mqtt:\n  api_key: s3cr3t-0001\n  user: me", {"s3cr3t-0001"}),
        ("url = mqtt://u:p4ss-0002@host", {"p4ss-0002"}),
        ('password_file = "/etc/edgeheal/keys/password"', set()),
        ("token = true", set()),
    ],
)
def test_secrets_are_found_in_configs_of_whatever_format(text, found):
    assert said_secrets(text) == found
