# SPDX-License-Identifier: Apache-2.0
"""The guard's trust: the chain of trust envelopes that it holds, judged by the verifier, and the ratchet above it.

Duty: read the chain (version 1 comes read-only with the device, the others lie in the guard's folder), have it proven, keep new versions.
It judges no signature itself.
Invariants: a chain shorter than the highest version ever seen is *damage*, not a fresh device: nothing new is admitted, what runs goes on;
a new version is durable before it is in force; nothing is ever removed from the chain. Source: safety.md section 2, formats.md 2.2.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.core import reasons
from edgeheal.guard import asks
from edgeheal.guard.blocks import sync_folder
from edgeheal.guard.steps import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.body import Body
    from edgeheal.guard.counters import Counters
    from edgeheal.guard.steps import Job

MOST_ENVELOPE = 24_576
MOST_CHAIN = 262_144


class TrustKeep:
    """`newest` is the newest proven envelope (b"": none), `n` its version, `reason` why there is none or it may not be used."""

    __slots__ = ("_body", "_counters", "envelopes", "n", "newest", "reason")

    def __init__(self, body: "Body", counters: "Counters") -> None:
        """Nothing is proven before `prove`."""
        self._body = body
        self._counters = counters
        self.envelopes: dict[int, bytes] = {}
        self.newest = b""
        self.n = 0
        self.reason = reasons.TRUST_CHAIN

    def envelope(self, k: int) -> bytes:
        """Trust version k as held, or b""."""
        return self.envelopes.get(k, b"")

    @property
    def shared_keys(self) -> bool:
        """The device's config lets one key stand in two roles."""
        return bool(self._body.config.get("shared_keys"))

    def read(self) -> bytes:
        """The whole chain as it lies on disk, oldest first."""
        chain = b""
        versions: dict[int, str] = {}
        for folder in (self._body.layout.vendor_trust, self._body.layout.trust):
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            for name in names:
                stem = name.partition(".")[0]
                if stem.isdecimal() and len(stem) <= 9:
                    versions.setdefault(int(stem), f"{folder}/{name}")
        for k in sorted(versions):
            try:
                with open(versions[k], "rb") as file:
                    raw = file.read(MOST_ENVELOPE + 1)
            except OSError:
                break
            if len(raw) > MOST_ENVELOPE or len(chain) + len(raw) > MOST_CHAIN:
                break
            chain += raw
        return chain

    def prove(self) -> "Job":
        """Have the chain on disk proven; the job's value is the reason (0: `newest` may be used)."""
        chain = self.read()
        self.reason = reasons.TRUST_CHAIN
        if chain:
            try:
                done = yield from self._ask(chain, b"")
            except Refused as refused:
                self.reason = refused.reason
                return self.reason
            self._take(done, chain)
            self.reason = reasons.OK
            self._counters.ratchet(trust=self.n)
        return self.reason

    def extend(self, chain: bytes) -> "Job":
        """New versions out of a file or a bundle: proven against what is held, made durable, in force. Value: the newest n."""
        if not self.newest:
            raise Refused(self.reason, "the trust that came with this device cannot be read")
        done = yield from self._ask(chain, self.newest)
        links = [(int(n), int(at), int(length)) for n, at, length in done["links"]]
        os.makedirs(self._body.layout.trust, mode=0o700, exist_ok=True)
        for n, at, length in links:
            if n > self.n:
                self._keep(n, chain[at : at + length])
        self._take(done, chain)
        if not self._counters.ratchet(trust=self.n):
            raise Refused(reasons.UNWRITABLE, "the new trust is in force, its ratchet could not be written")
        return self.n

    def request(self, held: bytes = b"") -> "dict[str, Any]":
        """What the verifier needs to judge a chain: as mode trust."""
        return {"trust": held, "highest": self._counters.trust, "shared_keys": self.shared_keys, "most": MOST_CHAIN}

    def take(self, done: "dict[str, Any]", chain: bytes) -> None:
        """The chain on disk was proven by somebody else's child (the boot child)."""
        self._take(done, chain)
        self.reason = reasons.OK
        self._counters.ratchet(trust=self.n)

    def _ask(self, chain: bytes, held: bytes) -> "Job":
        request = {"mode": "trust", **self.request(held)}
        fd = asks.memory(chain)
        try:
            wait = asks.helper(self._body, asks.VERIFIER, request, fd=fd, duty="verify")
            done = yield wait
        finally:
            os.close(fd)
        return done

    def _take(self, done: "dict[str, Any]", chain: bytes) -> None:
        for n, at, length in done["links"]:
            self.envelopes[int(n)] = chain[at : at + length]
        self.n, self.newest = int(done["n"]), bytes(done["newest"])
        self.envelopes[self.n] = self.newest

    def _keep(self, n: int, raw: bytes) -> None:
        """One version, whole or not at all."""
        folder = self._body.layout.trust
        path = f"{folder}/{n:05d}.eht"
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, raw)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(f"{path}.new", path)
        sync_folder(folder)
