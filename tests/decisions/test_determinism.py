# SPDX-License-Identifier: Apache-2.0
"""The law: same snapshot and same signals, same effects bit for bit; and no signal, however odd, breaks the fold."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec, NeedSpec, ProbeSpec
from edgeheal.core.effect import Act, Report, Wake
from edgeheal.core.errors import JournalError
from edgeheal.core.kinds import IncidentState
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy
from edgeheal.engine.snapshot import from_plain, to_plain
from edgeheal.engine.state import initial, rebooted, resumed
from edgeheal.engine.step import step
from edgeheal.lab.device import Behaviour, Device

NAMES = ["a", "b", "c", "", "ghost"]
SPECS = (
    AppSpec("a", heartbeat_ms=1_000, memory_kib=100_000, can_reload=True, has_config=True, done=(7,), probes=(ProbeSpec("web"),), metrics=(MetricSpec("t", every_ms=1_000, stuck_ms=5_000, low=0, high=100, step_max=5),)),
    AppSpec("b", ready="probe", needs=(NeedSpec("app", "a"), NeedSpec("network", "x", hard=False)), probes=(ProbeSpec("up", "start"),)),
    AppSpec("c", downgrade="ask", needs=(NeedSpec("app", "c"), NeedSpec("app", "b"))),
)  # fmt: skip


def value_of(name: str, default):
    if isinstance(default, bool):
        return st.booleans()
    if name == "app":
        return st.sampled_from(NAMES)
    if name in ("run", "act", "phase", "by", "action", "verdict", "image_state", "signum", "code"):
        small = st.integers(0, 12)
        return st.one_of(st.none(), small) if name in ("signum", "code") else small
    if isinstance(default, int):
        return st.one_of(st.integers(-1, 100), st.integers(-(2**40), 2**40))
    if isinstance(default, float):
        return st.floats(allow_nan=True)
    if default is None:
        return st.one_of(st.none(), st.floats(allow_nan=True), st.integers(-5, 200))
    if isinstance(default, str):
        return st.sampled_from(
            [
                "",
                "web",
                "t",
                "live",
                "ready",
                "img1",
                "img2",
                "broker",
                "carrier",
                "undervoltage",
                "oom",
                "fs_error",
                "disk_free_permille:var",
                "guard",
                "lost",
                "1",
                "BUSY",
                "é\u202e",
            ]
        )
    return st.just(default)


def rows():
    row = st.tuples(st.sampled_from(["img1", "img2"]), st.just("v"), st.integers(0, 6), st.integers(0, 3), st.booleans(), st.integers(0, 9))
    return st.lists(st.one_of(row, st.just(("odd",))), max_size=3).map(tuple)


def any_signal():
    kinds = []
    for cls in sig.SIGNALS:
        if cls in (sig.PolicyIs, sig.CatalogIs):
            continue
        blank = cls()
        args = {f.name: rows() if f.name == "rows" else value_of(f.name, getattr(blank, f.name)) for f in fields(cls)}
        kinds.append(st.builds(cls, **args))
    return st.one_of(*kinds)


STEPS = st.lists(st.tuples(any_signal(), st.sampled_from([0.0, 0.01, 0.5, 1.0, 7.0, 61.0, 1_000.0])), max_size=60)


def fresh(policy=Policy()):
    state = initial(5, b"sessio")
    for signal in (sig.PolicyIs(policy.to_plain()), sig.CatalogIs(tuple(s.to_plain() for s in SPECS))):
        state, _ = step(state, signal, Now("b1", NS, 1, 1, True))
    return state


def fold(state, steps, *, cut=None, twin=False):
    at, out = 10.0, []
    for n, (signal, wait) in enumerate(steps):
        at += wait
        while state.wake_ns and state.wake_ns < at * NS and len(out) < 5_000:
            now = Now("b1", max(state.wake_ns, state.last_ns), state.wake_ns // NS, state.wake_ns // NS, True)
            before = state.wake_ns
            state, effects = step(state, sig.Tick(), now)
            out += effects
            assert state.wake_ns == 0 or state.wake_ns > before, "time goes on: no turn asks for the moment it had"
        if twin and n % 7 == 3:
            state = from_plain(json_round(to_plain(state)))
        state, effects = step(state, signal, Now("b1", round(at * NS), int(at), int(at), True))
        out += effects
        if cut is not None and n == cut:
            break
    return state, out


def json_round(plain):
    """Through a codec: nothing but plain values may be in it."""

    def enc(value):
        if isinstance(value, bytes):
            return {"__b": value.hex()}
        raise TypeError(type(value))

    return json.loads(json.dumps(plain, default=enc), object_hook=lambda d: bytes.fromhex(d["__b"]) if "__b" in d else d)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(STEPS)
def test_same_snapshot_and_same_signals_give_the_same_effects_bit_for_bit(steps):
    first_state, first = fold(fresh(), steps)
    _, second = fold(fresh(), steps)
    third_state, third = fold(fresh(), steps, twin=True)
    assert repr(first) == repr(second)
    assert repr(first) == repr(third)
    assert repr(to_plain(first_state)) == repr(to_plain(third_state))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(STEPS)
def test_whatever_the_signals_say_causes_and_numbers_stay_sound(steps):
    state, effects = fold(fresh(), steps)
    numbers = [e.number for e in effects if isinstance(e, Act)]
    assert numbers == sorted(set(numbers))
    revisions = {}
    for report in (e.incident for e in effects if isinstance(e, Report)):
        assert sum(c.probability for c in report.causes) <= 1.0 + 1e-6
        assert report.revision == revisions.get(report.number, -1) + 1
        revisions[report.number] = report.revision
        assert len(report.tried) <= 16
    assert all(c.incident.state is not IncidentState.RESOLVED for c in state.cases.values())
    assert len(state.cases) <= 256


ODD = [None, 5, "AppExited", object(), [7, "a"], {}, sig.Signal()]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_what_is_no_signal_changes_nothing(odd):
    state = fresh()
    before = repr(to_plain(state))
    after, effects = step(state, odd, Now("b1", NS, 1, 1, True))
    assert repr(to_plain(after)) == before
    assert [e.what for e in effects] == ["not sound"]


@pytest.mark.parametrize("cls", [c for c in sig.SIGNALS if c is not sig.Tick], ids=lambda c: c.__name__)
def test_a_field_of_the_wrong_type_is_refused_whole(cls):
    for field in fields(cls):
        for wrong in (None, b"\xff", [1], object(), "x", 3):
            state = fresh()
            apps = repr(state.apps)
            after, _ = step(state, replace(cls(), **{field.name: wrong}), Now("b1", NS, 1, 1, True))
            assert after is not None
            if isinstance(wrong, bytes) and cls not in (sig.PolicyIs, sig.CatalogIs):
                assert repr(after.apps) == apps


def test_a_policy_or_catalog_that_makes_no_sense_leaves_the_old_one():
    state = fresh()
    for bad in (None, 5, {}, {"mode": 99}, [], {"mode": 2, "remedies": 7}):
        state, effects = step(state, sig.PolicyIs(bad), Now("b1", NS, 1, 1, True))
        assert state.policy == Policy()
        assert any(getattr(e, "what", "") == "policy refused" for e in effects)
    for bad in (None, 7, [5], [{"name": 5, "probes": 3}], ({"nome": "x"},)):
        state, _ = step(state, sig.CatalogIs(bad), Now("b1", NS, 1, 1, True))
        assert set(state.catalog) == {"a", "b", "c"}


def test_a_snapshot_of_another_schema_is_refused_by_name():
    plain = to_plain(fresh())
    for bad in (None, [], {}, {**plain, "schema": 99}, {**plain, "state": None}, {**plain, "state": {"seed": 1}}):
        with pytest.raises(JournalError):
            from_plain(bad)
    assert from_plain(plain) == fresh()


def test_a_snapshot_shares_nothing_with_its_state():
    device = Device(list(SPECS))
    device.start_all()
    device.kill("a")
    device.run(5)
    kept = from_plain(to_plain(device.state))
    before = repr(to_plain(kept))
    device.run(500)
    device.kill("a")
    device.run(50)
    assert repr(to_plain(kept)) == before


def test_a_device_replayed_from_any_snapshot_decides_alike():
    device = Device(list(SPECS), seed=3)
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=20, ready_s=0.2)
    device.start_all()
    device.run(30)
    kept, seen = to_plain(device.state), len(device.effects)
    from_signal = len(device.signals)
    device.kill("b")
    device.run(300)
    state = from_plain(kept)
    out = []
    for now, signal in device.signals[from_signal:]:
        state, effects = step(state, signal, now)
        out += effects
    assert repr(out) == repr([e for _, e in device.effects[seen:]])


def test_another_policy_over_the_same_signals_can_decide_otherwise():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.kill("a")
    device.run(5)
    state = initial(1, b"\0lab\0\1")
    from edgeheal.core.kinds import Mode

    acts = []
    for now, signal in device.signals:
        told = sig.PolicyIs(Policy(mode=Mode.OBSERVE).to_plain()) if isinstance(signal, sig.PolicyIs) else signal
        state, effects = step(state, told, now)
        acts += [e for e in effects if isinstance(e, Act)]
    assert acts == []
    assert device.acts()


def test_a_resumed_state_gives_no_number_twice_and_keeps_the_session_of_what_is_open():
    device = Device([AppSpec("a")])
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=0.5)
    device.start_all()
    device.run(5)
    state = resumed(device.state, b"second", act=900, incident=70)
    assert state.next_act == 901
    assert state.next_incident == 71
    assert all(c.incident.session == b"\0lab\0\1" for c in state.cases.values())


def test_after_a_reboot_no_deadline_lies_beyond_its_distance():
    device = Device([AppSpec("a")])
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=0.5)
    device.start_all()
    device.run(50)
    old = device.state
    waits = [c.wait_ns - old.last_ns for c in old.cases.values()]
    new = rebooted(old, Now("b2", 3 * NS, 60, 0, False))
    assert [c.wait_ns - 3 * NS for c in new.cases.values()] == pytest.approx(waits, abs=2)
    assert all(not a.up for a in new.apps.values())


def test_a_wake_is_asked_for_only_when_it_changes():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    wakes = [e for _, e in device.effects if isinstance(e, Wake)]
    device.tell(sig.HostSample("load_permille", 5))
    assert [e for _, e in device.effects if isinstance(e, Wake)] == wakes
