# SPDX-License-Identifier: Apache-2.0
"""Box time: seconds powered, summed over boots; and the nonce of this boot.

Duty: say how long this box has run in its life, durably. All windows, soaks and budgets that outlive a boot count in it.
Invariants: it never falls; within a boot it follows the monotonic clock whatever happens to the guard; what a power cut loses
only lengthens a window. Wall time is kept as a label only: how long the box was off between two boots, if its own clock tells.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.guard.blocks import DAMAGED, FOUND, Blocks

KEEP_S = 60  # at least this often while something counts in box time
REST_S = 600  # at rest: nothing is lost but a few minutes of an age that nobody waits for
SIZE = 512


def boot_id() -> bytes:
    """This boot's id, 16 bytes, from the kernel."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return bytes.fromhex(file.read().strip().replace("-", ""))


class BoxTime:
    """The box's age. `damaged` is True when both records were bad: then it starts again from `floor_s` (what others remember).

    `before` is (boot id, wall seconds) as last kept in an earlier boot, (b"", 0) when none is known; `new` that this boot was first seen by this guard.
    """

    __slots__ = ("_base_ns", "_base_s", "_blocks", "before", "boot", "boots", "damaged", "new", "nonce", "writable")

    def __init__(self, folder: str, boot: bytes = b"", floor_s: int = 0) -> None:
        """`folder` is the guard's own. A new boot id makes a new nonce and counts a boot."""
        self._blocks = Blocks(f"{folder}/box", SIZE)
        value = self._blocks.load() or {}
        self.damaged = self._blocks.found == DAMAGED
        self.boot = boot or boot_id()
        now_ns = time.monotonic_ns()
        kept_s, kept_ns = int(value.get("box", 0)), int(value.get("mono", 0))
        self.boots = int(value.get("boots", 0))
        self.nonce = int(value.get("nonce", 0))
        self.new = value.get("boot") != self.boot
        self.before = (bytes(value.get("boot") or b""), int(value.get("wall") or 0)) if self.new else (b"", 0)
        if value.get("boot") == self.boot and kept_ns <= now_ns:
            kept_s += (now_ns - kept_ns) // 1_000_000_000
            self._base_ns = now_ns - (now_ns - kept_ns) % 1_000_000_000
        else:
            kept_s += 1  # at least: a boot that was never kept still took time
            self._base_ns = now_ns
            self.boots += 1
            self.nonce = int.from_bytes(os.urandom(8), "big") >> 1 or 1
        self._base_s = max(kept_s, floor_s)
        self.writable = True
        self.keep()

    def now_s(self) -> int:
        """Box seconds, now."""
        return self._base_s + (time.monotonic_ns() - self._base_ns) // 1_000_000_000

    def keep(self) -> bool:
        """Make it durable; False (and `writable` False) when the medium does not take it."""
        if self._blocks.found not in (FOUND, 0, DAMAGED):
            self.writable = False
            return False
        try:
            value = {"box": self.now_s(), "mono": time.monotonic_ns(), "boot": self.boot, "boots": self.boots, "nonce": self.nonce, "wall": int(time.time())}
            self._blocks.store(value)
        except OSError:
            self.writable = False
            return False
        self.writable = True
        return True
