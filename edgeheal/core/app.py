# SPDX-License-Identifier: Apache-2.0
"""What an app is and promises, as the engine sees it: the manifest's words joined with the device's.

Duty: frozen values, to plain and back. Who reads manifests is `image`, who joins them is `agent`.
Invariant: the image says *what*, the device's policy says *how far*; this is the *what*.
"""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """A probe: `means` live/ready/start, `kind` exec/http/tcp/freshness/heartbeat, `target` by kind, times in ms."""

    name: str
    means: str = "live"
    kind: str = "exec"
    target: str = ""
    every_ms: int = 10_000
    timeout_ms: int = 3_000
    misses: int = 3


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric the app promises, or a sensor that we read: value = integer x 10^exp; 0 for every_ms, stuck_ms, step_max, rate_max = not promised.

    `rate_max`: most change a second. `learn_ms`: after so long what is unusual here is a symptom, 0 = never. `sibling`: the one beside it that
    measures the same. `source`: the device it is a channel of, `bus`: the line that the device is on, `power`: the line of
    `hooks/power-cycle.targets` that feeds it, 0 = none. `scale`, `offset`: value = raw x scale + offset, where we know. `ours`: read by EdgeHeal.
    """

    name: str
    unit: str = ""
    exp: int = 0
    low: float | None = None
    high: float | None = None
    step_max: float = 0.0
    every_ms: int = 0
    stuck_ms: int = 0
    rate_max: float = 0.0
    learn_ms: int = 0
    sibling: str = ""
    source: str = ""
    bus: str = ""
    power: int = 0
    scale: float = 1.0
    offset: float = 0.0
    ours: bool = False


@dataclass(frozen=True, slots=True)
class NeedSpec:
    """What it needs: `kind` app/device/network/time; a hard one is waited for."""

    kind: str
    name: str
    hard: bool = True


@dataclass(frozen=True, slots=True)
class AppSpec:
    """One app of the catalog. Memory limit KiB, times ms or s as named; `downgrade` yes/ask/no for its data."""

    name: str
    image: str = ""
    version: str = ""
    ready: str = "start"
    start_ms: int = 60_000
    stop_ms: int = 10_000
    heartbeat_ms: int = 0
    can_reload: bool = False
    memory_kib: int = 0
    files: int = 0
    tasks: int = 0
    soak_s: int = 86_400
    actuates: bool = False
    has_config: bool = False
    downgrade: str = "yes"
    schema: int = 0
    done: tuple[int, ...] = ()
    probes: tuple[ProbeSpec, ...] = ()
    metrics: tuple[MetricSpec, ...] = ()
    needs: tuple[NeedSpec, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """String-keyed map of plain values."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("probes", "metrics", "needs"):
            plain[name] = [{f.name: getattr(x, f.name) for f in fields(x)} for x in plain[name]]
        plain["done"] = list(self.done)
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "AppSpec":
        """Back from `to_plain`; unknown keys of a newer version are left out."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in plain.items() if k in known}
        values["done"] = tuple(values.get("done", ()))
        for name, kind in (("probes", ProbeSpec), ("metrics", MetricSpec), ("needs", NeedSpec)):
            values[name] = tuple(kind(**x) for x in values.get(name, ()))
        return cls(**values)
