# SPDX-License-Identifier: Apache-2.0
"""The long look: every byte of what is installed, once a week of box time and after a boot that followed an unclean end.

Duty: know when it is due, have the verifier read at idle priority, hand what it says to `moves.verified`. It reads nothing itself.
Invariants: one image at a time, and no move of the app waits for it; what could not be read is looked at again next time and never counts as rot;
an answer about an image that went meanwhile is dropped; when it was last done is durable. Source: formats.md 2.3 "Start check".
Light on purpose: the resident guard imports it.
"""

from edgeheal.core.deployment import BAD, EMPTY
from edgeheal.guard import asks
from edgeheal.guard.blocks import Blocks
from edgeheal.guard.steps import Refused, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.appkeep import AppKeep
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job

WEEK_S = 604_800
SIZE = 8_192
DEADLINE_S = 3_600
UNCLEAN = (0, 4)  # guard.boots: RUNNING (nobody ended it), UNREADABLE


class Recheck:
    """Record: {v, seq, boot (for which the end of the one before was answered), at {app: box seconds of its last whole look}}."""

    __slots__ = ("_blocks", "_parts", "_under_way", "_value")

    def __init__(self, parts: "Parts") -> None:
        """Nothing is read before the first `keep`."""
        self._parts = parts
        self._blocks = Blocks(f"{parts.body.layout.guard}/recheck", SIZE)
        self._value: dict[str, Any] | None = None
        self._under_way = False

    def keep(self) -> None:
        """Now and then: begin what is due."""
        if self._under_way or not self._parts.proven:
            return
        app = self._due()
        if app is not None:
            self._under_way = True
            run(self._look(app), lambda _: self._looked(app))

    def _due(self) -> "AppKeep | None":
        now, value = self._parts.ledger.box.now_s(), self._read()
        at = value["at"]
        if value["boot"] != self._parts.ledger.box.boot:
            value["boot"] = self._parts.ledger.box.boot
            if self._unclean():
                at.update(dict.fromkeys(self._parts.apps, now - WEEK_S))
            self._write()
        for name, app in self._parts.apps.items():
            if at.setdefault(name, now) > now:  # a record from another life of this box
                at[name] = now
            if now - at[name] >= WEEK_S and app.state.deployments and not app.rebuilding:
                return app
        return None

    def _unclean(self) -> bool:
        """Whether the boot before ended without anybody having ended it."""
        before = self._parts.boots.value.get("before") or {}
        return not before.get("first") and not before.get("order") and int(before.get("end") or 0) in UNCLEAN

    def _look(self, app: "AppKeep") -> "Job":
        for one in [d for d in app.state.deployments.values() if d.state not in (BAD, EMPTY)]:
            tree = self._parts.body.layout.tree(app.name, one.hex)
            request = {"mode": "full", "tree": tree, "id": one.id}
            try:
                done = yield asks.helper(self._parts.body, asks.VERIFIER, request, deadline_s=DEADLINE_S, duty="verify")
            except Refused:
                continue  # could not tell
            yield app.after_this
            try:
                self._parts.moves.verified(app, one.id, done)
            except Refused:
                continue  # it was told, or the image is not here any more

    def _looked(self, app: "AppKeep") -> None:
        self._under_way = False
        self._read()["at"][app.name] = self._parts.ledger.box.now_s()
        self._write()
        self.keep()

    def _read(self) -> "dict[str, Any]":
        if self._value is None:
            try:
                found = self._blocks.load() or {}
            except OSError:
                found = {}
            at = found.get("at")
            self._value = {"boot": bytes(found.get("boot") or b""), "at": dict(at) if isinstance(at, dict) else {}}
        return self._value

    def _write(self) -> None:
        try:
            self._blocks.store(dict(self._read()))
        except OSError:
            return  # done once more than needed, at worst
