# SPDX-License-Identifier: Apache-2.0
"""The power goes at every single operation of the spool's medium: what was durable is there, exactly once, and nothing is invented."""

import pytest

from edgeheal.adapters.spool import Spool
from edgeheal.core.spooled import Standin, StandinKind
from edgeheal.lab.storage import CutDisk, PowerCutError

A, B = b"sessA.", b"sessB."
SMALL = {"size_bytes": 6 * 4096, "slot_bytes": 4096}


def told(standin: Standin) -> bytes:
    return b"standin:%d:%d" % (standin.kind, standin.count)


def open_spool(disk: CutDisk, session: bytes = A, says: list | None = None) -> Spool:
    return Spool(disk, (says if says is not None else []).append, session=session, encode=told, **SMALL)


def life(disk: CutDisk) -> tuple[set[int], set[int]]:
    """Puts and acknowledgements until the power goes; (seqs known durable, seqs that the fleet has)."""
    durable: set[int] = set()
    fleet: set[int] = set()
    try:
        spool = open_spool(disk)
        for n in range(60):
            critical = n % 3 == 0
            seq = spool.put(b"body %d " % n + bytes(120), severity=n % 4, fingerprint=n.to_bytes(8, "big"), critical=critical)
            if critical:
                durable |= set(range(1, seq + 1))
            if n % 7 == 6:
                for session, got, body in spool.pending(5):
                    assert session == A
                    assert body.startswith((b"body", b"standin"))
                    fleet.add(got)
                upto = next(i for i in range(1, 1000) if i not in fleet) - 1
                spool.stored(A, upto, tuple(sorted(s for s in fleet if s > upto)))
            disk.ready(-1, 0)
    except PowerCutError:
        pass
    return durable, fleet


def covered(spool: Spool) -> set[int]:
    """What others speak for; not what is only told as lost."""
    told = [s for s in spool._index.standins.values() if s.kind is not StandinKind.LOST]
    return {seq for standin in told for span in standin.ranges if span.session == A for seq in range(span.first, span.last + 1)}


def total_ops() -> int:
    disk = CutDisk()
    life(disk)
    return disk.ops


@pytest.mark.parametrize("seed", [0, -1, 1, 2, 3])
def test_a_cut_at_any_operation_loses_no_durable_record_and_sends_none_that_was_not_put(seed: int) -> None:
    for cut_at in range(1, total_ops() + 1):
        disk = CutDisk(cut_at=cut_at)
        durable, fleet = life(disk)
        again = CutDisk(disk.remains(seed))
        spool = open_spool(again, B)
        sent = spool.pending(1000)
        keys = [(s, q) for s, q, _ in sent]
        assert len(keys) == len(set(keys)), cut_at
        here = {q for s, q, _ in sent if s == A}
        missing = durable - fleet - here - covered(spool)
        assert not missing, (cut_at, missing)
        for session, seq, body in sent:
            if session == A and body.startswith(b"body"):
                assert body.startswith(b"body %d " % (seq - 1)) or seq > 60, (cut_at, seq)


def test_a_cut_while_the_full_spool_makes_room_loses_nothing_without_naming_it() -> None:
    def fill(disk: CutDisk) -> set[int]:
        durable: set[int] = set()
        try:
            spool = open_spool(disk)
            for n in range(170):
                seq = spool.put(bytes(100), severity=n % 3, fingerprint=(n % 5 + 1).to_bytes(8, "big") if n % 2 else b"", critical=n % 10 == 0, at_s=n)
                if n % 10 == 0:
                    durable |= set(range(1, seq + 1))
        except PowerCutError:
            pass
        return durable

    whole = CutDisk()
    fill(whole)
    kinds = {s.kind for s in open_spool(CutDisk(whole.remains()), B)._index.standins.values()}
    assert StandinKind.FOLDED in kinds or StandinKind.DROPPED in kinds
    for cut_at in range(20, whole.ops + 1, 3):
        for seed in (0, cut_at):
            disk = CutDisk(cut_at=cut_at)
            durable = fill(disk)
            spool = open_spool(CutDisk(disk.remains(seed)), B)
            here = {q for s, q, _ in spool.pending(10_000) if s == A}
            assert not durable - here - covered(spool), cut_at


def test_a_cut_while_segments_are_freed_tells_of_no_loss_that_was_none() -> None:
    def drain(disk: CutDisk) -> None:
        try:
            spool = open_spool(disk)
            for n in range(1, 140):
                spool.put(bytes(100), severity=1, fingerprint=b"", critical=True)
                if n % 20 == 0:
                    spool.stored(A, n, ())
                    disk.ready(-1, 0)
        except PowerCutError:
            pass

    whole = CutDisk()
    drain(whole)
    assert open_spool(CutDisk(whole.remains()), B)._segments.numbers[0] > 1
    for cut_at in range(1, whole.ops + 1):
        for seed in (0, cut_at):
            disk = CutDisk(cut_at=cut_at)
            drain(disk)
            spool = open_spool(CutDisk(disk.remains(seed)), B)
            assert not spool._index.standins, (cut_at, seed, spool._index.standins)
