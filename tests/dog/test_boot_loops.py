# SPDX-License-Identifier: Apache-2.0
"""A boot loop is answered: the youngest image goes back, then the OS hook, then safe mode; never another reboot, and never for want of power."""

from dataclasses import replace

import pytest

from edgeheal.core import deployment as dep
from edgeheal.core import reasons
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import CauseKind, IncidentState, Mode, Need, RemedyKind, SymptomKind
from edgeheal.core.policy import Policy
from edgeheal.engine import snapshot
from edgeheal.engine.state import initial
from edgeheal.lab.device import Device, Image

R = RemedyKind
ANSWERS = (Verb.ROLLBACK, Verb.GIVE_UP_TRIAL, Verb.OS_ROLLBACK, Verb.SAFE_MODE, Verb.REBOOT, Verb.HOOK)
BITS = {Verb.ROLLBACK: 1, Verb.GIVE_UP_TRIAL: 1, Verb.OS_ROLLBACK: 2, Verb.SAFE_MODE: 4}


def policy(*, hooks=("os-rollback", "safe-mode"), os=Mode.ACT, safe=Mode.ACT):
    base = Policy()
    modes = {R.OS_ROLLBACK: replace(base.remedy(R.OS_ROLLBACK), mode=os), R.SAFE_MODE: replace(base.remedy(R.SAFE_MODE), mode=safe)}
    return replace(base, hooks=hooks, remedies=base.remedies | modes)


class Looping:
    """A simulated box whose guard counts its boots and remembers the answers."""

    def __init__(self, how=None, *, suspect="app"):
        self.device = Device([AppSpec("app")], how or policy())
        self.device.apps["app"].images.append(Image("img2", dep.GOOD))
        self.device.apps["app"].running = "img2"
        self.device._deployments("app")
        self.device.start_all(30.0)
        self.n = 0
        self.suspect = suspect

    def boot(self, times=1, reason="panic"):
        for _ in range(times):
            self.n += 1
            answers = 0
            for act in self.acts():
                answers |= BITS.get(act, 0)
            self.device.reboot(reason=reason, unplanned=self.n, answers=answers, suspect=self.suspect if self.n >= 3 else "")
            self.device.run(20.0)
        return self

    def acts(self):
        return [act.verb for act in self.device.acts(*ANSWERS)]

    def loop(self):
        return next(i for i in self.device.open() if i.symptom is SymptomKind.BOOT_LOOP)


def test_two_boots_are_no_loop_and_the_third_sends_the_youngest_image_back():
    box = Looping().boot(2)
    assert box.acts() == []
    box.boot()
    assert box.acts() == [Verb.ROLLBACK]
    assert box.device.apps["app"].running == "img1"
    assert box.loop().state is IncidentState.VERIFYING


def test_each_further_boot_is_answered_more_strongly_and_never_by_a_reboot():
    box = Looping().boot(3)
    for more in ([Verb.OS_ROLLBACK], [Verb.SAFE_MODE], [], []):
        before = box.acts()
        box.boot()
        assert box.acts() == [*before, *more]
    assert Verb.REBOOT not in box.acts()
    assert box.loop().state is IncidentState.ESCALATED
    assert box.loop().need is not Need.NOTHING


def test_the_answers_go_on_although_the_agent_forgot_everything():
    """A box that dies after a minute may never have written a snapshot: what the guard remembers is enough."""
    box = Looping().boot(4)
    assert box.acts() == [Verb.ROLLBACK, Verb.OS_ROLLBACK]
    fresh = initial(1, b"\0lab\0\2")
    box.device.state = replace(fresh, policy=box.device.state.policy, catalog=box.device.state.catalog)
    box.boot()
    assert box.acts() == [Verb.ROLLBACK, Verb.OS_ROLLBACK, Verb.SAFE_MODE]


def test_the_state_survives_its_snapshot_in_the_middle_of_a_loop():
    box = Looping().boot(3)
    plain = snapshot.to_plain(box.device.state)
    assert snapshot.to_plain(snapshot.from_plain(plain)) == plain


def test_a_box_that_stays_up_is_healed_and_its_rollback_was_the_cure():
    box = Looping().boot(3)
    box.device.run(3_600 + 900)
    assert [i.symptom for i in box.device.open()] == []
    closed = [i for i in box.device.closed() if i.symptom is SymptomKind.BOOT_LOOP]
    assert [(t.kind, t.outcome.name) for t in closed[-1].tried] == [(R.ROLLBACK, "CURED")]


def test_what_is_not_there_or_not_enabled_is_passed_over():
    assert Looping(suspect="").boot(3).acts() == [Verb.OS_ROLLBACK]
    assert Looping(policy(hooks=("safe-mode",)), suspect="").boot(3).acts() == [Verb.SAFE_MODE]
    assert Looping(policy(os=Mode.OBSERVE), suspect="").boot(3).acts() == [Verb.SAFE_MODE]
    box = Looping(policy(hooks=()), suspect="").boot(3)
    assert box.acts() == []
    assert box.loop().state is IncidentState.ESCALATED


def test_safe_mode_may_be_asked_for_first():
    box = Looping(policy(hooks=("safe-mode",), safe=Mode.ASK), suspect="").boot(3)
    assert box.acts() == []
    assert (box.loop().state, box.loop().planned) == (IncidentState.AWAITING_APPROVAL, R.SAFE_MODE)


@pytest.mark.parametrize("reason", ["power loss", "brown-out"])
def test_a_box_that_loses_its_power_is_not_answered_a_person_is_called(reason):
    box = Looping().boot(4, reason)
    assert box.acts() == []
    assert box.loop().causes[0].kind in (CauseKind.POWER_LOSS, CauseKind.SUPPLY)
    assert box.loop().state is IncidentState.ESCALATED


def test_a_mode_that_only_observes_says_what_it_would_do():
    box = Looping(replace(policy(), mode=Mode.OBSERVE)).boot(3)
    assert box.acts() == []
    assert [t.kind for t in box.loop().tried] == [R.ROLLBACK]


def test_a_refused_rollback_moves_up():
    box = Looping()
    box.device.refuse[Verb.ROLLBACK] = reasons.BUDGET_SPENT
    box.boot(3)
    assert box.acts() == [Verb.ROLLBACK, Verb.OS_ROLLBACK]


def test_boots_far_apart_are_no_loop():
    device = Device([AppSpec("app")])
    device.start_all()
    for _ in range(6):
        device.run(2_000)
        device.reboot(reason="panic")
    assert {i.symptom for i in (*device.open(), *device.closed())} == {SymptomKind.UNPLANNED_BOOT}


@pytest.mark.parametrize(
    ("reason", "symptom", "cause"),
    [
        ("watchdog", SymptomKind.WATCHDOG, CauseKind.WATCHDOG),
        ("panic", SymptomKind.UNPLANNED_BOOT, CauseKind.KERNEL),
        ("power loss", SymptomKind.UNPLANNED_BOOT, CauseKind.POWER_LOSS),
        ("brown-out", SymptomKind.UNPLANNED_BOOT, CauseKind.SUPPLY),
        ("thermal", SymptomKind.UNPLANNED_BOOT, CauseKind.THERMAL),
    ],
)
def test_the_verdict_names_the_first_cause(reason, symptom, cause):
    device = Device([AppSpec("app")])
    device.start_all()
    device.reboot(reason=reason)
    assert [(i.symptom, i.causes[0].kind) for i in device.reports[:1]] == [(symptom, cause)]


def test_a_reboot_that_somebody_ordered_is_no_incident():
    device = Device([AppSpec("app")])
    device.start_all()
    device.reboot(reason="ordered", ordered="7")
    device.reboot(reason="ordered", clean=True)
    assert device.reports == []


def test_the_same_boot_told_again_is_not_judged_again():
    from edgeheal.core import signal as sig

    box = Looping().boot(3)
    before = box.acts()
    box.device.tell(sig.Booted(box.device.boot, 9, (("panic", 900),), unplanned=3, suspect="app"))
    box.device.run(60)
    assert box.acts() == before
