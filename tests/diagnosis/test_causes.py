# SPDX-License-Identifier: Apache-2.0
"""Which cause comes first, and on what evidence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.core.app import AppSpec, NeedSpec
from edgeheal.core.kinds import CLASS_OF, CauseKind, ChangeKind, Channel, EvidenceCode, RemedyKind, SymptomKind
from edgeheal.core.policy import Budget, Policy
from edgeheal.core.symptom import Symptom
from edgeheal.diagnose.fingerprint import fingerprint, normalise, top_frames
from edgeheal.diagnose.learned import PRINTS_MOST, WINDOW_S, Learned
from edgeheal.diagnose.rank import PRIORS, rank
from edgeheal.diagnose.rules import RULES
from edgeheal.diagnose.scene import HostScene, Scene
from edgeheal.diagnose.topology import needed_by
from edgeheal.recover import budget, witness
from edgeheal.recover.backoff import delay_s, draw
from edgeheal.recover.choose import Option, choose, holding, posterior, prior, priors
from edgeheal.recover.ladder import CURES

C, S, R, E = CauseKind, SymptomKind, RemedyKind, EvidenceCode


def scene(kind=S.EXIT, **more) -> Scene:
    symptom = Symptom(kind, "a", more.pop("subject", ""), channel=Channel.GUARD, detail=more.pop("detail", ""))
    return Scene(symptom, (symptom, *more.pop("also", ())), **more)


def first(s: Scene):
    return rank(s)[0].kind


CASES = {
    "a plain crash": (scene(exit_signal=11), C.APP_CRASH),
    "killed by a signal nobody explains": (scene(exit_signal=9), C.APP_CRASH),
    "ended by TERM from outside": (scene(exit_signal=15), C.FOREIGN_HAND),
    "config changed, ended at its start": (scene(config_differs=True, lived_s=0.5, exit_code=1), C.APP_CONFIG),
    "config changed, but it ran for a day": (scene(config_differs=True, lived_s=86_400, exit_signal=11), C.APP_CRASH),
    "on trial": (scene(in_trial=True, exit_code=1), C.APP_IMAGE),
    "image changed an hour ago and it loops": (scene(S.CRASH_LOOP, change=ChangeKind.IMAGE, change_s=3_600, exits=6), C.APP_IMAGE),
    "what it needs is down": (scene(down_needs=("db",)), C.DEPENDENCY),
    "no carrier, and it needs the network": (scene(needs_network=True, host=HostScene(network_down="carrier", network_down_s=9)), C.NETWORK),
    "no carrier, and it does not need it": (scene(host=HostScene(network_down="carrier", network_down_s=9), exit_signal=11), C.APP_CRASH),
    "under-voltage just before": (scene(exit_signal=11, host=HostScene(undervoltage_s=0.4)), C.SUPPLY),
    "under-voltage long ago": (scene(exit_signal=11, host=HostScene(undervoltage_s=4_000)), C.APP_CRASH),
    "disk full": (scene(exit_code=28, host=HostScene(disk_full="var")), C.DISK_FULL),
    "the app says disk full, and it is not": (scene(exit_code=1, log_error="no space left on device"), C.APP_CRASH),
    "port held": (scene(S.PORT_HELD, port_holder="nc[1]"), C.PORT_HELD),
    "address in use by its own words": (scene(exit_code=1, log_error="oserror: address already in use"), C.PORT_HELD),
    "hang": (scene(S.HANG), C.APP_HANG),
    "hang under pressure of the host": (scene(S.HANG, host=HostScene(pressed=True)), C.APP_HANG),
    "probe fails": (scene(S.PROBE_FAILED, detail="live"), C.APP_HANG),
    "probe fails after a restart, all else is well": (scene(S.PROBE_FAILED, detail="live", alive=True, alive_by=3, restarted_in_vain=True), C.PROBE),
    "sensor silent, app well": (scene(S.SENSOR_MISSING, subject="t", alive=True, alive_by=2, sensors=3, sensors_bad=1), C.SENSOR),
    "all sensors silent, app well": (scene(S.SENSOR_MISSING, subject="t", alive=True, alive_by=1, sensors=3, sensors_bad=3), C.BUS),
    "unkillable": (scene(S.UNKILLABLE, wchan="jbd2"), C.DEVICE_IO),
    "out of memory, the box has plenty": (scene(S.OOM_KILL), C.APP_MEMORY),
    "out of memory, the box has none": (scene(S.OOM_KILL, host=HostScene(memory_low=True)), C.HOST_MEMORY),
    "trial failed": (scene(S.TRIAL_FAILED), C.APP_IMAGE),
    "killed while it grew": (scene(exit_signal=9, also=(Symptom(S.MEMORY_GROWTH, "a"),)), C.APP_MEMORY),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_first_cause_is_right(name):
    given_scene, expected = CASES[name]
    causes = rank(given_scene)
    assert causes[0].kind is expected, [(c.kind.name, c.probability) for c in causes]


def test_fc_log_1_descriptors_counted_by_us_beat_the_first_error_of_the_log():
    s = scene(S.PROBE_FAILED, detail="live", fds_full=True, log_error="resolve example.test failed", needs_network=True)
    assert first(s) is C.APP_DESCRIPTORS
    assert first(scene(S.FD_GROWTH, fds_full=True, log_error="resolve example.test failed")) is C.APP_DESCRIPTORS


def test_an_image_of_ours_is_the_first_suspect_of_its_soak_time():
    plain, fresh = rank(scene(exit_signal=11)), rank(scene(exit_signal=11, change=ChangeKind.IMAGE, change_s=600))
    weight = lambda causes: next((c.probability for c in causes if c.kind is C.APP_IMAGE), 0.0)  # noqa: E731
    assert weight(fresh) > 3 * weight(plain)


def test_words_of_an_app_move_app_class_causes_only():
    for text in ("kernel panic", "i/o error", "under-voltage", "no space left on device", "watchdog bite", "network unreachable", "supply low"):
        kinds = {c.kind for c in rank(scene(exit_code=1, log_error=text))}
        assert not kinds & {C.KERNEL, C.DISK_FAULT, C.DISK_FULL, C.SUPPLY, C.WATCHDOG, C.NETWORK, C.HOST_MEMORY}


def test_evidence_against_is_kept_beside_evidence_for():
    causes = rank(scene(S.SENSOR_MISSING, subject="t", alive=True, alive_by=2, sensors=3, sensors_bad=1))
    facts = [e for c in causes for e in c.evidence]
    assert any(e.speaks_for for e in facts)
    assert any(not e.speaks_for for e in facts)


SCENES = st.builds(
    Scene,
    st.builds(Symptom, st.sampled_from(SymptomKind), st.just("a"), st.sampled_from(["", "t"])),
    host=st.builds(
        HostScene, undervoltage_s=st.floats(-1, 99), disk_full=st.sampled_from(["", "var"]), memory_low=st.booleans(), oom_s=st.floats(-1, 20), pressed=st.booleans(),
        network_down=st.sampled_from(["", "carrier"]),
    ),
    change=st.sampled_from(ChangeKind), change_s=st.floats(-1, 1e6), config_differs=st.booleans(), lived_s=st.floats(-1, 1e6), exits=st.integers(0, 99),
    exit_signal=st.integers(-1, 64), in_trial=st.booleans(), needs_network=st.booleans(), down_needs=st.sampled_from([(), ("db",)]),
    same_time=st.sampled_from([(), ("x", "y", "z")]), alive=st.booleans(), sensors=st.integers(0, 9), sensors_bad=st.integers(0, 9),
    log_error=st.text(max_size=40), port_holder=st.sampled_from(["", "nc"]), restarted_in_vain=st.booleans(), fds_full=st.booleans(),
)  # fmt: skip


@given(SCENES)
def test_probabilities_sum_to_one_at_most_and_fall_in_order(s):
    causes = rank(s)
    assert sum(c.probability for c in causes) <= 1.0 + 1e-9
    assert len(causes) <= 3
    values = [c.probability for c in causes]
    assert values == sorted(values, reverse=True)
    assert all(0 <= v <= 1 for v in values)
    assert rank(replace(s)) == causes
    assert all(len(e.text) <= 100 for c in causes for e in c.evidence)


def test_every_symptom_has_priors_and_every_cause_a_row_of_cures_and_a_class():
    assert set(PRIORS) == set(SymptomKind)
    assert set(CURES) == set(CauseKind) == set(CLASS_OF)
    assert len(RULES) == len(set(RULES))


def test_no_reboot_for_an_app_class_or_a_network_cause():
    for cause, cures in CURES.items():
        if cause.name.startswith("APP_") or cause in (C.NETWORK, C.BROKER, C.DEPENDENCY, C.PORT_HELD, C.PROBE, C.SENSOR, C.FOREIGN_HAND, C.UNKNOWN):
            assert not {R.REBOOT, R.OS_ROLLBACK, R.SAFE_MODE} & set(cures), cause


def test_no_restart_for_a_sensor_and_no_rollback_for_a_supply():
    for cause in (C.SENSOR, C.SENSOR_SCALE, C.BUS, C.PORT_HELD, C.SUPPLY, C.DEVICE_IO):
        assert R.RESTART not in CURES[cause]
        assert R.ROLLBACK not in CURES[cause]


# -- fingerprints

PYTHON = ("/usr/lib/app-1.2/main.py:112 in run", "/usr/lib/app-1.2/poll.py:40 in read_meter", "/usr/lib/app-1.2/bus.py:7 in frame")
PYTHON_NEXT = ("/opt/app-1.3/main.py:118 in run", "/opt/app-1.3/poll.py:44 in read_meter", "/opt/app-1.3/bus.py:9 in frame")


def test_two_versions_of_one_crash_group_and_two_crashes_do_not():
    one = fingerprint(1, "a", "sig6", PYTHON)
    assert one == fingerprint(1, "a", "sig6", PYTHON_NEXT)
    assert one != fingerprint(1, "a", "sig6", (*PYTHON[:2], "/usr/lib/app-1.2/bus.py:7 in checksum"))
    assert one != fingerprint(1, "b", "sig6", PYTHON)
    assert one != fingerprint(1, "a", "sig11", PYTHON)
    assert len(one) == 8


def test_addresses_digits_and_common_helpers_are_left_out():
    assert normalise("#3 0x7ffd12 in poll_meter+0x41 (/opt/app/x.c:77)") == normalise("#9 0x1 in poll_meter+0x99 (/srv/y/x.c:1)")
    assert top_frames(("abort", "raise", "poll_meter", "__libc_start_main")) == ("poll_meter",)
    assert top_frames(("abort", "raise")) == ("abort", "raise")


# -- learning


def test_recurrence_counts_seven_days_and_memory_is_bounded():
    learned = Learned()
    print_ = b"12345678"
    assert [learned.came(print_, t) for t in (0, 100, 200)] == [1, 2, 3]
    assert learned.came(print_, WINDOW_S + 150) == 2
    for n in range(PRINTS_MOST + 50):
        learned.came(n.to_bytes(8, "big"), 10)
    assert len(learned.prints) == PRINTS_MOST


def test_outcomes_fade_and_are_kept_per_fingerprint_and_remedy():
    learned = Learned()
    for _ in range(4):
        learned.outcome(b"x" * 8, R.RESTART, won=False, box_s=0)
    assert learned.tries(b"x" * 8, R.RESTART) == (0.0, 4.0)
    assert learned.tries(b"y" * 8, R.RESTART) == (0.0, 0.0)
    learned.outcome(b"x" * 8, R.RESTART, won=True, box_s=60 * 86_400)
    wins, losses = learned.tries(b"x" * 8, R.RESTART)
    assert (wins, losses) == (1.0, pytest.approx(1.0))


def test_what_made_it_worse_is_not_used_for_a_week():
    learned = Learned()
    learned.withdraw(b"x" * 8, R.RELOAD, 1_000)
    assert learned.is_withdrawn(b"x" * 8, R.RELOAD, 2_000)
    assert not learned.is_withdrawn(b"x" * 8, R.RESTART, 2_000)
    assert not learned.is_withdrawn(b"x" * 8, R.RELOAD, 1_000 + 8 * 86_400)


# -- choosing


def test_the_cheapest_expected_way_up_is_chosen():
    restart, rollback = Option(R.RESTART, 10, 0.8), Option(R.ROLLBACK, 100, 0.9)
    assert choose((restart, rollback), 1_000) is restart
    assert choose((Option(R.RESTART, 10, 0.02), rollback), 1_000) is rollback
    assert choose((), 1_000) is None
    assert choose((Option(R.ROLLBACK, 100, 0.05),), 50) is None


def test_what_failed_here_before_is_believed_less():
    causes = rank(scene(exit_signal=11))
    p = prior(causes, R.RESTART)
    values = [posterior(p, 0, n) for n in range(6)]
    assert values == sorted(values, reverse=True)
    assert posterior(p, 5, 0) > values[0] > 0.5
    assert posterior(prior(causes, R.REBOOT), 99, 0) == 0.0, "what cannot help is not learned"
    assert all(value == pytest.approx(prior(causes, kind)) for kind, value in priors(causes).items())
    assert prior(causes, R.REBOOT) < 0.01


def test_a_cause_that_only_time_cures_is_held():
    assert holding(rank(scene(needs_network=True, host=HostScene(network_down="carrier"))))
    assert not holding(rank(scene(exit_signal=11)))


# -- budgets, waits, witnesses


def test_budgets_hold_in_every_window_and_across_boots():
    budgets = (Budget(2, 100), Budget(3, 1_000))
    ledger = budget.Ledger({})
    for t in (0, 10):
        ledger = ledger.spend("k", t, budgets)
    assert ledger.left("k", 20, budgets) == 0
    assert ledger.free_at_s("k", 20, budgets) == 100
    ledger = ledger.spend("k", 105, budgets)
    assert ledger.free_at_s("k", 300, budgets) == 1_000
    assert ledger.free_at_s("other", 300, budgets) == 300
    assert ledger.free_at_s("k", 300, (Budget(0, 10),)) == -1
    assert ledger.refund("k", 2).left("k", 300, budgets) == 2


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_a_budget_is_never_exceeded_in_any_window(gaps):
    budgets = (Budget(3, 60), Budget(7, 600))
    ledger, at, uses = budget.Ledger({}), 0, []
    for gap in gaps:
        at += gap
        if ledger.free_at_s("k", at, budgets) <= at:
            ledger = ledger.spend("k", at, budgets)
            uses.append(at)
    for b in budgets:
        for t in uses:
            assert sum(1 for u in uses if t <= u < t + b.per_s) <= b.most


def test_the_back_off_starts_at_once_doubles_with_full_jitter_and_is_capped():
    policy = Policy()
    assert delay_s(policy, 0, 0.99) == delay_s(policy, 1, 0.99) == 0.0
    assert [delay_s(policy, n, 1.0) for n in (2, 3, 4, 20, 10_000)] == [1.0, 2.0, 4.0, 300.0, 300.0]
    assert delay_s(policy, 5, 0.0) == 0.0
    seed, values = 7, []
    for _ in range(2_000):
        seed, value = draw(seed)
        values.append(value)
    assert 0 <= min(values) < 0.01
    assert 0.99 < max(values) < 1
    assert abs(sum(values) / 2_000 - 0.5) < 0.03


def test_what_an_app_can_forge_carries_to_a_restart_and_no_further():
    assert witness.reach((Channel.APP,)) < R.RESTORE_CONFIG
    assert witness.reach((Channel.APP, Channel.AGENT)) < R.RESTORE_CONFIG
    for channel in (Channel.GUARD, Channel.KERNEL, Channel.HARDWARE, Channel.PERSON):
        assert witness.reach((Channel.APP, channel)) >= R.REBOOT
    assert witness.reach(()) is R.LOOK_AGAIN


def test_dependents_come_nearest_first_and_a_cycle_ends():
    need = lambda *names: tuple(NeedSpec("app", n) for n in names)  # noqa: E731
    catalog = {
        "db": AppSpec("db"),
        "web": AppSpec("web", needs=need("db")),
        "ui": AppSpec("ui", needs=need("web")),
        "x": AppSpec("x", needs=need("y")),
        "y": AppSpec("y", needs=need("x")),
    }
    assert needed_by("db", catalog) == ("web", "ui")
    assert needed_by("ui", catalog) == ()
    assert set(needed_by("x", catalog)) == {"y"}
    assert needed_by("ghost", catalog) == ()
