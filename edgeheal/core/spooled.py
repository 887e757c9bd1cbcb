# SPDX-License-Identifier: Apache-2.0
"""A stand-in: the record that speaks for others which the spool folded, dropped, lost or set aside.

Duty: the value that the spool hands to whoever encodes records (the wire), so that the fleet learns what is gone.
Invariant: `ranges` name every key it stands for, so that an acknowledgement is never stuck at a hole.
"""

from dataclasses import dataclass
from enum import IntEnum


class StandinKind(IntEnum):
    """Why others do not come themselves."""

    FOLDED = 1  # equal fingerprints, told once with a count; `body` is the newest of them
    DROPPED = 2  # the bound was reached: the oldest of the lowest severity went
    LOST = 3  # damaged on the medium: keys are known, contents are not
    SET_ASIDE = 4  # refused for good by the broker; kept as evidence, not sent again
    SUPERSEDED = 5  # an older revision of an incident whose newer one carries it whole: told in the newer one's frame only


@dataclass(frozen=True, slots=True)
class Span:
    """Records `first`..`last` (inclusive seqs) of one session."""

    session: bytes
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Standin:
    """`count` records with `severity` (core.kinds, the gravest of them); `first_s`, `last_s` wall labels, 0 = unknown; `reason` core.reasons."""

    kind: StandinKind
    ranges: tuple[Span, ...]
    count: int
    severity: int = 0
    fingerprint: bytes = b""
    first_s: int = 0
    last_s: int = 0
    reason: int = 0
    body: bytes = b""
