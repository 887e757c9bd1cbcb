# SPDX-License-Identifier: Apache-2.0
"""The guard's reason codes as errors for people: exit code, sentence, next step.

Duty: one table. It asks nobody. Invariant: every reason other than OK becomes an error; an unknown one is a failure that shows its number.
"""

from edgeheal.core import reasons
from edgeheal.core.errors import (
    ApprovalNeededError,
    EdgeHealError,
    GuardError,
    ImageError,
    InDoubtError,
    RefusedByPolicyError,
    TrustError,
    UsageError,
)  # fmt: skip

# reason -> next step; what is not here has its class's own
_HINTS = {
    reasons.NOT_ALLOWED: "do it as root, or bring a token: edgeheal challenge",
    reasons.NO_WARRANT: "do it as root, or bring a token: edgeheal challenge",
    reasons.NO_SUCH_APP: "the device's config names its apps: edgeheal status",
    reasons.NO_SUCH_IMAGE: "see what is installed: edgeheal image list",
    reasons.BUDGET_SPENT: "see `edgeheal status`; root may still do it",
    reasons.BUDGET_UNWRITABLE: "check space and mount of the data partition with `edgeheal doctor`",
    reasons.INTERLOCK: "make the machine safe first; the interlock's output is in the logs",
    reasons.PAUSED: "end the pause with `edgeheal resume`",
    reasons.TABLE: "see its state: edgeheal image list",
    reasons.LAST_GOOD: "install another image first; the last known good one always stays",
    reasons.NOTHING_TO_DO: "see its state: edgeheal image list",
    reasons.NEEDS_APPROVAL: "approve it with `edgeheal approve ID` as root, or send a signed command",
    reasons.BLOCKED: "it failed here before; a signed word or root lifts that: edgeheal image allow APP ID",
    reasons.BELOW_FLOOR: "its security counter is below what this device has reached; build it with a higher one",
    reasons.REVOKED: "trust took it back; install another image",
    reasons.WRONG_DEVICE: "build or sign it for this device (edgeheal status shows its name and classes)",
    reasons.UNKNOWN_KEY: "sign it with a key that this device trusts: edgeheal key show",
    reasons.UNDER_THRESHOLD: "have it signed by more keys: edgeheal image sign",
    reasons.WRONG_NONCE: "the device was started again since: take a new challenge",
    reasons.EXPIRED: "make a new one",
    reasons.REPLAY: "it was carried out before, or its counter is used up: make a new one",
    reasons.TRUST_CHAIN: "the device's trust is damaged or missing: edgeheal doctor",
    reasons.SCHEMA: "its data cannot go back to the older image; root may still do it",
    reasons.NO_SPACE: "free space on the data partition, or drop an image: edgeheal image drop",
    reasons.NOT_READY: "wait until it is ready, then try again",
    reasons.BUSY: "wait until it is done, then try again",
    reasons.NOT_RUNNING: "start it first: edgeheal start APP",
    reasons.HELD: "it failed too often to be started by itself: edgeheal start APP",
    reasons.NOT_NOW: "try again later: a hook or the interlock said not now",
    reasons.HOOK: "see the hook's output in the logs folder",
    reasons.UNKILLABLE: "it waits in the kernel: edgeheal explain",
}
_POLICY = frozenset({
    reasons.NOT_ALLOWED, reasons.NO_WARRANT, reasons.BUDGET_SPENT, reasons.BUDGET_UNWRITABLE, reasons.INTERLOCK, reasons.PAUSED, reasons.TABLE,
    reasons.LAST_GOOD, reasons.NOT_SEEN, reasons.HELD, reasons.APP_BUSY, reasons.NOTHING_TO_DO, reasons.MODE, reasons.BLOCKED, reasons.SCHEMA,
    reasons.HOOK, reasons.NOT_NOW, reasons.NOT_CONFIGURED, reasons.WRONG_DOOR, reasons.TOO_MANY,
})  # fmt: skip


def error(reason: int, what: str, said: str = "") -> EdgeHealError:
    """The error of a reason. `what` was asked for; `said` is what the guard added."""
    word = reasons.word(reason)
    message = f"{what}: {said}" if said and word in said else f"{what}: {word}: {said}" if said else f"{what}: {word}"
    hint = _HINTS.get(reason, "")
    if reason == reasons.NEEDS_APPROVAL:
        return ApprovalNeededError(message, hint=hint)
    if reason in (reasons.IN_DOUBT, reasons.UNWRITABLE):
        return InDoubtError(message, hint=hint)
    if reason in _POLICY:
        return RefusedByPolicyError(message, hint=hint)
    if reasons.BAD_SIGNATURE <= reason <= reasons.WRONG_DOOR:
        return TrustError(message, hint=hint)
    if reasons.BAD_MAGIC <= reason <= reasons.HOOK:
        return ImageError(message, hint=hint)
    if reason == reasons.NO_SUCH_APP:
        return UsageError(message, hint=hint)
    return GuardError(message, reason=reason, hint=hint)


def check(reason: int, what: str, said: str = "") -> None:
    """Raise unless the reason is OK (or what was asked for is so already)."""
    if reason not in (reasons.OK, reasons.ALREADY):
        raise error(reason, what, said)
