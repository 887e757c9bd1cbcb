# SPDX-License-Identifier: Apache-2.0
"""What the spool's tests share: a small spool over a disk in memory, and a fleet that stores what it is sent, once."""

from edgeheal.adapters.spool import Spool
from edgeheal.core.spooled import Standin, StandinKind
from edgeheal.lab.storage import CutDisk

A, B, C = b"sessA.", b"sessB.", b"sessC."


def told(standin: Standin) -> bytes:
    return b"standin:%d:%d" % (standin.kind, standin.count)


def open_spool(disk, session: bytes = A, says: list | None = None, *, slots: int = 8, slot_bytes: int = 4096) -> Spool:
    emit = (says if says is not None else []).append
    return Spool(disk, emit, session=session, encode=told, size_bytes=slots * slot_bytes, slot_bytes=slot_bytes)


def tick(spool: Spool, disk: CutDisk) -> None:
    """Everything that is due, whenever that is."""
    for _ in range(4):
        spool.tick(max(spool.due(), spool._commit.due()))
        disk.ready(-1, 0)


class Fleet:
    """Insert or ignore by (session, seq); what a stand-in names counts as accounted for."""

    def __init__(self) -> None:
        self.rows: dict[tuple[bytes, int], bytes] = {}
        self.spoken_for: set[tuple[bytes, int]] = set()
        self.lost: set[tuple[bytes, int]] = set()

    def take(self, spool: Spool, most: int = 1000) -> int:
        sent = spool.pending(most)
        for session, seq, body in sent:
            standin = spool._index.standins.get((session, seq))
            if standin is not None:
                named = {(s.session, q) for s in standin.ranges for q in range(s.first, s.last + 1)}
                self.spoken_for |= named
                self.lost |= named if standin.kind is StandinKind.LOST else set()
            self.rows.setdefault((session, seq), body)
        return len(sent)

    def acknowledge(self, spool: Spool, session: bytes) -> None:
        known = {q for s, q in (*self.rows, *self.spoken_for) if s == session}
        upto = 0
        while upto + 1 in known:
            upto += 1
        spool.stored(session, upto, tuple(sorted(q for q in known if q > upto)))

    def drain(self, spool: Spool, most: int = 20) -> None:
        for _ in range(10_000):
            if not self.take(spool, most):
                return
            for session in {s for s, _ in self.rows}:
                self.acknowledge(spool, session)
