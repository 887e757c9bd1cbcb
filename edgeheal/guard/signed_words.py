# SPDX-License-Identifier: Apache-2.0
"""Signed words, judged: a command or a policy, its signatures, roles, addressee and door, as a typed verdict.

Duty: what can be told from the envelope, trust and the request alone. The guard adds what only it knows: counter, command id,
expiry, and whether the act itself is possible. For the verifying child.
Invariants: a technician's key speaks at the box only; a policy may ask for more signatures, never for fewer; an action that
no role is named for is refused; a command of several roles' keys counts in the one role that is enough by itself.
"""

from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import WireError
from edgeheal.core.kinds import ActionCode
from edgeheal.trust import envelope
from edgeheal.trust.document import OPERATOR, RELEASE, TECHNICIAN, Trust
from edgeheal.trust.verify import signers
from edgeheal.wire import commands, policy_doc

# action -> roles that may order it. A technician's key counts at the box only.
ROLES: dict[ActionCode, tuple[str, ...]] = {
    ActionCode.RESTART: (OPERATOR, TECHNICIAN),
    ActionCode.ROLLBACK: (OPERATOR, TECHNICIAN),
    ActionCode.PAUSE: (OPERATOR, TECHNICIAN),
    ActionCode.RESUME: (OPERATOR, TECHNICIAN),
    ActionCode.START: (OPERATOR, TECHNICIAN),
    ActionCode.STOP: (OPERATOR, TECHNICIAN),
    ActionCode.PROBE: (OPERATOR, TECHNICIAN),
    ActionCode.EVIDENCE: (OPERATOR, TECHNICIAN),
    ActionCode.REJECT: (OPERATOR, TECHNICIAN),
    ActionCode.APPROVE: (OPERATOR,),
    ActionCode.ALLOW: (OPERATOR,),
    ActionCode.CONFIG: (OPERATOR,),
    ActionCode.REBOOT: (OPERATOR,),
    ActionCode.DROP: (OPERATOR, RELEASE),
    ActionCode.INSTALL: (RELEASE,),
    ActionCode.MARK_GOOD: (RELEASE,),
}
AT_THE_BOX = ("person", "root")


def judge(data: bytes, trust: Trust, request: dict[str, Any]) -> dict[str, Any]:
    """The verdict on one envelope; TrustError or WireError when it cannot even be read or a signature does not hold."""
    signed = envelope.decode(data, envelope.COMMAND, envelope.POLICY)
    by = signers(signed)
    verdict = _command(signed, by, trust, request) if signed.type == envelope.COMMAND else _policy(signed, by, trust, request)
    return verdict | {"word": reasons.word(verdict["reason"]), "roles": list(trust.names(by)), "signatures": len(by), "trust": trust.n}


def _command(signed: envelope.Envelope, by: frozenset[bytes], trust: Trust, request: dict[str, Any]) -> dict[str, Any]:
    try:
        said = commands.decode_body(signed.body)
    except WireError as fault:
        raise WireError(fault.message, code=fault.code or reasons.MALFORMED, place=fault.place) from None
    return {
        "reason": _judge_command(said, by, trust, request),
        "kind": "command", "action": int(said.action), "app": said.app, "id": said.image, "counter": said.counter, "by": said.by, "expires": said.expires,
        "issued": said.issued, "nonce": said.nonce, "command_id": said.command_id, "args": {"seconds": said.seconds, "text": said.text}, "document": {},
    }  # fmt: skip


def _judge_command(said: commands.Command, by: frozenset[bytes], trust: Trust, request: dict[str, Any]) -> int:
    if said.tenant != request["tenant"]:
        return reasons.WRONG_TENANT
    if said.device != request["device"]:
        return reasons.WRONG_DEVICE
    if not any(key[:8] == said.by for key in by - trust.revoked_keys):
        return reasons.UNKNOWN_KEY
    at_least = int(request.get("approvals", {}).get(str(int(said.action)), 0))
    best = _best(trust, by, said, at_least, at_the_box=request["door"] in AT_THE_BOX)
    if best != reasons.OK:
        return best
    if said.nonce and said.nonce != request["nonce"]:
        return reasons.WRONG_NONCE
    if said.grave and not said.nonce and not _prepared(said, by, trust, request):
        return reasons.WRONG_NONCE
    return reasons.OK


def _best(trust: Trust, by: frozenset[bytes], said: commands.Command, at_least: int, *, at_the_box: bool) -> int:
    """OK if one of the action's roles is enough; else the reason that came nearest. The key whose counter is used must be in that role."""
    verdicts = []
    for role in ROLES.get(said.action, ()):
        reason = trust.judge(by, role, said.app, at_least=at_least)
        named = trust.role(role, said.app)
        if reason == reasons.OK and not any(key[:8] == said.by for key in (named.keys if named else ())):
            reason = reasons.WRONG_ROLE
        if reason == reasons.OK and role == TECHNICIAN and not at_the_box:
            reason = reasons.WRONG_DOOR
        verdicts.append(reason)
    order = (reasons.OK, reasons.WRONG_DOOR, reasons.UNDER_THRESHOLD, reasons.REVOKED, reasons.WRONG_ROLE, reasons.UNKNOWN_KEY)
    return min(verdicts, key=order.index, default=reasons.WRONG_ROLE)


def _prepared(said: commands.Command, by: frozenset[bytes], trust: Trust, request: dict[str, Any]) -> bool:
    """A technician's token made before the visit may roll back without the boot nonce, at the box (to a known-good: the guard's table sees to that)."""
    return said.action == ActionCode.ROLLBACK and request["door"] in AT_THE_BOX and not said.image and trust.judge(by, TECHNICIAN) == reasons.OK


def _policy(signed: envelope.Envelope, by: frozenset[bytes], trust: Trust, request: dict[str, Any]) -> dict[str, Any]:
    said = policy_doc.decode_body(signed.body)
    reason = trust.judge(by, OPERATOR)
    if said.tenant != request["tenant"]:
        reason = reasons.WRONG_TENANT
    elif said.device not in ("", request["device"]):
        reason = reasons.WRONG_DEVICE
    document = {
        "version": list(said.version), "goals": dict(said.goals), "thresholds": dict(said.thresholds),
        "budgets": {name: [list(pair) for pair in rows] for name, rows in said.budgets.items()}, "priors": [list(prior) for prior in said.priors],
    }  # fmt: skip
    return {
        "reason": reason, "kind": "policy", "action": 0, "app": "", "id": signed.id, "counter": said.version[1], "by": b"", "expires": 0,
        "issued": 0, "nonce": b"", "command_id": signed.id[:16], "args": {}, "document": document,
    }  # fmt: skip
