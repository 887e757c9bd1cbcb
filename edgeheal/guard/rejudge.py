# SPDX-License-Identifier: Apache-2.0
"""Judging anew: what a newer trust takes back, and what two damaged records left to be found out by proof.

Duty: have all deployments judged after trust changed; rebuild an app's state from its trees, with the marks log as witness.
Invariants: a rebuild proves every image afresh before it names one; what the log calls blocked stays blocked, its floor stands; without the log the
highest security counter that is not revoked becomes TRIAL; nothing is dropped by either. Source: formats.md 2.3, safety.md section 7.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import deployment as table
from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, EMPTY, GOOD, TRIAL, UNKNOWN, WRITTEN
from edgeheal.guard.appstate import AppState, Deployment
from edgeheal.guard.steps import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.admission import Verdict
    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job


class Rejudge:
    """Judges many at once, in the background."""

    __slots__ = ("_parts",)

    def __init__(self, parts: "Parts") -> None:
        """`parts.imports` keeps launch records."""
        self._parts = parts

    def extend(self, chain: bytes) -> "Job":
        """Newer trust: in force at once, then everything installed is judged by it. Value: its number."""
        before = self._parts.trust.n
        n = yield from self._parts.trust.extend(chain)
        if n != before:
            self._parts.admission.forget_all()
            yield from self.everything()
        return n

    def everything(self) -> "Job":
        """Every deployment of every app by the newest trust; what runs first."""
        for app in list(self._parts.apps.values()):
            ones = sorted(app.state.deployments.values(), key=lambda d: d.id != app.state.run)
            for one in ones:
                if one.state in (WRITTEN, TRIAL, GOOD, BAD) and one.reason != table.R_REVOKED:
                    yield from self._one(app, one)

    def _one(self, app: "AppKeep", one: Deployment) -> "Job":
        try:
            verdict = yield from self._parts.admission.prove(app.state, one, rows=False)
        except Refused as refused:
            self._parts.moves.judged(app, one, refused.reason)
            return
        if verdict.kept:
            self._parts.moves.revoke(app, one.id, keep=True)

    # -- rebuilding -----------------------------------------------------------------------------------------------------------------

    def rebuild(self, app: "AppKeep") -> "Job":
        """Both records bad: the state again, out of trees that are proven and of what the marks log witnesses."""
        told = self._parts.ledger.marks.recall(app.name)
        state = AppState(app.name)
        state.floor, state.wanted, state.blocked = told.floor, told.wanted, list(told.blocked)
        for name in self._parts.trees(app.name)[:16]:
            one = yield from self._found(app, state, told, bytes.fromhex(name))
            if one is not None:
                state.deployments[one.id] = one
        self._choose(state, told)
        state.config = max((d.config for d in told.deployments.values()), default=0)
        app.deployments.commit(state)
        app.rebuilding = False
        self._parts.damaged(2, app.name, "state")

    def _found(self, app: "AppKeep", state: AppState, told: AppState, image: bytes) -> "Job":
        """One tree: what proof and the log make of it; None for what may not stay."""
        held = told.deployments.get(image)
        one = held.copy() if held is not None else Deployment(image)
        folder = self._parts.body.layout.tree(app.name, one.hex)
        under = self._parts.trust.envelope(one.trust) if held is not None else b""
        try:
            verdict: Verdict = yield from self._parts.admission.judge(state, one, folder, under)
        except (Refused, OSError) as fault:
            return self._unproven(one, fault)
        if verdict.record:
            self._parts.imports.keep_launch(app, one, verdict)
        one.trust = one.trust or self._parts.trust.n
        one.soak_left = 0
        if verdict.reason == reasons.REVOKED:
            one.state, one.reason = BAD, table.R_REVOKED
            state.block(one, table.R_REVOKED)
        elif verdict.reason == reasons.BLOCKED:
            one.state, one.reason = BAD, one.reason or table.R_FAILED
        elif verdict.reason != reasons.OK:
            return None
        elif one.state not in (GOOD, BAD):
            one.state = WRITTEN
        return one

    @staticmethod
    def _unproven(one: Deployment, fault: Exception) -> "Deployment | None":
        """Could not be judged now: veiled when it was known, else left to the next look."""
        if one.state == EMPTY or (isinstance(fault, Refused) and fault.reason in (reasons.WRONG_DEVICE, reasons.UNKNOWN_KEY)):
            return None
        one.was, one.state = one.state if one.state in (WRITTEN, GOOD, BAD) else WRITTEN, UNKNOWN
        return one

    @staticmethod
    def _choose(state: AppState, told: AppState) -> None:
        """What shall run: what ran, if it is still GOOD; else the newest good; else the highest counter, on trial."""
        good = state.good()
        ran = state.deployments.get(told.run)
        if ran is not None and ran.state == GOOD:
            state.run = ran.id
        elif good:
            state.run = good[0].id
        else:
            may = [d for d in state.deployments.values() if d.state == WRITTEN]
            best = max(may, key=lambda d: (d.security, d.id == told.run), default=None)
            if best is not None:
                best.state, state.run = TRIAL, best.id
        one = state.running
        if one is not None:
            one.data = one.data or max((d.data for d in told.deployments.values()), default=0) or 1
        if state.before not in state.deployments:
            state.before = b""
