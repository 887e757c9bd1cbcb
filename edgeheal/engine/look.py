# SPDX-License-Identifier: Apache-2.0
"""From the state to the scene of one fault: what the ranking of causes may look at.

Duty: gather. It judges nothing. Invariant: ages are of now; what was never seen is -1.
"""

from typing import Any

from edgeheal.core import host_metrics
from edgeheal.core.app import AppSpec
from edgeheal.core.deployment import TRIAL
from edgeheal.core.kinds import SENSOR_SYMPTOMS, ChangeKind, Outcome, RemedyKind, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.symptom import Symptom
from edgeheal.detect import exits, host, kernel, link, sensors, used
from edgeheal.detect.senses import AppSenses
from edgeheal.diagnose.scene import HostScene, Scene
from edgeheal.diagnose.topology import hard_needs, wants
from edgeheal.engine import sensing
from edgeheal.engine.turn import Turn
from edgeheal.recover.app import App
from edgeheal.recover.case import Case

LOG_NS = 10 * NS
STRANGER_NS = 120 * NS  # the guard looks once a minute
ALIVE_NS = 60 * NS
# which sign of a case speaks for it, the most telling first
TELLING = (
    SymptomKind.TRIAL_FAILED, SymptomKind.UNKILLABLE, SymptomKind.PORT_HELD, SymptomKind.APP_HELD, SymptomKind.FOREIGN_RESTARTS,
    SymptomKind.OOM_KILL, SymptomKind.MEMORY_LIMIT, SymptomKind.MEMORY_GROWTH, SymptomKind.FD_GROWTH, SymptomKind.THREAD_GROWTH,
    SymptomKind.CHILD_GROWTH, SymptomKind.CRASH_LOOP, SymptomKind.EXIT, SymptomKind.START_FAILED, SymptomKind.HANG, SymptomKind.START_SLOW,
    SymptomKind.PROBE_FAILED,
)  # fmt: skip
_SCARCE = {host_metrics.HOST_FDS: "descriptors", host_metrics.HOST_PIDS: "pids"}
_LIFE = frozenset(TELLING)
# a change of scale takes a value out of its range, too, and a default is often one
_RANK = {kind: at for at, kind in enumerate((*TELLING, SymptomKind.SENSOR_SCALE, SymptomKind.SENSOR_DEFAULT))}


def telling(case: Case) -> Symptom:
    """The sign that speaks for the case; made from the incident where no sign is on any more."""
    if not case.signs:
        return Symptom(case.incident.symptom, case.incident.app, case.incident.subject, detail=case.detail)
    return min(case.signs, key=lambda s: _RANK.get(s.kind, 99))


def tells_more(kind: SymptomKind, than: SymptomKind) -> bool:
    """Whether `kind` speaks for a case rather than `than`."""
    return _RANK.get(kind, 99) < _RANK.get(than, 99)


def _age_s(turn: Turn, at_ns: int) -> float:
    return (turn.ns - at_ns) / NS if at_ns else -1.0


def of_host(turn: Turn) -> HostScene:
    """Conditions of the box."""
    box = turn.state.senses.box
    full = next((m.partition(":")[2] or m for m in box.host.on if m.startswith(("disk_free", "disk_inodes"))), "")
    readonly = next((m.partition(":")[2] for m in box.host.on if m.startswith("disk_readonly")), "")
    down = link.lowest(box.link)
    low_supply = box.kernel.voltage_low or "undervoltage" in box.host.on
    return HostScene(
        undervoltage_s=0.0 if low_supply else _age_s(turn, box.kernel.voltage_ns),
        disk_full=full,
        disk_fault=readonly or (box.kernel.fault if 0 <= _age_s(turn, box.kernel.fault_ns) < 300 else ""),
        memory_low="memory_free_permille" in box.host.on,
        oom_s=_age_s(turn, box.kernel.oom_ns),
        pressed=host.pressed(box.host),
        hot=any(m.startswith("temperature_c") for m in box.host.on),
        network_down=down if down in link.NETWORK else "",
        network_down_s=_age_s(turn, box.link.down.get(down, 0)) if down else -1.0,
        stood_still_s=_age_s(turn, turn.still_ns),
        booted_s=_age_s(turn, box.boots.at_ns),
        mount_silent=next((m.partition(":")[2] for m in box.host.on if m.startswith(host_metrics.MOUNT_SILENT)), ""),
        bus=kernel.bus(box.kernel, turn.ns),
        kernel_s=_age_s(turn, box.kernel.own_ns),
        scarce=next((word for metric, word in _SCARCE.items() if metric in box.host.on), ""),
        stepped_s=_age_s(turn, box.host.stepped_ns),
        step_s=box.host.stepped_s,
    )


def greediest(turn: Turn, kind: SymptomKind) -> str:
    """The app that has most of what the box is short of, as of the last samples; "" = not known."""
    figure = {SymptomKind.HOST_FDS: "fds", SymptomKind.HOST_PIDS: "tasks", SymptomKind.HOST_MEMORY: "memory_kib"}.get(kind)
    if figure is None:
        return ""
    have = {name: getattr(senses.used, figure) for name, senses in turn.state.senses.apps.items() if name in turn.apps and turn.apps[name].up}
    return max(have, key=lambda name: (have[name], name), default="")


def of_case(turn: Turn, case: Case) -> Scene:
    """The scene of one case."""
    symptom = telling(case)
    app = turn.apps.get(case.app) if case.app else None
    holder = next((s.subject for s in case.signs if s.kind is SymptomKind.PORT_HELD), "")
    line = sensing.line_of(turn, case.app, symptom.subject)
    trouble = turn.state.senses.box.lines.get(line, "") if line else ""
    n_sensors, bad_sensors = sensing.beside(turn, case.app, symptom.subject) if symptom.kind in SENSOR_SYMPTOMS else (0, 0)
    if trouble == "held":
        holder = sensing.holder_of(turn, line)
    if app is None:
        most = greediest(turn, symptom.kind)
        return Scene(symptom, case.signs, of_host(turn), sensors=n_sensors, sensors_bad=bad_sensors, port_holder=holder, line=trouble, greediest=most)
    senses = turn.state.senses.of(app.name)
    spec = turn.spec(app.name)
    down = tuple(n for n in hard_needs(spec, "app") if (other := turn.apps.get(n)) is not None and other.known and not other.ready)
    alive = _alive(turn, app, senses, case)
    vain = any(t.kind in (RemedyKind.RESTART, RemedyKind.CLEAN_RESTART) and t.outcome is Outcome.FAILED for t in case.incident.tried)
    failed_run = symptom.kind in (SymptomKind.EXIT, SymptomKind.CRASH_LOOP, SymptomKind.OOM_KILL)
    return Scene(
        symptom,
        case.signs,
        of_host(turn),
        change=app.change,
        change_s=_age_s(turn, app.change_ns),
        config_differs=app.config_differs,
        lived_s=senses.ends.lived_ms / 1000 if failed_run and senses.ends.lived_ms >= 0 else _age_s(turn, app.started_ns),
        exits=exits.recent(senses.ends, turn.around(app.name)),
        exit_code=senses.ends.code if failed_run else -1,
        exit_signal=senses.ends.signum if failed_run else -1,
        in_trial=app.image_state == TRIAL,
        fresh_image=app.change is ChangeKind.IMAGE,
        soak_s=spec.soak_s,
        needs_network=wants(spec, "network"),
        down_needs=down,
        same_time=same_time(turn, case),
        late=senses.beat.on or senses.beat.due_ns > 0,
        alive=alive > 0,
        alive_by=alive,
        siblings_ok=sum(1 for a in turn.apps.values() if a.ready and a.name != app.name),
        sensors=n_sensors or len(spec.metrics),
        sensors_bad=bad_sensors or sensors.bad(senses.sensed),
        log_error=senses.log.error if 0 <= _age_s(turn, senses.log.error_ns) * NS < LOG_NS else "",
        port_holder=holder,
        stranger=senses.hands.who if senses.hands.who_ns and turn.ns - senses.hands.who_ns < STRANGER_NS else "",
        restarted_in_vain=vain,
        fds_full=senses.full.fds_on,
        line=trouble,
        **_last_sample(turn, app, senses.used, spec),
        start_reason=senses.ends.start_reason,
        start_errno=senses.ends.start_errno,
        wchan=next((s.detail for s in case.signs if s.kind is SymptomKind.UNKILLABLE), ""),
    )


def _last_sample(turn: Turn, app: App, seen: used.Used, spec: AppSpec) -> dict[str, Any]:
    """What the run used when it was looked at last, if that is not long ago; its processor and its waiting only while it is up."""
    if seen.run != app.run or not 0 <= turn.ns - seen.at_ns < ALIVE_NS:
        return {}
    figures: dict[str, Any] = {
        "fds": seen.fds, "fds_limit": seen.fds_limit, "fds_share": used.fds_share(seen), "memory_kib": seen.memory_kib,
        "memory_limit_kib": spec.memory_kib or seen.limit_kib,
    }  # fmt: skip
    return figures | {"cpu_permille": seen.cpu_permille, "wait_d": seen.wait_d} if app.up else figures


def _alive(turn: Turn, app: App, senses: AppSenses, case: Case) -> int:
    """How many witnesses say that the app does its work: heartbeat, other probes, readings."""
    if not app.ready or case.has(SymptomKind.HANG) or case.has(SymptomKind.EXIT):
        return 0
    spec = turn.spec(app.name)
    failing = {s.subject for s in case.signs}
    beat = int(spec.heartbeat_ms > 0 and not senses.beat.on and senses.beat.due_ns == 0)
    probes = sum(1 for name, p in senses.probed.items() if name not in failing and not p.on and p.ok_ns and turn.ns - p.ok_ns < ALIVE_NS)
    reads = sum(1 for s in senses.sensed.values() if s.seen_ns and not s.missing and turn.ns - s.seen_ns < ALIVE_NS)  # a stuck one, too: it came
    return beat + probes + min(reads, 2)


def same_time(turn: Turn, case: Case) -> tuple[str, ...]:
    """Other apps whose failure began in the same window."""
    window_ns = round(turn.policy.group_window_s * NS)
    opened = case.incident.opened_ns
    others = {
        c.app for c in turn.cases.values() if c.app and c.app != case.app and abs(c.incident.opened_ns - opened) <= window_ns and c.incident.symptom in _LIFE
    }
    return tuple(sorted(others))
