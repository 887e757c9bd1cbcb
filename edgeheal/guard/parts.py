# SPDX-License-Identifier: Apache-2.0
"""The monitor's parts, held together, and the events that they tell.

Duty: name the parts; put an app's move into an event. It decides nothing.
Invariants: made once by `monitor`, handed to each part; what rare work needs (moves, imports, warrants, hooks, ...) is loaded when it is first
needed: a guard that only keeps apps running does not carry it for years (0.6 MB).
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.admission import Admission
    from edgeheal.guard.appdata import AppData
    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.appstate import Deployment
    from edgeheal.guard.body import Body
    from edgeheal.guard.boots import Boots
    from edgeheal.guard.hooks import Hooks, Told
    from edgeheal.guard.imports import Imports
    from edgeheal.guard.interlock import Interlock
    from edgeheal.guard.ledger import Ledger
    from edgeheal.guard.moves import Moves
    from edgeheal.guard.rejudge import Rejudge
    from edgeheal.guard.steps import Resume
    from edgeheal.guard.sweep import Sweep
    from edgeheal.guard.trial import Trials
    from edgeheal.guard.trustkeep import TrustKeep
    from edgeheal.guard.verbs import Verbs
    from edgeheal.guard.warrants import Warrants

APPROVE = 6  # core.kinds.ActionCode; the guard loads no enum


class Parts:
    """What each part of the monitor may reach."""

    __slots__ = (
        "_hooks", "_imports", "_interlock", "_moves", "_proven", "_rejudge", "_sweep", "_verbs", "_waiting", "_warrants", "admission", "approved_ns", "apps", "body",
        "boots", "data", "ledger", "proven", "trials", "trust",
    )  # fmt: skip

    admission: "Admission"
    boots: "Boots"
    data: "AppData"
    ledger: "Ledger"
    trials: "Trials"
    trust: "TrustKeep"

    def __init__(self, body: "Body") -> None:
        """The parts that are always needed are set by `monitor` before anything runs."""
        self.body = body
        self.apps: dict[str, AppKeep] = {}
        self.proven = False
        self.approved_ns = 0  # when a person approved last: lets one power cycle pass, see `boxverbs`
        self._proven: set[str] = set()
        self._waiting: list[tuple[str, Resume]] = []
        self._hooks: Hooks | None = None
        self._imports: Imports | None = None
        self._interlock: Interlock | None = None
        self._moves: Moves | None = None
        self._rejudge: Rejudge | None = None
        self._sweep: Sweep | None = None
        self._verbs: Verbs | None = None
        self._warrants: Warrants | None = None

    @property
    def hooks(self) -> "Hooks":
        """The integrator's executables."""
        if self._hooks is None:
            from edgeheal.guard.hooks import Hooks

            self._hooks = Hooks(self.body.loop, self.body.layout.hooks, self.body.layout.logs, self._hook_ran)
        return self._hooks

    @property
    def imports(self) -> "Imports":
        """Bundles on their way in."""
        if self._imports is None:
            from edgeheal.guard.imports import Imports

            self._imports = Imports(self)
        return self._imports

    @property
    def interlock(self) -> "Interlock":
        """Who is asked before something grave."""
        if self._interlock is None:
            from edgeheal.guard.interlock import Interlock

            self._interlock = Interlock(self)
        return self._interlock

    @property
    def moves(self) -> "Moves":
        """Try, switch, roll back."""
        if self._moves is None:
            from edgeheal.guard.moves import Moves

            self._moves = Moves(self)
        return self._moves

    @property
    def rejudge(self) -> "Rejudge":
        """Judging anew, rebuilding."""
        if self._rejudge is None:
            from edgeheal.guard.rejudge import Rejudge

            self._rejudge = Rejudge(self)
        return self._rejudge

    @property
    def sweep(self) -> "Sweep":
        """What nobody names."""
        if self._sweep is None:
            from edgeheal.guard.sweep import Sweep

            self._sweep = Sweep(self)
        return self._sweep

    @property
    def verbs(self) -> "Verbs":
        """Handlers of the monitor's verbs."""
        if self._verbs is None:
            from edgeheal.guard.verbs import Verbs

            self._verbs = Verbs(self)
        return self._verbs

    @property
    def warrants(self) -> "Warrants":
        """Signed words."""
        if self._warrants is None:
            from edgeheal.guard.warrants import Warrants

            self._warrants = Warrants(self)
        return self._warrants

    def until_proven(self, resume: "Resume", app: str = "") -> None:
        """A wait: the device's trust was looked at and damaged records are rebuilt as far as they can be; for an app, its own proof is enough."""
        if self.proven or app in self._proven:
            resume(None)
        else:
            self._waiting.append((app, resume))

    def settle(self, app: str = "") -> None:
        """Those who waited for proof (of this app) go on."""
        self.proven = self.proven or not app
        self._proven.add(app)
        go = [resume for name, resume in self._waiting if name == app or not app]
        self._waiting = [(name, resume) for name, resume in self._waiting if name != app and app]
        for resume in go:
            resume(None)

    def trees(self, app: str) -> "list[str]":
        """Hex ids of the trees in the store."""
        try:
            return sorted(n for n in os.listdir(f"{self.body.layout.store}/{app}") if is_id(n))
        except OSError:
            return []

    def soak_s(self, app: "AppKeep", record: "dict[str, object]") -> int:
        """The longer of the manifest's soak and the device's."""
        said = app.word.get("soak_s")
        device = int(said) if said else int(self.body.config.get("soak_min_s", 86_400))
        return max(int(str(record.get("soak_s") or 0)), device)

    def moved(self, app: str, one: "Deployment", event: int) -> None:
        """A deployment moved: tell those who follow."""
        self.body.doors.tell(f.pack_event(f.EV_IMAGE, code=event, app=app, image=one.id, a=one.state, b=one.reason))

    def trial_ended(self, app: str, image: bytes, *, good: bool, reason: int = 0, back_to: bytes = b"") -> None:
        """The guard's own judgement of a trial."""
        say = back_to.hex().encode()
        self.body.doors.tell(f.pack_event(f.EV_TRIAL, code=int(good), app=app, image=image, a=reason, say=say))

    def went_home(self, app: str, image: bytes, reason: int) -> None:
        """A newer image's `back` ran on the way to an older one; a reason: its data stayed where they are."""
        self.body.doors.tell(f.pack_event(f.EV_HOME, code=int(not reason), app=app, image=image, a=reason))

    def ordered(self, action: int, app: str, who: str, *, image: bytes = b"", until: int = 0) -> None:
        """An order of a person or a signed word that was accepted."""
        if action == APPROVE:
            self.approved_ns = time.monotonic_ns()
        self.body.doors.tell(f.pack_event(f.EV_ORDERED, code=action, app=app, image=image, a=until, say=who.encode()))

    def damaged(self, code: int, app: str, name: str) -> None:
        """A record was damaged (code 1), rebuilt (2), of a newer version (3), or could not be written (4)."""
        self.body.doors.tell(f.pack_event(f.EV_DAMAGED, code=code, app=app, say=name.encode()))

    def _hook_ran(self, point: str, told: "Told") -> None:
        self.body.doors.tell(f.pack_event(f.EV_HOOK, code=told.verdict, a=told.status & 0xFFFFFFFF, b=told.reason, say=point.encode()))


def is_id(name: str) -> bool:
    """Whether a folder's name is an image's id."""
    return len(name) == 64 and all(c in "0123456789abcdef" for c in name)
