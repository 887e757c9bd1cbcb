# SPDX-License-Identifier: Apache-2.0
"""How far this device goes: modes, budgets, thresholds, waits. Made from config and `down/policy`, an input of `step`.

Duty: frozen values with the documented defaults, to plain and back. Invariant: all durations in seconds (`_s`) or ms (`_ms`).
"""

from dataclasses import dataclass, field, fields
from typing import Any

from edgeheal.core.kinds import Mode, RemedyKind


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `most` in `per_s` seconds of box time (0 = never)."""

    most: int
    per_s: int


@dataclass(frozen=True, slots=True)
class RemedyPolicy:
    """How one rung may be used. `probation_s`: the symptom must stay gone so long. `cost`: how much it disturbs, 0..1000."""

    mode: Mode = Mode.ACT
    budgets: tuple[Budget, ...] = ()
    probation_s: float = 60.0
    cool_down_s: float = 0.0
    cost: int = 10


def _ladder() -> dict[RemedyKind, RemedyPolicy]:
    k, p, b = RemedyKind, RemedyPolicy, Budget
    day = 86_400
    return {
        k.LOOK_AGAIN: p(cost=1, probation_s=30),
        k.RELOAD: p(cost=5, budgets=(b(3, 3_600),)),
        k.RESTART: p(cost=10, budgets=(b(5, 600), b(20, day))),
        k.CLEAN_RESTART: p(cost=20, budgets=(b(2, 3_600),)),
        k.RESTART_GROUP: p(cost=40, budgets=(b(3, 1_800),)),
        k.RESTORE_CONFIG: p(cost=60, budgets=(b(1, day),), probation_s=60),
        k.ROLLBACK: p(cost=100, budgets=(b(2, 7 * day),), probation_s=600),
        k.POWER_CYCLE: p(cost=120, budgets=(b(3, day),), mode=Mode.ASK),
        k.REBOOT: p(cost=400, budgets=(b(1, 6 * 3_600), b(3, 7 * day)), mode=Mode.ASK, probation_s=600),
        k.OS_ROLLBACK: p(cost=800, budgets=(b(1, 7 * day),), mode=Mode.OBSERVE, probation_s=3_600),
        k.SAFE_MODE: p(cost=900, budgets=(b(1, day),), mode=Mode.ASK),
        k.CALL: p(cost=1_000),
        k.HOLD: p(cost=2),
    }


@dataclass(frozen=True, slots=True)
class AppPolicy:
    """The device's word on one app. `mode` None: the device's; `soak_s` 0: the device's minimum."""

    mode: Mode | None = None
    remedies: dict[RemedyKind, Mode] = field(default_factory=dict)
    critical: bool = False
    actuates: bool | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a figure becomes a symptom."""

    disk_low_permille: int = 100
    disk_critical_permille: int = 30
    memory_low_permille: int = 80
    leak_warn_s: float = 21_600.0  # a limit reached sooner than this is a symptom
    leak_min_points: int = 12
    leak_min_window_s: float = 60.0
    crash_loop_exits: int = 5
    crash_loop_window_s: float = 600.0
    standstill_ms: int = 5_000
    temperature_c: float = 85.0
    foreign_restarts: int = 5
    foreign_window_s: float = 900.0
    link_down_s: float = 300.0
    clock_untrusted_s: float = 21_600.0


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it. `healthy_s`: a run so long counts as healthy, so the next restart is immediate."""

    mode: Mode = Mode.ACT
    remedies: dict[RemedyKind, RemedyPolicy] = field(default_factory=_ladder)
    apps: dict[str, AppPolicy] = field(default_factory=dict)
    thresholds: Thresholds = field(default_factory=Thresholds)
    healthy_s: float = 60.0
    backoff_first_s: float = 1.0
    backoff_cap_s: float = 300.0
    slow_retry_s: float = 900.0
    approval_s: float = 86_400.0
    start_grace_s: float = 60.0
    pressure_extensions: int = 3
    group_window_s: float = 5.0
    seed: int = 1
    version: int = 0
    hooks: tuple[str, ...] = ()  # hook points that exist here: a remedy without its hook is not offered

    def remedy(self, kind: RemedyKind) -> RemedyPolicy:
        """The rung's policy, the default where nothing is said."""
        return self.remedies.get(kind) or _ladder()[kind]

    def mode_of(self, app: str, kind: RemedyKind) -> Mode:
        """The mildest of device, app and remedy."""
        said = self.apps.get(app)
        modes = [self.mode, self.remedy(kind).mode]
        if said is not None:
            if said.mode is not None:
                modes.append(said.mode)
            if kind in said.remedies:
                modes[1] = said.remedies[kind]
        return min(modes)

    def to_plain(self) -> dict[str, Any]:
        """String-keyed map of plain values (enums as their numbers)."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["mode"] = int(self.mode)
        plain["hooks"] = list(self.hooks)
        plain["remedies"] = {
            str(int(k)): [int(r.mode), [[b.most, b.per_s] for b in r.budgets], r.probation_s, r.cool_down_s, r.cost] for k, r in self.remedies.items()
        }
        plain["apps"] = {
            n: [None if a.mode is None else int(a.mode), {str(int(k)): int(m) for k, m in a.remedies.items()}, a.critical, a.actuates]
            for n, a in self.apps.items()
        }
        plain["thresholds"] = {f.name: getattr(self.thresholds, f.name) for f in fields(self.thresholds)}
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Policy":
        """Back from `to_plain`; unknown keys of a newer version are left out."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in plain.items() if k in known}
        values["mode"] = Mode(values["mode"])
        values["hooks"] = tuple(values.get("hooks", ()))
        values["remedies"] = {
            RemedyKind(int(k)): RemedyPolicy(Mode(m), tuple(Budget(*b) for b in bs), prob, cool, cost)
            for k, (m, bs, prob, cool, cost) in values["remedies"].items()
        }
        values["apps"] = {
            n: AppPolicy(None if m is None else Mode(m), {RemedyKind(int(k)): Mode(v) for k, v in r.items()}, crit, act)
            for n, (m, r, crit, act) in values["apps"].items()
        }
        limits = {f.name for f in fields(Thresholds)}
        values["thresholds"] = Thresholds(**{k: v for k, v in values["thresholds"].items() if k in limits})
        return cls(**values)
