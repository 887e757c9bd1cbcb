# SPDX-License-Identifier: Apache-2.0
"""Frames: what was written whole is read whole, whatever happened around it."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeheal.journal import frames

BODIES = [b"", b"a", b"two words", bytes(300), frames.SYNC * 20, b"last"]


def run(salt: int = 7) -> bytes:
    return b"".join(frames.make(i + 1, body, salt=salt) for i, body in enumerate(BODIES))


def test_a_cut_at_every_byte_leaves_exactly_the_frames_that_end_before_it() -> None:
    data = run()
    ends = [f.end for f in frames.scan(data, salt=7).frames]
    for at in range(len(data) + 1):
        scan = frames.scan(data[:at], salt=7)
        assert [f.body for f in scan.frames] == BODIES[: sum(1 for end in ends if end <= at)]
        assert not scan.damaged


def test_a_flipped_bit_costs_its_own_frame_only_and_is_named() -> None:
    data = run()
    spans = [(f.at, f.end) for f in frames.scan(data, salt=7).frames]
    for at in range(len(data)):
        hurt = bytearray(data)
        hurt[at] ^= 0x10
        scan = frames.scan(bytes(hurt), salt=7)
        victim = next(i for i, (start, end) in enumerate(spans) if start <= at < end)
        assert [f.body for f in scan.frames] == BODIES[:victim] + BODIES[victim + 1 :]
        if victim < len(BODIES) - 1:
            assert scan.damaged == (spans[victim],)


def test_what_a_recycled_file_held_before_never_comes_back() -> None:
    old, new = run(salt=1), frames.make(1, b"new", salt=2)
    mixed = new + old[len(new) :]
    assert [f.body for f in frames.scan(mixed, salt=2).frames] == [b"new"]


def test_newer_kinds_and_versions_are_frames_like_any_other() -> None:
    data = frames.make(250, b"future", version=9) + frames.make(1, b"now")
    assert [(f.kind, f.version) for f in frames.scan(data).frames] == [(250, 9), (1, 1)]


def test_a_body_over_the_limit_is_refused_before_it_is_written() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        frames.make(1, bytes(frames.MAX_BODY + 1))


def test_hostile_bytes_cost_bounded_time() -> None:
    head = frames.SYNC + b"\x01\x01" + (60_000).to_bytes(4, "big") + bytes(4)
    data = (head * 6_000)[:65_536]
    started = time.process_time()
    assert frames.scan(data).frames == ()
    assert time.process_time() - started < 2.0


@given(st.binary(max_size=400), st.integers(0, 2**32 - 1))
def test_any_bytes_scan_without_an_error(data: bytes, salt: int) -> None:
    scan = frames.scan(data, salt=salt)
    assert 0 <= scan.end <= len(data)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=60), max_size=8), st.integers(0, 600), st.binary(max_size=20))
def test_what_was_whole_before_a_torn_place_stays_whole(bodies: list[bytes], at: int, torn: bytes) -> None:
    data = b"".join(frames.make(1, b) for b in bodies)
    at = min(at, len(data))
    ends = [f.end for f in frames.scan(data).frames]
    before = sum(1 for end in ends if end <= at)
    scan = frames.scan(data[:at] + torn)
    assert [f.body for f in scan.frames][:before] == bodies[:before]
