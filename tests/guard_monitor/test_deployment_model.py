# SPDX-License-Identifier: Apache-2.0
"""The deployment table as a random model, on the real records on disk, against its invariants (safety.md section 7)."""

import shutil
import tempfile

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgeheal.core import deployment as table
from edgeheal.core.deployment import BAD, EMPTY, GOOD, TRIAL, UNKNOWN, WRITTEN
from edgeheal.guard import appstate
from edgeheal.guard.appstate import Deployment
from edgeheal.guard.deployments import FOUND, Deployments
from edgeheal.guard.marks import Marks
from edgeheal.guard.steps import Refused

IDS = [bytes([n]) * 32 for n in range(1, 8)]
images = st.sampled_from(IDS)


class Life(RuleBasedStateMachine):
    """One app's images, their moves in any order, the guard killed and started again in between."""

    @initialize()
    def begin(self):
        self.folder = tempfile.mkdtemp(prefix="model")
        self.marks = Marks(self.folder)
        self.floor = (0, 0)
        self.revoked, self.called, self.last_moves = set(), False, []
        self.load()

    def load(self):
        self.app = Deployments("demo", self.folder, self.marks, lambda app, one, event: self.last_moves.append((one.id, one.state, event)))
        self.found = self.app.load()

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def do(self, act, *words, **more):
        before = self.app.state.pack()
        try:
            move = act(*words, **more)
        except Refused as refused:
            if self.app.state.pack() != before:
                raise AssertionError(f"refused ({refused.message}) and yet changed") from refused
            return None
        if getattr(move, "hold", False):
            self.called = True
        elif self.app.state.running is not None and not self.app.state.held[0]:
            self.called = False
        return move

    @rule(image=images, security=st.integers(1, 4))
    def written(self, image, security):
        one = Deployment(image, f"v{image[0]}", image[::-1][:31] + b"d")
        one.security, one.trust = security, 1
        held = self.app.state.deployments.get(image)
        if held is not None:
            one.security = held.security
        if image in self.revoked:
            return  # admission stands before the table
        self.do(self.app.written, one)

    @rule(image=images, soak=st.integers(1, 100))
    def try_(self, image, soak):
        if self.do(self.app.try_, image, data=1, soak_s=soak):
            assert self.app.state.run == image

    @rule(image=images, least=st.integers(0, 4))
    def soaked(self, image, least):
        one = self.app.state.deployments.get(image)
        floor = (0, min(least, one.security)) if one else (0, 0)
        was = one.state if one else EMPTY
        self.do(self.app.soaked, image, floor)
        if one and was == TRIAL:
            assert self.app.state.deployments[image].state == GOOD

    @rule(image=images, security=st.integers(1, 4), least=st.integers(0, 4))
    def lives_well(self, image, security, least):
        self.written(image, security)
        self.try_(image, 10)
        self.soaked(image, least)

    @rule(image=images)
    def what_runs_fails(self, image):
        if self.app.state.run:
            self.failed(self.app.state.run)

    @rule(image=images)
    def what_runs_is_given_up(self, image):
        running = self.app.state.running
        if running is not None:
            was = running.state
            if self.do(self.app.given_up, running.id) and was == GOOD:
                assert self.app.state.running.security >= running.security, "by itself never to a lower counter"

    @rule(image=images)
    def failed(self, image):
        one = self.app.state.deployments.get(image)
        was, ran = (one.state, one.id == self.app.state.run) if one else (EMPTY, False)
        move = self.do(self.app.failed_here, image)
        if move and was == TRIAL:
            assert self.app.state.is_blocked(image, b"")
        if move and was == GOOD and ran:
            assert self.app.state.running.security >= one.security, "by itself never to a lower counter"

    @rule(image=images, lower=st.booleans())
    def given_up(self, image, lower):
        blocked = list(self.app.state.blocked)
        self.do(self.app.given_up, image, lower=lower)
        assert self.app.state.blocked == blocked, "giving up blocks nothing"

    @rule(image=images, keep=st.booleans())
    def revoke(self, image, keep):
        if self.do(self.app.revoked, image, keep=keep):
            self.revoked.add(image)

    @rule(image=images)
    def allow(self, image):
        self.do(self.app.allow, image)

    @rule(image=images)
    def drop(self, image):
        last = [d.id for d in self.app.state.good()]
        anchor = self.app.state.anchor()
        if self.do(self.app.drop, image):
            assert last != [image], "the last known good was dropped"
            assert anchor is None or anchor.id != image

    @rule(image=images)
    def differs(self, image):
        self.do(self.app.differs, image)

    @rule(image=images)
    def proven(self, image):
        one = self.app.state.deployments.get(image)
        was = (one.state, one.was) if one else None
        self.do(self.app.proven, image)
        if was and was[0] == UNKNOWN:
            assert self.app.state.deployments[image].state == was[1]

    @rule(image=images, lower=st.booleans())
    def switch(self, image, lower):
        current = self.app.state.running
        if self.do(self.app.switch, image, lower=lower) and current is not None and current.state == GOOD and not lower:
            assert self.app.state.running.security >= current.security

    @rule(image=images, seconds=st.integers(0, 700_000))
    def serves(self, image, seconds):
        if image == self.app.state.run:
            self.app.ran(image, served_s=seconds)
            assert self.app.keep()

    @rule()
    def killed_and_started(self):
        before = self.app.state.pack()
        self.load()
        if before["deployments"] or self.found == FOUND:
            assert self.app.state.pack() == before

    @precondition(lambda self: self.app.state.before in self.app.state.deployments and self.app.state.deployments[self.app.state.before].state == GOOD)
    @rule()
    def undo_returns_to_what_ran(self):
        goes, was = self.app.state.before, self.app.state.run
        if self.do(self.app.switch, goes, lower=True):
            assert self.app.state.run == goes
            assert self.app.state.before == was or was not in self.app.state.deployments

    @invariant()
    def holds(self):
        state = self.app.state
        assert state.floor >= self.floor, "the floor fell"
        self.floor = state.floor
        running = state.running
        if running is not None and running.state == BAD:
            assert state.held[0] or running.reason == table.R_REVOKED, "a BAD one runs and nobody was called"
        for image in self.revoked:
            one = state.deployments.get(image)
            assert one is None or one.state in (BAD, EMPTY, UNKNOWN)
            assert state.is_blocked(image, b"")
        admitted = [d for d in state.deployments.values() if d.state in (GOOD, TRIAL)]
        if admitted and state.run not in state.deployments:
            raise AssertionError("something admitted is installed and nothing is to run")
        assert len([d for d in state.deployments.values() if d.state == TRIAL]) <= 1
        assert all(d.id == state.run for d in state.deployments.values() if d.state == TRIAL), "a trial that does not run"
        assert len(state.deployments) <= appstate.MOST_DEPLOYMENTS
        assert len(state.blocked) <= appstate.MOST_BLOCKED
        assert not any(d.state == WRITTEN and d.id == state.run and not state.held[0] for d in state.deployments.values())


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_largest_state_still_fits_its_block(tmp_path):
    app = Deployments("a" * 32, str(tmp_path), Marks(str(tmp_path)), lambda *_: None)
    state = appstate.AppState("a" * 32)
    for n in range(16):
        one = Deployment(bytes([n]) * 32, "v" * 64, bytes([n + 100]) * 32)
        for name in appstate.INTS:
            setattr(one, name, 2**62)
        one.state = one.was = GOOD
        state.deployments[one.id] = one
    state.run = state.before = state.spare = bytes(32)
    state.blocked = [(bytes([n]) * 32, 2) for n in range(64)]
    state.warrants = [(bytes([n]) * 32, 2**62, bytes(16)) for n in range(4)]
    app.commit(state)
    again = Deployments("a" * 32, str(tmp_path), Marks(str(tmp_path)), lambda *_: None)
    assert again.load() == FOUND
    assert again.state.pack() == state.pack()


def test_a_revoked_block_is_never_pushed_out_by_failed_ones():
    state = appstate.AppState("demo")
    taken = Deployment(b"r" * 32, "", b"R" * 32)
    state.block(taken, table.R_REVOKED)
    for n in range(200):
        state.block(Deployment(n.to_bytes(32, "big"), "", (n + 1000).to_bytes(32, "big")), table.R_FAILED)
    assert state.is_blocked(taken.id, b"")
    assert state.is_blocked(b"", taken.digest)
    assert state.is_blocked((199).to_bytes(32, "big"), b"")
    assert not state.is_blocked((0).to_bytes(32, "big"), b"")
