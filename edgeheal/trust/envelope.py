# SPDX-License-Identifier: Apache-2.0
"""The one envelope around all that is signed: `[type, body, {public key: signature}]`.

Duty: encode and decode it, and say over which bytes a signature goes. It checks no signature (trust.verify) and no body.
Invariants: at most 16 signatures, keys ascending, each key once (the key is its own id, so none counts twice); the type is
inside the signed bytes. Source: DSSE v1 pre-authentication encoding, with msgpack in place of JSON.
"""

from dataclasses import dataclass

import msgpack

from edgeheal.core import reasons
from edgeheal.core.digest import sha256
from edgeheal.core.errors import TrustError
from edgeheal.trust.canonical import NotCanonicalError, loose, split

MANIFEST = "application/vnd.edgeheal.manifest.v1"
TRUST = "application/vnd.edgeheal.trust.v1"
COMMAND = "application/vnd.edgeheal.command.v1"
POLICY = "application/vnd.edgeheal.policy.v1"
TYPES = (MANIFEST, TRUST, COMMAND, POLICY)

MAX_SIGNATURES = 16
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_BODY = 64 * 1024
MAX_ENVELOPE = 72 * 1024
MAX_TRUST_BODY = 16 * 1024
MAX_TRUST_ENVELOPE = MAX_TRUST_BODY + 2 * 1024
MAX_CHAIN = 64 * 1024
MAX_CHAIN_LENGTH = 4096

_BODY_LIMITS = {MANIFEST: MAX_BODY, TRUST: MAX_TRUST_BODY, COMMAND: MAX_BODY, POLICY: MAX_BODY}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed document: its type, its exact body bytes, and (key, signature) pairs in ascending order of key."""

    type: str
    body: bytes
    signatures: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def id(self) -> bytes:
        """SHA-256 of the body; for a manifest this is the image id."""
        return sha256(self.body).digest()


def pae(kind: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that are signed."""
    name = kind.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(body), body)


def encode(envelope: Envelope) -> bytes:
    """The envelope's one byte form."""
    packed: bytes = msgpack.packb([envelope.type, envelope.body, dict(sorted(envelope.signatures))], use_bin_type=True)
    return packed


def decode(data: bytes, *expected: str, part: str = "envelope") -> Envelope:
    """The envelope in `data`, of one of the `expected` types (none named: any known one).

    TrustError with reason TOO_LARGE, MALFORMED or WRONG_TYPE; `part` names the place in the error.
    """
    if len(data) > MAX_ENVELOPE:
        raise TrustError(f"{len(data)} bytes, at most {MAX_ENVELOPE} are read", reason=reasons.TOO_LARGE, part=part, place=part)
    try:
        value = loose(data)
    except NotCanonicalError as fault:
        raise _malformed(str(fault), part) from None
    if not (isinstance(value, list) and len(value) == 3):
        raise _malformed("not [type, body, signatures]", part)
    kind, body, signatures = value
    if not (isinstance(kind, str) and isinstance(body, bytes) and isinstance(signatures, dict)):
        raise _malformed("not [type, body, signatures]", part)
    if kind not in TYPES:
        raise TrustError("unknown type of document", reason=reasons.WRONG_TYPE, part=part, place=part)
    if expected and kind not in expected:
        raise TrustError(f"a {kind.split('.')[-2]} where a {expected[0].split('.')[-2]} is due", reason=reasons.WRONG_TYPE, part=part, place=part)
    if len(body) > _BODY_LIMITS[kind]:
        raise TrustError(f"body of {len(body)} bytes, at most {_BODY_LIMITS[kind]}", reason=reasons.TOO_LARGE, part=part, place=part)
    pairs = _signatures(signatures, part)
    envelope = Envelope(kind, body, pairs)
    if encode(envelope) != data:
        raise _malformed("not in canonical form", part)
    return envelope


def decode_chain(data: bytes, *, part: str = "trust", most_bytes: int = MAX_CHAIN) -> tuple[Envelope, ...]:
    """Consecutive trust envelopes, in the order they stand there; may be empty."""
    if len(data) > most_bytes:
        raise TrustError(f"{len(data)} bytes, at most {most_bytes} are read", reason=reasons.TOO_LARGE, part=part, place=part)
    try:
        parts = split(data, MAX_CHAIN_LENGTH)
    except NotCanonicalError as fault:
        raise _malformed(str(fault), part) from None
    return tuple(decode(piece, TRUST, part=part) for piece in parts)


def _signatures(raw: dict[object, object], part: str) -> tuple[tuple[bytes, bytes], ...]:
    if len(raw) > MAX_SIGNATURES:
        raise TrustError(f"more than {MAX_SIGNATURES} signatures", reason=reasons.TOO_MANY, part=part, place=part)
    pairs: list[tuple[bytes, bytes]] = []
    for key, signature in raw.items():
        if not (isinstance(key, bytes) and len(key) == KEY_BYTES and isinstance(signature, bytes) and len(signature) == SIGNATURE_BYTES):
            raise _malformed("a key or signature has the wrong form", part)
        pairs.append((key, signature))
    return tuple(pairs)


def _malformed(what: str, part: str) -> TrustError:
    return TrustError(what, reason=reasons.MALFORMED, part=part, place=part, hint="the bytes were damaged on the way, or never were a signed document")
