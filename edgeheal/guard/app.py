# SPDX-License-Identifier: Apache-2.0
"""An app and a run of it, as values that the supervisor's parts share.

Duty: hold. It does nothing. Invariants: `phase` is moved by the supervisor alone; `token` changes whenever what is under way (a start that
waits for something) has become void; a run's `pid` is 0 once it has ended.
Light on purpose: the resident guard imports it.
"""

from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.cgroups import Group
    from edgeheal.guard.ending import Ending
    from edgeheal.guard.launch import Launch
    from edgeheal.guard.loop import Timer
    from edgeheal.guard.notify import NotifySocket
    from edgeheal.guard.record import RunRecord

    Then = Callable[[int], None]


class Run:
    """One run of an app. Times in monotonic ns; `period_ns` the longest silence it promised, 0 = none."""

    __slots__ = (
        "adopted", "at_once_ms", "beat", "by", "early_end", "executed", "extended_ns", "grace", "image", "late", "launch", "number", "oom_before", "period_ns", "pid",
        "pidfd", "pinged_ns", "plain", "ready", "reloading", "start", "started_ns", "stop_by", "wanted_end",
    )  # fmt: skip

    def __init__(self, number: int, by: int, launch: "Launch | None", *, started_ns: int = 0, adopted: bool = False) -> None:
        """`start` (ticks) and `pid` follow once the process is there."""
        self.number = number
        self.by = by
        self.launch = launch
        self.image = launch.image if launch is not None else b""
        self.started_ns = started_ns
        self.adopted = adopted
        self.pid = 0
        self.pidfd = -1
        self.start = 0
        self.executed = adopted
        self.early_end: int | None = None
        self.ready = False
        self.reloading = False
        self.late = False
        self.pinged_ns = 0
        self.period_ns = 0
        self.extended_ns = 0
        self.oom_before = 0
        self.stop_by = -1
        self.at_once_ms = -1  # the agent's leave: having lived so long, its end is answered by a start before the agent is asked; -1: none
        self.plain = False  # it ended by itself, and nothing but a restart is to be thought of
        self.wanted_end = False
        self.grace: Timer | None = None
        self.beat: Timer | None = None

    @property
    def alive(self) -> bool:
        """Whether it is known to be there."""
        return self.pid > 0


class App:
    """An app. `phase` is one of guard_frames PHASE_*; `restarts` counts starts after the first since this guard began."""

    __slots__ = (
        "after_stop", "answered", "busy_until_ns", "cleaned", "ending", "exits", "finished", "group", "held_by_agent", "log", "name", "notify", "phase", "port_told_ns", "record",
        "restarts", "run", "said_ns", "start_by", "starting", "stop_agreed", "stop_intent", "stop_thens", "strangers_ns", "stuck_since_ns", "taken", "token",
    )  # fmt: skip

    def __init__(self, name: str, record: "RunRecord") -> None:
        """Stopped, with no run."""
        self.name = name
        self.record = record
        self.phase = f.PHASE_STOPPED
        self.run: Run | None = None
        self.group: Group | None = None
        self.notify: NotifySocket | None = None
        self.log = -1
        self.token = 0
        self.restarts = 0
        self.start_by = 0
        self.starting: list[Then] = []
        self.stop_thens: list[Then] = []
        self.stop_agreed: list[Callable[[], int]] = []  # what a stop changes for good, once nothing stands in its way
        self.stop_intent = ("", 0)
        self.after_stop = -1
        self.ending: Ending | None = None
        self.exits: list[int] = []
        self.finished = False
        self.taken = False
        self.held_by_agent = False
        self.answered = 0  # the run whose end was answered at once; the agent's own word for the same is not carried out again
        self.cleaned = False
        self.busy_until_ns = 0
        self.said_ns = 0
        self.port_told_ns = 0
        self.strangers_ns = 0
        self.stuck_since_ns = 0

    @property
    def running(self) -> bool:
        """Whether a run of it is alive."""
        return self.run is not None and self.run.alive

    @property
    def pid(self) -> int:
        """Of the run that is alive; 0 = none is."""
        return self.run.pid if self.run is not None else 0

    @property
    def run_number(self) -> int:
        """Of the present or last run."""
        return self.run.number if self.run is not None else 0
