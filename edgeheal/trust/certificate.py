# SPDX-License-Identifier: Apache-2.0
"""What a certificate says of itself: whose it is, until when, which public key. Read without a library, since the agent never loads one for this.

Duty: PEM or DER bytes -> `Certificate` (RFC 5280, section 4.1, as far as it is needed). It proves nothing: TLS does.
Invariants: hostile bytes give a TrustError; times are Unix seconds, by the calendar's arithmetic alone.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgeheal.core import reasons
from edgeheal.core.errors import TrustError

MOST = 65_536
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_COMMON_NAME = bytes.fromhex("0603550403")  # OBJECT IDENTIFIER 2.5.4.3
_SEQUENCE, _SET, _INTEGER, _UTC_TIME, _TIME, _VERSION = 0x30, 0x31, 0x02, 0x17, 0x18, 0xA0
_HINT = "name a certificate in PEM form (-----BEGIN CERTIFICATE-----)"
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Certificate:
    """`subject` is the common name; `spki` the DER of its public key; `begins` and `ends` Unix seconds."""

    subject: str
    begins: int
    ends: int
    spki: bytes


def read(data: bytes, *, place: str = "") -> Certificate:
    """The first certificate in `data`."""
    try:
        return _read(_der(data))
    except (ValueError, IndexError, UnicodeDecodeError):
        raise TrustError("is no certificate that can be read", reason=reasons.MALFORMED, place=place, hint=_HINT) from None


def _der(data: bytes) -> bytes:
    if len(data) > MOST:
        raise ValueError(len(data))
    found = _PEM.search(data)
    return binascii.a2b_base64(found[1]) if found else data


def _read(der: bytes) -> Certificate:
    certificate = _one(der, _SEQUENCE)
    parts = list(_parts(_one(certificate, _SEQUENCE)))
    if parts[0][0] == _VERSION:
        parts = parts[1:]
    (serial, _), _, _, (validity, times), (_, subject), (spki, _) = ((tag, body) for tag, body in parts[:6])
    if serial != _INTEGER or validity != _SEQUENCE or spki != _SEQUENCE:
        raise ValueError(serial)
    begins, ends = (_time(tag, body) for tag, body in _parts(times))
    return Certificate(_common_name(subject), begins, ends, _wrapped(_SEQUENCE, parts[5][1]))


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each element."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4:
                raise ValueError(count)
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + size > len(data):
            raise ValueError(size)
        yield tag, data[at : at + size]
        at += size


def _one(data: bytes, tag: int) -> bytes:
    """The content of the first element, which is a `tag`."""
    found, content = next(_parts(data), (0, b""))
    if found != tag:
        raise ValueError(found)
    return content


def _wrapped(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _common_name(subject: bytes) -> str:
    for _, names in _parts(subject):
        for _, pair in _parts(names):
            if pair.startswith(_COMMON_NAME):
                return next(_parts(pair[len(_COMMON_NAME) :]))[1].decode("utf-8")
    return ""


def _time(tag: int, content: bytes) -> int:
    """UTCTime and GeneralizedTime in their only allowed forms, YYMMDDHHMMSSZ and YYYYMMDDHHMMSSZ."""
    text = content.decode("ascii")
    if tag == _UTC_TIME and len(text) == 13:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _TIME:
        raise ValueError(tag)
    if len(text) != 15 or text[14] != "Z" or not text[:14].isdecimal():
        raise ValueError(text)
    year, month, day, hour, minute, second = int(text[:4]), *(int(text[i : i + 2]) for i in range(4, 14, 2))
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(text)
    return _days(year, month, day) * DAY_S + hour * 3_600 + minute * 60 + second


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the Gregorian calendar (the year is taken to begin in March, so that its leap day is its last)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
