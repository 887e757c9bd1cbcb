# SPDX-License-Identifier: Apache-2.0
"""The ladder on a simulated device: what is done about ends, hangs, probes, loops - and how often."""

import pytest

from edgeheal.core import deployment as dep
from edgeheal.core import reasons
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, NeedSpec, ProbeSpec
from edgeheal.core.effect import Verb
from edgeheal.core.kinds import AppState, CauseKind, ImageStatus, IncidentState, Mode, Need, Outcome, RemedyKind, Severity, SymptomKind, Verdict
from edgeheal.core.policy import AppPolicy, Policy
from edgeheal.lab.device import Behaviour, Device, Image

R, O = RemedyKind, Outcome


def crashing(**more) -> Behaviour:
    return Behaviour(lives_s=0.5, **more)


def tried(incident):
    return [(t.kind, t.outcome) for t in incident.tried]


def test_a_killed_app_is_restarted_at_once_verified_and_resolved():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.kill("a")
    device.run(0.1)
    assert device.apps["a"].up
    assert device.apps["a"].starts[-1] - device.apps["a"].starts[0] < 101.1
    device.run(61)
    (incident,) = device.closed()
    assert tried(incident) == [(R.RESTART, O.CURED)]
    assert incident.severity is Severity.WARNING
    assert incident.need is Need.NOTHING
    assert incident.causes[0].kind is CauseKind.APP_CRASH
    assert 0 < incident.downtime_ms < 200
    assert device.state.cases == {}
    assert device.state.apps["a"].state is AppState.HEALTHY


def test_a_hung_app_is_ended_and_started_anew():
    device = Device([AppSpec("a", heartbeat_ms=1_000)])
    device.start_all()
    device.run(30)
    device.hang("a")
    device.run(2)
    assert [a.verb for a in device.acts()] == [Verb.RESTART]
    device.run(61)
    (incident,) = device.closed()
    assert incident.symptom is SymptomKind.HANG
    assert incident.causes[0].kind is CauseKind.APP_HANG
    assert tried(incident) == [(R.RESTART, O.CURED)]


def test_a_live_probe_that_fails_restarts_the_app():
    probe = ProbeSpec("web", "live", "http", every_ms=1_000, misses=3)

    def answer(age: float) -> Verdict:
        return Verdict.NO if age > 70 and len(device.apps["a"].starts) == 1 else Verdict.YES

    device = Device([AppSpec("a", probes=(probe,))])
    device.apps["a"].images[0].behaviour = Behaviour(probes={"web": answer})
    device.start_all()
    device.run(80)
    assert [a.verb for a in device.acts()] == [Verb.RESTART]
    device.run(70)
    (incident,) = device.closed()
    assert incident.symptom is SymptomKind.PROBE_FAILED
    assert incident.severity is Severity.WARNING


def test_a_crash_loop_stays_within_25_starts_in_ten_minutes_and_is_retried_slowly_for_ever():
    device = Device([AppSpec("a"), AppSpec("b")])
    device.apps["a"].images[0].behaviour = crashing()
    device.start_all()
    device.run(600)
    assert len(device.apps["a"].starts) <= 25
    assert len(device.apps["b"].starts) == 1
    (incident,) = device.open()
    assert incident.symptom is SymptomKind.CRASH_LOOP
    assert incident.state is IncidentState.ESCALATED
    assert (incident.severity, incident.need) == (Severity.CRITICAL, Need.LOOK)
    before = len(device.apps["a"].starts)
    device.run(6 * 3_600)
    hourly = (len(device.apps["a"].starts) - before) / 6
    assert 3 <= hourly <= 4, "a slow retry every 15 minutes, for ever"
    device.apps["a"].images[0].behaviour = Behaviour()
    device.run(1_000)
    assert device.state.cases == {}, "an escalated one that turns healthy resolves itself"
    assert device.closed()[-1].number == incident.number


def test_a_failed_remedy_moves_up_never_down():
    device = Device([AppSpec("a", has_config=True)])
    device.apps["a"].images.insert(0, Image("img0", dep.GOOD, crashing()))
    device.apps["a"].images[1].behaviour = crashing()
    device.apps["a"].running = "img1"
    device._deployments("a")
    device.start_all()
    device.run(1_200)
    used = [t.kind for t in device.last(1).tried if t.outcome in (O.FAILED, O.CURED, O.RUNNING)]
    assert used == sorted(used)
    assert R.ROLLBACK in used


def test_going_back_happens_once_an_incident_however_it_fails_then():
    device = Device([AppSpec("a")])
    device.apps["a"].images = [Image("img0", dep.GOOD, crashing()), Image("imgA", dep.GOOD, crashing()), Image("img1", dep.GOOD, crashing())]
    device._deployments("a")
    device.start_all()
    device.run(3_600)
    assert len(device.acts(Verb.ROLLBACK)) <= 1


def test_rollbacks_do_not_play_ping_pong():
    device = Device([AppSpec("a")])
    device.apps["a"].images = [Image("img0", dep.GOOD, crashing()), Image("img1", dep.GOOD, crashing())]
    device._deployments("a")
    device.start_all()
    device.run(5 * 86_400)
    assert len(device.acts(Verb.ROLLBACK)) <= 2


@pytest.mark.parametrize("where", ["device", "app", "remedy"])
def test_observe_decides_the_same_and_does_nothing(where):
    policy = {
        "device": Policy(mode=Mode.OBSERVE),
        "app": Policy(apps={"a": AppPolicy(mode=Mode.OBSERVE)}),
        "remedy": Policy(apps={"a": AppPolicy(remedies={R.RESTART: Mode.OBSERVE})}),
    }[where]
    device = Device([AppSpec("a")], policy)
    device.start_all()
    device.run(100)
    device.kill("a")
    device.run(10)
    assert device.acts() == []
    (incident,) = device.open()
    assert tried(incident) == [(R.RESTART, O.WOULD)]
    assert tried(device.last(1)) == [(R.RESTART, O.WOULD)]
    twin = Device([AppSpec("a")])
    twin.start_all()
    twin.run(100)
    twin.kill("a")
    assert [d.args[0] for d in twin.words("chose")] == [d.args[0] for d in device.words("chose")]


def asking() -> Device:
    device = Device([AppSpec("a")], Policy(apps={"a": AppPolicy(mode=Mode.ASK)}))
    device.start_all()
    device.run(100)
    device.kill("a")
    device.run(1)
    return device


def test_ask_waits_for_a_person_and_then_acts():
    device = asking()
    (incident,) = device.open()
    assert (incident.state, incident.need, incident.severity) == (IncidentState.AWAITING_APPROVAL, Need.APPROVE, Severity.ERROR)
    assert incident.planned is R.RESTART
    assert device.acts() == []
    device.order(6, "a", arg="1")
    device.run(1)
    assert device.apps["a"].up
    device.run(70)
    assert tried(device.closed()[0]) == [(R.RESTART, O.CURED)]


def test_an_approval_expires_into_needs_you_never_into_acting():
    device = asking()
    device.run(86_400)
    (incident,) = device.open()
    assert incident.state is IncidentState.ESCALATED
    assert incident.need is Need.LOOK
    assert device.acts(Verb.START, Verb.RESTART) == []


def test_a_rejected_remedy_is_not_used():
    device = asking()
    device.order(7, "a")
    device.run(3_600)
    assert device.acts(Verb.START, Verb.RESTART) == []
    assert device.open()[0].state is IncidentState.ESCALATED


def test_a_pause_stops_all_remedies_and_ends():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.order(3, "a", until_s=int(device.at) + 600)
    device.kill("a")
    device.run(590)
    assert device.acts() == []
    assert device.state.apps["a"].state is AppState.PAUSED
    device.run(20)
    assert device.apps["a"].up
    device.run(100)
    assert device.state.apps["a"].state is AppState.HEALTHY


def test_resume_ends_a_pause_of_everything():
    device = Device([AppSpec("a"), AppSpec("b")])
    device.start_all()
    device.run(100)
    device.order(3, until_s=int(device.at) + 6_000)
    device.kill("a")
    device.run(100)
    assert device.acts() == []
    device.order(4)
    device.run(1)
    assert device.apps["a"].up


def test_manual_stops_and_restarts_are_never_failures():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    for action in (1, 1, 11):
        device.order(action, "a")
        device.run(30)
    assert device.reports == []
    assert device.state.apps["a"].state is AppState.STOPPED
    device.run(86_400)
    assert device.acts() == []
    device.order(10, "a")
    device.run(10)
    assert device.apps["a"].up
    assert device.reports == []


def test_a_stop_by_a_person_closes_what_was_wrong():
    device = Device([AppSpec("a")])
    device.apps["a"].images[0].behaviour = crashing()
    device.start_all()
    device.run(60)
    assert device.open()
    device.order(11, "a")
    device.run(1_000)
    assert device.open() == []
    assert not device.apps["a"].up


def test_a_planned_update_is_no_failure():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.install("a", Image("img2", dep.WRITTEN))
    device.run(300)
    assert device.reports == []
    assert device.acts() == []


def test_a_crash_on_trial_is_the_guards_and_is_told_as_rolled_back_and_blocked():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.install("a", Image("img2", dep.WRITTEN, crashing()))
    device.run(5)
    assert device.acts(Verb.START, Verb.RESTART, Verb.ROLLBACK) == []
    assert device.apps["a"].running == "img1"
    device.run(700)
    (incident,) = device.closed()
    assert incident.symptom is SymptomKind.TRIAL_FAILED
    assert incident.causes[0].kind is CauseKind.APP_IMAGE
    assert tried(incident) == [(R.ROLLBACK, O.CURED)]
    assert incident.image == "img2"
    assert incident.image_status is ImageStatus.BLOCKED
    assert incident.severity is Severity.ERROR


def test_a_sick_trial_is_given_up_early_for_the_good_one():
    probe = ProbeSpec("web", "live", "http", every_ms=1_000, misses=3)
    device = Device([AppSpec("a", probes=(probe,))], Policy(start_grace_s=2))
    device.start_all()
    device.run(100)
    device.install("a", Image("img2", dep.WRITTEN, Behaviour(probes={"web": lambda _: Verdict.NO})))
    device.run(10)
    (act,) = device.acts()
    assert (act.verb, act.target) == (Verb.GIVE_UP_TRIAL, "img2")
    assert device.apps["a"].running == "img1"
    device.run(700)
    assert tried(device.closed()[0]) == [(R.ROLLBACK, O.CURED)]


def test_a_first_trial_without_a_good_image_gets_the_ladders_restarts_first():
    device = Device([AppSpec("a")])
    device.apps["a"].images = [Image("img1", dep.TRIAL, crashing())]
    device._deployments("a")
    device.start_all()
    device.run(60)
    assert len(device.acts(Verb.START)) >= 3
    device.tell(sig.TrialEnded("a", "img1", good=False, back_to="", reason=dep.R_FAILED))
    device.run(1)
    (incident,) = device.open()
    assert incident.state is IncidentState.ESCALATED
    assert incident.severity is Severity.CRITICAL


def test_a_code_that_means_finished_is_no_failure():
    device = Device([AppSpec("a", done=(7,))])
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=5, code=7)
    device.start_all()
    device.run(600)
    assert device.reports == []
    assert device.state.apps["a"].state is AppState.STOPPED


def test_fc_cfg_1_an_exit_with_status_0_by_itself_is_started_again():
    device = Device([AppSpec("a")])
    device.apps["a"].images[0].behaviour = Behaviour(lives_s=10, code=0)
    device.start_all()
    device.run(15)
    assert len(device.apps["a"].starts) >= 2
    assert device.reports[0].symptom is SymptomKind.EXIT


def test_fc_cfg_1_a_reload_that_ends_the_app_is_a_failed_remedy_and_the_app_is_started():
    probe = ProbeSpec("web", "live", "http", every_ms=1_000, misses=3)

    def answers(_age: float) -> Verdict:
        return Verdict.NO if len(device.apps["a"].starts) == 1 and device.at > 1_080 else Verdict.YES

    device = Device([AppSpec("a", can_reload=True, has_config=True, probes=(probe,))])
    device.apps["a"].images[0].behaviour = Behaviour(reload_ends=True, probes={"web": answers})
    device.apps["a"].config_differs = True
    device.start_all()
    device.run(90)
    assert [a.verb for a in device.acts()] == [Verb.RELOAD, Verb.START]
    assert device.apps["a"].up
    device.run(70)
    (incident,) = device.closed()
    assert tried(incident) == [(R.RELOAD, O.FAILED), (R.RESTART, O.CURED)]


def test_fc_cfg_1_an_app_that_is_not_ready_or_declares_no_reload_is_not_reloaded():
    for spec in (AppSpec("a", has_config=True, heartbeat_ms=1_000), AppSpec("a", has_config=True, can_reload=True, ready="probe", heartbeat_ms=1_000)):
        device = Device([spec])
        device.apps["a"].config_differs = True
        device.start_all()
        device.hang("a")
        device.run(120)
        assert device.acts(Verb.RELOAD) == []


def test_a_broken_config_is_put_back_before_any_rollback():
    device = Device([AppSpec("a", has_config=True)])
    device.apps["a"].images.insert(0, Image("img0", dep.GOOD))
    device._deployments("a")
    device.start_all()
    device.run(100)
    device.break_config("a", crashing())
    device.kill("a", 15)
    device.run(120)
    assert device.acts(Verb.ROLLBACK) == []
    assert len(device.acts(Verb.RESTORE_CONFIG)) == 1
    assert device.apps["a"].up
    (incident,) = device.closed()
    assert tried(incident)[-1] == (R.RESTORE_CONFIG, O.CURED)
    assert incident.causes[0].kind is CauseKind.APP_CONFIG
    assert incident.severity is Severity.ERROR


def test_dependents_wait_for_what_they_need_and_are_started_once():
    needs = (NeedSpec("app", "db"),)
    device = Device([AppSpec("db"), AppSpec("web", needs=needs), AppSpec("ui", needs=needs)])
    device.start_all()
    device.run(100)
    device.apps["db"].images[0].behaviour = Behaviour(ready_s=20)
    device.kill("db")
    device.run(0.2)
    device.kill("web", 6)
    device.run(200)
    web = device.apps["web"]
    assert len(web.starts) == 2
    assert device.apps["ui"].starts[1:] == []
    assert web.starts[-1] >= device.apps["db"].starts[-1] + 20, "started once the one it needs is ready"
    (head,) = [i for i in device.closed() if i.app == "db"]
    assert "web" in head.also


def test_budgets_are_kept_per_class_of_cause_and_an_outage_spends_nothing():
    needs = (NeedSpec("network", "uplink", hard=False),)
    device = Device([AppSpec("a", needs=needs)])
    device.start_all()
    device.run(100)
    device.tell(sig.LinkIs("carrier", up=False))
    device.apps["a"].images[0].behaviour = crashing()
    device.kill("a", 6)
    device.run(3_600)
    assert device.state.ledger.spent == {}
    (incident,) = [i for i in device.open() if i.app == "a"] or [i for i in device.reports if i.app == "a"][-1:]
    assert incident.causes[0].kind is CauseKind.NETWORK
    assert incident.state is not IncidentState.ESCALATED
    assert len(device.apps["a"].starts) <= 30, "held in back-off"
    device.apps["a"].images[0].behaviour = Behaviour()
    device.tell(sig.LinkIs("carrier", up=True))
    device.run(1)
    assert device.apps["a"].up, "the end of the outage is an event: started at once"
    device.run(100)
    assert device.open() == []


def test_what_the_guard_refuses_for_want_of_budget_moves_up():
    device = Device([AppSpec("a")])
    device.refuse = {Verb.START: reasons.BUDGET_SPENT, Verb.CLEAN_RESTART: reasons.BUDGET_SPENT}
    device.start_all()
    device.run(100)
    device.kill("a")
    device.run(10)
    assert device.open()[0].state is IncidentState.ESCALATED
    assert (R.RESTART, O.REFUSED) in tried(device.open()[0])


def test_an_act_in_doubt_is_asked_after_and_not_repeated():
    device = Device([AppSpec("a")])
    device.apps["a"].images = [Image("img0", dep.GOOD), Image("img1", dep.GOOD, crashing())]
    device._deployments("a")
    device.mute = {Verb.ROLLBACK}
    device.start_all()
    device.until(lambda: bool(device.acts(Verb.ROLLBACK)), 3_600)
    act = device.acts(Verb.ROLLBACK)[0]
    device.tell(sig.ActEnded(act.number, doubt=True))
    assert device.acts(Verb.LOOK)
    device.run(3_600)
    assert len(device.acts(Verb.ROLLBACK)) == 1
    assert (R.ROLLBACK, O.IN_DOUBT) in [(t.kind, t.outcome) for i in device.reports + device.open() for t in i.tried]


def test_back_off_resets_itself_after_a_healthy_run():
    device = Device([AppSpec("a")])
    device.apps["a"].images[0].behaviour = crashing()
    device.start_all()
    device.run(12)
    device.apps["a"].images[0].behaviour = Behaviour()
    device.run(400)
    before = device.at
    device.kill("a")
    device.run(1)
    assert device.apps["a"].starts[-1] - before < 0.1


def test_a_restart_that_lost_its_second_half_is_finished():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    run = device.apps["a"].run
    device.apps["a"].up = device.apps["a"].ready = False
    device.tell(sig.AppExited("a", run, None, 15, ordered=True, lived_ms=100_000))
    device.run(6)
    assert device.apps["a"].up


def test_fc_pro_5_an_app_that_is_wanted_and_found_stopped_is_started():
    device = Device([AppSpec("a")])
    device.tell(sig.AppSeen("a", 3, 0, wanted=True, image="img1", image_state=4))
    device.run(6)
    assert device.apps["a"].up
    other = Device([AppSpec("a")])
    other.apps["a"].wanted = False
    other.tell(sig.AppSeen("a", 3, 0, wanted=False, image="img1", image_state=4))
    other.run(3_600)
    assert other.acts() == []


def test_a_crash_while_the_agent_was_away_is_told_with_an_unknown_status_and_nothing_is_started_twice():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    app = device.apps["a"]
    app.run += 1
    app.started_ns = round(device.at * 1e9)
    device.seen("a")
    device.run(100)
    assert device.acts() == []
    (incident,) = device.closed()
    assert incident.symptom is SymptomKind.EXIT


def test_nothing_is_restarted_for_a_reboot_that_a_person_ordered():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(1_000)
    device.reboot(clean=True)
    device.run(600)
    assert device.reports == []
    assert device.acts() == []


def test_a_start_that_never_reached_the_guard_is_ordered_again_once_it_says_so():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.mute = {Verb.START}
    device.kill("a")
    device.run(1)
    assert not device.apps["a"].up
    device.mute = set()
    device.seen("a")
    device.run(0.1)
    assert device.apps["a"].up
    device.seen("a")
    assert len(device.apps["a"].starts) == 2


def test_a_start_in_doubt_is_repeated_soon_since_it_is_harmless():
    device = Device([AppSpec("a")])
    device.start_all()
    device.run(100)
    device.mute = {Verb.START}
    device.kill("a")
    (act,) = device.acts(Verb.START)
    device.mute = set()
    device.tell(sig.ActEnded(act.number, reason=reasons.IN_DOUBT, doubt=True))
    device.run(2)
    assert device.apps["a"].up
    device.run(100)
    assert tried(device.closed()[0])[-1] == (R.RESTART, O.CURED)


def test_with_the_guard_away_nothing_moves_up_the_ladder():
    device = Device([AppSpec("a")])
    device.apps["a"].images.insert(0, Image("img0", dep.GOOD))
    device._deployments("a")
    device.start_all()
    device.run(100)
    device.refuse = dict.fromkeys(Verb, reasons.NOT_RUNNING)
    device.kill("a")
    device.run(120)
    assert {a.verb for a in device.acts()} <= {Verb.START, Verb.LOOK}
    device.refuse = {}
    device.run(400)
    assert device.apps["a"].up
    assert device.apps["a"].running == "img1"
