# SPDX-License-Identifier: Apache-2.0
"""Too fast: a value that runs away faster than what it measures can.

Duty: the slope of the last steps against what is promised. Healthy look-alikes: one spike (it comes back), one true step (it stops), noise.
Invariant: three steps in a row, all the same way and each too fast.
"""

AGREE = 3


def count(far: int, step: float, seconds: float, most: float) -> int:
    """Steps in a row beyond `most` a second, with the sign of their way; 0 when this one is not."""
    if seconds <= 0 or abs(step) <= most * seconds:
        return 0
    way = 1 if step > 0 else -1
    return far + way if far * way > 0 else way
