# SPDX-License-Identifier: Apache-2.0
"""The face of the monitor, as the guard's body sees it: who may run, what was wanted, what an exit means.

Duty: name the questions that the supervisor asks of the keeper of images and state (`monitor.Monitor` answers them). Defaults say: nothing
exists. Invariants: every question is answered from memory at once, or through `then`, later, exactly once; none blocks the loop longer
than one write in place; wanted state is durable when `want` returns 0.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import deployment, kinds_light, reasons

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.launch import Launch
    from edgeheal.guard.runs import App


class Wanted:
    """What is wanted of an app, by whom (`By`) and until when (box seconds, 0 = for good); `pause_until` box seconds or 0."""

    __slots__ = ("by", "pause_until", "running", "until")

    def __init__(self, running: bool = True, by: int = kinds_light.BY_BOOT, until: int = 0, pause_until: int = 0) -> None:
        """Running, by the boot, for good, not paused: what an app is when nobody said otherwise."""
        self.running = running
        self.by = by
        self.until = until
        self.pause_until = pause_until


class Seen:
    """What the keeper knows of an app's running deployment, for rows and events."""

    __slots__ = ("config_differs", "held", "image", "state")

    def __init__(self, image: bytes = b"", state: int = deployment.EMPTY, *, config_differs: bool = False, held: bool = False) -> None:
        """`state` of core.deployment; `held`: nothing may run, a human was called."""
        self.image = image
        self.state = state
        self.config_differs = config_differs
        self.held = held


class Keeper:
    """What `runs.Supervisor` asks. `monitor.Monitor` is one; tests of the body have a small one of their own."""

    def begin(self, then: "Callable[[], None]") -> None:
        """Read the records; `then` when `apps` can be answered. Called once, before adoption."""
        then()

    def apps(self) -> "list[str]":
        """Names of the apps that exist here, in a fixed order."""
        return []

    def box_s(self) -> int:
        """Box time, now."""
        return 0

    def launch(self, app: str, by: int, then: "Callable[[Launch | int], None]") -> None:
        """Admission and budget of a start. `then` gets the Launch, or the reason (core.reasons) why not. The one road into running.

        `by` BY_BOOT and an adopted run ask too (to know limits and heartbeats of what runs): no budget is spent for BY_UNKNOWN.
        """
        then(reasons.NO_SUCH_IMAGE)

    def seen(self, app: str) -> Seen:
        """The running deployment as of now."""
        return Seen()

    def wanted(self, app: str) -> Wanted:
        """Wanted state and pause, as durable; an `until` that has passed is already dropped."""
        return Wanted()

    def want(self, app: str, running: bool, by: int, until: int = 0) -> int:
        """Make it durable; 0 or a reason."""
        return reasons.NO_SUCH_APP

    def before_stop(self, app: str, run: int, by: int, then: "Callable[[int], None]") -> None:
        """An app that moves things is about to be stopped: safe state, read back. `then(0)`: go on; a reason: the stop is refused."""
        then(0)

    def before_start(self, app: str, by: int, died: bool, then: "Callable[[int], None]") -> None:
        """About to start; `died`: after a death by itself (safe state comes first). `then(0)` or the reason why not."""
        then(0)

    def on_started(self, app: "App") -> None:
        """A run began (or was adopted: app.run.adopted)."""

    def on_ready(self, app: "App") -> None:
        """It said READY=1, or its start grace ended well."""

    def on_late(self, app: "App", late_ms: int, trigger: bool) -> None:
        """A heartbeat was missed, or the app gave itself up."""

    def on_back(self, app: "App") -> None:
        """The heartbeat is back."""

    def on_start_failed(self, app: "App", reason: int, errno: int) -> bool:
        """It could not be started, or was not ready in its time. True: the keeper goes on from here (a trial), nothing else restarts it."""
        return False

    def on_exit(self, app: "App", facts: "dict[str, Any]") -> "tuple[int, bool]":
        """A run ended. `facts`: run, image, code | None, signum | None, ordered, oom, lived_ms, by, late (bool), done (bool).

        Answers (X_* flags to add to the event, taken): taken means that the keeper goes on from here (trial failed, roll back) and
        calls `supervisor.start` itself; nothing else restarts the app. Whatever must be durable first is durable when it returns.
        """
        return 0, False

    def on_agent(self, there: bool) -> None:
        """The agent came or went: a soak's clock stands still without it."""

    def on_config(self, config: "dict[str, Any]") -> None:
        """A new guard config record is in force."""

    def on_still(self, gap_ms: int) -> None:
        """The guard's loop stood still."""

    def ending(self, then: "Callable[[], None]") -> None:
        """The guard was told to end: `then` once what must outlive it is kept."""
        then()

    def close(self) -> None:
        """The guard ends in order: write what waits."""
