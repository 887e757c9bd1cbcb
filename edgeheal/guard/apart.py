# SPDX-License-Identifier: Apache-2.0
"""Signatures proven in a fork, so that a process which goes on to read a large bundle never holds the cryptography library.

Duty: the answer of trust.verify.signers, from a process that ends at once. It saves 7 MB of peak memory in the importer.
Invariants: only an exit status that says "all hold" counts as proof; a fork that fails or dies is "could not verify", never "yes".
"""

import os

from edgeheal.core import reasons
from edgeheal.core.errors import TrustError
from edgeheal.trust.envelope import Envelope

_HOLDS, _DOES_NOT = 42, 43  # exit statuses that nothing else uses


def signers(envelope: Envelope, *, part: str = "envelope") -> frozenset[bytes]:
    """The keys that signed; TrustError(BAD_SIGNATURE) when a signature does not hold, (INTERNAL) when it could not be told."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _judge(envelope)
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    if code == _DOES_NOT:
        hint = "the bytes were changed after signing; fetch them again from their source"
        raise TrustError("a signature does not hold", reason=reasons.BAD_SIGNATURE, part=part, place=part, hint=hint)
    if code != _HOLDS:
        hint = "see `edgeheal doctor`: is the cryptography library installed, and is there memory?"
        raise TrustError(f"signatures could not be verified ({code})", reason=reasons.INTERNAL, part=part, place=part, hint=hint)
    return frozenset(key for key, _ in envelope.signatures)


def _judge(envelope: Envelope) -> int:
    from edgeheal.trust import verify  # the point of the fork: the library is loaded here only

    try:
        verify.signers(envelope)
    except TrustError:
        return _DOES_NOT
    return _HOLDS
