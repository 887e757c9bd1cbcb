# SPDX-License-Identifier: Apache-2.0
"""EdgeHeal about itself: the guard lost, records damaged, an unwritable journal, a broken config, a fault of a part.

Duty: which of our own words are a symptom; the others are notes. Invariant: an unknown word is a note, never silence.
"""

from dataclasses import dataclass, field

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.signal import ConfigIs, SelfSaid
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

PARTS_MOST = 64
S = SymptomKind
# what -> symptom; the part is its subject
WORDS: dict[str, SymptomKind] = {
    "lost": S.AGENT_SELF,
    "damaged": S.RECORD_DAMAGED,
    "unwritable": S.AGENT_SELF,
    "fault": S.AGENT_SELF,
    "stuck": S.AGENT_SELF,
    "slow": S.AGENT_SELF,
    "memory": S.AGENT_SELF,
    "ring": S.AGENT_SELF,
    "too large": S.AGENT_SELF,
    "budget": S.AGENT_SELF,
    "dropped": S.AGENT_SELF,
    "twin": S.TWIN,
    "stale": S.TRUST_STALE,
    "rot": S.IMAGE_ROT,
    "differs": S.IMAGE_DIFFERS,
    "restart_cut": S.RESTART_CUT,
    "expires": S.AGENT_SELF,
    "certificate": S.AGENT_SELF,
}
LASTING = frozenset({"lost", "unwritable", "stuck", "slow", "memory", "ring", "twin", "stale", "expires", "certificate"})  # their end is told


@dataclass(slots=True)
class Itself:
    """`on`: "part:what" -> since; `config`: the place of the fault while the config is broken."""

    on: dict[str, int] = field(default_factory=dict)
    config: str = ""


def kind_of(signal: SelfSaid) -> SymptomKind | None:
    """The symptom of this word; None for a note."""
    if signal.part == "guard" and signal.what == "lost":
        return S.GUARD_LOST
    return WORDS.get(signal.what)


def said(mem: Itself, signal: SelfSaid, around: Around) -> tuple[Symptom, ...]:
    """A word about ourselves."""
    kind = kind_of(signal)
    if kind is None:
        return ()
    name = f"{signal.part}:{signal.what}"
    if signal.ok:
        return (Symptom(kind, "", signal.part, on=False),) if mem.on.pop(name, 0) else ()
    if signal.what in LASTING:
        if name in mem.on:
            return ()
        if len(mem.on) < PARTS_MOST:
            mem.on[name] = around.ns or 1
    fact = Evidence(EvidenceCode.REASON, round(signal.value, 3), 0.0, f"{signal.what} {signal.text}".strip()[:60])
    channel = Channel.GUARD if signal.part == "guard" else Channel.AGENT
    return (Symptom(kind, "", signal.part, channel=channel, evidence=(fact,), detail=signal.what),)


def config(mem: Itself, signal: ConfigIs) -> tuple[Symptom, ...]:
    """The device's config was read."""
    if signal.ok:
        was, mem.config = mem.config, ""
        return (Symptom(S.CONFIG_BROKEN, on=False),) if was else ()
    place = (signal.place or "?")[:60]
    if mem.config == place:
        return ()
    mem.config = place
    fact = Evidence(EvidenceCode.REASON, 0.0, 0.0, f"{place}: {signal.message}"[:100])
    return (Symptom(S.CONFIG_BROKEN, channel=Channel.AGENT, evidence=(fact,), detail=place),)
