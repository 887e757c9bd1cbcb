# SPDX-License-Identifier: Apache-2.0
"""An incident on the wire: one summary of at most 245 bytes, codes and arguments, never prose.

Duty: Incident -> bytes -> Incident; the same fields as JSON; records that stand for others. Source: docs/reference, MQTT.
Not its duty: the sentence (`core.words`), the key of a record (put in front by `packed.with_key` when it is sent).
Invariants: `decode` answers hostile bytes with a value or a `WireError`; key numbers are never reused; unknown keys and
numbers are kept; what does not fit `SUMMARY_MOST` is shed in the order of `_SHED`, never the who, what, why and outcome.

Times: `opened_s` wall label; everything else is a length in ms (`*_ms`) or s (`*_s`). A cause is [kind, percent, subject];
a piece of evidence [code, value, limit, text], a negative code speaks against; a remedy tried [kind, outcome, ms, times,
reason, target] with equal neighbours folded into `times`; trailing defaults are left out.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from edgeheal.core.incident import Cause, Evidence, Incident, Tried
from edgeheal.core.kinds import (
    CauseKind,
    ChangeKind,
    EvidenceCode,
    ImageStatus,
    IncidentState,
    Mode,
    Need,
    Outcome,
    RemedyKind,
    Severity,
    SymptomKind,
)
from edgeheal.core.now import NS
from edgeheal.core.spooled import Standin
from edgeheal.wire import packed, standin
from edgeheal.wire.packed import K_SEQ, K_SESSION, SESSION_BYTES, U32, Document
from edgeheal.wire.standin import K_RANGES, K_STANDIN

VERSION = 1
SUMMARY_MOST = 245
PLACE = "summary"

(K_OF, K_APP, K_HEAD, K_OPENED, K_OPEN_MS, K_DOWN_MS, K_GAP_MS, K_REVISION, K_CAUSES, K_EVIDENCE, K_CHANGE, K_FINGERPRINT, K_RECURRENCE) = range(2, 15)
(K_TRIED, K_PLANNED, K_IMAGE, K_APPROVAL, K_ALSO, K_DETECT_MS, K_SUBJECT, K_BOX_S) = range(15, 23)  # 23, 24: wire.standin

NAMES: dict[int, str] = {
    K_SESSION: "session", K_SEQ: "seq", K_OF: "of", K_APP: "app", K_HEAD: "head", K_OPENED: "opened_s", K_OPEN_MS: "open_ms", K_DOWN_MS: "down_ms",
    K_GAP_MS: "gap_ms", K_REVISION: "revision", K_CAUSES: "causes", K_EVIDENCE: "evidence", K_CHANGE: "change", K_FINGERPRINT: "fingerprint",
    K_RECURRENCE: "recurrence", K_TRIED: "tried", K_PLANNED: "planned", K_IMAGE: "image", K_APPROVAL: "approval_until_s", K_ALSO: "also",
    K_DETECT_MS: "detect_ms", K_SUBJECT: "subject", K_BOX_S: "opened_box_s", K_STANDIN: "standin", K_RANGES: "ranges",
}  # fmt: skip

CAUSES_MOST, EVIDENCE_MOST, TRIED_MOST, ALSO_MOST = 3, 3, 8, 8
APP_MOST, SUBJECT_MOST, TEXT_MOST, TARGET_MOST, VERSION_MOST, IMAGE_BYTES = 32, 24, 24, 16, 16, 4
WEEK_S = 604_800


@dataclass(frozen=True, slots=True)
class Record:
    """A summary as it came: its key, the incident, how long it was open when told, for whom it stands, what this version does not know."""

    session: bytes
    seq: int
    incident: Incident
    open_ms: int = 0
    planned_in_s: float = 0.0
    standin: Standin | None = None
    rest: dict[int, Any] = field(default_factory=dict)


# --- to bytes ----------------------------------------------------------------------------------------------------------


def encode(incident: Incident, *, session: bytes = b"", now_ns: int = 0) -> bytes:
    """`incident` as a body for the spool. `session`: whose record it will be; `now_ns`: monotonic, for how long it has been open."""
    fields = _fields(incident, session, now_ns)
    body = packed.document(VERSION, fields)
    room = SUMMARY_MOST - (1 + 2 + SESSION_BYTES + 1 + 5)  # the key that is put in front when it is sent
    for shed in _SHED:
        if len(body) <= room:
            break
        shed(fields)
        body = packed.document(VERSION, {key: value for key, value in fields.items() if value or key in (K_OF, K_OPENED)})
    return body


def _fields(incident: Incident, session: bytes, now_ns: int) -> dict[int, Any]:
    """All fields, absent where they say nothing."""
    foreign = bool(incident.session) and incident.session != session
    fields: dict[int, Any] = {
        K_OF: [incident.number, incident.session] if foreign else incident.number,
        K_HEAD: [int(incident.symptom), int(incident.severity), int(incident.state), int(incident.need), int(incident.mode), int(incident.trusted)],
        K_OPENED: min(max(0, incident.opened_s), U32),
    }
    end_ns = incident.closed_ns or now_ns
    optional: dict[int, Any] = {
        K_APP: cut(incident.app, APP_MOST),
        K_OPEN_MS: max(0, end_ns - incident.opened_ns) // 1_000_000 if end_ns else 0,
        K_DOWN_MS: max(0, incident.downtime_ms),
        K_GAP_MS: max(0, incident.gap_ms),
        K_REVISION: incident.revision,
        K_CAUSES: [_cause(c) for c in sorted(incident.causes, key=lambda c: -c.probability)[:CAUSES_MOST]],
        K_EVIDENCE: [_fact(e) for e in best_evidence(incident)],
        K_CHANGE: [int(incident.change), max(0, incident.change_before_s)] if incident.change else None,
        K_FINGERPRINT: incident.fingerprint[:8],
        K_RECURRENCE: _recurrence(incident),
        K_TRIED: _tried(incident.tried),
        K_PLANNED: _planned(incident, now_ns),
        K_IMAGE: _image(incident),
        K_APPROVAL: max(0, incident.approval_until_s),
        K_ALSO: [cut(a, APP_MOST) for a in incident.also[:ALSO_MOST]],
        K_DETECT_MS: max(0, incident.detect_ms),
        K_SUBJECT: cut(incident.subject, SUBJECT_MOST),
        K_BOX_S: 0 if incident.trusted else max(0, incident.opened_box_s),
    }
    return fields | {key: value for key, value in optional.items() if value}


def cut(text: str, most: int) -> str:
    """`text`, at most `most` characters and as many bytes, cut at the end."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _number(value: float) -> int | float:
    """A figure in its shortest form: an integer where it is one; what is not finite says nothing."""
    if not math.isfinite(value):
        return 0
    return int(value) if value == int(value) and abs(value) <= U32 else min(max(value, -3.4e38), 3.4e38)


def _cause(cause: Cause) -> list[Any]:
    row: list[Any] = [int(cause.kind), min(100, max(0, round(cause.probability * 100)))]
    return [*row, cut(cause.subject, SUBJECT_MOST)] if cause.subject else row


def best_evidence(incident: Incident) -> list[Evidence]:
    """At most three facts: the incident's own first, then those of the likeliest cause; one of a kind."""
    chosen: dict[tuple[int, str], Evidence] = {}
    top = max(incident.causes, key=lambda c: c.probability, default=None)
    for fact in (*incident.evidence, *(top.evidence if top is not None else ())):
        if fact.code:
            chosen.setdefault((int(fact.code), fact.text), fact)
    return list(chosen.values())[:EVIDENCE_MOST]


def _fact(fact: Evidence) -> list[Any]:
    code = int(fact.code) if fact.speaks_for else -int(fact.code)
    return packed.trim([code, _number(fact.value), _number(fact.limit), cut(fact.text, TEXT_MOST)], 2)


def _recurrence(incident: Incident) -> int | list[int]:
    if incident.recurrence_window_s == WEEK_S:
        return incident.recurrence if incident.recurrence > 1 else 0
    return [incident.recurrence, incident.recurrence_window_s]


def _tried(steps: tuple[Tried, ...]) -> list[list[Any]]:
    """The last remedies; equal neighbours folded, their time added up."""
    rows: list[list[Any]] = []
    for step in steps:
        ms = max(0, round(step.seconds * 1000)) if math.isfinite(step.seconds) else 0
        row = [int(step.kind), int(step.outcome), ms, 1, step.reason, cut(step.target, TARGET_MOST)]
        if rows and rows[-1][:2] + rows[-1][4:] == row[:2] + row[4:]:
            rows[-1][2] += ms
            rows[-1][3] += 1
        else:
            rows.append(row)
    return [_shortest(row) for row in rows[-TRIED_MOST:]]


def _shortest(row: list[Any]) -> list[Any]:
    row = packed.trim(row, 4)
    return row[:3] if row[3:] == [1] else row


def _planned(incident: Incident, now_ns: int) -> list[int] | None:
    if incident.planned is None:
        return None
    wait_ns = incident.planned_at_ns - now_ns if incident.planned_at_ns and now_ns else 0
    return packed.trim([int(incident.planned), max(0, round(wait_ns / NS))], 1)


def _image(incident: Incident) -> list[Any] | None:
    try:
        prefix = bytes.fromhex(incident.image)[:IMAGE_BYTES]
    except ValueError:
        prefix = b""
    row = packed.trim([int(incident.image_status), prefix, cut(incident.image_version, VERSION_MOST)], 0)
    return row or None


def _shed_texts(fields: dict[int, Any]) -> None:
    fields[K_EVIDENCE] = [packed.trim([*row[:3], cut(row[3], 12)], 2) if len(row) > 3 else row for row in fields.get(K_EVIDENCE, [])]


def _shed_also(fields: dict[int, Any]) -> None:
    fields[K_ALSO] = fields.get(K_ALSO, [])[:2]


def _shed_old_steps(fields: dict[int, Any]) -> None:
    fields[K_TRIED] = fields.get(K_TRIED, [])[-4:]


def _shed_third(fields: dict[int, Any]) -> None:
    fields[K_CAUSES] = fields.get(K_CAUSES, [])[:2]
    fields[K_EVIDENCE] = fields.get(K_EVIDENCE, [])[:2]


def _shed_subjects(fields: dict[int, Any]) -> None:
    fields[K_CAUSES] = [row[:2] for row in fields.get(K_CAUSES, [])]
    fields[K_TRIED] = [row[:3] for row in fields.get(K_TRIED, [])]
    fields.pop(K_ALSO, None)


def _shed_details(fields: dict[int, Any]) -> None:
    fields[K_EVIDENCE] = [row[:3] for row in fields.get(K_EVIDENCE, [])]
    fields[K_TRIED] = fields.get(K_TRIED, [])[-2:]
    fields[K_IMAGE] = fields.get(K_IMAGE, [])[:2]
    fields[K_SUBJECT] = cut(fields.get(K_SUBJECT, ""), 12)


_SHED = (_shed_texts, _shed_also, _shed_old_steps, _shed_third, _shed_subjects, _shed_details)


# --- from bytes ----------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Incident:
    """The incident in a summary (or in a stand-in: an empty one)."""
    return read(data).incident


def read(data: bytes) -> Record:
    """A summary, packed or JSON, with its key where it has one."""
    if data[:1] == b"{":
        data = packed.from_json(data, NAMES, _octets, PLACE)
    doc = packed.opened(data, PLACE, VERSION)
    session = doc.octets(K_SESSION, (SESSION_BYTES,))
    seq = doc.whole(K_SEQ, most=U32)
    others = standin.take(doc, session)
    number, owner = _of(doc, session)
    open_ms = doc.whole(K_OPEN_MS)
    planned, planned_in_s = _read_planned(doc)
    incident = _read_incident(doc, number, owner)
    closed_ns = open_ms * 1_000_000 if incident.state == IncidentState.RESOLVED else 0
    incident = replace(incident, planned=planned, planned_at_ns=round(planned_in_s * NS), closed_ns=closed_ns)
    return Record(session, seq, incident, open_ms, planned_in_s, others, doc.kept())


class Headline(NamedTuple):
    """What a store keeps in columns. Enumerations as numbers; `number` 0: it only stands for others."""

    session: bytes
    seq: int
    owner: bytes
    number: int
    revision: int
    app: str
    symptom: int
    severity: int
    state: int
    need: int
    opened_s: int
    fingerprint: bytes
    cause: int
    percent: int
    image: str
    standin: Standin | None


_NO_IMAGE: list[Any] = [0]


def headline(data: bytes) -> Headline:
    """The columns of a summary, several times faster than `read`; fields that it does not name are not judged."""
    if data[:1] == b"{":
        data = packed.from_json(data, NAMES, _octets, PLACE)
    doc = packed.opened(data, PLACE, VERSION)
    return _plain_headline(doc.rest) or _careful_headline(doc)


def _plain_headline(fields: dict[int, Any]) -> Headline | None:
    """The common case, judged at once; None: look at each field with care (and say what is wrong with it)."""
    get = fields.get
    session, head, app, fingerprint = get(K_SESSION), get(K_HEAD), get(K_APP, ""), get(K_FINGERPRINT, b"")
    seq: Any = get(K_SEQ)
    of: Any = get(K_OF)
    revision, opened, causes, image = get(K_REVISION, 0), get(K_OPENED, 0), get(K_CAUSES, ()), get(K_IMAGE, _NO_IMAGE)
    if K_STANDIN in fields or K_RANGES in fields or image.__class__ is not list or causes.__class__ is not list or head.__class__ is not list:
        return None
    if not (session.__class__ is bytes and app.__class__ is str and fingerprint.__class__ is bytes and len(head) == 6 and len(causes) <= CAUSES_MOST):
        return None
    try:
        numbers = (seq, of, revision, opened, *head)
        if not (all(n.__class__ is int and n >= 0 for n in numbers) and max(seq, of, revision) <= U32 and opened <= packed.U53 and max(head) <= 65_535):
            return None
        percent, cause = max((row[1], row[0]) for row in causes)
        prefix = image[1] if len(image) > 1 else b""
        fits = len(session) == SESSION_BYTES and len(app) <= APP_MOST and len(fingerprint) in (0, 8) and prefix.__class__ is bytes and len(prefix) <= 32
        if not (fits and percent.__class__ is int and cause.__class__ is int and 0 <= percent <= 100 and 0 <= cause <= 65_535):
            return None
    except (TypeError, IndexError, ValueError, KeyError):
        return None
    return Headline(session, seq, session, of, revision, app, head[0], head[1], head[2], head[3], opened, fingerprint, cause, percent, prefix.hex(), None)


def _careful_headline(doc: Document) -> Headline:
    session = doc.octets(K_SESSION, (SESSION_BYTES,))
    number, owner = _of(doc, session)
    head = packed.row(doc.rest.get(K_HEAD, [1, 0, 0, 0, 2, 0]), doc, K_HEAD, 6, 6)
    symptom, severity, state, need = (packed.integer(v, doc, K_HEAD, 65_535) for v in head[:4])
    causes = doc.rows(K_CAUSES, CAUSES_MOST)
    top = max((_read_cause(row, doc) for row in causes), key=lambda c: c.probability) if causes else None
    return Headline(
        session, doc.whole(K_SEQ, most=U32), owner, number, doc.whole(K_REVISION, most=U32), doc.text(K_APP, APP_MOST), symptom, severity, state, need,
        doc.whole(K_OPENED), doc.octets(K_FINGERPRINT, (8,)), int(top.kind) if top else 0, round(top.probability * 100) if top else 0,
        _read_image(doc)[1], standin.take(doc, session) if K_STANDIN in doc.rest or K_RANGES in doc.rest else None,
    )  # fmt: skip


def _of(doc: Document, session: bytes) -> tuple[int, bytes]:
    said = doc.take(K_OF)
    if said is None:
        return 0, session
    if isinstance(said, list):
        number, owner = packed.row(said, doc, K_OF, 2, 2)
        if not isinstance(owner, bytes) or len(owner) != SESSION_BYTES:
            raise doc.fail(K_OF, f"expected a session of {SESSION_BYTES} bytes")
        return packed.integer(number, doc, K_OF, U32), owner
    return packed.integer(said, doc, K_OF, U32), session


def _read_planned(doc: Document) -> tuple[RemedyKind | None, float]:
    said = doc.take(K_PLANNED)
    if said is None:
        return None, 0.0
    kind, wait_s = packed.row(said, doc, K_PLANNED, 1, 2)
    return packed.kind(RemedyKind, kind, doc, K_PLANNED), float(packed.integer(wait_s or 0, doc, K_PLANNED))


def _read_incident(doc: Document, number: int, owner: bytes) -> Incident:
    head = doc.take(K_HEAD)
    symptom, severity, state, need, mode, trusted = packed.row([1, 0, 0, 0, 2, 0] if head is None else head, doc, K_HEAD, 6, 6)
    change, before_s = packed.row(doc.rest.pop(K_CHANGE, [0]), doc, K_CHANGE, 1, 2)
    recurrence, window_s = _read_recurrence(doc)
    status, image, version = _read_image(doc)
    return Incident(
        number=number,
        session=owner,
        app=doc.text(K_APP, APP_MOST),
        symptom=packed.kind(SymptomKind, symptom, doc, K_HEAD),
        severity=packed.kind(Severity, severity, doc, K_HEAD),
        state=packed.kind(IncidentState, state, doc, K_HEAD),
        need=packed.kind(Need, need, doc, K_HEAD),
        mode=packed.kind(Mode, mode, doc, K_HEAD),
        trusted=bool(packed.integer(int(trusted) if isinstance(trusted, bool) else trusted, doc, K_HEAD, 1)),
        fingerprint=doc.octets(K_FINGERPRINT, (8,)),
        opened_ns=0,
        opened_s=doc.whole(K_OPENED),
        opened_box_s=doc.whole(K_BOX_S),
        subject=doc.text(K_SUBJECT, SUBJECT_MOST),
        revision=doc.whole(K_REVISION, most=U32),
        downtime_ms=doc.whole(K_DOWN_MS),
        gap_ms=doc.whole(K_GAP_MS),
        detect_ms=doc.whole(K_DETECT_MS),
        causes=tuple(_read_cause(row, doc) for row in doc.rows(K_CAUSES, CAUSES_MOST)),
        evidence=tuple(_read_fact(row, doc) for row in doc.rows(K_EVIDENCE, EVIDENCE_MOST)),
        change=packed.kind(ChangeKind, change, doc, K_CHANGE),
        change_before_s=packed.integer(before_s or 0, doc, K_CHANGE),
        recurrence=recurrence,
        recurrence_window_s=window_s,
        tried=tuple(t for row in doc.rows(K_TRIED, TRIED_MOST) for t in _read_tried(row, doc)),
        approval_until_s=doc.whole(K_APPROVAL),
        image=image,
        image_version=version,
        image_status=status,
        also=tuple(packed.short(a, doc, K_ALSO, APP_MOST) for a in doc.rows(K_ALSO, ALSO_MOST)),
    )


def _read_recurrence(doc: Document) -> tuple[int, int]:
    said = doc.rest.pop(K_RECURRENCE, 1)
    if isinstance(said, list):
        n, window_s = packed.row(said, doc, K_RECURRENCE, 2, 2)
        return packed.integer(n, doc, K_RECURRENCE, U32), packed.integer(window_s, doc, K_RECURRENCE, U32)
    return packed.integer(said, doc, K_RECURRENCE, U32), WEEK_S


def _read_image(doc: Document) -> tuple[ImageStatus, str, str]:
    status, prefix, version = packed.row(doc.rest.pop(K_IMAGE, [0]), doc, K_IMAGE, 1, 3)
    prefix = b"" if prefix is None else prefix
    if not isinstance(prefix, bytes) or len(prefix) > 32:
        raise doc.fail(K_IMAGE, "expected the first bytes of an image's id")
    return packed.kind(ImageStatus, status, doc, K_IMAGE), prefix.hex(), packed.short(version or "", doc, K_IMAGE, VERSION_MOST)


def _read_cause(value: Any, doc: Document) -> Cause:
    kind, percent, subject = packed.row(value, doc, K_CAUSES, 2, 3)
    return Cause(
        packed.kind(CauseKind, kind, doc, K_CAUSES), packed.integer(percent, doc, K_CAUSES, 100) / 100, packed.short(subject or "", doc, K_CAUSES, SUBJECT_MOST)
    )


def _read_fact(value: Any, doc: Document) -> Evidence:
    code, figure, limit, text = packed.row(value, doc, K_EVIDENCE, 2, 4)
    if isinstance(code, bool) or not isinstance(code, int):
        raise doc.fail(K_EVIDENCE, "expected a code")
    return Evidence(
        packed.kind(EvidenceCode, abs(code), doc, K_EVIDENCE),
        packed.real(figure, doc, K_EVIDENCE),
        packed.real(limit or 0, doc, K_EVIDENCE),
        packed.short(text or "", doc, K_EVIDENCE, TEXT_MOST),
        code >= 0,
    )


def _read_tried(value: Any, doc: Document) -> list[Tried]:
    kind, outcome, ms, times, reason, target = packed.row(value, doc, K_TRIED, 3, 6)
    n = packed.integer(1 if times is None else times, doc, K_TRIED, 1_000)
    step = Tried(
        packed.kind(RemedyKind, kind, doc, K_TRIED),
        packed.kind(Outcome, outcome, doc, K_TRIED),
        packed.integer(ms, doc, K_TRIED) / 1000 / max(1, n),
        reason=packed.integer(reason or 0, doc, K_TRIED, 65_535),
        target=packed.short(target or "", doc, K_TRIED, TARGET_MOST),
    )
    return [step] * min(n, 64)


# --- JSON ------------------------------------------------------------------------------------------------------------------


def to_json(data: bytes) -> bytes:
    """A packed summary as a JSON object with the same fields under their names; bytes as hex."""
    return packed.to_json(data, NAMES, PLACE, VERSION)


def _octets(key: int, value: Any) -> Any:
    """Hex back to bytes where the field holds bytes."""
    if key in (K_SESSION, K_FINGERPRINT):
        return bytes.fromhex(value)
    if key == K_OF and isinstance(value, list):
        return [value[0], bytes.fromhex(value[1])]
    if key == K_IMAGE and isinstance(value, list) and len(value) > 1:
        return [value[0], bytes.fromhex(value[1]), *value[2:]]
    return standin.octets(key, value)
