# SPDX-License-Identifier: Apache-2.0
"""What this device learned of its faults: when each fingerprint came, how often each remedy ended it, what was withdrawn.

Duty: numeric memory, updated in place by its one owner (the engine) and part of its snapshot.
Invariants: bounded (`PRINTS_MOST` fingerprints, the one not seen longest leaves first); box time, so it lives across boots;
an outcome fades (half after `HALF_S`), so that a device that changed is judged by what it is now.
"""

from dataclasses import dataclass, field

from edgeheal.core.kinds import RemedyKind

PRINTS_MOST = 256
SEEN_MOST = 32
WINDOW_S = 604_800
HALF_S = 30 * 86_400
WITHDRAWN_S = 7 * 86_400


@dataclass(slots=True)
class Record:
    """One fingerprint: box seconds of its incidents; remedy -> [wins, losses, box second of the last]; remedy -> withdrawn until;
    remedy -> how often in a row it was back much sooner after this remedy than it came before.
    """

    seen: list[int] = field(default_factory=list)
    outcomes: dict[RemedyKind, list[float]] = field(default_factory=dict)
    withdrawn: dict[RemedyKind, int] = field(default_factory=dict)
    sooner: dict[RemedyKind, int] = field(default_factory=dict)
    closed_s: int = 0
    cured_by: int = -1


@dataclass(slots=True)
class Learned:
    """`prints`: fingerprint in hex -> record."""

    prints: dict[str, Record] = field(default_factory=dict)

    def _at(self, fingerprint: bytes) -> Record:
        name = fingerprint.hex()
        record = self.prints.pop(name, None) or Record()
        self.prints[name] = record
        while len(self.prints) > PRINTS_MOST:
            del self.prints[next(iter(self.prints))]
        return record

    def came(self, fingerprint: bytes, box_s: int) -> int:
        """An incident of this fingerprint opens; how many there were in the last 7 days, this one included."""
        record = self._at(fingerprint)
        record.seen = [*[t for t in record.seen if t > box_s - WINDOW_S][-(SEEN_MOST - 1) :], box_s]
        return len(record.seen)

    def closed(self, fingerprint: bytes, box_s: int, cured_by: int) -> None:
        """It was resolved, by this remedy (-1: by none)."""
        record = self._at(fingerprint)
        record.closed_s, record.cured_by = box_s, cured_by

    def back_after_s(self, fingerprint: bytes, box_s: int) -> int:
        """Seconds since it was last resolved; -1 when it never was."""
        record = self.prints.get(fingerprint.hex())
        return -1 if record is None or not record.closed_s else max(0, box_s - record.closed_s)

    def outcome(self, fingerprint: bytes, remedy: RemedyKind, *, won: bool, box_s: int) -> None:
        """A remedy ended it, or did not."""
        record = self._at(fingerprint)
        wins, losses, last = record.outcomes.get(remedy, [0.0, 0.0, float(box_s)])
        fade = 0.5 ** (max(0.0, box_s - last) / HALF_S)
        record.outcomes[remedy] = [wins * fade + won, losses * fade + (not won), float(box_s)]

    def tries(self, fingerprint: bytes, remedy: RemedyKind) -> tuple[float, float]:
        """(wins, losses) of this remedy against this fingerprint."""
        record = self.prints.get(fingerprint.hex())
        if record is None or remedy not in record.outcomes:
            return (0.0, 0.0)
        wins, losses, _ = record.outcomes[remedy]
        return (wins, losses)

    def was_back(self, fingerprint: bytes, remedy: RemedyKind, *, sooner: bool) -> int:
        """It was back after this remedy; how often in a row it was so much sooner than without."""
        record = self._at(fingerprint)
        record.sooner[remedy] = record.sooner.get(remedy, 0) + 1 if sooner else 0
        return record.sooner[remedy]

    def withdraw(self, fingerprint: bytes, remedy: RemedyKind, box_s: int) -> None:
        """It got worse after this remedy: not used against this fingerprint for a week."""
        self._at(fingerprint).withdrawn[remedy] = box_s + WITHDRAWN_S

    def is_withdrawn(self, fingerprint: bytes, remedy: RemedyKind, box_s: int) -> bool:
        """Whether it is."""
        record = self.prints.get(fingerprint.hex())
        return record is not None and record.withdrawn.get(remedy, 0) > box_s
