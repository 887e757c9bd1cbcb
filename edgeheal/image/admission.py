# SPDX-License-Identifier: Apache-2.0
"""Admission: the one function that every image passes on every way into running.

Duty: facts in, a core.reasons code out. Pure: no clock (nothing expires), no disk, no signature arithmetic.
Invariants: what comes new is judged by the newest trust; what was admitted under version k is judged against k, and falls only by
id or floor; floors compare as (trust epoch, security counter) and click only at mark-good.
"""

from dataclasses import dataclass

from edgeheal.core import reasons
from edgeheal.image.manifest import Manifest
from edgeheal.trust.document import RELEASE, Trust

Floor = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the device knows. `under`: the version that admitted the image, None when it comes new. `signers`: proven keys."""

    manifest: Manifest
    image: bytes
    signers: frozenset[bytes]
    newest: Trust
    under: Trust | None
    device: tuple[str, ...]
    floor: Floor
    blocked: frozenset[bytes]
    interpreters: tuple[str, ...]


def judge(facts: Facts) -> int:
    """The first reason that stands in the way, in the order of proof; OK when none does."""
    manifest = facts.manifest
    signed = (facts.under or facts.newest).judge(facts.signers, RELEASE, manifest.app)
    if signed != reasons.OK:
        return signed
    if not set(manifest.device) & set(facts.device):
        return reasons.WRONG_DEVICE
    if facts.image in facts.newest.revoked_ids or manifest.tree_run in facts.newest.revoked_ids:
        return reasons.REVOKED
    if facts.image in facts.blocked or manifest.tree_run in facts.blocked:
        return reasons.BLOCKED
    trust_floor = facts.newest.floor(manifest.app)
    floor = standing(facts.floor, trust_floor) if facts.under else arriving(facts.floor, trust_floor)
    if manifest.security_counter < floor[1]:
        return reasons.BELOW_FLOOR
    if any(word.startswith("/") and word not in facts.interpreters for _, word in manifest.programs()):
        return reasons.NOT_CONFIGURED
    return reasons.OK


def kept(facts: Facts) -> bool:
    """Whether a revoked image may run on where nothing else is admitted (trust's `keep`)."""
    return facts.image in facts.newest.keep or facts.manifest.tree_run in facts.newest.keep


def standing(floor: Floor, trust_floor: Floor) -> Floor:
    """The floor for what is admitted already: the ratchet; a higher epoch in trust lowers it at once, and never raises it."""
    return (trust_floor[0], min(floor[1], trust_floor[1])) if trust_floor[0] > floor[0] else floor


def arriving(floor: Floor, trust_floor: Floor) -> Floor:
    """The floor for what comes new: trust's word counts at once, since refusing a newcomer takes nothing from the device."""
    return max(floor, trust_floor)


def marked(floor: Floor, trust_floor: Floor, manifest: Manifest) -> Floor:
    """The floor after mark-good: max(floor, min(max(manifest's minimum, trust floor), the counter just marked))."""
    now = standing(floor, trust_floor)
    demanded = max(manifest.min_security_counter, trust_floor[1] if trust_floor[0] >= floor[0] else 0)
    return max(now, (now[0], min(demanded, manifest.security_counter)))
