# SPDX-License-Identifier: Apache-2.0
"""The way to the fleet, layer by layer.

Duty: name the lowest layer that is down, once it stayed down. Healthy look-alike: a short outage (a broker restarted, a roaming modem).
Invariants: an outage is never a reason to act on an app; it is told when it is over, or while another way exists. A layer that fails shows
that those below it on the same way work: a refused connect had an address to go to, so the name was found.
"""

from dataclasses import dataclass, field

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import LinkIs
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

LAYERS = ("carrier", "address", "route", "dns", "tcp", "tls", "broker", "controller")
KINDS = {"carrier": SymptomKind.CARRIER, "address": SymptomKind.ADDRESS, "route": SymptomKind.ROUTE, "dns": SymptomKind.DNS}
NETWORK = LAYERS[:4]
WAY = LAYERS[3:7]  # what one connect goes through, in this order


@dataclass(slots=True)
class Link:
    """`down`: layer -> since (mono ns). `told`: the symptom that is on, 0 = none; `layer`: what it was told of."""

    down: dict[str, int] = field(default_factory=dict)
    told: int = 0
    layer: str = ""


def lowest(mem: Link) -> str:
    """The lowest layer that is down, "" when none is."""
    return next((layer for layer in LAYERS if layer in mem.down), "")


def heard(mem: Link, signal: LinkIs, around: Around) -> tuple[Symptom, ...]:
    """A layer went up or down."""
    if signal.layer not in LAYERS:
        return ()
    if not signal.up:
        mem.down.setdefault(signal.layer, around.ns)
        below = WAY[: WAY.index(signal.layer)] if signal.layer in WAY else ()
    else:
        mem.down.pop(signal.layer, None)
        # what is above works, so what is below does
        below = LAYERS[: LAYERS.index(signal.layer)] if signal.layer in ("broker", "controller") else ()
    for layer in below:
        mem.down.pop(layer, None)
    return _over(mem) if mem.told and mem.layer not in mem.down else ()


def _over(mem: Link) -> tuple[Symptom, ...]:
    kind, mem.told, mem.layer = SymptomKind(mem.told), 0, ""
    return (Symptom(kind, on=False),)


def due(mem: Link, around: Around) -> int:
    """When an outage has lasted long enough to be told, or to be told of a lower layer than it was."""
    layer = lowest(mem)
    return 0 if not layer or layer == mem.layer else mem.down[layer] + round(around.limits.link_down_s * NS)


def tick(mem: Link, around: Around) -> tuple[Symptom, ...]:
    """An outage that lasted."""
    at = due(mem, around)
    if not at or around.ns < at:
        return ()
    over = _over(mem) if mem.told else ()
    mem.layer = layer = lowest(mem)
    kind = KINDS.get(layer, SymptomKind.BROKER)
    mem.told = int(kind)
    held_s = around.limits.link_down_s
    fact = Evidence(EvidenceCode.LINK_DOWN_S, round((around.ns - mem.down[layer]) / NS), held_s, layer)
    return (*over, Symptom(kind, channel=Channel.AGENT, evidence=(fact,), detail=layer, detect_ms=round(held_s * 1000)))
