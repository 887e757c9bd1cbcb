# SPDX-License-Identifier: Apache-2.0
"""What `--json` answers: one JSON Schema for each form, named in `cli.facts`.

Duty: say the forms; docs are generated from it, and a test holds the answers of a real device against it. It answers nothing itself.
Invariants: ids and digests are lower-case hex, moments RFC 3339 in UTC, lengths carry their unit in the name; a field may be added, none changes
its meaning; an error is `{"error": {...}}` on stdout, whatever the verb, with the exit code that goes with it.
"""

from edgeheal.cli.answer_words import (
    ANYTHING,
    FLAG,
    NOTHING,
    NUMBER,
    TEXT,
    UTC,
    WHOLE,
    Schema,
    either,
    maybe,
    names,
    obj,
    octets,
    of_type,
    pair,
    rows,
    table,
    word,
)
from edgeheal.core import deployment, words
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import CauseKind, IncidentState, Mode, Need, Outcome, RemedyKind, ResultState, Severity, SymptomKind

ID = {"type": "string", "pattern": "^[0-9A-HJKMNP-TV-Z]{4,6}$", "description": "an incident's short id, Crockford base 32"}
IMAGE_ID = octets(32)
STATES = word(*(s.lower() for s in deployment.STATES))
SHOWN = word(*words.SHOWN.values())

_DEPLOYED = obj(id=TEXT, version=TEXT, state=STATES, reason=word(*deployment.REASONS), running=FLAG)
_APP = {
    "app": TEXT, "state": SHOWN, "fine": TEXT, "since_s": WHOLE, "version": TEXT, "image": TEXT, "image_state": either(STATES, word("")), "trial": FLAG,
    "soak_left_s": WHOLE, "before": TEXT, "run": WHOLE, "pid": WHOLE, "ready": FLAG, "wanted": word("running", "stopped", ""), "why": TEXT,
    "incident": either(ID, word("")), "images": rows(_DEPLOYED), "standing_order": maybe(FLAG),
}  # fmt: skip
_FLEET = obj(
    up=FLAG, since_s=maybe(WHOLE), why=maybe(TEXT), controller=maybe(TEXT), detect_s=maybe(NUMBER), waiting=either(WHOLE, NOTHING),
    dropped=either(WHOLE, NOTHING), text=TEXT,
)  # fmt: skip
STATUS = obj(
    device=TEXT, place=TEXT, shown=SHOWN, up_s=WHOLE, boot_reason=TEXT, mode=maybe(word("observe", "ask", "act")), agent=word("ok", "unreachable"),
    agent_pid=WHOLE, version=maybe(TEXT), guard=word("ok", "gone"), boundary=word("full", "none", "unknown"), apps=rows(obj(**_APP)), box=rows(TEXT),
    fleet=_FLEET, today=obj(counts=table(WHOLE), parts=rows(TEXT)), notes=rows(TEXT), next=TEXT,
    agent_view=maybe(obj(turns=WHOLE, longest_gap_ms=WHOLE, steps=WHOLE)),
)  # fmt: skip

_INCIDENT = of_type(Incident)["properties"] | {
    "id": ID, "says": TEXT, "opened": UTC, "state": names(IncidentState), "symptom": names(SymptomKind), "severity": names(Severity),
    "need": names(Need), "open": FLAG, "cause": names(CauseKind),
}  # fmt: skip
INCIDENT = obj(**_INCIDENT)
EVENT = either(
    obj(
        event=word("incident"), id=ID, app=TEXT, symptom=names(SymptomKind), subject=TEXT, state=names(IncidentState), severity=names(Severity),
        need=names(Need), cause=names(CauseKind), remedy=either(names(RemedyKind), word("")), outcome=either(names(Outcome), word("")), revision=WHOLE,
        says=TEXT,
    ),
    obj(event=word("app"), **_APP),
    obj(event=word("watching")),
)  # fmt: skip

IMAGE = obj(
    app=TEXT, id=IMAGE_ID, version=TEXT, state=STATES, shown=TEXT, running=FLAG, blocked=FLAG, anchor=FLAG, previous=FLAG, soak_left_s=WHOLE,
    served_s=WHOLE, security_counter=WHOLE, schema=WHOLE,
)  # fmt: skip
_PROBLEM = obj(file=TEXT, line=WHOLE, key=TEXT, message=TEXT, read=TEXT, nearest=TEXT, next=TEXT)
_CHANGE = obj(key=TEXT, old=TEXT, new=TEXT, touches=TEXT)
_REVOKED = obj(ids=rows(octets(32)), keys=rows(octets(32)), keep=rows(octets(32)))
_TRUST = {
    "v": WHOLE, "n": WHOLE, "roles": table(pair(WHOLE, rows(octets(32)))),
    "apps": table(obj(release=maybe(pair(WHOLE, rows(octets(32)))), floor=pair(WHOLE, WHOLE))), "revoked": _REVOKED,
}  # fmt: skip
_BUNDLE_FILE = obj(path=TEXT, mode=TEXT, size=WHOLE, sha256=maybe(octets(32)), target=maybe(TEXT))

_CAUSE = obj(kind=names(CauseKind), probability=NUMBER, subject=TEXT, says=TEXT)
_FACT = obj(code=TEXT, value=NUMBER, limit=NUMBER, text=TEXT, **{"for": FLAG}, says=TEXT)
_TRIED = obj(remedy=names(RemedyKind), outcome=names(Outcome), seconds=NUMBER, reason=WHOLE, target=TEXT)
_STANDIN = {"kind": TEXT, "count": WHOLE, "first": either(UTC, NOTHING), "last": either(UTC, NOTHING), "reason": either(TEXT, NOTHING)}
_TOLD = obj(
    id=ID, device=TEXT, place=TEXT, app=TEXT, symptom=names(SymptomKind), subject=TEXT, severity=names(Severity), state=names(IncidentState), shown=TEXT,
    need=names(Need), mode=names(Mode), revision=WHOLE, number=WHOLE, session=octets(6), seq=WHOLE, opened=either(UTC, NOTHING), clock_trusted=FLAG,
    open_ms=WHOLE, detect_ms=WHOLE, down_ms=WHOLE, gap_ms=WHOLE, headline=TEXT, causes=rows(_CAUSE, 3), evidence=rows(_FACT, 3),
    changed=either(obj(what=TEXT, before_s=WHOLE), NOTHING), fingerprint=octets(), recurrence=obj(n=WHOLE, window_s=WHOLE), tried=rows(_TRIED),
    planned=either(obj(remedy=names(RemedyKind), in_s=NUMBER), NOTHING), image=obj(id=TEXT, version=TEXT, status=TEXT), also=rows(TEXT), received=UTC,
    bytes=WHOLE, stands_for=maybe(obj(**_STANDIN)),
)  # fmt: skip
_RESULT = obj(
    device=TEXT, command=octets(16), state=names(ResultState), reason=either(TEXT, NOTHING), action=TEXT, app=TEXT, took_ms=WHOLE, text=TEXT, received=UTC
)
_DEVICE = obj(
    device=TEXT, place=TEXT, online=FLAG, silent=FLAG, since=UTC, seen=UTC, since_s=WHOLE, session=octets(), boots=WHOLE, agent=TEXT, boundary=TEXT,
    mode=names(Mode), watchdog_s=WHOLE, reset_reason=TEXT, spool_depth=WHOLE, spool_dropped=WHOLE,
    apps=rows(obj(app=TEXT, version=TEXT, image=TEXT, state=WHOLE)), twin=FLAG,
)  # fmt: skip
_FINDING = obj(what=TEXT, ok=FLAG, says=TEXT, next=TEXT)
_CERTIFICATE = obj(file=TEXT, subject=TEXT, until=UTC)

ERROR = obj(error=obj(id=TEXT, message=TEXT, place=TEXT, hint=TEXT, exit_code=WHOLE))

ANSWERS: dict[str, Schema] = {
    "error": ERROR,
    "status": STATUS,
    "check": obj(well=FLAG, shown=SHOWN, exit_code=word(0, 3, 10)),
    "incidents": rows(INCIDENT),
    "explain": either(INCIDENT, NOTHING),
    "event": EVENT,
    "log line": obj(line=TEXT),
    "probe": rows(obj(probe=TEXT, kind=TEXT, answer=word("yes", "no", "unknown"), took_ms=WHOLE, why=TEXT)),
    "done": obj(app=TEXT, done=TEXT, seconds=maybe(WHOLE)),
    "rollback": obj(
        app=TEXT, **{"from": either(IMAGE, NOTHING)}, to=IMAGE, ready=FLAG, ms=table(WHOLE), by=TEXT, data_carried=either(FLAG, NOTHING)
    ),
    "answered": obj(incident=TEXT, done=word("approve", "reject")),
    "challenge": obj(nonce=octets(8), counter=WHOLE),
    "redeem": obj(action=TEXT, app=TEXT, command=octets(16), counter=WHOLE, reason=TEXT),
    "built": obj(
        file=TEXT, bytes=WHOLE, id=IMAGE_ID, app=TEXT, version=TEXT, security_counter=WHOLE, files=WHOLE, total_bytes=WHOLE, signed_by=rows(octets(32))
    ),
    "signed": obj(file=TEXT, id=IMAGE_ID, signed_by=rows(octets(32))),
    "verified": obj(
        ok=FLAG, id=IMAGE_ID, app=TEXT, version=TEXT, security_counter=WHOLE, trust=WHOLE, signatures=WHOLE, objects=WHOLE, held=WHOLE, bytes=WHOLE
    ),
    "inspected": obj(
        id=IMAGE_ID, signed_by=rows(octets(32)), trust=rows(WHOLE), manifest=table(ANYTHING), carried=WHOLE, patches=WHOLE, payload_bytes=WHOLE,
        objects=either(WHOLE, NOTHING), files=maybe(rows(_BUNDLE_FILE)),
    ),
    "image": IMAGE,
    "images": rows(IMAGE),
    "moved": obj(app=TEXT, id=IMAGE_ID, done=word("try", "mark-good", "allow", "drop"), state=STATES),
    "key": obj(role=TEXT, key=octets(32), private=TEXT, public=TEXT),
    "trust made": obj(file=TEXT, n=WHOLE, signatures=WHOLE, complete=FLAG, missing=rows(TEXT), trust=obj(**_TRUST)),
    "keys": rows(
        either(
            obj(file=TEXT, kind=word("private key", "public key"), key=octets(32)),
            obj(file=TEXT, kind=word("trust"), signed_by=rows(octets(32)), self_signed=FLAG, **_TRUST),
        )
    ),
    "config check": obj(ok=FLAG, files=rows(TEXT), problems=rows(_PROBLEM)),
    "config show": obj(source=TEXT, problems=rows(_PROBLEM), values=table(obj(value=ANYTHING, origin=TEXT))),
    "config reload": obj(ok=FLAG, problems=rows(_PROBLEM), changes=rows(_CHANGE), touches=maybe(rows(TEXT)), taken=maybe(rows(word("guard", "agent")))),
    "setup": obj(
        device=TEXT, tenant=TEXT, broker=TEXT, key=TEXT, csr=TEXT, certificate=either(_CERTIFICATE, NOTHING), trust=TEXT, done=rows(TEXT), kept=rows(TEXT),
        next=rows(TEXT),
    ),
    "drills": rows(obj(name=TEXT, what=TEXT, here=FLAG)),
    "drill": obj(
        scenes=rows(obj(name=TEXT, ok=FLAG, detect_ms=WHOLE, recover_ms=WHOLE, cause=TEXT, remedy=TEXT, bytes=WHOLE, note=maybe(TEXT))),
        lost=WHOLE, doubled=WHOLE,
    ),
    "replay": either(
        obj(header=table(ANYTHING), policy=ANYTHING, whole=FLAG, steps=WHOLE, same=WHOLE, decisions=WHOLE, differences=rows(table(ANYTHING))),
        rows(obj(seq=WHOLE, mono_ns=WHOLE, signal=ANYTHING, effects=ANYTHING)),
    ),
    "doctor": obj(ok=FLAG, findings=rows(_FINDING)),
    "archive": obj(
        file=TEXT, bytes=WHOLE, ok=FLAG, masked=WHOLE, entries=rows(obj(name=TEXT, bytes=WHOLE, masked=WHOLE, cut=FLAG)),
        left_out=rows(obj(name=TEXT, why=TEXT)),
    ),
    "fleet event": either(obj(incident=_TOLD), obj(result=_RESULT), obj(standin=obj(device=TEXT, **_STANDIN))),
    "fleet devices": rows(_DEVICE),
    "fleet incidents": rows(_TOLD),
    "fleet command": obj(command=octets(16), bytes=WHOLE, counter=WHOLE, results=rows(_RESULT)),
}  # fmt: skip


def document() -> Schema:
    """All of them, as one JSON Schema document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:edgeheal:answers:1", "title": "What `edgeheal ... --json` answers",
        "$defs": {name.replace(" ", "-"): {"title": name} | schema for name, schema in ANSWERS.items()},
    }  # fmt: skip
