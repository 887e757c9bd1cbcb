# SPDX-License-Identifier: Apache-2.0
"""Why this box booted: asked of the guard at each greeting, told to the engine once a boot.

Duty: ask, have it weighed, tell. The engine judges each boot once; another agent of the same boot tells it again for the screens.
Invariant: what the guard looked at once is what every agent of this boot is told.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeheal.core import reasons
from edgeheal.core.signal import Signal
from edgeheal.wire import boot_facts, guard_frames

if TYPE_CHECKING:
    from edgeheal.adapters.guard_client import Answer, GuardClient


class WhyBooted:
    """Asks and tells. `boot` is what the guard said last, `nonce` its nonce of this boot (8 bytes); `then` is called when either came."""

    def __init__(self, guard: "GuardClient", hear: Callable[[Signal], None], then: Callable[[], None], *, torn: bool = False) -> None:
        """`torn`: the journal ended in the middle of a record when the first agent of this boot read it."""
        self._guard = guard
        self._hear = hear
        self._torn = torn
        self._then = then
        self._told = ""
        self.nonce = b""
        self.boot = boot_facts.Boot()

    def ask(self) -> None:
        """The guard is there."""
        self._guard.ask(guard_frames.CHALLENGE, self._challenged)
        self._guard.ask(guard_frames.WHY, self._came)

    def _challenged(self, answer: "Answer") -> None:
        if answer.reason == reasons.OK:
            self.nonce = answer.a.to_bytes(8, "big")
            self._then()

    def _came(self, answer: "Answer") -> None:
        if answer.reason != reasons.OK:
            return
        self.boot = boot_facts.of_rows(answer.rows, torn=self._torn)
        if self.boot.id and self.boot.id != self._told:
            self._told = self.boot.id
            self._hear(boot_facts.signal(self.boot))
        self._then()

    def notes(self) -> list[str]:
        """What the status screen says of a system on trial."""
        attempt, most, ordered = self.boot.trial
        return [f"system on trial, attempt {attempt} of {most}, {ordered} ordered reboot{'' if ordered == 1 else 's'}"] if most else []
