# SPDX-License-Identifier: Apache-2.0
"""The one error tree: every failure a person may meet, with exit code, message id and next step.

Duty: give each failure one meaning. It formats nothing and logs nothing.
Invariant: `hint` is the next step for the person who reads it, in one sentence, never empty.
Imports nothing, so that the guard may raise these too.
"""


class EdgeHealError(Exception):
    """Root of the tree. `exit_code` follows the command line's documented table."""

    exit_code = 1
    message_id = "eh-error"
    hint = "run `edgeheal doctor` on the device"

    def __init__(self, message: str, *, hint: str = "", place: str = "") -> None:
        """`message` says what is wrong, `place` where (file:line, part, field), `hint` what to do next."""
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.place = place
        if hint:
            self.hint = hint


class UsageError(EdgeHealError):
    """The command was called with words it does not take."""

    exit_code = 2
    message_id = "eh-usage"
    hint = "see `edgeheal --help`"


class ConfigError(EdgeHealError):
    """A config file says something that cannot be kept; the last good config stays in force."""

    message_id = "eh-config"
    hint = "mend the file, then run `edgeheal config check`"


class AgentUnreachableError(EdgeHealError):
    """Nobody answers at the agent's or the guard's door."""

    exit_code = 3
    message_id = "eh-unreachable"
    hint = "is `edgeheal guard` running? try `edgeheal doctor`"


class RefusedByPolicyError(EdgeHealError):
    """Understood, and not allowed: rights, budget, interlock, state table."""

    exit_code = 4
    message_id = "eh-refused"
    hint = "see `edgeheal explain` for what stands in the way"

    def __init__(self, message: str, *, reason: int = 0, hint: str = "", place: str = "") -> None:
        """As `EdgeHealError`, with `reason` (core.reasons)."""
        super().__init__(message, hint=hint, place=place)
        self.reason = reason


class ApprovalNeededError(EdgeHealError):
    """Allowed once somebody approves."""

    exit_code = 5
    message_id = "eh-approval"
    hint = "approve it with `edgeheal approve ID` as root, or send a signed command"


class TrustError(EdgeHealError):
    """A signature, key, role, threshold, revocation or counter does not hold."""

    exit_code = 6
    message_id = "eh-trust"
    hint = "check which keys the device trusts with `edgeheal key show`"

    def __init__(self, message: str, *, reason: int = 0, part: str = "", number: int = -1, hint: str = "", place: str = "") -> None:
        """As `EdgeHealError`, with `reason` (core.reasons) and, where a bundle is read, its part and object number."""
        super().__init__(message, hint=hint, place=place)
        self.reason = reason
        self.part = part
        self.number = number


class InDoubtError(EdgeHealError):
    """It may or may not have happened, and the fact could not be read back."""

    exit_code = 7
    message_id = "eh-in-doubt"
    hint = "look at `edgeheal status` before trying again"


class ImageError(EdgeHealError):
    """A bundle, manifest, tree or object is not what it must be."""

    message_id = "eh-image"
    hint = "build the image again with `edgeheal image build`"

    def __init__(self, message: str, *, reason: int = 0, part: str = "", number: int = -1, hint: str = "", place: str = "") -> None:
        """As `EdgeHealError`, with `reason` (core.reasons), `part` of the bundle and object `number` (-1: none)."""
        named = f"{part} object {number}" if number >= 0 else part
        super().__init__(message, hint=hint, place=place or named)
        self.reason = reason
        self.part = part
        self.number = number


class StoreError(EdgeHealError):
    """The image store or a state record cannot be read or written."""

    message_id = "eh-store"
    hint = "check space and mount of the data partition with `edgeheal doctor`"


class JournalError(EdgeHealError):
    """The journal or a recording cannot be read or written."""

    message_id = "eh-journal"
    hint = "check space and mount of the data partition with `edgeheal doctor`"


class WireError(EdgeHealError):
    """Bytes from another process or machine that do not decode; `code` is a `core.reasons` number."""

    message_id = "eh-wire"
    hint = "the sender speaks another version, or the bytes were damaged on the way"

    def __init__(self, message: str, *, code: int = 0, hint: str = "", place: str = "") -> None:
        """As `EdgeHealError`, with the reason code that an answer to the sender carries."""
        super().__init__(message, hint=hint, place=place)
        self.code = code


class LinkError(EdgeHealError):
    """The broker cannot be reached or refuses us."""

    message_id = "eh-link"
    hint = "check broker, port and certificates in [link] of edgeheal.toml"


class NoSuchIncidentError(EdgeHealError):
    """An id that no incident here has, or none that waits."""

    message_id = "eh-no-incident"
    hint = "see `edgeheal incidents` for those that are known here"


class GuardError(EdgeHealError):
    """The guard could not carry out a verb; `reason` is its reason code (core.reasons)."""

    message_id = "eh-guard"
    hint = "see `edgeheal status`"

    def __init__(self, message: str, *, reason: int = 0, hint: str = "", place: str = "") -> None:
        """As `EdgeHealError`, with the guard's reason code."""
        super().__init__(message, hint=hint, place=place)
        self.reason = reason
