# SPDX-License-Identifier: Apache-2.0
"""The way to the fleet, layer by layer.

Duty: name the lowest layer that is down, once it stayed down. Healthy look-alike: a short outage (a broker restarted, a roaming modem).
Invariant: an outage is never a reason to act on an app; it is told when it is over, or while another way exists.
"""

from dataclasses import dataclass, field

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import LinkIs
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

HELD_S = 300
LAYERS = ("carrier", "address", "route", "dns", "tcp", "tls", "broker", "controller")
KINDS = {"carrier": SymptomKind.CARRIER, "address": SymptomKind.ADDRESS, "route": SymptomKind.ROUTE, "dns": SymptomKind.DNS}
NETWORK = LAYERS[:4]


@dataclass(slots=True)
class Link:
    """`down`: layer -> since (mono ns). `told`: the symptom that is on, 0 = none."""

    down: dict[str, int] = field(default_factory=dict)
    told: int = 0


def lowest(mem: Link) -> str:
    """The lowest layer that is down, "" when none is."""
    return next((layer for layer in LAYERS if layer in mem.down), "")


def heard(mem: Link, signal: LinkIs, around: Around) -> tuple[Symptom, ...]:
    """A layer went up or down."""
    if signal.layer not in LAYERS:
        return ()
    if not signal.up:
        mem.down.setdefault(signal.layer, around.ns)
        return ()
    mem.down.pop(signal.layer, None)
    if signal.layer in ("broker", "controller"):  # what is above works, so what is below does
        for layer in LAYERS[: LAYERS.index(signal.layer)]:
            mem.down.pop(layer, None)
    if mem.told and not lowest(mem):
        kind, mem.told = SymptomKind(mem.told), 0
        return (Symptom(kind, on=False),)
    return ()


def due(mem: Link) -> int:
    """When an outage has lasted long enough to be told."""
    return 0 if mem.told or not mem.down else min(mem.down.values()) + HELD_S * NS


def tick(mem: Link, around: Around) -> tuple[Symptom, ...]:
    """An outage that lasted."""
    at = due(mem)
    if not at or around.ns < at:
        return ()
    layer = lowest(mem)
    kind = KINDS.get(layer, SymptomKind.BROKER)
    mem.told = int(kind)
    fact = Evidence(EvidenceCode.LINK_DOWN_S, round((around.ns - mem.down[layer]) / NS), HELD_S, layer)
    return (Symptom(kind, channel=Channel.AGENT, evidence=(fact,), detail=layer, detect_ms=HELD_S * 1000),)
