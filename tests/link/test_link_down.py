# SPDX-License-Identifier: Apache-2.0
"""What comes down: a bad message costs itself, a retained command nothing but one answer."""

import time

import msgpack
import pytest
from link_stub import Stub

from edgeheal.adapters.mqtt.down import CommandCame, PolicyCame
from edgeheal.core import reasons
from edgeheal.core.kinds import ActionCode, ResultState
from edgeheal.core.signal import SelfSaid
from edgeheal.fleet.session import Address, Session
from edgeheal.trust import envelope, sign
from edgeheal.wire import commands, results, topics

pytestmark = pytest.mark.system

KEY = sign.from_seed(b"k" * 32)
COMMAND = topics.of("t", "gw-1", topics.DOWN_COMMAND)


def sealed(number: int, action: ActionCode = ActionCode.RESTART) -> bytes:
    now = int(time.time())
    body = commands.Command(number.to_bytes(16, "big"), "t", "gw-1", action, now, now + 60, KEY.public[:8], now + number, "gw", nonce=b"nonce123")
    return envelope.encode(KEY.sign(envelope.Envelope(envelope.COMMAND, commands.encode_body(body))))


def _enveloped(body: bytes, kind: str = envelope.COMMAND) -> bytes:
    return envelope.encode(KEY.sign(envelope.Envelope(kind, body)))


def hostile() -> list[bytes]:
    good = msgpack.unpackb(msgpack.unpackb(sealed(1), strict_map_key=False)[1])
    bad = [
        b"",
        b"\x00",
        bytes(262_144),
        b"\xc1",
        sealed(1)[:-10],
        sealed(1)[:40],
        b"\x91" * 10_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x93\xa1x\xc4\x00\x80",
        b"\xff\xfe" * 50,
        msgpack.packb([2**64 - 1, b"", {}]),
        _enveloped(b"\x91" * 5_000 + b"\xc0"),
        _enveloped(b"\xc0"),
        _enveloped(b""),
    ]
    wrong = [7, "x", b"y", [], {}, -1, 2**63, True, [[[]]], "\ud7ff" * 200]
    for key in good:
        bad += [_enveloped(msgpack.packb(dict(sorted((good | {key: value}).items())))) for value in wrong]
    return bad


def test_fc_sec_2_after_each_bad_message_a_valid_command_is_taken_within_two_seconds(device):
    with Stub() as stub:
        dev = device(stub.port)
        dev.until(lambda: dev.link.view().subscribed == 4)
        slowest = 0.0
        for n, bad in enumerate(hostile(), start=100):
            stub.send(COMMAND, bad)
            if n % 7 == 0:
                stub.send(topics.of("t", "gw-1", topics.DOWN_STORED), bad)
                stub.send(topics.presence("t"), b"\x92\x01\x81\x01\x01" if not bad else bad[:4_000])
            stub.send(COMMAND, sealed(n))
            began = time.monotonic()
            dev.until(lambda n=n: any(isinstance(d, CommandCame) and d.command.command_id == n.to_bytes(16, "big") for d in dev.downs), seconds=2)
            slowest = max(slowest, time.monotonic() - began)
        assert len(stub.connects) == 1
        assert not [d for d in dev.downs if isinstance(d, CommandCame) and d.command.device != "gw-1" and d.command.tenant != "t"]


def test_fc_sec_2_the_same_bad_message_a_thousand_times_costs_little_and_is_told_seldom(device):
    with Stub() as stub:
        dev = device(stub.port)
        dev.until(lambda: dev.link.view().subscribed == 4)
        cpu = time.process_time()
        for _ in range(1_000):
            stub.send(COMMAND, b"\x91\x01")
        dev.until(lambda: dev.link.view().bad_messages == 1_000)
        assert time.process_time() - cpu < 2.0
        assert len([s for s in dev.signals if isinstance(s, SelfSaid)]) <= 11
        assert not dev.downs
        assert dev.spool.depth()[0] == 0


def test_fc_flt_2_a_retained_command_is_refused_once_per_id_and_never_carried_out(tmp_path, broker, device):
    operator = Session(Address("127.0.0.1", broker.port), "operator", clean=True)
    operator.publish(COMMAND, sealed(1, ActionCode.REBOOT), retain=True)
    dev = device(broker.port)
    operator.finish()
    for n in range(20):
        dev.until(lambda: dev.link.view().subscribed >= 4)
        dev.until(lambda: dev.spool.depth()[0] >= 1)
        dev.link._lost("test", by_peer=False)  # connect anew, and be handed it again
        dev.link._retry_ns = 1
    dev.until(lambda: dev.link.view().subscribed >= 4)
    dev.run_for(0.3)
    assert not dev.downs
    told = [results.decode(body) for _, _, body in dev.spool.pending(100)]
    assert [(r.command, r.state, r.reason) for r in told] == [((1).to_bytes(16, "big"), ResultState.REFUSED, reasons.RETAINED)]
    assert "clear it" in told[0].text


def test_a_policy_is_handed_on_once_though_it_comes_with_every_connect(broker, device):
    policy = _enveloped(b"\x80", envelope.POLICY)
    operator = Session(Address("127.0.0.1", broker.port), "operator", clean=True)
    operator.publish(topics.of("t", "gw-1", topics.DOWN_POLICY), policy, retain=True)
    operator.finish()
    dev = device(broker.port)
    for _ in range(3):
        dev.until(lambda: dev.link.view().subscribed >= 4)
        dev.run_for(0.2)
        dev.link._lost("test", by_peer=False)
        dev.link._retry_ns = 1
    assert dev.downs == [PolicyCame(policy)]


def test_a_command_sent_while_the_device_was_away_arrives(broker, device):
    dev = device(broker.port)
    dev.until(lambda: dev.link.view().subscribed >= 4)
    dev.link.close()
    operator = Session(Address("127.0.0.1", broker.port), "operator", clean=True)
    operator.publish(COMMAND, sealed(5), expiry_s=60)
    operator.finish()
    again = device(broker.port)
    again.until(lambda: again.downs)
    assert again.downs[0].command.command_id == (5).to_bytes(16, "big")
