# SPDX-License-Identifier: Apache-2.0
"""The moves of one app's deployments: the table's verdicts carried out on its durable state.

Duty: apply `core.deployment.decide`, pick whom a rollback goes to, keep floor, blocks and marks. It starts and stops nothing and reads no image:
whoever calls it has admitted what it names, and carries out what it returns.
Invariants: every move is one durable write that was read back, or it did not happen (UNWRITABLE); the floor never falls; BAD for *revoked* never
runs again; the last known good and the anchor are never dropped; from GOOD it goes by itself only to the same security counter or higher.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import deployment as table
from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, EMPTY, GOOD, TRIAL, UNKNOWN, WRITTEN
from edgeheal.guard import appstate
from edgeheal.guard.appstate import AppState, Deployment
from edgeheal.guard.blocks import DAMAGED, FOUND, FRESH, NEWER, Blocks
from edgeheal.guard.steps import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.marks import Marks

    Moved = Callable[[str, Deployment, int], None]

__all__ = ["DAMAGED", "FOUND", "FRESH", "NEWER", "Deployments", "Move", "goes_back_to"]


class Move:
    """What a move asks of the caller: `run` the image to be run now (b"" = none), `changed` whether that is another one, `hold` whether
    nothing may run and a human is called, `duty` the table's word.
    """

    __slots__ = ("changed", "durable", "duty", "hold", "image", "run")

    def __init__(self, image: bytes, run: bytes, *, changed: bool = False, hold: bool = False, duty: int = table.D_NONE) -> None:
        """All of it is durable already."""
        self.image = image
        self.run = run
        self.durable = True
        self.changed = changed
        self.hold = hold
        self.duty = duty


class Deployments:
    """One app's deployments. `state` is what is durable; `moved(app, deployment, event)` is told after each move."""

    __slots__ = ("_blocks", "_marks", "_moved", "_volatile", "app", "state")

    def __init__(self, app: str, folder: str, marks: "Marks", moved: "Moved") -> None:
        """`folder` is the app's own in guard/apps. Nothing is read before `load`."""
        self.app = app
        self.state = AppState(app)
        self._blocks = Blocks(f"{folder}/state", appstate.SIZE)
        self._marks = marks
        self._moved = moved
        self._volatile = False

    # -- the record ---------------------------------------------------------------------------------------------------------------

    def load(self) -> int:
        """Read the record: FOUND, FRESH, DAMAGED (rebuild it by proof) or NEWER (kept as it is, read as far as it is understood)."""
        value = self._blocks.load()
        if value is None:
            return self._blocks.found
        try:
            self.state = appstate.unpack(self.app, value)
        except (KeyError, TypeError, ValueError, IndexError):
            if self._blocks.found != NEWER:
                self._blocks.found = DAMAGED
        return self._blocks.found

    def commit(self, draft: AppState) -> None:
        """Make `draft` the state: durable and read back, else Refused and nothing has changed."""
        if self._blocks.found == NEWER:  # a newer EdgeHeal wrote it: nothing is moved
            raise Refused(reasons.UNKNOWN_VERSION, "written by a newer EdgeHeal")
        if not self._volatile:
            try:
                self._blocks.store(draft.pack())
            except OSError as fault:
                raise Refused(reasons.UNWRITABLE, str(fault)) from None
        self.state = draft

    def find(self, image: bytes) -> Deployment:
        """The deployment of that id, or Refused."""
        found = self.state.deployments.get(image)
        if found is None or found.state == EMPTY:
            raise Refused(reasons.NO_SUCH_IMAGE)
        return found

    def last_good(self, one: Deployment) -> bool:
        """No other GOOD one may run without approval."""
        return not self.state.others(one)

    # -- the table ----------------------------------------------------------------------------------------------------------------

    def _decide(self, one: Deployment, event: int, *, keep: bool = False) -> "tuple[int, int]":
        """(next state, duty) of a move, or Refused (also for *ignore*: NOTHING_TO_DO)."""
        last = self.last_good(one)
        verdict, after, duty = table.decide(
            one.state, event, was=one.was, reason=one.reason, running=one.id == self.state.run, last_good=last, keep=keep,
        )  # fmt: skip
        if verdict == table.REFUSE:
            last = last and one.state == GOOD
            raise Refused(reasons.LAST_GOOD if last else reasons.TABLE, f"{table.STATES[one.state]} refuses {table.EVENTS[event]}")
        if verdict == table.IGNORE:
            raise Refused(reasons.NOTHING_TO_DO, f"{table.STATES[one.state]} ignores {table.EVENTS[event]}")
        return after, duty

    def _done(self, draft: AppState, image: bytes, event: int) -> None:
        self.commit(draft)
        one = draft.deployments[image]
        self._marks.moved(draft, one, event)
        self._moved(self.app, one, event)

    def written(self, fresh: Deployment) -> None:
        """An image was stored whole (also again, after rot): it is WRITTEN."""
        draft = self.state.copy()
        held = draft.deployments.get(fresh.id)
        one = held if held is not None and held.state != EMPTY else fresh.copy()
        after, _ = self._decide(one, table.E_WRITTEN)
        if draft.is_blocked(one.id, one.digest):
            raise Refused(reasons.BLOCKED)
        if one.id not in draft.deployments and len(draft.deployments) >= appstate.MOST_DEPLOYMENTS:
            raise Refused(reasons.TOO_MANY, "16 deployments are kept at most")
        one.state, one.was = after, EMPTY
        draft.deployments[one.id] = one
        self._done(draft, one.id, table.E_WRITTEN)

    def proven(self, image: bytes) -> None:
        """Its files were proven again: the veil is lifted."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        one.state, _ = self._decide(one, table.E_PROVEN)
        one.was = EMPTY
        self._done(draft, image, table.E_PROVEN)

    def differs(self, image: bytes) -> None:
        """Its files are not what was signed: UNKNOWN veils what it was."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        after, _ = self._decide(one, table.E_DIFFERS)
        one.was, one.state = one.state, after
        self._done(draft, image, table.E_DIFFERS)

    def try_(self, image: bytes, *, data: int, soak_s: int) -> Move:
        """Run it: WRITTEN becomes TRIAL, GOOD just runs. `data` is the generation made for it."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        after, duty = self._decide(one, table.E_TRY)
        if after == TRIAL:
            one.soak_left, one.tried = soak_s, self._blocks.seq + 1
        one.state, one.data = after, data
        self._leave(draft, one)
        self._done(draft, image, table.E_TRY)
        return Move(image, image, changed=True, duty=duty)

    def _leave(self, draft: AppState, to: Deployment) -> None:
        """`run` becomes `to`; what ran is remembered, and a trial that is left is WRITTEN again."""
        if draft.run != to.id:
            left = draft.running
            if left is not None and left.state == TRIAL:
                left.state, left.soak_left = WRITTEN, 0
            draft.before, draft.run = draft.run, to.id
        draft.held = (0, 0)

    def soaked(self, image: bytes, floor: "tuple[int, int]", *, config: int = -1, config_size: int = 0, config_mtime: int = 0) -> None:
        """The trial held: GOOD, and the floor clicks up to `floor` (never down, never above what this image is)."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        one.state, _ = self._decide(one, table.E_SOAKED)
        one.marked, one.soak_left = self._blocks.seq + 1, 0
        if config >= 0:
            one.config, one.config_size, one.config_mtime = config, config_size, config_mtime
            draft.config = max(config, draft.config)
        draft.floor = max(draft.floor, floor)
        self._done(draft, image, table.E_SOAKED)

    def failed(self, image: bytes) -> Move:
        """It failed: a TRIAL is BAD and blocked, a GOOD one demoted; the known-good runs, or the app is held."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        trial = one.state == TRIAL
        after, duty = self._decide(one, table.E_FAILED)
        one.state, one.soak_left = after, 0
        if after == BAD:
            one.reason = table.R_FAILED
            draft.block(one, table.R_FAILED)
        return self._back(draft, one, table.E_FAILED, duty, lower=trial)

    def failed_here(self, image: bytes) -> Move:
        """As `failed`, for what the guard saw itself: where the medium takes nothing it holds from memory, and says so (`durable` False)."""
        try:
            return self.failed(image)
        except Refused as refused:
            if refused.reason != reasons.UNWRITABLE:
                raise
        self._volatile = True
        try:
            move = self.failed(image)
        finally:
            self._volatile = False
        move.durable = False
        return move

    def configured(self, image: bytes, n: int, size: int, mtime: int) -> None:
        """Config n was kept as the known good one of this deployment (or put back)."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        one.config, one.config_size, one.config_mtime = n, size, mtime
        draft.config = max(n, draft.config)
        self.commit(draft)

    def given_up(self, image: bytes, *, target: bytes = b"", lower: bool = False, data: int = 0) -> Move:
        """Leave it for a GOOD one; nothing is blocked. `lower`: a person or a warrant allows a lower security counter. `data`: what it goes on with."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        trial = one.state == TRIAL
        if one.state == GOOD and lower and draft.others(one, lower=True):
            after, duty = GOOD, table.D_ROLL_BACK
        else:
            after, duty = self._decide(one, table.E_GIVEN_UP)
        one.state, one.soak_left = after, 0
        if data and target:
            draft.deployments[target].data = data
        return self._back(draft, one, table.E_GIVEN_UP, duty, lower=lower or trial, target=target)

    def revoked(self, image: bytes, *, keep: bool) -> Move:
        """Trust took it back: BAD for good; what runs goes back, runs on (`keep`), or is held."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        after, duty = self._decide(one, table.E_REVOKED, keep=keep)
        one.state, one.was, one.reason, one.soak_left = after, EMPTY, table.R_REVOKED, 0
        draft.block(one, table.R_REVOKED)
        return self._back(draft, one, table.E_REVOKED, duty, lower=False)

    def _back(self, draft: AppState, one: Deployment, event: int, duty: int, *, lower: bool, target: bytes = b"") -> Move:
        """Carry out the duty to roll back, in the same durable write."""
        hold = duty == table.D_HOLD and draft.run == one.id
        changed = False
        if duty == table.D_ROLL_BACK:
            goes = goes_back_to(draft, one, lower=lower, target=target)
            if goes is None and event == table.E_GIVEN_UP:
                raise Refused(reasons.LAST_GOOD, "no other known-good image")
            hold = goes is None
            if goes is not None:
                draft.before, draft.run, changed = one.id, goes.id, True
        if hold:
            draft.held = (reasons.REVOKED if one.reason == table.R_REVOKED else reasons.LAST_GOOD, self._blocks.seq + 1)
        elif changed:
            draft.held = (0, 0)
        self._done(draft, one.id, event)
        return Move(one.id, b"" if hold else draft.run, changed=changed, hold=hold, duty=duty)

    def switch(self, image: bytes, *, lower: bool = False, data: int = 0) -> Move:
        """Run another GOOD deployment. A lower security counter than a GOOD running one needs `lower` (a person's or a signed word).

        `data`: the generation it goes on with from now on, 0 = its own.
        """
        target = self.find(image)
        current = self.state.running
        if target.state != GOOD:
            raise Refused(reasons.TABLE, f"{table.STATES[target.state]} is not known good")
        if target.id == self.state.run and not self.state.held[0]:
            raise Refused(reasons.NOTHING_TO_DO)
        if current is not None and current.state == GOOD and target.security < current.security and not lower:
            raise Refused(reasons.NEEDS_APPROVAL, "its security counter is lower")
        draft = self.state.copy()
        draft.deployments[image].data = data or target.data
        self._leave(draft, draft.deployments[image])
        self._done(draft, image, table.E_TRY)
        return Move(image, image, changed=True, duty=table.D_RUN)

    def allow(self, image: bytes) -> None:
        """A signed word lifts *failed*: WRITTEN again, not blocked any more."""
        draft = self.state.copy()
        if image not in draft.deployments:  # it left the store, its block did not
            if not draft.unblock(image):
                raise Refused(reasons.NO_SUCH_IMAGE)
            self.commit(draft)
            return
        one = draft.deployments[self.find(image).id]
        one.state, _ = self._decide(one, table.E_ALLOW)
        one.reason = table.R_NONE
        draft.unblock(one.id, one.digest or one.id)
        self._done(draft, image, table.E_ALLOW)

    def drop(self, image: bytes) -> None:
        """Forget it (its tree goes to trash next); its blocks stay. The last known good, the anchor and what runs are never dropped."""
        draft = self.state.copy()
        one = draft.deployments[self.find(image).id]
        anchor = draft.anchor()
        if anchor is not None and anchor.id == image:
            raise Refused(reasons.LAST_GOOD, "it is the anchor")
        if one.state == UNKNOWN and one.was == GOOD and self.last_good(one):
            raise Refused(reasons.LAST_GOOD)
        self._decide(one, table.E_DROP)
        one.state = EMPTY
        del draft.deployments[image]
        draft.before = b"" if draft.before == image else draft.before
        self.commit(draft)
        self._marks.moved(draft, one, table.E_DROP)
        self._moved(self.app, one, table.E_DROP)

    # -- facts that move nothing ----------------------------------------------------------------------------------------------------

    def note(self, **facts: "Any") -> None:
        """Make `wanted`, `pause`, `held` or `warrants` durable."""
        draft = self.state.copy()
        for name, value in facts.items():
            setattr(draft, name, value)
        self.commit(draft)

    def ran(self, image: bytes, *, served_s: int = 0, soaked_s: int = 0) -> None:
        """So much longer served and soaked; kept with the next write (see `keep`)."""
        one = self.state.deployments.get(image)
        if one is not None:
            one.served += max(0, served_s)
            if one.state == TRIAL:
                one.soak_left = max(0, one.soak_left - max(0, soaked_s))

    def keep(self) -> bool:
        """Write what `ran` has changed; False when the medium does not take it (it is tried again with the next move)."""
        try:
            self.commit(self.state)
        except Refused:
            return False
        return True


def goes_back_to(state: AppState, one: Deployment, *, lower: bool = False, target: bytes = b"") -> "Deployment | None":
    """Whom a rollback from `one` goes to: the named one; from a trial what ran before; else the next older mark, else the newest; None: nobody."""
    allowed = state.others(one, lower=lower)
    if target:
        return next((d for d in allowed if d.id == target), None)
    back = (d for d in allowed if (d.id == state.before if one.state != GOOD else d.marked < one.marked))  # else it would be ping-pong
    return next(back, allowed[0] if allowed else None)
