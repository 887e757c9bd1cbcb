# SPDX-License-Identifier: Apache-2.0
"""The monitor's doorkeeper: rows of images, and the way to the handlers that are loaded when a verb first needs them.

Duty: answer IMAGES (the agent asks it at each connect); hand every other verb of the monitor to `verbs`. It changes nothing.
Light on purpose: the resident guard imports it.
"""

from edgeheal.core import reasons
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.appstate import Deployment
    from edgeheal.guard.doors import Request
    from edgeheal.guard.parts import Parts

VERBS = (
    f.SWITCH, f.TRY, f.GIVE_UP, f.MARK_GOOD, f.MARK_FAILED, f.ALLOW, f.DROP, f.RESTORE_CONFIG, f.SET_CONFIG, f.SET_SECRET, f.PAUSE, f.RESUME, f.IMPORT,
    f.PRESENT, f.HOLD_SOAK, f.VERIFY, f.TRUST, f.APPROVE, f.REJECT, f.HOOK, f.REBOOT, f.CHECKS, f.CHALLENGE, f.BUDGETS, f.OVERRIDE,
)  # fmt: skip


class Looking:
    """Answers, or hands on."""

    __slots__ = ("_parts",)

    def __init__(self, parts: "Parts") -> None:
        """`register` puts it in the doors' table."""
        self._parts = parts

    def register(self) -> None:
        """Each verb of the monitor."""
        self._parts.body.doors.verb(f.IMAGES, self._images)
        for verb in VERBS:
            self._parts.body.doors.verb(verb, self._hand_on)

    def _hand_on(self, request: "Request") -> "int | None":
        return self._parts.verbs.handle(request)

    def _images(self, request: "Request") -> int:
        """Rows of the app's deployments (of all apps without a name), newest mark first."""
        apps = [self._parts.apps[request.app]] if request.app in self._parts.apps else list(self._parts.apps.values()) if not request.app else []
        if request.app and not apps:
            return reasons.NO_SUCH_APP
        for app in apps:
            self._parts.trials.serve(app)
            anchor = app.state.anchor()
            for one in sorted(app.state.deployments.values(), key=lambda d: -d.marked):
                flags = f.I_RUNNING * (one.id == app.state.run) | f.I_PREVIOUS * (one.id == app.state.before)
                flags |= f.I_ANCHOR * (anchor is not None and anchor.id == one.id) | f.I_BLOCKED * app.state.is_blocked(one.id, one.digest)
                flags |= f.I_CARRIES * (one.id == app.state.run and self._carries(app, one))
                left = self._parts.trials.left_s(app, one)
                request.row(f.IMAGE_ROW.pack(
                    f.VERSION, f.ROW_IMAGE, 0, request.number, app.name.encode(), one.id, one.version.encode()[:64], one.state, one.reason, one.was,
                    flags, left, one.served, one.security, one.schema,
                ))  # fmt: skip
        return reasons.OK

    def _carries(self, app: "AppKeep", one: "Deployment") -> bool:
        """Whether what runs may carry its data home when it is left, as far as is known without asking a child."""
        verdict = self._parts.admission.verdict(app.state, one)
        return verdict is not None and bool((verdict.record.get("data") or {}).get("back"))
