# SPDX-License-Identifier: Apache-2.0
"""A new guard meets apps that an older one had started.

Duty: tell which run still lives, take it over, tell what ended meanwhile, finish what was cut in half, start what is wanted.
Invariants: a process is taken for a run only by pid *and* start ticks of this boot, checked before and after its pidfd was opened, or by the
marker in its environment; a record is believed for its own boot only; a status that nobody saw is unknown; nothing is started beside a
living run. What closes the window between fork and exec is the guard's lock (guard.main), which a child holds until its exec.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import kinds_light as k
from edgeheal.guard import procs
from edgeheal.guard.app import App, Run
from edgeheal.guard.launch import Launch
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.body import Body
    from edgeheal.guard.runs import Supervisor

    Marked = dict[str, list[tuple[int, procs.Process]]]


def everything(body: "Body", supervisor: "Supervisor") -> None:
    """Every app of the keeper, once, at the guard's start."""
    marked = supervisor.trees.marked()
    try:
        for app in list(supervisor.apps.values()):
            _one(body, supervisor, app, marked)
    finally:
        supervisor.trees.look_anew()


def _one(body: "Body", supervisor: "Supervisor", app: App, marked: "Marked") -> None:
    record = app.record.load()
    supervisor.orders.adopt(app)
    same_boot = record.get("boot") == body.boot
    app.finished = bool(record.get("finished")) and same_boot
    found = _main(record if same_boot else {}, marked.get(app.name, []))
    if found is not None:
        _adopt(body, supervisor, app, record if same_boot else {}, found)
        return
    if same_boot and record.get("pid") and record.get("ended") != record.get("run"):
        _ended_unseen(supervisor, app, record)
    _go_on(body, supervisor, app, record if same_boot else None)


def _main(record: "dict[str, Any]", marked: "list[tuple[int, procs.Process]]") -> "tuple[int, int] | None":
    """(run, pid) of the main process that lives, by the record, else by the marker: a session leader, the newest run."""
    pid, start = int(record.get("pid") or 0), int(record.get("start") or 0)
    if pid and procs.same(pid, start):
        return int(record["run"]), pid
    if pid and start and record.get("ended") != record.get("run"):
        marked = [(run, one) for run, one in marked if run != record.get("run")]  # that run's main is gone: the rest are leftovers
    leaders = [(run, one.pid) for run, one in marked if one.session == one.pid]
    return max(leaders) if leaders else None


def _adopt(body: "Body", supervisor: "Supervisor", app: App, record: "dict[str, Any]", found: "tuple[int, int]") -> None:
    number, pid = found
    run = Run(number, int(record.get("by") or 0), None, started_ns=int(record.get("started_ns") or 0), adopted=True)
    run.image = bytes(record.get("image") or b"")
    if not supervisor.watch.adopt(app, run, pid):
        _ended_unseen(supervisor, app, record | {"run": number})
        _go_on(body, supervisor, app, record)
        return
    app.run = run
    app.group = supervisor.groups.adopt(app.name, run.pid)
    app.phase = f.PHASE_STARTING
    run.ready = False
    app.record.keep(boot=body.boot, run=number, pid=run.pid, start=run.start)

    def known(launch: "Launch | int") -> None:
        """Admission tells limits, heartbeat and probes of what runs; a refusal leaves it running, unwatched but for its end."""
        if app.run is not run or not run.alive:
            return
        if isinstance(launch, Launch) and (not run.image or launch.image == run.image):
            run.launch = launch
            run.image = launch.image
            run.period_ns = launch.heartbeat_ms * 1_000_000
            if app.group is not None:  # an init system may have taken the controllers back in between, and the limits with them
                app.group.limit(launch.limit("memory_kib"), launch.limit("tasks"), launch.limit("cpu_permille"))
            supervisor.watch.listen(app, launch.user.uid)
            supervisor.logs.opened(app.name, (launch.limit("log_kib") or 1_024) * 1024)
        _adopted(body, supervisor, app, run, record)

    body.keeper.launch(app.name, k.BY_UNKNOWN, known)


def _adopted(body: "Body", supervisor: "Supervisor", app: App, run: Run, record: "dict[str, Any]") -> None:
    supervisor.facts.started(app, run)
    if record.get("ready", True) or run.launch is None or run.launch.ready == "start":
        supervisor.facts.ready(app, run)
    else:
        supervisor.watch.arm_grace(app, run, run.launch.start_ms)
    intent = record.get("intent")
    if intent in ("restart", "order"):
        supervisor.restart(app.name, int(record.get("stop_by") or 0))
    elif intent == "stop" or not body.keeper.wanted(app.name).running:
        supervisor.stop(app.name, int(record.get("stop_by") or k.BY_UNKNOWN))


def _ended_unseen(supervisor: "Supervisor", app: App, record: "dict[str, Any]") -> None:
    """It ended while nobody watched: told, with no status."""
    run = Run(int(record.get("run") or 0), int(record.get("by") or 0), None, adopted=True)
    run.image = bytes(record.get("image") or b"")
    run.started_ns = 0
    if record.get("intent") in ("stop", "restart", "order"):
        run.stop_by = int(record.get("stop_by") or 0)
    run.wanted_end = True
    app.run = run
    app.taken = supervisor.facts.exited(app, run, None)
    app.record.keep(pid=0, ended=run.number)


def _go_on(body: "Body", supervisor: "Supervisor", app: App, record: "dict[str, Any] | None") -> None:
    """It does not run. Should it? `record` None: a new boot."""
    if app.taken or app.finished or not body.keeper.wanted(app.name).running:
        return
    intent = (record or {}).get("intent")
    if record is None or not record.get("run"):
        supervisor.start(app.name, k.BY_BOOT)
    elif intent == "restart":
        supervisor.start(app.name, int(record.get("stop_by") or 0))
    else:
        supervisor.look(app.name)
