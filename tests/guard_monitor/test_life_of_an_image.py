# SPDX-License-Identifier: Apache-2.0
"""Import, try, soak, good, rollback, blocked: an image's life under the real guard."""

import pytest
from monitor_box import RELEASE, Box, image, until
from workshop import STRANGER, make_trust

from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, GOOD, TRIAL, WRITTEN
from edgeheal.trust import envelope
from edgeheal.wire import guard_frames as f


def test_an_image_is_imported_tried_and_runs_as_trial(box):
    one = image("1.0")
    assert box.install(one, try_it=False) == 0
    assert box.state(one) == WRITTEN
    assert box.runs() == []
    assert box.ask(f.TRY, app="demo", image=one.id).reason == 0
    assert box.state(one) == TRIAL
    run = until(box.runs, 10, "a run")[0]
    assert run["EDGEHEAL_IMAGE"] == one.id.hex()


def test_a_trial_soaks_only_while_an_agent_is_there_and_then_is_good(box):
    one = image("1.0")
    assert box.install(one) == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the app")
    before = box.rows()[one.id]["soak_left"]
    assert before == 5
    with box.agent() as agent:
        until(lambda: box.rows()[one.id]["soak_left"] < 5, 5, "the soak's clock to run")
        assert box.ask(f.MARK_GOOD, app="demo").reason == 0
        seen = agent.events(2)
    assert box.state(one) == GOOD
    assert [(e.code, e.image) for e in seen if e.kind == f.EV_TRIAL] == [(1, one.id)]


def test_a_soak_of_its_whole_length_makes_good_by_itself(box):
    one = image("1.0")
    assert box.install(one) == 0
    with box.agent():
        until(lambda: box.state(one) == GOOD, 15, "the soak to end")


def test_the_agent_may_stop_a_soaks_clock_and_never_mark_good(box):
    one = image("1.0")
    assert box.install(one) == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the app")
    with box.agent() as agent:
        assert agent.ask(f.HOLD_SOAK, app="demo", a=1).reason == 0
        held = box.rows()[one.id]["soak_left"]
        assert agent.ask(f.MARK_GOOD, app="demo", image=one.id).reason == reasons.WRONG_DOOR
        assert agent.events(1.2) is not None
        assert box.rows()[one.id]["soak_left"] == held
        assert agent.ask(f.HOLD_SOAK, app="demo", a=0).reason == 0
        until(lambda: box.rows()[one.id]["soak_left"] < held, 5, "the clock to go on")


def test_fc_img_2_a_trial_that_crashes_is_rolled_back_and_blocked_for_good(box):
    """Rolled back by the guard alone, durable before the start, and five restarts of everything later still v1, v2 never run again."""
    one = box.good(image("1.0"))
    two = image("2.0", mode="crash")
    assert box.install(two) == 0
    until(lambda: box.state(two) == BAD, 10, "the trial to fail")
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "v1 again")
    assert box.running() == one.id
    count = sum(r["EDGEHEAL_IMAGE"] == two.id.hex() for r in box.all_runs())
    assert count == 1
    for _ in range(5):
        box.kill()
        box.sweep()
        box.start()
        until(lambda: box.phase() == f.PHASE_RUNNING, 15, "v1 after a restart of the whole stack")
        assert box.all_runs()[-1]["EDGEHEAL_IMAGE"] == one.id.hex()
    assert sum(r["EDGEHEAL_IMAGE"] == two.id.hex() for r in box.all_runs()) == 1
    assert box.ask(f.TRY, app="demo", image=two.id).reason == reasons.TABLE
    assert box.install(two) == reasons.BLOCKED
    assert box.ask(f.ALLOW, app="demo", image=two.id).reason == 0
    assert box.state(two) == WRITTEN


def test_repacking_what_failed_does_not_help_it(box):
    """Blocked by (tree, run) digest, too: another manifest around the same program is the same program."""
    box.good(image("1.0"))
    two = image("2.0", mode="crash")
    assert box.install(two) == 0
    until(lambda: box.state(two) == BAD, 10, "the trial to fail")
    again = image("2.0", mode="crash", about={"revision": "repacked"})
    assert again.id != two.id
    assert box.install(again) == reasons.BLOCKED


def test_a_first_trial_that_crashes_is_tried_again_then_held(tmp_path):
    """Nothing to go back to: the exits' budget, then held with a human called; a person's start lifts the hold."""
    with Box(tmp_path, guard='[guard.budgets]\nexits = ["3 in 10m"]\nstarts = ["30 in 10m"]') as box:
        box.start()
        one = image("1.0", mode="crash")
        assert box.install(one) == 0
        until(lambda: box.phase() == f.PHASE_STOPPED, 10, "the first crash")
        with box.agent() as agent:
            told = []

            def held():
                told.extend(agent.events(0.05))
                agent.ask(f.START, app="demo")
                return box.phase() == f.PHASE_HELD or any(e.kind == f.EV_TRIAL for e in told)

            until(held, 20, "the hold")
            assert box.state(one) == TRIAL
            assert agent.ask(f.START, app="demo").reason == reasons.HELD
            count = len(box.runs())
        assert 3 <= count <= 5
        assert box.ask(f.START, app="demo").reason == 0
        until(lambda: len(box.runs()) == count + 1, 10, "the start that a person ordered")


def test_a_person_rolls_back_and_undoes_it(box):
    one = box.good(image("1.0"))
    two = box.good(image("2.0"))
    assert box.running() == two.id
    assert box.ask(f.SWITCH, app="demo").reason == 0
    assert box.running() == one.id
    assert box.state(two) == GOOD
    until(lambda: box.runs()[-1]["EDGEHEAL_IMAGE"] == one.id.hex(), 10, "v1 to run")
    assert box.ask(f.SWITCH, app="demo", a=1).reason == 0
    assert box.running() == two.id
    until(lambda: box.runs()[-1]["EDGEHEAL_IMAGE"] == two.id.hex(), 10, "v2 to run")


def test_giving_up_a_trial_blocks_nothing(box):
    one = box.good(image("1.0"))
    two = image("2.0")
    assert box.install(two) == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the trial")
    with box.agent() as agent:
        assert agent.ask(f.GIVE_UP, app="demo").reason == 0
    assert box.running() == one.id
    assert box.state(two) == WRITTEN
    assert box.ask(f.TRY, app="demo", image=two.id).reason == 0


def test_from_good_the_agent_never_goes_to_a_lower_security_counter(box):
    box.good(image("1.0", security=3))
    two = box.good(image("2.0", security=4))
    with box.agent() as agent:
        assert agent.ask(f.SWITCH, app="demo").reason == reasons.NEEDS_APPROVAL
    assert box.running() == two.id
    assert box.ask(f.SWITCH, app="demo").reason == 0


def test_the_floor_clicks_at_mark_good_and_then_refuses_below(box):
    box.good(image("2.0", security=5, min_security_counter=5))
    assert box.install(image("1.0", security=4)) == reasons.BELOW_FLOOR
    assert box.install(image("3.0", security=5)) == 0


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: image("9", keys=(STRANGER,)), reasons.UNKNOWN_KEY),
        (lambda: image("9", device=["other"]), reasons.WRONG_DEVICE),
        (lambda: image("9", app="stranger"), reasons.NO_SUCH_APP),
        (lambda: image("9", extra={"argv": ["/bin/sh", "-c", "x"]}), reasons.NOT_CONFIGURED),
    ],
    ids=["stranger's key", "other device", "other app", "interpreter nobody listed"],
)
def test_what_may_not_run_is_not_even_written(box, made, reason):
    assert box.install(made()) == reason
    assert box.rows() == {}


def test_the_agents_door_gives_no_try_without_a_warrant(box):
    one = image("1.0")
    assert box.install(one, try_it=False) == 0
    with box.agent() as agent:
        assert agent.ask(f.TRY, app="demo", image=one.id).reason == reasons.NO_WARRANT
        assert agent.ask(f.DROP, app="demo", image=one.id).reason == reasons.WRONG_DOOR
        assert agent.ask(f.ALLOW, app="demo", image=one.id).reason == reasons.WRONG_DOOR
        assert agent.ask(f.MARK_FAILED, app="demo", image=one.id).reason == reasons.NOT_SEEN
        assert agent.ask(f.RESTORE_CONFIG, app="demo").reason == reasons.NOT_SEEN
    assert box.state(one) == WRITTEN


def test_newer_trust_takes_an_image_back_and_the_known_good_runs(box):
    one = box.good(image("1.0"))
    two = box.good(image("2.0"))
    chain = envelope.encode(make_trust(2, ids=[two.id]))
    path = box.folder / "2.eht"
    path.write_bytes(chain)
    with path.open("rb") as file:
        answer = box.ask(f.TRUST, fd=file.fileno())
    assert (answer.reason, answer.a) == (0, 2)
    until(lambda: box.running() == one.id and box.phase() == f.PHASE_RUNNING, 10, "v1 instead of the revoked v2")
    assert box.rows()[two.id]["state"] == BAD
    assert box.ask(f.ALLOW, app="demo", image=two.id).reason == reasons.TABLE
    box.again()
    assert box.running() == one.id
    assert box.install(image("3.0"), try_it=False) == 0, "trust 2 is held after a restart"


def test_rotten_files_are_found_before_they_run(box):
    one = box.good(image("1.0"))
    tree = box.layout.tree("demo", one.id.hex())
    with open(f"{tree}/files/app.py", "a") as file:
        file.write("#")
    assert box.ask(f.VERIFY, app="demo", image=one.id).reason == reasons.ROT
    assert box.rows()[one.id]["was"] == GOOD
    assert box.install(image("1.0")) == 0, "healed by the same image, imported again"
    assert box.state(one) == GOOD


def test_a_dropped_image_leaves_the_store_and_the_last_good_stays(box):
    one = box.good(image("1.0"))
    two = image("2.0")
    assert box.install(two, try_it=False) == 0
    assert box.ask(f.DROP, app="demo", image=two.id).reason == 0
    assert two.id not in box.rows()
    assert box.ask(f.DROP, app="demo", image=one.id).reason == reasons.LAST_GOOD
    assert RELEASE is not None
