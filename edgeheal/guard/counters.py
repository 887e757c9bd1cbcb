# SPDX-License-Identifier: Apache-2.0
"""The guard's ratchets: command counters by key, ids of commands, the highest trust and policy seen, the newest signed time.

Duty: remember, durably and before anything is done, that a signed word was used. It checks no signature.
Invariants: no number here falls, none vanishes with its key; an id is remembered until its command has expired; counters and ids lie in
records of their own, so that the loss of one leaves the other; a damaged counter record is rebuilt from the marks log, and keys that the
log does not know speak only with this boot's nonce until they have been heard again.
Light on purpose: the resident guard imports it.

`key` is the hex of the first 8 bytes of the signing key, prefixed with the trust epoch where a key was re-issued.
"""

from edgeheal.core import reasons
from edgeheal.guard.blocks import DAMAGED, FRESH, Blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.marks import Marks

SIZE = 16_384
MOST_KEYS = 128
MOST_IDS = 256
MOST_OPEN = 32
MOST_LEAP = 2**32
UNKNOWN = -1  # how an open act ended
LONGEST_S = 30 * 86_400  # an id is forgotten at the latest after this much box time, whatever expiry its command claimed


class Counters:
    """Counters and ids. `damaged`: the counter record was bad, so unknown keys need the nonce."""

    __slots__ = ("_counters", "_ids", "_marks", "_open", "_record", "_seen", "damaged", "policy", "signed_s", "trust")

    def __init__(self, folder: str, marks: "Marks") -> None:
        """`folder` is the guard's own."""
        self._marks = marks
        self._record = Blocks(f"{folder}/counters", SIZE)
        self._ids = Blocks(f"{folder}/ids", SIZE)
        value = self._record.load() or {}
        self._counters: dict[str, int] = {str(k): int(v) for k, v in (value.get("counters") or {}).items()}
        self.trust = int(value.get("trust", 0))
        self.policy = int(value.get("policy", 0))
        self.signed_s = int(value.get("signed", 0))
        self.damaged = self._record.found == DAMAGED or bool(value.get("damaged"))
        if self.damaged:
            self._counters |= marks.highest("counter")
            self.trust = max(self.trust, marks.highest("trust").get("", 0))
            self.policy = max(self.policy, marks.highest("policy").get("", 0))
        ids = self._ids.load() or {}
        self._seen: dict[bytes, tuple[int, int]] = {bytes(row[0]): (int(row[1]), int(row[2])) for row in ids.get("ids", ())}
        self._open: dict[bytes, tuple[int, str, int]] = {bytes(r[0]): (int(r[1]), str(r[2]), int((*r, UNKNOWN)[3])) for r in ids.get("open", ())}
        if self._ids.found == DAMAGED:
            self.damaged = True

    def ready(self) -> None:
        """Fresh records are made at once: the first signed word may come when the disk is full. Where marks remember more, nothing is fresh."""
        if FRESH in (self._record.found, self._ids.found) and not self._counters and not self._marks.highest("counter"):
            try:
                self._store(self._counters, self.signed_s)
                self._keep_ids(self._seen, self._open)
            except OSError:
                return

    def judge(self, key: str, counter: int, command: bytes, *, fresh: bool) -> int:
        """May this command be carried out, now, once? `fresh`: it carries this boot's nonce. A reason code; nothing is spent."""
        if command in self._seen:
            return reasons.REPLAY
        held = self._counters.get(key)
        if held is None:
            if self.damaged and not fresh:
                return reasons.WRONG_NONCE
            if len(self._counters) >= MOST_KEYS:
                return reasons.TOO_MANY
            return reasons.OK if counter <= MOST_LEAP else reasons.COUNTER_LEAP
        if counter <= held:
            return reasons.REPLAY
        return reasons.OK if counter - held <= MOST_LEAP else reasons.COUNTER_LEAP

    def spend(self, key: str, counter: int, command: bytes, *, issued_s: int, lasts_s: int, box_s: int, act: "tuple[int, str]") -> int:
        """Make both durable, with the act (action, app) that is now open; OK, or why not (then nothing may be done)."""
        self.forget(box_s)
        if len(self._seen) >= MOST_IDS:
            return reasons.TOO_MANY
        seen = {**self._seen, command: (box_s + min(max(lasts_s, 60), LONGEST_S), counter)}
        acts = {**dict([*self._open.items()][1 - MOST_OPEN :]), command: (*act, UNKNOWN)}
        counters = {**self._counters, key: max(counter, self._counters.get(key, 0))}
        try:
            self._keep_ids(seen, acts)
            self._store(counters, max(self.signed_s, issued_s))
        except OSError:
            return reasons.UNWRITABLE
        self._marks.say(f"counter {key} {counter}")
        return reasons.OK

    def _keep_ids(self, seen: "dict[bytes, tuple[int, int]]", acts: "dict[bytes, tuple[int, str, int]]") -> None:
        self._ids.store({"ids": [[k, until, n] for k, (until, n) in seen.items()], "open": [[k, *act] for k, act in acts.items()]})
        self._seen, self._open = seen, acts

    def open_acts(self) -> "dict[bytes, tuple[int, str, int]]":
        """Commands that were spent and whose end nobody has durably yet: (action, app, reason of the end or UNKNOWN)."""
        return dict(self._open)

    def knows(self, command: bytes) -> bool:
        """Whether this very command was spent before."""
        return command in self._seen

    def is_open(self, command: bytes) -> bool:
        """Whether the end of this command is still to be told, or to be confirmed."""
        return command in self._open

    def ended(self, command: bytes, reason: int) -> None:
        """How it ended; kept until `told`."""
        act = self._open.get(command)
        if act is not None and act[2] == UNKNOWN:
            self._change({**self._open, command: (act[0], act[1], reason)})

    def told(self, command: bytes) -> None:
        """Whoever follows has its end durably."""
        if command in self._open:
            self._change({k: act for k, act in self._open.items() if k != command})

    def _change(self, acts: "dict[bytes, tuple[int, str, int]]") -> None:
        try:
            self._keep_ids(self._seen, acts)
        except OSError:
            self._open = acts

    def _store(self, counters: "dict[str, int]", signed_s: int) -> None:
        self._record.store({"counters": counters, "trust": self.trust, "policy": self.policy, "signed": signed_s, "damaged": self.damaged})
        self._counters, self.signed_s = counters, signed_s

    def ratchet(self, *, trust: int = 0, policy: int = 0) -> bool:
        """Raise the highest trust or policy version seen; False when it could not be made durable (memory keeps it all the same)."""
        if trust <= self.trust and policy <= self.policy:
            return True
        self.trust, self.policy = max(trust, self.trust), max(policy, self.policy)
        self._marks.say(f"trust {self.trust}", f"policy {self.policy}")
        try:
            self._store(self._counters, self.signed_s)
        except OSError:
            return False
        return True

    def floor(self) -> int:
        """The highest counter used by any key: what a new token must lie above when its key's own is not known."""
        return max(self._counters.values(), default=0)

    def forget(self, box_s: int) -> None:
        """Drop ids whose commands have expired (in box time, which only runs slower than the world)."""
        self._seen = {k: v for k, v in self._seen.items() if v[0] > box_s}
