# SPDX-License-Identifier: Apache-2.0
"""Hostile signed words: every way in which a command can be wrong, made from real keys, one after the other.

Duty: make them. Who sends them, and what may not have happened, is the business of bench and tests. Invariant: one seed, one order.
"""

import os
import random
import time
from dataclasses import replace
from typing import NamedTuple

from edgeheal.core.kinds import ActionCode
from edgeheal.trust import envelope, sign
from edgeheal.wire import commands
from edgeheal.wire.commands import Command

LONG = 1 << 20
PLAIN = (ActionCode.RESTART, ActionCode.STOP, ActionCode.PAUSE, ActionCode.REJECT)
GRAVE = (ActionCode.ROLLBACK, ActionCode.REBOOT, ActionCode.ALLOW, ActionCode.DROP)


class Word(NamedTuple):
    """`kind` is how it is wrong ("valid": it is not), `command` what it says where that can still be read (else None)."""

    kind: str
    data: bytes
    command: Command | None


class Author:
    """Makes words for one device and app. `keys` by role: operator, technician, release, and stranger, whom nobody trusts."""

    def __init__(self, keys: dict[str, sign.SigningKey], *, tenant: str, device: str, app: str, seed: int = 1) -> None:
        """Counters begin at the clock, as `fleet command` has them."""
        self._keys = keys
        self._tenant, self._device, self._app = tenant, device, app
        self._rng = random.Random(seed)  # noqa: S311  no secret: an order that can be repeated
        self._counter = int(time.time())
        self._spent: list[Word] = []
        self._kinds = (
            self._forged, self._wrong_role, self._wrong_device, self._wrong_tenant, self._expired, self._old_counter, self._wrong_nonce, self._no_nonce, self._wrong_type,
            self._flipped, self._cut, self._noise, self._empty, self._unsigned, self._unknown_action, self._borrowed_signature, self._lengthened, self._long, self._replayed,
        )  # fmt: skip

    def hostile(self, n: int) -> Word:
        """The n-th wrong word: kinds take turns, the longest ones seldom."""
        kind = self._kinds[n % len(self._kinds)]
        if kind == self._long and n % 190 >= len(self._kinds):
            kind = self._noise
        return kind()

    def valid(self, action: ActionCode, *, role: str = "operator", seconds: int = 0) -> Word:
        """A command that must be carried out."""
        self._counter += 1
        word = self._signed("valid", self._command(action, role, seconds=seconds, counter=self._counter), role)
        self._spent.append(word)
        return word

    def _command(self, action: ActionCode, role: str, *, seconds: int = 0, counter: int = 0) -> Command:
        now = int(time.time())
        return Command(
            command_id=os.urandom(16), tenant=self._tenant, device=self._device, action=action, issued=now, expires=now + 600, by=self._keys[role].public[:8],
            counter=counter or self._counter + 1_000_000, app=self._app, seconds=seconds,
        )  # fmt: skip

    def _signed(self, kind: str, command: Command, *roles: str, type_: str = envelope.COMMAND) -> Word:
        sealed = envelope.Envelope(type_, commands.encode_body(command))
        for role in roles:
            sealed = self._keys[role].sign(sealed)
        return Word(kind, envelope.encode(sealed), command)

    def _any(self, role: str = "operator") -> Command:
        action = self._rng.choice(PLAIN)
        return self._command(action, role, seconds=3_600 if action is ActionCode.PAUSE else 0)

    # -- one way each

    def _forged(self) -> Word:
        """A key that nobody trusts, under its own name or an operator's."""
        command = self._any("stranger")
        if self._rng.random() < 0.5:
            command = replace(command, by=self._keys["operator"].public[:8])
        return self._signed("forged", command, "stranger")

    def _wrong_role(self) -> Word:
        """A key that is trusted for something else."""
        if self._rng.random() < 0.5:
            return self._signed("wrong role", self._any("release"), "release")
        return self._signed("wrong role", self._command(self._rng.choice((ActionCode.APPROVE, ActionCode.CONFIG)), "technician"), "technician")

    def _wrong_device(self) -> Word:
        """For a neighbour."""
        return self._signed("wrong device", replace(self._any(), device=f"{self._device}-2"), "operator")

    def _wrong_tenant(self) -> Word:
        """For another fleet."""
        return self._signed("wrong tenant", replace(self._any(), tenant=f"{self._tenant}x"), "operator")

    def _expired(self) -> Word:
        """Too late."""
        now = int(time.time())
        return self._signed("expired", replace(self._any(), issued=now - 7_200, expires=now - 3_600), "operator")

    def _old_counter(self) -> Word:
        """A counter that was spent, under a new id."""
        return self._signed("old counter", replace(self._any(), counter=self._rng.randrange(1, self._counter)), "operator")

    def _wrong_nonce(self) -> Word:
        """A grave one for another boot."""
        return self._signed("wrong nonce", replace(self._command(self._rng.choice(GRAVE), "operator"), nonce=os.urandom(8)), "operator")

    def _no_nonce(self) -> Word:
        """A grave one for any boot."""
        return self._signed("no nonce", self._command(self._rng.choice(GRAVE), "operator"), "operator")

    def _wrong_type(self) -> Word:
        """A command's body, signed as something else."""
        return self._signed("wrong type", self._any(), "operator", type_=self._rng.choice((envelope.MANIFEST, envelope.TRUST)))

    def _unsigned(self) -> Word:
        """Nobody's."""
        return self._signed("unsigned", self._any())

    def _broken(self, kind: str, data: bytes) -> Word:
        return Word(kind, data, None)

    def _flipped(self) -> Word:
        """One bit of a right one is wrong."""
        data = bytearray(self._signed("", self._any(), "operator").data)
        at = self._rng.randrange(len(data) * 8)
        data[at // 8] ^= 1 << at % 8
        return self._broken("flipped", bytes(data))

    def _cut(self) -> Word:
        """Its end is missing."""
        data = self._signed("", self._any(), "operator").data
        return self._broken("cut", data[: self._rng.randrange(1, len(data))])

    def _lengthened(self) -> Word:
        """Something follows."""
        return self._broken("lengthened", self._signed("", self._any(), "operator").data + self._rng.randbytes(self._rng.randrange(1, 64)))

    def _noise(self) -> Word:
        """No document at all."""
        return self._broken("noise", self._rng.randbytes(self._rng.randrange(1, 2_000)))

    def _empty(self) -> Word:
        """A document of nothing."""
        return self._broken("empty", self._rng.choice((b"\x00", b"\x90", b"\x80", b"\xc0", b"{}", b"\xdd\xff\xff\xff\xff", b"\x91" * 200)))

    def _long(self) -> Word:
        """A megabyte."""
        return self._broken("long", self._signed("", self._any(), "operator").data + bytes(LONG))

    def _unknown_action(self) -> Word:
        """A right signature below an action that does not exist."""
        from edgeheal.trust import canonical

        body = canonical.loose(commands.encode_body(self._any()))
        if isinstance(body, dict):
            body["a"] = self._rng.randrange(1_000, 60_000)
        sealed = self._keys["operator"].sign(envelope.Envelope(envelope.COMMAND, canonical.pack(body)))
        return self._broken("unknown action", envelope.encode(sealed))

    def _borrowed_signature(self) -> Word:
        """A right signature, of other words."""
        mine, other = (self._keys["operator"].sign(envelope.Envelope(envelope.COMMAND, commands.encode_body(self._any()))) for _ in range(2))
        command = commands.decode_body(mine.body)
        return Word("borrowed signature", envelope.encode(replace(mine, signatures=other.signatures)), command)

    def _replayed(self) -> Word:
        """One that was carried out, again."""
        return self._rng.choice(self._spent)._replace(kind="replayed") if self._spent else self._noise()
