# SPDX-License-Identifier: Apache-2.0
"""Ranking: a scene in, the likely causes out, each with evidence for and against.

Duty: priors by symptom (`PRIORS`), factors by evidence (`rules.RULES`), normalised. It chooses no remedy.
Invariants: probabilities sum to at most 1, what is left is "unknown"; at most `CAUSES_MOST` causes are named, each at least
`LEAST`; the same scene ranks alike. Naive Bayes: prior odds times one likelihood ratio a rule, rules taken as independent.
"""

from collections.abc import Mapping
from math import floor

from edgeheal.core.incident import Cause, Evidence
from edgeheal.core.kinds import CauseKind, SymptomKind
from edgeheal.diagnose.rules import RULES
from edgeheal.diagnose.scene import Scene

CAUSES_MOST = 3
LEAST = 0.02
EVIDENCE_MOST = 6

C, S = CauseKind, SymptomKind

_CRASH = {C.APP_CRASH: 60.0, C.APP_CONFIG: 3.0, C.APP_IMAGE: 5.0, C.DEPENDENCY: 2.0, C.HOST_MEMORY: 1.0, C.KERNEL: 0.5, C.UNKNOWN: 8.0}
_SENSOR = {C.SENSOR: 60.0, C.BUS: 12.0, C.SUPPLY: 3.0, C.APP_CRASH: 5.0, C.APP_CONFIG: 3.0, C.APP_IMAGE: 3.0, C.UNKNOWN: 6.0}
_DISK = {C.DISK_FULL: 80.0, C.UNKNOWN: 8.0}
_FAULT = {C.DISK_FAULT: 75.0, C.SUPPLY: 8.0, C.UNKNOWN: 8.0}
_NET = {C.NETWORK: 80.0, C.DEVICE_CONFIG: 4.0, C.UNKNOWN: 8.0}
_BOOT = {C.POWER_LOSS: 40.0, C.WATCHDOG: 8.0, C.KERNEL: 8.0, C.SUPPLY: 6.0, C.PERSON: 4.0, C.UNKNOWN: 20.0}
_GROWTH = {C.APP_MEMORY: 70.0, C.APP_IMAGE: 6.0, C.APP_CONFIG: 2.0, C.UNKNOWN: 6.0}

PRIORS: dict[SymptomKind, Mapping[CauseKind, float]] = {
    S.EXIT: _CRASH,
    S.CRASH_LOOP: {C.APP_CRASH: 45.0, C.APP_CONFIG: 8.0, C.APP_IMAGE: 14.0, C.DEPENDENCY: 4.0, C.DEVICE_IO: 2.0, C.UNKNOWN: 8.0},
    S.LOG_CRASH: _CRASH,
    S.HANG: {C.APP_HANG: 65.0, C.APP_IMAGE: 4.0, C.HOST_LOAD: 4.0, C.APP_BUSY: 6.0, C.DEVICE_IO: 2.0, C.DEPENDENCY: 2.0, C.UNKNOWN: 6.0},
    S.START_FAILED: {C.APP_IMAGE: 25.0, C.APP_CONFIG: 15.0, C.APP_CRASH: 15.0, C.DEVICE_CONFIG: 10.0, C.UNKNOWN: 15.0},
    S.START_SLOW: {C.APP_HANG: 25.0, C.HOST_LOAD: 10.0, C.DEPENDENCY: 10.0, C.APP_IMAGE: 15.0, C.APP_CONFIG: 8.0, C.UNKNOWN: 15.0},
    S.PROBE_FAILED: {
        C.APP_HANG: 35.0,
        C.APP_CRASH: 10.0,
        C.APP_BUSY: 8.0,
        C.APP_IMAGE: 8.0,
        C.APP_CONFIG: 6.0,
        C.PROBE: 8.0,
        C.DEPENDENCY: 6.0,
        C.UNKNOWN: 10.0,
    },
    S.MEMORY_GROWTH: _GROWTH,
    S.MEMORY_LIMIT: _GROWTH,
    S.FD_GROWTH: {C.APP_DESCRIPTORS: 75.0, C.APP_IMAGE: 6.0, C.DEPENDENCY: 2.0, C.UNKNOWN: 6.0},
    S.THREAD_GROWTH: {C.APP_THREADS: 75.0, C.APP_IMAGE: 6.0, C.UNKNOWN: 6.0},
    S.CHILD_GROWTH: {C.APP_THREADS: 75.0, C.APP_IMAGE: 6.0, C.UNKNOWN: 6.0},
    S.ZOMBIES: {C.APP_CRASH: 50.0, C.APP_IMAGE: 10.0, C.UNKNOWN: 15.0},
    S.CPU_SPIN: {C.APP_BUSY: 40.0, C.APP_HANG: 30.0, C.APP_IMAGE: 8.0, C.UNKNOWN: 10.0},
    S.OOM_KILL: {C.APP_MEMORY: 50.0, C.HOST_MEMORY: 25.0, C.APP_IMAGE: 5.0, C.UNKNOWN: 5.0},
    S.SENSOR_MISSING: _SENSOR,
    S.SENSOR_STUCK: _SENSOR,
    S.SENSOR_RANGE: _SENSOR,
    S.SENSOR_JUMP: _SENSOR,
    S.SENSOR_NOISE: _SENSOR,
    S.SENSOR_DRIFT: _SENSOR,
    S.SENSOR_DEFAULT: _SENSOR,
    S.SENSOR_FAST: _SENSOR,
    S.SENSOR_SCALE: {C.SENSOR_SCALE: 70.0, C.SENSOR: 8.0, C.APP_IMAGE: 6.0, C.UNKNOWN: 6.0},
    S.LOG_ERROR: {C.UNKNOWN: 40.0, C.APP_CRASH: 20.0},
    S.DISK_SPACE: _DISK,
    S.DISK_INODES: _DISK,
    S.DISK_READONLY: _FAULT,
    S.DISK_ERRORS: _FAULT,
    S.HOST_MEMORY: {C.HOST_MEMORY: 75.0, C.UNKNOWN: 10.0},
    S.HOST_PRESSURE: {C.HOST_LOAD: 75.0, C.UNKNOWN: 10.0},
    S.HOST_FDS: {C.APP_DESCRIPTORS: 60.0, C.UNKNOWN: 15.0},
    S.HOST_PIDS: {C.APP_THREADS: 60.0, C.UNKNOWN: 15.0},
    S.TEMPERATURE: {C.THERMAL: 85.0, C.UNKNOWN: 8.0},
    S.UNDERVOLTAGE: {C.SUPPLY: 90.0, C.UNKNOWN: 5.0},
    S.CLOCK_STEP: {C.CLOCK: 90.0, C.UNKNOWN: 5.0},
    S.CLOCK_UNTRUSTED: {C.CLOCK: 70.0, C.NETWORK: 15.0, C.UNKNOWN: 8.0},
    S.CARRIER: _NET,
    S.ADDRESS: _NET,
    S.ROUTE: _NET,
    S.DNS: _NET,
    S.BROKER: {C.BROKER: 60.0, C.NETWORK: 15.0, C.DEVICE_CONFIG: 8.0, C.UNKNOWN: 8.0},
    S.UNPLANNED_BOOT: _BOOT,
    S.BOOT_LOOP: {C.KERNEL: 25.0, C.SUPPLY: 25.0, C.WATCHDOG: 15.0, C.UNKNOWN: 20.0},
    S.WATCHDOG: {C.WATCHDOG: 60.0, C.KERNEL: 20.0, C.UNKNOWN: 12.0},
    S.CONFIG_BROKEN: {C.DEVICE_CONFIG: 95.0},
    S.FOREIGN_RESTARTS: {C.FOREIGN_HAND: 90.0, C.UNKNOWN: 5.0},
    S.UNKILLABLE: {C.DEVICE_IO: 65.0, C.DISK_FAULT: 10.0, C.KERNEL: 15.0, C.UNKNOWN: 5.0},
    S.PORT_HELD: {C.PORT_HELD: 95.0},
    S.TRIAL_FAILED: {C.APP_IMAGE: 85.0, C.APP_CONFIG: 4.0, C.UNKNOWN: 6.0},
    S.IMAGE_DIFFERS: {C.DISK_FAULT: 40.0, C.PERSON: 15.0, C.UNKNOWN: 25.0},
    S.IMAGE_ROT: {C.DISK_FAULT: 65.0, C.SUPPLY: 10.0, C.UNKNOWN: 15.0},
    S.AGENT_SELF: {C.AGENT: 85.0, C.UNKNOWN: 8.0},
    S.GUARD_LOST: {C.GUARD: 85.0, C.UNKNOWN: 8.0},
    S.STANDSTILL: {C.HOST_LOAD: 60.0, C.UNKNOWN: 20.0},
    S.TWIN: {C.TWIN: 90.0, C.UNKNOWN: 5.0},
    S.DEPENDENCY: {C.DEPENDENCY: 85.0, C.UNKNOWN: 8.0},
    S.KERNEL_FAULT: {C.KERNEL: 55.0, C.DEVICE_IO: 12.0, C.DISK_FAULT: 8.0, C.HOST_LOAD: 5.0, C.UNKNOWN: 12.0},
    S.HARDWARE_ERROR: {C.BUS: 45.0, C.THERMAL: 8.0, C.SUPPLY: 12.0, C.UNKNOWN: 20.0},
    S.USB_RESET: {C.BUS: 45.0, C.SUPPLY: 20.0, C.DEVICE_IO: 15.0, C.UNKNOWN: 10.0},
    S.MOUNT_HANG: {C.DEVICE_IO: 60.0, C.NETWORK: 15.0, C.UNKNOWN: 12.0},
    S.FLASH_WEAR: {C.DISK_FAULT: 90.0},
    S.BASELINE: {C.UNKNOWN: 60.0, C.APP_BUSY: 15.0},
    S.TRUST_STALE: {C.TRUST: 90.0},
    S.RECORD_DAMAGED: {C.POWER_LOSS: 40.0, C.DISK_FAULT: 35.0, C.UNKNOWN: 12.0},
    S.APP_HELD: {C.TRUST: 50.0, C.APP_IMAGE: 30.0, C.UNKNOWN: 10.0},
    S.RESTART_CUT: {C.GUARD: 60.0, C.UNKNOWN: 15.0},
    S.LEFTOVERS: {C.APP_CRASH: 50.0, C.UNKNOWN: 20.0},
}
_ANY: Mapping[CauseKind, float] = {C.UNKNOWN: 1.0}


def rank(scene: Scene) -> tuple[Cause, ...]:
    """Causes, the most likely first."""
    weights = dict(PRIORS.get(scene.symptom.kind, _ANY))
    subjects: dict[CauseKind, str] = {}
    evidence: dict[CauseKind, list[Evidence]] = {}
    for rule in RULES:
        for word in rule(scene):
            weights[word.cause] = weights.get(word.cause, 0.5) * word.factor
            if word.evidence is not None:
                evidence.setdefault(word.cause, []).append(word.evidence)
            if word.subject:
                subjects[word.cause] = word.subject
    total = sum(weights.values()) or 1.0
    named = sorted(((w / total, k) for k, w in weights.items() if k is not C.UNKNOWN), key=lambda item: (-item[0], item[1]))
    return tuple(
        Cause(
            kind,
            floor(p * 10_000) / 10_000,
            subjects.get(kind, scene.symptom.subject if kind in (C.SENSOR, C.BUS, C.PROBE) else ""),
            tuple(evidence.get(kind, ())[:EVIDENCE_MOST]),
        )
        for p, kind in named[:CAUSES_MOST]
        if p >= LEAST
    )
