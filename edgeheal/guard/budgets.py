# SPDX-License-Identifier: Apache-2.0
"""The guard's durable budgets: how often a grave thing may happen, whoever asks, counted in box time.

Duty: count, judge, remember. The agent has finer budgets of its own above these.
Invariants: a spend of a grave kind is durable before it is granted, else it is refused (*budget unwritable*); starts are counted in
memory at once and written soon after, so that a slow medium never delays a restart; no restart of anything resets a count.
A damaged file counts as *spent*: what was there cannot be known, so grave kinds wait one full window.
Light on purpose: the resident guard imports it.
"""

import struct

from edgeheal.core import reasons
from edgeheal.guard.blocks import DAMAGED, FRESH, Blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KINDS = ("starts", "rollback", "hook", "power", "reboot", "config", "exits", "import")
STARTS, ROLLBACK, HOOK, POWER, REBOOT, CONFIG, EXITS, IMPORT = range(8)
LIGHT = frozenset({STARTS, EXITS})
DEFAULTS = {
    STARTS: ((30, 600), (200, 86_400)), ROLLBACK: ((4, 604_800),), HOOK: ((12, 86_400),), POWER: ((3, 86_400),),
    REBOOT: ((1, 21_600), (3, 604_800)), CONFIG: ((2, 86_400),), EXITS: ((5, 600),), IMPORT: ((24, 86_400),),
}  # fmt: skip
MOST_STAMPS = 240  # kept per key, and the largest limit that can be said
MOST_KEYS = 128
SIZE = 65_536


class Budgets:
    """Counts per (kind, target). `limits` maps a kind to its (most, per_s) pairs; all must hold."""

    __slots__ = ("_blocks", "_now_s", "_stamps", "damaged", "dirty", "limits", "writable")

    def __init__(self, folder: str, now_s: "Callable[[], int]") -> None:
        """`folder` is the guard's own, `now_s` the box time."""
        self._blocks = Blocks(f"{folder}/budgets", SIZE)
        self._now_s = now_s
        self.limits: dict[int, tuple[tuple[int, int], ...]] = dict(DEFAULTS)
        self._stamps: dict[str, list[int]] = {}
        self.dirty = False
        self.writable = True
        value = self._blocks.load()
        self.damaged = self._blocks.found == DAMAGED
        for key, raw in ((value or {}).get("stamps") or {}).items():
            self._stamps[key] = list(struct.unpack(f"!{len(raw) // 4}I", raw[: len(raw) // 4 * 4]))

    def take_limits(self, table: "dict[str, Iterable[Iterable[int]]]") -> None:
        """The device config's limits; kinds it does not name keep their default."""
        for kind, name in enumerate(KINDS):
            rows = tuple((min(int(row[0]), MOST_STAMPS), int(row[1])) for row in map(list, table.get(name, ())) if len(row) == 2)
            self.limits[kind] = rows or DEFAULTS[kind]

    def floor_of_damage(self) -> None:
        """After damage every grave kind counts as spent once in full, from now on."""
        now = self._now_s()
        for kind in range(len(KINDS)):
            if kind not in LIGHT:
                most = max(n for n, _ in self.limits[kind])
                self._stamps[f"{kind}/"] = [now] * most
        self.dirty = True

    def spent(self, kind: int, target: str = "") -> "list[tuple[int, int, int]]":
        """Rows (spent, most, per_s), one for each limit of the kind."""
        now = self._now_s()
        stamps = self._stamps.get(f"{kind}/{target}", []) + (self._stamps.get(f"{kind}/", []) if target else [])
        return [(sum(1 for s in stamps if s > now - per), most, per) for most, per in self.limits[kind]]

    def allows(self, kind: int, target: str = "") -> bool:
        """Whether one more would be within all limits."""
        return all(spent < most for spent, most, _ in self.spent(kind, target))

    def spend(self, kind: int, target: str = "", *, force: bool = False) -> int:
        """Count one; a reason code. Grave kinds are durable when this returns OK. `force` (a person, a warrant) counts beyond the limit."""
        if not force and not self.allows(kind, target):
            return reasons.BUDGET_SPENT
        key = f"{kind}/{target}"
        if key not in self._stamps and len(self._stamps) >= MOST_KEYS:
            self._forget()
            if len(self._stamps) >= MOST_KEYS:
                return reasons.BUDGET_SPENT
        stamps = self._stamps.setdefault(key, [])
        stamps.append(self._now_s() & 0xFFFFFFFF)
        del stamps[: -self._most(kind)]
        self.dirty = True
        if kind in LIGHT:
            return reasons.OK
        if not self.keep():
            self._stamps[key].pop()  # `keep` may have made the list anew
            return reasons.BUDGET_UNWRITABLE
        return reasons.OK

    def clear(self, kind: int, target: str) -> None:
        """Forget the count of one target (a trial that ended, an app that is gone)."""
        if self._stamps.pop(f"{kind}/{target}", None) is not None:
            self.dirty = True

    def keep(self) -> bool:
        """Make all counts durable."""
        self._forget()
        while sum(len(k) + 20 + 4 * len(s) for k, s in self._stamps.items()) > SIZE - 256:
            del self._stamps[min(self._stamps, key=lambda k: (int(k.split("/", 1)[0]) not in LIGHT, -len(self._stamps[k])))]
        try:
            self._blocks.store({"stamps": {key: struct.pack(f"!{len(s)}I", *s) for key, s in self._stamps.items()}})
        except OSError:
            self.writable = False
            return False
        self.writable = True
        self.dirty = False
        return True

    def ready(self) -> None:
        """A fresh record is made at once: the first grave act may come when the disk is full."""
        if self._blocks.found == FRESH:
            self.keep()

    def pending(self) -> bool:
        """Whether any window of a grave kind is open: then box time is kept more often."""
        return any(int(key.split("/", 1)[0]) not in LIGHT for key in self._stamps)

    def _most(self, kind: int) -> int:
        return min(MOST_STAMPS, 2 * max(most for most, _ in self.limits[kind]) + 8)

    def _forget(self) -> None:
        """Drop what has left every window."""
        now = self._now_s()
        for key in list(self._stamps):
            longest = max(per for _, per in self.limits.get(int(key.split("/", 1)[0]), ((1, 604_800),)))
            kept = [s for s in self._stamps[key] if s > now - longest]
            if kept:
                self._stamps[key] = kept
            else:
                del self._stamps[key]
