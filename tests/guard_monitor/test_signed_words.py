# SPDX-License-Identifier: Apache-2.0
"""PRESENT: signed words are judged, spent once, carried out once; a refusal spends nothing."""

import os
import time

import pytest
from monitor_box import RELEASE, TECHNICIAN, Box, image, until
from workshop import STRANGER, make_trust

from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD, TRIAL, WRITTEN
from edgeheal.core.kinds import ActionCode as A
from edgeheal.trust import envelope
from edgeheal.trust.envelope import Envelope
from edgeheal.wire import guard_frames as f


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One device with a good image, for words that change little."""
    with Box(tmp_path_factory.mktemp("words")) as box:
        box.start()
        box.good(image("1.0"))
        yield box


def restarts(box):
    return len(box.runs())


def test_a_command_is_carried_out_once_and_the_same_bytes_never_again(shared):
    raw, count = shared.order(A.RESTART), restarts(shared)
    first = shared.present(raw, agent=True)
    assert (first.reason, first.a, first.app) == (0, A.RESTART, "demo")
    until(lambda: restarts(shared) == count + 1, 10, "the restart")
    for door in (True, False):
        assert shared.present(raw, agent=door).reason == reasons.REPLAY
    assert restarts(shared) == count + 1


def test_fc_flt_2_ids_and_counters_are_remembered_over_a_kill_of_the_guard(shared):
    raw, count = shared.order(A.RESTART), restarts(shared)
    assert shared.present(raw, agent=True).reason == 0
    until(lambda: restarts(shared) == count + 1 and shared.phase() == f.PHASE_RUNNING, 10, "the restart, to its end: one that is cut in half is finished")
    for _ in range(3):
        shared.again()
        assert shared.present(raw, agent=True).reason == reasons.REPLAY
    assert restarts(shared) == count + 1


def test_an_id_is_remembered_also_when_the_counters_record_is_lost(shared):
    raw, count = shared.order(A.RESTART), restarts(shared)
    assert shared.present(raw).reason == 0
    until(lambda: restarts(shared) == count + 1, 10, "the restart")
    old = shared.order(A.RESTART, counter=1)
    shared.kill()
    for name in ("counters.a", "counters.b"):
        os.truncate(f"{shared.layout.guard}/{name}", 0)
    shared.start()
    assert shared.present(raw).reason == reasons.REPLAY
    assert shared.present(old).reason == reasons.REPLAY, "the counter itself comes back from the marks log"


def refused(box, **words):
    return lambda: box.order(A.RESTART, **words)


@pytest.mark.parametrize(
    ("words", "agent", "reason"),
    [
        ({"by": STRANGER}, True, reasons.UNKNOWN_KEY),
        ({"device": "gw-2"}, True, reasons.WRONG_DEVICE),
        ({"tenant": "other"}, True, reasons.WRONG_TENANT),
        ({"expires": int(time.time()) - 10}, True, reasons.EXPIRED),
        ({"by": TECHNICIAN}, True, reasons.WRONG_DOOR),
        ({"counter": 1}, True, reasons.REPLAY),
        ({"counter": 2**40}, True, reasons.COUNTER_LEAP),
        ({"nonce": b"another!"}, True, reasons.WRONG_NONCE),
        ({"app": "nobody"}, True, reasons.NO_SUCH_APP),
        ({"by": RELEASE}, True, reasons.WRONG_ROLE),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else None,
)
def test_a_wrong_word_is_refused_by_name_and_spends_nothing(shared, words, agent, reason):
    count = restarts(shared)
    before = shared.ask(f.CHALLENGE).b
    assert shared.present(shared.order(A.RESTART, **words), agent=agent).reason == reason
    assert shared.ask(f.CHALLENGE).b == before
    assert restarts(shared) == count


def test_mangled_and_unsealed_words_are_refused(shared):
    raw, count = shared.order(A.RESTART), restarts(shared)
    for bad in (b"", raw[:-1], raw[:40], raw + b"x", bytes(100), b"\xff" * 70_000, raw[:50] + bytes([raw[50] ^ 1]) + raw[51:]):
        assert shared.present(bad, agent=True).reason not in (0, reasons.INTERNAL)
    assert shared.present(raw, sealed=False).reason == reasons.MALFORMED
    assert shared.present(bytes(80_000)).reason == reasons.TOO_LARGE
    assert shared.ask(f.PRESENT).reason == reasons.MALFORMED
    assert shared.ask(f.STATUS).reason == 0
    assert restarts(shared) == count
    assert shared.present(raw, agent=True).reason == 0, "what was mangled before is still good once"


def test_a_technicians_token_holds_at_the_box(shared):
    count = restarts(shared)
    assert shared.present(shared.order(A.RESTART, by=TECHNICIAN)).reason == 0
    until(lambda: restarts(shared) == count + 1, 10, "the restart")


def test_a_grave_command_needs_the_boot_nonce(shared):
    assert shared.present(shared.order(A.ROLLBACK, nonce=b""), agent=True).reason == reasons.WRONG_NONCE


def test_an_install_command_waits_for_its_bundle_and_is_good_for_one_try(box):
    box.good(image("1.0"))
    two, other = image("2.0"), image("3.0")
    with box.agent() as agent:
        path = box.folder / "two.ehi"
        path.write_bytes(two.bytes())
        with path.open("rb") as file:
            assert agent.ask(f.IMPORT, fd=file.fileno()).reason == reasons.NO_WARRANT
        assert box.present(box.order(A.INSTALL, made=two, by=RELEASE), agent=True).reason == 0
        wrong = box.folder / "other.ehi"
        wrong.write_bytes(other.bytes())
        with wrong.open("rb") as file:
            assert agent.ask(f.IMPORT, fd=file.fileno()).reason not in (0, reasons.NO_WARRANT), "another image than the warrant names"
        with path.open("rb") as file:
            assert agent.ask(f.IMPORT, fd=file.fileno()).reason == 0
        until(lambda: box.state(two) == TRIAL and box.running() == two.id, 10, "the try that the warrant allows")
        done = []
        until(lambda: done.extend(e for e in agent.events(0.1) if e.kind == f.EV_DONE) or done, 10, "the command's end to be told")
        assert [(e.code, e.a) for e in done] == [(0, A.INSTALL)]
        assert agent.ask(f.GIVE_UP, app="demo").reason == 0
        assert box.state(two) == WRITTEN
        assert agent.ask(f.TRY, app="demo", image=two.id).reason == reasons.NO_WARRANT


def test_a_warrant_that_waits_survives_a_kill_of_the_guard(box):
    box.good(image("1.0"))
    two = image("2.0")
    assert box.present(box.order(A.INSTALL, made=two, by=RELEASE), agent=True).reason == 0
    box.again()
    path = box.folder / "two.ehi"
    path.write_bytes(two.bytes())
    with box.agent() as agent, path.open("rb") as file:
        assert agent.ask(f.IMPORT, fd=file.fileno()).reason == 0
    until(lambda: box.state(two) == TRIAL, 10, "the try")


def test_rollback_mark_good_allow_by_signed_word(box):
    one, two = box.good(image("1.0")), image("2.0")
    assert box.install(two) == 0
    until(lambda: box.phase() == f.PHASE_RUNNING and box.runs()[-1]["EDGEHEAL_IMAGE"] == two.id.hex(), 10, "the trial")
    until(lambda: box.present(box.order(A.MARK_GOOD, made=two, by=RELEASE), agent=True).reason == 0, 5, "mark good")
    assert box.state(two) == GOOD
    assert box.present(box.order(A.ROLLBACK), agent=True).reason == 0
    assert box.running() == one.id
    assert box.present(box.order(A.PAUSE, seconds=60), agent=True).reason == 0
    assert f.APP_ROW.unpack(box.ask(f.STATUS).rows[0])[9] > 0
    assert box.present(box.order(A.RESUME, app=""), agent=True).reason == 0
    assert f.APP_ROW.unpack(box.ask(f.STATUS).rows[0])[9] == 0
    assert box.present(box.order(A.STOP), agent=True).reason == 0
    until(lambda: box.phase() == f.PHASE_STOPPED, 10, "the stop")
    assert box.present(box.order(A.START), agent=True).reason == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the start")
    assert box.present(box.order(A.REBOOT, app=""), agent=True).reason == reasons.NOT_CONFIGURED


def test_under_threshold_is_refused(tmp_path):
    with Box(tmp_path, trust=make_trust(threshold=2, release=(RELEASE, STRANGER))) as box:
        box.start()
        assert box.install(image("1.0")) == reasons.UNDER_THRESHOLD
        assert box.install(image("1.0", keys=(RELEASE, STRANGER))) == 0


def test_a_chain_shorter_than_the_highest_seen_is_damage_and_what_runs_goes_on(box):
    one = box.good(image("1.0"))
    path = box.folder / "2.eht"
    path.write_bytes(envelope.encode(make_trust(2)))
    with path.open("rb") as file:
        assert box.ask(f.TRUST, fd=file.fileno()).reason == 0
    assert box.install(image("2.0"), try_it=False) == 0
    box.kill()
    os.unlink(f"{box.layout.trust}/00002.eht")
    box.start()
    assert box.phase() == f.PHASE_RUNNING, "adopted"
    assert box.install(image("3.0")) == reasons.TRUST_CHAIN
    assert box.running() == one.id
    with path.open("rb") as file:
        assert box.ask(f.TRUST, fd=file.fileno()).reason in (0, reasons.TRUST_CHAIN)


def test_an_envelope_of_another_type_is_no_command(shared):
    one = RELEASE.sign(Envelope(envelope.MANIFEST, image("9").body))
    assert shared.present(envelope.encode(one)).reason == reasons.WRONG_TYPE
