# SPDX-License-Identifier: Apache-2.0
"""The serial lines that sensors speak on: away, or held by somebody else.

Duty: from the adapter's words on a line to a symptom of the box with a beginning and an end; the incident then has the outage's length.
Healthy look-alike: an adapter that is back before it was missed. Invariants: bounded; who holds a line is told as he was found.
"""

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.signal import SelfSaid
from edgeheal.core.symptom import Symptom

PART = "line:"
LINES_MOST = 32
KINDS = {"missing": SymptomKind.SENSOR_MISSING, "held": SymptomKind.PORT_HELD}


def said(mem: dict[str, str], signal: SelfSaid) -> tuple[Symptom, ...]:
    """A word about a line. `mem`: line -> what is wrong with it."""
    line = signal.part.removeprefix(PART)
    before = mem.get(line, "")
    if signal.ok:
        mem.pop(line, None)
        return (Symptom(KINDS[before], "", signal.part, on=False),) if before else ()
    if signal.what not in KINDS or signal.what == before or (not before and len(mem) >= LINES_MOST):
        return ()
    mem[line] = signal.what
    found = (Symptom(KINDS[before], "", signal.part, on=False),) if before else ()
    if signal.what == "held":
        fact = Evidence(EvidenceCode.PORT_HOLDER_PID, _pid(signal.text), 0, signal.text[:60])
    else:
        fact = Evidence(EvidenceCode.LINK_DOWN_S, round(signal.value, 3), 0, line[:40])
    return (
        *found,
        Symptom(KINDS[signal.what], "", signal.part, channel=Channel.KERNEL, evidence=(fact,), detail=signal.what, detect_ms=round(signal.value * 1000)),
    )


def _pid(text: str) -> int:
    """The first number of `held by 4242 (minicom)`."""
    return next((int(word) for word in text.replace("[", " ").replace("]", " ").split() if word.isdigit()), 0)
