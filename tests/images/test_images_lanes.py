# SPDX-License-Identifier: Apache-2.0
"""Two lanes do the work of one: the same first fault, the same files, bounded memory."""

import os
import threading
import zlib

import pytest
from workshop import Made

from edgeheal.core import reasons
from edgeheal.guard.lanes import AHEAD, Lanes
from edgeheal.image import codec


def many():
    files = {"app": (b"#!/bin/sh\n", True)} | {f"f{i:03}": (os.urandom(200) * (1 + i % 9), False) for i in range(120)}
    return Made(files, run={"argv": ["app"]})


@pytest.mark.parametrize("hurt", [(7,), (7, 9), (90, 30, 31), (1,), (121,)])
def test_of_several_bad_objects_the_first_in_order_is_named_and_all_before_it_are_kept(device, hurt):
    made = many()
    for number in hurt:
        made.payload[number] = bytes([made.payload[number][0] ^ 1]) + made.payload[number][1:]
    done = device.take(made.bytes())
    first = min(hurt)
    assert (done["k"], done["reason"], done["part"], done["object"]) == ("error", reasons.BAD_OBJECT, "object", first)
    staged = {int(name) for name in os.listdir(device.staging / made.id.hex() / "objects")}
    assert set(range(1, first)) <= staged
    assert not staged & set(hurt)
    assert device.take(many_again := Made(made.files, run={"argv": ["app"]}).bytes())["reused"] >= first - 1, len(many_again)


def test_no_more_is_under_way_than_stated_and_the_lowest_fault_wins():
    gate, given, begun = threading.Event(), [], []

    def work(n):
        begun.append(n)
        if n in (2, 3):
            gate.wait(5)
            raise ValueError(n)

    def give():
        with Lanes(work) as lanes:
            for n in range(2, 2 + AHEAD):
                lanes.give(n)
            given.append(lanes._under_way)
            gate.set()
            for n in range(100, 200):
                lanes.give(n)

    with pytest.raises(ValueError, match="^2$"):
        give()
    assert given[0] <= AHEAD
    assert len([n for n in begun if n >= 100]) < 100


def test_a_fault_of_the_giver_gives_way_to_an_earlier_one_of_a_lane():
    def work(_):
        raise ValueError("earlier")

    def give():
        with Lanes(work) as lanes:
            lanes.give(1)
            raise KeyError("later")

    with pytest.raises(ValueError, match="earlier"):
        give()


@pytest.mark.parametrize("how", [codec.STORED, codec.DEFLATE, codec.LZMA2])
def test_a_content_inflated_whole_is_judged_like_one_inflated_in_steps(how):
    data = b"abc" * 500
    squeezer = codec.Squeezer(how)
    packed = squeezer.feed(data) + squeezer.end()
    assert codec.inflate_whole(how, packed, len(data)) == data
    for bad in (packed[:-1], packed + b"\0", b"", packed[:1], b"\xff" * 20):
        try:
            steps = b"".join(codec.inflate(how, iter((bad,)), len(data)))
        except codec.CodecError:
            with pytest.raises(codec.CodecError):
                codec.inflate_whole(how, bad, len(data))
        else:
            assert codec.inflate_whole(how, bad, len(data)) == steps
    with pytest.raises(codec.CodecError):
        codec.inflate_whole(how, packed, len(data) - 1)


def test_a_bomb_in_a_small_object_makes_no_more_than_was_declared():
    bomb = zlib.compress(bytes(50_000_000), 9, -15)
    with pytest.raises(codec.CodecError, match="past its 1000 bytes"):
        codec.inflate_whole(codec.DEFLATE, bomb, 1000)
