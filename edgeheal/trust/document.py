# SPDX-License-Identifier: Apache-2.0
"""The trust document: who may sign what on a device, which floors hold, what is revoked.

Duty: a frozen value, decoded and encoded with all its rules; counts who among the signers may speak in a role.
It checks no signature and no succession (trust.chain). Nothing in it expires.
Invariants: a threshold is at least 1 and at most the number of keys; no key stands in two roles unless the device's config
says so; a role that is absent refuses; a revoked key never counts.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import TrustError
from edgeheal.trust.canonical import NotCanonicalError, pack, unpack
from edgeheal.trust.envelope import KEY_BYTES, MAX_TRUST_BODY, TRUST, Envelope

ROOT, RELEASE, OPERATOR, TECHNICIAN = "root", "release", "operator", "technician"
ROLES = (ROOT, RELEASE, OPERATOR, TECHNICIAN)
MAX_N = 2**31
MAX_COUNTER = 2**32 - 1
MAX_KEYS = 16

_APP_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class Role:
    """So many of these 32-byte keys must sign."""

    threshold: int
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AppTrust:
    """An app's own release keys (None: the fleet's) and its floor (trust epoch, security counter)."""

    release: Role | None = None
    floor: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Trust:
    """Trust version `n`. `revoked_ids` are image ids, `keep` those of them that may run on where nothing else is admitted."""

    n: int
    roles: dict[str, Role]
    apps: dict[str, AppTrust] = field(default_factory=dict)
    revoked_ids: frozenset[bytes] = frozenset()
    revoked_keys: frozenset[bytes] = frozenset()
    keep: frozenset[bytes] = frozenset()

    def role(self, name: str, app: str = "") -> Role | None:
        """Who speaks in role `name` (for `app`, if it has release keys of its own); None: nobody."""
        if name == RELEASE and app in self.apps and self.apps[app].release is not None:
            return self.apps[app].release
        return self.roles.get(name)

    def floor(self, app: str) -> tuple[int, int]:
        """The app's floor as trust states it; (0, 0) when it says nothing."""
        return self.apps[app].floor if app in self.apps else (0, 0)

    def judge(self, signers: Iterable[bytes], name: str, app: str = "", *, at_least: int = 0) -> int:
        """core.reasons: OK, UNKNOWN_KEY (nobody known), REVOKED (only revoked ones), UNDER_THRESHOLD, WRONG_ROLE (other roles' keys).

        `at_least` raises the threshold (a device's policy may ask for more approvals, never for fewer).
        """
        role = self.role(name, app)
        held = frozenset(signers)
        known = held.intersection(role.keys) if role else frozenset()
        counted = known - self.revoked_keys
        if role and len(counted) >= max(role.threshold, at_least):
            return reasons.OK
        if counted:
            return reasons.UNDER_THRESHOLD
        if held & self.revoked_keys:
            return reasons.REVOKED
        return reasons.WRONG_ROLE if self.names(held) else reasons.UNKNOWN_KEY

    def names(self, signers: Iterable[bytes]) -> tuple[str, ...]:
        """The roles in which any of these keys, not revoked, stands."""
        held = frozenset(signers) - self.revoked_keys
        named = {name for name, role in self.roles.items() if held.intersection(role.keys)}
        if any(a.release and held.intersection(a.release.keys) for a in self.apps.values()):
            named.add(RELEASE)
        return tuple(name for name in ROLES if name in named)

    def body(self) -> bytes:
        """The document's canonical bytes."""
        return pack(self.to_plain())

    def to_plain(self) -> dict[str, Any]:
        """The document as the format has it."""
        return {
            "v": 1,
            "n": self.n,
            "roles": {name: _role_plain(role) for name, role in self.roles.items()},
            "apps": {app: _app_plain(said) for app, said in self.apps.items()},
            "revoked": {"ids": sorted(self.revoked_ids), "keys": sorted(self.revoked_keys), "keep": sorted(self.keep)},
        }

    def envelope(self) -> Envelope:
        """Unsigned, for trust.sign."""
        body = self.body()
        decode(body, shared_keys=True)
        return Envelope(TRUST, body)


def decode(body: bytes, *, shared_keys: bool = False) -> Trust:
    """The document in `body`; TrustError(TRUST_CHAIN) with the field. `shared_keys`: the config lets one key stand in two roles."""
    if len(body) > MAX_TRUST_BODY:
        raise _fault("", f"{len(body)} bytes, at most {MAX_TRUST_BODY}")
    try:
        value = unpack(body)
    except NotCanonicalError as fault:
        raise _fault("", str(fault)) from None
    top = _map(value, "", {"v", "n", "roles", "apps", "revoked"}, {"apps", "revoked"})
    if top["v"] != 1 or isinstance(top["v"], bool):
        raise TrustError("another version of the trust document", reason=reasons.UNKNOWN_VERSION, part="trust", place="trust: v")
    roles = {name: _role(role, f"roles.{name}") for name, role in _map(top["roles"], "roles", set(ROLES), set(ROLES)).items()}
    if ROOT not in roles:
        raise _fault("roles", "no root role")
    apps = _apps(top.get("apps", {}))
    revoked = _map(top.get("revoked", {}), "revoked", {"ids", "keys", "keep"}, {"ids", "keys", "keep"})
    ids, keys, keep = (frozenset(_digests(revoked.get(name, []), f"revoked.{name}", 512)) for name in ("ids", "keys", "keep"))
    if not keep <= ids:
        raise _fault("revoked.keep", "names an image that is not revoked")
    if not shared_keys:
        _refuse_shared(roles, apps)
    return Trust(_count(top["n"], "n", 1, MAX_N), roles, apps, ids, keys, keep)


def _apps(value: Any) -> dict[str, AppTrust]:
    if not isinstance(value, dict) or len(value) > 256:
        raise _fault("apps", "not a map of at most 256 apps")
    apps: dict[str, AppTrust] = {}
    for app, said in value.items():
        at = f"apps.{app[:32]}"
        if not (0 < len(app) <= 32 and app[0] != "-" and _APP_CHARS.issuperset(app)):
            raise _fault("apps", "a name is no app's")
        entry = _map(said, at, {"release", "floor"}, {"release", "floor"})
        floor = entry.get("floor", [0, 0])
        if not (isinstance(floor, list) and len(floor) == 2):
            raise _fault(f"{at}.floor", "not [trust epoch, security counter]")
        pair = (_count(floor[0], f"{at}.floor", 0, MAX_N), _count(floor[1], f"{at}.floor", 0, MAX_COUNTER))
        apps[app] = AppTrust(_role(entry["release"], f"{at}.release") if "release" in entry else None, pair)
    return apps


def _role(value: Any, at: str) -> Role:
    if not (isinstance(value, list) and len(value) == 2):
        raise _fault(at, "not [threshold, [keys]]")
    keys = _digests(value[1], at, MAX_KEYS)
    if not keys:
        raise _fault(at, "no keys")
    return Role(_count(value[0], at, 1, len(keys)), keys)


def _digests(value: Any, at: str, most: int) -> tuple[bytes, ...]:
    if not (isinstance(value, list) and len(value) <= most and all(isinstance(x, bytes) and len(x) == KEY_BYTES for x in value)):
        raise _fault(at, f"not a list of at most {most} byte strings of 32 bytes")
    if any(a >= b for a, b in itertools.pairwise(value)):
        raise _fault(at, "not in ascending order, or one twice")
    return tuple(value)


def _map(value: Any, at: str, known: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _fault(at, "not a map")
    for name in value:
        if name not in known:
            raise _fault(at, f"unknown field {name[:32]!r}")
    for name in sorted(known - optional):
        if name not in value:
            raise _fault(at, f"field {name!r} is missing")
    return value


def _count(value: Any, at: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _fault(at, f"not a whole number from {low} to {high}")
    return value


def _refuse_shared(roles: dict[str, Role], apps: dict[str, AppTrust]) -> None:
    owner: dict[bytes, str] = {}
    spoken = list(roles.items()) + [(RELEASE, said.release) for said in apps.values() if said.release]
    for name, role in spoken:
        for key in role.keys:
            if owner.setdefault(key, name) != name:
                raise _fault("roles", f"key {key[:4].hex()} stands in the roles {owner[key]} and {name}")


def _role_plain(role: Role) -> list[Any]:
    return [role.threshold, sorted(role.keys)]


def _app_plain(said: AppTrust) -> dict[str, Any]:
    plain: dict[str, Any] = {"floor": list(said.floor)}
    if said.release is not None:
        plain["release"] = _role_plain(said.release)
    return plain


def _fault(at: str, what: str) -> TrustError:
    return TrustError(what, reason=reasons.TRUST_CHAIN, part="trust", place=f"trust: {at}" if at else "trust")
