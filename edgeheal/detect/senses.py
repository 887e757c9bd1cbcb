# SPDX-License-Identifier: Apache-2.0
"""All memory of all detectors, and the table that says which detector hears which signal.

Duty: hold and dispatch. Memory is numeric, updated in place by its detector, and part of the engine's snapshot.
Invariants: bounded in apps; a signal reaches its detectors in the order of the table; `due` is never later than the first deadline.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeheal.core import signal as sig
from edgeheal.core.kinds import SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.symptom import Symptom
from edgeheal.core.values import replace
from edgeheal.detect import boot, busy, exits, foreign, growth, hang, host, itself, kernel, limits, lines, link, logs, phases, probes, sensors, used
from edgeheal.detect.around import Around
from edgeheal.detect.boot import Boots
from edgeheal.detect.busy import Busy
from edgeheal.detect.exits import Ends
from edgeheal.detect.foreign import Foreign
from edgeheal.detect.growth import Growth
from edgeheal.detect.hang import Beat
from edgeheal.detect.host import Host
from edgeheal.detect.itself import Itself
from edgeheal.detect.kernel import Kernel
from edgeheal.detect.limits import Limits
from edgeheal.detect.link import Link
from edgeheal.detect.logs import Log
from edgeheal.detect.phases import Phases
from edgeheal.detect.probes import Probe
from edgeheal.detect.sensors import Sensor
from edgeheal.detect.used import Used

Found = tuple[Symptom, ...]


@dataclass(slots=True)
class AppSenses:
    """What the detectors remember of one app."""

    ends: Ends = field(default_factory=Ends)
    beat: Beat = field(default_factory=Beat)
    probed: dict[str, Probe] = field(default_factory=dict)
    grown: dict[str, Growth] = field(default_factory=dict)
    full: Limits = field(default_factory=Limits)
    sensed: dict[str, Sensor] = field(default_factory=dict)
    phases: Phases = field(default_factory=Phases)
    hands: Foreign = field(default_factory=Foreign)
    log: Log = field(default_factory=Log)
    usage_ns: int = 0
    followed: bool = False
    work: Busy = field(default_factory=Busy)
    used: Used = field(default_factory=Used)


@dataclass(slots=True)
class BoxSenses:
    """What the detectors remember of the box."""

    host: Host = field(default_factory=Host)
    kernel: Kernel = field(default_factory=Kernel)
    link: Link = field(default_factory=Link)
    boots: Boots = field(default_factory=Boots)
    itself: Itself = field(default_factory=Itself)
    sensed: dict[str, Sensor] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Senses:
    """Everything; `due_ns` is at or before the first deadline of any detector, 0 = none."""

    apps: dict[str, AppSenses] = field(default_factory=dict)
    box: BoxSenses = field(default_factory=BoxSenses)
    due_ns: int = 0

    def of(self, app: str) -> AppSenses:
        """The memory of one app, made when first asked for."""
        senses = self.apps.get(app)
        if senses is None:
            senses = self.apps[app] = AppSenses()
        return senses

    def sooner(self, at_ns: int) -> None:
        """A detector has a deadline at `at_ns` (0: none)."""
        if at_ns and (self.due_ns == 0 or at_ns < self.due_ns):
            self.due_ns = at_ns


def _usage(mem: AppSenses, signal: sig.Usage, around: Around) -> Found:
    mem.usage_ns = around.ns
    used.sampled(mem.used, signal, around.ns)
    phases.sampled(mem.phases, signal.run, signal.memory_kib, around.away, around.ns)
    grown = growth.sampled(mem.grown, signal, around)
    while_ = phases.told(mem.phases) if grown else ()
    if while_:
        grown = tuple(replace(s, evidence=(*s.evidence[:1], *while_, *s.evidence[1:])) if s.on and s.kind is SymptomKind.MEMORY_GROWTH else s for s in grown)
    found = grown + limits.sampled(mem.full, signal, around)
    return found + busy.sampled(mem.work, signal, around, progress=_progress(mem, around))


def _progress(mem: AppSenses, around: Around) -> bool:
    """Whether something shows that the app does its work: its heartbeat is not late, a probe or a reading came lately."""
    if around.spec.heartbeat_ms > 0 and not mem.beat.on and not mem.beat.due_ns:
        return True
    signs = [p.ok_ns for p in mem.probed.values() if not p.on and not p.misses] + [s.seen_ns for s in mem.sensed.values() if s.run == around.run]
    return any(at_ns and around.ns - at_ns < busy.SPIN_S * NS for at_ns in signs)


def _exited(mem: AppSenses, signal: sig.AppExited, around: Around) -> Found:
    foreign.down(mem.hands, around)
    found = exits.exited(mem.ends, signal, around) + hang.ended(mem.beat, signal, around)
    if found and mem.ends.signum in foreign.STOPS:
        found += foreign.restarted(mem.hands, signal.app, "", around)
    return found


def _started(mem: AppSenses, signal: sig.AppStarted, _: Around) -> Found:
    off = hang.reset(mem.beat, signal.app) + probes.reset(mem.probed, signal.app) + growth.reset(mem.grown, signal.app) + limits.reset(mem.full, signal.app)
    sensors.reset(mem.sensed)
    exits.started(mem.ends)
    return off + busy.reset(mem.work, signal.app)


def _ready(mem: AppSenses, signal: sig.AppReady, around: Around) -> Found:
    foreign.up(mem.hands, around)
    return exits.ready(mem.ends, signal)


def _log(mem: AppSenses, signal: sig.LogSeen, around: Around) -> Found:
    logs.seen(mem.log, signal, around)
    return ()


# signal -> detector over the memory of its app
APP: dict[type[sig.Signal], Callable[[AppSenses, Any, Around], Found]] = {
    sig.AppExited: _exited,
    sig.StartFailed: lambda m, s, a: exits.failed(m.ends, s, a),
    sig.AppStarted: _started,
    sig.AppReady: _ready,
    sig.HeartbeatMissed: lambda m, s, a: hang.missed(m.beat, s, a),
    sig.HeartbeatBack: lambda m, s, _: hang.back(m.beat, s),
    sig.ProbeAnswered: lambda m, s, a: probes.answered(m.probed, s, a),
    sig.Usage: _usage,
    sig.Reading: lambda m, s, a: sensors.read(m.sensed, s, a),
    sig.LogSeen: _log,
    sig.ForeignStart: lambda m, s, a: foreign.restarted(m.hands, s.app, s.who, a),
}
# signal -> detector over the memory of the box
BOX: dict[type[sig.Signal], Callable[[BoxSenses, Any, Around], Found]] = {
    sig.HostSample: lambda m, s, a: host.sampled(m.host, s, a),
    sig.KernelSaid: lambda m, s, a: kernel.said(m.kernel, s, a),
    sig.LinkIs: lambda m, s, a: link.heard(m.link, s, a),
    sig.Booted: lambda m, s, a: boot.booted(m.boots, s, a),
    sig.SelfSaid: lambda m, s, a: lines.said(m.lines, s) if s.part.startswith(lines.PART) else itself.said(m.itself, s, a),
    sig.ConfigIs: lambda m, s, _: itself.config(m.itself, s),
}


def box_due(mem: BoxSenses, around: Around) -> int:
    """The first deadline of the box's detectors, 0 = none."""
    return min((d for d in (link.due(mem.link, around), host.due(mem.host, around), boot.due(mem.boots), sensors.due(mem.sensed, around)) if d), default=0)


def box_tick(mem: BoxSenses, around: Around) -> Found:
    """What became a symptom of the box by time alone."""
    return link.tick(mem.link, around) + host.tick(mem.host, around) + boot.tick(mem.boots, around) + sensors.tick(mem.sensed, "", around)


def app_due(mem: AppSenses, around: Around) -> int:
    """The first deadline of one app's detectors, 0 = none."""
    dues = (exits.due(mem.ends, around), hang.due(mem.beat), sensors.due(mem.sensed, around), foreign.due(mem.hands, around))
    return min((d for d in dues if d), default=0)


def app_tick(mem: AppSenses, app: str, around: Around) -> Found:
    """What became a symptom by time alone."""
    return exits.tick(mem.ends, app, around) + hang.tick(mem.beat, app, around) + sensors.tick(mem.sensed, app, around) + foreign.tick(mem.hands, app, around)


def stopped(mem: AppSenses, app: str) -> None:
    """Nobody wants it to run: what was wrong is nobody's concern, and it is judged anew when it is wanted again."""
    hang.reset(mem.beat, app)
    probes.reset(mem.probed, app)
    growth.reset(mem.grown, app)
    limits.reset(mem.full, app)
    busy.reset(mem.work, app)
    sensors.forget(mem.sensed)
    mem.ends.looping = mem.ends.slow = False
    mem.hands.downs.clear()
