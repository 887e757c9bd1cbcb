# SPDX-License-Identifier: Apache-2.0
"""What is said over MQTT, as JSON Schemas and one AsyncAPI 3 document, for operators with tools of their own.

Duty: the form of each payload as `encoding = "json"` sends it (packed, the same fields stand under the numbers given as `x-key`); topics, directions,
quality of service, retain. Pure. Invariants: fields and numbers are those of `wire`; limits are the codecs' own; enumerations name each number;
a reader skips fields that it does not know (`k<number>`).
"""

from typing import Any

from edgeheal.cli.answer_words import NUMBER, Schema, either, maybe, numbers, obj, octets, pair, rows
from edgeheal.core.deployment import STATES
from edgeheal.core.kinds import (
    ActionCode,
    CauseKind,
    ChangeKind,
    EvidenceCode,
    ImageStatus,
    IncidentState,
    Mode,
    Need,
    Outcome,
    RemedyKind,
    ResultState,
    Severity,
    SymptomKind,
)
from edgeheal.core.spooled import StandinKind
from edgeheal.core.version import VERSION
from edgeheal.wire import birth, health, packed, results, standin, stored, summary, topics

SESSION = octets(packed.SESSION_BYTES) | {"description": "one run of the agent; drawn at its start"}
SEQ = {"type": "integer", "minimum": 1, "maximum": packed.U32, "description": "with `session` the record's key: what is acknowledged, once"}


def whole(text: str = "", most: int = packed.U53) -> Schema:
    """A count or a length."""
    return {"type": "integer", "minimum": 0, "maximum": most} | ({"description": text} if text else {})


def short(most: int, text: str = "") -> Schema:
    """Text of at most `most` characters."""
    return {"type": "string", "maxLength": most} | ({"description": text} if text else {})


def _v() -> Schema:
    return {"const": 1, "description": "version of the message"}


def _keyed(schema: Schema, names: dict[int, str]) -> Schema:
    """Each field with its number in the packed form."""
    for key, name in names.items():
        if name in schema["properties"]:
            schema["properties"][name] = schema["properties"][name] | {"x-key": key}
    return schema | {"patternProperties": {"^k[0-9]+$": {"description": "a field of a newer version"}}}


_RANGE = pair(whole("first", packed.U32), whole("last", packed.U32), SESSION | {"description": "whose; the record's own where it is left out"}, least=2)
_STANDIN = {
    "standin": maybe(
        pair(
            numbers(StandinKind), whole("how many", packed.U32), numbers(Severity), whole("first, Unix seconds"), whole("last, Unix seconds"),
            whole("reason code", 65_535), least=2,
        )
    ),
    "ranges": maybe(rows(_RANGE, standin.RANGES_MOST) | {"description": "the records of these numbers are told by this one"}),
}  # fmt: skip
_CAUSE = pair(numbers(CauseKind), whole("percent", 100), short(summary.SUBJECT_MOST, "subject"), least=2)
_FACT = pair(
    {"type": "integer", "description": f"evidence code; negative: it speaks against. {numbers(EvidenceCode)['description']}"}, NUMBER | {"description": "value"},
    NUMBER | {"description": "limit"}, short(summary.TEXT_MOST), least=2,
)  # fmt: skip
_TRIED = pair(
    numbers(RemedyKind), numbers(Outcome), whole("ms"), whole("how often", 1_000), whole("reason code", 65_535), short(summary.TARGET_MOST, "target"), least=3
)
_IMAGE = pair(numbers(ImageStatus), octets() | {"maxLength": 64, "description": "first bytes of its id"}, short(summary.VERSION_MOST, "version"), least=1)
_HEAD = pair(
    numbers(SymptomKind), numbers(Severity), numbers(IncidentState), numbers(Need), numbers(Mode), whole("1: the clock was trusted", 1)
)  # fmt: skip


def incident() -> Schema:
    """`up/incident`: a summary, or a record that stands for others."""
    schema = obj(
        v=_v(), session=SESSION, seq=SEQ, of=maybe(either(whole("the incident's number in this session", packed.U32), pair(whole("", packed.U32), SESSION))),
        app=maybe(short(summary.APP_MOST, "absent: the box")), head=maybe(_HEAD | {"description": "symptom, severity, state, need, mode, trusted"}),
        opened_s=maybe(whole("Unix seconds, a label")), open_ms=maybe(whole("how long it has been open")), down_ms=maybe(whole("downtime")),
        gap_ms=maybe(whole("no data for so long")), revision=maybe(whole("a later revision carries the incident whole", packed.U32)),
        causes=maybe(rows(_CAUSE, summary.CAUSES_MOST)), evidence=maybe(rows(_FACT, summary.EVIDENCE_MOST)),
        change=maybe(pair(numbers(ChangeKind), whole("so many seconds before"))), fingerprint=maybe(octets(8)),
        recurrence=maybe(either(whole("so often in 7 days"), pair(whole(), whole("in so many seconds")))), tried=maybe(rows(_TRIED, summary.TRIED_MOST)),
        planned=maybe(pair(numbers(RemedyKind), whole("in so many seconds"), least=1)), image=maybe(_IMAGE),
        approval_until_s=maybe(whole("box seconds")), also=maybe(rows(short(summary.APP_MOST), summary.ALSO_MOST)), detect_ms=maybe(whole()),
        subject=maybe(short(summary.SUBJECT_MOST)), opened_box_s=maybe(whole("where the clock was not trusted")), **_STANDIN,
    )  # fmt: skip
    return _keyed(schema, summary.NAMES)


def result() -> Schema:
    """`up/result`: one step of a command's life."""
    schema = obj(
        v=_v(), session=SESSION, seq=SEQ, command=maybe(octets(results.COMMAND_BYTES)), state=maybe(numbers(ResultState)), reason=maybe(whole("reason code", 65_535)),
        app=maybe(short(32)), action=maybe(numbers(ActionCode)), at_s=maybe(whole("Unix seconds, a label")), took_ms=maybe(whole()),
        incident=maybe(whole("", packed.U32)), image=maybe(octets(32)), text=maybe(short(48)), fingerprint=maybe(octets(8)), **_STANDIN,
    )  # fmt: skip
    return _keyed(schema, results.NAMES)


def state() -> Schema:
    """`up/state`: a birth; with `online` 0 a will: the device is gone."""
    app = pair(short(32, "app"), short(64, "version"), octets() | {"description": "first bytes of its image's id"}, _states(), least=1)
    schema = obj(
        v=_v(), session=SESSION, online=whole("0: this is the will", 1), boots=maybe(whole("boots so far", packed.U32)), boot_nonce=maybe(octets(8)),
        reset_reason=maybe(short(48)), agent=maybe(short(24, "EdgeHeal's version")), config=maybe(short(16)), policy=maybe(whole()), schema=maybe(whole("", 65_535)),
        capabilities=maybe(rows(short(24), 32)), boundary=maybe(short(16, "full, none: the effective guard level")), watchdog_s=maybe(whole("read back", packed.U32)),
        mode=maybe(numbers(Mode)), spool_depth=maybe(whole("reports waiting")), spool_dropped=maybe(whole()), place=maybe(short(96)),
        hardware=maybe(octets() | {"maxLength": 32, "description": "tells twins apart"}), apps=maybe(rows(app, birth.APPS_MOST)),
        at_s=maybe(whole("Unix seconds, a label")), up_s=maybe(whole("the agent's age")), stored_by=maybe(short(16)), trust=maybe(whole("trust version")),
        classes=maybe(rows(short(64), 16)),
    )  # fmt: skip
    return _keyed(schema, birth.NAMES)


def _states() -> Schema:
    return {"type": "integer", "minimum": 0, "description": f"deployment state: {', '.join(f'{n} {s.lower()}' for n, s in enumerate(STATES))}"}


def heartbeat() -> Schema:
    """`up/health`."""
    schema = obj(
        v=_v(), session=SESSION, progress=maybe(whole("turns of the agent's loop: standing still means connected but stuck")), up_s=maybe(whole()),
        spool_depth=maybe(whole()), spool_dropped=maybe(whole()), open_incidents=maybe(whole()), bad_messages=maybe(whole()), every_s=maybe(whole("the next is due in", 604_800)),
    )  # fmt: skip
    return _keyed(schema, health.NAMES)


STORED_NAMES = {stored.K_ACKS: "acks", stored.K_PRESENCE: "presence", stored.K_TWIN: "twin"}


def acknowledgement() -> Schema:
    """`down/stored`: what the fleet has committed; that alone frees the device's spool (JSON is taken, too)."""
    ack: Schema = {
        "type": "array", "prefixItems": [SESSION, whole("all up to this one", packed.U32)], "items": whole("and these beyond", packed.U32), "minItems": 2,
        "maxItems": 2 + stored.EXCEPTIONS_MOST,
    }  # fmt: skip
    presence = pair(octets(packed.SESSION_BYTES), numbers(stored.PresenceState))
    return _keyed(obj(v=maybe(_v()), acks=maybe(rows(ack, 64)), presence=maybe(presence), twin=maybe(SESSION)), STORED_NAMES)


BINARY: Schema = {
    "type": "string",
    "contentEncoding": "binary",
    "description": "a signed envelope (trust.envelope): [type, body, {public key: signature}], msgpack",
}
PRESENCE: Schema = {
    "type": "string", "contentEncoding": "binary",
    "description": f"msgpack [1, {{0: session (6 bytes), 1: state, 2: name, 3: Unix seconds}}]; {numbers(stored.PresenceState)['description']}; empty: not there",
}  # fmt: skip

# payload, schema, topic, from the device?, qos, retained, summary
_ROWS: tuple[tuple[str, Schema, str, bool, int, bool, str], ...] = (
    ("state", state(), topics.UP_STATE, True, 1, True, "birth at each connect; the will when the device is gone"),
    ("health", heartbeat(), topics.UP_HEALTH, True, 0, False, "heartbeat"),
    ("incident", incident(), topics.UP_INCIDENT, True, 1, False, "one revision of an incident, or a record that stands for others"),
    ("result", result(), topics.UP_RESULT, True, 1, False, "one step of a command's life"),
    ("cmd", BINARY, topics.DOWN_COMMAND, False, 1, False, "a signed command"),
    ("policy", BINARY, topics.DOWN_POLICY, False, 1, True, "the signed desired state; its version only grows"),
    ("stored", acknowledgement(), topics.DOWN_STORED, False, 1, False, "what the fleet has committed"),
)
MESSAGES: dict[str, Schema] = {name: schema for name, schema, *_ in _ROWS}
JSON_NAMES: dict[str, dict[int, str]] = {
    "state": birth.NAMES, "health": health.NAMES, "incident": summary.NAMES, "result": results.NAMES, "stored": STORED_NAMES,
}  # fmt: skip


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    who = {"tenant": {"description": "whose devices"}, "device": {"description": "the device's id: client id, user name, certificate's common name"}}
    for name, schema, kind, up, qos, retain, said in _ROWS:
        channels[name] = {
            "address": f"{topics.PREFIX}/{{tenant}}/{{device}}/{kind}", "parameters": who, "description": said,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }  # fmt: skip
        operations[f"{'send' if up else 'receive'}-{name}"] = {
            "action": "send" if up else "receive", "channel": {"$ref": f"#/channels/{name}"}, "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
            "bindings": {"mqtt": {"qos": qos, "retain": retain, "bindingVersion": "0.2.0"}},
        }  # fmt: skip
        plain = name in JSON_NAMES
        messages[name] = {"contentType": "application/json" if plain else "application/octet-stream", "payload": schema, "summary": said}
    channels["presence"] = {
        "address": f"{topics.PREFIX}/{{tenant}}/{topics.CONTROLLER}/{topics.STATE}", "parameters": {"tenant": who["tenant"]},
        "description": "the controller's presence, retained; without it a device keeps its spool closed",
        "messages": {"presence": {"contentType": "application/msgpack", "payload": PRESENCE, "summary": "whether the controller takes reports"}},
    }  # fmt: skip
    operations["receive-presence"] = {
        "action": "receive", "channel": {"$ref": "#/channels/presence"}, "messages": [{"$ref": "#/channels/presence/messages/presence"}],
        "bindings": {"mqtt": {"qos": 1, "retain": True, "bindingVersion": "0.2.0"}},
    }  # fmt: skip
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "EdgeHeal over MQTT", "version": VERSION, "license": {"name": "Apache-2.0"},
            "description": 'Seen from the device: `send` is what it publishes. Payloads are msgpack `[version, {number: value}]`; with `encoding = "json"` in the '
            "device's config the same fields under their names, as the schemas say; `x-key` is a field's number in the packed form.",
        },
        "defaultContentType": "application/json", "channels": channels, "operations": operations, "components": {"messages": messages},
    }  # fmt: skip
