# SPDX-License-Identifier: Apache-2.0
"""The interlock and the safe state: who is asked before something grave happens, and what is done before an app that moves things is stopped.

Duty: ask `hooks/interlock.d`, run `hooks/safe-state.d` and have it read back by `hooks/safe-state-check.d`. It carries out nothing else.
Invariants: *could not tell* is no; an override is one person's word at the box for one act, within ten minutes, and is recorded; an app that
moves nothing is asked for nothing. EdgeHeal is not a safety function: this only keeps it from being the cause of harm. Source: safety.md section 5.
Light on purpose: the resident guard imports it.
"""

import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.guard import asks
from edgeheal.guard.hooks import YES
from edgeheal.guard.steps import Refused, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

OVERRIDE_S = 600
BY_WORDS = ("unknown", "remedy", "local", "command", "foreign", "boot", "standing-order", "dependency", "itself")
BY_ITSELF = frozenset({k.BY_REMEDY, k.BY_STANDING_ORDER, k.BY_BOOT, k.BY_DEPENDENCY, k.BY_ITSELF})


class Interlock:
    """Asks before grave verbs and around apps that move things."""

    __slots__ = ("_override_ns", "_parts", "overridden")

    def __init__(self, parts: "Parts") -> None:
        """`overridden` counts overrides that were used."""
        self._parts = parts
        self._override_ns = 0
        self.overridden = 0

    def override(self) -> None:
        """A person at the box takes the next no on himself."""
        self._override_ns = time.monotonic_ns() + OVERRIDE_S * 1_000_000_000

    def _used(self) -> bool:
        used = time.monotonic_ns() < self._override_ns
        self._override_ns = 0
        self.overridden += used
        return used

    def grave(self, verb: str, by: int, app: str = "") -> "Job":
        """Ask the interlock; Refused INTERLOCK (or NOT_NOW) unless it says go."""
        env = {"EDGEHEAL_VERB": verb, "EDGEHEAL_BY": BY_WORDS[by], "EDGEHEAL_APP": app}
        told = yield asks.hook(self._parts.hooks, "interlock", env)
        if told.verdict != YES and not self._used():
            raise Refused(reasons.NOT_NOW if told.reason == reasons.NOT_NOW else reasons.INTERLOCK, f"{told.name or 'interlock'} says no")
        return 0

    def safe(self, app: str, by: int) -> "Job":
        """Bring about the safe state and read it back; Refused INTERLOCK when it cannot be seen."""
        env = {"EDGEHEAL_VERB": "safe-state", "EDGEHEAL_BY": BY_WORDS[by], "EDGEHEAL_APP": app}
        for point in ("safe-state", "safe-state-check"):
            told = yield asks.hook(self._parts.hooks, point, env)
            if told.verdict != YES and not self._used():
                raise Refused(reasons.INTERLOCK, f"{told.name or point}: the safe state was not reached")
        return 0

    def before_stop(self, app: str, by: int, then: "Callable[[int], None]") -> None:
        """The safe state comes before the stop of an app that moves things."""
        run(self.safe(app, by), lambda said: then(said.reason if isinstance(said, Refused) else 0))

    def before_start(self, app: str, by: int, died: bool, then: "Callable[[int], None]") -> None:
        """After a death the safe state comes first; what starts by itself asks the interlock."""
        run(self._starting(app, by, died), lambda said: then(said.reason if isinstance(said, Refused) else 0))

    def _starting(self, app: str, by: int, died: bool) -> "Job":
        if died:
            yield from self.safe(app, by)
        if by in BY_ITSELF:
            yield from self.grave("start", by, app)
        return 0
