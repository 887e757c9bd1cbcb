# SPDX-License-Identifier: Apache-2.0
"""The body of `down/policy`: the fleet's signed wish for a device. Typed value <-> canonical bytes.

Duty: fields and their bounds. Not its duty: who may wish for what (trust, the guard, the device's config).
Invariants: it names only images that *release* admitted, thresholds, budgets and priors, nothing else; its version compares as
(trust epoch, number) and never falls; unknown fields are refused.
"""

from dataclasses import dataclass, field
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import WireError
from edgeheal.trust import canonical

VERSION = 1
PLACE = "policy"
APPS_MOST, NAMES_MOST, PRIORS_MOST = 64, 64, 512


@dataclass(frozen=True, slots=True)
class PolicyDoc:
    """`version` is (trust epoch, number); `goals` app -> image id; `thresholds`, `budgets` as the config names them; one prior is
    (fingerprint 8 bytes, remedy, cured, tried).
    """

    version: tuple[int, int]
    tenant: str
    device: str = ""
    goals: dict[str, bytes] = field(default_factory=dict)
    thresholds: dict[str, int] = field(default_factory=dict)
    budgets: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    priors: tuple[tuple[bytes, int, int, int], ...] = ()


def encode_body(policy: PolicyDoc) -> bytes:
    """Canonical bytes, ready to be signed."""
    data = canonical.pack({
        "v": VERSION, "n": list(policy.version), "tenant": policy.tenant, "device": policy.device, "goals": policy.goals,
        "thresholds": policy.thresholds, "budgets": {k: [list(b) for b in v] for k, v in policy.budgets.items()},
        "priors": [list(p) for p in policy.priors],
    })  # fmt: skip
    decode_body(data)
    return data


def decode_body(data: bytes) -> PolicyDoc:
    """The policy in `data`; WireError with the field."""
    try:
        body = canonical.unpack(data)
    except canonical.NotCanonicalError as fault:
        raise WireError(str(fault), code=reasons.MALFORMED, place=PLACE) from None
    if not isinstance(body, dict):
        raise _bad("", "expected a map")
    version = body.pop("v", None)
    if isinstance(version, bool) or version != VERSION:
        raise WireError("another version of policies", code=reasons.UNKNOWN_VERSION, place=f"{PLACE}.v")
    n = _list(body.pop("n", None), "n", 2, 2)
    policy = PolicyDoc(
        version=(_whole(n[0], "n", 1 << 31), _whole(n[1], "n", 1 << 62)),
        tenant=_text(body.pop("tenant", None), "tenant", 64),
        device=_text(body.pop("device", ""), "device", 64),
        goals={app: _octets(image, f"goals.{app}", 32) for app, image in _map(body.pop("goals", {}), "goals", APPS_MOST).items()},
        thresholds={k: _whole(v, f"thresholds.{k}", 1 << 40) for k, v in _map(body.pop("thresholds", {}), "thresholds", NAMES_MOST).items()},
        budgets={k: _budgets(v, f"budgets.{k}") for k, v in _map(body.pop("budgets", {}), "budgets", NAMES_MOST).items()},
        priors=tuple(_prior(p) for p in _list(body.pop("priors", []), "priors", 0, PRIORS_MOST)),
    )
    if body:
        raise _bad(str(min(body))[:16], "unknown field")
    return policy


def _bad(at: str, said: str) -> WireError:
    return WireError(said, code=reasons.MALFORMED, place=f"{PLACE}.{at}" if at else PLACE)


def _map(value: Any, at: str, most: int) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > most or any(not isinstance(k, str) or not 0 < len(k) <= 48 for k in value):
        raise _bad(at, f"expected a map of at most {most} names")
    return value


def _list(value: Any, at: str, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise _bad(at, f"expected a list of {least} to {most}")
    return value


def _whole(value: Any, at: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise _bad(at, f"expected an integer 0..{most}")
    return value


def _text(value: Any, at: str, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise _bad(at, f"expected text of at most {most} characters")
    return value


def _octets(value: Any, at: str, length: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise _bad(at, f"expected {length} bytes")
    return value


def _budgets(value: Any, at: str) -> tuple[tuple[int, int], ...]:
    pairs = [_list(row, at, 2, 2) for row in _list(value, at, 0, 8)]
    return tuple((_whole(n, at, 1_000_000), _whole(s, at, 10**9)) for n, s in pairs)


def _prior(value: Any) -> tuple[bytes, int, int, int]:
    fingerprint, remedy, cured, tried = _list(value, "priors", 4, 4)
    return _octets(fingerprint, "priors", 8), _whole(remedy, "priors", 64), _whole(cured, "priors", 1_000_000), _whole(tried, "priors", 1_000_000)
