# SPDX-License-Identifier: Apache-2.0
"""Verbs on the whole box: hooks, reboot, checks, challenge, budgets, override.

Duty: rights beyond the door, budgets and the interlock for what is not one app's. Invariants: as `verbs`; a hook's target is a line that root wrote; the agent's
power cycle needs [hooks] power, or a person's approval that the guard heard itself.
Light on purpose: the resident guard imports it.
"""

import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.guard import asks, budgets, doors, hooks
from edgeheal.guard.hooks import NO, UNKNOWN, YES, Hooks, Told
from edgeheal.guard.reboot import POWER_OFF, REBOOT, Reboots
from edgeheal.guard.steps import Refused, run
from edgeheal.guard.watchdog import Watchdog
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.doors import Request
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

POWER_CYCLE = "power-cycle"
APPROVAL_S = 600
ANSWERS = {"os-rollback": f.L_OS, "safe-mode": f.L_SAFE}  # hook points that answer a boot loop


class BoxVerbs:
    """Handlers of the box's verbs, the watchdog and the way out."""

    __slots__ = ("_checks", "_parts", "reboots", "watchdog")

    def __init__(self, parts: "Parts") -> None:
        """The dog is opened by `feed`, last of all."""
        self._parts = parts
        self.watchdog = Watchdog(parts.body.loop)
        self.reboots = Reboots(parts, self.watchdog)
        self._checks = Hooks(parts.body.loop, parts.body.layout.checks, parts.body.layout.logs, self._checked)

    def table(self) -> "dict[int, Callable[[Request], int | None]]":
        """Each verb and its handler."""
        return {
            f.HOOK: self._hook, f.REBOOT: self._reboot, f.CHECKS: self._run_checks, f.CHALLENGE: self._challenge, f.BUDGETS: self._budgets,
            f.OVERRIDE: self._override,
        }  # fmt: skip

    def feed(self) -> None:
        """Open the hardware watchdogs that the config names."""
        said = self._parts.body.config.get("watchdog") or {}
        devices = [str(d) for d in (said.get("device"), *(said.get("also") or ())) if d]
        if devices:
            self.watchdog.open(devices, int(said.get("timeout_s") or 60), int(said.get("pretimeout_s") or 0))
            if self.watchdog.fault:
                self._parts.body.doors.tell(f.pack_event(f.EV_DAMAGED, code=4, say=f"watchdog: {self.watchdog.fault}".encode()))

    def _hook(self, request: "Request") -> int | None:
        """A hook point by name; the target is one that root has listed: `a` its number from 1, or the image field its words."""
        point, wanted = request.app, f.text(request.image)
        agent = request.client.rank == doors.AGENT
        if not hooks.is_point(point) or point in hooks.RESERVED or (agent and wanted):
            return reasons.MALFORMED
        if not self._parts.hooks.exists(point):
            return reasons.NOT_CONFIGURED
        target = self._parts.hooks.target(point, wanted, request.a)
        if (wanted or request.a) and not target:
            return reasons.NOT_CONFIGURED
        if agent and point == POWER_CYCLE and not (self._parts.body.config.get("hooks") or {}).get("power") and not self._approved():
            return reasons.NEEDS_APPROVAL

        def ended(said: "Told | Refused") -> None:
            if isinstance(said, Refused):
                request.answer(said.reason)
            else:
                if said.ran and point in ANSWERS:
                    self._parts.boots.answered(ANSWERS[point])
                request.answer(reasons.OK if said.verdict == YES else said.reason, a=said.verdict, b=said.status & 0xFFFFFFFF)

        run(self._hooked(point, target, k.BY_REMEDY if agent else k.BY_LOCAL), ended)
        return None

    def _approved(self) -> bool:
        """Whether a person approved something lately; that lets one power cycle pass, once."""
        at_ns, self._parts.approved_ns = self._parts.approved_ns, 0
        return bool(at_ns) and time.monotonic_ns() - at_ns < APPROVAL_S * 1_000_000_000

    def _hooked(self, point: str, target: str, by: int) -> "Job":
        kind = budgets.POWER if point == POWER_CYCLE else budgets.HOOK
        yield from self._parts.interlock.grave(point, by)
        reason = self._parts.ledger.budgets.spend(kind, target or point, force=by != k.BY_REMEDY)
        if reason:
            raise Refused(reason)
        self._parts.ledger.grave()
        return (yield asks.hook(self._parts.hooks, point, {"EDGEHEAL_TARGET": target, "EDGEHEAL_VERB": "hook", "EDGEHEAL_BY": "remedy" if by == k.BY_REMEDY else "local"}))  # fmt: skip

    def _reboot(self, request: "Request") -> int | None:
        """`a` 0 reboot, 1 power off, 2 halt; `b` = 1 confirmed."""
        agent = request.client.rank == doors.AGENT
        if agent and request.a != REBOOT:
            return reasons.WRONG_DOOR
        if request.a > POWER_OFF + 1:
            return reasons.MALFORMED
        by = k.BY_REMEDY if agent else k.BY_LOCAL
        job = self.reboots.reboot(request.a, by, confirmed=request.b == 1)
        run(job, lambda said: request.answer(said.reason if isinstance(said, Refused) else reasons.OK, b=self.watchdog.timeout_s))
        return None

    def _run_checks(self, request: "Request") -> None:
        """checks/required.d, then checks/wanted.d, as the checks' own user; the answer is the required ones' verdict."""

        def job() -> "Job":
            uid = -1 if self._parts.body.boundary == "none" else self._parts.body.uid("check")
            gid = -1 if uid < 0 else asks.group_of(self._parts.body, "check")
            env = {"EDGEHEAL_VERB": "checks"}
            told = yield asks.hook(self._checks, "required", env, uid=uid, gid=gid)
            yield asks.hook(self._checks, "wanted", env, uid=uid, gid=gid, wanted=True)
            return told

        def ended(said: "Told | Refused") -> None:
            verdict = said.verdict if isinstance(said, Told) else UNKNOWN
            request.answer(reasons.OK if verdict == YES else said.reason, a=verdict, b=said.status & 0xFFFFFFFF if isinstance(said, Told) else NO)

        run(job(), ended)

    def _checked(self, point: str, told: Told) -> None:
        self._parts.body.doors.tell(
            f.pack_event(f.EV_HOOK, code=told.verdict, a=told.status & 0xFFFFFFFF, b=told.reason, say=f"checks/{point} {told.name}".encode())
        )

    def _challenge(self, request: "Request") -> None:
        """The boot nonce, and what a new counter must lie above."""
        request.answer(a=self._parts.ledger.box.nonce, b=self._parts.ledger.counters.floor())

    def _budgets(self, request: "Request") -> int:
        """Rows: what was spent of each kind, for the box or for the named app."""
        for kind in range(len(budgets.KINDS)):
            for spent, most, per in self._parts.ledger.budgets.spent(kind, request.app):
                say = budgets.KINDS[kind].encode()
                request.row(f.pack_event(f.EV_BUDGET, code=kind, app=request.app, a=spent, b=most, c=per, say=say))
        return reasons.OK

    def _override(self, request: "Request") -> int:
        """A person takes the interlock's next no on himself."""
        self._parts.interlock.override()
        self._parts.ordered(0, "", "override of the interlock")
        return reasons.OK
