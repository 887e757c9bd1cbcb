# SPDX-License-Identifier: Apache-2.0
"""Who needs whom: the graph of `needs` between apps.

Duty: dependents and what is needed, in order. Invariants: an unknown name is no edge; a cycle ends the walk, never the engine.
"""

from collections.abc import Mapping

from edgeheal.core.app import AppSpec


def needed_by(app: str, catalog: Mapping[str, AppSpec]) -> tuple[str, ...]:
    """Apps that need `app`, directly or not, nearest first: the order in which they are started again."""
    if not any(spec.needs for spec in catalog.values()):
        return ()
    found: list[str] = []
    wave = [app]
    while wave:
        wave = [name for name, spec in catalog.items() if name != app and name not in found and any(n in wave for n in hard_needs(spec, "app"))]
        found += wave
    return tuple(found)


def hard_needs(spec: AppSpec, kind: str) -> tuple[str, ...]:
    """Names that the app needs hard, of one kind."""
    return tuple(n.name for n in spec.needs if n.kind == kind and n.hard)


def wants(spec: AppSpec, kind: str) -> bool:
    """Whether the app says at all that it uses something of this kind (network, time)."""
    return any(n.kind == kind for n in spec.needs)
