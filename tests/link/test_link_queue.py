# SPDX-License-Identifier: Apache-2.0
"""One record never blocks the others; the spool opens and closes by the controller's word."""

import time

import pytest
from link_stub import Stub

from edgeheal.core.kinds import Severity
from edgeheal.core.spooled import StandinKind
from edgeheal.wire import summary
from edgeheal.wire.stored import PresenceState

pytestmark = pytest.mark.system


def _bodies(stub):
    return [summary.read(raw) for raw in stub.stored.values()]


def test_fc_lnk_2_a_record_that_breaks_the_connection_is_set_aside_and_the_rest_goes_on(device):
    def hang_up(topic: str, payload: bytes, v5: bool) -> object:
        return "close" if len(payload) > 4_000 else None

    with Stub(hang_up) as stub:
        dev = device(stub.port, backoff_first_s=0.05, backoff_cap_s=0.2)
        for n in range(1, 101):
            if n == 3:
                dev.spool.put(summary.packed.document(1, {2: n, 40: b"x" * 4_050}), severity=1, fingerprint=b"poison!!", critical=False)
            else:
                dev.say(n)
        began = time.monotonic()
        dev.until(lambda: dev.spool.depth()[0] == 0, seconds=30, what="the queue to go on")
        assert time.monotonic() - began < 30
        told = _bodies(stub)
        assert {r.incident.number for r in told} >= set(range(1, 101)) - {3}
        assert [r.standin.kind for r in told if r.standin] == [StandinKind.SET_ASIDE]
        assert [key[1] for key in dev.spool.aside()] == [3]


def test_fc_lnk_2_a_record_refused_by_reason_is_set_aside_at_once(device):
    def refuse(topic: str, payload: bytes, v5: bool) -> object:
        return 0x87 if topic.endswith("up/incident") and summary.read(payload).incident.number == 3 else None

    with Stub(refuse) as stub:
        dev = device(stub.port)
        for n in range(1, 101):
            dev.say(n)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        assert len(stub.connects) == 1
        tries = [summary.read(p).incident.number for t, p in stub.published if t.endswith("up/incident")]
        assert tries.count(3) == 1  # at once, not after several breaks
        assert {r.incident.number for r in _bodies(stub) if not r.standin} == set(range(1, 101)) - {3}
        assert len(dev.spool.aside()) == 1


def test_without_the_controllers_presence_the_spool_stays_closed(device):
    with Stub(presence=False) as stub:
        dev = device(stub.port)
        dev.say(1)
        dev.until(dev.link.connected)
        dev.run_for(0.5)
        assert not [t for t, _ in stub.published if t.endswith("up/incident")]
        stub.presence = True
        stub.say_presence(PresenceState.OPEN)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        stub.say_presence(PresenceState.FULL)
        dev.until(lambda: dev.link.view().controller == "full")
        dev.say(2)
        dev.run_for(0.5)
        assert len(stub.stored) == 1


def test_at_most_twenty_are_on_their_way_without_the_brokers_word(device):
    with Stub(lambda t, p, v: "mute" if t.endswith("up/incident") else None) as stub:
        dev = device(stub.port)
        for n in range(1, 101):
            dev.say(n)
        dev.until(dev.link.connected)
        dev.run_for(1.0)
        assert len([t for t, _ in stub.published if t.endswith("up/incident")]) == 20


def test_the_gravest_goes_first(device):
    with Stub() as stub:
        dev = device(stub.port)
        for n in range(1, 31):
            dev.say(n)
        dev.say(31, severity=Severity.CRITICAL)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        assert _bodies(stub)[0].incident.number == 31


def test_what_the_broker_took_and_nobody_stored_goes_again_when_the_store_begins_anew(device):
    with Stub() as stub:
        dev = device(stub.port)
        dev.until(lambda: dev.link.view().controller == "open")
        stub.presence = False  # takes, stores nowhere, says nothing
        dev.say(1)
        dev.until(lambda: len(stub.stored) == 1)
        assert dev.spool.depth()[0] == 1
        stub.stored.clear()
        stub.presence = True
        stub._session = b"newone"
        stub.say_presence(PresenceState.OPEN)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        assert len(stub.stored) == 1


def test_with_stored_by_broker_its_word_is_enough(device):
    with Stub(presence=False) as stub:
        dev = device(stub.port, stored_by="broker")
        for n in range(1, 41):
            dev.say(n)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        assert len(stub.stored) == 40


def test_json_carries_the_same_fields(device):
    with Stub() as stub:
        dev = device(stub.port, encoding="json")
        dev.say(7)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        (raw,) = stub.stored.values()
        assert raw.startswith(b'{"v":1,"session":"')
        assert summary.read(raw).incident.number == 7
        assert next(p for t, p in stub.published if t.endswith("up/state")).startswith(b"{")
