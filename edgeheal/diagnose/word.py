# SPDX-License-Identifier: Apache-2.0
"""A rule's word on a cause, and the shape of a rule.

Duty: the values that every file of rules shares. Invariant: a factor above 1 speaks for the cause, below 1 against it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import CauseKind, EvidenceCode
from edgeheal.diagnose.scene import Scene


@dataclass(frozen=True, slots=True)
class Word:
    """Multiply the weight of `cause` by `factor`; `subject` names the part where it is not the app."""

    cause: CauseKind
    factor: float
    evidence: Evidence | None = None
    subject: str = ""


Rule = Callable[[Scene], Iterator[Word]]


def fact(code: EvidenceCode, value: float = 0.0, limit: float = 0.0, text: str = "", *, speaks_for: bool = True) -> Evidence:
    """A piece of evidence, rounded for the wire."""
    return Evidence(code, round(value, 3), round(limit, 3), text, speaks_for)
