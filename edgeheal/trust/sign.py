# SPDX-License-Identifier: Apache-2.0
"""Making keys and signatures, on an operator's machine; a device's own TLS key and its request for a certificate, on the device.

Duty: Ed25519 key pairs as PEM bytes, signatures into envelopes; EC keys and requests (PKCS#10). It touches no file. The other home of `cryptography`.
Invariant: signing again with the same key changes nothing (Ed25519 is deterministic); signatures of others stay.
"""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgeheal.core import reasons
from edgeheal.core.errors import TrustError
from edgeheal.trust.envelope import MAX_SIGNATURES, Envelope, pae

_HINT = "make one with `edgeheal key new`"


class SigningKey:
    """A private key; `public` is its 32-byte public key, which is also its id."""

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Wrap a key of the library."""
        self._key = key
        self.public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def sign(self, envelope: Envelope) -> Envelope:
        """The envelope with this key's signature added (or made anew)."""
        others = {k: s for k, s in envelope.signatures if k != self.public}
        if len(others) >= MAX_SIGNATURES:
            raise TrustError(f"an envelope holds at most {MAX_SIGNATURES} signatures", reason=reasons.TOO_MANY)
        others[self.public] = self._key.sign(pae(envelope.type, envelope.body))
        return Envelope(envelope.type, envelope.body, tuple(sorted(others.items())))

    def pem(self, password: bytes | None = None) -> bytes:
        """PKCS#8 PEM, encrypted when a password is given."""
        cipher = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)

    def public_pem(self) -> bytes:
        """SubjectPublicKeyInfo PEM of the public half."""
        return self._key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def new() -> SigningKey:
    """A fresh key pair."""
    return SigningKey(Ed25519PrivateKey.generate())


def from_seed(seed: bytes) -> SigningKey:
    """The key pair of a 32-byte seed (tests, derived keys)."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(seed))


def load(pem: bytes, password: bytes | None = None, *, place: str = "") -> SigningKey:
    """A private key from PEM; TrustError when it is none, is encrypted without a password, or is of another kind."""
    try:
        key = serialization.load_pem_private_key(pem, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
        what = "needs its password" if isinstance(fault, TypeError) and password is None else "is no private key that can be read"
        raise TrustError(what, reason=reasons.MALFORMED, place=place, hint=_HINT) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise TrustError("is not an Ed25519 key", reason=reasons.MALFORMED, place=place, hint=_HINT)
    return SigningKey(key)


def load_public(data: bytes, *, place: str = "") -> bytes:
    """The 32-byte public key out of a public or (unencrypted) private PEM, or 64 hex digits."""
    text = data.strip()
    if len(text) == 64 and all(c in b"0123456789abcdefABCDEF" for c in text):
        return bytes.fromhex(text.decode())
    if b"PRIVATE KEY" in text:
        return load(text, place=place).public
    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise TrustError("is no public key that can be read", reason=reasons.MALFORMED, place=place, hint=_HINT) from None
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError("is not an Ed25519 key", reason=reasons.MALFORMED, place=place, hint=_HINT)
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


# --- the device's key for TLS ------------------------------------------------------------------------------------------


def new_device_key() -> bytes:
    """A fresh P-256 key (what every broker's TLS library takes), PKCS#8 PEM without a password: its file's mode protects it."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def device_spki(pem: bytes, *, place: str = "") -> bytes:
    """SubjectPublicKeyInfo (DER) of a device's private key, to be compared with a certificate's."""
    return _device_key(pem, place).public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def request(pem: bytes, device: str, *, place: str = "") -> bytes:
    """A PEM certificate request whose common name is the device's id."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, device)])
    key = _device_key(pem, place)
    algorithm = hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def _device_key(pem: bytes, place: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TrustError("is no private key that can be read without a password", reason=reasons.MALFORMED, place=place, hint="name a PEM file") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey):
        raise TrustError("is a key of another kind", reason=reasons.MALFORMED, place=place, hint="take an EC, RSA or Ed25519 key")
    return key
