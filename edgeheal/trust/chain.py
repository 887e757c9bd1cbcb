# SPDX-License-Identifier: Apache-2.0
"""How trust grows: version n+1 needs the root threshold of n *and* of n+1; nothing expires, so three years off are walked in one go.

Duty: judge succession, given who signed (a function, so that this stays free of `cryptography`).
Invariant: the result is never older than what was held; a chain with a gap, a fork or a missing threshold changes nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgeheal.core import reasons
from edgeheal.core.errors import TrustError
from edgeheal.trust.document import ROOT, Trust, decode
from edgeheal.trust.envelope import Envelope

Signers = Callable[[Envelope], frozenset[bytes]]


@dataclass(frozen=True, slots=True)
class Link:
    """One version: its envelope and what it says."""

    envelope: Envelope
    trust: Trust


def first(envelope: Envelope, signers: Signers, *, shared_keys: bool = False) -> Link:
    """The version that a device starts from: signed by its own root threshold (where it came from is the caller's matter)."""
    trust = decode(envelope.body, shared_keys=shared_keys)
    _need(trust, signers(envelope), trust.n, "its own root keys")
    return Link(envelope, trust)


def step(held: Trust, envelope: Envelope, signers: Signers, *, shared_keys: bool = False) -> Link:
    """The version after `held`, if `envelope` is it; TrustError otherwise."""
    trust = decode(envelope.body, shared_keys=shared_keys)
    if trust.n != held.n + 1:
        raise TrustError(
            f"trust version {trust.n} does not follow version {held.n}",
            reason=reasons.TRUST_CHAIN,
            part="trust",
            place="trust",
            hint=f"bring the versions from {held.n + 1} on, oldest first",
        )
    signed = signers(envelope)
    _need(held, signed, trust.n, f"the root keys of version {held.n}")
    _need(trust, signed, trust.n, f"the root keys of version {trust.n}")
    return Link(envelope, trust)


def walk(held: Trust, envelopes: Iterable[Envelope], signers: Signers, *, shared_keys: bool = False) -> tuple[Link, ...]:
    """The new versions out of `envelopes` (oldest first; those not newer than `held` are passed over), each proven by the one before."""
    links: list[Link] = []
    newest, before = held, 0
    for envelope in envelopes:
        n = decode(envelope.body, shared_keys=True).n
        if n <= before:
            raise TrustError("the chain is not in ascending order", reason=reasons.TRUST_CHAIN, part="trust", place="trust")
        before = n
        if n <= held.n:
            continue
        link = step(newest, envelope, signers, shared_keys=shared_keys)
        links.append(link)
        newest = link.trust
    return tuple(links)


def _need(trust: Trust, signed: frozenset[bytes], n: int, whose: str) -> None:
    reason = trust.judge(signed, ROOT)
    if reason != reasons.OK:
        raise TrustError(
            f"version {n} is not signed by enough of {whose}: {reasons.word(reason)}",
            reason=reason if reason == reasons.UNDER_THRESHOLD else reasons.TRUST_CHAIN,
            part="trust",
            place="trust",
            hint="have it signed by the root keys of both versions",
        )
