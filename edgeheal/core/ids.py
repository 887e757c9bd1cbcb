# SPDX-License-Identifier: Apache-2.0
"""One short id everywhere: 4 to 6 Crockford base-32 characters out of a hash of an incident's key.

Duty: make ids that two people can read to each other on the phone. Source: Crockford base 32 (no I, L, O, U).
Invariant: the same key gives the same id on console, MQTT, page and pager.
"""

from edgeheal.core.digest import sha256

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def short_id(session: bytes, number: int, length: int = 4) -> str:
    """`session` 6 bytes, `number` the incident's number in it; `length` 4..6 characters."""
    digest = int.from_bytes(sha256(session + number.to_bytes(4, "big")).digest()[:4], "big")
    return "".join(ALPHABET[(digest >> (27 - 5 * i)) & 31] for i in range(length))


def normalise(text: str) -> str:
    """What a person typed, as the alphabet has it (O is 0, I and L are 1)."""
    return text.strip().upper().replace("O", "0").replace("I", "1").replace("L", "1")
