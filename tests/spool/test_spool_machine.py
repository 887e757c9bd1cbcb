# SPDX-License-Identifier: Apache-2.0
"""The spool as a random machine: puts, acknowledgements lost and found, breaks, bad nights, cuts and restarts in any order.

The fleet's store is the witness: what was durable is stored or accounted for, nothing is in it twice, and nothing is invented.
"""

import errno
import sys
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

sys.path.insert(0, str(Path(__file__).parent))
from spool_fleet import Fleet, open_spool, tick

from edgeheal.core import reasons
from edgeheal.lab.storage import CutDisk


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.disk = CutDisk()
        self.fleet = Fleet()
        self.bodies: dict[tuple[bytes, int], bytes] = {}
        self.durable: set[tuple[bytes, int]] = set()
        self.aside: set[tuple[bytes, int]] = set()
        self.sessions = 0
        self.open()

    def open(self) -> None:
        self.sessions += 1
        self.session = b"s%05d" % self.sessions
        self.spool = open_spool(self.disk, self.session, slots=7)

    def safe(self) -> bool:
        return self.disk.fails == 0 and self.disk.sync_fails == 0 and not self.spool.dark

    @rule(
        count=st.integers(1, 30),
        severity=st.integers(0, 3),
        print_=st.integers(0, 3),
        incident=st.integers(0, 3),
        critical=st.booleans(),
        size=st.integers(0, 400),
    )
    def put(self, count: int, severity: int, print_: int, incident: int, critical: bool, size: int) -> None:
        for _ in range(count):
            fingerprint = bytes([print_]) * 8 if print_ else b""
            body = b"%06d" % len(self.bodies) + bytes(size)
            seq = self.spool.put(body, severity=severity, fingerprint=fingerprint, critical=critical, incident=incident, at_s=7)
            self.bodies[self.session, seq] = body
            if critical and self.safe():
                self.durable |= {key for key in self.bodies if key[0] == self.session}

    @rule(most=st.integers(1, 60), told=st.booleans())
    def send(self, most: int, told: bool) -> None:
        for session, seq, body in self.spool.pending(most):
            mine = self.bodies.get((session, seq))
            assert body == mine or (session, seq) in self.spool._index.standins
        self.fleet.take(self.spool, most)
        if told:
            for session in {s for s, _ in self.fleet.rows}:
                self.fleet.acknowledge(self.spool, session)

    @rule()
    def refuse(self) -> None:
        for session, seq, _ in self.spool.pending(1):
            if (session, seq) not in self.spool._index.standins and not self.aside:
                self.spool.refused(session, seq, reasons.NOT_ALLOWED)
                self.aside.add((session, seq))

    @rule(most=st.integers(1, 5))
    def breaks(self, most: int) -> None:
        keys = [(s, q) for s, q, _ in self.spool.pending(most)]
        if len(keys) > 1:
            self.spool.broke(keys)
            for key in keys:
                self.spool.passed(*key)

    @rule(code=st.sampled_from([0, 0, 0, errno.ENOSPC, errno.EROFS]))
    def night(self, code: int) -> None:
        self.disk.fails = code

    @rule()
    def turn(self) -> None:
        tick(self.spool, self.disk)

    @rule(seed=st.integers(-1, 6))
    def cut(self, seed: int) -> None:
        self.disk = CutDisk(self.disk.remains(seed))
        self.open()

    @rule()
    def restart(self) -> None:
        self.disk.fails = 0
        tick(self.spool, self.disk)
        assert self.spool.settle()
        self.durable |= {key for key in self.bodies if key[0] == self.session and self.spool._index.find(*key) >= 0}
        self.disk = CutDisk(self.disk.remains(0))
        self.open()

    @invariant()
    def bounded(self) -> None:
        assert sum(size for name, size in self.disk.names("spool").items() if name.endswith(".seg")) <= 7 * 4096

    def teardown(self) -> None:
        """In the end the link is well again: everything that was durable is accounted for."""
        self.disk.fails = 0
        for _ in range(3):
            tick(self.spool, self.disk)
        self.fleet.drain(self.spool)
        tick(self.spool, self.disk)
        self.fleet.drain(self.spool)
        assert self.spool.depth()[0] == 0
        missing = self.durable - set(self.fleet.rows) - self.fleet.spoken_for - self.aside
        assert not missing, sorted(missing)[:5]
        assert not self.durable & self.fleet.lost, sorted(self.durable & self.fleet.lost)[:5]
        for key, body in self.fleet.rows.items():
            assert body.startswith(b"standin") or self.bodies[key] == body


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
