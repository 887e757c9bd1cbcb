# SPDX-License-Identifier: Apache-2.0
"""Guard frames and packed records under any bytes: a connection or a record is lost by it, never the guard or what it knows."""

import contextlib
import os
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeheal.image import records
from edgeheal.wire import guard_frames as f

NUMBERS = st.one_of(st.sampled_from([0, 1, 2**31, 2**64 - 1]), st.integers(0, 2**64 - 1))
SHAPED = st.builds(
    lambda verb, request, code, app, image, a, b: f.PLAIN.pack(f.VERSION, verb, code, request, app, image, a, b),
    st.one_of(st.sampled_from(sorted(f.VERBS)), st.integers(0, 255)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.one_of(st.binary(max_size=32), st.sampled_from([b"one", b"one\0x", b"../one", b"\xff" * 32])),
    st.one_of(st.binary(max_size=32), st.just(bytes(32))),
    NUMBERS,
    NUMBERS,
)
FRAMES = st.lists(
    st.one_of(SHAPED, SHAPED.flatmap(lambda frame: st.integers(0, len(frame)).map(lambda cut: frame[:cut])), st.binary(max_size=300)), max_size=12
)


def connected(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(path)
    sock.settimeout(10)
    sock.send(f.pack_plain(f.HELLO, request=1, a=f.VERSION))
    assert sock.recv(f.MAX_FRAME)[1] == f.ANSWER
    return sock


def test_any_frames_at_the_agents_door_cost_their_sender_at_most_the_connection(box):
    box.app("one")
    box.start()
    path = str(box.root / "run/edgeheal/guard-agent.sock")

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(FRAMES)
    def throw(frames):
        with connected(path) as bad, contextlib.suppress(ConnectionError, BrokenPipeError):
            for frame in frames:
                bad.send(frame or b"\0")
        with connected(path) as good:
            good.send(f.pack_plain(f.STATUS, request=77))
            while (answer := good.recv(f.MAX_FRAME))[1] != f.ANSWER or f.HEAD.unpack_from(answer)[3] != 77:
                assert answer, "the guard hung up on a good agent"

    throw()


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=8), inner, max_size=5)),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_a_record_goes_there_and_back(value):
    assert records.unpack(records.pack(value)) == value


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.builds(lambda v, at, b: _changed(records.pack(v), at, b), VALUES, st.integers(0, 2000), st.integers(1, 255))))
def test_any_bytes_are_a_value_or_a_record_error(data):
    try:
        value = records.unpack(data)
    except records.RecordError:
        return
    assert records.unpack(records.pack(value)) == value


@settings(max_examples=150, deadline=None)
@given(VALUES, st.integers(0, 511), st.integers(1, 255))
def test_a_block_with_a_changed_byte_is_damaged_or_the_very_same(value, at, bits):
    try:
        whole = records.block(value, 512)
    except records.RecordError:
        return
    found = records.unblock(_changed(whole, at, bits))
    assert found is None or found == value


def _changed(data, at, bits):
    if not data:
        return data
    at %= len(data)
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


@pytest.mark.parametrize("bomb", [b"L" + b"\xff" * 4, b"D" + b"\xff" * 4 + b"N" * 50, b"L\0\0\0\1" * 5000, b"B\xff\xff\xff\xff", b"S\0\0\0\1\xff"])
def test_bombs_are_refused_before_they_cost_memory(bomb):
    with pytest.raises(records.RecordError):
        records.unpack(bomb)


def test_a_frame_with_descriptors_leaves_none_behind(box):
    """Whatever comes along with a frame that is none is closed."""
    box.app("one")
    box.start()
    path = str(box.root / "run/edgeheal/guard-agent.sock")
    before = len(os.listdir(f"/proc/{box.process.pid}/fd"))
    for _ in range(20):
        with connected(path) as bad, open(os.devnull, "rb") as null, contextlib.suppress(OSError):
            socket.send_fds(bad, [b"\1\2\3"], [null.fileno()] * 9)
            assert bad.recv(f.MAX_FRAME) == b""
    with connected(path) as good:
        good.send(f.pack_plain(f.STATUS, request=5))
        good.recv(f.MAX_FRAME)
        assert len(os.listdir(f"/proc/{box.process.pid}/fd")) <= before + 2
