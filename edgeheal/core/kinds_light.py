# SPDX-License-Identifier: Apache-2.0
"""The numbers of `kinds.By` as plain ints, for the resident guard (which loads no `enum`).

Duty: say them a second time. Invariant: equal to `core.kinds.By`; a test compares.
"""

BY_UNKNOWN, BY_REMEDY, BY_LOCAL, BY_COMMAND, BY_FOREIGN, BY_BOOT, BY_STANDING_ORDER, BY_DEPENDENCY, BY_ITSELF = range(9)
