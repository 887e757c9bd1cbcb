# SPDX-License-Identifier: Apache-2.0
"""Apps and their runs: start, stop, restart, reload, and what an end means.

Duty: bring each app to what is wanted, one at a time, and tell what was seen. It does not judge causes, trials or budgets (`keeper` does).
Invariants: never two runs of an app: a start happens only once the old tree is known to be gone; a stop ends in gone or STUCK, never in
waiting for ever; a restart never changes what is wanted, and its second half is finished after any death of ours; an exit status is what
the kernel told, or unknown. Field cases fc-pro-1, -2, -3, -5, fc-cfg-1.
Light on purpose: the resident guard imports it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.body import Body
    from edgeheal.guard.launch import Launch

    Then = Callable[[int], None]


class Run:
    """One run of an app."""

    __slots__ = ("adopted", "by", "late", "launch", "number", "pid", "pidfd", "ready", "start_ticks", "started_ns")

    launch: "Launch | None"


class App:
    """An app: `phase` (guard_frames PHASE_*), `run` (the present or last Run, None before the first), `name`, `restarts`."""

    __slots__ = ("name", "phase", "restarts", "run")

    run: "Run | None"


class Supervisor:
    """Runs every app of the keeper."""

    def __init__(self, body: "Body") -> None:
        """Nothing is started before `begin`."""

    def app(self, name: str) -> "App | None":
        """The app, if it exists here."""

    def start(self, name: str, by: int, then: "Then | None" = None) -> None:
        """Ask for a start. `then(reason)`: 0 once exec has succeeded (not: ready)."""

    def stop(self, name: str, by: int, then: "Then | None" = None) -> None:
        """Stop the whole tree in order. `then(0)` when it is gone, `then(UNKILLABLE)` when it will not go. What is wanted is not touched."""

    def restart(self, name: str, by: int, then: "Then | None" = None) -> None:
        """Stop if it runs, then start; finished after any death of ours. `then` as for start."""

    def kill(self, name: str, by: int, then: "Then | None" = None) -> None:
        """End the tree now, without an orderly stop."""

    def reload(self, name: str, then: "Then") -> None:
        """The manifest's reload method; needs a ready run."""
