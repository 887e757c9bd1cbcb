# SPDX-License-Identifier: Apache-2.0
"""The agent put together: config, memory, brain, senses, hands, mouth - each made once and handed to whoever needs it.

Duty: construct and connect. What each part does, its own module says.
Invariants: apps come first: the guard is asked before the fleet's libraries are loaded; a part that cannot be made is said as a
signal about ourselves and left out where the agent can live without it (link, kernel, host), never silently.
"""

import os
import time
from collections.abc import Callable

from edgeheal.adapters import secrets
from edgeheal.adapters.blocking import Workers
from edgeheal.adapters.catalog import Catalog, DeviceWords
from edgeheal.adapters.disk import FolderDisk
from edgeheal.adapters.guard_client import GuardClient, Hello
from edgeheal.adapters.host.source import Host
from edgeheal.adapters.journal_files import JournalFiles
from edgeheal.adapters.kernel import Kernel
from edgeheal.adapters.logs.source import Logs
from edgeheal.adapters.metrics import Metrics
from edgeheal.adapters.probes.schedule import Probes
from edgeheal.adapters.processes.source import Processes
from edgeheal.adapters.recorder import FlightRecorder
from edgeheal.adapters.spool import Spool
from edgeheal.agent.alarm import Alarm
from edgeheal.agent.brain import Brain
from edgeheal.agent.clock import SystemClock, boot_id
from edgeheal.agent.control import ControlServer
from edgeheal.agent.executor import Executor
from edgeheal.agent.identity import Identity
from edgeheal.agent.itself import Itself
from edgeheal.agent.leave import Leave
from edgeheal.agent.loop import Loop
from edgeheal.agent.reporter import Reporter
from edgeheal.agent.sensors import Switched, of_box, promised, sources_of
from edgeheal.agent.standing import Standing
from edgeheal.agent.store import packed, take_over
from edgeheal.agent.tools import Tools
from edgeheal.agent.view import Past, World
from edgeheal.agent.why import WhyBooted
from edgeheal.config.hook_points import hook_points
from edgeheal.config.last_good import FILES, InForce, in_force
from edgeheal.config.policy import policy_of
from edgeheal.config.schema import App, Config
from edgeheal.core import reasons
from edgeheal.core.app import AppSpec, NeedSpec
from edgeheal.core.effect import Act, Decided, Effect, Report, Verb, Wake
from edgeheal.core.incident import Incident
from edgeheal.core.layout import Layout
from edgeheal.core.signal import AppSeen, AppStarted, CatalogIs, ConfigIs, DeploymentsAre, LinkIs, PolicyIs, Signal, StoodStill
from edgeheal.core.version import VERSION
from edgeheal.engine.state import initial
from edgeheal.journal.records import DecidedLine, Outcome, When
from edgeheal.wire import guard_frames, standin
from edgeheal.wire.guard_event import Event


class Agent:
    """One run of the agent. `run` returns when it was told to end."""

    def __init__(self, layout: Layout) -> None:
        """Reads config and memory (blocks: nothing depends on the loop yet); ConfigError when no config was ever good."""
        for folder in (layout.agent, layout.agent_run):
            os.makedirs(folder, 0o2750, exist_ok=True)
        self.layout = layout
        self.session = os.urandom(6)
        self.clock = SystemClock()
        self.force = in_force(layout, layout.agent)
        self.started_ns = time.monotonic_ns()
        self.images: dict[str, str] = {}
        self.specs: tuple[AppSpec, ...] = ()
        self.world = World()
        self.past = Past()
        self._reports: list[Incident] = []
        config = self.config
        seed = policy_of(config).seed
        self.brain = Brain(initial(seed, self.session), self.clock.now)
        hear = self.brain.hear
        self.loop = Loop(hear, config.thresholds.standstill_ms)
        self.disk = FolderDisk(layout.agent)
        self.journal = JournalFiles(
            self.disk, hear, session=self.session, now=self.clock.now, state=self._packed, version=VERSION,
            size_bytes=config.journal.size_bytes, daily_bytes=config.journal.daily_bytes,
        )  # fmt: skip
        self.recorder = FlightRecorder(
            self.disk, hear, folder=layout.agent_run, state=self._packed, session=self.session, boot=boot_id(), device=config.device.id
        )
        self.spool = Spool(self.disk, hear, session=self.session, encode=standin.encode, size_bytes=config.spool.size_bytes)
        self.reporter = Reporter(self.spool, self.journal, self.session, self.clock.now)
        self._remember(seed)
        self.guard = GuardClient(layout.guard_agent_socket, hear, heartbeat_s=max(1.0, config.guard.stuck_s / 3), durable=self._kept)
        self.leave = Leave(self.guard)
        self.standing = Standing(self.guard)
        self.why = WhyBooted(self.guard, hear, self._born_again, torn=self._torn)
        self._sense(config, hear)
        local: dict[Verb, Callable[[Act], None]] = {Verb.PROBE: lambda act: self._probe(act.app), Verb.FOLLOW: self._follow}
        self.executor = Executor(self.guard, self.journal, self.clock.now, hear, local, self._run_of)
        self.alarm = Alarm(hear)
        self.alarm.at_ns = self.brain.state.wake_ns  # the deadline that the state taken over still waits for
        self.tools = Tools(self)
        self.control = ControlServer(layout.control_socket, self.tools.handlers())
        self.identity = Identity(hear, layout, lambda: self.config.link, self._renew)
        self.link = None if not config.link.host or self.identity.fault else self._link(config)
        self._wire()

    @property
    def config(self) -> Config:
        """The config in force."""
        return self.force.config

    # -- construction

    def _packed(self) -> bytes | None:
        return packed(self.brain.state)

    def _kept(self) -> bool:
        """Whether what was heard survives our death: it was stepped through, and the ring on tmpfs has it."""
        self.brain.drain()
        self.recorder.flush()
        return True

    def _remember(self, seed: int) -> None:
        survivor = self.recorder.survivor
        ring = (survivor.state, survivor.steps) if survivor is not None else None
        taken = take_over(seed, self.session, self.clock.now(), self.journal.recovered, ring)
        self.brain.state = taken.state
        self._torn = taken.source != "ring" and any(d.what == "torn" for d in self.journal.recovered.damage)
        for case in taken.state.cases.values():
            self.past.keep(case.incident)
        for incident in taken.state.closed:
            self.past.keep(incident)
        self.recorder.start()
        self._reports.extend(taken.untold)
        for intent in self.journal.recovered.doubt:  # settled by being told: not in doubt again at every start
            self.journal.keep(Outcome(When.of(self.clock.now()), intent.act, ok=False, reason=reasons.IN_DOUBT, doubt=True))
        for said in taken.says:
            self.brain.hear(said)

    def _sense(self, config: Config, hear: Callable[[Signal], None]) -> None:
        clock = time.monotonic_ns
        self.sensors = config.sensors  # as of this start: a changed sensor takes a restart of the agent
        self.workers = Workers()
        self.catalog = Catalog(hear, self.layout.tree)
        self.processes = Processes(hear, every_s=config.sampling.every_ms / 1000, suspected_s=config.sampling.suspected_ms / 1000)
        self.probes = Probes(hear, self.guard.probe, clock, self._ready_by_probe)
        disks = {"var": self.layout.var, "store": self.layout.store, "data": self.layout.data, "run": self.layout.run, **mounts_of(config)}
        self.host = Host(hear, self.workers, disks, clock, every_s=max(1.0, config.sampling.every_ms / 1000))
        self.kernel = Kernel(hear, clock, self.processes.app_of)
        self.metrics = Metrics(hear, self.layout.metric_socket, clock, self.processes.uid_of)
        self.itself = Itself(hear, self, clock, memory_kib=config.thresholds.agent_memory_kib, every_s=config.sampling.every_ms / 1000)
        self.logs = Logs(hear, self._open_log, self._cut_log, clock)

    def _link(self, config: Config) -> "object":
        from edgeheal.agent.mouth import link_of  # paho is loaded only where there is a broker

        return link_of(self, config)

    def _wire(self) -> None:
        """Who hears what, and who is driven."""
        brain = self.brain
        brain.wire(self._note, self.carry)
        for heed in (self.world.hear, self.processes.heed, self.probes.heed, self.logs.heed, self._heed):
            brain.listen(heed)
        self.guard.on_hello = self._greeted
        self.guard.on_lost = self._guard_lost
        self.guard.on_event = self._guard_told
        sensing = sources_of(self.sensors, brain.hear, self.workers)
        self.switched = Switched([source for _, source in sensing])
        brain.listen(self.switched.heed)
        sources: list[tuple[str, object]] = [
            ("guard", self.guard), ("alarm", self.alarm), ("disk", self.disk), ("journal", self.journal), ("recorder", self.recorder), ("spool", self.spool),
            ("workers", self.workers), ("processes", self.processes), ("probes", self.probes), ("host", self.host), ("kernel", self.kernel),
            ("metrics", self.metrics), ("logs", self.logs), ("itself", self.itself), ("control", self.control), ("identity", self.identity),
            *sensing,
        ]  # fmt: skip
        if self.link is not None:
            sources.append(("link", self.link))
        for name, source in sources:
            self.loop.add(name, source)  # type: ignore[arg-type]
        self._say_config(self.force)

    # -- what `Itself` asks

    def gap_ms(self) -> int:
        """See `itself.Figures`."""
        return self.loop.gap_ms()

    def medium_ms(self) -> int:
        """See `itself.Figures`."""
        return self.disk.longest_ms()

    def dropped(self) -> int:
        """See `itself.Figures`."""
        return self.brain.dropped

    # -- running

    def run(self, ending: Callable[[], None] = lambda: None) -> None:
        """Until told to end; then `ending` is called, and what waits is written."""
        self.loop.run(self._turn)
        ending()
        self._turn()
        self.recorder.write_out()
        self.journal.snapshot()
        self.journal.settle()
        self.spool.settle()
        if self.link is not None:
            self.link.close()  # type: ignore[attr-defined]
        self.disk.close()

    def _turn(self) -> None:
        """All that was heard is stepped through; the ring has it before anybody is told of it and before we wait again."""
        self.clock.trusted = self.host.clock_trusted
        self.brain.drain()
        self.recorder.flush()
        for incident in self._reports:
            self.reporter.incident(incident)
            self.tools.tell_incident(incident)
        self._reports.clear()
        self.leave.give(self.brain.state, self.clock.now())
        self.standing.place(self.brain.state)
        self.tools.tell_changes()

    def _note(self, now: "object", signal: Signal, effects: tuple[Effect, ...]) -> None:
        self.recorder.note(now, signal, effects)  # type: ignore[arg-type]

    def carry(self, effect: Effect) -> None:
        """One effect to whoever carries it out."""
        match effect:
            case Act():
                self.world.did(effect, self.clock.now().box_s)
                self.switched.carry(effect)
                self.executor.act(effect)
            case Report(incident=incident):
                if self.past.keep(incident):
                    self._reports.append(incident)
            case Decided(what=what, incident=number, app=app, args=args):
                self.journal.keep(DecidedLine(When.of(self.clock.now()), what, number, app, args))
            case Wake(at_ns=at_ns):
                self.alarm.at_ns = at_ns
            case _:
                pass  # Recorded: the recorder saw it in `note`

    # -- the guard

    def _greeted(self, hello: Hello) -> None:
        self.clock.box_is(hello.box_s)
        self.tools.boundary = hello.boundary
        self.why.ask()
        self.tools.words_go()

    def _guard_told(self, event: Event) -> None:
        """What is no signal: how a signed word ended."""
        if event.kind == guard_frames.EV_DONE:
            self.tools.word_ended(event)

    def _guard_lost(self) -> None:
        self.executor.guard_lost()
        self.leave.guard_lost()
        self.standing.guard_lost()
        self.probes.guard_lost()
        self.logs.guard_lost()
        self.tools.words_lost()

    def _heed(self, signal: Signal) -> None:
        """The catalog follows what runs."""
        match signal:
            case AppSeen(app=app, image=image) | AppStarted(app=app, image=image):
                if self.images.get(app) != image:
                    self.images[app] = image
                    self.catalog_is()
            case DeploymentsAre(app=app, rows=rows):
                image = next((r[0] for r in rows if r[4]), self.images.get(app, ""))
                if self.images.get(app) != image:
                    self.images[app] = image
                    self.catalog_is()
            case StoodStill() | LinkIs(layer="carrier" | "address" | "route", up=True):  # another way, or the old one again: is the broker there?
                if self.link is not None:
                    self.link.check_now()  # type: ignore[attr-defined]
            case _:
                pass

    def catalog_is(self) -> None:
        """Join manifests and device words anew; tell whoever watches."""
        config = self.config
        words = {name: device_words(app, config) for name, app in config.apps.items()}
        of_images = self.catalog.specs(self.images, words)
        self.specs = promised(of_images, self.sensors)
        self.probes.catalog(self.specs)
        self.metrics.catalog(promised(of_images, self.sensors, ours=False))
        known = tuple(sorted(secrets.values(self.layout, config.link.password_file)))
        self.logs.secrets(known)
        self.guard.secrets(known)
        for spec in self.specs:
            self.processes.limit(spec.name, spec.memory_kib)
        box = of_box(self.sensors)
        self.brain.hear(CatalogIs(tuple(spec.to_plain() for spec in self.specs), None if box is None else box.to_plain()))
        if self.link is not None:
            self.link.say_birth()  # type: ignore[attr-defined]

    def _born_again(self) -> None:
        """What the birth says changed."""
        if self.link is not None:
            self.link.say_birth()  # type: ignore[attr-defined]

    def _run_of(self, app: str) -> int:
        known = self.brain.state.apps.get(app)
        return 0 if known is None else known.run

    def _probe(self, app: str) -> None:
        self.probes.again(app)

    def _ready_by_probe(self, app: str) -> None:
        self.guard.request(guard_frames.READY, lambda *_: None, app=app)

    def _follow(self, act: Act) -> None:
        self.processes.follow(act.app, act.target != "off")

    def _open_log(self, app: str, then: Callable[[int], None]) -> None:
        if not self.guard.open_log(app, then):
            then(-1)

    def _cut_log(self, app: str, upto: int, done: Callable[[], None]) -> None:
        if not self.guard.request(guard_frames.TRUNCATE, lambda *_: done(), app=app, a=upto):
            done()

    # -- config

    def _say_config(self, force: InForce) -> None:
        first = force.problems[0] if force.problems else None
        self.brain.hear(ConfigIs(force.source == FILES, first.place() if first else "", first.sentence() if first else ""))
        self.brain.hear(PolicyIs(policy_of(force.config, hooks=hook_points(self.layout.hooks)).to_plain()))
        self.catalog_is()

    def reload(self) -> None:
        """Read the config again: what changed takes effect, a broken file leaves the last good one in force."""
        before = self.config
        self.force = in_force(self.layout, self.layout.agent)
        self._say_config(self.force)
        self.identity.look()
        if (before.link, before.device) != (self.config.link, self.config.device) or (self.link is None and self.config.link.host):
            self._renew()

    def _renew(self) -> None:
        """The link made anew, with what config and files say now."""
        config = self.config
        if self.link is not None and config.link.host:
            from edgeheal.agent.mouth import settings_of

            self.link.renew(settings_of(config))  # type: ignore[attr-defined]
        elif self.link is not None:
            self.link.close()  # type: ignore[attr-defined]
            self.loop.drop("link")
            self.link = None
        elif config.link.host and not self.identity.fault:
            self.link = self._link(config)
            self.loop.add("link", self.link)  # type: ignore[arg-type]


def device_words(app: App, config: Config) -> DeviceWords:
    """What the config says of an app, for the catalog."""
    needs = tuple(need_of(word, hard=True) for word in app.needs) + tuple(need_of(word, hard=False) for word in app.wants)
    limits = app.limits
    return DeviceWords(
        soak_s=app.soak_s, soak_min_s=config.guard.soak_min_s, actuates=app.actuates, memory_kib=limits.memory_kib, files=limits.files, tasks=limits.tasks,
        devices=app.devices, needs=needs,
    )  # fmt: skip


def mounts_of(config: Config) -> dict[str, str]:
    """The further mounts that matter, by their path."""
    return {path.strip("/").replace(":", "-")[-48:] or "root": path for path in config.sampling.mounts}


def need_of(word: str, *, hard: bool) -> NeedSpec:
    """`app:historian` as a need."""
    kind, _, name = word.partition(":")
    return NeedSpec(kind, name, hard)
