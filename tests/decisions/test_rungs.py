# SPDX-License-Identifier: Apache-2.0
"""Preconditions and order of the rungs, one by one."""

from dataclasses import replace

import pytest

from edgeheal.core import deployment as dep
from edgeheal.core import reasons
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec, NeedSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import Mode, Outcome, RemedyKind, SymptomKind
from edgeheal.core.policy import Policy
from edgeheal.lab.device import Behaviour, Device, Image
from edgeheal.recover.app import App, Deployed
from edgeheal.recover.ladder import Stand, hinders

R, O = RemedyKind, Outcome
GOOD = (Deployed("img0", "0", dep.GOOD), Deployed("img1", "1", dep.GOOD, running=True))
WELL = App("a", up=True, ready=True, image="img1", image_state=dep.GOOD, deployments=GOOD, config_differs=True)
SPEC = AppSpec("a", can_reload=True, has_config=True)
STAND = Stand(WELL, SPEC, Policy(hooks=("power-cycle",)), ("b",))

CASES = [
    (R.RELOAD, {}, {}, {}, reasons.OK),
    (R.RELOAD, {}, {"can_reload": False}, {}, reasons.NO_RELOAD),
    (R.RELOAD, {"ready": False}, {}, {}, reasons.NOT_READY),
    (R.RESTART, {}, {}, {}, reasons.OK),
    (R.RESTART, {"stuck": True}, {}, {}, reasons.UNKILLABLE),
    (R.CLEAN_RESTART, {"stuck": True}, {}, {}, reasons.UNKILLABLE),
    (R.RESTART_GROUP, {}, {}, {}, reasons.OK),
    (R.RESTART_GROUP, {}, {}, {"dependents": ()}, reasons.NOTHING_TO_DO),
    (R.RESTORE_CONFIG, {}, {}, {}, reasons.OK),
    (R.RESTORE_CONFIG, {"config_differs": False}, {}, {}, reasons.NOTHING_TO_DO),
    (R.RESTORE_CONFIG, {"stuck": True}, {}, {}, reasons.UNKILLABLE),
    (R.ROLLBACK, {}, {}, {}, reasons.OK),
    (R.ROLLBACK, {}, {}, {"rolled_back": True}, reasons.ALREADY),
    (R.ROLLBACK, {"deployments": GOOD[1:]}, {}, {}, reasons.LAST_GOOD),
    (R.ROLLBACK, {"deployments": (replace(GOOD[0], state=dep.WRITTEN), GOOD[1])}, {}, {}, reasons.LAST_GOOD),
    (R.ROLLBACK, {}, {"downgrade": "no"}, {}, reasons.SCHEMA),
    (R.ROLLBACK, {"image_state": dep.TRIAL}, {"downgrade": "no"}, {}, reasons.OK),
    (R.ROLLBACK, {"removed": True}, {}, {}, reasons.NO_SUCH_APP),
    (R.POWER_CYCLE, {"stuck": True}, {}, {}, reasons.OK),
    (R.POWER_CYCLE, {}, {}, {"policy": Policy()}, reasons.NOT_CONFIGURED),
    (R.REBOOT, {"stuck": True}, {}, {}, reasons.OK),
]


@pytest.mark.parametrize(("remedy", "app", "spec", "stand", "reason"), CASES)
def test_each_rung_names_what_stands_in_its_way(remedy, app, spec, stand, reason):
    assert hinders(remedy, replace(STAND, app=replace(WELL, **app), spec=replace(SPEC, **spec), **stand)) == reason


def test_what_runs_is_not_the_other_good_one():
    assert WELL.other_good().image == "img0"
    assert replace(WELL, deployments=GOOD[1:]).other_good() is None
    assert replace(WELL, image="", deployments=GOOD[1:]).other_good() is None


def test_a_milder_rung_is_never_used_again_though_its_budget_would_allow():
    policy = Policy()
    rungs = {k: replace(r, budgets=()) for k, r in policy.remedies.items()}
    device = Device([AppSpec("a")], replace(policy, remedies=rungs, backoff_cap_s=2.0))
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=0.5)
    device.start_all()
    device.run(900)
    used = [d.args[0] for d in device.words("act")]
    assert used == sorted(used)
    assert R.CLEAN_RESTART in used


def test_ordered_ends_count_for_no_back_off():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    for _ in range(4):
        run = device.apps["a"].run
        device.apps["a"].run += 1
        device.tell(sig.AppExited("a", run, None, 15, ordered=True, lived_ms=1_000))
        device.tell(sig.AppStarted("a", run + 1, 7, 2, "img1", dep.GOOD))
        device.tell(sig.AppReady("a", run + 1))
        device.run(1)
    before = device.at
    device.kill("a", 11)
    device.run(1)
    assert device.apps["a"].starts[-1] - before < 0.1


def test_a_grave_act_in_doubt_is_not_repeated_in_its_incident():
    policy = Policy(hooks=("power-cycle",))
    rungs = {**policy.remedies, R.POWER_CYCLE: replace(policy.remedies[R.POWER_CYCLE], mode=Mode.ACT)}
    device = Device([AppSpec("a")], replace(policy, remedies=rungs))
    device.start_all()
    device.mute = {Verb.HOOK}
    device.tell(sig.HostSample("mount_silent_s:data", 30))
    (act,) = device.acts(Verb.HOOK)
    device.tell(sig.ActEnded(act.number, reason=reasons.IN_DOUBT, doubt=True))
    device.run(2 * 86_400)
    assert len(device.acts(Verb.HOOK)) == 1
    assert device.acts(Verb.LOOK)
    device.tell(sig.HostSample("mount_silent_s:data", 0))
    device.run(700)
    assert (R.POWER_CYCLE, O.IN_DOUBT) in [(t.kind, t.outcome) for t in device.closed()[0].tried]


def test_the_one_that_waits_is_started_as_soon_as_what_it_needs_is_ready():
    device = Device([AppSpec("db"), AppSpec("web", needs=(NeedSpec("app", "db"),))])
    device.start_all()
    device.run(100)
    device.apps["db"].images[0].behaviour = Behaviour(ready_s=20)
    device.kill("db")
    device.run(0.2)
    device.kill("web", 6)
    device.until(lambda: device.apps["db"].ready, 60, 0.01)
    ready = device.at
    device.run(1)
    assert abs(device.apps["web"].starts[-1] - ready) < 0.1


def test_a_sensor_that_is_back_must_stay_back_for_its_own_while():
    metric = MetricSpec("t", every_ms=1_000, stuck_ms=8_000)
    device = Device([AppSpec("a", metrics=(metric,))], Policy(start_grace_s=2))
    device.apps["a"].images[0].behaviour = Behaviour(sensors={"t": lambda age: 20.0 if 30 < age < 60 else age})
    device.start_all()
    device.run(60)
    assert [i.symptom for i in device.open()] == [SymptomKind.SENSOR_STUCK]
    device.run(5)
    assert device.open()
    device.run(6)
    assert device.open() == []
    assert device.acts() == [], "readings that come are a sign of life: no restart, with nothing else to go by"


@pytest.mark.parametrize("value", [lambda age: age if age < 40 else None, lambda age: age if age < 40 else 21.5, lambda age: age if age < 40 else 999.0])
def test_no_restart_for_the_only_sensor_of_an_app_that_tells_nothing_else(value):
    metric = MetricSpec("t", every_ms=1_000, stuck_ms=5_000, low=-40, high=125)
    device = Device([AppSpec("a", metrics=(metric,))], Policy(start_grace_s=2))
    device.apps["a"].images = [Image("img0", dep.GOOD), Image("img1", dep.GOOD, Behaviour(sensors={"t": value}))]
    device._deployments("a")
    device.start_all()
    device.run(2 * 3_600)
    assert device.acts() == []
    assert device.open()


def test_a_trial_that_fails_twice_over_is_left_once():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.install("a", Image("img2", dep.WRITTEN, Behaviour(lives_s=0.3)))
    device.run(900)
    assert device.apps["a"].running == "img1"
    assert device.acts(Verb.GIVE_UP_TRIAL, Verb.ROLLBACK) == []
    assert len(device.closed()) == 1
