# SPDX-License-Identifier: Apache-2.0
"""What speaks for and against a cause: one small rule each, in the explicit table `RULES`.

Duty: from a scene to likelihood ratios with the fact they rest on. A factor above 1 speaks for, below 1 against.
Invariants: rules are independent of each other and of order; what could not be seen yields nothing. Text that came from an app
moves app-class causes only, never kernel, disk or supply (safety: words from an app are evidence, not orders).
"""

from collections.abc import Iterator

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import SENSOR_SYMPTOMS, CauseKind, ChangeKind, EvidenceCode, SymptomKind
from edgeheal.diagnose import box_rules
from edgeheal.diagnose.scene import Scene
from edgeheal.diagnose.word import Rule, Word
from edgeheal.diagnose.word import fact as _fact

C, E, S = CauseKind, EvidenceCode, SymptomKind

RECENT_S = 300.0
CHANGE_LEAST_S = 60.0
STOPS = frozenset({15, 2, 1, 3})  # signals that a hand sends: TERM, INT, HUP, QUIT
FAULTS = frozenset({11, 7, 4, 8, 6, 5, 31})  # signals that a fault of the program raises: SEGV, BUS, ILL, FPE, ABRT, TRAP, SYS
_APP_DOWN = frozenset({S.EXIT, S.CRASH_LOOP, S.START_FAILED, S.START_SLOW, S.HANG, S.PROBE_FAILED, S.OOM_KILL, S.LOG_CRASH})
_GROWTH = {
    S.MEMORY_GROWTH: C.APP_MEMORY,
    S.MEMORY_LIMIT: C.APP_MEMORY,
    S.FD_GROWTH: C.APP_DESCRIPTORS,
    S.THREAD_GROWTH: C.APP_THREADS,
    S.CHILD_GROWTH: C.APP_THREADS,
}
_BOOTS = frozenset({S.UNPLANNED_BOOT, S.WATCHDOG, S.BOOT_LOOP})
_VERDICTS = {"power loss": C.POWER_LOSS, "brown-out": C.SUPPLY, "watchdog": C.WATCHDOG, "panic": C.KERNEL, "thermal": C.THERMAL}  # detect.reset's words


def changed_config(s: Scene) -> Iterator[Word]:
    """The app's config is not the one it soaked with: more so when it fails soon after its start."""
    if s.config_differs and s.symptom.kind in _APP_DOWN:
        just = s.change is ChangeKind.CONFIG and 0 <= s.change_s < RECENT_S
        quick = just or 0 <= s.lived_s < RECENT_S or s.symptom.kind in (S.START_FAILED, S.START_SLOW)
        factor = 8.0 if not quick else 150.0 if s.exits < 2 else 900.0
        yield Word(C.APP_CONFIG, factor, _fact(E.CONFIG_CHANGED_S, max(0.0, s.change_s) if s.change is ChangeKind.CONFIG else 0.0))


def changed_image(s: Scene) -> Iterator[Word]:
    """An image on trial; one that soaked here, but came not longer ago than it soaks, is suspected less; later it has shown that it runs."""
    if s.in_trial:
        yield Word(C.APP_IMAGE, 40.0, _fact(E.IMAGE_CHANGED_S, max(0.0, s.change_s)))
    elif s.change is ChangeKind.IMAGE and 0 <= s.change_s < max(CHANGE_LEAST_S, s.soak_s):
        yield Word(C.APP_IMAGE, 3.0, _fact(E.IMAGE_CHANGED_S, s.change_s, max(CHANGE_LEAST_S, s.soak_s)))
    elif s.symptom.kind in _APP_DOWN:
        yield Word(C.APP_IMAGE, 0.6)


def ended_by_hand(s: Scene) -> Iterator[Word]:
    """TERM, INT, HUP or QUIT that was not ours: somebody else's hand."""
    if s.exit_signal in STOPS and s.has(S.EXIT):
        yield Word(C.FOREIGN_HAND, 160.0, _fact(E.EXIT_SIGNAL, s.exit_signal))


def run_by_another(s: Scene) -> Iterator[Word]:
    """Somebody else runs its program as well: a lock, a port or a device may be his."""
    if s.stranger and s.symptom.kind in _APP_DOWN:
        yield Word(C.FOREIGN_HAND, 160.0, _fact(E.STARTS_FOREIGN, 1, 0, s.stranger), s.stranger)


def ended_by_fault(s: Scene) -> Iterator[Word]:
    """SEGV, ABRT and their like: the program itself."""
    if s.exit_signal in FAULTS:
        yield Word(C.APP_CRASH, 2.5, _fact(E.EXIT_SIGNAL, s.exit_signal))


def short_runs(s: Scene) -> Iterator[Word]:
    """Many ends in the window: less and less a passing fault."""
    if s.exits >= 3:
        yield Word(C.APP_IMAGE, 1.5, _fact(E.EXITS_IN_WINDOW, s.exits))
        yield Word(C.APP_CONFIG, 1.5)


def port_held(s: Scene) -> Iterator[Word]:
    """Somebody else holds the app's port."""
    if s.port_holder:
        yield Word(C.PORT_HELD, 2_000.0, _fact(E.PORT_HOLDER_PID, 0, 0, s.port_holder), s.port_holder)
    elif s.log_error and ("address already in use" in s.log_error or "eaddrinuse" in s.log_error):
        yield Word(C.PORT_HELD, 300.0, _fact(E.LOG_TEMPLATE, text="address already in use"))


def needs_down(s: Scene) -> Iterator[Word]:
    """What it needs is not ready."""
    if s.down_needs and (s.symptom.kind in _APP_DOWN or s.symptom.kind in SENSOR_SYMPTOMS):
        yield Word(C.DEPENDENCY, 150.0, _fact(E.REASON, len(s.down_needs), 0, s.down_needs[0]), s.down_needs[0])


def network_down(s: Scene) -> Iterator[Word]:
    """A layer below the broker is down and the app said that it needs the network."""
    if s.host.network_down and s.needs_network and s.symptom.kind in _APP_DOWN:
        yield Word(C.NETWORK, 400.0, _fact(E.LINK_DOWN_S, max(0.0, s.host.network_down_s), 0, s.host.network_down))
    elif not s.host.network_down and s.needs_network and s.symptom.kind in _APP_DOWN:
        yield Word(C.NETWORK, 0.3, _fact(E.LINK_DOWN_S, 0, 0, "", speaks_for=False))


def weak_supply(s: Scene) -> Iterator[Word]:
    """Under-voltage just before: the parent of whatever follows."""
    if 0 <= s.host.undervoltage_s < 30.0 and s.symptom.kind is not S.UNDERVOLTAGE:
        yield Word(C.SUPPLY, 500.0, _fact(E.UNDERVOLTAGE_MS, s.host.undervoltage_s * 1_000))


def full_disk(s: Scene) -> Iterator[Word]:
    """The disk is full (measured by us, not said by the app) while an app fails."""
    if s.host.disk_full and s.symptom.kind in _APP_DOWN:
        said = "no space left" in s.log_error or "enospc" in s.log_error
        yield Word(C.DISK_FULL, 1_500.0 if said else 600.0, _fact(E.DISK_FREE_PERMILLE, 0, 0, s.host.disk_full), s.host.disk_full)


def sick_disk(s: Scene) -> Iterator[Word]:
    """The kernel reports file system errors or a read-only mount."""
    if s.host.disk_fault and s.symptom.kind in _APP_DOWN:
        yield Word(C.DISK_FAULT, 60.0, _fact(E.REASON, 0, 0, s.host.disk_fault), s.host.disk_fault)


def low_memory(s: Scene) -> Iterator[Word]:
    """The box itself is short of memory."""
    if s.host.memory_low or 0 <= s.host.oom_s < 10.0:
        if s.has(S.OOM_KILL):
            yield Word(C.HOST_MEMORY, 6.0, _fact(E.OOM))
        elif s.symptom.kind in _APP_DOWN:
            yield Word(C.HOST_MEMORY, 20.0, _fact(E.HOST_MEMORY_PERMILLE))


def pressure(s: Scene) -> Iterator[Word]:
    """The host is under pressure: late is not dead."""
    if s.host.pressed and s.symptom.kind in (S.HANG, S.PROBE_FAILED, S.START_SLOW):
        yield Word(C.HOST_LOAD, 12.0, _fact(E.HOST_PRESSURE_PERMILLE))


def many_at_once(s: Scene) -> Iterator[Word]:
    """Others failed in the same moment: less likely each one's own fault."""
    if len(s.same_time) >= 2 and s.symptom.kind in _APP_DOWN:
        fact = _fact(E.SAME_TIME_APPS, len(s.same_time) + 1)
        for cause in (C.APP_CRASH, C.APP_HANG, C.APP_IMAGE, C.APP_CONFIG):
            yield Word(cause, 0.5, Evidence(fact.code, fact.value, 0.0, "", speaks_for=False))


def late_too(s: Scene) -> Iterator[Word]:
    """A probe fails while the heartbeat is late: it hangs."""
    if s.late and s.symptom.kind is S.PROBE_FAILED:
        yield Word(C.APP_HANG, 4.0, _fact(E.HEARTBEAT_LATE_MS))


def probe_alone(s: Scene) -> Iterator[Word]:
    """Heartbeat, other probes or readings speak for the app: the probe may be what is wrong, all the more after a restart in vain."""
    if s.symptom.kind is S.PROBE_FAILED and s.alive and s.symptom.detail != "ready":
        yield Word(C.PROBE, 25.0 if s.restarted_in_vain else 2.0, _fact(E.APP_ALIVE, s.alive_by))
        if s.restarted_in_vain:
            yield Word(C.APP_HANG, 0.2)
            yield Word(C.APP_BUSY, 0.2)


def app_alive(s: Scene) -> Iterator[Word]:
    """A sensor is silent or stuck while the app is well: not the app."""
    if s.symptom.kind not in SENSOR_SYMPTOMS:
        return
    if s.alive:
        yield Word(C.APP_CRASH, 0.15, _fact(E.APP_ALIVE, s.alive_by, speaks_for=False))
        yield Word(C.SENSOR, 1.3, _fact(E.APP_ALIVE, s.alive_by))
    if s.line == "missing":
        yield Word(C.BUS, 60.0, _fact(E.LINE, text="line away"))
        yield Word(C.SENSOR, 0.1)
    elif s.sensors_bad > 1 and s.sensors_bad == s.sensors:
        yield Word(C.BUS, 8.0, _fact(E.SIBLINGS_OK, 0, s.sensors))
        yield Word(C.SENSOR, 0.4)
    elif s.sensors > 1:
        yield Word(C.SENSOR, 1.5, _fact(E.SIBLINGS_OK, s.sensors - s.sensors_bad, s.sensors))
        yield Word(C.BUS, 0.4, _fact(E.SIBLINGS_OK, s.sensors - s.sensors_bad, s.sensors, speaks_for=False))


def growing(s: Scene) -> Iterator[Word]:
    """A growth that is on explains an end, a hang, or a failing probe better than its own words do."""
    for symptom in s.symptoms:
        cause = _GROWTH.get(symptom.kind)
        for fact in symptom.evidence if cause is not None else ():
            if fact.code is E.GROWS_WHILE:
                yield Word(C.APP_MEMORY, 1.5, fact)
        if cause is not None and s.symptom.kind in _APP_DOWN:
            yield Word(cause, 240.0, symptom.evidence[0] if symptom.evidence else None)


def descriptors_full(s: Scene) -> Iterator[Word]:
    """As many descriptors as it may have, counted by us: that is why it cannot resolve, connect or accept."""
    if s.fds_full and s.symptom.kind is not S.FD_GROWTH:
        yield Word(C.APP_DESCRIPTORS, 300.0, _fact(E.DESCRIPTORS))


def said_in_log(s: Scene) -> Iterator[Word]:
    """The last error of its log: moves app-class causes only."""
    if not s.log_error or s.symptom.kind not in _APP_DOWN:
        return
    if "config" in s.log_error or "settings" in s.log_error or "parse error" in s.log_error:
        yield Word(C.APP_CONFIG, 2.0 if s.config_differs else 1.3, _fact(E.LOG_TEMPLATE, text=s.log_error[:60]))
    if "schema" in s.log_error or "migration" in s.log_error:
        yield Word(C.APP_IMAGE, 1.5, _fact(E.LOG_TEMPLATE, text=s.log_error[:60]))
    if "out of memory" in s.log_error or "memoryerror" in s.log_error:
        yield Word(C.APP_MEMORY, 8.0, _fact(E.LOG_TEMPLATE, text=s.log_error[:60]))
    if "too many open files" in s.log_error:
        yield Word(C.APP_DESCRIPTORS, 30.0, _fact(E.LOG_TEMPLATE, text="too many open files"))


def in_the_kernel(s: Scene) -> Iterator[Word]:
    """It waits in the kernel and no signal ends it."""
    if s.symptom.kind is S.UNKILLABLE:
        yield Word(C.DEVICE_IO, 1.5, _fact(E.STATE_D, 0, 0, s.wchan))


def verdict_on_boot(s: Scene) -> Iterator[Word]:
    """What the witnesses of the boot agree on; a verdict that is unknown moves nothing."""
    if s.symptom.kind not in _BOOTS:
        return
    for fact in s.symptom.evidence:
        cause = _VERDICTS.get(fact.text)
        if fact.code is E.BOOTS_IN_WINDOW and cause is not None:
            yield Word(cause, 200.0, fact)


RULES: tuple[Rule, ...] = (
    changed_config, changed_image, ended_by_hand, run_by_another, ended_by_fault, short_runs, port_held, needs_down, network_down, weak_supply, full_disk,
    sick_disk, low_memory, pressure, many_at_once, late_too, probe_alone, app_alive, growing, descriptors_full, said_in_log, in_the_kernel,
    verdict_on_boot, *box_rules.RULES,
)  # fmt: skip
