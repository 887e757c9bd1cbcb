# SPDX-License-Identifier: Apache-2.0
"""Names of kinds: every enumeration that crosses a room, a process or the wire.

Duty: give each kind its stable number and, where the ladder needs it, its class. No behaviour.
Invariant: numbers are never reused nor renumbered; an unknown number met on the wire is kept, not refused.
"""

from enum import IntEnum


class Verdict(IntEnum):
    """The three answers; "could not tell" is never a failure."""

    NO = 0
    YES = 1
    UNKNOWN = 2


class Mode(IntEnum):
    """How far a device goes: decide only, act after approval, act."""

    OBSERVE = 0
    ASK = 1
    ACT = 2


class Severity(IntEnum):
    """`INFO` nothing lost, `WARNING` healed by restart, `ERROR` healed by rollback or needs approval, `CRITICAL` down."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3


class Need(IntEnum):
    """What an incident needs of people."""

    NOTHING = 0
    LOOK = 1
    APPROVE = 2
    VISIT = 3


class Shown(IntEnum):
    """The five states on screens."""

    OK = 0
    HEALING = 1
    NEEDS_YOU = 2
    PAUSED = 3
    UNKNOWN = 4


class AppState(IntEnum):
    """Fine state of an app (core.app_table)."""

    STOPPED = 0
    STARTING = 1
    HEALTHY = 2
    DEGRADED = 3
    FAILING = 4
    RECOVERING = 5
    BACKOFF = 6
    PAUSED = 7


class Phase(IntEnum):
    """Phase of a run as the guard tells it; numbers as `wire.guard_frames` PHASE_*."""

    STOPPED = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3
    WAITING = 4
    HELD = 5
    STUCK = 6


class IncidentState(IntEnum):
    """Fine state of an incident (core.incident_table)."""

    OPEN = 0
    DIAGNOSED = 1
    AWAITING_APPROVAL = 2
    ACTING = 3
    VERIFYING = 4
    RESOLVED = 5
    ESCALATED = 6


class Channel(IntEnum):
    """Who witnessed it; what an app can forge weighs at most a restart."""

    APP = 0
    AGENT = 1
    GUARD = 2
    KERNEL = 3
    HARDWARE = 4
    PERSON = 5


class By(IntEnum):
    """Whose hand started, stopped or wants something."""

    UNKNOWN = 0
    REMEDY = 1
    LOCAL = 2
    COMMAND = 3
    FOREIGN = 4
    BOOT = 5
    STANDING_ORDER = 6
    DEPENDENCY = 7
    ITSELF = 8


class SymptomKind(IntEnum):
    """What was noticed."""

    EXIT = 1
    CRASH_LOOP = 2
    HANG = 3
    START_FAILED = 4
    START_SLOW = 5
    PROBE_FAILED = 6
    MEMORY_GROWTH = 7
    FD_GROWTH = 8
    THREAD_GROWTH = 9
    CHILD_GROWTH = 10
    ZOMBIES = 11
    CPU_SPIN = 12
    OOM_KILL = 13
    SENSOR_MISSING = 14
    SENSOR_STUCK = 15
    SENSOR_RANGE = 16
    SENSOR_JUMP = 17
    SENSOR_NOISE = 18
    SENSOR_DRIFT = 19
    SENSOR_SCALE = 20
    SENSOR_DEFAULT = 21
    LOG_ERROR = 22
    LOG_CRASH = 23
    DISK_SPACE = 24
    DISK_INODES = 25
    DISK_READONLY = 26
    DISK_ERRORS = 27
    HOST_MEMORY = 28
    HOST_PRESSURE = 29
    TEMPERATURE = 30
    UNDERVOLTAGE = 31
    CLOCK_STEP = 32
    CLOCK_UNTRUSTED = 33
    CARRIER = 34
    ADDRESS = 35
    ROUTE = 36
    DNS = 37
    BROKER = 38
    UNPLANNED_BOOT = 39
    BOOT_LOOP = 40
    WATCHDOG = 41
    CONFIG_BROKEN = 42
    FOREIGN_RESTARTS = 43
    UNKILLABLE = 44
    PORT_HELD = 45
    TRIAL_FAILED = 46
    IMAGE_DIFFERS = 47
    AGENT_SELF = 48
    GUARD_LOST = 49
    STANDSTILL = 50
    TWIN = 51
    DEPENDENCY = 52
    HOST_FDS = 53
    HOST_PIDS = 54
    USB_RESET = 55
    MOUNT_HANG = 56
    FLASH_WEAR = 57
    BASELINE = 58
    MEMORY_LIMIT = 59
    TRUST_STALE = 60
    RECORD_DAMAGED = 61
    IMAGE_ROT = 62
    APP_HELD = 63
    RESTART_CUT = 64
    LEFTOVERS = 65
    KERNEL_FAULT = 66
    HARDWARE_ERROR = 67
    SENSOR_FAST = 68


SENSOR_SYMPTOMS = frozenset(kind for kind in SymptomKind if kind.name.startswith("SENSOR_"))


class CauseKind(IntEnum):
    """What is to blame."""

    UNKNOWN = 0
    APP_CRASH = 1
    APP_HANG = 2
    APP_MEMORY = 3
    APP_DESCRIPTORS = 4
    APP_THREADS = 5
    APP_BUSY = 6
    APP_CONFIG = 7
    APP_IMAGE = 8
    DEPENDENCY = 9
    PORT_HELD = 10
    SENSOR = 11
    SENSOR_SCALE = 12
    BUS = 13
    SUPPLY = 14
    DISK_FULL = 15
    DISK_FAULT = 16
    HOST_MEMORY = 17
    HOST_LOAD = 18
    CLOCK = 19
    NETWORK = 20
    BROKER = 21
    PROBE = 22
    FOREIGN_HAND = 23
    KERNEL = 24
    WATCHDOG = 25
    POWER_LOSS = 26
    PERSON = 27
    DEVICE_IO = 28
    DEVICE_CONFIG = 29
    AGENT = 30
    GUARD = 31
    TWIN = 32
    OUR_REMEDY = 33
    THERMAL = 34
    TRUST = 35


class CauseClass(IntEnum):
    """Budgets are kept per class."""

    CRASH = 0
    HANG = 1
    RESOURCE = 2
    CONFIGURATION = 3
    EXTERNAL = 4
    HARDWARE = 5
    POWER = 6


CLASS_OF: dict[CauseKind, CauseClass] = {
    CauseKind.UNKNOWN: CauseClass.CRASH,
    CauseKind.APP_CRASH: CauseClass.CRASH,
    CauseKind.APP_HANG: CauseClass.HANG,
    CauseKind.APP_MEMORY: CauseClass.RESOURCE,
    CauseKind.APP_DESCRIPTORS: CauseClass.RESOURCE,
    CauseKind.APP_THREADS: CauseClass.RESOURCE,
    CauseKind.APP_BUSY: CauseClass.RESOURCE,
    CauseKind.APP_CONFIG: CauseClass.CONFIGURATION,
    CauseKind.APP_IMAGE: CauseClass.CRASH,
    CauseKind.DEPENDENCY: CauseClass.EXTERNAL,
    CauseKind.PORT_HELD: CauseClass.EXTERNAL,
    CauseKind.SENSOR: CauseClass.HARDWARE,
    CauseKind.SENSOR_SCALE: CauseClass.HARDWARE,
    CauseKind.BUS: CauseClass.HARDWARE,
    CauseKind.SUPPLY: CauseClass.POWER,
    CauseKind.DISK_FULL: CauseClass.RESOURCE,
    CauseKind.DISK_FAULT: CauseClass.HARDWARE,
    CauseKind.HOST_MEMORY: CauseClass.RESOURCE,
    CauseKind.HOST_LOAD: CauseClass.RESOURCE,
    CauseKind.CLOCK: CauseClass.EXTERNAL,
    CauseKind.NETWORK: CauseClass.EXTERNAL,
    CauseKind.BROKER: CauseClass.EXTERNAL,
    CauseKind.PROBE: CauseClass.CONFIGURATION,
    CauseKind.FOREIGN_HAND: CauseClass.EXTERNAL,
    CauseKind.KERNEL: CauseClass.HARDWARE,
    CauseKind.WATCHDOG: CauseClass.HARDWARE,
    CauseKind.POWER_LOSS: CauseClass.POWER,
    CauseKind.PERSON: CauseClass.EXTERNAL,
    CauseKind.DEVICE_IO: CauseClass.HARDWARE,
    CauseKind.DEVICE_CONFIG: CauseClass.CONFIGURATION,
    CauseKind.AGENT: CauseClass.CRASH,
    CauseKind.GUARD: CauseClass.CRASH,
    CauseKind.TWIN: CauseClass.EXTERNAL,
    CauseKind.OUR_REMEDY: CauseClass.CRASH,
    CauseKind.THERMAL: CauseClass.HARDWARE,
    CauseKind.TRUST: CauseClass.CONFIGURATION,
}


class RemedyKind(IntEnum):
    """The ladder, mildest first; the number is the rung."""

    LOOK_AGAIN = 0
    RELOAD = 1
    RESTART = 2
    CLEAN_RESTART = 3
    RESTART_GROUP = 4
    RESTORE_CONFIG = 5
    ROLLBACK = 6
    POWER_CYCLE = 7
    REBOOT = 8
    OS_ROLLBACK = 9
    SAFE_MODE = 10
    CALL = 11
    HOLD = 12  # keep stopped or in back-off and look from time to time: spends nothing


class Outcome(IntEnum):
    """How a remedy ended."""

    RUNNING = 0
    CURED = 1
    FAILED = 2
    REFUSED = 3
    WOULD = 4  # mode observe: decided, not done
    IN_DOUBT = 5
    SKIPPED = 6  # cannot help here; the evidence says why
    WITHDRAWN = 7  # it made things worse


class EvidenceCode(IntEnum):
    """What a piece of evidence says; `value` and `limit` are numbers, `text` a short name where there is one."""

    NONE = 0
    EXIT_CODE = 1
    EXIT_SIGNAL = 2
    EXIT_UNKNOWN = 3
    RUN_SECONDS = 4
    EXITS_IN_WINDOW = 5
    HEARTBEAT_LATE_MS = 6
    PROBE_MISSES = 7
    MEMORY_KIB = 8
    MEMORY_SLOPE_KIB_H = 9
    HOURS_TO_LIMIT = 10
    DESCRIPTORS = 11
    DESCRIPTORS_SLOPE_H = 12
    THREADS = 13
    CPU_PERMILLE = 14
    SENSOR_VALUE = 15
    SENSOR_SILENT_S = 16
    SENSOR_SAME_N = 17
    DISK_FREE_PERMILLE = 18
    HOST_MEMORY_PERMILLE = 19
    CONFIG_CHANGED_S = 20
    IMAGE_CHANGED_S = 21
    OOM = 22
    PORT_HOLDER_PID = 23
    STATE_D = 24
    UNDERVOLTAGE_MS = 25
    LINK_DOWN_S = 26
    PROBES_OK = 27
    APP_ALIVE = 28
    REFILL_S = 29
    LOG_TEMPLATE = 30
    FRAMES = 31
    STARTS_FOREIGN = 32
    AVAILABILITY_PERMILLE = 33
    GAP_MS = 34
    HOST_PRESSURE_PERMILLE = 35
    BOOTS_IN_WINDOW = 36
    TEMPERATURE_C = 37
    LINE = 38
    SIBLINGS_OK = 39
    POWER_OF_TEN = 40
    START_MS = 41
    DROPPED = 42
    SAME_TIME_APPS = 43
    CLOCK_STEP_S = 44
    REASON = 45
    SENSOR_UNUSUAL = 46
    SENSOR_RATE = 47
    SENSOR_APART = 48
    GROWS_WHILE = 49
    BOOT_WITNESS = 50


class ImageStatus(IntEnum):
    """What a summary says of the running image."""

    NONE = 0
    GOOD = 1
    TRIAL = 2
    BLOCKED = 3
    UNKNOWN = 4


class ChangeKind(IntEnum):
    """What changed last before an incident."""

    NONE = 0
    IMAGE = 1
    CONFIG = 2
    BOOT = 3
    DEVICE_CONFIG = 4
    NETWORK = 5
    POLICY = 6
    AGENT = 7
    RESTART = 8


class ActionCode(IntEnum):
    """Actions of signed commands (wire.commands) and of people at the box."""

    RESTART = 1
    ROLLBACK = 2
    PAUSE = 3
    RESUME = 4
    INSTALL = 5
    APPROVE = 6
    REJECT = 7
    MARK_GOOD = 8
    ALLOW = 9
    START = 10
    STOP = 11
    CONFIG = 12
    REBOOT = 13
    DROP = 14
    EVIDENCE = 15
    PROBE = 16


class ResultState(IntEnum):
    """The life of a command as `up/result` tells it."""

    ACCEPTED = 0
    REFUSED = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4
    EXPIRED = 5
