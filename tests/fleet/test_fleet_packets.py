# SPDX-License-Identifier: Apache-2.0
"""The fleet's MQTT: what brokers send is read, what is no MQTT is a LinkError, in whatever pieces it comes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeheal.core.errors import LinkError
from edgeheal.fleet import packets


@pytest.mark.parametrize("v5", [True, False])
def test_publishes_come_back_whatever_the_pieces(v5):
    stream = b"".join(
        packets.publish(f"eh/1/t/gw-{n}/up/incident", b"x" * (n * 37 % 300), mid=n % 3 and n, retain=n % 5 == 0, v5=v5, expiry_s=60 * (n % 2))
        for n in range(1, 80)
    )
    for size in (1, 2, 3, 7, 100, len(stream)):
        cutter = packets.Cutter()
        found = [p for at in range(0, len(stream), size) for p in cutter.feed(stream[at : at + size])]
        messages = [packets.read_publish(first, body, v5=v5) for first, body in found]
        assert [m.topic for m in messages] == [f"eh/1/t/gw-{n}/up/incident" for n in range(1, 80)]
        assert [len(m.payload) for m in messages] == [n * 37 % 300 for n in range(1, 80)]
        assert [m.mid for m in messages] == [n % 3 and n for n in range(1, 80)]
        assert [m.retain for m in messages] == [n % 5 == 0 for n in range(1, 80)]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_end_in_packets_or_a_link_error(data, v5):
    try:
        for first, body in packets.Cutter().feed(data):
            if first >> 4 == packets.PUBLISH:
                packets.read_publish(first, body, v5=v5)
            elif first >> 4 == packets.CONNACK:
                packets.read_connack(body, v5=v5)
            elif first >> 4 == packets.SUBACK:
                packets.read_suback(body, v5=v5)
            else:
                packets.read_mid(body)
    except LinkError:
        pass


def test_connack_properties_are_read():
    body = b"\x01\x00" + packets.length(8) + b"\x21\x00\x14" + b"\x13\x00\x3c" + b"\x24\x01"
    assert packets.read_connack(body, v5=True) == packets.Connack(0, True, 20, 60)
    assert packets.read_connack(b"\x00\x05", v5=False).code == 5
