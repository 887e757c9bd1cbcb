# SPDX-License-Identifier: Apache-2.0
"""Whatever the bytes are, the answer is a value or a WireError."""

import json

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_eight import EIGHT, SESSION

from edgeheal.core.errors import WireError
from edgeheal.trust import canonical
from edgeheal.wire import birth, commands, control, health, packed, policy_doc, results, stored, summary, topics

GOOD = packed.with_key(summary.encode(EIGHT["process crash"], session=SESSION), SESSION, 9)
READERS = [
    summary.read, summary.headline, summary.decode, summary.to_json, results.read, results.to_json, birth.decode, health.decode, stored.read,
    stored.decode_presence, commands.decode_body, commands.peek, policy_doc.decode_body, control.decode_request, control.decode_answer,
    packed.key_of, commands.peek_id, results.is_result, lambda data: packed.with_key(data, SESSION, 1),
]  # fmt: skip
BAD = [
    b"", b"\x00", bytes(262_144), b"\xc1", b"\x92", b"\x92\x01", b"\x92\x01\x80", GOOD[:-1], GOOD + b"\x00", GOOD[:40], b"\x91" * 10_000, b"\x81" * 4_000,
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xd6\xff\x00\x00\x00\x00", b"\xc7\x04\x05abcd",
    b"\x92\x01\x81\x90\x01", b"\x92\x01\x81\xca\x7f\xc0\x00\x00\x01", b"\x92\x01\x81\xa1k\xc0", b"{", b"{}", b'{"v":1e999}', b'{"v":NaN}', b"[" * 10_000,
    b'{"a":' * 5_000, b'{"v":1,"session":"zz","seq":1}', b'{"v":1,"of":["a","b"]}', b'{"v":1,"ranges":[[1,2,3]]}', b'{"v":1,"image":[1,{}]}',
    b'{"v":1,"k999999999":1}', b'{"v":1,"open_ms":' + b"9" * 4_000 + b"}", b'{"v":1,"standin":[1,2],"ranges":"x"}', b"\xff\xfe\x00\x01",
    packed.pack([1, {summary.K_HEAD: [1, 2, 3, 4, 5, 6, 7]}]), packed.pack([1, {summary.K_TRIED: [[1, 1, 1, 2**40]]}]),
    packed.pack([1, {summary.K_CAUSES: [[1, 101]]}]), packed.pack([1, {summary.K_EVIDENCE: [[1, float("nan")]]}]), packed.pack([True, {}]),
    packed.pack([1, {0: b"short"}]), packed.pack([1, {24: [[5, 2]], 23: [1, 1]}]), packed.pack([1, {24: [[1, 2]]}]), msgpack.packb([1, {1: 2**63}]),
]  # fmt: skip


def fault_of(reader, data):
    try:
        reader(data)
    except WireError as fault:
        return fault
    return None


@pytest.mark.parametrize("reader", READERS, ids=lambda r: getattr(r, "__qualname__", "reader"))
def test_hostile_bytes_end_in_a_value_or_a_wire_error(reader):
    for bad in BAD:
        fault = fault_of(reader, bad)
        assert fault is None or (fault.message and fault.hint)


def test_each_field_of_the_wrong_type_is_a_wire_error_with_its_place():
    doc = msgpack.unpackb(GOOD, strict_map_key=False)
    wrong = [7.5, "x" * 5_000, b"y" * 300, [], {}, -1, 2**63, True, None, [[[[[[[[1]]]]]]]], [None], [[None, None]], [["x"]], [[1, [], {}]]]
    for key in doc[1]:
        for value in wrong:
            data = msgpack.packb([1, doc[1] | {key: value}])
            for reader in (summary.read, summary.headline):
                fault = fault_of(reader, data)
                assert fault is None or fault.place.startswith("summary")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, len(READERS) - 1))
def test_any_bytes(data, which):
    try:
        READERS[which](data)
    except WireError:
        pass


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 60), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(st.integers(0, 60), PLAIN, max_size=12), st.integers(0, 11))
def test_any_document_of_the_right_shape(fields, which):
    data = msgpack.packb([1, fields])
    try:
        READERS[which](data)
    except WireError:
        return
    if READERS[which] in (summary.read, results.read):
        packed.key_of(data)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from([*summary.NAMES.values(), "v", "k77"]), PLAIN, max_size=12))
def test_any_json_object_of_the_right_shape(fields):
    text = json.dumps(fields, default=lambda b: b.hex()).encode()
    for reader in (summary.read, summary.headline, results.read, birth.decode):
        try:
            reader(text)
        except WireError:
            pass


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte(at, value):
    data = GOOD[:at] + bytes([value]) + GOOD[at + 1 :]
    try:
        summary.read(data)
    except WireError:
        pass


def test_canonical_bodies_with_each_field_wrong():
    base = {"v": 1, "i": b"i" * 16, "t": "t", "d": "d", "a": 1, "s": 1, "e": 2, "b": b"b" * 8, "c": 3}
    assert commands.decode_body(canonical.pack(base)).counter == 3
    for key in base:
        missing = {k: v for k, v in base.items() if k != key}
        with pytest.raises(WireError):
            commands.decode_body(canonical.pack(missing))
        for value in (-1, 2**63, "x" * 999, b"x", [], {}, True):
            with pytest.raises(WireError):
                commands.decode_body(canonical.pack(base | {key: value}))
    with pytest.raises(WireError):
        commands.decode_body(canonical.pack(base | {"z": 1}))


@pytest.mark.parametrize("word", ["", "a/b", "+", "#", "a#", "_ctl", "x" * 65, "a b", "\u00e9", "a\n", ".x", "-x"])
def test_no_wildcard_or_slash_gets_into_a_topic(word):
    with pytest.raises(WireError):
        topics.of(word, "device", topics.UP_STATE)
    with pytest.raises(WireError):
        topics.of("tenant", word, topics.UP_STATE)


def test_topics_come_apart_as_they_were_put_together():
    assert topics.parse(topics.of("t", "gw-1", topics.UP_INCIDENT)) == topics.Topic("t", "gw-1", "up/incident")
    assert topics.parse(topics.presence("t")) == topics.Topic("t", "_ctl", "state")
    assert topics.parse(topics.evidence("t", "gw-1", "K7QF", 3)) == topics.Topic("t", "gw-1", "up/evidence", "K7QF/3")
    for foreign in ("", "eh", "eh/1/t", "eh/2/t/d/up/state", "zigbee/x/y/z/a/b", "eh/1//d/up/state", "eh/1/t/_ctl/other", "eh/1/t/d/up"):
        assert topics.parse(foreign) is None
