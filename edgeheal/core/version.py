# SPDX-License-Identifier: Apache-2.0
"""The version of this EdgeHeal and the time before which no clock can be right.

Duty: two constants. `BUILT_S` is the lower bound for "now" that an expiry is judged by (safety: signed words).
"""

VERSION = "0.1.0"
BUILT_S = 1_795_564_800  # 2026-11-25T00:00:00Z
