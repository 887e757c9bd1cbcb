# SPDX-License-Identifier: Apache-2.0
"""Ed25519 verification: which keys really signed an envelope.

Duty: one question, one answer. It knows no roles. One of the two homes of `cryptography`; never imported by a resident process.
Invariant: an envelope with one signature that does not hold is refused as a whole, so no byte of it can be changed unseen.
"""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgeheal.core import reasons
from edgeheal.core.errors import TrustError
from edgeheal.trust.envelope import Envelope, pae


def signers(envelope: Envelope, *, part: str = "envelope") -> frozenset[bytes]:
    """The 32-byte public keys that signed; TrustError(BAD_SIGNATURE) when any signature is not its key's."""
    message = pae(envelope.type, envelope.body)
    for key, signature in envelope.signatures:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise TrustError(
                f"signature by key {key[:4].hex()} does not hold",
                reason=reasons.BAD_SIGNATURE,
                part=part,
                place=part,
                hint="the bytes were changed after signing; fetch them again from their source",
            ) from None
    return frozenset(key for key, _ in envelope.signatures)
