# SPDX-License-Identifier: Apache-2.0
"""The fleet's acknowledgement (`down/stored`) and the controller's presence (`_ctl/state`).

Duty: values <-> bytes. A controller answers a device's birth with its presence in a `down/stored` of its own: some brokers send a
retained message only to a subscription that is new, and a device that comes back has an old one. Invariants: an acknowledgement names sessions, the highest seq up to which all is stored, and those
stored beyond it; it frees spool and does nothing else; a presence that cannot be read is *not there*.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import WireError
from edgeheal.wire import packed
from edgeheal.wire.packed import SESSION_BYTES, U32, Document

VERSION = 1
STORED_MOST = 16_384
EXCEPTIONS_MOST = 200  # records of one batch; they count as msgpack items
K_ACKS, K_PRESENCE, K_TWIN = 0, 1, 2
K_SESSION, K_STATE, K_NAME, K_AT = range(4)


@dataclass(frozen=True, slots=True)
class Ack:
    """All of `session` up to `upto` is stored, and those in `beyond`."""

    session: bytes
    upto: int
    beyond: tuple[int, ...] = ()


class PresenceState(IntEnum):
    """Whether the controller takes reports."""

    OFFLINE = 0
    OPEN = 1
    FULL = 2  # it is there and cannot store: devices keep what they have


@dataclass(frozen=True, slots=True)
class Presence:
    """The controller's word on itself; `session` differs for each of its starts."""

    session: bytes
    state: PresenceState
    name: str = ""
    at_s: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """What one message says: acknowledgements; where it answers a birth, the controller's presence and a twin that it heard."""

    acks: tuple[Ack, ...] = ()
    presence: Presence | None = None
    twin: bytes = b""


def encode(acks: Iterable[Ack], presence: Presence | None = None, twin: bytes = b"") -> bytes:
    """One message for one device. `twin`: the session that the fleet heard under its name beside its own."""
    fields: dict[int, Any] = {K_ACKS: [[a.session, a.upto, *a.beyond[:EXCEPTIONS_MOST]] for a in acks]}
    if presence is not None:
        fields[K_PRESENCE] = [presence.session, int(presence.state)]
    if twin:
        fields[K_TWIN] = twin
    return packed.document(VERSION, fields)


def decode(data: bytes) -> tuple[Ack, ...]:
    """The acknowledgements in `data`."""
    return read(data).acks


def read(data: bytes) -> Stored:
    """What `data` says; JSON is taken, too: `{"v": 1, "acks": [[session hex, upto, beyond...]]}`."""
    if data[:1] == b"{":
        data = packed.from_json(data, {K_ACKS: "acks", K_PRESENCE: "presence", K_TWIN: "twin"}, _octets, "stored")
    doc = packed.opened(data, "stored", VERSION, STORED_MOST)
    acks: list[Ack] = []
    for value in doc.rows(K_ACKS, 64):
        if not isinstance(value, list) or not 2 <= len(value) <= 2 + EXCEPTIONS_MOST:
            raise doc.fail(K_ACKS, "expected [session, upto, beyond...]")
        session, upto, *beyond = value
        if not isinstance(session, bytes) or len(session) != SESSION_BYTES:
            raise doc.fail(K_ACKS, f"expected a session of {SESSION_BYTES} bytes")
        acks.append(Ack(session, packed.integer(upto, doc, K_ACKS, U32), tuple(packed.integer(n, doc, K_ACKS, U32) for n in beyond)))
    return Stored(tuple(acks), _presence(doc), doc.octets(K_TWIN, (SESSION_BYTES,)))


def _presence(doc: Document) -> Presence | None:
    said = doc.take(K_PRESENCE)
    if said is None:
        return None
    session, state = packed.row(said, doc, K_PRESENCE, 2, 2)
    if not isinstance(session, bytes) or len(session) != SESSION_BYTES:
        raise doc.fail(K_PRESENCE, f"expected a session of {SESSION_BYTES} bytes")
    return Presence(session, PresenceState(packed.integer(state, doc, K_PRESENCE, 2)))


def _octets(key: int, value: Any) -> Any:
    if key == K_PRESENCE:
        return [bytes.fromhex(value[0]), *value[1:]]
    if key == K_TWIN:
        return bytes.fromhex(value)
    return [[bytes.fromhex(row[0]), *row[1:]] for row in value]


def encode_presence(presence: Presence) -> bytes:
    """The retained message (a will with state OFFLINE)."""
    fields: dict[int, Any] = {K_SESSION: presence.session, K_STATE: int(presence.state)}
    if presence.name:
        fields[K_NAME] = presence.name[:64]
    if presence.at_s:
        fields[K_AT] = presence.at_s
    return packed.document(VERSION, fields)


def decode_presence(data: bytes) -> Presence:
    """The controller's word; an empty message is a cleared one: not there."""
    if not data:
        return Presence(b"", PresenceState.OFFLINE)
    doc = packed.opened(data, "presence", VERSION)
    state = packed.integer(doc.rest.pop(K_STATE, 0), doc, K_STATE, 255)
    if state not in (0, 1, 2):
        raise WireError(f"presence {state} is not known here", code=reasons.MALFORMED, place="presence")
    return Presence(doc.octets(K_SESSION, (SESSION_BYTES,)), PresenceState(state), doc.text(K_NAME, 64), doc.whole(K_AT))
