# SPDX-License-Identifier: Apache-2.0
"""Frames of the guard as the engine's signals: bytes in, values out.

Duty: translate events and rows. Invariants: a frame of an unknown kind is nothing, not an error (an older agent meets a newer guard); text
from an app is masked and escaped before it is a signal; what the guard did not see stays None.
"""

from edgeheal.core import signal as s
from edgeheal.core.errors import WireError
from edgeheal.core.kinds import ActionCode
from edgeheal.core.mask import Masker, escaped
from edgeheal.wire import guard_frames as f
from edgeheal.wire.guard_event import Event

__all__ = ["Event", "Words"]

_SAID = {f.SAID_STATUS: "STATUS", f.SAID_RELOADING: "RELOADING", f.SAID_STOPPING: "STOPPING", f.SAID_BUSY: "BUSY", f.SAID_EXTEND: "EXTEND"}
_TEXT_MOST = 96


class Words:
    """Translates; `masker` knows the device's secrets."""

    def __init__(self, masker: Masker | None = None) -> None:
        """Without one, secrets are masked by shape alone."""
        self._masker = masker or Masker()

    def event(self, e: Event) -> s.Signal | None:
        """The signal of an event; None for those that are notes (budgets, progress) or unknown."""
        differs = bool(e.c & f.F_CONFIG_DIFFERS)
        match e.kind:
            case f.EV_STARTED:
                return s.AppStarted(e.app, e.run, e.pid, e.a, _hex(e.image), e.code, differs)
            case f.EV_READY:
                return s.AppReady(e.app, e.run)
            case f.EV_EXITED:
                return _exited(e)
            case f.EV_START_FAILED:
                return s.StartFailed(e.app, e.code, e.a)
            case f.EV_LATE:
                return s.HeartbeatMissed(e.app, e.run, e.a, bool(e.code))
            case f.EV_BACK:
                return s.HeartbeatBack(e.app, e.run)
            case f.EV_SAID:
                return s.AppSaid(e.app, e.run, _SAID.get(e.code, str(e.code)), e.a, self._masker.fit(e.say, _TEXT_MOST))
            case f.EV_TRIAL:
                return s.TrialEnded(e.app, _hex(e.image), bool(e.code), escaped(e.say, 64), e.a)
            case f.EV_ORDERED:
                arg = escaped(e.image.rstrip(b"\0"), 32) if e.code in (ActionCode.APPROVE, ActionCode.REJECT) else _hex(e.image)
                return s.Ordered(action=_action(e.code), app=e.app, arg=arg, by=escaped(e.say, 48), until_s=e.a)
            case f.EV_PORT:
                command, _, user = escaped(e.say, _TEXT_MOST).rpartition(" (")
                return s.PortHeld(e.app, e.a, e.b, self._masker.masked(command), user.rstrip(")"))
            case f.EV_UNKILLABLE:
                return s.AppStuck(e.app, e.run, e.a, escaped(e.say, 64))
            case f.EV_STILL:
                return s.StoodStill(gap_ms=e.a)
            case f.EV_FOREIGN:
                command, _, user = self._masker.masked(escaped(e.say, _TEXT_MOST)).rpartition(" (")
                return s.ForeignStart(e.app, e.run, f"{command}[{e.a}] {user.rstrip(')')}"[:60])
            case _:
                return _about_guard(e)

    def guard(self, what: str, *, ok: bool, value: float = 0.0) -> s.SelfSaid:
        """A word of ours about the guard."""
        return s.SelfSaid(part="guard", what=what, ok=ok, value=value)

    def images(self, app: str, rows: tuple[tuple[str, str, int, int, bool, int], ...]) -> s.DeploymentsAre:
        """An app's images as of now."""
        return s.DeploymentsAre(app, rows)

    def app_row(self, frame: bytes) -> s.AppSeen:
        """A row of STATUS."""
        if len(frame) != f.APP_ROW.size:
            raise WireError(f"a row of {len(frame)} bytes", place="guard")
        row = f.APP_ROW.unpack(frame)
        _, _, _, _, app, image, run, pid, started, pause, _, phase, wanted, by, state, flags, _ = row
        return s.AppSeen(
            app=f.text(app), run=run, phase=phase, pid=pid, started_ns=started, wanted=bool(wanted), wanted_by=by, pause_until_s=pause, image=_hex(image),
            image_state=state, config_differs=bool(flags & f.F_CONFIG_DIFFERS), held=bool(flags & f.F_HELD),
        )  # fmt: skip

    def image_row(self, frame: bytes) -> tuple[str, tuple[str, str, int, int, bool, int]]:
        """(app, a row of `DeploymentsAre`)."""
        if len(frame) != f.IMAGE_ROW.size:
            raise WireError(f"a row of {len(frame)} bytes", place="guard")
        _, _, _, _, app, image, version, state, reason, _, flags, soak, _, _, _ = f.IMAGE_ROW.unpack(frame)
        return f.text(app), (image.hex(), escaped(version.rstrip(b"\0"), 64), state, reason, bool(flags & f.I_RUNNING), soak)


def _hex(image: bytes) -> str:
    return image.hex() if image.strip(b"\0") else ""


def _action(code: int) -> int:
    return ActionCode(code) if code in ActionCode.__members__.values() else code


def _exited(e: Event) -> s.AppExited:
    code = e.a if e.code & f.X_CODE else None
    signum = e.a if e.code & f.X_SIGNAL else None
    return s.AppExited(
        app=e.app, run=e.run, code=code, signum=signum, oom=bool(e.code & f.X_OOM), ordered=bool(e.code & f.X_ORDERED), done=bool(e.code & f.X_DONE),
        lived_ms=e.b, in_trial=bool(e.code & f.X_TRIAL), by=e.c, config_differs=bool(e.code & f.X_CONFIG_DIFFERS),
    )  # fmt: skip


def _about_guard(e: Event) -> s.Signal | None:
    """What the guard says of itself and its records."""
    text = escaped(e.say, _TEXT_MOST) or e.app
    match e.kind:
        case f.EV_FIRED:
            return s.SelfSaid("guard", "standing_order", ok=True, value=float(e.a), text=e.app)
        case f.EV_LEFTOVER:
            return s.SelfSaid("guard", "leftovers", value=float(e.a), text=e.app)
        case f.EV_DAMAGED:
            return s.SelfSaid("guard", "damaged", value=float(e.code), text=text)
        case f.EV_HOOK:
            return s.SelfSaid("guard", "hook", ok=e.code == 1, value=float(e.a), text=text)
        case f.EV_CONFIG:
            return s.SelfSaid("guard", "app_config", ok=True, value=float(e.a), text=e.app)
        case _:
            return None
