# SPDX-License-Identifier: Apache-2.0
"""Witnesses: how far evidence may carry, by who saw it.

Duty: the rule of `safety.md` section 4 in one table. It weighs nothing.
Invariant: words that an app, a peer or the network can forge carry at most to a restart; what a person approves is witnessed by him.
"""

from edgeheal.core.kinds import Channel, RemedyKind

# the strongest remedy that evidence of this channel alone may carry to
REACH: dict[Channel, RemedyKind] = {
    Channel.APP: RemedyKind.RESTART_GROUP,
    Channel.AGENT: RemedyKind.RESTART_GROUP,
    Channel.GUARD: RemedyKind.SAFE_MODE,
    Channel.KERNEL: RemedyKind.SAFE_MODE,
    Channel.HARDWARE: RemedyKind.SAFE_MODE,
    Channel.PERSON: RemedyKind.SAFE_MODE,
}


def reach(channels: tuple[Channel, ...]) -> RemedyKind:
    """The strongest remedy that these witnesses together carry to."""
    return max((REACH[c] for c in channels), default=RemedyKind.LOOK_AGAIN)
