# SPDX-License-Identifier: Apache-2.0
"""Field cases on the engine's side: each once went wrong in a comparable tool."""

from dataclasses import replace

import pytest

from edgeheal.core import deployment as dep
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec, NeedSpec, ProbeSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import CauseKind, EvidenceCode, IncidentState, Mode, Need, Outcome, RemedyKind, Severity, SymptomKind, Verdict
from edgeheal.core.policy import AppPolicy, Policy, Thresholds
from edgeheal.lab.device import Behaviour, Device, Image

R, O, S, C, E = RemedyKind, Outcome, SymptomKind, CauseKind, EvidenceCode


def tried(incident):
    return [(t.kind, t.outcome) for t in incident.tried]


def code(incident, wanted):
    return next((e for e in incident.evidence if e.code is wanted), None)


def stuck_device(freed_s=None, **policy) -> Device:
    device = Device([AppSpec("a", heartbeat_ms=1_000, stop_ms=5_000), AppSpec("b")], Policy(hooks=("power-cycle",), **policy))
    device.apps["a"].images[0].behaviour = Behaviour(heeds_stop=False, freed_s=freed_s)
    device.start_all()
    device.run(100)
    device.hang("a")
    device.run(10)
    return device


def test_fc_pro_1_an_unkillable_app_is_not_doubled_and_what_can_help_is_offered():
    device = stuck_device()
    (incident,) = device.open()
    assert incident.symptom is S.UNKILLABLE
    assert incident.causes[0].kind is C.DEVICE_IO
    assert code(incident, E.STATE_D).text == "jbd2_log_wait_commit"
    assert (R.RESTART, O.SKIPPED) in tried(incident) or (R.RESTART, O.FAILED) in tried(incident)
    assert incident.state is IncidentState.AWAITING_APPROVAL
    assert incident.planned is R.POWER_CYCLE
    device.kill("b")
    device.run(3_600)
    assert len(device.apps["b"].starts) == 2, "others are served meanwhile"
    assert len(device.apps["a"].starts) == 1, "no second copy"


def test_fc_pro_1_without_such_a_hook_a_reboot_is_offered_never_taken():
    device = Device([AppSpec("a", heartbeat_ms=1_000, stop_ms=5_000)])
    device.apps["a"].images[0].behaviour = Behaviour(heeds_stop=False)
    device.start_all()
    device.run(100)
    device.hang("a")
    device.run(10)
    (incident,) = device.open()
    assert incident.planned is R.REBOOT
    device.run(2 * 86_400)
    assert device.reboots == 0
    assert device.open()[0].state is IncidentState.ESCALATED


@pytest.mark.parametrize("freed_s", [8, 60, 2_400])
def test_fc_pro_1_a_late_end_is_taken_and_the_app_goes_on(freed_s):
    device = stuck_device(freed_s)
    device.run(freed_s + 5)
    assert device.apps["a"].up
    assert len(device.apps["a"].starts) == 2
    device.apps["a"].images[0].behaviour = Behaviour()
    device.run(700)
    assert device.open() == []


def test_fc_pro_2_a_port_held_by_a_stranger_names_him_burns_nothing_and_waits():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    app = device.apps["a"]
    app.images[0].behaviour = Behaviour(lives_s=0.3)
    device.kill("a", 6)
    device.run(0.05)
    device.tell(sig.PortHeld("a", 8080, 4242, "nc -l 8080", "nobody"))
    device.run(1_800)
    (incident,) = device.open()
    assert incident.causes[0].kind is C.PORT_HELD
    assert "nc -l 8080[4242] nobody" in incident.causes[0].subject
    assert incident.need is Need.LOOK
    assert all(not uses for uses in device.state.ledger.spent.values()), "nothing is spent on what a restart cannot cure"
    assert len(app.starts) < 20
    app.images[0].behaviour = Behaviour()
    device.run(400)
    assert app.up
    device.run(100)
    assert device.open() == []


def test_fc_pro_3_after_a_standstill_nobody_is_restarted_who_comes_back():
    device = Device([AppSpec(f"a{i}", heartbeat_ms=60_000) for i in range(12)])
    device.start_all()
    device.run(300)
    device.at += 120
    device.tell(sig.StoodStill(120_000))
    for name in list(device.apps):
        device.tell(sig.HeartbeatMissed(name, 1, 90_000))
    assert device.acts() == []
    device.run(0.5)
    for name in list(device.apps)[1:]:
        device.tell(sig.HeartbeatBack(name, 1))
    device.run(58)
    assert device.acts() == []
    assert len(device.words("stood still")) == 1
    device.run(5)
    assert [a.app for a in device.acts()] == ["a0"], "who stays silent for a full period after the wake-up is treated as hung"


def test_fc_pro_3_a_gap_between_two_signals_is_a_standstill_too():
    device = Device([AppSpec("a", metrics=(MetricSpec("t", every_ms=1_000),))], Policy(start_grace_s=5))
    device.apps["a"].images[0].behaviour = Behaviour(sensors={"t": lambda age: age})
    device.start_all()
    device.run(60)
    device.still(120)
    device.run(30)
    assert device.words("stood still")
    assert device.reports == []


def test_fc_pro_4_restarts_by_a_foreign_hand_are_one_incident_with_the_availability_and_spend_nothing():
    device = Device([AppSpec("a")])
    device.apps["a"].images[0].behaviour = Behaviour(ready_s=20)
    device.start_all(30)
    device.run(100)
    for _ in range(17):
        device.kill("a", 15)
        device.run(50)
    numbers = {i.number for i in device.reports}
    assert len(numbers) == 1
    incident = device.last(numbers.pop())
    assert incident.symptom is S.FOREIGN_RESTARTS
    assert incident.causes[0].kind is C.FOREIGN_HAND
    assert code(incident, E.STARTS_FOREIGN).value >= 5
    assert 0 < code(incident, E.AVAILABILITY_PERMILLE).value < 1_000
    assert device.state.ledger.spent == {}
    assert len(device.apps["a"].starts) == 18
    device.run(2_000)
    assert device.open() == []


def test_fc_pro_4_a_foreign_start_that_the_guard_sees_counts_without_a_remedy():
    device = Device([AppSpec("a")])
    device.start_all()
    for _ in range(8):
        device.run(50)
        app = device.apps["a"]
        app.run += 1
        device.tell(sig.AppStarted("a", app.run, 99, 4, "img1", dep.GOOD))
        device.tell(sig.AppReady("a", app.run))
    assert device.acts() == []
    assert {i.symptom for i in device.reports} == {S.FOREIGN_RESTARTS}


def test_fc_mem_2_a_symptom_back_inside_the_probation_fails_the_restart_and_moves_up():
    device = Device([AppSpec("a", memory_kib=100_000)], Policy(start_grace_s=5), sample_s=2)
    hungry = Behaviour(memory_kib=lambda age: round(20_000 + min(age, 12) * 50_000))
    device.apps["a"].images = [Image("img0", dep.GOOD, Behaviour(memory_kib=lambda _: 30_000)), Image("img1", dep.GOOD, hungry)]
    device._deployments("a")
    device.start_all()
    device.run(400)
    assert device.apps["a"].running == "img0", "up to the image that was good, since the newer one fills up again"
    incident = device.open()[0]
    assert (R.RESTART, O.FAILED) in tried(incident)
    assert len(device.acts(Verb.RESTART)) <= 2
    device.run(800)
    assert tried(device.closed()[0])[-1] == (R.ROLLBACK, O.CURED)


def test_fc_mem_2_time_to_refill_is_kept_and_without_a_way_back_the_app_is_held_with_somebody_told():
    device = Device([AppSpec("a", memory_kib=100_000)], Policy(start_grace_s=5), sample_s=2)
    device.apps["a"].images[0].behaviour = Behaviour(memory_kib=lambda age: round(20_000 + min(age, 12) * 50_000))
    device.start_all()
    device.run(600)
    (incident,) = device.open()
    assert incident.state is IncidentState.ESCALATED
    refill = code(device.last(1), E.REFILL_S)
    assert refill is not None
    assert 0 < refill.value < 60
    assert len(device.apps["a"].starts) <= 4, "no storm"


def test_fc_img_3_a_schema_error_after_the_rollback_is_not_answered_by_rolling_back_further():
    device = Device([AppSpec("a")])
    device.apps["a"].images = [Image("v0", dep.GOOD), Image("v1", dep.GOOD, Behaviour(lives_s=0.2, code=3))]
    device.apps["a"].running = "v1"
    device._deployments("a")
    device.apps["a"].images[1].behaviour = Behaviour()
    device.start_all()
    device.run(100)
    device.install("a", Image("v2", dep.WRITTEN, Behaviour(lives_s=10)))
    device.apps["a"].images[1].behaviour = Behaviour(lives_s=0.2, code=3)
    device.run(12)
    assert device.apps["a"].running == "v1"
    device.tell(sig.LogSeen("a", "schema <*> unknown", 1, 3, "schema 4 unknown", error="SchemaError"))
    device.run(3_600)
    assert device.acts(Verb.ROLLBACK, Verb.GIVE_UP_TRIAL) == []
    assert device.apps["a"].running == "v1"
    (incident,) = device.open()
    assert incident.state is IncidentState.ESCALATED
    assert incident.severity is Severity.CRITICAL


def test_fc_sto_1_the_disk_is_free_again_and_everything_is_looked_at_without_a_restart():
    device = Device([AppSpec("a"), AppSpec("b")])
    device.start_all()
    device.run(100)
    device.tell(sig.HostSample("disk_free_permille:var", 4))
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=0.2, code=28)
    device.kill("a", 6)
    device.run(0.1)
    device.tell(sig.LogSeen("a", "no space left", 1, 3, "No space left on device", error="OSError"))
    device.run(8 * 3_600)
    box = next(i for i in device.open() if i.app == "")
    assert box.symptom is S.DISK_SPACE
    assert box.causes[0].kind is C.DISK_FULL
    assert "a" in box.also, "folded into the box's incident"
    assert len(device.apps["b"].starts) == 1
    device.apps["a"].images[0].behaviour = Behaviour()
    device.tell(sig.HostSample("disk_free_permille:var", 500))
    device.run(1)
    assert device.apps["a"].up
    assert len(device.apps["b"].starts) == 1
    device.run(200)
    assert device.open() == []


def test_fc_log_3_one_weak_supply_is_one_incident_that_asks_for_a_person():
    apps = ["radio", "camera", "serial", "web"]
    device = Device([AppSpec(a) for a in apps])
    for name in apps:
        device.apps[name].images.insert(0, Image("img0", dep.GOOD))
        device._deployments(name)
    device.start_all()
    device.run(100)
    device.kill("radio", 11)
    device.run(0.4)
    device.tell(sig.KernelSaid("undervoltage", "hwmon1"))
    for name in apps[1:]:
        device.run(0.5)
        device.kill(name, 11)
    device.run(20)
    box = next(i for i in device.open() if i.app == "")
    assert set(box.also) == set(apps)
    assert box.causes[0].kind is C.SUPPLY
    assert box.need is Need.VISIT
    assert device.acts(Verb.ROLLBACK) == []
    before = [len(device.apps[a].starts) for a in apps]
    device.tell(sig.KernelSaid("voltage_ok", "hwmon1"))
    device.run(5)
    assert all(device.apps[a].up for a in apps)
    assert all(len(device.apps[a].starts) <= n + 1 for a, n in zip(apps, before, strict=True)), "each is brought up once"
    device.run(200)
    assert device.open() == []


def test_the_same_exits_without_the_voltage_lines_are_still_one_incident():
    apps = ["radio", "camera", "serial", "web"]
    device = Device([AppSpec(a) for a in apps])
    device.start_all()
    device.run(100)
    for name in apps:
        device.kill(name, 11)
        device.run(0.5)
    (head,) = [i for i in device.open() if not device.state.cases[i.number].parent]
    assert set(head.also) == set(apps[1:])
    device.run(200)
    assert device.open() == []
    last = {i.number: i for i in device.reports}
    assert all(i.state is IncidentState.RESOLVED for i in last.values()), "whoever was told of one before hears of its end"


def test_two_apps_that_fail_together_are_two_incidents():
    device = Device([AppSpec("a"), AppSpec("b"), AppSpec("c")])
    device.start_all()
    device.run(100)
    device.kill("a", 11)
    device.kill("b", 6)
    device.run(100)
    assert {i.app for i in device.closed()} == {"a", "b"}
    assert all(i.also == () for i in device.closed())


def silent_sensor(probe_ok=True, **behaviour) -> Device:
    probe = ProbeSpec("web", "live", "http", every_ms=1_000)
    metrics = (MetricSpec("t1", every_ms=1_000, stuck_ms=10_000), MetricSpec("t2", every_ms=1_000))
    device = Device([AppSpec("a", heartbeat_ms=1_000, probes=(probe,), metrics=metrics)], Policy(start_grace_s=5))
    device.apps["a"].images[0].behaviour = Behaviour(**behaviour)
    device.start_all()
    return device


def test_no_restart_for_a_silent_sensor_of_an_app_that_is_well():
    device = silent_sensor(sensors={"t1": lambda age: age if age < 60 else None, "t2": lambda age: age})
    device.run(120)
    assert device.acts() == []
    (incident,) = device.open()
    assert (incident.symptom, incident.subject) == (S.SENSOR_MISSING, "t1")
    assert incident.causes[0].kind is C.SENSOR
    assert incident.causes[0].subject == "t1"
    assert (R.RESTART, O.SKIPPED) in tried(incident)
    assert (incident.state, incident.need, incident.severity) == (IncidentState.ESCALATED, Need.VISIT, Severity.CRITICAL)


def test_no_restart_for_a_stuck_sensor_and_it_resolves_itself():
    device = silent_sensor(sensors={"t1": lambda age: 21.5 if 60 < age < 200 else age, "t2": lambda age: age})
    device.run(120)
    assert device.acts() == []
    (incident,) = device.open()
    assert incident.symptom is S.SENSOR_STUCK
    assert incident.causes[0].kind is C.SENSOR
    device.run(200)
    assert device.open() == []
    assert device.acts() == []


def test_a_dead_app_is_not_taken_for_a_broken_sensor():
    device = silent_sensor(sensors={"t1": lambda age: age, "t2": lambda age: age})
    device.run(60)
    device.hang("a")
    device.run(30)
    assert {i.symptom for i in device.reports} == {S.HANG}
    assert device.acts(Verb.RESTART)


def test_words_that_an_app_can_forge_carry_at_most_to_a_restart():
    probe = ProbeSpec("web", "live", "exec", every_ms=1_000)
    device = Device([AppSpec("a", probes=(probe,), has_config=True)], Policy(start_grace_s=2, hooks=("power-cycle",)))
    device.apps["a"].images = [Image("img0", dep.GOOD), Image("img1", dep.GOOD, Behaviour(probes={"web": lambda _: Verdict.NO}))]
    device._deployments("a")
    device.apps["a"].config_differs = True
    device.start_all()
    device.run(6 * 3_600)
    assert device.acts(Verb.ROLLBACK, Verb.RESTORE_CONFIG, Verb.HOOK, Verb.REBOOT) == []
    assert device.acts(Verb.RESTART)
    assert device.open()[0].state is IncidentState.ESCALATED


def test_a_second_witness_opens_the_way_to_the_image():
    probe = ProbeSpec("web", "live", "exec", every_ms=1_000)
    device = Device([AppSpec("a", probes=(probe,))], Policy(start_grace_s=2))
    device.apps["a"].images = [Image("img0", dep.GOOD), Image("img1", dep.GOOD, Behaviour(lives_s=30, probes={"web": lambda _: Verdict.NO}))]
    device._deployments("a")
    device.start_all()
    device.run(3_600)
    assert device.acts(Verb.ROLLBACK)


def test_did_it_get_worse_after_us_withdraws_the_remedy():
    """A mount goes silent every few hours and comes back by itself. Power-cycling what is behind it makes it silent again in seconds."""
    policy = Policy(hooks=("power-cycle",))
    rungs = {**policy.remedies, R.POWER_CYCLE: replace(policy.remedies[R.POWER_CYCLE], mode=Mode.ACT, budgets=())}
    device = Device([AppSpec("a")], replace(policy, remedies=rungs))
    device.start_all()

    def silent(seconds: float) -> None:
        device.tell(sig.HostSample("mount_silent_s:data", seconds))

    for _ in range(6):
        device.run(7_200)
        before = len(device.acts(Verb.HOOK))
        silent(30)
        device.run(2)
        silent(0)
        device.run(5)
        if len(device.acts(Verb.HOOK)) > before:
            silent(30)
            device.run(600)
            silent(0)
        device.run(700)
    assert len(device.acts(Verb.HOOK)) == 3
    assert len(device.words("withdrawn")) == 1
    outcomes = [[t.outcome for t in i.tried if t.kind is R.POWER_CYCLE] for i in device.closed()]
    assert outcomes == [[O.FAILED], [O.FAILED], [O.WITHDRAWN], [], [], []]


def test_what_a_reload_did_not_cure_is_not_reloaded_again_soon():
    probe = ProbeSpec("web", "live", "http", every_ms=1_000, misses=3)
    device = Device([AppSpec("a", can_reload=True, has_config=True, probes=(probe,))], Policy(start_grace_s=2))
    device.apps["a"].images[0].behaviour = Behaviour(probes={"web": lambda age: Verdict.NO if age > 200 else Verdict.YES})
    device.apps["a"].config_differs = True
    device.start_all()
    device.run(6_000)
    assert len(device.acts(Verb.RELOAD)) == 1


def test_a_growth_far_from_its_limit_is_told_now_and_restarted_shortly_before():
    device = Device([AppSpec("a", memory_kib=1_000_000)], Policy(start_grace_s=60), sample_s=10)
    device.apps["a"].images[0].behaviour = Behaviour(memory_kib=lambda age: round(300_000 + age * 100))
    device.start_all()
    device.until(lambda: bool(device.reports), 7_000, 10)
    incident = device.reports[0]
    assert incident.symptom is S.MEMORY_GROWTH
    hours = code(incident, E.HOURS_TO_LIMIT)
    assert 0.05 < hours.value < 2
    device.until(lambda: bool(device.acts(Verb.RESTART)), 7_000, 10)
    used = 300_000 + (device.at - device.apps["a"].starts[0]) * 100
    assert 900_000 < used < 1_000_000, "before it hurts, and not long before"
    device.run(100)
    assert tried(device.closed()[0])[-1] == (R.RESTART, O.CURED)


def test_the_engine_tells_about_the_devices_own_troubles():
    device = Device([AppSpec("a")])
    device.start_all()
    device.tell(sig.ConfigIs(ok=False, place="edgeheal.toml:12", message="10ss has no such unit"))
    device.tell(sig.SelfSaid("journal", "unwritable", ok=False, value=28))
    device.tell(sig.SelfSaid("guard", "lost", ok=False))
    device.run(10)
    assert {i.symptom for i in device.open()} == {S.CONFIG_BROKEN, S.AGENT_SELF, S.GUARD_LOST}
    assert all(i.causes for i in device.open())
    assert device.acts() == []
    device.tell(sig.ConfigIs(ok=True))
    device.tell(sig.SelfSaid("journal", "unwritable", ok=True))
    device.tell(sig.SelfSaid("guard", "lost", ok=True))
    device.run(60)
    assert device.open() == []


def test_an_outage_of_the_link_is_told_when_it_lasted_and_touches_no_app():
    device = Device([AppSpec("a")])
    device.start_all()
    device.tell(sig.LinkIs("broker", up=False))
    device.run(60)
    device.tell(sig.LinkIs("broker", up=True))
    device.run(600)
    assert device.reports == []
    device.tell(sig.LinkIs("carrier", up=False))
    device.run(400)
    (incident,) = device.open()
    assert (incident.symptom, incident.severity) == (S.CARRIER, Severity.INFO)
    device.tell(sig.LinkIs("broker", up=True))
    device.run(60)
    assert device.open() == []
    assert device.acts() == []


def test_an_unplanned_boot_is_told_once_and_resolves_itself():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(1_000)
    device.reboot(reason="power loss")
    device.run(120)
    (incident,) = [i for i in device.closed() if i.symptom is S.UNPLANNED_BOOT]
    assert incident.severity is Severity.INFO
    assert device.open() == []
    assert device.acts() == []


def test_a_case_lives_across_a_reboot_and_its_times_do_not_run_backwards():
    device = Device([AppSpec("a")], Policy(apps={"a": AppPolicy(mode=Mode.ASK)}))
    device.start_all()
    device.run(5_000)
    device.kill("a")
    device.run(10)
    assert device.open()
    device.at = 1_000.0 + 5_015
    device.reboot()
    device.run(100)
    assert device.open() == [], "it came up with the boot"


def test_restart_with_dependents_restarts_each_once_in_order():
    needs = (NeedSpec("app", "db"),)
    policy = Policy()
    rungs = dict(policy.remedies)
    for kind in (R.RESTART, R.CLEAN_RESTART):
        rungs[kind] = type(rungs[kind])(budgets=(type(rungs[R.RESTART].budgets[0])(0, 600),))
    device = Device([AppSpec("db", heartbeat_ms=1_000), AppSpec("web", needs=needs), AppSpec("ui", needs=(NeedSpec("app", "web"),))], Policy(remedies=rungs))
    device.start_all()
    device.run(100)
    device.hang("db")
    device.run(60)
    acts = [(a.verb, a.app) for a in device.acts(Verb.RESTART, Verb.START)]
    assert acts == [(Verb.RESTART, "db"), (Verb.RESTART, "web"), (Verb.RESTART, "ui")]
    assert [len(device.apps[n].starts) for n in ("db", "web", "ui")] == [2, 2, 2]
    assert device.apps["db"].starts[1] < device.apps["web"].starts[1] < device.apps["ui"].starts[1]
    device.run(60)
    assert [t.kind for t in device.closed()[0].tried] == [R.RESTART_GROUP]
    assert {i.app for i in device.reports} == {"db"}


def test_thresholds_come_from_policy():
    device = Device([AppSpec("a")], Policy(thresholds=Thresholds(crash_loop_exits=2)))
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=1)
    device.start_all()
    device.run(6)
    assert device.last(1).symptom is S.CRASH_LOOP
