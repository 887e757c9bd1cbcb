# SPDX-License-Identifier: Apache-2.0
"""A core.reasons code about an image as the typed error that a person meets.

Duty: one error class, hint and exit code for each reason. It judges nothing.
"""

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError, ImageError, RefusedByPolicyError, TrustError

_POLICY = {
    reasons.WRONG_DEVICE: "build it for this class, or name the class in [device] of edgeheal.toml",
    reasons.BLOCKED: "it failed here before; `edgeheal image allow ID` as root lets it be tried again",
    reasons.NO_SUCH_APP: "name the app in [apps.NAME] of edgeheal.toml",
    reasons.NOT_CONFIGURED: "list the program in [guard] interpreters of edgeheal.toml, or carry it in the image",
    reasons.NO_SUCH_IMAGE: "the signed word named another image; fetch that one",
}
_TRUST = {
    reasons.UNKNOWN_KEY: "sign it with a release key that the device trusts (`edgeheal key show`)",
    reasons.UNDER_THRESHOLD: "have it signed by one more release key: `edgeheal image sign FILE --key KEY`",
    reasons.WRONG_ROLE: "sign it with a release key; other roles' keys do not admit images",
    reasons.REVOKED: "use an image that is not revoked",
    reasons.BELOW_FLOOR: "use an image with a higher security_counter",
}


def error(reason: int, what: str = "") -> EdgeHealError:
    """The error for a refusal; `what` names the image. Trust failures end with exit code 6, the device's own word with 4."""
    said = f"{what}: {reasons.word(reason)}" if what else reasons.word(reason)
    if reason in _POLICY:
        return RefusedByPolicyError(said, reason=reason, hint=_POLICY[reason])
    if reason in _TRUST or 40 <= reason <= 59:
        return TrustError(said, reason=reason, part="envelope", hint=_TRUST.get(reason, ""))
    return ImageError(said, reason=reason)
