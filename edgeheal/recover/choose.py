# SPDX-License-Identifier: Apache-2.0
"""The choice among the remedies that are allowed: least expected cost, all the way up the ladder.

Duty: arithmetic over options. It knows no app and no clock.
Formula: V(k) = cost(k) + (1 - p(k)) * min over stronger j of V(j), V(call a human) = its cost; the k with the least V is used.
p(k) is the mean of a Beta posterior: prior `PRIOR` pseudo-tries at sum over causes of P(cause) * CURES[cause][k], then what
this device saw. Invariant: a failed remedy moves up, never down: only rungs at or above the floor are options.
"""

from dataclasses import dataclass

from edgeheal.core.incident import Cause
from edgeheal.core.kinds import CauseKind, RemedyKind
from edgeheal.recover.ladder import CURES

PRIOR = 2.0
PRIOR_LEAST = 0.1  # a remedy that cures so little of what it can be is no answer to it
P_LEAST = 0.02  # below this experience says that it does not help
HOLD_MASS = 0.5  # so much of the probability on causes that holding answers, and holding it is


@dataclass(frozen=True, slots=True)
class Option:
    """A remedy that may be used: what it disturbs, how likely one try ends it."""

    kind: RemedyKind
    cost: float
    p: float


def prior(causes: tuple[Cause, ...], kind: RemedyKind) -> float:
    """Sum over causes of how likely it is and how often `kind` cures it; what no cause claims counts as unknown."""
    rest = max(0.0, 1.0 - sum(c.probability for c in causes))
    return sum(c.probability * CURES[c.kind].get(kind, 0.0) for c in causes) + rest * CURES[CauseKind.UNKNOWN].get(kind, 0.0)


def priors(causes: tuple[Cause, ...]) -> dict[RemedyKind, float]:
    """`prior` of each remedy that can help with any of the causes, in one pass."""
    rest = 1.0
    found: dict[RemedyKind, float] = {}
    for cause in causes:
        rest -= cause.probability
        for kind, p in CURES[cause.kind].items():
            found[kind] = found.get(kind, 0.0) + cause.probability * p
    if rest > 0:
        for kind, p in CURES[CauseKind.UNKNOWN].items():
            found[kind] = found.get(kind, 0.0) + rest * p
    return found


def posterior(p: float, wins: float, losses: float) -> float:
    """Prior `p` updated by `wins` and `losses` of this remedy against this fingerprint; 0 where it cannot help."""
    if p < PRIOR_LEAST:
        return 0.0
    return (PRIOR * p + wins) / (PRIOR + wins + losses)


def holding(causes: tuple[Cause, ...]) -> bool:
    """Whether holding (spending nothing, looking from time to time) is the answer."""
    return sum(c.probability for c in causes if RemedyKind.HOLD in CURES[c.kind]) >= HOLD_MASS


def choose(options: tuple[Option, ...], call_cost: float) -> Option | None:
    """The option of least expected cost; None when there is none (or calling a human is cheaper than all of them)."""
    best: Option | None = None
    least = call_cost
    for option in sorted(options, key=lambda o: o.kind, reverse=True):
        value = option.cost + (1.0 - option.p) * least
        if value < least:
            best, least = option, value
    return best
