# SPDX-License-Identifier: Apache-2.0
"""Waits: the back-off of starts, and the one source of chance.

Duty: numbers. Invariant: no chance but the seed that the state carries; a delay is never above the cap.
Sources: full jitter (random between 0 and the whole delay), "Exponential Backoff And Jitter", AWS Architecture Blog 2015;
splitmix64, Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from edgeheal.core.policy import Policy

_MASK = (1 << 64) - 1


def draw(seed: int) -> tuple[int, float]:
    """The next seed (64 bits) and a number in [0, 1)."""
    seed = (seed + 0x9E3779B97F4A7C15) & _MASK
    z = seed
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return seed, ((z ^ (z >> 31)) >> 11) / (1 << 53)


def delay_s(policy: Policy, fails: int, chance: float) -> float:
    """Seconds to wait before the next start after `fails` short runs in a row: none after a healthy run, then full jitter.

    `fails` 0 or 1: at once. 2: up to `backoff_first_s`, doubling up to `backoff_cap_s`.
    """
    if fails <= 1:
        return 0.0
    return min(policy.backoff_cap_s, policy.backoff_first_s * 2.0 ** min(fails - 2, 30)) * chance
