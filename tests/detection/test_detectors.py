# SPDX-License-Identifier: Apache-2.0
"""Each detector finds its fault, and its healthy look-alike does not alarm."""

import math

import pytest

from edgeheal.core import host_metrics as names
from edgeheal.core import reasons
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec, ProbeSpec
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind, Verdict
from edgeheal.core.now import NS, Now
from edgeheal.core.policy import Policy, Thresholds
from edgeheal.detect import boot, exits, foreign, growth, hang, host, itself, kernel, limits, link, probes, sensors
from edgeheal.detect.around import Around
from edgeheal.detect.slope import POINTS_MOST, Track, theil_sen

S, E = SymptomKind, EvidenceCode


def around(at_s=1_000.0, *, spec=None, policy=None, run=1, up=True, ready=True, wanted=True, started_s=0.0, pressed=False, still_s=0.0) -> Around:
    now = Now("b", round(at_s * NS), int(at_s), 0, False)
    return Around(
        now,
        policy or Policy(start_grace_s=60),
        spec or AppSpec("a"),
        run,
        up,
        ready,
        wanted,
        round(started_s * NS),
        round(started_s * NS),
        pressed,
        round(still_s * NS),
    )


def on(found):
    return [(s.kind, s.subject) for s in found if s.on]


def off(found):
    return [(s.kind, s.subject) for s in found if not s.on]


# -- ends


def test_ends_are_told_apart_and_an_unknown_status_stays_unknown():
    cases = [
        (sig.AppExited("a", 1, code=3), S.EXIT, E.EXIT_CODE, 3),
        (sig.AppExited("a", 1, signum=11), S.EXIT, E.EXIT_SIGNAL, 11),
        (sig.AppExited("a", 1), S.EXIT, E.EXIT_UNKNOWN, 0),
        (sig.AppExited("a", 1, signum=9, oom=True), S.OOM_KILL, E.OOM, 0),
        (sig.AppExited("a", 1, code=0), S.EXIT, E.EXIT_CODE, 0),
    ]
    for signal, kind, evidence, value in cases:
        (symptom,) = exits.exited(exits.Ends(), signal, around())
        assert (symptom.kind, symptom.evidence[0].code, symptom.evidence[0].value) == (kind, evidence, value)


@pytest.mark.parametrize("signal", [sig.AppExited("a", 1, code=0, ordered=True), sig.AppExited("a", 1, code=7, done=True)])
def test_an_ordered_or_finished_end_is_no_symptom(signal):
    assert exits.exited(exits.Ends(), signal, around()) == ()


def test_an_app_that_nobody_wants_may_end():
    assert exits.exited(exits.Ends(), sig.AppExited("a", 1, signum=9), around(wanted=False)) == ()


def test_a_kernel_word_on_memory_just_before_makes_a_kill_an_oom_kill():
    ends = exits.Ends(oom_ns=999 * NS)
    assert exits.exited(ends, sig.AppExited("a", 1, signum=9), around())[0].kind is S.OOM_KILL
    late = exits.Ends(oom_ns=900 * NS)
    assert exits.exited(late, sig.AppExited("a", 1, signum=9), around())[0].kind is S.EXIT


def test_five_ends_in_the_window_are_a_loop_and_five_in_a_day_are_not():
    ends = exits.Ends()
    found = [exits.exited(ends, sig.AppExited("a", n, signum=11), around(1_000 + 30 * n)) for n in range(5)]
    assert [len(f) for f in found] == [1, 1, 1, 1, 2]
    slow = exits.Ends()
    assert all(len(exits.exited(slow, sig.AppExited("a", n, signum=11), around(1_000 + 4_000 * n))) == 1 for n in range(20))


def test_a_start_that_is_slow_past_its_grace_and_not_before():
    ends = exits.Ends()
    spec = AppSpec("a", start_ms=90_000)
    assert exits.tick(ends, "a", around(89, spec=spec, ready=False)) == ()
    assert on(exits.tick(ends, "a", around(91, spec=spec, ready=False))) == [(S.START_SLOW, "")]
    assert exits.tick(ends, "a", around(92, spec=spec, ready=False)) == ()
    assert (S.START_SLOW, "") in off(exits.ready(ends, sig.AppReady("a", 1)))


def test_an_image_that_may_not_run_is_held_which_is_another_thing_than_failing():
    assert on(exits.failed(exits.Ends(), sig.StartFailed("a", reasons.REVOKED), around(up=False))) == [(S.APP_HELD, "")]
    assert on(exits.failed(exits.Ends(), sig.StartFailed("a", reasons.START_FAILED, 2), around(up=False))) == [(S.START_FAILED, "")]
    assert exits.failed(exits.Ends(), sig.StartFailed("a", reasons.ALREADY), around()) == ()


# -- hangs

BEAT = AppSpec("a", heartbeat_ms=1_000)


def test_a_missed_heartbeat_is_a_hang_once():
    beat = hang.Beat()
    assert on(hang.missed(beat, sig.HeartbeatMissed("a", 1, 1_000), around(spec=BEAT))) == [(S.HANG, "")]
    assert hang.missed(beat, sig.HeartbeatMissed("a", 1, 2_000), around(1_001, spec=BEAT)) == ()
    assert off(hang.back(beat, sig.HeartbeatBack("a", 1))) == [(S.HANG, "")]


def test_pressure_on_the_host_stretches_the_deadline_a_bounded_number_of_times():
    beat, at = hang.Beat(), 1_000.0
    assert hang.missed(beat, sig.HeartbeatMissed("a", 1, 1_000), around(at, spec=BEAT, pressed=True)) == ()
    waits = 0
    while not (found := hang.tick(beat, "a", around(hang.due(beat) / NS, spec=BEAT, pressed=True))):
        waits += 1
        assert waits < 10
    assert waits == Policy().pressure_extensions - 1
    assert on(found) == [(S.HANG, "")]


def test_a_busy_app_that_comes_back_under_pressure_was_no_hang():
    beat = hang.Beat()
    hang.missed(beat, sig.HeartbeatMissed("a", 1, 1_000), around(spec=BEAT, pressed=True))
    assert hang.back(beat, sig.HeartbeatBack("a", 1)) == ()
    assert hang.due(beat) == 0


def test_the_apps_own_trigger_is_at_once_and_only_the_apps_word():
    (symptom,) = hang.missed(hang.Beat(), sig.HeartbeatMissed("a", 1, 0, trigger=True), around(spec=BEAT, pressed=True))
    assert symptom.channel is Channel.APP


def test_a_heartbeat_of_an_older_run_or_a_dead_one_says_nothing():
    assert hang.missed(hang.Beat(), sig.HeartbeatMissed("a", 1, 1_000), around(spec=BEAT, run=2)) == ()
    assert hang.missed(hang.Beat(), sig.HeartbeatMissed("a", 1, 1_000), around(spec=BEAT, up=False)) == ()


# -- probes

PROBED = AppSpec("a", probes=(ProbeSpec("web", "live", "http", every_ms=1_000, misses=3), ProbeSpec("go", "start"), ProbeSpec("can", "ready", misses=2)))


def ask(mem, verdict, at=1_000.0, probe="web", means="live", **more):
    return probes.answered(mem, sig.ProbeAnswered("a", 1, probe, means, int(verdict)), around(at, spec=PROBED, **more))


def test_a_probe_fails_after_its_misses_in_a_row_and_ends_with_the_first_yes():
    mem = {}
    assert [on(ask(mem, Verdict.NO, 1_000 + n)) for n in range(3)] == [[], [], [(S.PROBE_FAILED, "web")]]
    assert ask(mem, Verdict.NO, 1_003) == ()
    assert off(ask(mem, Verdict.YES, 1_004)) == [(S.PROBE_FAILED, "web")]


def test_unknown_is_never_a_failure_and_forgives_nothing():
    mem = {}
    assert [on(ask(mem, v)) for v in (Verdict.NO, Verdict.UNKNOWN, Verdict.NO, Verdict.UNKNOWN, Verdict.UNKNOWN)] == [[]] * 5
    assert on(ask(mem, Verdict.NO)) == [(S.PROBE_FAILED, "web")]
    only = {}
    assert all(ask(only, Verdict.UNKNOWN) == () for _ in range(100))


def test_two_misses_now_and_then_are_no_failure():
    mem = {}
    for n in range(50):
        assert on(ask(mem, Verdict.NO, 1_000 + 3 * n)) == []
        assert on(ask(mem, Verdict.NO, 1_001 + 3 * n)) == []
        ask(mem, Verdict.YES, 1_002 + 3 * n)


def test_misses_in_the_start_grace_and_of_a_start_probe_do_not_count():
    mem = {}
    assert all(ask(mem, Verdict.NO, 10, started_s=5, ready=False) == () for _ in range(9))
    assert all(ask(mem, Verdict.NO, probe="go", means="start") == () for _ in range(9))


def test_misses_of_a_standstill_do_not_count():
    mem = {}
    assert all(ask(mem, Verdict.NO, 1_000.1 + n / 10, still_s=1_000) == () for n in range(5))


# -- growth


def feed(values, *, every_s=10.0, limit=1_000_000, spec=None, policy=None, kind="memory", start_s=0.0):
    """All symptoms of a series, and when."""
    mem, full, found = {}, limits.Limits(), []
    for n, value in enumerate(values):
        at = 100 + start_s + n * every_s
        where = around(at, spec=spec or AppSpec("a", memory_kib=limit if kind == "memory" else 0), policy=policy)
        usage = {"memory": dict(memory_kib=round(value), fds=-1), "fds": dict(memory_kib=-1, fds=round(value), fds_limit=limit)}[kind]
        signal = sig.Usage("a", 1, threads=-1, children=-1, every_ms=round(every_s * 1_000), **usage)
        found += [(at, s) for s in growth.sampled(mem, signal, where) + limits.sampled(full, signal, where)]
    return found


def test_a_leak_is_foretold_with_the_time_to_its_limit():
    found = feed([300_000 + 200 * n for n in range(3_600)])
    assert found, "found"
    at, first = found[0]
    assert first.kind is S.MEMORY_GROWTH
    used = 300_000 + 200 * (at - 100) / 10
    assert used < 800_000, "well before the limit"
    hours = next(e.value for e in first.evidence if e.code is E.HOURS_TO_LIMIT)
    assert hours == pytest.approx((1_000_000 - used) / 20 / 3_600, rel=0.1)
    assert first.channel is Channel.KERNEL


def test_a_fast_leak_is_found_within_a_dozen_samples():
    found = feed([300_000 + 20_000 * n for n in range(30)], every_s=1)
    assert found
    assert found[0][0] - 100 <= 26


def test_a_leak_under_noise_and_with_a_sawtooth_on_it_is_found():
    noisy = [300_000 + 150 * n + 8_000 * math.sin(n * 1.7) + 6_000 * ((n * 7919) % 13) / 13 for n in range(4_000)]
    assert feed(noisy)
    saw = [300_000 + 150 * n + 500 * (n % 60) for n in range(4_000)]
    assert feed(saw)


LOOKALIKES = {
    "flat": lambda n: 500_000,
    "warm-up plateau": lambda n: 200_000 + 500_000 * (1 - math.exp(-n / 20)),
    "slow warm-up": lambda n: 200_000 + 550_000 * (1 - math.exp(-n / 300)),
    "garbage collector": lambda n: 250_000 + 4_000 * (n % 60),
    "long sawtooth": lambda n: 200_000 + 500 * (n % 720),
    "nightly burst": lambda n: 700_000 if 4_000 < n % 8_640 < 4_200 else 300_000,
    "daily wave": lambda n: 450_000 + 150_000 * math.sin(n / 8_640 * 6.283),
    "a step up": lambda n: 300_000 if n < 2_000 else 600_000,
    "tiny growth": lambda n: 500_000 + 0.05 * n,
    "noise": lambda n: 600_000 + 50_000 * ((n * 7919) % 101) / 101,
}


@pytest.mark.parametrize("name", LOOKALIKES)
def test_healthy_use_of_memory_does_not_alarm(name):
    assert feed([LOOKALIKES[name](n) for n in range(8_640)]) == []


def test_a_height_that_it_fell_back_from_before_is_no_news():
    ramp = [200_000 + 1_000 * (n % 700) for n in range(6_000)]
    told = [at for at, _ in feed(ramp)]
    assert [at for at in told if at > 100 + 10 * 700] == []


def test_fc_mem_1_what_can_be_reclaimed_never_gets_here_and_a_full_group_of_cache_is_no_symptom():
    assert feed([30_000 + (n % 7) * 900 for n in range(2_000)], limit=256_000) == []
    assert feed([30_000 + 5_000 * n for n in range(60)], limit=256_000, every_s=5)


def test_descriptors_that_grow_are_foretold_and_a_pool_that_fills_is_not():
    assert [s.kind for _, s in feed([100 + n / 3 for n in range(2_400)], limit=1_024, kind="fds")][:1] == [S.FD_GROWTH]
    assert feed([200 + n % 30 for n in range(2_000)], limit=1_024, kind="fds") == []


def test_unknown_is_no_sample_and_without_a_limit_nothing_is_foretold():
    assert feed([-1] * 500) == []
    assert feed([1_000 * n for n in range(500)], limit=0) == []


def test_a_new_run_is_judged_anew():
    mem = {}
    for n in range(200):
        growth.sampled(
            mem, sig.Usage("a", 1, memory_kib=300_000 + 3_000 * n, fds=-1, threads=-1, children=-1), around(100 + 10 * n, spec=AppSpec("a", memory_kib=900_000))
        )
    assert mem["memory"].alarm
    assert [s.kind for s in growth.reset(mem, "a")] == [S.MEMORY_GROWTH]
    assert not mem["memory"].alarm
    assert mem["memory"].track.at == []


def test_a_limit_must_be_broken_for_some_samples():
    mem, spec = limits.Limits(), AppSpec("a", memory_kib=100)

    def use(kib):
        return limits.sampled(mem, sig.Usage("a", 1, memory_kib=kib, fds=-1, threads=-1, children=-1), around(spec=spec))

    assert [on(use(v)) for v in (150, 50, 150, 50, 150, 150)] == [[]] * 6
    assert on(use(150)) == [(S.MEMORY_LIMIT, "")]
    assert off(use(50)) == [(S.MEMORY_LIMIT, "")]


def test_the_record_of_a_growth_is_bounded_and_keeps_floors():
    track = Track()
    for n in range(100_000):
        track.add(n, 10 + (n % 50))
    assert len(track.at) < POINTS_MOST
    assert max(track.low[2:]) < 30
    assert theil_sen([0, 1, 2, 3, 4], [0, 1, 2, 100, 4]) == 1.0
    assert theil_sen([], []) == theil_sen([1.0], [5.0]) == 0.0


# -- sensors

METRIC = MetricSpec("t", "C", every_ms=1_000, stuck_ms=10_000, low=-40, high=125, step_max=20)
SENSED = AppSpec("a", metrics=(METRIC, MetricSpec("u")))


def readings(values, *, spec=SENSED, name="t", every_s=1.0, mem=None):
    mem, found = {} if mem is None else mem, []
    for n, value in enumerate(values):
        where = around(1_000 + n * every_s, spec=spec)
        found += sensors.read(mem, sig.Reading("a", name, value), where)
        found += sensors.tick(mem, "a", where)
    return found


def test_a_stuck_sensor_is_found_after_what_was_promised_and_ends_with_a_change():
    found = readings([20 + n / 10 for n in range(20)] + [21.9] * 15 + [22, 23])
    assert on(found) == [(S.SENSOR_STUCK, "t")]
    assert off(found) == [(S.SENSOR_STUCK, "t")]


def test_a_steady_value_shorter_than_promised_is_healthy():
    assert readings([20 + n // 9 for n in range(300)]) == []


def test_a_metric_without_a_promise_may_rest_for_ever():
    assert readings([5.0] * 2_000, name="u", spec=AppSpec("a", metrics=(MetricSpec("u"),))) == []


def test_out_of_range_needs_agreement_and_one_bad_sample_is_none():
    assert on(readings([20, 21, 300, 20, 21, 22, 300, 21])) == []
    assert (S.SENSOR_RANGE, "t") in on(readings([20, 21, 300, 301, 302, 303]))


def test_silence_is_missing_only_while_the_app_works():
    mem = {}
    readings([20, 21, 22], mem=mem)
    assert on(sensors.tick(mem, "a", around(1_004, spec=SENSED))) == []
    assert sensors.tick(mem, "a", around(1_010, spec=SENSED, up=False)) == ()
    assert sensors.tick(mem, "a", around(1_010, spec=SENSED, wanted=False)) == ()
    assert sensors.tick(mem, "a", around(1_010, spec=SENSED, ready=False, started_s=1_000)) == ()
    assert sensors.tick(mem, "a", around(1_010, spec=SENSED, still_s=1_009)) == ()
    hung = around(1_010, spec=SENSED)
    hung.working = False
    assert sensors.tick(mem, "a", hung) == ()
    assert sensors.due(mem, hung) == 0
    assert on(sensors.tick(mem, "a", around(1_010, spec=SENSED))) == [(S.SENSOR_MISSING, "t")]
    assert off(sensors.read(mem, sig.Reading("a", "t", 23.0), around(1_011, spec=SENSED))) == [(S.SENSOR_MISSING, "t")]


def test_no_answer_and_no_number_count_as_silence():
    mem = {}
    readings([20, 21], mem=mem)
    for n, value in enumerate([None, math.nan, math.inf, None]):
        assert sensors.read(mem, sig.Reading("a", "t", value), around(1_002 + n, spec=SENSED)) == ()
    assert on(sensors.tick(mem, "a", around(1_006, spec=SENSED))) == [(S.SENSOR_MISSING, "t")]


VOLTS = AppSpec("a", metrics=(MetricSpec("v", "V", every_ms=1_000),))


def wave(n):
    return 231 + ((n * 7) % 5 - 2) + ((n * 13) % 10) / 10


def test_fc_sen_4_a_jump_by_a_power_of_ten_is_a_scale():
    found = readings([wave(n) * (1 if n < 300 else 100) for n in range(400)], spec=VOLTS, name="v")
    assert on(found) == [(S.SENSOR_SCALE, "v")]
    assert found[0].evidence[0].value == 2


def test_fc_sen_4_a_single_spike_and_a_true_step_are_no_scale():
    assert readings([85.0 if n == 50 else 18 + (n % 3) for n in range(200)], spec=VOLTS, name="v") == []
    assert readings([230 if n < 50 else 245 for n in range(200)], spec=VOLTS, name="v") == []


def test_a_jump_over_the_promised_step_that_stays_is_told_and_a_spike_is_not():
    assert (S.SENSOR_JUMP, "t") in on(readings([20 + (n % 2) for n in range(20)] + [60 + (n % 2) for n in range(20)]))
    assert readings([20 + (n % 2) if n != 15 else 60 for n in range(40)]) == []


# -- the box


def sample(mem, metric, value, at=1_000.0, limit=0.0, verdict=1):
    return host.sampled(mem, sig.HostSample(metric, value, limit, verdict), around(at))


def test_disk_space_has_a_beginning_an_end_and_hysteresis_between():
    mem, metric = host.Host(), f"{names.DISK_FREE}:var"
    assert on(sample(mem, metric, 99)) == [(S.DISK_SPACE, "var")]
    assert all(sample(mem, metric, v) == () for v in (101, 99, 110, 95, 119))
    assert off(sample(mem, metric, 121)) == [(S.DISK_SPACE, "var")]
    assert on(sample(mem, metric, 20)) == [(S.DISK_SPACE, "var")]


def test_a_figure_that_gets_worse_is_told_once_more_as_grave():
    mem, metric = host.Host(), f"{names.DISK_FREE}:var"
    assert [s.serious for s in sample(mem, metric, 90)] == [False]
    assert [s.serious for s in sample(mem, metric, 20)] == [True]
    assert sample(mem, metric, 10) == ()


def test_memory_must_stay_low_for_some_samples_and_a_figure_that_cannot_be_read_is_none():
    mem = host.Host()
    assert [on(sample(mem, names.MEMORY_FREE, v)) for v in (10, 500, 10, 500, 10, 10)] == [[]] * 6
    assert sample(mem, names.MEMORY_FREE, 0, verdict=2) == ()
    assert sample(mem, names.MEMORY_FREE, math.nan) == ()
    assert on(sample(mem, names.MEMORY_FREE, 10)) == [(S.HOST_MEMORY, "")]


def test_a_figure_that_is_bad_above_has_hysteresis_too():
    mem, metric = host.Host(), f"{names.TEMPERATURE}:cpu"
    assert [on(sample(mem, metric, v, limit=80)) for v in (81, 82)] == [[], [(S.TEMPERATURE, "cpu")]]
    assert all(sample(mem, metric, v, limit=80) == () for v in (79, 81, 77, 80))
    assert off(sample(mem, metric, 75, limit=80)) == [(S.TEMPERATURE, "cpu")]


def test_pressure_and_clock_are_facts_and_no_symptoms():
    mem = host.Host()
    assert sample(mem, names.PRESSURE_IO, 900) == ()
    assert host.pressed(mem)
    assert sample(mem, names.PRESSURE_IO, 3) == ()
    assert not host.pressed(mem)
    assert sample(mem, names.CLOCK_STEP, 86_400.0) == ()
    assert sample(mem, names.CLOCK_TRUSTED, 0) == ()


def test_every_named_figure_is_judged_or_deliberately_not():
    left = {names.SWAP_FREE, names.THROTTLED, names.PRESSURE_CPU, names.PRESSURE_IO, names.PRESSURE_MEMORY, names.LOAD, names.CLOCK_TRUSTED, names.CLOCK_STEP}
    assert set(host.ROWS) | left == names.SUBJECTS | names.PLAIN


def test_undervoltage_of_the_kernel_has_an_end_and_single_usb_resets_are_nothing():
    mem = kernel.Kernel()

    def said(what, subject="", at=1_000.0):
        return kernel.said(mem, sig.KernelSaid(what, subject), around(at))

    assert on(said("undervoltage", "hwmon1")) == [(S.UNDERVOLTAGE, "")]
    assert said("undervoltage", "hwmon1") == ()
    assert off(said("voltage_ok", "hwmon1")) == [(S.UNDERVOLTAGE, "")]
    assert said("voltage_ok") == ()
    assert [on(said("usb_reset", "1-1.2", 1_000 + n)) for n in range(3)] == [[], [], [(S.USB_RESET, "1-1.2")]]
    assert [on(said("usb_gone", "1-1.3", 1_000 + 900 * n)) for n in range(6)] == [[]] * 6
    assert on(said("fs_error", "sda1")) == [(S.DISK_ERRORS, "sda1")]
    assert said("no such word", "x") == ()


def test_the_lowest_layer_is_named_once_the_outage_lasted():
    mem = link.Link()
    for layer in ("broker", "tcp", "carrier"):
        assert link.heard(mem, sig.LinkIs(layer, up=False), around(1_000)) == ()
    assert link.tick(mem, around(1_299)) == ()
    assert on(link.tick(mem, around(1_301))) == [(S.CARRIER, "")]
    assert off(link.heard(mem, sig.LinkIs("broker", up=True), around(1_400))) == [(S.CARRIER, "")]
    assert link.lowest(mem) == ""


def test_boots_are_judged_once_and_three_unplanned_in_an_hour_are_a_loop():
    mem = boot.Boots()
    assert boot.booted(mem, sig.Booted("b1", clean=True), around()) == ()
    assert boot.booted(mem, sig.Booted("b2", ordered_id="act7"), around()) == ()
    found = [boot.booted(mem, sig.Booted(f"c{n}", reasons=(("power", 600), ("watchdog", 100))), around(1_000 + n)) for n in range(3)]
    assert [on(f) for f in found] == [[(S.UNPLANNED_BOOT, "")], [(S.UNPLANNED_BOOT, "")], [(S.BOOT_LOOP, "")]]
    assert boot.booted(mem, sig.Booted("c2"), around()) == ()
    assert on(boot.booted(boot.Boots(), sig.Booted("d", reasons=(("watchdog", 900),)), around())) == [(S.WATCHDOG, "")]
    assert boot.booted(boot.Boots(), sig.Booted("e", reasons=(("odd",), (1, "x"))), around())[0].kind is S.UNPLANNED_BOOT


def test_words_about_ourselves_that_last_have_an_end_and_notes_are_none():
    mem = itself.Itself()
    assert on(itself.said(mem, sig.SelfSaid("guard", "lost"), around())) == [(S.GUARD_LOST, "guard")]
    assert itself.said(mem, sig.SelfSaid("guard", "lost"), around()) == ()
    assert off(itself.said(mem, sig.SelfSaid("guard", "lost", ok=True), around())) == [(S.GUARD_LOST, "guard")]
    assert itself.said(mem, sig.SelfSaid("spool", "newer", value=3), around()) == ()
    assert on(itself.said(mem, sig.SelfSaid("journal", "damaged"), around())) == [(S.RECORD_DAMAGED, "journal")]


def test_a_broken_config_is_told_once_a_place_and_ends():
    mem = itself.Itself()
    assert on(itself.config(mem, sig.ConfigIs(ok=False, place="f:3", message="x"))) == [(S.CONFIG_BROKEN, "")]
    assert itself.config(mem, sig.ConfigIs(ok=False, place="f:3", message="x")) == ()
    assert off(itself.config(mem, sig.ConfigIs(ok=True))) == [(S.CONFIG_BROKEN, "")]
    assert itself.config(mem, sig.ConfigIs(ok=True)) == ()


def test_foreign_restarts_are_told_once_with_the_availability():
    mem = foreign.Foreign()
    found = []
    for n in range(8):
        where = around(2_000 + 50 * n)
        foreign.down(mem, where)
        found += foreign.restarted(mem, "a", "cron[7]", where)
        foreign.up(mem, around(2_020 + 50 * n))
    assert on(found) == [(S.FOREIGN_RESTARTS, "cron[7]")]
    facts = {e.code: e.value for e in found[0].evidence}
    assert facts[E.STARTS_FOREIGN] == 5
    assert facts[E.AVAILABILITY_PERMILLE] == pytest.approx(911, abs=15)
    assert on(foreign.tick(mem, "a", around(2_400))) == []
    assert off(foreign.tick(mem, "a", around(2_350 + 901))) == [(S.FOREIGN_RESTARTS, "cron[7]")]


def test_a_restart_now_and_then_by_somebody_is_nothing():
    mem = foreign.Foreign()
    assert all(foreign.restarted(mem, "a", "", around(1_000 + 600 * n)) == () for n in range(50))


def test_thresholds_can_be_set():
    policy = Policy(thresholds=Thresholds(disk_low_permille=500))
    mem = host.Host()
    where = around(policy=policy)
    assert on(host.sampled(mem, sig.HostSample(f"{names.DISK_FREE}:var", 400), where)) == [(S.DISK_SPACE, "var")]
