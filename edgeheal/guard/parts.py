# SPDX-License-Identifier: Apache-2.0
"""The monitor's parts, held together, and the events that they tell.

Duty: name the parts; put an app's move into an event. It decides nothing. Invariant: made once by `monitor`, handed to each part.
Light on purpose: the resident guard imports it.
"""

from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.admission import Admission
    from edgeheal.guard.appdata import AppData
    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.appstate import Deployment
    from edgeheal.guard.body import Body
    from edgeheal.guard.hooks import Hooks
    from edgeheal.guard.interlock import Interlock
    from edgeheal.guard.ledger import Ledger
    from edgeheal.guard.moves import Moves
    from edgeheal.guard.rejudge import Rejudge
    from edgeheal.guard.steps import Resume
    from edgeheal.guard.sweep import Sweep
    from edgeheal.guard.trial import Trials
    from edgeheal.guard.trustkeep import TrustKeep


class Parts:
    """What each part of the monitor may reach."""

    __slots__ = ("_waiting", "admission", "apps", "body", "data", "hooks", "interlock", "ledger", "moves", "proven", "rejudge", "sweep", "trials", "trust")

    admission: "Admission"
    data: "AppData"
    hooks: "Hooks"
    interlock: "Interlock"
    ledger: "Ledger"
    moves: "Moves"
    rejudge: "Rejudge"
    sweep: "Sweep"
    trials: "Trials"
    trust: "TrustKeep"

    def __init__(self, body: "Body") -> None:
        """The parts are set by `monitor` before anything runs."""
        self.body = body
        self.apps: dict[str, AppKeep] = {}
        self.proven = False
        self._waiting: list[Resume] = []

    def until_proven(self, resume: "Resume") -> None:
        """A wait: the device's trust was looked at, and damaged records are rebuilt as far as they can be."""
        if self.proven:
            resume(None)
        else:
            self._waiting.append(resume)

    def settle(self) -> None:
        """Those who waited for proof go on."""
        self.proven = True
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume(None)

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

    def ordered(self, action: int, app: str, who: str, *, image: bytes = b"", until: int = 0) -> None:
        """An order of a person or a signed word that was accepted."""
        self.body.doors.tell(f.pack_event(f.EV_ORDERED, code=action, app=app, image=image, a=until, say=who.encode()))

    def damaged(self, code: int, app: str, name: str) -> None:
        """A record was damaged (code 1), rebuilt (2), of a newer version (3), or could not be written (4)."""
        self.body.doors.tell(f.pack_event(f.EV_DAMAGED, code=code, app=app, say=name.encode()))
