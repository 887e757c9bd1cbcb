# SPDX-License-Identifier: Apache-2.0
"""The AsyncAPI document and the schemas of payloads: those that are committed are those of the code, and what a real device publishes fits them."""

import importlib.util
import json
import sys
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from monitor_box import PYTHON, image, until
from verb_stage import VerbStage

from edgeheal.cli import messages
from edgeheal.cli.answer_words import closed
from edgeheal.wire import birth, health, results, stored, summary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "wire"))
jsonschema = pytest.importorskip("jsonschema")
TOP = Path(__file__).resolve().parents[2]
CODECS = {"up/state": birth, "up/health": health, "up/incident": summary, "up/result": results}
APP = """
import os, socket, sys, time
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
time.sleep(1)
raise ValueError("no such table")
"""


def faces():
    """docs/generate_faces.py as a module."""
    spec = importlib.util.spec_from_file_location("generate_faces", TOP / "docs/generate_faces.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fits(kind, document):
    schema = messages.MESSAGES[kind.removeprefix("up/")]
    jsonschema.validate(document, closed({k: v for k, v in schema.items() if k != "patternProperties"}))


def test_the_committed_documents_are_those_of_the_code():
    """After a change: `python docs/generate_faces.py`."""
    made = faces()
    for name, make in made.FILES.items():
        assert (TOP / "packaging/asyncapi" / name).read_text() == made.text(make()), name


def test_every_field_of_the_wire_is_described_and_no_other():
    for kind, names in messages.JSON_NAMES.items():
        properties = messages.MESSAGES[kind]["properties"]
        beside = {"v"} | ({"fingerprint"} if kind == "result" else set())  # a stand-in without a body tells its fingerprint
        assert set(properties) - beside == set(names.values()), kind
        assert all(properties[name]["x-key"] == key for key, name in names.items())


def test_the_document_is_whole():
    document = messages.asyncapi()
    assert document["asyncapi"] == "3.0.0"
    for operation in document["operations"].values():
        for reference in (operation["channel"], *operation["messages"]):
            at = document
            for step in reference["$ref"].removeprefix("#/").split("/"):
                at = at[step]
            if "$ref" in at:
                assert at["$ref"].rsplit("/", 1)[1] in document["components"]["messages"]
    for schema in messages.MESSAGES.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_the_fleet_sends_back_fits():
    said = {"v": 1, "acks": [["00" * 6, 7, 9, 11]], "presence": ["01" * 6, 1], "twin": "02" * 6}
    jsonschema.validate(said, closed(messages.MESSAGES["stored"] | {"patternProperties": {}}))
    assert stored.read(json.dumps(said).encode()).acks[0].beyond == (9, 11)


def test_a_schema_refuses_what_the_codec_refuses():
    for wrong in ({"v": 2, "session": "00" * 6, "seq": 1}, {"v": 1, "session": "00", "seq": 1}, {"v": 1, "session": "00" * 6, "seq": 1, "causes": [[1, 101]]}):
        with pytest.raises(jsonschema.ValidationError):
            fits("incident", wrong)


@pytest.mark.system
@pytest.mark.timeout(120)
def test_what_a_real_device_published_fits_packed_and_as_json():
    pytest.importorskip("iotcore")
    heard = []
    stage = VerbStage()
    try:
        stage.broker.start()
        ear = paho.Client(paho.CallbackAPIVersion.VERSION2, "ear", protocol=paho.MQTTv5)
        ear.on_message = lambda _c, _d, message: heard.append((message.topic.split("/", 4)[4], bytes(message.payload)))
        ear.connect("127.0.0.1", stage.port)
        ear.subscribe("eh/1/acme/gw-1/up/#", qos=1)
        ear.loop_start()
        stage.box.start()
        stage.start_agent()
        stage.files()
        made = image("1.0", files={"app.py": (APP.encode(), False)}, extra={"argv": [PYTHON, "-I", "-S", "app.py"]})
        assert stage.box.install(made) == 0
        command = ["fleet", "command", "gw-1", "pause", "demo", "--for", "5", "--broker", f"127.0.0.1:{stage.port}", "--tenant", "acme", "--wait", "20"]
        command += ["--key", str(stage.work / "operator.key")]
        done = stage.run(command, root=False)
        assert done.code == 0, done
        until(lambda: {kind for kind, _ in heard} >= set(CODECS), 40, f"all kinds: {[k for k, _ in heard]}")
        packed = list(heard)
        assert all(payload[:1] != b"{" for _, payload in packed)
        for kind, payload in packed:
            fits(kind, json.loads(CODECS[kind].to_json(payload)))
        heard.clear()
        config = Path(stage.box.layout.config_file)
        config.write_text(config.read_text().replace("[link]\n", '[link]\nencoding = "json"\n'))
        assert stage.run(["config", "reload"]).code == 0
        assert stage.run(["start", "demo"]).code in (0, 4)
        done = stage.run(command, root=False)
        assert done.code == 0, done
        until(lambda: {k for k, payload in heard if payload[:1] == b"{"} >= {"up/state", "up/result"}, 40, "the same as JSON")
        for kind, payload in heard:
            fits(kind, json.loads(payload if payload[:1] == b"{" else CODECS[kind].to_json(payload)))
        ear.loop_stop()
    finally:
        stage.close()


def test_the_eight_kinds_of_the_golden_summaries_fit():
    import wire_eight

    for name, incident in wire_eight.EIGHT.items():
        document = json.loads(summary.to_json(summary.encode(incident)))
        fits("incident", document | {"session": "00" * 6, "seq": 1}), name
