# SPDX-License-Identifier: Apache-2.0
"""What a detector may know besides its own memory: the app's manifest, the state of its run, policy, and time.

Duty: the value handed to every detector. Invariant: made by the engine for one step; no detector keeps it.
"""

from dataclasses import dataclass

from edgeheal.core.app import AppSpec
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy, Thresholds


@dataclass(slots=True)
class Around:
    """`pressed`: the host is under pressure. `still_ns`: end of the last standstill, 0 = none. Times are monotonic ns.

    `working` False: it is known not to do its work (it hangs, ended, is being healed): what it does not say is no news.
    `left_kib`: memory that the box has left, 0 = not known. `away`: the lowest layer of the way out that is down.
    `up`, `ready`, `run`, `started_ns`, `ready_ns` are of the app's present run; `wanted` False: it may be silent.
    """

    now: Now
    policy: Policy
    spec: AppSpec
    run: int = 0
    up: bool = False
    ready: bool = False
    wanted: bool = True
    started_ns: int = 0
    ready_ns: int = 0
    pressed: bool = False
    still_ns: int = 0
    working: bool = True
    left_kib: int = 0
    away: str = ""

    @property
    def ns(self) -> int:
        """Monotonic now."""
        return self.now.mono_ns

    @property
    def limits(self) -> Thresholds:
        """When a figure becomes a symptom."""
        return self.policy.thresholds

    @property
    def grace_ns(self) -> int:
        """How long a run may take until it must be ready."""
        return max(round(self.policy.start_grace_s * NS), self.spec.start_ms * 1_000_000)

    @property
    def judged(self) -> bool:
        """Whether the run does, or should do, its work: only then its silence says something."""
        return self.up and self.wanted and (self.ready or self.ns >= self.started_ns + self.grace_ns)
