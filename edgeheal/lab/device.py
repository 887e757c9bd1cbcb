# SPDX-License-Identifier: Apache-2.0
"""A simulated device: a fake guard with apps that behave as told, and a virtual clock, driving the real `engine.step`.

Duty: be the world of `step` - carry out acts, tell signals, keep the truth (starts, downtimes, doubles) apart from what the engine says.
For tests of decisions, for drills, and for look-alike hours. Nothing here sleeps or reads a clock.
Invariants: the same seed and the same behaviours give the same run; the fake guard keeps the real one's promises: the old run is gone
before a new one starts, a trial that crashes with a GOOD image to go back to is judged by it alone, an ordered end says so.

    device = Device([AppSpec("a")])
    device.start_all()
    device.kill("a")
    device.run(120)
    assert device.closed()[0].tried[0].outcome is Outcome.CURED
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgeheal.core import deployment as dep
from edgeheal.core import reasons
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Act, Decided, Effect, Report, Verb, Wake
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import By, IncidentState, Phase, Verdict
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy
from edgeheal.diagnose.topology import hard_needs
from edgeheal.engine.state import State, initial
from edgeheal.engine.step import step


@dataclass(slots=True)
class Behaviour:
    """How a run behaves. Times in seconds from its start; functions take that age. None = never, or not told.

    `heeds_stop` False: no signal ends it until `freed_s` after the order.
    """

    ready_s: float = 0.05
    lives_s: float | None = None
    code: int | None = 1
    signum: int | None = None
    hangs_s: float | None = None
    refuses: int = 0
    memory_kib: Callable[[float], int] | None = None
    fds: Callable[[float], int] | None = None
    probes: dict[str, Callable[[float], Verdict]] = field(default_factory=dict)
    sensors: dict[str, Callable[[float], float | None]] = field(default_factory=dict)
    reload_ends: bool = False
    heeds_stop: bool = True
    freed_s: float | None = None


@dataclass(slots=True)
class Image:
    """An installed image: `state` a `deployment` state; `version` "": as its name."""

    name: str
    state: int
    behaviour: Behaviour = field(default_factory=Behaviour)
    version: str = ""


@dataclass(slots=True)
class SimApp:
    """The truth about an app."""

    spec: AppSpec
    images: list[Image]
    running: str
    run: int = 0
    up: bool = False
    ready: bool = False
    hung: bool = False
    wanted: bool = True
    held: bool = False
    stuck: bool = False
    started_ns: int = 0
    config_bad: Behaviour | None = None
    config_differs: bool = False
    starts: list[float] = field(default_factory=list)
    by: list[int] = field(default_factory=list)
    then: int = 0
    down_since: float | None = None
    down_s: float = 0.0

    def image(self) -> Image:
        """The image that runs."""
        return next(i for i in self.images if i.name == self.running)

    def behaviour(self) -> Behaviour:
        """How the next run will behave: a broken config goes before the image."""
        return self.config_bad or self.image().behaviour


class Device:
    """The device. `at` seconds of virtual time since its boot; everything told is kept for tests."""

    def __init__(self, specs: Sequence[AppSpec], policy: Policy | None = None, *, seed: int = 1, sample_s: float = 10.0) -> None:
        """Apps with one GOOD image each, not started yet."""
        self.policy = policy or Policy()
        self.state: State = initial(seed, b"\0lab\0\1")
        self.at = 1_000.0
        self.boot = "boot-1"
        self.trusted = True
        self.apps = {s.name: SimApp(s, [Image("img1", dep.GOOD)], "img1") for s in specs}
        self.signals: list[tuple[Now, sig.Signal]] = []
        self.effects: list[tuple[float, Effect]] = []
        self.reports: list[Incident] = []
        self.refuse: dict[Verb, int] = {}
        self.mute: set[Verb] = set()
        self.reboots = 0
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._n = 0
        self._wake: float | None = None
        self._every_s = sample_s
        self._followed: set[str] = set()
        self.tell(sig.PolicyIs(self.policy.to_plain()))
        self.tell(sig.CatalogIs(tuple(s.to_plain() for s in specs)))
        for name in self.apps:
            self._deployments(name)

    def now(self) -> Now:
        """This instant; box time is virtual time, too."""
        return Now(self.boot, round(self.at * NS), int(self.at), 1_795_600_000 + int(self.at), self.trusted)

    def later(self, after_s: float, do: Callable[[], object]) -> None:
        """Do something in virtual time."""
        self._n += 1
        heapq.heappush(self._queue, (self.at + after_s, self._n, do))

    def run(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        end = self.at + seconds
        while True:
            event = self._queue[0][0] if self._queue else end + 1
            wake = self._wake if self._wake is not None else end + 1
            if min(event, wake) > end:
                break
            if event <= wake:
                self.at, _, do = heapq.heappop(self._queue)
                do()
            else:
                self.at = max(self.at, wake)
                self._wake = None
                self.tell(sig.Tick())
        self.at = end

    def until(self, done: Callable[[], bool], most_s: float = 3_600.0, every_s: float = 0.25) -> float:
        """Let time pass until `done`; how long it took. AssertionError after `most_s`."""
        began = self.at
        while not done():
            if self.at - began > most_s:
                raise AssertionError("it did not come about in time")
            self.run(every_s)
        return self.at - began

    # -- the engine

    def tell(self, signal: sig.Signal) -> tuple[Effect, ...]:
        """A signal to the engine; its acts are carried out."""
        now = self.now()
        self.signals.append((now, signal))
        self.state, effects = step(self.state, signal, now)
        for effect in effects:
            self.effects.append((self.at, effect))
            if isinstance(effect, Report):
                self.reports.append(effect.incident)
            elif isinstance(effect, Wake):
                self._wake = effect.at_ns / NS
        for effect in effects:
            if isinstance(effect, Act):
                self._act(effect)
        return effects

    def acts(self, *verbs: Verb) -> list[Act]:
        """Acts ordered so far, of these verbs (or all but FOLLOW)."""
        return [e for _, e in self.effects if isinstance(e, Act) and (e.verb in verbs if verbs else e.verb is not Verb.FOLLOW)]

    def words(self, what: str) -> list[Decided]:
        """Decided lines of this word."""
        return [e for _, e in self.effects if isinstance(e, Decided) and e.what == what]

    def open(self) -> list[Incident]:
        """Open incidents."""
        return [c.incident for c in self.state.cases.values()]

    def closed(self) -> list[Incident]:
        """Resolved incidents, as they were told."""
        return [i for i in self.reports if i.state is IncidentState.RESOLVED]

    def last(self, number: int) -> Incident:
        """The newest revision told of an incident."""
        return [i for i in self.reports if i.number == number][-1]

    # -- the truth, and hands on it

    def start_all(self, settle_s: float = 1.0) -> None:
        """Start every app, those that are needed first."""
        for name in sorted(self.apps, key=lambda n: len(hard_needs(self.apps[n].spec, "app"))):
            self._start(name, By.BOOT)
        self.run(settle_s)

    def kill(self, name: str, signum: int = 9) -> None:
        """The run ends by a signal that nobody ordered."""
        self._end(name, self.apps[name].run, None, signum)

    def hang(self, name: str) -> None:
        """The run does nothing any more, its heartbeat included."""
        app = self.apps[name]
        app.hung = True
        self._late(name, app.run)

    def install(self, name: str, image: Image) -> None:
        """A person installs an image and tries it."""
        app = self.apps[name]
        app.images.append(image)
        image.state = dep.TRIAL
        self.tell(sig.Ordered(action=5, app=name, arg=image.name, by="local"))
        self._switch(name, image.name, By.LOCAL)

    def break_config(self, name: str, behaviour: Behaviour) -> None:
        """A technician edits the app's config: its runs behave like this from now on."""
        app = self.apps[name]
        app.config_bad, app.config_differs = behaviour, True

    def order(self, action: int, name: str = "", arg: str = "", until_s: int = 0) -> None:
        """A person's order at the guard's door: told, and carried out where it is a stop or a start."""
        if action == 11 and name:
            self.apps[name].wanted = False
        if action == 10 and name:
            self.apps[name].wanted = True
        self.tell(sig.Ordered(action=action, app=name, arg=arg, by="local", until_s=until_s))
        if action == 11:
            self._stop(name, By.LOCAL, then=0)
        elif action == 10:
            self._start(name, By.LOCAL)
        elif action == 1:
            self._stop(name, By.LOCAL, then=int(By.LOCAL))

    def still(self, seconds: float) -> None:
        """Everybody stands still; we wake first."""
        self.at += seconds
        self._queue = [(max(t, self.at + 0.5), n, do) for t, n, do in self._queue]
        heapq.heapify(self._queue)

    # -- the fake guard

    def _act(self, act: Act) -> None:
        if act.verb in self.mute:
            return
        if act.verb in self.refuse:
            self.later(0.001, lambda: self._answer(act, reason=self.refuse.get(act.verb, 0)))
            return
        self.later(0.001, lambda: self._carry_out(act))

    def _answer(self, act: Act, *, reason: int = 0) -> None:
        self.tell(sig.ActEnded(act.number, reason == 0, reason, 1))

    def _carry_out(self, act: Act) -> None:
        app = self.apps.get(act.app)
        match act.verb:
            case Verb.FOLLOW:
                (self._followed.add if act.target == "on" else self._followed.discard)(act.app)
                return
            case Verb.LOOK:
                for name in [act.app] if act.app else list(self.apps):
                    self.seen(name)
                return
            case Verb.REBOOT:
                self._answer(act)
                self.reboots += 1
                self.reboot(ordered=f"act{act.number}")
                return
            case Verb.HOOK | Verb.PROBE | Verb.HOLD_SOAK | Verb.OS_ROLLBACK | Verb.SAFE_MODE:
                self._answer(act)
                return
        if app is None:
            self._answer(act, reason=reasons.NO_SUCH_APP)
            return
        self._answer(act, reason=self._about(act, app))

    def _about(self, act: Act, app: SimApp) -> int:
        name = app.spec.name
        match act.verb:
            case Verb.START:
                if app.up:
                    return reasons.ALREADY
                if app.held or not app.wanted:
                    return reasons.HELD
                self._start(name, By.REMEDY)
            case Verb.RESTART | Verb.CLEAN_RESTART:
                self._stop(name, By.REMEDY, then=int(By.REMEDY))
            case Verb.STOP:
                self._stop(name, By.REMEDY, then=0)
            case Verb.RELOAD:
                if not app.ready or not app.spec.can_reload:
                    return reasons.NO_RELOAD
                if app.behaviour().reload_ends:
                    self.later(0.01, lambda: self.kill(name, 1))
            case Verb.RESTORE_CONFIG:
                if not app.config_differs:
                    return reasons.NOTHING_TO_DO
                app.config_bad, app.config_differs = None, False
            case Verb.ROLLBACK | Verb.GIVE_UP_TRIAL:
                return self._roll_back(act, app)
            case _:
                return reasons.UNKNOWN_VERB
        return reasons.OK

    def _roll_back(self, act: Act, app: SimApp) -> int:
        if act.verb is Verb.GIVE_UP_TRIAL and act.target != app.running:
            return reasons.NOTHING_TO_DO
        good = next((i for i in reversed(app.images) if i.state == dep.GOOD and i.name != app.running), None)
        if good is None:
            return reasons.LAST_GOOD
        left = app.image()
        left.state = dep.WRITTEN
        self._switch(app.spec.name, good.name, By.REMEDY)
        return reasons.OK

    def _switch(self, name: str, image: str, by: int) -> None:
        app = self.apps[name]
        self._stop(name, by, then=0)
        app.running = image
        self._deployments(name)
        self.later(0.02, lambda: self._start(name, by))

    def _start(self, name: str, by: int) -> None:
        app = self.apps[name]
        if app.up or app.stuck or not app.wanted:
            return
        behaviour = app.behaviour()
        if behaviour.refuses:
            self.tell(sig.StartFailed(name, behaviour.refuses, 2))
            return
        app.run += 1
        run = app.run
        app.up, app.ready, app.hung, app.started_ns = True, False, False, round(self.at * NS)
        app.starts.append(self.at)
        app.by.append(int(by))
        self.tell(sig.AppStarted(name, run, 1_000 + run, int(by), app.running, app.image().state, app.config_differs))
        self.later(behaviour.ready_s, lambda: self._ready(name, run))
        if behaviour.lives_s is not None:
            self.later(behaviour.lives_s, lambda: self._end(name, run, behaviour.code if behaviour.signum is None else None, behaviour.signum))
        if behaviour.hangs_s is not None:
            self.later(behaviour.hangs_s, lambda: self._hang_if(name, run))
        self._periodic(name, run, behaviour)

    def _hang_if(self, name: str, run: int) -> None:
        if self._lives(name, run):
            self.hang(name)

    def _lives(self, name: str, run: int) -> bool:
        app = self.apps[name]
        return app.up and app.run == run

    def _ready(self, name: str, run: int) -> None:
        app = self.apps[name]
        if self._lives(name, run) and not app.hung and app.spec.ready != "probe":
            app.ready = True
            if app.down_since is not None:
                app.down_s += self.at - app.down_since
                app.down_since = None
            self.tell(sig.AppReady(name, run))

    def _end(self, name: str, run: int, code: int | None, signum: int | None, *, ordered: bool = False) -> None:
        app = self.apps[name]
        if not self._lives(name, run):
            return
        lived_ms = (round(self.at * NS) - app.started_ns) // 1_000_000
        app.up = app.ready = app.hung = app.stuck = False
        if app.wanted and app.down_since is None:
            app.down_since = self.at
        trial = app.image().state == dep.TRIAL and not ordered and any(i.state == dep.GOOD for i in app.images)
        done = code is not None and code in app.spec.done
        self.tell(
            sig.AppExited(
                name, run, code, signum, ordered=ordered, done=done, lived_ms=lived_ms, in_trial=trial, by=app.then, config_differs=app.config_differs
            )
        )
        if trial:
            self._judge_trial(name)
        elif app.then:
            by, app.then = app.then, 0
            self.later(0.005, lambda: self._start(name, by))

    def _judge_trial(self, name: str) -> None:
        """A crash in trial with a GOOD image to go back to: BAD, and back at once."""
        app = self.apps[name]
        good = next((i for i in reversed(app.images) if i.state == dep.GOOD), None)
        if good is None:
            return
        failed = app.image()
        failed.state = dep.BAD
        app.running = good.name
        self._deployments(name)
        self.tell(sig.TrialEnded(name, failed.name, good=False, back_to=good.name, reason=dep.R_FAILED))
        self.later(0.01, lambda: self._start(name, By.STANDING_ORDER))

    def _stop(self, name: str, by: int, *, then: int) -> None:
        app = self.apps[name]
        if not app.up:
            if then:
                self._start(name, then)
            return
        app.then = then
        run, behaviour = app.run, app.behaviour()
        if behaviour.heeds_stop:
            self.later(0.002, lambda: self._end(name, run, None, 15, ordered=True))
            return
        app.stuck = True
        self.later(app.spec.stop_ms / 1000, lambda: self.tell(sig.AppStuck(name, run, 5, "jbd2_log_wait_commit")))
        if behaviour.freed_s is not None:
            self.later(behaviour.freed_s, lambda: self._end(name, run, None, 9, ordered=True))

    def _late(self, name: str, run: int) -> None:
        app = self.apps[name]
        period_s = app.spec.heartbeat_ms / 1000
        if period_s <= 0:
            return

        def late() -> None:
            if self._lives(name, run) and app.hung:
                self.tell(sig.HeartbeatMissed(name, run, app.spec.heartbeat_ms))

        self.later(period_s, late)

    def seen(self, name: str) -> None:
        """The guard tells the present of an app."""
        app = self.apps[name]
        phase = Phase.STUCK if app.stuck else Phase.RUNNING if app.ready else Phase.STARTING if app.up else Phase.HELD if app.held else Phase.STOPPED
        self.tell(
            sig.AppSeen(
                name, app.run, int(phase), 1_000 + app.run if app.up else 0, app.started_ns, app.wanted, 0, 0, app.running, app.image().state,
                app.config_differs, app.held, app.ready,
            )
        )  # fmt: skip

    def _deployments(self, name: str) -> None:
        app = self.apps[name]
        rows = tuple((i.name, i.version or i.name, i.state, 0, i.name == app.running, 0) for i in app.images)
        self.tell(sig.DeploymentsAre(name, rows))

    def reboot(self, *, ordered: str = "", clean: bool = False, reason: str = "power loss", unplanned: int = -1, answers: int = 0, suspect: str = "") -> None:
        """The box goes down and comes back: its monotonic clock starts anew, box time goes on. `unplanned` and what follows: as the guard counts."""
        self.boot = f"boot-{int(self.boot.split('-')[1]) + 1}"
        self._queue.clear()
        self._wake = None
        self.at += 5.0
        for app in self.apps.values():
            app.up = app.ready = app.hung = app.stuck = False
        self.tell(sig.Booted(self.boot, 1, ((reason, 900),), ordered, clean or bool(ordered), reason, (), unplanned, answers, suspect))
        self.start_all(0.0)

    def _periodic(self, name: str, run: int, behaviour: Behaviour) -> None:
        app = self.apps[name]
        if behaviour.memory_kib is not None or behaviour.fds is not None:
            self.later(1.0, lambda: self._sample(name, run, behaviour))
        for probe in app.spec.probes:
            answer = behaviour.probes.get(probe.name, lambda _: Verdict.YES)
            self._repeat(name, run, probe.every_ms / 1000, lambda age, p=probe, a=answer: self._probe(name, run, p.name, p.means, a(age)))  # type: ignore[misc]
        for metric in app.spec.metrics:
            value = behaviour.sensors.get(metric.name)
            if value is not None and metric.every_ms > 0:
                self._repeat(name, run, metric.every_ms / 1000, lambda age, m=metric, v=value: self._read(name, m.name, v(age)))  # type: ignore[misc]

    def _repeat(self, name: str, run: int, every_s: float, do: Callable[[float], None]) -> None:
        def once() -> None:
            if not self._lives(name, run):
                return
            app = self.apps[name]
            if not app.hung:
                do(self.at - app.started_ns / NS)
            self.later(every_s, once)

        self.later(every_s, once)

    def _probe(self, name: str, run: int, probe: str, means: str, verdict: Verdict) -> None:
        app = self.apps[name]
        self.tell(sig.ProbeAnswered(name, run, probe, means, int(verdict)))
        if app.spec.ready == "probe" and means != "live" and verdict is Verdict.YES and not app.ready:
            app.ready = True

    def _read(self, name: str, sensor: str, value: float | None) -> None:
        if value is not None:
            self.tell(sig.Reading(name, sensor, value))

    def _sample(self, name: str, run: int, behaviour: Behaviour) -> None:
        if not self._lives(name, run):
            return
        app = self.apps[name]
        age = self.at - app.started_ns / NS
        every_s = min(1.0, self._every_s) if name in self._followed else self._every_s
        memory = behaviour.memory_kib(age) if behaviour.memory_kib is not None else -1
        fds = behaviour.fds(age) if behaviour.fds is not None else -1
        self.tell(sig.Usage(name, run, memory, app.spec.memory_kib, fds, 1_024, 3, 0, 0, 10, round(every_s * 1000), "S"))
        self.later(every_s, lambda: self._sample(name, run, behaviour))
