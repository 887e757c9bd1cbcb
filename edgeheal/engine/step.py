# SPDX-License-Identifier: Apache-2.0
"""`step`: one signal in, the new state and all effects out. The whole autonomic loop as one deterministic function.

Duty: the order of the pipeline - facts, symptoms, cases, remedies, deadlines. Each part lives in a module of its own.
Invariants: no I/O, no clock, no chance but the seed in the state; the same snapshot and the same signals give the same effects, bit for
bit; a signal that is unknown, malformed or contradicts what is known changes nothing and never raises.

The order of a turn: a new boot or a standstill is noticed first (so that nobody is judged by it), then what the signal says is taken
into the facts, detectors turn it into symptoms, symptoms into cases, what is due is done, and each open case is cared for.
"""

from collections.abc import Callable
from typing import Any

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.app_table import AppEvent
from edgeheal.core.effect import Effect
from edgeheal.core.incident import Evidence
from edgeheal.core.incident_table import IncidentEvent
from edgeheal.core.kinds import SENSOR_SYMPTOMS, By, CauseKind, Channel, EvidenceCode, Phase, RemedyKind, SymptomKind
from edgeheal.core.now import Now
from edgeheal.core.policy import Policy
from edgeheal.core.symptom import Symptom
from edgeheal.core.values import replace
from edgeheal.detect import exits, foreign, sensors
from edgeheal.detect import senses as detectors
from edgeheal.engine import care, deadlines, facts, orders, outcome
from edgeheal.engine.notice import frames_came, killed_for_memory, notice, release
from edgeheal.engine.sound import is_sound, tag_of
from edgeheal.engine.state import State, rebooted
from edgeheal.engine.turn import Turn
from edgeheal.recover.app import App

Found = tuple[Symptom, ...]
APPS_MOST = 256


def step(state: State, signal: Any, now: Now) -> tuple[State, tuple[Effect, ...]]:
    """Fold one signal into the state. The state given is spent: its learned memory goes on in the new one."""
    if state.boot and now.boot != state.boot:
        state = rebooted(state, now)
    turn = Turn(state, now)
    if not is_sound(signal):
        turn.decided("not sound", None, "", tag_of(signal))
        return turn.finish(state.wake_ns)
    gap_ms = signal.gap_ms if isinstance(signal, sig.StoodStill) else deadlines.is_standstill(turn)
    if gap_ms > 0:
        deadlines.stood_still(turn, gap_ms)
    take = _TAKES.get(type(signal))
    found = take(turn, signal) if take is not None else _heard(turn, signal)
    for symptom in found:
        if symptom.on and symptom.app in turn.apps:
            turn.move(symptom.app, AppEvent.FAIL if symptom.serious else AppEvent.SUSPECT)
        notice(turn, symptom)
    deadlines.tick(turn)
    for number in list(turn.cases):
        if number in turn.cases:
            care.care(turn, number)
    if isinstance(signal, sig.Usage):
        deadlines.follow(turn, signal.app)
    wake_ns = deadlines.next_wake(turn)
    return turn.finish(max(wake_ns, turn.ns + 1_000_000) if wake_ns else 0)


# -- what each signal is taken for; the table is at the end


def _heard(turn: Turn, signal: Any) -> Found:
    """Through the detectors of its app, or of the box."""
    senses = turn.state.senses
    hear = detectors.APP.get(type(signal))
    if isinstance(signal, sig.Reading) and not signal.app:
        return _box_reading(turn, signal)
    if hear is not None:
        if signal.app not in turn.apps and signal.app not in turn.catalog:
            return ()
        memory = senses.of(signal.app)
        around = turn.around(signal.app)
        found = hear(memory, signal, around)
        senses.sooner(detectors.app_due(memory, around))
        return found
    hear_box = detectors.BOX.get(type(signal))
    if hear_box is None:
        return ()
    around = turn.around("")
    found = hear_box(senses.box, signal, around)
    senses.sooner(detectors.box_due(senses.box, around))
    return found


def _box_reading(turn: Turn, signal: sig.Reading) -> Found:
    """A value of a sensor that is the box's own."""
    senses = turn.state.senses
    around = turn.around("")
    found = sensors.read(senses.box.sensed, signal, around)
    senses.sooner(sensors.due(senses.box.sensed, around))
    return found


def _policy(turn: Turn, s: sig.PolicyIs) -> Found:
    try:
        turn.policy = Policy.from_plain(s.policy)
    except (TypeError, ValueError, KeyError, AttributeError) as fault:
        turn.decided("policy refused", None, "", type(fault).__name__)
        return ()
    turn.decided("policy", None, "", turn.policy.version)
    return ()


def _catalog(turn: Turn, s: sig.CatalogIs) -> Found:
    try:
        specs = [AppSpec.from_plain(p) for p in s.apps][:APPS_MOST]
        catalog = {spec.name: spec for spec in specs if isinstance(spec.name, str) and spec.name}
        box = replace(AppSpec("") if s.box is None else AppSpec.from_plain(s.box), name="")
    except (TypeError, ValueError, KeyError, AttributeError) as fault:
        turn.decided("catalog refused", None, "", type(fault).__name__)
        return ()
    for name in list(turn.apps):
        if name not in catalog:
            _removed(turn, name)
    turn.catalog = catalog
    _box_is(turn, box)
    for name in catalog:
        app = turn.app(name)
        if app is not None and app.removed:
            turn.put(App(name))
    turn.decided("catalog", None, "", len(catalog))
    return ()


def _box_is(turn: Turn, box: AppSpec) -> None:
    """What the box itself promises: sensors that are there no more leave nothing behind."""
    if box == turn.box:
        return
    turn.box, turn.box_ns = box, turn.ns
    sensed = turn.state.senses.box.sensed
    for name in sensed.keys() - {m.name for m in box.metrics}:
        del sensed[name]
        for case in turn.cases_of(""):
            for sign in case.signs:
                if sign.kind in SENSOR_SYMPTOMS and sign.subject == name:
                    notice(turn, replace(sign, on=False))
    turn.state.senses.sooner(sensors.due(sensed, turn.around("")))


def _removed(turn: Turn, name: str) -> None:
    """An app that exists no more: nothing is left to care for."""
    for case in turn.cases_of(name):
        outcome.resolved(turn, case, event=IncidentEvent.CLOSE)
    turn.apps.pop(name)
    turn.state.senses.apps.pop(name, None)


def _seen(turn: Turn, s: sig.AppSeen) -> Found:
    before = turn.apps.get(s.app)
    found = facts.seen(turn, s)
    app = turn.apps.get(s.app)
    if app is None:
        return ()
    if s.phase == Phase.STOPPED and s.wanted and not app.up:
        outcome.never_came(turn, s.app)
    for symptom in found:
        notice(turn, symptom)
    if app.up and before is not None and app.run != before.run:
        outcome.run_began(turn, s.app, s.started_by, app.image)
        if app.ready:
            _run_is_ready(turn, s.app, before.down_ns)
    elif app.up and app.ready and before is not None and not before.ready:
        _run_is_ready(turn, s.app, before.down_ns)
    if not app.wanted:
        orders.let_go(turn, s.app)
    return ()


def _started(turn: Turn, s: sig.AppStarted) -> Found:
    if not facts.started(turn, s):
        return ()
    found = _heard(turn, s)
    if s.by == By.FOREIGN:
        found += foreign.restarted(turn.state.senses.of(s.app).hands, s.app, "", turn.around(s.app))
    for symptom in found:
        notice(turn, symptom)
    outcome.run_began(turn, s.app, s.by, turn.apps[s.app].image)
    return ()


def _ready(turn: Turn, s: sig.AppReady) -> Found:
    before = turn.apps.get(s.app)
    if not facts.ready(turn, s):
        return ()
    _run_is_ready(turn, s.app, before.down_ns if before is not None else 0)
    return ()


def _run_is_ready(turn: Turn, name: str, down_ns: int) -> None:
    """The run does its work: what was about its end is over, who waited for it goes on."""
    for symptom in _heard(turn, sig.AppReady(name, turn.apps[name].run)):
        notice(turn, symptom)
    for kind in (SymptomKind.UNKILLABLE, SymptomKind.TRIAL_FAILED, SymptomKind.RESTART_CUT):
        for case in turn.cases_of(name):
            for sign in case.signs:
                if sign.kind is kind:
                    notice(turn, replace(sign, on=False))
    outcome.run_ready(turn, name, down_ns)
    turn.put(replace(turn.apps[name], down_ns=0))
    release(turn, CauseKind.DEPENDENCY, name)
    care.group_ready(turn, name)


def _exited(turn: Turn, s: sig.AppExited) -> Found:
    if not facts.exited(turn, s):
        return ()
    for case in turn.cases_of(s.app):
        for sign in case.signs:
            if sign.kind is SymptomKind.UNKILLABLE:  # it ended late by itself: the app goes on from there
                notice(turn, replace(sign, on=False))
        if s.ordered and case.has(SymptomKind.HANG):
            notice(turn, Symptom(SymptomKind.HANG, s.app, on=False))
    return _heard(turn, s)


def _start_failed(turn: Turn, s: sig.StartFailed) -> Found:
    return _heard(turn, s) if facts.start_failed(turn, s) else ()


def _late(turn: Turn, s: sig.HeartbeatMissed) -> Found:
    found = _heard(turn, s)
    app = turn.apps.get(s.app)
    if found and app is not None:
        turn.put(replace(app, down_ns=app.down_ns or turn.ns))
    return found


def _back(turn: Turn, s: sig.HeartbeatBack) -> Found:
    found = _heard(turn, s)
    app = turn.apps.get(s.app)
    if found and app is not None and app.ready and app.down_ns:
        outcome.run_ready(turn, s.app, app.down_ns)
        turn.put(replace(turn.apps[s.app], down_ns=0))
    return found


def _probed(turn: Turn, s: sig.ProbeAnswered) -> Found:
    before = turn.apps.get(s.app)
    if facts.probed(turn, s):
        _run_is_ready(turn, s.app, before.down_ns if before is not None else 0)
    return _heard(turn, s)


def _said(turn: Turn, s: sig.AppSaid) -> Found:
    facts.said(turn, s)
    return ()


def _log(turn: Turn, s: sig.LogSeen) -> Found:
    found = _heard(turn, s)
    if s.frames:
        frames_came(turn, s.app, s.frames)
    return found


def _kernel(turn: Turn, s: sig.KernelSaid) -> Found:
    found = _heard(turn, s)
    if s.what in ("oom", "oom_limit") and s.subject in turn.apps and exits.for_memory(turn.state.senses.of(s.subject).ends, turn.around(s.subject)):
        killed_for_memory(turn, s.subject)
    return found


def _deployments(turn: Turn, s: sig.DeploymentsAre) -> Found:
    facts.deployments(turn, s)
    return ()


def _trial_ended(turn: Turn, s: sig.TrialEnded) -> Found:
    """The guard's own judgement of a trial."""
    app = turn.app(s.app)
    if app is None:
        return ()
    turn.put(replace(app, judging_ns=0, held=not s.good and not s.back_to))
    if s.good:
        turn.decided("trial good", None, s.app, s.image)
        return ()
    fact = Evidence(EvidenceCode.REASON, s.reason, 0, s.back_to[:16])
    symptom = Symptom(SymptomKind.TRIAL_FAILED, s.app, channel=Channel.GUARD, evidence=(fact,), detail=s.image[:16], serious=True)
    notice(turn, symptom)
    outcome.trial_failed(turn, s.app, s.image, s.back_to)
    return ()


def _act_ended(turn: Turn, s: sig.ActEnded) -> Found:
    outcome.act_ended(turn, s.act, ok=s.ok, reason=s.reason, doubt=s.doubt)
    return ()


def _ordered(turn: Turn, s: sig.Ordered) -> Found:
    orders.ordered(turn, s)
    return ()


def _link(turn: Turn, s: sig.LinkIs) -> Found:
    found = _heard(turn, s)
    if s.up:
        release(turn, CauseKind.NETWORK)
        release(turn, CauseKind.BROKER)
    return found


def _booted(turn: Turn, s: sig.Booted) -> Found:
    told = bool(s.boot) and s.boot == turn.state.senses.box.boots.boot
    found = _heard(turn, s)
    for case in list(turn.cases.values()):
        if case.remedy is RemedyKind.REBOOT and not told:
            outcome.rebooted(turn, case)
    return found


def _port(turn: Turn, s: sig.PortHeld) -> Found:
    if s.app not in turn.apps:
        return ()
    holder = f"{s.command}[{s.pid}] {s.user}".strip()[:60]
    fact = Evidence(EvidenceCode.PORT_HOLDER_PID, s.pid, s.port, holder)
    return (Symptom(SymptomKind.PORT_HELD, s.app, holder, channel=Channel.KERNEL, evidence=(fact,), serious=True),)


def _nothing(_turn: Turn, _signal: sig.Signal) -> Found:
    return ()


_TAKES: dict[type[sig.Signal], Callable[[Turn, Any], Found]] = {
    sig.Tick: _nothing,
    sig.StoodStill: _nothing,
    sig.PolicyIs: _policy,
    sig.CatalogIs: _catalog,
    sig.AppSeen: _seen,
    sig.AppStarted: _started,
    sig.AppReady: _ready,
    sig.AppExited: _exited,
    sig.StartFailed: _start_failed,
    sig.HeartbeatMissed: _late,
    sig.HeartbeatBack: _back,
    sig.ProbeAnswered: _probed,
    sig.AppSaid: _said,
    sig.LogSeen: _log,
    sig.KernelSaid: _kernel,
    sig.DeploymentsAre: _deployments,
    sig.TrialEnded: _trial_ended,
    sig.ActEnded: _act_ended,
    sig.Ordered: _ordered,
    sig.LinkIs: _link,
    sig.Booted: _booted,
    sig.PortHeld: _port,
    sig.AppStuck: facts.stuck,
}
