# SPDX-License-Identifier: Apache-2.0
"""When each probe of each app runs, and its answers as signals.

Duty: run http and tcp probes in the loop, ask the guard for exec and freshness, tell each answer. What a row of misses means
is the engine's. Heartbeats need no probe: the guard sees them.
Invariants: one attempt of a probe at a time; a probe runs only while its app has a run, and an answer of an older run is
dropped; live probes begin when the app is ready or its start time is over; being late ourselves is "could not tell".

Times: `start` probes run until their first yes, `ready` ones quickly until then and at their period after; the first live
attempt is spread over the period by a number made from app and probe name, so that twenty apps are not probed at once.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeheal.adapters.probes.attempt import Answer, Attempt
from edgeheal.adapters.probes.http import HttpAttempt
from edgeheal.adapters.probes.tcp import TcpAttempt
from edgeheal.core import reasons
from edgeheal.core.app import AppSpec, ProbeSpec
from edgeheal.core.kinds import Verdict
from edgeheal.core.signal import AppExited, AppReady, AppSeen, AppStarted, ProbeAnswered, Signal, StartFailed
from edgeheal.ports import Emit

MS = 1_000_000
QUICK_MS = 250
QUICK_ASKED_MS = 1_000
SPREAD_MOST_MS = 10_000
UNKNOWN_MOST = 64
ASKED_GRACE_MS = 10_000  # the guard ends a probe at its deadline and its tree after that; beyond this its answer is lost
PHASE_STOPPED, PHASE_STARTING, PHASE_RUNNING = 0, 1, 2  # wire.guard_frames' numbers, as AppSeen carries them

Told = Callable[[int, int, int], None]
"""Takes the guard's answer: verdict, took ms, code."""
Ask = Callable[[str, int, Told], bool]
"""Asks the guard to run probe number i of an app's manifest; False: there is no guard to ask."""

_BEGIN: dict[str, Callable[[str], Attempt]] = {"http": HttpAttempt.begin, "tcp": TcpAttempt.begin}
_ASKED = frozenset({"exec", "freshness"})


@dataclass(slots=True)
class _Row:
    """One probe of one run."""

    spec: ProbeSpec
    index: int
    due_ns: int = 0
    passed: bool = False
    began_ns: int = 0
    deadline_ns: int = 0
    attempt: Attempt | None = None
    asked: int = 0


@dataclass(slots=True)
class _Run:
    """An app's run and its probes."""

    app: str
    run: int
    began_ns: int
    grace_ns: int
    ready: bool
    rows: list[_Row]
    told: bool = False


class Probes:
    """A `ports.Source`."""

    def __init__(self, emit: Emit, ask: Ask, clock: Callable[[], int], on_ready: Callable[[str], None] = lambda _: None) -> None:
        """`ask` runs what needs the app's uid; `clock` is the monotonic clock in ns; `on_ready` hears, once a run, that an app whose readiness is told by probes is ready."""
        self._emit = emit
        self._ask = ask
        self._clock = clock
        self._on_ready = on_ready
        self._specs: dict[str, AppSpec] = {}
        self._runs: dict[str, _Run] = {}
        self._unknown: dict[str, tuple[int, bool]] = {}  # runs of apps that the catalog does not name yet: (run, ready)
        self._by_fd: dict[int, tuple[_Run, _Row]] = {}
        self._questions = 0

    # -- what is probed

    def catalog(self, apps: Sequence[AppSpec]) -> None:
        """The apps that exist from now on; a run whose probes changed begins anew."""
        specs = {spec.name: spec for spec in apps}
        for app, run in tuple(self._runs.items()):
            old, new = self._specs.get(app), specs.get(app)
            if new is None:
                self._end(app)
            elif old is None or old.probes != new.probes:
                self._end(app)
                self._runs[app] = self._begin(new, run.run, ready=run.ready)
        self._specs = specs
        for app in self._unknown.keys() & specs.keys():
            number, ready = self._unknown.pop(app)
            self._start(app, number, ready=ready)

    def heed(self, signal: Signal) -> None:
        """Runs begin, get ready and end as the guard says."""
        match signal:
            case AppStarted(app=app, run=run):
                self._start(app, run, ready=False)
            case AppReady(app=app):
                self._is_ready(app)
            case AppSeen(app=app, run=run, phase=phase):
                self._seen(app, run, phase)
            case AppExited(app=app) | StartFailed(app=app):
                self._end(app)

    def again(self, app: str) -> int:
        """Probe the app now; how many probes will answer."""
        run = self._runs.get(app)
        if run is None:
            return 0
        for row in run.rows:
            row.due_ns = self._clock()
        return len(run.rows)

    def guard_lost(self) -> None:
        """The guard went away: what it was asked is not answered any more, and could not be told."""
        for run in self._runs.values():
            for row in run.rows:
                if row.asked:
                    row.asked = 0
                    self._tell(run, row, Answer(Verdict.UNKNOWN, reasons.INTERNAL), self._clock())

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """Sockets of the attempts under way."""
        self._by_fd = {row.attempt.fd: (run, row) for run in self._runs.values() for row in run.rows if row.attempt is not None and row.attempt.fd >= 0}
        return {fd: row.attempt.mask for fd, (_, row) in self._by_fd.items() if row.attempt is not None}

    def ready(self, fd: int, events: int) -> None:
        """An attempt can go on."""
        run, row = self._by_fd.get(fd, (None, None))
        if run is not None and row is not None and row.attempt is not None and row.attempt.fd == fd:
            self._go(run, row, events)

    def due(self) -> int:
        """The next attempt or deadline, or the end of a start time that live probes wait for."""
        dues = [at for run in self._runs.values() for row in run.rows if (at := row.deadline_ns or row.due_ns)]
        dues += [run.began_ns + run.grace_ns for run in self._runs.values() if not run.ready]
        return min(dues, default=0)

    def tick(self, now_ns: int) -> None:
        """Begin what is due, end what is over time."""
        for run in tuple(self._runs.values()):
            if not run.ready and now_ns >= run.began_ns + run.grace_ns:
                self._is_ready(run.app)
            for row in run.rows:
                if row.deadline_ns:
                    if now_ns >= row.deadline_ns:
                        self._over(run, row, now_ns)
                elif row.due_ns and now_ns >= row.due_ns:
                    self._attempt(run, row, now_ns)

    def close(self) -> None:
        """End all attempts."""
        for app in tuple(self._runs):
            self._end(app)

    # -- runs

    def _seen(self, app: str, run: int, phase: int) -> None:
        if phase not in (PHASE_STARTING, PHASE_RUNNING):
            self._end(app)
        elif app not in self._runs or self._runs[app].run != run:
            self._start(app, run, ready=phase == PHASE_RUNNING)
        elif phase == PHASE_RUNNING:
            self._is_ready(app)
        else:
            self._runs[app].told = False  # the guard came back and does not know that it is ready

    def _start(self, app: str, run: int, *, ready: bool) -> None:
        self._end(app)
        spec = self._specs.get(app)
        if spec is not None:
            self._runs[app] = self._begin(spec, run, ready=ready)
        elif len(self._unknown) < UNKNOWN_MOST:
            self._unknown[app] = (run, ready)

    def _begin(self, spec: AppSpec, number: int, *, ready: bool) -> _Run:
        now = self._clock()
        rows = [_Row(probe, index) for index, probe in enumerate(spec.probes) if probe.kind in _BEGIN or probe.kind in _ASKED]
        run = _Run(spec.name, number, now, spec.start_ms * MS, ready, rows)
        for row in rows:
            if row.spec.means != "live":
                row.due_ns = now + min(self._quick_ms(row), row.spec.every_ms) * MS
            elif ready:
                row.due_ns = now + self._spread_ms(run, row) * MS
            else:
                row.due_ns = 0  # waits for readiness
        return run

    def _is_ready(self, app: str) -> None:
        run = self._runs.get(app)
        if run is None:
            if app in self._unknown:
                self._unknown[app] = (self._unknown[app][0], True)
            return
        if run.ready:
            return
        run.ready = True
        now = self._clock()
        for row in run.rows:
            if row.spec.means == "live" and not row.due_ns and not row.deadline_ns:
                row.due_ns = now + self._spread_ms(run, row) * MS

    def _end(self, app: str) -> None:
        self._unknown.pop(app, None)
        run = self._runs.pop(app, None)
        if run is not None:
            for row in run.rows:
                row.asked = 0
                if row.attempt is not None:
                    row.attempt.close()
                    row.attempt = None

    # -- attempts

    def _attempt(self, run: _Run, row: _Row, now_ns: int) -> None:
        row.began_ns = now_ns
        row.deadline_ns = now_ns + row.spec.timeout_ms * MS
        begin = _BEGIN.get(row.spec.kind)
        if begin is None:
            self._question(run, row)
            return
        try:
            row.attempt = begin(row.spec.target)
        except ValueError:
            self._tell(run, row, Answer(Verdict.UNKNOWN, reasons.MALFORMED), now_ns)
            return
        self._go(run, row, 0)

    def _go(self, run: _Run, row: _Row, events: int) -> None:
        answer = None if row.attempt is None else row.attempt.go(events)
        if answer is not None:
            self._tell(run, row, answer, self._clock())

    def _question(self, run: _Run, row: _Row) -> None:
        self._questions += 1
        row.asked = number = self._questions
        row.deadline_ns += ASKED_GRACE_MS * MS

        def told(verdict: int, took_ms: int, code: int) -> None:
            if row.asked == number:
                row.asked = 0
                self._tell(run, row, Answer(Verdict(verdict) if verdict in (0, 1) else Verdict.UNKNOWN, code), row.began_ns + took_ms * MS)

        if not self._ask(run.app, row.index, told) and row.asked == number:
            row.asked = 0
            self._tell(run, row, Answer(Verdict.UNKNOWN, reasons.NOT_NOW), self._clock())

    def _over(self, run: _Run, row: _Row, now_ns: int) -> None:
        """The deadline has come. If we come far too late ourselves, the app cannot be blamed: it may have stood still with us."""
        late_ms = (now_ns - row.deadline_ns) // MS
        if row.asked:
            row.asked = 0
            self._tell(run, row, Answer(Verdict.UNKNOWN, reasons.TIMEOUT), now_ns)
        elif row.attempt is not None:
            late = late_ms > max(500, row.spec.timeout_ms // 2)
            self._tell(run, row, Answer(Verdict.UNKNOWN, reasons.TIMEOUT) if late else row.attempt.expired(), now_ns)

    def _tell(self, run: _Run, row: _Row, answer: Answer, ended_ns: int) -> None:
        if row.attempt is not None:
            row.attempt.close()
            row.attempt = None
        row.deadline_ns = 0
        row.passed = row.passed or answer.verdict == Verdict.YES
        row.due_ns = self._next(run, row)
        if self._runs.get(run.app) is run:
            took_ms = max(0, ended_ns - row.began_ns) // MS
            self._emit(ProbeAnswered(run.app, run.run, row.spec.name, row.spec.means, int(answer.verdict), took_ms, answer.code))
            if not run.told and all(r.passed for r in run.rows if r.spec.means != "live") and self._specs[run.app].ready == "probe":
                run.told = True
                self._on_ready(run.app)

    def _next(self, run: _Run, row: _Row) -> int:
        """At the period from the last beginning, whole periods left out when we are late; 0 = never again in this run."""
        if row.spec.means == "start" and row.passed:
            return 0
        every_ms = max(1, row.spec.every_ms)
        if row.spec.means != "live" and not row.passed:
            every_ms = min(every_ms, self._quick_ms(row))
        behind = max(0, self._clock() - row.began_ns) // (every_ms * MS)
        return row.began_ns + (behind + 1) * every_ms * MS

    def _quick_ms(self, row: _Row) -> int:
        return QUICK_MS if row.spec.kind in _BEGIN else QUICK_ASKED_MS

    def _spread_ms(self, run: _Run, row: _Row) -> int:
        return zlib.crc32(f"{run.app}\0{row.spec.name}".encode()) % max(1, min(row.spec.every_ms, SPREAD_MOST_MS))
