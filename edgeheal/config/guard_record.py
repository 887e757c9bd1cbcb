# SPDX-License-Identifier: Apache-2.0
"""Config -> the guard's config record: plain values that the guard reads without a library.

Duty: the record that `guard.config_reader` answers with. Pure. Invariant: `image.records.pack` takes it; form version `v` 1.
"""

from typing import Any

from edgeheal.config.accounts import Accounts
from edgeheal.config.decode import key_name
from edgeheal.config.schema import App, Config, Limits, Reset
from edgeheal.core.policy import Budget
from edgeheal.detect.reset import REASONS

VERSION = 1


def guard_record(config: Config, accounts: Accounts) -> dict[str, Any]:
    """What the guard needs to know of the config."""
    guard = config.guard
    users: dict[str, int] = {part: uid for part, (uid, _) in accounts.parts.items()}
    users |= {f"{part}_gid": gid for part, (_, gid) in accounts.parts.items()} | {"group": accounts.people}
    return {
        "v": VERSION,
        "device": {"id": config.device.id, "tenant": config.device.tenant, "classes": list(config.device.classes)},
        "users": users,
        "apps": {name: _app(name, app, accounts) for name, app in config.apps.items()},
        "app_uids": list(guard.app_uids),
        "interpreters": list(guard.interpreters),
        "soak_min_s": guard.soak_min_s,
        "budgets": _budgets(guard.budgets),
        "reboots": guard.reboots,
        "watchdog": {
            "device": config.watchdog.device, "timeout_s": config.watchdog.timeout_s, "also": list(config.watchdog.also),
            "pretimeout_s": config.watchdog.pretimeout_s,
        },
        "boot": {"pstore": list(config.boot.pstore), "clear_pstore": config.boot.clear_pstore, "sources": [_source(n, r) for n, r in config.reset.items()]},
        "agent": {"spawn": guard.spawn_agent, "stuck_s": guard.stuck_s, "reboot": guard.reboots and config.remedies["reboot"].mode == "act"},
        "local_rollback": guard.local_rollback,
        "quota_bytes": guard.quota_bytes,
        "hooks": {"power": config.hooks.power},
        "policy_bounds": {"may": list(config.fleet.may), "budget_most": config.fleet.budget_most, "budget_window_s": config.fleet.budget_window_s},
        "stale_days": config.trust.stale_s // 86_400,
        "shared_keys": config.trust.shared_keys,
        "trust_keep": list(config.trust.keep),
        "healthy_ms": config.backoff.healthy_after_ms,
        "slow_retry_s": max(1, config.backoff.slow_retry_ms // 1_000),
        "start_grace_ms": config.probes.start_grace_ms,
    }  # fmt: skip


def _source(name: str, reset: Reset) -> list[Any]:
    """As `guard.witness_child` takes it; reasons as bits."""
    means = []
    for row in reset.means:
        value, *said = row.split(" ")
        means.append([value, sum(1 << REASONS.index(r) for r in REASONS if r.replace(" ", "-") in said)])
    return [name, reset.file, reset.form, reset.field, reset.mask, means, "attempts" if reset.attempts else "reason", reset.attempts]


def _app(name: str, app: App, accounts: Accounts) -> dict[str, Any]:
    uid, gid = accounts.apps[name]
    return {
        "uid": uid, "gid": gid, "groups": list(accounts.groups[name]), "actuates": app.actuates, "devices": list(app.devices),
        "network": app.network, "max_bytes": app.max_size_bytes, "max_inodes": app.max_inodes, "soak_s": app.soak_s,
        "needs": [[*need.split(":", 1), True] for need in app.needs] + [[*need.split(":", 1), False] for need in app.wants],
    } | _limits(app.limits)  # fmt: skip


def _limits(limits: Limits) -> dict[str, int]:
    return {
        "memory_kib": limits.memory_kib, "cpu_permille": limits.cpu_permille, "tasks": limits.tasks, "files": limits.files, "log_kib": limits.log_kib,
    }  # fmt: skip


def _budgets(budgets: Any) -> dict[str, list[list[int]]]:
    from dataclasses import fields

    def plain(rows: tuple[Budget, ...]) -> list[list[int]]:
        return [[b.most, b.per_s] for b in rows]

    return {key_name(f): plain(getattr(budgets, f.name)) for f in fields(budgets)}
