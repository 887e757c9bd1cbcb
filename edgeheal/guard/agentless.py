# SPDX-License-Identifier: Apache-2.0
"""An agent that will not stay: restarted (by others), then answered by one reboot, then the box runs on without it.

Duty: notice that the agent failed again and again, ask for the one reboot, raise the alarm. Who restarts it is `agentproc` or the manager.
Invariants: never more than one reboot until an agent has been well again, over boots, too; only where the config lets reboots be done unasked; an agent
that somebody stopped (it went once, and did not come back) is no failure; in a boot loop nothing is rebooted. Apps are not touched by any of this.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import kinds_light as k
from edgeheal.guard.steps import Refused, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.loop import Timer
    from edgeheal.guard.parts import Parts

FAILS = 5
AWAY_STUCKS = 15  # away for so many times the silence that counts as stuck
WELL_S = 600.0


class Agentless:
    """Counts the agent's ends. `fails` since it was last well; `given_up`: its reboot was used, or is not allowed."""

    __slots__ = ("_away", "_parts", "_stays", "fails", "given_up")

    def __init__(self, parts: "Parts") -> None:
        """Nothing is judged before it went once."""
        self._parts = parts
        self._away: Timer | None = None
        self._stays: Timer | None = None
        self.fails = 0
        self.given_up = False

    def on_agent(self, there: bool) -> None:
        """It came, or it went."""
        if not there:
            self.ended()
        elif self._stays is None:
            self._stays = self._parts.body.loop.after(WELL_S, self._well)

    def ended(self) -> None:
        """It went, or its process ended before it ever came."""
        self.fails += 1
        if self._stays is not None:
            self._stays.cancel()
            self._stays = None
        if self._away is None:
            stuck_s = int((self._parts.body.config.get("agent") or {}).get("stuck_s") or 60)
            self._away = self._parts.body.loop.after(float(AWAY_STUCKS * stuck_s), self._look)

    def _well(self) -> None:
        """It has stayed."""
        if self._away is not None:
            self._away.cancel()
        self._away = self._stays = None
        self.fails = 0
        self.given_up = False
        self._parts.boots.agent_reboot(used=False)

    def _look(self) -> None:
        """It was not well for long."""
        self._away = None
        if self.given_up or (self._stays is not None and self._parts.body.doors.agent_follows()):
            return  # it is there now: its next end counts, its staying ends the matter
        if self.fails < FAILS:
            return  # somebody stopped it
        allowed = bool((self._parts.body.config.get("agent") or {}).get("reboot"))
        if not allowed or not self._parts.boots.agent_reboot(used=True):
            self._alone()
            return
        run(self._parts.verbs.box.reboots.reboot(0, k.BY_REMEDY, confirmed=False), lambda said: self._alone() if isinstance(said, Refused) else None)

    def _alone(self) -> None:
        """Standing orders and the slow retry go on; whoever can be told is told."""
        self.given_up = True
        self._parts.hooks.run("alarm", {"EDGEHEAL_APP": "", "EDGEHEAL_VERB": "held", "EDGEHEAL_BY": "guard"}, lambda _: None)
