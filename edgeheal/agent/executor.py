# SPDX-License-Identifier: Apache-2.0
"""Carries effects out: acts through the guard or an adapter, grave ones behind a durable intent.

Duty: turn each `Act` into one question to whoever can do it, and its answer into one `ActEnded`.
Invariants: a grave act without a durable intent is not begun (UNWRITABLE) - except that a rollback is never worth less than a
journal line: with an unwritable journal the guard's own durable budget stands in; a restart names the run that was judged, so that what was
heard late never ends a newer one; each act gets exactly one `ActEnded`;
an act that the guard never answered because it died is *in doubt*, and the fact is asked for when it is back.
"""

from collections.abc import Callable
from typing import Protocol

from edgeheal.core import reasons
from edgeheal.core.effect import Act, Verb
from edgeheal.core.now import Now
from edgeheal.core.signal import ActEnded, Signal
from edgeheal.journal.records import Intent, LightAct, Outcome, When
from edgeheal.ports import JournalFiles
from edgeheal.wire import guard_frames as frames

Answered = Callable[[int, bytes, int, int], None]  # reason, image, a, b


class Guard(Protocol):
    """What the executor needs of the guard's client."""

    def request(self, verb: int, then: Answered, *, app: str = "", image: bytes = b"", a: int = 0, b: int = 0) -> bool:
        """Ask; `then(reason, image, a, b)` later. False: nobody is there."""

    def refresh(self) -> bool:
        """Ask for the present of all apps."""


_GUARD_VERB = {
    Verb.START: frames.START,
    Verb.STOP: frames.STOP,
    Verb.RESTART: frames.RESTART,
    Verb.RELOAD: frames.RELOAD,
    Verb.CLEAN_RESTART: frames.CLEAN_RESTART,
    Verb.RESTORE_CONFIG: frames.RESTORE_CONFIG,
    Verb.ROLLBACK: frames.SWITCH,
    Verb.GIVE_UP_TRIAL: frames.GIVE_UP,
    Verb.REBOOT: frames.REBOOT,
}
_HOOK_POINT = {Verb.OS_ROLLBACK: "os-rollback", Verb.SAFE_MODE: "safe-mode"}


class Executor:
    """See the module."""

    def __init__(
        self,
        guard: Guard,
        journal: JournalFiles,
        now: Callable[[], Now],
        hear: Callable[[Signal], None],
        local: dict[Verb, Callable[[Act], None]],
        run_of: Callable[[str], int] = lambda _: 0,
    ) -> None:
        """`local` carries out what needs no guard (PROBE, FOLLOW): done when it returns. `run_of`: the run of an app that was judged (0: any)."""
        self._guard = guard
        self._journal = journal
        self._now = now
        self._hear = hear
        self._local = local
        self._run_of = run_of
        self._open: dict[int, tuple[Act, int]] = {}

    def act(self, act: Act) -> None:
        """Begin one act."""
        now = self._now()
        if act.verb in self._local:
            self._local[act.verb](act)
            self._hear(ActEnded(act.number, ok=True))
            return
        if act.verb is Verb.LOOK:
            asked = self._guard.refresh()
            self._hear(ActEnded(act.number, ok=asked, reason=0 if asked else reasons.NOT_RUNNING))
            return
        if act.grave:
            self._journal.keep(Intent(When.of(now), act.number, int(act.verb), act.app, act.target, act.incident), durable=True)
        self._open[act.number] = (act, now.mono_ns)
        asked = self._ask(act)
        if not act.grave:
            self._journal.keep(LightAct(When.of(now), act.number, int(act.verb), act.app, act.target, act.incident))
        if not asked:
            self._ended(act.number, reasons.NOT_RUNNING)

    def _ask(self, act: Act) -> bool:
        def then(reason: int, _image: bytes, _a: int, _b: int) -> None:
            self._ended(act.number, reason)

        if act.verb is Verb.HOOK or act.verb in _HOOK_POINT:
            point, _, target = (act.target if act.verb is Verb.HOOK else _HOOK_POINT[act.verb]).partition(":")
            return self._guard.request(frames.HOOK, then, app=point, a=int(target) if target.isdigit() else 0)
        if act.verb is Verb.HOLD_SOAK:
            return self._guard.request(frames.HOLD_SOAK, then, app=act.app, a=0 if act.target == "off" else 1)
        image = bytes.fromhex(act.target) if act.verb in (Verb.ROLLBACK, Verb.GIVE_UP_TRIAL) and act.target else b""
        run = self._run_of(act.app) if act.verb in (Verb.START, Verb.RESTART, Verb.CLEAN_RESTART) else 0
        return self._guard.request(_GUARD_VERB[act.verb], then, app=act.app, image=image, a=run)

    def _ended(self, number: int, reason: int) -> None:
        begun = self._open.pop(number, None)
        if begun is None:
            return
        _, began_ns = begun
        now = self._now()
        took_ms = (now.mono_ns - began_ns) // 1_000_000
        self._journal.keep(Outcome(When.of(now), number, reason == reasons.OK, reason, took_ms))
        self._hear(ActEnded(number, ok=reason == reasons.OK, reason=reason, took_ms=took_ms))

    def guard_lost(self) -> None:
        """The guard went away: what it had not answered is in doubt."""
        for number, (act, began_ns) in list(self._open.items()):
            del self._open[number]
            now = self._now()
            took_ms = (now.mono_ns - began_ns) // 1_000_000
            if act.grave:
                self._journal.keep(Outcome(When.of(now), number, ok=False, reason=reasons.IN_DOUBT, took_ms=took_ms, doubt=True))
            self._hear(ActEnded(number, ok=False, reason=reasons.IN_DOUBT, took_ms=took_ms, doubt=True))
