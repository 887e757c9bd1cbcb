# SPDX-License-Identifier: Apache-2.0
"""The ladder: which remedy can cure which cause, and what must hold before it is used.

Duty: two explicit tables and the preconditions. What to use now is `recover.choose`.
Invariants: a pair that is not in `CURES` cannot help and is never tried; no reboot for an app-class or a network cause;
the figures are prior beliefs (what one try would end), replaced by what this device learns.
"""

from dataclasses import dataclass

from edgeheal.core import reasons
from edgeheal.core.app import AppSpec
from edgeheal.core.kinds import CauseKind, RemedyKind
from edgeheal.core.policy import Policy
from edgeheal.recover.app import App

C, R = CauseKind, RemedyKind

CURES: dict[CauseKind, dict[RemedyKind, float]] = {
    C.UNKNOWN: {R.RESTART: 0.6, R.CLEAN_RESTART: 0.3, R.RESTORE_CONFIG: 0.2, R.ROLLBACK: 0.3},
    C.APP_CRASH: {R.RESTART: 0.85, R.CLEAN_RESTART: 0.4, R.RESTART_GROUP: 0.3, R.RESTORE_CONFIG: 0.2, R.ROLLBACK: 0.5},
    C.APP_HANG: {R.RESTART: 0.9, R.CLEAN_RESTART: 0.4, R.RESTART_GROUP: 0.3, R.RESTORE_CONFIG: 0.1, R.ROLLBACK: 0.4},
    C.APP_MEMORY: {R.RESTART: 0.9, R.RESTORE_CONFIG: 0.2, R.ROLLBACK: 0.6},
    C.APP_DESCRIPTORS: {R.RESTART: 0.9, R.RESTORE_CONFIG: 0.2, R.ROLLBACK: 0.6},
    C.APP_THREADS: {R.RESTART: 0.9, R.RESTORE_CONFIG: 0.2, R.ROLLBACK: 0.6},
    C.APP_BUSY: {R.LOOK_AGAIN: 0.3, R.RESTART: 0.5, R.ROLLBACK: 0.3},
    C.APP_CONFIG: {R.RELOAD: 0.4, R.RESTART: 0.05, R.RESTORE_CONFIG: 0.95, R.ROLLBACK: 0.2},
    C.APP_IMAGE: {R.RESTART: 0.15, R.CLEAN_RESTART: 0.1, R.ROLLBACK: 0.95},
    C.DEPENDENCY: {R.RESTART: 0.05, R.RESTART_GROUP: 0.3, R.HOLD: 0.9},
    C.PORT_HELD: {R.HOLD: 0.9},
    C.SENSOR: {R.POWER_CYCLE: 0.4},
    C.SENSOR_SCALE: {},
    C.BUS: {R.POWER_CYCLE: 0.6},
    C.SUPPLY: {R.HOLD: 0.9},
    C.DISK_FULL: {R.HOLD: 0.9},
    C.DISK_FAULT: {R.HOLD: 0.3},
    C.HOST_MEMORY: {R.RESTART: 0.5, R.HOLD: 0.4},
    C.HOST_LOAD: {R.LOOK_AGAIN: 0.5, R.HOLD: 0.6},
    C.CLOCK: {R.HOLD: 0.5},
    C.NETWORK: {R.HOLD: 0.9},
    C.BROKER: {R.HOLD: 0.9},
    C.PROBE: {R.LOOK_AGAIN: 0.3},
    C.FOREIGN_HAND: {R.RESTART: 0.9},
    C.KERNEL: {R.RESTART: 0.2, R.REBOOT: 0.8, R.OS_ROLLBACK: 0.3, R.SAFE_MODE: 0.3},
    C.WATCHDOG: {},
    C.POWER_LOSS: {},
    C.PERSON: {R.HOLD: 0.9},
    C.DEVICE_IO: {R.POWER_CYCLE: 0.7, R.REBOOT: 0.7},
    C.DEVICE_CONFIG: {R.HOLD: 0.9},
    C.AGENT: {},
    C.GUARD: {R.HOLD: 0.5},
    C.TWIN: {},
    C.OUR_REMEDY: {R.HOLD: 0.5},
    C.THERMAL: {R.HOLD: 0.8},
    C.TRUST: {},
}

HOOK_OF = {R.POWER_CYCLE: "power-cycle", R.OS_ROLLBACK: "os-rollback", R.SAFE_MODE: "safe-mode"}
# rungs that move or reset more than one app, and are left out where the app itself is gone from the picture
BOX_WIDE = frozenset({R.POWER_CYCLE, R.REBOOT, R.OS_ROLLBACK, R.SAFE_MODE})
APP_WIDE = frozenset({R.RELOAD, R.RESTART, R.CLEAN_RESTART, R.RESTART_GROUP, R.RESTORE_CONFIG, R.ROLLBACK})
_ENDING = frozenset({R.RESTART, R.CLEAN_RESTART, R.RESTART_GROUP, R.RESTORE_CONFIG, R.ROLLBACK})


@dataclass(frozen=True, slots=True)
class Stand:
    """What the preconditions look at: the app (None: the box itself), its manifest, policy, and what this incident did already."""

    app: App | None
    spec: AppSpec | None
    policy: Policy
    dependents: tuple[str, ...] = ()
    rolled_back: bool = False


def hinders(remedy: RemedyKind, stand: Stand) -> int:
    """Why `remedy` cannot be used here, as a `core.reasons` number; OK when nothing stands in the way."""
    app, spec = stand.app, stand.spec
    if remedy in HOOK_OF and HOOK_OF[remedy] not in stand.policy.hooks:
        return reasons.NOT_CONFIGURED
    if remedy not in APP_WIDE:
        return reasons.OK
    if app is None or app.removed:
        return reasons.NO_SUCH_APP
    if app.stuck and remedy in _ENDING:
        return reasons.UNKILLABLE
    match remedy:
        case R.RELOAD:
            if spec is None or not spec.can_reload:
                return reasons.NO_RELOAD
            return reasons.OK if app.up and app.ready else reasons.NOT_READY
        case R.RESTART_GROUP:
            return reasons.OK if stand.dependents else reasons.NOTHING_TO_DO
        case R.RESTORE_CONFIG:
            return reasons.OK if app.config_differs else reasons.NOTHING_TO_DO
        case R.ROLLBACK:
            return _hinders_rollback(app, spec, stand)
    return reasons.OK


def _hinders_rollback(app: App, spec: AppSpec | None, stand: Stand) -> int:
    if stand.rolled_back:
        return reasons.ALREADY  # the older one fails too: going back further cures nothing and costs data
    if app.other_good() is None:
        return reasons.LAST_GOOD
    if spec is not None and spec.downgrade == "no" and not app.in_trial:
        return reasons.SCHEMA
    return reasons.OK
