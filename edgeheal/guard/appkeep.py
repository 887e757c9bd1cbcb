# SPDX-License-Identifier: Apache-2.0
"""One app in the monitor's memory: its deployments, the one move that is under way, what was witnessed of its run.

Duty: hold it. It judges nothing. Invariants: at most one move of an app at a time; a witness (an exit, a missed heartbeat) is of one image and is
forgotten when another one runs.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import reasons
from edgeheal.guard.deployments import Deployments
from edgeheal.guard.steps import Refused, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.appstate import AppState, Deployment
    from edgeheal.guard.loop import Timer
    from edgeheal.guard.steps import Job, Resume


class AppKeep:
    """`rebuilding`: its records were damaged and are being proven; `held_soak`: the agent stopped the soak's clock;
    `once`: the slow retry may start it once although it is held; `serves_ns` since when the run serves (counted up to then);
    `unwritten`: a move is in force that the medium did not take yet.
    """

    __slots__ = (
        "_after", "busy", "config_timer", "deployments", "held_soak", "late", "name", "once", "rebuilding", "retry", "serves_ns", "since_ns", "soak_timer", "unsaved_s", "unwritten",
        "witness", "word",
    )  # fmt: skip

    def __init__(self, name: str, deployments: Deployments) -> None:
        """Made by the monitor."""
        self.name = name
        self.deployments = deployments
        self.word: dict[str, Any] = {}
        self.busy = ""
        self.rebuilding = False
        self.held_soak = False
        self.late = False
        self.unwritten = False
        self.once = False
        self.since_ns = 0
        self.serves_ns = 0
        self.unsaved_s = 0
        self.witness: tuple[bytes, int] = (b"", 0)
        self.soak_timer: Timer | None = None
        self.config_timer: Timer | None = None
        self.retry: Timer | None = None
        self._after: list[Callable[[], None]] = []

    @property
    def state(self) -> "AppState":
        """What is durable."""
        return self.deployments.state

    @property
    def running(self) -> "Deployment | None":
        """The deployment that runs, or shall."""
        return self.deployments.state.running

    @property
    def actuates(self) -> bool:
        """It moves something in the world: said so, or it has devices and nobody said otherwise."""
        said = self.word.get("actuates")
        return bool(self.word.get("devices")) if said is None else bool(said)

    def move(self, name: str, job: "Job", done: "Resume") -> None:
        """Run a job as the app's one move; `done` gets its value or its Refused. BUSY when there is one already."""
        if self.busy:
            job.close()
            done(Refused(reasons.BUSY, f"{self.busy} is under way"))
            return
        self.busy = name

        def ended(value: "Any") -> None:
            self.busy = ""
            after, self._after = self._after, []
            done(value)
            for told in after:
                told()

        run(job, ended)

    def after(self, told: "Callable[[], None]") -> None:
        """Once no move is under way (now, if none is)."""
        if self.busy:
            self._after.append(told)
        else:
            told()

    def after_this(self, resume: "Resume") -> None:
        """As a wait of a job: no move is under way."""
        self.after(lambda: resume(None))

    def saw(self, image: bytes, what: int) -> None:
        """The guard itself saw this image fail: 1 an exit by itself, 2 a missed heartbeat."""
        self.witness = (image, what)

    def seen_to_fail(self, image: bytes) -> bool:
        """Whether the guard saw that of this image since it was last started by a move."""
        return self.witness[0] == image and self.witness[1] != 0
