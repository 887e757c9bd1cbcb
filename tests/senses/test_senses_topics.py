# SPDX-License-Identifier: Apache-2.0
"""Sensors under topics of a local broker: understood over a real socket, bounded, and found again."""

import socket
import struct

import pytest
from drive import drive
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.adapters.sensors.spec import SensorSpec, TopicSensor
from edgeheal.adapters.sensors.topics import PacketError, Topics, cut, packet, published, text
from edgeheal.core.signal import Reading, SelfSaid
from edgeheal.lab.broker import Broker, kinds


def sensors():
    return [
        TopicSensor(SensorSpec("boiler", every_ms=50, scale=2.0), "plant/boiler", "json", "t.now"),
        TopicSensor(SensorSpec("hall", "gw", "pump", every_ms=50), "plant/hall", "number", ""),
    ]


def values(out, name):
    return [r.value for r in out if isinstance(r, Reading) and r.sensor == name]


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(5)
        yield made


def publish(topic, payload, first=0x30):
    return packet(first, text(topic) + (b"\0\7" if first & 6 else b"") + payload)


def test_published_values_become_readings_whatever_comes_in_between(listener):
    out = []
    topics = Topics(out.append, f"127.0.0.1:{listener.getsockname()[1]}", sensors())
    assert drive(topics, until=lambda: bool(topics.fds()))
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(5)
        first, _, rest = cut(peer.recv(4_096))
        assert first == 0x10
        assert b"plant/boiler" in rest
        assert b"plant/hall" in rest
        stream = packet(0x20, b"\0\0") + packet(0x90, b"\0\1\0\0") + publish("plant/boiler", b'{"t": {"now": 30.5}}') + publish("other", b"1")
        stream += publish("plant/hall", b"nonsense") + publish("plant/hall", b" 21.5\n", 0x32)
        for at in range(0, len(stream), 7):  # in pieces, as a socket may
            peer.sendall(stream[at : at + 7])
        assert drive(topics, until=lambda: bool(values(out, "hall")))
        assert (values(out, "boiler"), values(out, "hall")) == ([61.0], [21.5])
        assert [(r.app, r.source) for r in out if isinstance(r, Reading)] == [("", "boiler"), ("pump", "gw")]
        peer.sendall(publish("plant/hall", b"1") * 500)
        drive(topics, until=lambda: False, seconds=0.05)
        assert len(values(out, "hall")) < 6, "a flood is thinned"
    topics.close()


def test_a_broker_that_goes_or_talks_nonsense_is_let_go_and_found_again(listener):
    out, now = [], [10**12]
    topics = Topics(out.append, f"127.0.0.1:{listener.getsockname()[1]}", sensors(), clock=lambda: now[0])
    for nonsense in (b"\x30\xff\xff\xff\xff\x7f", packet(0x20, b"\0\5"), packet(0x30, b"\xff\xff"), b""):
        topics.tick(topics.due())
        peer, _ = listener.accept()
        peer.sendall(nonsense)
        peer.shutdown(socket.SHUT_WR)
        for _ in range(3):
            for fd in topics.fds():
                topics.ready(fd, 1)
        assert drive(topics, until=lambda: not topics.fds(), seconds=2) or not topics.fds()
        peer.close()
        now[0] = topics.due()
    assert [s.ok for s in out if isinstance(s, SelfSaid)] == [False], "said once"
    topics.tick(topics.due())
    peer, _ = listener.accept()
    peer.sendall(packet(0x20, b"\0\0") + packet(0x90, b"\0\1\0\0"))
    assert drive(topics, until=lambda: any(isinstance(s, SelfSaid) and s.ok for s in out), seconds=2)
    peer.close()
    topics.close()


@pytest.mark.parametrize("kind", kinds())
def test_a_real_broker_is_understood(tmp_path, kind):
    out = []
    broker = Broker(tmp_path, kind).start()
    topics = Topics(out.append, f"127.0.0.1:{broker.port_311}", sensors())
    try:
        assert drive(topics, until=lambda: bool(topics.fds()))
        with socket.create_connection(("127.0.0.1", broker.port_311), 5) as app:
            app.sendall(packet(0x10, text("MQTT") + bytes([4, 2]) + struct.pack(">H", 30) + text("app")))
            assert app.recv(16)
            said = iter(range(10_000))

            def asked():
                next(said)
                app.sendall(publish("plant/hall", b"19.25"))
                return bool(values(out, "hall"))

            assert drive(topics, until=asked)
        assert values(out, "hall")[0] == 19.25
    finally:
        topics.close()
        broker.end()


@given(st.binary(max_size=60))
def test_any_bytes_are_packets_or_refused(data):
    try:
        while (whole := cut(data)) is not None:
            first, body, data = whole
            published(first, body)
    except PacketError:
        pass


@given(st.integers(0, 255), st.binary(max_size=300), st.binary(max_size=5))
def test_a_packet_is_cut_where_it_ends(first, body, rest):
    assert cut(packet(first, body) + rest) == (first, body, rest)
