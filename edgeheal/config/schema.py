# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF009 - `entry`, `section`, `table` and `words` are dataclasses.field
"""Every key of the device's config: its kind, bounds, default, meaning, and what a change of it touches.

Duty: the one source. The decoder, `config show`, the reload's difference and the reference page are made from these classes.
Invariants: a field's name is the key plus the unit of the kept value (`every_ms` is the key `every`); each default is the
documented one; no field holds a secret, only the path of the file that does; values are frozen.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeheal.config.kinds import (
    Account,
    BudgetKind,
    Celsius,
    Choice,
    FilePath,
    Flag,
    IdRange,
    Items,
    Kibibytes,
    Kind,
    Millis,
    Number,
    Permille,
    Seconds,
    Size,
    Text,
)  # fmt: skip
from edgeheal.config.real import Real
from edgeheal.core.kinds import Mode, RemedyKind
from edgeheal.core.policy import Budget, Policy, Thresholds
from edgeheal.detect.reset import REASONS

MS, S, MINUTE, HOUR, DAY = 1, 1_000, 60_000, 3_600_000, 86_400_000
MB, GB = 1_000_000, 1_000_000_000
APPS_MOST = 64
MODES = tuple(m.name.lower() for m in Mode)
REMEDIES = tuple(k.name.lower() for k in RemedyKind if k not in (RemedyKind.CALL, RemedyKind.HOLD))
APP_NAME = r"[a-z0-9][a-z0-9-]{0,31}"

_MODE = Choice(MODES)
_NAME = Text(64, r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a quoted name of letters, digits, dot, dash, underscore")
_BUDGETS = Items(BudgetKind(), 8)
_GUARDED = Items(BudgetKind(240), 4, 1)
_NEED = Text(96, r"(app|device|network|time):[A-Za-z0-9/._-]{1,64}", 'a quoted "app:NAME", "device:PATH", "network:NAME" or "time:NAME"')
_ID = Text(64, r"[0-9a-f]{64}", "a quoted image id of 64 hex digits")


def entry(kind: Kind, default: Any, doc: str, *, touches: str = "") -> Any:
    """A key with its kind, default and meaning. `touches` overrides what the section says."""
    return field(default=default, metadata={"kind": kind, "doc": doc, "touches": touches})


def section(cls: type, doc: str, touches: str) -> Any:
    """A table with fixed keys."""
    return field(default_factory=cls, metadata={"section": cls, "doc": doc, "touches": touches})


def table(cls: type, doc: str, touches: str, *, names: tuple[str, ...] | str, starts: Callable[[], dict[str, Any]] = dict) -> Any:
    """A table of tables by name: `names` the words allowed, or a pattern. `starts`: what is there before a file says anything."""
    return field(default_factory=starts, metadata={"table": cls, "doc": doc, "touches": touches, "names": names})


def words(kind: Kind, doc: str, touches: str, *, names: tuple[str, ...]) -> Any:
    """A table of values by name."""
    return field(default_factory=dict, metadata={"values": kind, "doc": doc, "touches": touches, "names": names})


@dataclass(frozen=True, slots=True)
class Device:
    """Who this box is."""

    id: str = entry(
        Text(64, r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})?", _NAME.words),
        "",
        "the device's name in the fleet: its MQTT client and user name; needed once there is a [link]",
    )
    tenant: str = entry(_NAME, "default", "whose device it is: the third level of every topic")
    classes: tuple[str, ...] = entry(Items(_NAME, 16, 1), ("generic",), "what images may call this device; one of an image's classes must be here")
    place: str = entry(Text(96), "", "where it stands, for people")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an app whose manifest names none."""

    memory_kib: int = entry(Kibibytes(0, 1 << 32), 0, "memory; 0B is none")
    cpu_permille: int = entry(Permille(0, 64_000), 0, "CPU, 100% is one core; 0% is none")
    tasks: int = entry(Number(0, 100_000), 512, "processes and threads; 0 is none")
    files: int = entry(Number(0, 1_048_576), 1_024, "open descriptors a process; 0 is the system's own")
    log_kib: int = entry(Kibibytes(16, 1 << 20), 1_024, "what is kept of its log on the volatile disk; beyond it the oldest goes")


@dataclass(frozen=True, slots=True)
class App:
    """What the device says of one app; its image only asks."""

    mode: str = entry(Choice(("", *MODES)), "", "how far EdgeHeal goes with this app; unsaid: the device's mode", touches="policy")
    user: str | int = entry(Account(empty=True), "", "the user it runs as; unsaid: the guard allots one of [guard] app_uids", touches="guard")
    groups: tuple[str | int, ...] = entry(Items(Account(), 16), (), "further groups it is in", touches="guard")
    soak_s: int = entry(
        Seconds(0, 30 * 86_400), 0, "how long a new image must run well here; unsaid: [guard] soak_min, or longer as the image says", touches="guard"
    )
    actuates: bool | None = entry(Flag(), None, "whether it moves something in the world; unsaid: true when it has devices")
    critical: bool = entry(Flag(), False, "whether people are called sooner for it", touches="policy")
    devices: tuple[str, ...] = entry(Items(FilePath(absolute=True, required=True), 32), (), "device files it may open", touches="guard")
    network: bool = entry(Flag(), True, "whether it may use the network (its image must ask, too)", touches="guard")
    max_size_bytes: int = entry(Size(MB, 1_000 * GB), 256 * MB, "most bytes of its data", touches="guard")
    max_inodes: int = entry(Number(16, 10_000_000), 10_000, "most files of its data", touches="guard")
    needs: tuple[str, ...] = entry(Items(_NEED, 16), (), "what it waits for before it starts, beside what its image needs", touches="catalog")
    wants: tuple[str, ...] = entry(Items(_NEED, 16), (), "what it starts after, without waiting for ever", touches="catalog")
    limits: Limits = section(Limits, "its limits where its manifest says 0", "guard")
    remedies: dict[str, str] = words(_MODE, "how far to go with one remedy for this app", "policy", names=REMEDIES)


@dataclass(frozen=True, slots=True)
class Remedy:
    """One step of the ladder."""

    mode: str = entry(_MODE, "act", "observe, ask or act")
    budget: tuple[Budget, ...] = entry(_BUDGETS, (), "most tries in a window, each class of cause for itself; [] is no bound")
    probation_ms: int = entry(Millis(S, 30 * DAY), 60 * S, "how long the symptom must stay gone before it counts as cured")
    cool_down_ms: int = entry(Millis(0, DAY), 0, "least time between two tries")


def _remedies() -> dict[str, Remedy]:
    known = Policy().remedies
    by_name = {name: known[RemedyKind[name.upper()]] for name in REMEDIES}
    return {n: Remedy(r.mode.name.lower(), r.budgets, round(r.probation_s * 1_000), round(r.cool_down_s * 1_000)) for n, r in by_name.items()}


_T = Thresholds()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between restarts."""

    first_ms: int = entry(Millis(10, HOUR), S, "the first wait; it doubles, with full jitter")
    cap_ms: int = entry(Millis(100, DAY), 5 * MINUTE, "the longest wait")
    slow_retry_ms: int = entry(Millis(S, 7 * DAY), 15 * MINUTE, "after giving up: one try this often, for ever")
    healthy_after_ms: int = entry(Millis(100, DAY), MINUTE, "a run this long was healthy: the next restart comes at once")


@dataclass(frozen=True, slots=True)
class Probes:
    """Probes whose image says nothing else."""

    every_ms: int = entry(Millis(100, DAY), 10 * S, "from one probe to the next")
    timeout_ms: int = entry(Millis(10, HOUR), 3 * S, "how long an answer may take; at most `every`")
    misses: int = entry(Number(1, 100), 3, "failures in a row that make a symptom")
    start_grace_ms: int = entry(Millis(100, DAY), 60 * S, "how long a start may take before its probes count")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How often apps and host are measured."""

    every_ms: int = entry(Millis(250, HOUR), 10 * S, "at rest")
    suspected_ms: int = entry(Millis(100, HOUR), S, "while something is suspected; at most `every`")
    mounts: tuple[str, ...] = entry(
        Items(FilePath(absolute=True, required=True), 16),
        (),
        "folders on further mounts that matter: their space, their inodes and whether they answer",
        touches="restart of the agent",
    )


@dataclass(frozen=True, slots=True)
class Limit:
    """When a figure becomes a symptom."""

    disk_low_permille: int = entry(Permille(1, 900), _T.disk_low_permille, "free disk below this is a warning")
    disk_critical_permille: int = entry(Permille(1, 900), _T.disk_critical_permille, "free disk below this is grave; below `disk_low`")
    memory_low_permille: int = entry(Permille(1, 900), _T.memory_low_permille, "available memory of the host below this is a symptom")
    leak_warn_s: int = entry(Seconds(1, 30 * 86_400), int(_T.leak_warn_s), "a limit reached sooner than this, at the present growth, is a symptom")
    leak_window_s: int = entry(Seconds(5, 7 * 86_400), int(_T.leak_min_window_s), "growth is judged over at least this long")
    leak_points: int = entry(Number(4, 1_000), _T.leak_min_points, "growth is judged over at least so many samples")
    crash_loop: tuple[Budget, ...] = entry(
        Items(BudgetKind(), 1, 1), (Budget(_T.crash_loop_exits, int(_T.crash_loop_window_s)),), "so many exits in this window are a crash loop"
    )
    foreign_restarts: tuple[Budget, ...] = entry(
        Items(BudgetKind(), 1, 1), (Budget(_T.foreign_restarts, int(_T.foreign_window_s)),), "so many restarts by somebody else in this window are told"
    )
    standstill_ms: int = entry(Millis(S, HOUR), _T.standstill_ms, "a gap of the agent's own loop this long means that the box stood still")
    temperature_c: int = entry(Celsius(20, 150), int(_T.temperature_c), "hotter than this is a symptom")
    agent_memory_kib: int = entry(Kibibytes(16_384, 1 << 22), 65_536, "more resident memory of the agent itself is a symptom")
    link_down_ms: int = entry(Millis(S, DAY), round(_T.link_down_s * 1_000), "a layer of the way to the fleet that is down for so long is a symptom")
    clock_untrusted_s: int = entry(Seconds(1, 30 * 86_400), int(_T.clock_untrusted_s), "a wall clock that nobody has set for so long is told")


@dataclass(frozen=True, slots=True)
class Link:
    """The way to the fleet, over MQTT. Without a host nothing is reported, and everything heals all the same."""

    host: str = entry(Text(253, r"[A-Za-z0-9.:_-]*", "a quoted host name or address"), "", "the broker; unsaid: no fleet")
    port: int = entry(Number(1, 65_535), 8_883, "its port")
    tls: bool = entry(Flag(), True, "encrypt, and check the broker's certificate")
    ca: str = entry(FilePath(), "", "certificates that the broker's is checked against; unsaid: the system's")
    cert: str = entry(FilePath(), "", "the device's certificate")
    key: str = entry(FilePath(), "", "its private key; goes with `cert`")
    user: str = entry(Text(128), "", "user name; unsaid: the device's id when there is a password")
    password_file: str = entry(FilePath(), "", "a file that holds the password; it never stands in a config")
    version: str = entry(Choice(("auto", "5", "3.1.1")), "auto", "MQTT version; auto: 5, else 3.1.1")
    heartbeat_s: int = entry(Seconds(5, 86_400), 300, "from one health message to the next")
    keep_alive_s: int = entry(Seconds(5, 65_535), 240, "silence of the broker after which it is asked")
    encoding: str = entry(Choice(("msgpack", "json")), "msgpack", "json: the same fields, readable and four times as long")
    stored_by: str = entry(Choice(("controller", "broker")), "controller", "whose word frees a report; broker is the weaker promise")
    proxy: str = entry(Text(256, r"(http://[A-Za-z0-9.:_-]+)?", 'a quoted "http://HOST:PORT"'), "", "an HTTP proxy on the way")


@dataclass(frozen=True, slots=True)
class Spool:
    """Reports that wait for the fleet."""

    size_bytes: int = entry(Size(256_000, GB), 4 * MB, "most bytes on disk; then equal ones fold and the mildest go first")


@dataclass(frozen=True, slots=True)
class Journal:
    """The record of decisions."""

    size_bytes: int = entry(Size(512_000, GB), 8 * MB, "most bytes on disk")
    daily_bytes: int = entry(Size(64_000, GB), 2 * MB, "most bytes written a day at rest")
    ring_bytes: int = entry(Size(64_000, 64 * MB), MB, "signals since the last snapshot, on the volatile disk")


@dataclass(frozen=True, slots=True)
class Recordings:
    """What is kept of an incident."""

    size_bytes: int = entry(Size(16_000, 16 * MB), 256_000, "most bytes of one")
    count: int = entry(Number(1, 1_000), 16, "how many are kept")


@dataclass(frozen=True, slots=True)
class GuardBudgets:
    """The guard's own durable budgets, in box time, whoever asks."""

    starts: tuple[Budget, ...] = entry(_GUARDED, (Budget(30, 600), Budget(200, 86_400)), "starts of one app")
    exits: tuple[Budget, ...] = entry(_GUARDED, (Budget(5, 600),), "exits of a first trial, with no good image to go back to, before it has failed")
    rollback: tuple[Budget, ...] = entry(_GUARDED, (Budget(4, 7 * 86_400),), "switches of one app's image")
    hook: tuple[Budget, ...] = entry(_GUARDED, (Budget(12, 86_400),), "runs of hooks")
    power: tuple[Budget, ...] = entry(_GUARDED, (Budget(3, 86_400),), "power cycles")
    reboot: tuple[Budget, ...] = entry(_GUARDED, (Budget(1, 21_600), Budget(3, 7 * 86_400)), "reboots")
    config: tuple[Budget, ...] = entry(_GUARDED, (Budget(2, 86_400),), "times an app's config is put back")
    import_: tuple[Budget, ...] = entry(_GUARDED, (Budget(24, 86_400),), "bundles read")


@dataclass(frozen=True, slots=True)
class Guard:
    """What the privileged process may do."""

    app_uids: tuple[int, int] = entry(IdRange(), (60_800, 61_055), "users that the guard allots to apps without one (unused on Debian and by systemd)")
    interpreters: tuple[str, ...] = entry(
        Items(FilePath(absolute=True, required=True), 16), ("/usr/bin/python3", "/bin/sh"), "programs of the host that an image may name as its first word"
    )
    soak_min_s: int = entry(Seconds(5, 30 * 86_400), 86_400, "the shortest soak of a new image")
    reboots: bool = entry(Flag(), False, "whether it may reboot at all")
    quota_bytes: int = entry(Size(8 * MB, 10_000 * GB), 2 * GB, "most bytes of all images together")
    local_rollback: str = entry(Choice(("allow", "token")), "allow", "whether a member of group edgeheal may roll back without a token")
    spawn_agent: bool = entry(Flag(), True, "start the agent and start it again; false where an init system does")
    stuck_s: int = entry(Seconds(5, 3_600), 60, "an agent silent for so long is ended")
    budgets: GuardBudgets = section(GuardBudgets, "durable budgets of the guard", "guard")


@dataclass(frozen=True, slots=True)
class Users:
    """Who each part runs as. "self": whoever runs the guard; all "self" means that there is no privilege boundary."""

    agent: str | int = entry(Account(), "edgeheal-agent", "the agent")
    import_: str | int = entry(Account(), "edgeheal-import", "reads bundles")
    store: str | int = entry(Account(), "edgeheal-store", "owns the images")
    verify: str | int = entry(Account(), "edgeheal-verify", "checks signatures, reads this config")
    check: str | int = entry(Account(), "edgeheal-check", "runs checks")
    group: str | int = entry(Account(), "edgeheal", "people who may look, restart, pause and roll back")


@dataclass(frozen=True, slots=True)
class Watchdog:
    """The hardware watchdog, fed by the guard for its own loop."""

    device: str = entry(FilePath(absolute=True), "", "such as /dev/watchdog; unsaid: none is opened")
    timeout_s: int = entry(Seconds(5, 3_600), 60, "asked for, and read back")
    also: tuple[str, ...] = entry(Items(FilePath(absolute=True, required=True), 4), (), "further devices that are fed with it")
    pretimeout_s: int = entry(
        Seconds(0, 3_600), 0, 'so long before the time-out the kernel is told (with the governor "panic" it leaves a record); "0s": as it is'
    )


@dataclass(frozen=True, slots=True)
class Boot:
    """Why did we boot: where a dying kernel leaves its records."""

    pstore: tuple[str, ...] = entry(
        Items(FilePath(absolute=True, required=True), 4), ("/sys/fs/pstore", "/var/lib/systemd/pstore"), "folders that are searched for records"
    )
    clear_pstore: bool = entry(Flag(), True, "free a record's room in pstore once a durable copy lies in the guard's folder")


@dataclass(frozen=True, slots=True)
class Reset:
    """A register or file of the board that says why it was reset, read once a boot, or how many attempts a system on trial has left."""

    file: str = entry(FilePath(absolute=True), "", "what is read; needed")
    form: str = entry(Choice(("text", "u32be", "u32le", "env")), "text", "a line of text; 4 bytes; a boot loader's environment (U-Boot, GRUB)")
    field: str = entry(Text(64, r"[\w.-]*", "a quoted name"), "", "form env: the variable")
    mask: int = entry(Number(0, 0xFFFFFFFF), 0, "only these bits of a number count; 0: all")
    means: tuple[str, ...] = entry(
        Items(Text(96, rf"\S{{1,32}}( ({'|'.join(r.replace(' ', '-') for r in REASONS)}))+", 'a quoted "VALUE REASON ..."'), 16), (),
        "what a value means: ordered, power-loss, brown-out, watchdog, panic, thermal; several reasons where it cannot tell them apart",
    )  # fmt: skip
    attempts: int = entry(Number(0, 100), 0, "not a reason, but the attempts left of so many: the boot loader counts down; 0: it is a reason")


@dataclass(frozen=True, slots=True)
class Hooks:
    """Remedies whose effect leaves the box."""

    power: bool = entry(Flag(), False, "power cycles without asking first")


_SENSOR_PATH = Text(
    256, r"(/[^\x00-\x1f\x7f]+|(hwmon|iio):[\w.-]{1,64}/[\w.-]{1,64}|w1:[\w-]{1,64})?",
    'a quoted absolute path, or "hwmon:NAME/FILE", "iio:NAME/FILE", "w1:ID"',
)  # fmt: skip
_SERIAL = Text(
    256, r"(/[^\x00-\x1f\x7f]+|usb:[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}(:[\w.-]{1,64})?)?",
    'a quoted "/dev/serial/by-id/..." or "usb:VID:PID:SERIAL"',
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sensor:
    """A value that the agent reads itself, and judges for the box, or for the app whose work it is part of."""

    app: str = entry(Text(32, rf"({APP_NAME})?", "an app's name"), "", "whose sensor it is: it is judged while that app does its work; unsaid: the box's own")
    kind: str = entry(
        Choice(("file", "line", "modbus", "topic")), "file", "a file; a field of lines over serial; a register over Modbus RTU; a topic of a broker on this box"
    )
    path: str = entry(_SENSOR_PATH, "", "kind file: what to read; hwmon, iio and w1 are found by name, since their numbers change from boot to boot")
    device: str = entry(_SERIAL, "", "kinds line and modbus: the serial line by its stable name; the agent's user must be able to open it")
    every_ms: int = entry(Millis(100, DAY), 10 * S, "how often it is read; silent for three times that, it is missing")
    unit: str = entry(Text(16, r"[^\x00-\x1f\x7f\"]*"), "", "its unit, for people")
    scale: float = entry(Real(1e9, zero=False), 1.0, "value = what is read x scale + offset")
    offset: float = entry(Real(1e9), 0.0, "added after scaling")
    source: str = entry(
        Text(64, r"[A-Za-z0-9 ._:/-]*", "a quoted name"), "", "the device that it is part of: channels of one source fail together; unsaid: itself"
    )
    low: float | None = entry(Real(), None, "below this it is out of range")
    high: float | None = entry(Real(), None, "above this it is out of range")
    step: float = entry(Real(), 0.0, "a jump by more than this that stays is a symptom; 0.0: what is usual for it decides")
    rate: float = entry(Real(), 0.0, "changing faster than this a second, three times in a row, is a symptom; 0.0: none is")
    stuck_ms: int = entry(Millis(0, 30 * DAY), 0, 'the very same value for so long is a symptom; "0s": what is usual for it decides')
    learn_ms: int = entry(
        Millis(0, 30 * DAY), DAY, 'how long it is watched before what is unusual for it is a symptom; "0s": only what is promised here is judged'
    )
    sibling: str = entry(Text(32, rf"({APP_NAME})?", "a sensor's name"), "", "the sensor beside it that measures the same: walking away from it is a symptom")
    power: int = entry(Number(0, 64), 0, "the line of hooks/power-cycle.targets that feeds it, from 1; 0: none")
    form: str = entry(Choice(("json", "csv", "nmea", "words", "number")), "json", "kinds line and topic: how it is read")
    field: str = entry(Text(64), "", "kinds line and topic: a key (dotted for json), a column from 0, or SENTENCE.n; form number needs none")
    topic: str = entry(Text(128, r"[^\x00-\x1f\x7f#+\"]*"), "", "kind topic: its full name")
    broker: str = entry(
        Text(64, r"(127\.\d{1,3}\.\d{1,3}\.\d{1,3}|localhost|\[::1\]):\d{1,5}", 'a quoted "127.0.0.1:1883"'),
        "127.0.0.1:1883",
        "kind topic: the broker on this box",
    )
    baud: int = entry(Number(300, 4_000_000), 9_600, "speed of the serial line")
    parity: str = entry(Choice(("N", "E", "O")), "N", "parity of the serial line")
    stop_bits: int = entry(Number(1, 2), 1, "stop bits of the serial line")
    slave: int = entry(Number(1, 247), 1, "kind modbus: the slave's address")
    register: int = entry(Number(0, 65_535), 0, "kind modbus: the register, from 0")
    function: int = entry(Number(1, 4), 3, "kind modbus: 1 coil, 2 input, 3 holding register, 4 input register")
    type: str = entry(Choice(("bit", "u16", "i16", "u32", "i32", "f32")), "u16", "kind modbus: what stands in the register")
    swapped: bool = entry(Flag(), False, "kind modbus: the low word comes first")


@dataclass(frozen=True, slots=True)
class Fleet:
    """How far a signed policy of the fleet may go."""

    may: tuple[str, ...] = entry(
        Items(Choice(("goal", "thresholds", "budgets", "priors"))), ("goal", "thresholds", "budgets", "priors"), "what a signed policy may set here"
    )
    budget_most: int = entry(Number(0, 1_000), 50, "most tries that it may allow in a window")
    budget_window_s: int = entry(Seconds(60, 30 * 86_400), 600, "shortest window that it may set")


@dataclass(frozen=True, slots=True)
class Trust:
    """Keys and revocations."""

    stale_s: int = entry(Seconds(86_400, 10 * 365 * 86_400), 365 * 86_400, "trust older than this is told, and refuses nothing")
    shared_keys: bool = entry(Flag(), False, "whether one key may stand in two roles")
    keep: tuple[str, ...] = entry(Items(_ID, 16), (), "images that may run on although revoked, where nothing else may run")


@dataclass(frozen=True, slots=True)
class Controller:
    """The fleet's controller; the broker stands in [link]."""

    store: str = entry(FilePath(), "/var/lib/edgeheal-controller/fleet.db", "its database")
    listen: str = entry(Text(128, r"([A-Za-z0-9.:_-]+:\d{1,5})?", 'a quoted "HOST:PORT"'), "", "where its web page is; unsaid: none")
    retention_s: int = entry(Seconds(3_600, 10 * 365 * 86_400), 90 * 86_400, "how long reports are kept")
    batch: int = entry(Number(1, 10_000), 200, "reports a commit, at most")
    batch_wait_ms: int = entry(Millis(1, 10_000), 20, "longest wait before a commit")


@dataclass(frozen=True, slots=True)
class Config:
    """All of it; the defaults are a device without a fleet and without apps."""

    mode: str = entry(_MODE, "act", "observe: decide and tell; ask: act after approval; act", touches="policy")
    approval_s: int = entry(Seconds(60, 30 * 86_400), 86_400, "how long a remedy waits for approval before it becomes NEEDS YOU", touches="policy")
    pressure_extensions: int = entry(Number(0, 20), 3, "how often a busy host may stretch an app's deadline", touches="policy")
    group_window_ms: int = entry(Millis(100, 10 * MINUTE), 5 * S, "apps that fail within this time may be one incident", touches="policy")
    device: Device = section(Device, "who this box is", "link")
    apps: dict[str, App] = table(App, "the apps that exist here", "catalog", names=APP_NAME)
    remedies: dict[str, Remedy] = table(Remedy, "the ladder, step by step", "policy", names=REMEDIES, starts=_remedies)
    limits: Limits = section(Limits, "limits of apps whose manifest and table name none", "guard")
    backoff: Backoff = section(Backoff, "waits between restarts", "policy")
    probes: Probes = section(Probes, "probes whose image says nothing else", "policy")
    sampling: Sampling = section(Sampling, "how often apps and host are measured", "sampling")
    sensors: dict[str, Sensor] = table(Sensor, "values that the agent reads itself", "restart of the agent", names=APP_NAME)
    thresholds: Limit = section(Limit, "when a figure becomes a symptom", "policy")
    link: Link = section(Link, "the way to the fleet", "link")
    spool: Spool = section(Spool, "reports that wait for the fleet", "restart of the agent")
    journal: Journal = section(Journal, "the record of decisions", "restart of the agent")
    recordings: Recordings = section(Recordings, "what is kept of an incident", "restart of the agent")
    guard: Guard = section(Guard, "what the privileged process may do", "guard")
    users: Users = section(Users, "who each part runs as", "restart of guard and agent")
    watchdog: Watchdog = section(Watchdog, "the hardware watchdog", "guard")
    boot: Boot = section(Boot, "why the box booted", "guard")
    reset: dict[str, Reset] = table(Reset, "registers and files that say why", "guard", names=APP_NAME)
    hooks: Hooks = section(Hooks, "remedies whose effect leaves the box", "guard")
    fleet: Fleet = section(Fleet, "how far a signed policy may go", "guard")
    trust: Trust = section(Trust, "keys and revocations", "guard")
    controller: Controller = section(Controller, "the fleet's controller", "restart of the controller")
