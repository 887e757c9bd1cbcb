# SPDX-License-Identifier: Apache-2.0
"""Admission: the one road into running. Signature, revocation, blocks, floor, class - judged by the verifier against the newest trust - and the files.

Duty: keep verdicts in memory under what they depend on, have them computed again when that changes, check an installed tree's rows before the first
start after a boot, a switch or a fault of the disk, and give out launch records. It judges nothing itself.
Invariants: no launch leaves here without a verdict under the present key; a restart of what just ran costs no helper; "could not read" is never
"differs": it is tried again; a verdict is never written to disk.
Light on purpose: the resident guard imports it.
"""

import binascii
import os

from edgeheal.core import reasons
from edgeheal.guard import asks
from edgeheal.guard.steps import Refused
from edgeheal.image.records import RecordError, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.appstate import AppState, Deployment
    from edgeheal.guard.body import Body
    from edgeheal.guard.steps import Job, Wait
    from edgeheal.guard.trustkeep import TrustKeep

    Record = dict[str, Any]
    Key = tuple[object, ...]

LAUNCH_MOST = 65_536


class Verdict:
    """What the verifier said of one image: `reason` (0: admitted), its launch `record`, `kept` (revoked, may run on), floor after a mark."""

    __slots__ = ("kept", "key", "mark_floor", "raw", "reason", "record", "rows")

    def __init__(self, key: "Key", reason: int, raw: bytes, mark_floor: "tuple[int, int]", *, kept: bool) -> None:
        """`raw` is the launch record's bytes; `rows`: its files passed the start check in this boot, since the last switch to it."""
        self.key = key
        self.reason = reason
        self.raw = raw
        self.record = Admission.record(raw, binascii.crc32(raw)) or {}
        self.mark_floor = mark_floor
        self.kept = kept
        self.rows = False

    def fill(self, one: "Deployment") -> None:
        """What the image says of itself goes into the deployment."""
        one.version = str(self.record["version"])[:64]
        one.digest = bytes(self.record["digest"])
        one.security = int(self.record["security"])
        one.schema = int(self.record["schema"])
        one.launch = binascii.crc32(self.raw)


class Admission:
    """Verdicts by image id."""

    __slots__ = ("_body", "_ready", "_trust", "_verdicts")

    def __init__(self, body: "Body", trust: "TrustKeep", ready: "Wait") -> None:
        """`trust` says which is the newest, once `ready` (a wait) is over."""
        self._ready = ready
        self._body = body
        self._trust = trust
        self._verdicts: dict[bytes, Verdict] = {}

    def classes(self) -> "list[str]":
        """The classes of this device."""
        return [str(c) for c in (self._body.config.get("device") or {}).get("classes") or []]

    def interpreters(self) -> "list[str]":
        """Programs of the host that an image may start."""
        return [str(p) for p in self._body.config.get("interpreters") or []]

    def key(self, state: "AppState", one: "Deployment") -> "Key":
        """What a verdict depends on."""
        blocked = state.is_blocked(one.id, one.digest)
        return (self._body.boot, one.id, one.trust, self._trust.n, state.floor, blocked, tuple(self.classes()), tuple(self.interpreters()))

    def verdict(self, state: "AppState", one: "Deployment") -> "Verdict | None":
        """The verdict under the present key, or None: it must be proven first."""
        held = self._verdicts.get(one.id)
        return held if held is not None and held.key == self.key(state, one) else None

    def forget(self, image: bytes) -> None:
        """It left, or its files may have changed: prove it again before it runs."""
        self._verdicts.pop(image, None)

    def doubt_rows(self, image: bytes) -> None:
        """Its files are to be looked at again before its next start."""
        if image in self._verdicts:
            self._verdicts[image].rows = False

    def forget_all(self) -> None:
        """Trust changed."""
        self._verdicts.clear()

    def prove(self, state: "AppState", one: "Deployment", *, rows: bool = True) -> "Job":
        """The verdict, computed if it must be; with `rows` the files are checked too. Refused with the reason when it may not run.

        Refused ROT when the files differ, UNREADABLE when they could not be read (try again).
        """
        verdict = self.verdict(state, one)
        if verdict is None:
            verdict = yield from self._ask(state, one)
        if verdict.reason != reasons.OK and not verdict.kept:
            raise Refused(verdict.reason)
        if rows and not verdict.rows:
            request = {"mode": "quick", "tree": self._body.layout.tree(state.app, one.hex), "id": one.id}
            done = yield asks.helper(self._body, asks.VERIFIER, request, deadline_s=120, duty="verify")
            if done["reason"] != reasons.OK:
                raise Refused(int(done["reason"]), str(done.get("differs") or ""))
            verdict.rows = True
        return verdict

    def _ask(self, state: "AppState", one: "Deployment") -> "Job":
        yield self._ready
        if not self._trust.newest:
            raise Refused(self._trust.reason, "the device's trust cannot be read")
        under = self._trust.envelope(one.trust) if one.trust else b""
        if one.trust and not under:
            raise Refused(reasons.TRUST_CHAIN, f"trust version {one.trust} that admitted it is gone")
        return (yield from self.judge(state, one, self._body.layout.tree(state.app, one.hex), under))

    def judge(self, state: "AppState", one: "Deployment", folder: str, under: bytes) -> "Job":
        """Have the manifest in `folder` judged; kept when it is the deployment's own tree. `under`: the trust that admitted it, b"" when new."""
        key = self.key(state, one)
        fd = os.open(f"{folder}/manifest", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        request = {
            "mode": "manifest", "trust": self._trust.newest, "trust_k": under, "app": state.app, "id": one.id, "device": self.classes(),
            "floor": list(state.floor), "blocked": [k for k, _ in state.blocked], "interpreters": self.interpreters(), "keep": True,
            "shared_keys": self._trust.shared_keys,
        }  # fmt: skip
        try:
            wait = asks.helper(self._body, asks.VERIFIER, request, fd=fd, duty="verify")
            done = yield asks.closing(wait, fd)
        except Refused as refused:
            if refused.reason in (reasons.BAD_MANIFEST, reasons.BAD_OBJECT):
                raise Refused(reasons.ROT, refused.message) from None
            raise
        floor = done.get("mark_floor") or state.floor
        verdict = Verdict(key, int(done["reason"]), bytes(done.get("launch") or b""), (int(floor[0]), int(floor[1])), kept=bool(done.get("kept")))
        if verdict.reason == reasons.OK and not verdict.record:
            raise Refused(reasons.INTERNAL, "the verifier gave no launch record")
        if under:
            self._verdicts[one.id] = verdict
        return verdict

    def seen_at_boot(self, state: "AppState", one: "Deployment", said: "Record", rows: int) -> None:
        """What the boot child said of a deployment. Only a whole *yes* is kept; anything else is asked again, with its reason, when it shall run."""
        if one.trust and said["reason"] == reasons.OK:
            floor = said["mark_floor"]
            verdict = Verdict(self.key(state, one), reasons.OK, bytes(said["launch"]), (int(floor[0]), int(floor[1])), kept=False)
            if verdict.record:
                verdict.rows = rows == reasons.OK
                self._verdicts[one.id] = verdict

    def settle(self, state: "AppState", one: "Deployment", verdict: Verdict) -> None:
        """A newcomer was written: its verdict stands under the trust that admitted it."""
        verdict.key = self.key(state, one)
        self._verdicts[one.id] = verdict

    @staticmethod
    def record(raw: bytes, crc: int) -> "Record | None":
        """A launch record out of its bytes; None when they are not what `crc` says."""
        if not raw or binascii.crc32(raw) != crc:
            return None
        try:
            value = unpack(raw)
        except RecordError:
            return None
        return value if isinstance(value, dict) and value.get("v") == 1 else None
