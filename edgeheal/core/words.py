# SPDX-License-Identifier: Apache-2.0
"""Words for codes: what each kind is called on every screen, page and report. Pure: numbers in, words out.

Duty: one wording for symptoms, causes, remedies, outcomes, evidence, needs, severities; the sentences built out of them.
Not its duty: layout, columns, escaping of what came from outside (`cli.render`).
Invariants: every known number has a word (a test counts them); an unknown number is shown as its number, never an error.
"""

from collections.abc import Iterable, Sequence

from edgeheal.core import reasons
from edgeheal.core.incident import Cause, Evidence, Incident, Tried
from edgeheal.core.kinds import (
    ActionCode,
    CauseKind,
    ChangeKind,
    EvidenceCode,
    ImageStatus,
    IncidentState,
    Mode,
    Need,
    Outcome,
    RemedyKind,
    ResultState,
    Severity,
    Shown,
    SymptomKind,
)

_S, _C, _R, _O, _E = SymptomKind, CauseKind, RemedyKind, Outcome, EvidenceCode

SYMPTOMS: dict[SymptomKind, str] = {
    _S.EXIT: "exited", _S.CRASH_LOOP: "crash loop", _S.HANG: "hangs", _S.START_FAILED: "does not start", _S.START_SLOW: "slow start",
    _S.PROBE_FAILED: "probe failed", _S.MEMORY_GROWTH: "memory grows", _S.FD_GROWTH: "descriptors grow", _S.THREAD_GROWTH: "threads grow",
    _S.CHILD_GROWTH: "children grow", _S.ZOMBIES: "zombies", _S.CPU_SPIN: "spins", _S.OOM_KILL: "out of memory", _S.SENSOR_MISSING: "silent",
    _S.SENSOR_STUCK: "stuck", _S.SENSOR_RANGE: "out of range", _S.SENSOR_JUMP: "jumps", _S.SENSOR_NOISE: "noisy", _S.SENSOR_DRIFT: "drifts",
    _S.SENSOR_SCALE: "changed scale", _S.SENSOR_DEFAULT: "sends a default", _S.SENSOR_FAST: "changes too fast",
    _S.LOG_ERROR: "errors in the log", _S.LOG_CRASH: "crash in the log",
    _S.DISK_SPACE: "disk nearly full", _S.DISK_INODES: "inodes nearly used up", _S.DISK_READONLY: "disk is read-only", _S.DISK_ERRORS: "disk errors",
    _S.HOST_MEMORY: "box short of memory", _S.HOST_PRESSURE: "box under pressure", _S.TEMPERATURE: "too hot", _S.UNDERVOLTAGE: "supply too low",
    _S.CLOCK_STEP: "clock stepped", _S.CLOCK_UNTRUSTED: "clock not trusted", _S.CARRIER: "no carrier", _S.ADDRESS: "no address", _S.ROUTE: "no route",
    _S.DNS: "names do not resolve", _S.BROKER: "broker unreachable", _S.UNPLANNED_BOOT: "unplanned boot", _S.BOOT_LOOP: "boot loop",
    _S.WATCHDOG: "watchdog reset", _S.CONFIG_BROKEN: "config broken", _S.FOREIGN_RESTARTS: "restarted by somebody else",
    _S.UNKILLABLE: "cannot be ended", _S.PORT_HELD: "port taken", _S.TRIAL_FAILED: "trial failed", _S.IMAGE_DIFFERS: "image differs",
    _S.AGENT_SELF: "EdgeHeal itself", _S.GUARD_LOST: "guard lost", _S.STANDSTILL: "stood still", _S.TWIN: "two devices under one name",
    _S.DEPENDENCY: "waits for another", _S.HOST_FDS: "box short of descriptors", _S.HOST_PIDS: "box short of pids", _S.USB_RESET: "USB resets",
    _S.KERNEL_FAULT: "kernel fault", _S.HARDWARE_ERROR: "hardware errors",
    _S.MOUNT_HANG: "mount hangs", _S.FLASH_WEAR: "flash worn", _S.BASELINE: "unusual", _S.MEMORY_LIMIT: "over its memory limit",
    _S.TRUST_STALE: "trust is old", _S.RECORD_DAMAGED: "record damaged", _S.IMAGE_ROT: "image rotten", _S.APP_HELD: "held",
    _S.RESTART_CUT: "restart cut in half", _S.LEFTOVERS: "old run still there",
}  # fmt: skip

CAUSES: dict[CauseKind, str] = {
    _C.UNKNOWN: "unknown", _C.APP_CRASH: "crash of the app", _C.APP_HANG: "app hangs", _C.APP_MEMORY: "app leaks memory",
    _C.APP_DESCRIPTORS: "app leaks descriptors", _C.APP_THREADS: "app leaks threads", _C.APP_BUSY: "app is busy", _C.APP_CONFIG: "app's config",
    _C.APP_IMAGE: "app's image", _C.DEPENDENCY: "what it needs is down", _C.PORT_HELD: "port held by another", _C.SENSOR: "sensor: no power or cut wire",
    _C.SENSOR_SCALE: "sensor's scale or unit", _C.BUS: "bus or adapter", _C.SUPPLY: "power supply", _C.DISK_FULL: "disk full",
    _C.DISK_FAULT: "disk fault", _C.HOST_MEMORY: "out of memory", _C.HOST_LOAD: "box overloaded", _C.CLOCK: "clock", _C.NETWORK: "network",
    _C.BROKER: "broker", _C.PROBE: "the probe itself", _C.FOREIGN_HAND: "somebody else's hand", _C.KERNEL: "kernel", _C.WATCHDOG: "watchdog",
    _C.POWER_LOSS: "power loss", _C.PERSON: "a person", _C.DEVICE_IO: "device does not answer", _C.DEVICE_CONFIG: "device's config",
    _C.AGENT: "EdgeHeal's agent", _C.GUARD: "EdgeHeal's guard", _C.TWIN: "twin under the same name", _C.OUR_REMEDY: "our own remedy",
    _C.THERMAL: "heat", _C.TRUST: "trust",
}  # fmt: skip

REMEDIES: dict[RemedyKind, str] = {
    _R.LOOK_AGAIN: "look again", _R.RELOAD: "reload", _R.RESTART: "restart", _R.CLEAN_RESTART: "clean restart", _R.RESTART_GROUP: "restart of the group",
    _R.RESTORE_CONFIG: "last good config", _R.ROLLBACK: "rollback", _R.POWER_CYCLE: "power cycle", _R.REBOOT: "reboot", _R.OS_ROLLBACK: "OS rollback",
    _R.SAFE_MODE: "safe mode", _R.CALL: "call a human", _R.HOLD: "hold and look",
}  # fmt: skip

OUTCOMES: dict[Outcome, str] = {
    _O.RUNNING: "running", _O.CURED: "ok", _O.FAILED: "no", _O.REFUSED: "refused", _O.WOULD: "would", _O.IN_DOUBT: "in doubt", _O.SKIPPED: "skipped",
    _O.WITHDRAWN: "made it worse",
}  # fmt: skip

# what a piece of evidence says: {v} the value, {l} the limit, {t} its short text
EVIDENCE: dict[EvidenceCode, str] = {
    _E.NONE: "{t}", _E.EXIT_CODE: "exit code {v}", _E.EXIT_SIGNAL: "killed by signal {v}", _E.EXIT_UNKNOWN: "exit status unknown",
    _E.RUN_SECONDS: "ran {v} s", _E.EXITS_IN_WINDOW: "{v} exits, limit {l}", _E.HEARTBEAT_LATE_MS: "heartbeat {v} ms late, promised {l} ms",
    _E.PROBE_MISSES: "probe {t} missed {v} of {l}", _E.MEMORY_KIB: "memory {v} KiB of {l}", _E.MEMORY_SLOPE_KIB_H: "memory grows {v} KiB/h",
    _E.HOURS_TO_LIMIT: "limit in {v} h", _E.DESCRIPTORS: "{v} descriptors of {l}", _E.DESCRIPTORS_SLOPE_H: "descriptors grow {v}/h",
    _E.THREADS: "{v} threads", _E.CPU_PERMILLE: "CPU {v} permille", _E.SENSOR_VALUE: "{t} reads {v}, limit {l}", _E.SENSOR_SILENT_S: "{t} silent {v} s",
    _E.SENSOR_SAME_N: "{t} the same {v} times", _E.DISK_FREE_PERMILLE: "disk free {v} permille {t}", _E.HOST_MEMORY_PERMILLE: "memory free {v} permille",
    _E.CONFIG_CHANGED_S: "config changed {v} s before", _E.IMAGE_CHANGED_S: "image changed {v} s before", _E.OOM: "kernel killed it for memory",
    _E.PORT_HOLDER_PID: "port held by pid {v} {t}", _E.STATE_D: "state D, waits in {t}", _E.UNDERVOLTAGE_MS: "supply low for {v} ms",
    _E.LINK_DOWN_S: "{t} down {v} s", _E.PROBES_OK: "{v} of {l} probes ok", _E.APP_ALIVE: "the app is alive", _E.REFILL_S: "refilled in {v} s",
    _E.LOG_TEMPLATE: "log: {t}", _E.FRAMES: "at {t}", _E.STARTS_FOREIGN: "{v} starts by somebody else {t}", _E.AVAILABILITY_PERMILLE: "up {v} permille",
    _E.GAP_MS: "gap {v} ms", _E.HOST_PRESSURE_PERMILLE: "pressure {v} permille", _E.BOOTS_IN_WINDOW: "{v} boots, limit {l}",
    _E.TEMPERATURE_C: "{v} C of {l}", _E.LINE: "{t}", _E.SIBLINGS_OK: "{v} siblings ok", _E.POWER_OF_TEN: "off by 10^{v}", _E.START_MS: "start took {v} ms",
    _E.DROPPED: "{v} dropped", _E.SAME_TIME_APPS: "{v} apps at once", _E.CLOCK_STEP_S: "clock stepped {v} s", _E.REASON: "",
    _E.SENSOR_UNUSUAL: "{t} {v}, usual up to {l}", _E.SENSOR_RATE: "{t} changes {v} a second, limit {l}",
    _E.SENSOR_APART: "{v} apart from {t}, usual up to {l}", _E.GROWS_WHILE: "grows only while {t} is down, {v} of {l} times", _E.BOOT_WITNESS: "{t}",
}  # fmt: skip

SEVERITIES = {Severity.INFO: "info", Severity.WARNING: "warn", Severity.ERROR: "ERR", Severity.CRITICAL: "CRIT"}
NEEDS = {Need.NOTHING: "nothing", Need.LOOK: "a look", Need.APPROVE: "an approval", Need.VISIT: "a visit"}
SHOWN = {Shown.OK: "OK", Shown.HEALING: "HEALING", Shown.NEEDS_YOU: "NEEDS YOU", Shown.PAUSED: "PAUSED", Shown.UNKNOWN: "UNKNOWN"}
HEALED = "HEALED"
STATES = {
    IncidentState.OPEN: "open", IncidentState.DIAGNOSED: "diagnosed", IncidentState.AWAITING_APPROVAL: "awaits approval",
    IncidentState.ACTING: "acting", IncidentState.VERIFYING: "on probation", IncidentState.RESOLVED: "resolved", IncidentState.ESCALATED: "escalated",
}  # fmt: skip
MODES = {Mode.OBSERVE: "observe", Mode.ASK: "ask", Mode.ACT: "act"}
CHANGES = {
    ChangeKind.NONE: "", ChangeKind.IMAGE: "image", ChangeKind.CONFIG: "config", ChangeKind.BOOT: "boot", ChangeKind.DEVICE_CONFIG: "device's config",
    ChangeKind.NETWORK: "network", ChangeKind.POLICY: "policy", ChangeKind.AGENT: "agent", ChangeKind.RESTART: "restart",
}  # fmt: skip
IMAGES = {
    ImageStatus.NONE: "", ImageStatus.GOOD: "good", ImageStatus.TRIAL: "on trial", ImageStatus.BLOCKED: "blocked", ImageStatus.UNKNOWN: "unknown",
}  # fmt: skip
ACTIONS = {code: code.name.lower().replace("_", "-") for code in ActionCode}
RESULTS = {state: state.name.lower() for state in ResultState}


def number(value: float) -> str:
    """A figure as a person reads it: whole without a point, else three digits."""
    return str(round(value)) if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def symptom(kind: SymptomKind, subject: str = "") -> str:
    """`meter 2 silent`, `crash loop`."""
    word = SYMPTOMS.get(kind, f"symptom {int(kind)}")
    return f"{subject} {word}" if subject else word


def cause(kind: CauseKind, subject: str = "") -> str:
    """`meter 2: no power or cut wire`, `out of memory`."""
    word = CAUSES.get(kind, f"cause {int(kind)}")
    return f"{subject}: {word.removeprefix('sensor: ')}" if subject else word


def remedy(kind: RemedyKind, target: str = "") -> str:
    """`restart`, `rollback 3.0.7`."""
    word = REMEDIES.get(kind, f"remedy {int(kind)}")
    return f"{word} {target}" if target else word


def outcome(kind: Outcome) -> str:
    """`ok`, `no`, `refused`."""
    return OUTCOMES.get(kind, f"outcome {int(kind)}")


def evidence(fact: Evidence) -> str:
    """`exit code 1`, `probe http missed 3 of 3`; a fact against begins with `not:`."""
    if fact.code == EvidenceCode.REASON:
        said = reasons.word(int(fact.value))
    else:
        form = EVIDENCE.get(fact.code, f"fact {int(fact.code)}: {{v}} {{t}}")
        said = " ".join(form.replace("{v}", number(fact.value)).replace("{l}", number(fact.limit)).replace("{t}", fact.text).split())
    return said if fact.speaks_for else f"not: {said}"


def severity(kind: Severity) -> str:
    """`CRIT`, `ERR`, `warn`, `info`."""
    return SEVERITIES.get(kind, f"sev{int(kind)}")


def shown(state: IncidentState, need: Need) -> str:
    """The word of a list for an incident: HEALING, HEALED, NEEDS YOU or PAUSED's neighbours."""
    if state == IncidentState.RESOLVED:
        return HEALED
    return SHOWN[Shown.NEEDS_YOU if needs_you(state, need) else Shown.HEALING]


def needs_you(state: IncidentState, need: Need) -> bool:
    """Whether an open incident waits for a person: the one rule of status, lists and the fleet."""
    return need in (Need.APPROVE, Need.VISIT) or state in (IncidentState.AWAITING_APPROVAL, IncidentState.ESCALATED)


def tried(step: Tried) -> str:
    """`restart: ok 1.4s`, `power cycle: no`."""
    took = f" {step.seconds:.1f}s" if step.outcome == Outcome.CURED and step.seconds else ""
    why = f" ({reasons.word(step.reason)})" if step.reason else ""
    return f"{remedy(step.kind, step.target)}: {outcome(step.outcome)}{took}{why}"


def last_tried(steps: Sequence[Tried]) -> str:
    """The remedy that counts: the one that cured, else the highest that was taken."""
    cured = [s for s in steps if s.outcome == Outcome.CURED]
    best: Iterable[Tried] = cured or [s for s in steps if s.outcome != Outcome.SKIPPED] or steps
    chosen = max(best, key=lambda s: int(s.kind), default=None)
    return tried(chosen) if chosen is not None else ""


def top_cause(causes: Sequence[Cause]) -> Cause | None:
    """The likeliest cause."""
    return max(causes, key=lambda c: c.probability, default=None)


def headline(incident: Incident) -> str:
    """What is wrong in a few words, with how sure: `meter 2 silent 82%`, `out of memory 96%`."""
    top = top_cause(incident.causes)
    sure = f" {round(top.probability * 100)}%" if top is not None and top.kind != CauseKind.UNKNOWN else ""
    subject = incident.subject or (top.subject if top is not None else "")
    if incident.symptom == SymptomKind.EXIT:
        return _exit(incident) + sure
    if top is not None and top.kind in (CauseKind.HOST_MEMORY, CauseKind.DISK_FULL, CauseKind.NETWORK, CauseKind.SUPPLY):
        return cause(top.kind) + sure
    return symptom(incident.symptom, subject) + sure


def _exit(incident: Incident) -> str:
    """How it ended: `killed by signal 9`, `exit code 1`; `exited` where nobody knows."""
    top = top_cause(incident.causes)
    for fact in (*incident.evidence, *(top.evidence if top is not None else ())):
        if fact.code in (EvidenceCode.EXIT_SIGNAL, EvidenceCode.EXIT_CODE):
            return evidence(fact)
    return symptom(incident.symptom)


def recurrence(n: int, window_s: int) -> str:
    """`1st`, `3rd/7d`."""
    tail = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    if n <= 1:
        return "1st"
    span = f"{window_s // 86_400}d" if window_s >= 86_400 else f"{max(1, window_s // 3_600)}h"
    return f"{n}{tail}/{span}"


def sentence(incident: Incident) -> str:
    """One line for logs, pagers and lists without columns."""
    parts = [incident.app or "box", shown(incident.state, incident.need), headline(incident)]
    done = last_tried(incident.tried)
    if done:
        parts.append(done)
    if incident.need != Need.NOTHING and incident.state != IncidentState.RESOLVED:
        parts.append(f"needs {NEEDS.get(incident.need, int(incident.need))}")
    return ", ".join(parts)
