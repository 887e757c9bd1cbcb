# SPDX-License-Identifier: Apache-2.0
"""Warrants: signed words, presented at a door, judged by the verifier, spent once, carried out once.

Duty: the one road for signed words (PRESENT): sealed memfd -> verifier -> counter and id durable -> the act. It checks no signature itself.
Invariants: nothing is spent by a refusal; nothing is done before counter and id are durable; a command is carried out once, also when it comes again
by another road or after any death; *now* for an expiry is the largest of the clock, the build time and the newest signed time ever accepted; a
warrant to try an image is kept durably until it is used, once. Field case fc-flt-2; source: safety.md sections 1 and 6.
Light on purpose: the resident guard imports it.
"""

import fcntl
import os
import stat
import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD, TRIAL, WRITTEN
from edgeheal.core.version import BUILT_S
from edgeheal.guard import asks, doors
from edgeheal.guard.counters import UNKNOWN
from edgeheal.guard.steps import Refused, run
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.doors import Request
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

    Record = dict[str, Any]

# core.kinds.ActionCode as plain numbers (the guard loads no enum; a test compares)
(A_RESTART, A_ROLLBACK, A_PAUSE, A_RESUME, A_INSTALL, A_APPROVE, A_REJECT, A_MARK_GOOD, A_ALLOW, A_START, A_STOP, A_CONFIG, A_REBOOT, A_DROP,
 A_EVIDENCE, A_PROBE) = range(1, 17)  # fmt: skip
AGENTS = frozenset({A_APPROVE, A_REJECT, A_EVIDENCE, A_PROBE, A_CONFIG})  # the agent carries these out; the guard only says that they hold
MOST_BYTES = 73_728
F_GET_SEALS = 1034
SEALED = 0x0002 | 0x0004 | 0x0008  # shrink, grow, write
WARRANT_S = 7 * 86_400
DOORS = {doors.AGENT: "agent", doors.MEMBER: "person", doors.ROOT: "root"}


class Warrants:
    """Judges and carries out."""

    __slots__ = ("_parts",)

    def __init__(self, parts: "Parts") -> None:
        """Nothing is judged before it is presented."""
        self._parts = parts

    def present(self, request: "Request") -> None:
        """PRESENT: the answer is the verdict and, where it is OK, what became of the act (told as EV_DONE, too, to whoever follows)."""
        fd = request.take_fd()
        run(self._judge(fd, request), lambda said: self._answer(request, said))

    def _answer(self, request: "Request", said: "Any") -> None:
        if isinstance(said, Refused):
            request.answer(said.reason)
            return
        code, done = said
        counters = self._parts.ledger.counters
        b = int(counters.is_open(bytes(done["command_id"]))) if code == reasons.REPLAY else int(done["counter"])
        tell: Callable[[int], None] = lambda reason: request.answer(  # noqa: E731
            reason, app=done["app"], image=done["command_id"], a=int(done["action"]), b=b
        )
        if code == reasons.OK and done["kind"] == "command":
            self._parts.body.loop.later(lambda: self._carry(done, tell))
        else:
            tell(code)

    def _judge(self, fd: int, request: "Request") -> "Job":
        """(reason, verdict); Refused when it cannot even be read."""
        try:
            _check(fd)
            yield self._parts.until_proven
            done = yield asks.helper(self._parts.body, asks.VERIFIER, self._ask(request), fd=fd, duty="verify")
        finally:
            if fd >= 0:
                os.close(fd)
        if done["reason"] != reasons.OK:
            return int(done["reason"]), done
        if done["kind"] == "policy":
            return self._policy(done), done
        return self._command(done), done

    def _ask(self, request: "Request") -> "Record":
        device = self._parts.body.config.get("device") or {}
        if not self._parts.trust.newest:
            raise Refused(self._parts.trust.reason)
        return {
            "mode": "envelope", "trust": self._parts.trust.newest, "shared_keys": self._parts.trust.shared_keys, "tenant": str(device.get("tenant") or ""),
            "device": str(device.get("id") or ""), "door": DOORS[request.client.rank], "nonce": self._parts.ledger.box.nonce.to_bytes(8, "big"),
            "approvals": self._parts.body.config.get("approvals") or {},
        }  # fmt: skip

    def now_s(self) -> int:
        """Unix seconds that it is at least."""
        return max(int(time.time()), BUILT_S, self._parts.ledger.counters.signed_s)

    def _command(self, done: "Record") -> int:
        """What only the guard knows: expiry, counter, id. Then it is spent, and carried out."""
        counters, box_s = self._parts.ledger.counters, self._parts.ledger.box.now_s()
        app = self._parts.apps.get(done["app"]) if done["app"] else None
        if done["app"] and app is None:
            return reasons.NO_SUCH_APP
        now = self.now_s()
        key, command = bytes(done["by"]).hex(), bytes(done["command_id"])
        if counters.knows(command):
            return reasons.REPLAY
        if int(done["expires"]) < now:
            return reasons.EXPIRED
        reason = counters.judge(key, int(done["counter"]), command, fresh=bool(done["nonce"]))
        if reason != reasons.OK:
            return reason
        lasts = int(done["expires"]) - min(now, int(done["issued"]))
        reason = counters.spend(key, int(done["counter"]), command, issued_s=min(int(done["issued"]), now), lasts_s=lasts, box_s=box_s,
            act=(int(done["action"]), str(done["app"])),
        )  # fmt: skip
        if reason != reasons.OK:
            return reason
        self._parts.ledger.grave()
        self._parts.ledger.soon()
        args = done.get("args") or {}
        image = str(args.get("text") or "").encode()[:32] if int(done["action"]) in (A_APPROVE, A_REJECT) else bytes(done["id"])
        self._parts.ordered(int(done["action"]), done["app"], f"key {key}", image=image, until=int(args.get("seconds") or 0))
        return reasons.OK

    def _carry(self, done: "Record", tell: "Callable[[int], None]") -> None:
        """The act, once; `tell` gets what became of it, or 0 when that will be an event."""
        action, command = int(done["action"]), bytes(done["command_id"])
        app = self._parts.apps.get(done["app"]) if done["app"] else None

        def ended(said: "Any") -> None:
            reason = said.reason if isinstance(said, Refused) else said if isinstance(said, int) else 0
            if reason != WAITS:
                self.done(done["app"], action, command, reason)
            tell(max(reason, 0))

        if action in AGENTS:
            ended(reasons.OK)
        elif app is None:
            self._box(action, done, ended)
        elif action in (A_RESTART, A_START, A_STOP):
            self._runs(app, action, ended)
        elif action in (A_PAUSE, A_RESUME):
            ended(self.pause([app], int((done.get("args") or {}).get("seconds") or 0) if action == A_PAUSE else 0, k.BY_COMMAND))
        else:
            app.move(f"command {action}", self._act(app, action, bytes(done["id"]), command), ended)

    def resume(self) -> None:
        """At a start: ends that nobody has yet. Told before and not confirmed: it is among the kept events. Never told: now, as it ended, or *in
        doubt* where we died in between (the agent asks for the fact, nothing is repeated). A warrant that waits has not ended.
        """
        told = {event[f.COMMAND_ID] for _, event in self._parts.body.doors.kept if event[1] == f.EV_DONE}
        waits = {w[2] for app in self._parts.apps.values() for w in app.state.warrants}
        for command, (action, app, reason) in self._parts.ledger.counters.open_acts().items():
            if command not in told and (reason != UNKNOWN or command not in waits):
                self.done(app, action, command, reasons.IN_DOUBT if reason == UNKNOWN else reason)

    def done(self, app: str, action: int, command: bytes, reason: int) -> None:
        """Tell what became of a command: kept as an event first, then durable as ended, so that a death in between tells it neither twice nor never."""
        self._parts.body.doors.tell(f.pack_event(f.EV_DONE, code=reason, app=app, image=command, a=action))
        self._parts.ledger.counters.ended(command, reason)

    def _box(self, action: int, done: "Record", ended: "Any") -> None:
        """An act on the whole box."""
        if action in (A_PAUSE, A_RESUME):
            seconds = int((done.get("args") or {}).get("seconds") or 0) if action == A_PAUSE else 0
            ended(self.pause(list(self._parts.apps.values()), seconds, k.BY_COMMAND))
        elif action == A_REBOOT:
            run(self._parts.verbs.box.reboots.reboot(0, k.BY_COMMAND, confirmed=True), ended)
        else:
            ended(reasons.NO_SUCH_APP)

    def _runs(self, app: "AppKeep", action: int, ended: "Any") -> None:
        supervisor, keeper = self._parts.body.supervisor, self._parts.body.keeper
        if action == A_RESTART:
            supervisor.restart(app.name, k.BY_COMMAND, ended)
            return
        if action == A_STOP:
            supervisor.stop(app.name, k.BY_COMMAND, ended, lambda: keeper.want(app.name, False, k.BY_COMMAND))
            return
        reason = keeper.want(app.name, True, k.BY_COMMAND)
        if reason:
            ended(reason)
        else:
            supervisor.start(app.name, k.BY_COMMAND, ended)

    def pause(self, apps: "list[AppKeep]", seconds: int, by: int) -> int:
        """Pause (seconds > 0) or resume; the first reason that one could not be made durable, else 0."""
        until = self._parts.ledger.box.now_s() + seconds if seconds > 0 else 0
        worst = reasons.OK
        for app in apps:
            try:
                app.deployments.note(pause=(by, until))
            except Refused as refused:
                worst = worst or refused.reason
                continue
            if until:
                self._parts.body.loop.after(seconds + 1, lambda app=app: self._parts.body.supervisor.look(app.name))  # type: ignore[misc]
            else:
                self._parts.body.supervisor.look(app.name)
        self._parts.ledger.wake()
        return worst

    def _act(self, app: "AppKeep", action: int, image: bytes, command: bytes) -> "Job":
        """An act on an app's deployments."""
        moves = self._parts.moves
        image = image if any(image) else b""
        if action == A_ROLLBACK:
            one = app.state.deployments.get(image) if image else None
            if one is not None and one.state == WRITTEN:
                return (yield from moves.try_(app, image, k.BY_COMMAND))
            return (yield from moves.back(app, k.BY_COMMAND, target=image, person=True, root=True))
        if action == A_INSTALL:
            return (yield from self._install(app, image, command))
        if action == A_MARK_GOOD:
            return (yield from self._parts.trials.bless(app, image or app.state.run))
        if action == A_ALLOW:
            app.deployments.allow(image)
            return 0
        if action == A_DROP:
            yield from self._parts.sweep.drop(app, image)
            return 0
        raise Refused(reasons.UNKNOWN_VERB)

    def _install(self, app: "AppKeep", image: bytes, command: bytes) -> "Job":
        """Try it if it is here; else a warrant waits for its import."""
        if not image:
            raise Refused(reasons.MALFORMED)
        one = app.state.deployments.get(image)
        if one is not None and image == app.state.run and one.state in (TRIAL, GOOD):
            return 0
        if one is not None and one.state in (WRITTEN, GOOD):
            return (yield from self._parts.moves.try_(app, image, k.BY_COMMAND))
        self.grant(app, image, command)
        return WAITS

    # -- warrants that wait ---------------------------------------------------------------------------------------------------------

    def grant(self, app: "AppKeep", image: bytes, command: bytes) -> None:
        """One try of this image, within a week of box time; durable."""
        until = self._parts.ledger.box.now_s() + WARRANT_S
        kept = [w for w in app.state.warrants if w[0] != image and w[1] > self._parts.ledger.box.now_s()]
        gone = {w[2] for w in app.state.warrants} - {w[2] for w in kept[-3:]} - {b""}
        app.deployments.note(warrants=[*kept[-3:], (image, until, command)])
        for other in gone:
            self.done(app.name, A_INSTALL, other, reasons.EXPIRED)

    def holds(self, app: "AppKeep", image: bytes) -> bool:
        """Whether a warrant to try this image waits."""
        return any(w[0] == image and w[1] > self._parts.ledger.box.now_s() for w in app.state.warrants)

    def waiting(self) -> "list[tuple[AppKeep, bytes]]":
        """Images that somebody may import now."""
        return [(app, w[0]) for app in self._parts.apps.values() for w in app.state.warrants if self.holds(app, w[0])]

    def use(self, app: "AppKeep", image: bytes) -> bytes:
        """Use the warrant up, durably; the id of the command that it came with."""
        command = next((w[2] for w in app.state.warrants if w[0] == image), b"")
        app.deployments.note(warrants=[w for w in app.state.warrants if w[0] != image])
        return bytes(command)

    def try_waiting(self, app: "AppKeep", image: bytes) -> None:
        """An image that was waited for is here: the try that its warrant allows, once."""

        def job() -> "Job":
            command = self.use(app, image)
            try:
                reason = yield from self._parts.moves.try_(app, image, k.BY_COMMAND)
            except Refused as refused:
                reason = refused.reason
            if command:
                self.done(app.name, A_INSTALL, command, int(reason))

        app.after(lambda: app.move("try", job(), lambda _: None))

    def _policy(self, done: "Record") -> int:
        """A policy's image goals are warrants, one try per version; the rest of it is the agent's, within bounds that root's config states."""
        document = done["document"]
        epoch, number = (int(n) for n in document["version"])
        version = (epoch << 32) | number
        counters = self._parts.ledger.counters
        if version < counters.policy:
            return reasons.REPLAY
        if version == counters.policy:
            return reasons.OK
        if not counters.ratchet(policy=version):
            return reasons.UNWRITABLE
        for name, goal in (document.get("goals") or {}).items():
            app = self._parts.apps.get(str(name))
            if app is None or bytes(goal) == app.state.run or app.state.is_blocked(bytes(goal), b""):
                continue
            try:
                self.grant(app, bytes(goal), b"")
            except Refused as refused:
                return refused.reason
        return reasons.OK


WAITS = -1  # the act goes on when something comes: no word of its end yet


def _check(fd: int) -> None:
    """A memfd that nobody can change any more, of at most 72 KiB."""
    if fd < 0:
        raise Refused(reasons.MALFORMED, "no descriptor came along")
    said = os.fstat(fd)
    if not stat.S_ISREG(said.st_mode) or said.st_size > MOST_BYTES:
        raise Refused(reasons.TOO_LARGE if said.st_size > MOST_BYTES else reasons.MALFORMED)
    try:
        seals = fcntl.fcntl(fd, F_GET_SEALS)
    except OSError:
        raise Refused(reasons.MALFORMED, "not a sealed memfd") from None
    if seals & SEALED != SEALED:
        raise Refused(reasons.MALFORMED, "not a sealed memfd")
