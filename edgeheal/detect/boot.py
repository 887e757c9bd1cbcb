# SPDX-License-Identifier: Apache-2.0
"""Boots that nobody ordered, and boots that come too often.

Duty: from the boot's reasons to a symptom. Healthy look-alikes: an ordered reboot, a clean shutdown.
Invariant: counted in box time across boots; each boot is judged once.
"""

from dataclasses import dataclass, field

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.signal import Booted
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

LOOP_BOOTS = 3
LOOP_S = 3_600
BOOTS_MOST = 16


@dataclass(slots=True)
class Boots:
    """`boot`: the one judged last. `unplanned`: box seconds. `at_ns`: when this boot was told."""

    boot: str = ""
    unplanned: list[int] = field(default_factory=list)
    at_ns: int = 0


def booted(mem: Boots, signal: Booted, around: Around) -> tuple[Symptom, ...]:
    """Why we booted."""
    if signal.boot and signal.boot == mem.boot:
        return ()
    mem.boot, mem.at_ns = signal.boot, around.ns
    if signal.ordered_id or signal.clean:
        return ()
    box_s = around.now.box_s
    mem.unplanned = [*[t for t in mem.unplanned if t > box_s - LOOP_S][-(BOOTS_MOST - 1) :], box_s]
    reasons = sorted((r for r in signal.reasons if len(r) == 2 and isinstance(r[1], int)), key=lambda r: -r[1])
    name = reasons[0][0] if reasons else ""
    n = len(mem.unplanned)
    fact = Evidence(EvidenceCode.BOOTS_IN_WINDOW, n, LOOP_BOOTS, name)
    if n >= LOOP_BOOTS:
        return (Symptom(SymptomKind.BOOT_LOOP, channel=Channel.KERNEL, evidence=(fact,), detail=name, serious=True),)
    kind = SymptomKind.WATCHDOG if name == "watchdog" else SymptomKind.UNPLANNED_BOOT
    return (Symptom(kind, channel=Channel.KERNEL, evidence=(fact,), detail=name),)
