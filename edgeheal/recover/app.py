# SPDX-License-Identifier: Apache-2.0
"""An app as the engine knows it: facts from the guard, and its fine state, moved by the app table alone.

Duty: the value and its moves. It decides no remedy.
Invariants: frozen; what is wanted is stored with who wanted it, never inferred from what is seen; a cell that refuses changes nothing.
"""

from dataclasses import dataclass

from edgeheal.core.app_table import AppEvent, decide
from edgeheal.core.deployment import GOOD, TRIAL
from edgeheal.core.kinds import AppState, By, ChangeKind
from edgeheal.core.table import Verdict
from edgeheal.core.values import replace


@dataclass(frozen=True, slots=True)
class Deployed:
    """One row of the guard's view of an app's images."""

    image: str
    version: str
    state: int
    reason: int = 0
    running: bool = False
    soak_left_s: int = 0


@dataclass(frozen=True, slots=True)
class App:
    """Times are monotonic ns, 0 = never or not; `pause_until_s` box seconds.

    `up`: a process runs. `ready`: it said so, or its start grace ended well. `stuck`: no signal ends it. `fails`: short runs in
    a row, for the back-off. `down_ns`: since when it does not serve though wanted. `change_ns`: when what runs changed last.
    `ordered_ns`: an ordered end whose second half (the start) is still owed. `judging_ns`: until then the guard judges a trial by itself.
    """

    name: str
    state: AppState = AppState.STOPPED
    since_ns: int = 0
    run: int = 0
    pid: int = 0
    known: bool = False
    up: bool = False
    ready: bool = False
    stuck: bool = False
    held: bool = False
    wanted: bool = True
    wanted_by: int = int(By.BOOT)
    pause_until_s: int = 0
    started_ns: int = 0
    ready_ns: int = 0
    down_ns: int = 0
    ordered_ns: int = 0
    judging_ns: int = 0
    busy_ns: int = 0
    fails: int = 0
    image: str = ""
    image_state: int = 0
    config_differs: bool = False
    change: ChangeKind = ChangeKind.NONE
    change_ns: int = 0
    removed: bool = False
    deployments: tuple[Deployed, ...] = ()

    @property
    def version(self) -> str:
        """The label of what runs, "" when unknown."""
        return next((d.version for d in self.deployments if d.image == self.image), "")

    @property
    def in_trial(self) -> bool:
        """Whether what runs is on trial."""
        return self.image_state == TRIAL

    def paused(self, box_s: int) -> bool:
        """Whether remedies are paused for it."""
        return self.pause_until_s > box_s

    def other_good(self) -> Deployed | None:
        """Another image here that soaked, None when there is none."""
        return next((d for d in self.deployments if d.state == GOOD and not d.running and d.image != self.image), None)


def moved(app: App, event: AppEvent, now_ns: int) -> App:
    """The app after `event`; the same value when the table says ignore or refuse."""
    cell = decide(app.state, event)
    if cell.verdict is not Verdict.MOVE or cell.next == app.state:
        return app
    return replace(app, state=AppState(cell.next), since_ns=now_ns)


def changed(app: App, change: ChangeKind, now_ns: int) -> App:
    """Remember what changed last and when."""
    return replace(app, change=change, change_ns=now_ns)
