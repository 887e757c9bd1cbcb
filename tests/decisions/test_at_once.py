# SPDX-License-Identifier: Apache-2.0
"""Leave to restart at once: given only where the engine, asked, would do just that - and the incident is the same either way."""

import random

import pytest
from hypothesis import HealthCheck, given, settings

from edgeheal.core import deployment as dep
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, NeedSpec
from edgeheal.core.effect import Act, Verb
from edgeheal.core.kinds import ActionCode, By, Mode, Outcome, RemedyKind
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import AppPolicy, Policy
from edgeheal.engine.at_once import ASK, at_once
from edgeheal.engine.snapshot import from_plain, to_plain
from edgeheal.engine.step import step
from edgeheal.lab.device import Behaviour, Device, Image
from tests.decisions.test_determinism import NAMES, STEPS, fold, fresh


def asked(state, name, now, **end):
    """The first act about the app, were its run to end now."""
    app = state.apps[name]
    twin = from_plain(to_plain(state))
    words = {"signum": 9} | end
    _, effects = step(twin, sig.AppExited(name, app.run, lived_ms=(now.mono_ns - app.started_ns) // 1_000_000, **words), now)
    return next((e.verb for e in effects if isinstance(e, Act) and e.app == name and e.verb is not Verb.FOLLOW), None)


def leave(device, name="a"):
    return at_once(device.state, name, device.now())


def holds(device, name):
    ms = leave(device, name)
    return ms != ASK and device.now().mono_ns - device.state.apps[name].started_ns >= ms * 1_000_000


def one(policy=None, **more):
    device = Device([AppSpec("a", **more)], policy)
    device.start_all()
    device.run(100)
    return device


def test_an_app_that_serves_may_be_restarted_at_once_and_again_only_after_a_healthy_run():
    device = one()
    assert leave(device) == 0
    assert asked(device.state, "a", device.now()) is Verb.START
    device.kill("a")
    device.run(1)
    assert leave(device) == ASK, "its incident is open"
    device.run(61)
    assert leave(device) == 60_000
    assert holds(device, "a")


@pytest.mark.parametrize(
    "policy",
    [
        Policy(mode=Mode.OBSERVE),
        Policy(mode=Mode.ASK),
        Policy(apps={"a": AppPolicy(mode=Mode.OBSERVE)}),
        Policy(apps={"a": AppPolicy(remedies={RemedyKind.RESTART: Mode.ASK})}),
    ],
    ids=["observe", "ask", "app observes", "restart asks"],
)
def test_where_a_restart_is_not_ours_to_do_no_leave_is_given(policy):
    device = one(policy)
    assert leave(device) == ASK


def test_a_pause_a_stop_a_trial_and_a_changed_config_take_it_back():
    device = one()
    device.order(ActionCode.PAUSE, "a", until_s=device.now().box_s + 600)
    taken = {"pause": leave(device)}
    device = one()
    device.order(11, "a")
    device.run(1)
    taken["stop"] = leave(device)
    device = one()
    device.install("a", Image("img2", dep.TRIAL))
    device.run(5)
    taken["trial"] = leave(device)
    device = one()
    device.break_config("a", Behaviour())
    device.seen("a")
    taken["config"] = leave(device)
    assert set(taken.values()) == {ASK}, taken


def test_what_is_wrong_with_ourselves_does_not_take_it_from_the_apps():
    device = one()
    device.tell(sig.SelfSaid(part="identity", what="expires", ok=False))
    device.tell(sig.ConfigIs(ok=False, place="a.toml:3", message="no such key"))
    assert device.open()
    assert leave(device) == 0
    assert asked(device.state, "a", device.now()) is Verb.START


def test_what_is_not_ready_takes_it_from_who_needs_it():
    device = Device([AppSpec("a"), AppSpec("b", needs=(NeedSpec("app", "a"),))])
    device.start_all()
    device.run(100)
    assert leave(device, "b") == 0
    device.hang("a")
    device.kill("a")
    assert leave(device, "b") == ASK


def test_where_a_restart_was_not_enough_lately_the_agent_is_asked():
    device = one()
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=0.5)
    device.kill("a")
    device.run(20)
    device.apps["a"].images[0].behaviour = Behaviour()
    device.until(lambda: not device.open(), most_s=40_000)
    assert any(t.outcome is not Outcome.CURED for i in device.closed() for t in i.tried)
    device.run(120)
    assert leave(device) == ASK


def test_the_incident_is_told_the_same_when_the_guard_was_quicker():
    """The guard's start, made by its leave, is on the queue before the agent has stepped through the end."""
    told = []
    for quick in (False, True):
        device = one()
        if quick:
            device.mute.add(Verb.START)
            device.kill("a")
            (act,) = device.acts(Verb.START)
            device._start("a", By.REMEDY)
            device.tell(sig.ActEnded(act.number, ok=True))
            device.mute.clear()
        else:
            device.kill("a")
        device.run(61)
        (incident,) = device.closed()
        told.append((incident.symptom, [(t.kind, t.outcome) for t in incident.tried], incident.severity, incident.need, incident.causes, len(device.acts())))
        assert len(device.apps["a"].starts) == 2
    assert told[0] == told[1]


@pytest.mark.parametrize("seed", range(6))
def test_leave_is_never_given_where_something_else_would_be_done(seed):
    chance = random.Random(seed)
    device = Device([AppSpec("a"), AppSpec("b", needs=(NeedSpec("app", "a"),)), AppSpec("c", needs=(NeedSpec("network", "x"),))], seed=seed)
    device.start_all()
    names, given_ = list(device.apps), 0
    events = [
        lambda n: device.kill(n), lambda n: device.kill(n, 11), lambda n: device.hang(n), lambda n: device.tell(sig.LinkIs(up=chance.random() < 0.5)),
        lambda n: device.order(ActionCode.PAUSE, n, until_s=device.now().box_s + 30), lambda n: device.order(11, n), lambda n: device.order(10, n),
        lambda n: device.still(20), lambda n: device.break_config(n, Behaviour(lives_s=1)), lambda n: device.reboot(),
        lambda n: device.install(n, Image(f"img{chance.randrange(9)}", dep.TRIAL, behaviour=Behaviour(lives_s=chance.choice([0.5, 1e9])))),
        lambda n: device.tell(sig.SelfSaid(part="identity", what="expires", ok=False)),
        lambda n: device.tell(sig.ConfigIs(ok=False, place="a.toml:3", message="no such key")),
        lambda n: device.tell(sig.KernelSaid(what=chance.choice(["oom", "fs_error", "undervoltage"]), subject=n)),
    ]  # fmt: skip
    for _ in range(60):
        if chance.random() < 0.3:
            chance.choice(events)(chance.choice(names))
        device.run(chance.choice([0.2, 3.0, 70.0, 700.0]))
        for name in names:
            if holds(device, name):
                given_ += 1
                for end in ({"signum": 11}, {"signum": None, "code": 1}, {"signum": None}):
                    assert asked(device.state, name, device.now(), **end) is Verb.START, (name, end)
    assert given_ > 10, "it is what usually holds"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(STEPS)
def test_whatever_was_heard_leave_means_a_start(steps):
    state, _ = fold(fresh(), steps)
    now = Now("b1", state.last_ns + NS, state.last_ns // NS + 1, state.last_ns // NS + 1, True)
    for name in NAMES:
        ms = at_once(state, name, now)
        if ms != ASK and now.mono_ns - state.apps[name].started_ns >= ms * 1_000_000:
            assert asked(state, name, now) is Verb.START
