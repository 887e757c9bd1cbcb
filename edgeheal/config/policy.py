# SPDX-License-Identifier: Apache-2.0
"""Config -> `core.policy.Policy`: what the engine needs of it. Pure."""

import zlib

from edgeheal.config.schema import App, Config, Limit, Remedy
from edgeheal.core.kinds import Mode, RemedyKind
from edgeheal.core.policy import AppPolicy, Policy, RemedyPolicy, Thresholds


def policy_of(config: Config, *, version: int = 0, hooks: tuple[str, ...] = ()) -> Policy:
    """The policy that the files alone make; a signed one of the fleet goes on top of it. Its jitter differs from device to device.

    `hooks`: the points that exist here; a remedy without its hook is not offered.
    """
    start = Policy()
    back = config.backoff
    return Policy(
        mode=mode_of(config.mode),
        remedies=dict(start.remedies) | {kind_of(n): _remedy(r, start.remedy(kind_of(n))) for n, r in config.remedies.items()},
        apps={n: _app(a) for n, a in config.apps.items()},
        thresholds=_thresholds(config.thresholds),
        healthy_s=back.healthy_after_ms / 1_000,
        backoff_first_s=back.first_ms / 1_000,
        backoff_cap_s=back.cap_ms / 1_000,
        slow_retry_s=back.slow_retry_ms / 1_000,
        approval_s=float(config.approval_s),
        start_grace_s=config.probes.start_grace_ms / 1_000,
        pressure_extensions=config.pressure_extensions,
        group_window_s=config.group_window_ms / 1_000,
        seed=(zlib.crc32(f"{config.device.tenant}/{config.device.id}".encode()) & 0x7FFFFFFF) or 1,
        version=version,
        hooks=hooks,
    )


def mode_of(word: str) -> Mode:
    """The mode of a word of the config."""
    return Mode[word.upper()]


def kind_of(word: str) -> RemedyKind:
    """The remedy of a word of the config."""
    return RemedyKind[word.upper()]


def _remedy(said: Remedy, start: RemedyPolicy) -> RemedyPolicy:
    return RemedyPolicy(mode_of(said.mode), said.budget, said.probation_ms / 1_000, said.cool_down_ms / 1_000, start.cost)


def _app(app: App) -> AppPolicy:
    remedies = {kind_of(n): mode_of(m) for n, m in app.remedies.items()}
    return AppPolicy(mode_of(app.mode) if app.mode else None, remedies, app.critical, actuates_of(app))


def actuates_of(app: App) -> bool:
    """Whether it moves something: an app with devices and no word does."""
    return bool(app.devices) if app.actuates is None else app.actuates


def _thresholds(limit: Limit) -> Thresholds:
    loop, foreign = limit.crash_loop[0], limit.foreign_restarts[0]
    return Thresholds(
        disk_low_permille=limit.disk_low_permille, disk_critical_permille=limit.disk_critical_permille,
        memory_low_permille=limit.memory_low_permille, leak_warn_s=float(limit.leak_warn_s), leak_min_points=limit.leak_points,
        leak_min_window_s=float(limit.leak_window_s), crash_loop_exits=loop.most, crash_loop_window_s=float(loop.per_s),
        standstill_ms=limit.standstill_ms, temperature_c=float(limit.temperature_c), foreign_restarts=foreign.most,
        foreign_window_s=float(foreign.per_s), link_down_s=limit.link_down_ms / 1_000, clock_untrusted_s=float(limit.clock_untrusted_s),
    )  # fmt: skip
