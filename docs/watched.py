# SPDX-License-Identifier: Apache-2.0
"""The table of what is watched: each symptom, where its signal comes from, what it is told apart from, how soon, and what is done.

Duty: words for where, apart and how soon; what is blamed first and what is done is taken from the tables that decide. A test holds that no symptom
is left out. Invariant: figures of time are the defaults of the code, never typed twice.
"""

from edgeheal.agent import itself as agent_itself
from edgeheal.config.schema import Config
from edgeheal.core import words
from edgeheal.core.kinds import RemedyKind, SymptomKind
from edgeheal.core.policy import Policy
from edgeheal.detect import busy, host, kernel, normal, sensor_default, sensor_rate, sensors, sibling
from edgeheal.diagnose.rank import PRIORS
from edgeheal.recover.ladder import CURES

S, R = SymptomKind, RemedyKind
_CONFIG, _LIMITS = Config(), Policy().thresholds
EVERY_S = _CONFIG.sampling.every_ms / 1000
PROBES_S = _CONFIG.probes.every_ms / 1000 * _CONFIG.probes.misses
AT_ONCE = "at once"


def span(seconds: float) -> str:
    """A time as people say it."""
    if seconds >= 3_600:
        return f"{seconds / 3_600:g} h"
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def samples(count: int) -> str:
    """So many samples of `[sampling] every`."""
    return f"{count} x `sampling.every`, {span(count * EVERY_S)}"


_AFTER = f"{span(_LIMITS.leak_min_window_s)} of growth at least; soon enough before the limit"
_PROC = "/proc of the run, its cgroup"
_KMSG = "/dev/kmsg"
_READINGS = "the app's metrics, sensors of the box"
# symptom -> (where from, told apart from, how soon)
WATCHED: dict[SymptomKind, tuple[str, str, str]] = {
    S.EXIT: ("pidfd, in the guard", "an ordered stop, a code that means *done*, an app nobody wants, a program that hands over to another", AT_ONCE),
    S.CRASH_LOOP: ("the guard", "ends spread over days", f"{_LIMITS.crash_loop_exits} ends in {span(_LIMITS.crash_loop_window_s)}"),
    S.HANG: ("sd_notify heartbeat", "a box that stood still, a busy host (stretched, 3 times at most), an app that says BUSY", "the promised period"),
    S.START_FAILED: ("the guard's exec, with its errno", "no image yet, held, paused", AT_ONCE),
    S.START_SLOW: ("the guard", "a slow start inside its grace", f"`probes.start_grace`, {span(_CONFIG.probes.start_grace_ms / 1000)}"),
    S.PROBE_FAILED: ("exec, http, tcp, freshness, heartbeat probes", "one miss, *could not tell*, a standstill, a start", f"`probes.misses` x `probes.every`, {span(PROBES_S)}"),
    S.MEMORY_GROWTH: (_PROC, "warm-up, a collector's sawtooth, page cache, a nightly burst", _AFTER),
    S.MEMORY_LIMIT: (_PROC, "a peak, page cache", samples(3)),
    S.FD_GROWTH: (_PROC, "a warm-up, a peak", _AFTER),
    S.THREAD_GROWTH: (_PROC, "a pool that fills", _AFTER),
    S.CHILD_GROWTH: (_PROC, "a burst of workers", _AFTER),
    S.ZOMBIES: (_PROC, "a child that ended a moment ago", span(busy.ZOMBIES_S)),
    S.CPU_SPIN: (_PROC, "honest work: heartbeat, probe or reading comes", span(busy.SPIN_S)),
    S.OOM_KILL: (f"{_KMSG}, the cgroup's counter", "SIGKILL by anybody else", AT_ONCE),
    S.SENSOR_MISSING: (_READINGS, "an app that hangs or starts, an answer as late as it often is, a standstill", f"{sensors.SILENT_PERIODS} periods of the sensor"),
    S.SENSOR_STUCK: (_READINGS, "a value that may rest so long, a coarse sensor at night", f"`stuck` as promised, else {normal.STUCK_FACTOR:g} times its longest rest"),
    S.SENSOR_RANGE: (_READINGS, "one bad reading", f"{sensors.AGREE} readings"),
    S.SENSOR_JUMP: (_READINGS, "one spike, a step within the promised or the usual one", f"{sensors.AGREE} readings; learned: {normal.BLOCK}"),
    S.SENSOR_NOISE: (_READINGS, "its own usual noise, one spike", f"{normal.FACTOR:g} times the usual over {normal.AGREE * normal.BLOCK} readings"),
    S.SENSOR_DRIFT: (_READINGS, "a true change that its sibling shows, too; an offset between them", f"{sibling.AGREE * sibling.BLOCK} readings apart"),
    S.SENSOR_SCALE: (_READINGS, "a true step, a spike", f"{sensors.AGREE} readings"),
    S.SENSOR_DEFAULT: (_READINGS, "a value that passes through, a set point, a pump that is off", f"{sensor_default.SAME} readings"),
    S.SENSOR_FAST: (_READINGS, "one spike, one true step, noise", f"{sensor_rate.AGREE} readings beyond `rate`"),
    S.LOG_ERROR: ("the app's log, folded by template", "an app that complains and lives: evidence only", AT_ONCE),
    S.LOG_CRASH: ("stack traces in the app's log", "an exception that was caught: evidence only", AT_ONCE),
    S.DISK_SPACE: ("statvfs of our folders and `sampling.mounts`, on a worker", "root's reserve, a figure that hovers, two labels on one disk", samples(1)),
    S.DISK_INODES: ("the same", "a file system without a fixed number", samples(1)),
    S.DISK_READONLY: (f"the same, {_KMSG}", "a mount that was read-only from the start is told, too", samples(1)),
    S.DISK_ERRORS: (_KMSG, "one error of a medium; three count", AT_ONCE),
    S.MOUNT_HANG: ("statvfs that does not come back, one worker a mount", "a slow disk", "5 s"),
    S.FLASH_WEAR: ("sysfs life_time of the eMMC", "a card that tells nothing", "an hour; it moves in months"),
    S.HOST_MEMORY: ("/proc/meminfo", "cache, a short peak", samples(3)),
    S.HOST_PRESSURE: ("PSI *full*, I/O and memory", "a burst, pressure on the processor (it only stretches deadlines)", samples(6)),
    S.HOST_FDS: ("/proc/sys/fs/file-nr", "a peak", samples(2)),
    S.HOST_PIDS: ("/proc/loadavg against pid_max and threads-max", "a peak", samples(2)),
    S.TEMPERATURE: ("thermal zones and their trips, the firmware's throttling", "a peak, a passive trip", samples(2)),
    S.UNDERVOLTAGE: (f"the firmware, hwmon, {_KMSG}", "a supply that was weak long ago", AT_ONCE),
    S.USB_RESET: (_KMSG, "one re-enumeration; three count", AT_ONCE),
    S.KERNEL_FAULT: (_KMSG, "one slow task, one stutter of a network chip", AT_ONCE),
    S.HARDWARE_ERROR: (_KMSG, "a corrected error; three in an hour count", AT_ONCE),
    S.CLOCK_STEP: ("the wall clock against the clock since boot", f"the first setting, a jump below {host.STEP_TOLD_S:g} s, suspend, slewing", samples(1)),
    S.CLOCK_UNTRUSTED: ("adjtimex, the time daemon's mark", "a boot a while ago", span(_LIMITS.clock_untrusted_s)),
    S.CARRIER: ("rtnetlink, sysfs", "a roaming modem", f"`thresholds.link_down`, {span(_LIMITS.link_down_s)}"),
    S.ADDRESS: ("rtnetlink", "a lease that is renewed", "the same"),
    S.ROUTE: ("rtnetlink, /proc/net", "a change of way", "the same"),
    S.DNS: ("the link's own connect", "a refused connect (then the name was found)", "the same"),
    S.BROKER: ("the link: tcp, tls, broker, judged by received bytes", "a broker that restarts", "the same"),
    S.UNPLANNED_BOOT: ("watchdog status, pstore, reset reasons, our marks", "an ordered reboot, a clean shutdown", AT_ONCE),
    S.BOOT_LOOP: ("the same, counted in box time", "boots a person wanted", "the third in an hour"),
    S.WATCHDOG: ("the same", "a reboot that the watchdog carried out by order", AT_ONCE),
    S.CONFIG_BROKEN: ("the config reader", "a file that is being written", AT_ONCE),
    S.FOREIGN_RESTARTS: ("TERM, INT, HUP, QUIT that nobody of us sent; starts we did not order", "our remedies, a person at our door, an update",
                         f"{_LIMITS.foreign_restarts} in {span(_LIMITS.foreign_window_s)}"),
    S.UNKILLABLE: ("the guard, after SIGKILL's own deadline", "a slow stop", "the stop's deadline + 5 s"),
    S.PORT_HELD: ("the guard, when a start fails: /proc/net and its owner", "our own leftovers (they are ended)", AT_ONCE),
    S.TRIAL_FAILED: ("the guard", "an image that soaks slowly", AT_ONCE),
    S.IMAGE_DIFFERS: ("the guard's state at each boot", "an ordered switch", AT_ONCE),
    S.IMAGE_ROT: ("the guard's checks at start and weekly", "a file of the app's data", AT_ONCE),
    S.APP_HELD: ("the guard", "a pause", AT_ONCE),
    S.RESTART_CUT: ("the engine: an ordered end without its start", "a stop a person wanted", "5 s"),
    S.LEFTOVERS: ("the guard, before a start", "a program that hands over to another", AT_ONCE),
    S.DEPENDENCY: ("readiness of what it needs", "an app that fails by itself", AT_ONCE),
    S.AGENT_SELF: ("the agent's memory, loop, medium, journal, spool, queue, budgets", "a peak, a slow flush",
                   f"`sampling.every`, {span(EVERY_S)}; calls over {agent_itself.GAP_MS} ms, {agent_itself.HOLD} periods long; a write over {agent_itself.MEDIUM_MS} ms"),
    S.GUARD_LOST: ("the guard's socket", "an upgrade of the guard (a moment)", AT_ONCE),
    S.STANDSTILL: ("the loop's own gap", "a busy host", span(_LIMITS.standstill_ms / 1000)),
    S.TWIN: ("the broker's word that our place was taken, another's birth under our name", "our own reconnect", AT_ONCE),
    S.TRUST_STALE: ("the trust store", "a clock that nobody trusts", "a day"),
    S.RECORD_DAMAGED: ("checksums of our own records", "a fresh device", AT_ONCE),
    S.BASELINE: ("what was learned of a figure", "what is usual at this hour", "a window of readings"),
}  # fmt: skip


def blamed(kind: SymptomKind) -> str:
    """The causes that are thought of first, before any evidence."""
    named = sorted(((w, c) for c, w in PRIORS[kind].items() if c.name != "UNKNOWN"), key=lambda item: (-item[0], item[1]))
    return ", ".join(words.CAUSES[c].removeprefix("sensor: ") for _, c in named[:2]) or "open"


def done(kind: SymptomKind) -> str:
    """The mildest remedies that help the first cause, in the ladder's order; else who is called."""
    first = max((c for c in PRIORS[kind] if c.name != "UNKNOWN"), key=lambda c: PRIORS[kind][c], default=None)
    helps = sorted(r for r, p in CURES[first].items() if p >= 0.3) if first is not None else []
    return ", ".join(words.REMEDIES[r] for r in helps[:3]) or words.REMEDIES[R.CALL]


def rows() -> list[tuple[str, str, str, str, str, str]]:
    """The table's lines, in the order of `WATCHED`."""
    return [(words.SYMPTOMS[kind], where, apart, soon, blamed(kind), done(kind)) for kind, (where, apart, soon) in WATCHED.items()]


HEAD = ("noticed as", "comes from", "told apart from", "time to symptom", "first suspects", "what is done")
KERNEL_ROWS = tuple(sorted((what, words.SYMPTOMS[row.kind], row.times, row.within_s) for what, row in kernel.ROWS.items()))
