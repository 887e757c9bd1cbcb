# SPDX-License-Identifier: Apache-2.0
"""A record that speaks for others (`core.spooled.Standin`) on the wire: two keys that any spooled record may carry.

Duty: Standin -> bytes, and back out of a document. Not its duty: when records are folded or dropped (the spool).
Invariants: keys 23 and 24 mean the same in every spooled record; a stand-in with a body is that body with its ranges put in.
"""

from typing import Any

from edgeheal.core.errors import WireError
from edgeheal.core.spooled import Span, Standin, StandinKind
from edgeheal.wire import packed
from edgeheal.wire.packed import SESSION_BYTES, U32, Document

VERSION = 1
PLACE = "standin"
K_FINGERPRINT, K_STANDIN, K_RANGES = 13, 23, 24
RANGES_MOST = 128


def encode(standin: Standin, session: bytes = b"") -> bytes:
    """A body for the spool. `session`: whose record it will be, so that ranges of the same session leave theirs out.

    Ranges beyond RANGES_MOST are left out: a hole only keeps the fleet's contiguous mark low, records beyond it are
    acknowledged one by one.
    """
    row = packed.trim([int(standin.kind), standin.count, int(standin.severity), standin.first_s, standin.last_s, standin.reason], 2)
    spans = [[s.first, s.last] if s.session == session else [s.first, s.last, s.session] for s in standin.ranges[:RANGES_MOST]]
    fields: dict[int, Any] = {K_STANDIN: row, K_RANGES: spans}
    if standin.body:
        try:
            doc = packed.opened(standin.body, PLACE, VERSION)
        except WireError:
            pass  # a body that this version cannot read is told by its fingerprint and its numbers
        else:
            return packed.document(doc.version, doc.kept() | fields)
    if standin.fingerprint:
        fields[K_FINGERPRINT] = standin.fingerprint[:8]
    return packed.document(VERSION, fields)


def take(doc: Document, session: bytes) -> Standin | None:
    """The stand-in that `doc` carries, None when it speaks only for itself. `session`: that of the record."""
    said = doc.take(K_STANDIN)
    spans = doc.rows(K_RANGES, RANGES_MOST)
    if said is None:
        if spans:
            raise doc.fail(K_RANGES, "ranges without whom they stand for")
        return None
    kind, count, severity, first, last, reason = packed.row(said, doc, K_STANDIN, 2, 6)
    return Standin(
        packed.kind(StandinKind, kind, doc, K_STANDIN),
        tuple(_span(s, doc, session) for s in spans),
        packed.integer(count, doc, K_STANDIN, U32),
        packed.integer(severity or 0, doc, K_STANDIN, 255),
        first_s=packed.integer(first or 0, doc, K_STANDIN),
        last_s=packed.integer(last or 0, doc, K_STANDIN),
        reason=packed.integer(reason or 0, doc, K_STANDIN, 65_535),
    )


def _span(value: Any, doc: Document, session: bytes) -> Span:
    first, last, whose = packed.row(value, doc, K_RANGES, 2, 3)
    whose = session if whose is None else whose
    if not isinstance(whose, bytes) or len(whose) not in (0, SESSION_BYTES):
        raise doc.fail(K_RANGES, f"expected a session of {SESSION_BYTES} bytes")
    low, high = packed.integer(first, doc, K_RANGES, U32), packed.integer(last, doc, K_RANGES, U32)
    if low > high:
        raise doc.fail(K_RANGES, "a range runs backwards")
    return Span(whose, low, high)


def octets(key: int, value: Any) -> Any:
    """JSON's hex back to bytes where these two keys hold bytes."""
    if key == K_RANGES:
        return [[*s[:2], bytes.fromhex(s[2])] if len(s) > 2 else s for s in value]
    return value
