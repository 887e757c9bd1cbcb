# SPDX-License-Identifier: Apache-2.0
"""What the guard says of an app, taken into its facts: runs, ends, images, what is wanted.

Duty: keep `App` true. Invariants: an event of an older run than the present one changes nothing; the present is told by the guard
(`AppSeen`), never guessed; an end that was ordered while the app is wanted owes a start.
"""

from edgeheal.core import reasons
from edgeheal.core import signal as sig
from edgeheal.core.app_table import AppEvent
from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import By, ChangeKind, Channel, EvidenceCode, Phase, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.symptom import Symptom
from edgeheal.core.values import replace
from edgeheal.detect.foreign import STOPS
from edgeheal.engine.turn import Turn
from edgeheal.recover.app import App, Deployed, changed

JUDGING_NS = 10 * NS
DEPLOYMENTS_MOST = 32
_UP = frozenset({Phase.STARTING, Phase.RUNNING, Phase.STOPPING, Phase.STUCK})
_OURS = frozenset({By.REMEDY, By.LOCAL, By.COMMAND, By.DEPENDENCY})


def seen(turn: Turn, s: sig.AppSeen) -> tuple[Symptom, ...]:
    """The present of an app. What changed unseen (while the agent was away) becomes a symptom with an unknown status."""
    before = turn.app(s.app)
    if before is None:
        return ()
    up = s.phase in _UP and s.pid > 0
    ready = s.phase == Phase.RUNNING and s.ready
    app = replace(
        before, known=True, up=up, ready=ready, run=s.run or before.run, pid=s.pid, wanted=s.wanted, wanted_by=s.wanted_by, pause_until_s=s.pause_until_s,
        held=s.held or s.phase == Phase.HELD, stuck=s.phase == Phase.STUCK, ordered_ns=0 if up else before.ordered_ns,
    )  # fmt: skip
    app = _image(turn, app, s.image, s.image_state, differs=s.config_differs)
    if up and s.run != before.run:
        app = replace(app, started_ns=s.started_ns or turn.ns, ready_ns=turn.ns if ready else 0)
    turn.put(app)
    _moved(turn, app)
    if not s.wanted or (not s.image and not app.held):
        return ()  # nothing is wanted of it, or there is no image yet: no failure
    if app.stuck:
        return (stuck_symptom(s.app, s.run, 0, ""),)
    if app.held and not up:
        return (Symptom(SymptomKind.APP_HELD, s.app, channel=Channel.GUARD, evidence=(Evidence(EvidenceCode.REASON, reasons.HELD),), serious=True),)
    missed = before.known and before.up and before.run > 0 and not before.ordered_ns
    if missed and (not up or (s.run != before.run and s.started_by not in _OURS)):
        return _unseen_end(turn, app, before.run)
    if not up and s.phase == Phase.STOPPED and not app.ordered_ns and not before.down_ns:
        turn.put(replace(turn.apps[s.app], ordered_ns=turn.ns, down_ns=turn.ns))  # wanted and not there: a start is owed
    return ()


def _unseen_end(turn: Turn, app: App, run: int) -> tuple[Symptom, ...]:
    if not app.up:
        turn.put(replace(app, down_ns=app.down_ns or turn.ns, fails=app.fails + 1))
        turn.move(app.name, AppEvent.FAIL)
    fact = Evidence(EvidenceCode.EXIT_UNKNOWN)
    return (Symptom(SymptomKind.EXIT, app.name, channel=Channel.GUARD, evidence=(fact,), run=run, serious=True),)


def _moved(turn: Turn, app: App) -> None:
    if not app.paused(turn.now.box_s) and not app.wanted and not app.up:
        turn.move(app.name, AppEvent.STOP)
    elif app.up:
        turn.move(app.name, AppEvent.READY if app.ready else AppEvent.STARTED)
    if app.paused(turn.now.box_s):
        turn.move(app.name, AppEvent.PAUSE)


def _image(turn: Turn, app: App, image: str, state: int, *, differs: bool) -> App:
    if image and app.image and image != app.image:
        app = changed(app, ChangeKind.IMAGE, turn.ns)
    elif differs and not app.config_differs:
        app = changed(app, ChangeKind.CONFIG, turn.ns)
    return replace(app, image=image or app.image, image_state=state if image else app.image_state, config_differs=differs)


def started(turn: Turn, s: sig.AppStarted) -> bool:
    """A new run; False when it is old news."""
    app = turn.app(s.app)
    if app is None or (s.run and app.run and s.run < app.run):
        return False
    app = replace(
        app, known=True, up=True, ready=False, stuck=False, held=False, run=s.run, pid=s.pid, started_ns=turn.ns, ready_ns=0, ordered_ns=0, judging_ns=0
    )
    turn.put(_image(turn, app, s.image, s.image_state, differs=s.config_differs))
    turn.move(s.app, AppEvent.STARTED)
    return True


def ready(turn: Turn, s: sig.AppReady) -> bool:
    """The run does its work."""
    app = turn.app(s.app)
    if app is None or (s.run and app.run and s.run != app.run):
        return False
    turn.put(replace(app, known=True, up=True, ready=True, ready_ns=turn.ns, run=s.run or app.run))
    turn.move(s.app, AppEvent.READY)
    return True


def exited(turn: Turn, s: sig.AppExited) -> bool:
    """The run ended; False when it is old news."""
    app = turn.app(s.app)
    if app is None or (s.run and app.run and s.run < app.run) or (app.known and not app.up and s.run and s.run == app.run and app.started_ns):
        return False
    failed = app.wanted and not s.ordered and not s.done
    fails = app.fails
    if failed and s.signum not in STOPS:
        fails = fails + 1 if s.lived_ms < turn.policy.healthy_s * 1000 else 1
    differs = s.config_differs or app.config_differs  # what the start said holds for its run
    if differs and not app.config_differs:
        app = changed(app, ChangeKind.CONFIG, turn.ns)
    owed = app.wanted and s.ordered and not s.done
    judging = turn.ns + JUDGING_NS if failed and s.in_trial else 0  # the guard goes on from here by itself
    down_ns = (app.down_ns or turn.ns) if app.wanted and not s.done else 0
    turn.put(
        replace(
            app, known=True, up=False, ready=False, stuck=False, pid=0, run=s.run or app.run, started_ns=app.started_ns or turn.ns, fails=fails,
            down_ns=down_ns, ordered_ns=turn.ns if owed else 0, judging_ns=judging, config_differs=differs,
        )
    )  # fmt: skip
    if failed:
        turn.move(s.app, AppEvent.FAIL)
    elif not app.wanted or s.done:
        turn.move(s.app, AppEvent.STOP)
    return True


def start_failed(turn: Turn, s: sig.StartFailed) -> bool:
    """No run came of a start."""
    app = turn.app(s.app)
    if app is None:
        return False
    turn.put(replace(app, known=True, up=False, ready=False, fails=app.fails + 1, down_ns=app.down_ns or turn.ns, ordered_ns=0))
    if app.wanted:
        turn.move(s.app, AppEvent.FAIL)
    return True


def deployments(turn: Turn, s: sig.DeploymentsAre) -> None:
    """The guard's view of an app's images."""
    app = turn.app(s.app)
    if app is None:
        return
    rows = tuple(Deployed(str(r[0]), str(r[1]), int(r[2]), int(r[3]), bool(r[4]), int(r[5])) for r in s.rows[:DEPLOYMENTS_MOST] if _is_row(r))
    running = next((d for d in rows if d.running), None)
    if running is not None:
        app = replace(app, image=running.image, image_state=running.state)
    turn.put(replace(app, deployments=rows))


def _is_row(row: object) -> bool:
    return isinstance(row, tuple) and len(row) == 6 and all(isinstance(v, int) for v in row[2:])


def stuck(turn: Turn, s: sig.AppStuck) -> tuple[Symptom, ...]:
    """The guard could not end a run."""
    app = turn.app(s.app)
    if app is None or (s.run and app.run and s.run < app.run):
        return ()
    turn.put(replace(app, known=True, stuck=True, up=True, ready=False, down_ns=app.down_ns or turn.ns, ordered_ns=0))
    turn.move(s.app, AppEvent.FAIL)
    return (stuck_symptom(s.app, s.run, s.seconds, s.wchan),)


def stuck_symptom(app: str, run: int, seconds: int, wchan: str) -> Symptom:
    """Unkillable, seen by the guard."""
    fact = Evidence(EvidenceCode.STATE_D, seconds, 0, wchan[:40])
    return Symptom(SymptomKind.UNKILLABLE, app, channel=Channel.KERNEL, evidence=(fact,), run=run, serious=True, detail=wchan[:40])


def said(turn: Turn, s: sig.AppSaid) -> None:
    """BUSY: grave remedies wait, capped."""
    app = turn.apps.get(s.app)
    if app is not None and s.what == "BUSY":
        turn.put(replace(app, busy_ns=turn.ns + min(max(s.seconds, 0), 3_600) * NS))


def probed(turn: Turn, s: sig.ProbeAnswered) -> bool:
    """A yes of a start or ready probe makes the run ready where its manifest says so; True then."""
    app = turn.apps.get(s.app)
    if app is None or app.ready or not app.up or s.verdict != 1 or s.means == "live" or turn.spec(s.app).ready != "probe":
        return False
    return ready(turn, sig.AppReady(s.app, s.run))
