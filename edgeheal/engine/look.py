# SPDX-License-Identifier: Apache-2.0
"""From the state to the scene of one fault: what the ranking of causes may look at.

Duty: gather. It judges nothing. Invariant: ages are of now; what was never seen is -1.
"""

from edgeheal.core.deployment import TRIAL
from edgeheal.core.kinds import ChangeKind, Outcome, RemedyKind, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.symptom import Symptom
from edgeheal.detect import exits, host, link, sensors
from edgeheal.detect.senses import AppSenses
from edgeheal.diagnose.scene import HostScene, Scene
from edgeheal.diagnose.topology import hard_needs, wants
from edgeheal.engine.turn import Turn
from edgeheal.recover.app import App
from edgeheal.recover.case import Case

LOG_NS = 10 * NS
ALIVE_NS = 60 * NS
# which sign of a case speaks for it, the most telling first
TELLING = (
    SymptomKind.TRIAL_FAILED, SymptomKind.UNKILLABLE, SymptomKind.PORT_HELD, SymptomKind.APP_HELD, SymptomKind.FOREIGN_RESTARTS,
    SymptomKind.OOM_KILL, SymptomKind.MEMORY_LIMIT, SymptomKind.MEMORY_GROWTH, SymptomKind.FD_GROWTH, SymptomKind.THREAD_GROWTH,
    SymptomKind.CHILD_GROWTH, SymptomKind.CRASH_LOOP, SymptomKind.EXIT, SymptomKind.START_FAILED, SymptomKind.HANG, SymptomKind.START_SLOW,
    SymptomKind.PROBE_FAILED,
)  # fmt: skip
_RANK = {kind: at for at, kind in enumerate(TELLING)}


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
    )


def of_case(turn: Turn, case: Case) -> Scene:
    """The scene of one case."""
    symptom = telling(case)
    app = turn.apps.get(case.app) if case.app else None
    if app is None:
        return Scene(symptom, case.signs, of_host(turn))
    senses = turn.state.senses.of(app.name)
    spec = turn.spec(app.name)
    down = tuple(n for n in hard_needs(spec, "app") if (other := turn.apps.get(n)) is not None and other.known and not other.ready)
    holder = next((s.subject for s in case.signs if s.kind is SymptomKind.PORT_HELD), "")
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
        needs_network=wants(spec, "network"),
        down_needs=down,
        same_time=same_time(turn, case),
        late=senses.beat.on or senses.beat.due_ns > 0,
        alive=alive > 0,
        alive_by=alive,
        siblings_ok=sum(1 for a in turn.apps.values() if a.ready and a.name != app.name),
        sensors=len(spec.metrics),
        sensors_bad=sensors.bad(senses.sensed),
        log_error=senses.log.error if 0 <= _age_s(turn, senses.log.error_ns) * NS < LOG_NS else "",
        port_holder=holder,
        restarted_in_vain=vain,
        fds_full=senses.full.fds_on,
        wchan=next((s.detail for s in case.signs if s.kind is SymptomKind.UNKILLABLE), ""),
    )


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
        c.app for c in turn.cases.values() if c.app and c.app != case.app and abs(c.incident.opened_ns - opened) <= window_ns and c.incident.symptom in _RANK
    }
    return tuple(sorted(others))
