# SPDX-License-Identifier: Apache-2.0
"""A signed word as lines of text, for a serial console: short lines with a check each, so that what a paste lost is named.

Duty: bytes to lines and back. It judges no signature. Invariants: at most 76 characters a line, plain ASCII; lines may come with blanks, prompts
or in any order; a line that was mangled or is missing is named by its number.

Line: `EH` number `/` count ` ` base64 of at most 42 bytes ` ` CRC-CCITT of number, count and bytes as 4 hex digits.
"""

import base64
import binascii
import re

from edgeheal.core import reasons
from edgeheal.core.errors import WireError

PIECE = 42
MOST_LINES = 2_000
_LINE = re.compile(r"EH(\d{1,4})/(\d{1,4})\s+([A-Za-z0-9+/=]+)\s+([0-9a-fA-F]{4})")


def encode(data: bytes) -> list[str]:
    """The lines."""
    pieces = [data[i : i + PIECE] for i in range(0, len(data), PIECE)] or [b""]
    return [f"EH{n}/{len(pieces)} {base64.b64encode(p).decode()} {_check(n, len(pieces), p):04x}" for n, p in enumerate(pieces, 1)]


def decode(text: str) -> bytes:
    """The bytes again; WireError that names what is missing or mangled."""
    pieces: dict[int, bytes] = {}
    counts: set[int] = set()
    mangled: list[str] = []
    for line in text.splitlines()[: MOST_LINES * 4]:
        found = _LINE.search(line)
        if found is None:
            if re.search(r"EH\d", line):
                mangled.append(line.strip()[:20])
            continue
        number, count = int(found[1]), int(found[2])
        try:
            piece = base64.b64decode(found[3], validate=True)
        except (binascii.Error, ValueError):
            piece = None
        if piece is None or _check(number, count, piece) != int(found[4], 16):
            mangled.append(f"line {number}")
            continue
        pieces[number] = piece
        counts.add(count)
    return _joined(pieces, counts, mangled)


def _joined(pieces: dict[int, bytes], counts: set[int], mangled: list[str]) -> bytes:
    place = "token"
    if not counts:
        what = f"mangled: {', '.join(mangled[:5])}" if mangled else "no line of a token is in it"
        raise WireError(what, code=reasons.MALFORMED, place=place, hint="paste the lines again; each begins with EH")
    if len(counts) > 1:
        raise WireError("lines of several tokens", code=reasons.MALFORMED, place=place, hint="paste one token at a time")
    count = counts.pop()
    missing = [n for n in range(1, count + 1) if n not in pieces] if count <= MOST_LINES else [0]
    if missing:
        raise WireError(
            f"missing or mangled: {', '.join(f'line {n}' for n in missing[:8])}", code=reasons.MALFORMED, place=place, hint="paste these lines again"
        )
    return b"".join(pieces[n] for n in range(1, count + 1))


def _check(number: int, count: int, piece: bytes) -> int:
    return binascii.crc_hqx(f"{number}/{count}:".encode() + piece, 0xFFFF)
