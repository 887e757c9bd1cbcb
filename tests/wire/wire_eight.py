# SPDX-License-Identifier: Apache-2.0
"""The eight kinds of incident that sizes are stated for, with every field of the summary table filled as such an incident fills it."""

from edgeheal.core.incident import Cause, Evidence, Incident, Tried
from edgeheal.core.kinds import CauseKind as C
from edgeheal.core.kinds import ChangeKind as H
from edgeheal.core.kinds import EvidenceCode as E
from edgeheal.core.kinds import ImageStatus, IncidentState, Mode, Need, Severity, SymptomKind
from edgeheal.core.kinds import Outcome as O
from edgeheal.core.kinds import RemedyKind as R

SESSION = bytes.fromhex("a1b2c3d4e5f6")
NOW_NS = 90_000 * 10**9
IMAGE = "4f1e0d9c" * 8


def _of(number: int, symptom: SymptomKind, **more: object) -> Incident:
    base = {
        "app": "modbus-gw",
        "state": IncidentState.RESOLVED,
        "severity": Severity.WARNING,
        "need": Need.NOTHING,
        "mode": Mode.ACT,
        "fingerprint": bytes.fromhex("9f8e7d6c5b4a3928"),
        "opened_ns": NOW_NS - 75 * 10**9,
        "opened_s": 1_795_600_123,
        "opened_box_s": 1_234_567,
        "trusted": True,
        "revision": 2,
        "closed_ns": NOW_NS,
        "session": SESSION,
        "image": IMAGE,
        "image_version": "2.4.1",
        "image_status": ImageStatus.GOOD,
    }
    return Incident(number, symptom=symptom, **(base | more))


EIGHT: dict[str, Incident] = {
    "process crash": _of(
        17, SymptomKind.EXIT, downtime_ms=1_612, detect_ms=3, recurrence=3,
        causes=(Cause(C.APP_CRASH, 0.81), Cause(C.APP_CONFIG, 0.12), Cause(C.APP_IMAGE, 0.07)),
        evidence=(Evidence(E.EXIT_SIGNAL, 11), Evidence(E.RUN_SECONDS, 81_377), Evidence(E.FRAMES, 0, 0, "poller.py:read_block")),
        change=H.CONFIG, change_before_s=5_200, tried=(Tried(R.RESTART, O.CURED, 1.4),),
    ),
    "out of memory": _of(
        18, SymptomKind.OOM_KILL, downtime_ms=1_905, detect_ms=2,
        causes=(Cause(C.APP_MEMORY, 0.74), Cause(C.HOST_MEMORY, 0.2)),
        evidence=(Evidence(E.OOM, 1), Evidence(E.MEMORY_KIB, 261_944, 262_144), Evidence(E.MEMORY_SLOPE_KIB_H, 18_433.5)),
        change=H.IMAGE, change_before_s=412_000, tried=(Tried(R.RESTART, O.CURED, 1.7),),
    ),
    "sensor stuck": _of(
        19, SymptomKind.SENSOR_STUCK, state=IncidentState.ESCALATED, severity=Severity.CRITICAL, need=Need.VISIT, closed_ns=0, gap_ms=2_040_000,
        subject="meter 2", recurrence=3, causes=(Cause(C.SENSOR, 0.82, "meter 2"), Cause(C.BUS, 0.11), Cause(C.APP_HANG, 0.07)),
        evidence=(Evidence(E.SENSOR_SAME_N, 120, 10, "meter 2"), Evidence(E.SENSOR_VALUE, 21.25, 0, "meter 2"), Evidence(E.SIBLINGS_OK, 2)),
        change=H.BOOT, change_before_s=1_036_800, tried=(Tried(R.POWER_CYCLE, O.FAILED, 3.2, target="usb 1-1.2"),), planned=R.CALL,
    ),
    "watchdog reset": _of(
        20, SymptomKind.WATCHDOG, app="", severity=Severity.ERROR, need=Need.LOOK, downtime_ms=48_300, trusted=False, image="", image_version="",
        image_status=ImageStatus.NONE, causes=(Cause(C.WATCHDOG, 0.66), Cause(C.KERNEL, 0.22), Cause(C.SUPPLY, 0.12)),
        evidence=(Evidence(E.BOOTS_IN_WINDOW, 2, 3), Evidence(E.HOST_PRESSURE_PERMILLE, 940), Evidence(E.UNDERVOLTAGE_MS, 0, speaks_for=False)),
        change=H.AGENT, change_before_s=91_000, recurrence=2, tried=(Tried(R.REBOOT, O.CURED, 41.0),),
    ),
    "crash loop to rollback": _of(
        21, SymptomKind.CRASH_LOOP, severity=Severity.ERROR, downtime_ms=14_200, detect_ms=2, revision=5, image_status=ImageStatus.BLOCKED,
        causes=(Cause(C.APP_IMAGE, 0.93), Cause(C.APP_CONFIG, 0.05)),
        evidence=(Evidence(E.EXITS_IN_WINDOW, 5, 5), Evidence(E.EXIT_CODE, 1), Evidence(E.IMAGE_CHANGED_S, 38)),
        change=H.IMAGE, change_before_s=38,
        tried=(*(Tried(R.RESTART, O.FAILED, s) for s in (0.4, 1.1, 2.3, 3.9)), Tried(R.ROLLBACK, O.CURED, 2.9, target="2.3.9")),
    ),
    "config rollback": _of(
        22, SymptomKind.PROBE_FAILED, severity=Severity.ERROR, downtime_ms=21_400, gap_ms=21_400, detect_ms=9_020, revision=4, subject="http",
        causes=(Cause(C.APP_CONFIG, 0.88), Cause(C.DEPENDENCY, 0.07, "mqtt-bridge"), Cause(C.APP_IMAGE, 0.05)),
        evidence=(Evidence(E.PROBE_MISSES, 3, 3, "http"), Evidence(E.CONFIG_CHANGED_S, 64), Evidence(E.EXIT_CODE, 78)),
        change=H.CONFIG, change_before_s=64,
        tried=(Tried(R.RELOAD, O.FAILED, 2.0, reason=96), Tried(R.RESTART, O.FAILED, 6.1), Tried(R.RESTORE_CONFIG, O.CURED, 1.3)),
    ),
    "disk full": _of(
        23, SymptomKind.DISK_SPACE, app="", severity=Severity.ERROR, need=Need.LOOK, state=IncidentState.ESCALATED, closed_ns=0, subject="/var",
        image="", image_version="", image_status=ImageStatus.NONE, causes=(Cause(C.DISK_FULL, 0.95, "/var"),),
        evidence=(Evidence(E.DISK_FREE_PERMILLE, 18, 30, "/var"), Evidence(E.HOURS_TO_LIMIT, 2.4), Evidence(E.APP_ALIVE, 1)),
        also=("modbus-gw", "historian"), planned=R.CALL, change=H.RESTART, change_before_s=7_200,
    ),
    "network loss": _of(
        24, SymptomKind.CARRIER, app="", severity=Severity.INFO, subject="wwan0", gap_ms=0, image="", image_version="", image_status=ImageStatus.NONE,
        causes=(Cause(C.NETWORK, 0.9, "wwan0"), Cause(C.SUPPLY, 0.06), Cause(C.BROKER, 0.04)),
        evidence=(Evidence(E.LINK_DOWN_S, 423, 0, "wwan0"), Evidence(E.PROBES_OK, 6, 6), Evidence(E.APP_ALIVE, 3)),
        recurrence=12, tried=(Tried(R.HOLD, O.CURED, 423.0),), change=H.NETWORK, change_before_s=423,
    ),
}  # fmt: skip
