# SPDX-License-Identifier: Apache-2.0
"""Boots that nobody ordered, and boots that come too often.

Duty: from the boot's verdict (`detect.reset`) to a symptom. Healthy look-alikes: an ordered reboot, a clean shutdown, the first boot seen.
Invariants: counted in box time across boots, by the guard where it says so; each boot is judged once; a loop is over once the box has stayed up
for as long as boots are counted.
"""

from dataclasses import dataclass, field

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import Booted
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around
from edgeheal.detect.reset import DOG

LOOP_BOOTS = 3
LOOP_S = 3_600
BOOTS_MOST = 16
TEXT_MOST = 60


@dataclass(slots=True)
class Boots:
    """`boot`: the one judged last. `unplanned`: box seconds. `at_ns`: when this boot was told. `said`: its verdict, for people.

    `loop_ns`: when a loop that is on is over, 0 = none is; `answers` and `suspect` as the guard said.
    """

    boot: str = ""
    unplanned: list[int] = field(default_factory=list)
    at_ns: int = 0
    said: str = ""
    loop_ns: int = 0
    answers: int = 0
    suspect: str = ""


def booted(mem: Boots, signal: Booted, around: Around) -> tuple[Symptom, ...]:
    """Why we booted."""
    if signal.boot and signal.boot == mem.boot:
        return ()
    mem.boot, mem.at_ns = signal.boot, around.ns
    reasons = sorted((r for r in signal.reasons if len(r) == 2 and isinstance(r[1], int)), key=lambda r: -r[1])
    name = reasons[0][0] if reasons else ""
    mem.said = signal.verdict or name
    mem.answers, mem.suspect = signal.answers, signal.suspect
    if signal.ordered_id or signal.clean:
        return ()
    box_s = around.now.box_s
    mem.unplanned = [*[t for t in mem.unplanned if t > box_s - LOOP_S][-(BOOTS_MOST - 1) :], box_s]
    n = signal.unplanned if signal.unplanned >= 0 else len(mem.unplanned)
    fact = Evidence(EvidenceCode.BOOTS_IN_WINDOW, n, LOOP_BOOTS, name)
    facts = (fact, *(Evidence(EvidenceCode.BOOT_WITNESS, text=says[:TEXT_MOST]) for says in signal.seen[:1] if isinstance(says, str)))
    detail = f"{name} {signal.crash}".strip() if signal.crash else name
    if n >= LOOP_BOOTS:
        mem.loop_ns = around.ns + LOOP_S * NS
        return (Symptom(SymptomKind.BOOT_LOOP, channel=Channel.KERNEL, evidence=facts, detail=detail, serious=True),)
    kind = SymptomKind.WATCHDOG if name == DOG else SymptomKind.UNPLANNED_BOOT
    return (Symptom(kind, channel=Channel.KERNEL, evidence=facts, detail=detail),)


def due(mem: Boots) -> int:
    """When a loop is over, 0 = none is on."""
    return mem.loop_ns


def tick(mem: Boots, around: Around) -> tuple[Symptom, ...]:
    """It has stayed up."""
    if not mem.loop_ns or around.ns < mem.loop_ns:
        return ()
    mem.loop_ns = 0
    return (Symptom(SymptomKind.BOOT_LOOP, on=False),)
