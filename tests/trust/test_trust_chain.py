# SPDX-License-Identifier: Apache-2.0
"""Trust: the chain, roles and thresholds, the one envelope. All hostile forms are typed errors."""

import hashlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeheal.core import reasons
from edgeheal.core.errors import TrustError
from edgeheal.trust import canonical, chain, document, envelope, sign
from edgeheal.trust.document import Role, Trust
from edgeheal.trust.envelope import COMMAND, MANIFEST, TRUST, Envelope
from edgeheal.trust.verify import signers

A, B, C, R, T = (sign.from_seed(hashlib.sha256(n.encode()).digest()) for n in "ABCRT")


def trust(n, roots, threshold=1, **more):
    roles = {"root": Role(threshold, tuple(sorted(k.public for k in roots))), "release": Role(1, (R.public,)), "technician": Role(1, (T.public,))}
    return Trust(n, roles, **more)


def signed(value, *keys):
    one = value.envelope()
    for key in keys:
        one = key.sign(one)
    return one


def test_three_years_of_rotations_are_walked_in_one_go():
    links = [signed(trust(1, [A]), A), signed(trust(2, [B]), A, B), signed(trust(3, [C]), B, C), signed(trust(4, [C]), C)]
    held = chain.first(links[0], signers).trust
    walked = chain.walk(held, links, signers)
    assert [link.trust.n for link in walked] == [2, 3, 4]


@pytest.mark.parametrize("by", [(A,), (B,), (C,), ()])
def test_the_next_version_needs_the_old_and_the_new_root(by):
    with pytest.raises(TrustError) as error:
        chain.step(trust(1, [A]), signed(trust(2, [B]), *by), signers)
    assert error.value.reason in (reasons.TRUST_CHAIN, reasons.UNDER_THRESHOLD)


def test_a_root_threshold_of_two_is_not_met_by_one_key_signing_twice():
    held = trust(1, [A, B], 2)
    once = signed(trust(2, [A, B], 2), A, A)
    assert len(once.signatures) == 1
    with pytest.raises(TrustError) as error:
        chain.step(held, once, signers)
    assert error.value.reason == reasons.UNDER_THRESHOLD
    assert chain.step(held, signed(trust(2, [A, B], 2), A, B), signers).trust.n == 2


@pytest.mark.parametrize("order", [(3,), (2, 4), (3, 2), (2, 2)])
def test_a_gap_or_disorder_changes_nothing(order):
    with pytest.raises(TrustError) as error:
        chain.walk(trust(1, [A]), [signed(trust(n, [A]), A) for n in order], signers)
    assert error.value.reason == reasons.TRUST_CHAIN


def test_a_fork_at_a_version_that_is_held_is_passed_over_and_cannot_be_built_on():
    held = trust(2, [A])
    fork = signed(trust(2, [C]), C)
    assert chain.walk(held, [fork], signers) == ()
    with pytest.raises(TrustError):
        chain.walk(held, [fork, signed(trust(3, [C]), C)], signers)


def test_a_revoked_root_key_signs_no_next_version():
    held = trust(1, [A, B])
    with pytest.raises(TrustError):
        chain.step(held, signed(trust(2, [A, B], revoked_keys=frozenset([A.public])), A), signers)
    assert chain.step(held, signed(trust(2, [A, B], revoked_keys=frozenset([A.public])), A, B), signers).trust.n == 2


def test_one_key_in_two_roles_needs_the_configs_word():
    shared = Trust(1, {"root": Role(1, (A.public,)), "release": Role(1, (A.public,))}).body()
    with pytest.raises(TrustError, match="stands in the roles"):
        document.decode(shared)
    assert document.decode(shared, shared_keys=True).n == 1


def test_an_empty_or_absent_role_refuses():
    said = trust(1, [A])
    assert said.judge([A.public], "operator") == reasons.WRONG_ROLE
    assert said.judge([C.public], "operator") == reasons.UNKNOWN_KEY
    for roles in ({"root": [0, [A.public]]}, {"root": [1, []]}, {"root": [2, [A.public]]}, {"release": [1, [A.public]]}, {}):
        with pytest.raises(TrustError):
            document.decode(canonical.pack({"v": 1, "n": 1, "roles": roles}))


def test_more_approvals_may_be_asked_for_and_never_fewer():
    two = Trust(1, {"root": Role(1, (A.public,)), "operator": Role(2, tuple(sorted([B.public, C.public])))})
    assert two.judge([B.public, C.public], "operator") == reasons.OK
    assert two.judge([B.public], "operator", at_least=1) == reasons.UNDER_THRESHOLD
    assert two.judge([B.public, C.public], "operator", at_least=3) == reasons.UNDER_THRESHOLD


@pytest.mark.parametrize(
    "body",
    [
        {}, {"v": 1}, {"v": 2, "n": 1, "roles": {}}, {"v": 1, "n": 0, "roles": {"root": [1, [A.public]]}}, {"v": 1, "n": True, "roles": {"root": [1, [A.public]]}},
        {"v": 1, "n": 1, "roles": {"root": [1, [A.public]]}, "x": 1}, {"v": 1, "n": 1, "roles": {"root": [1, [A.public]], "boss": [1, [B.public]]}},
        {"v": 1, "n": 1, "roles": {"root": [1, [b"short"]]}}, {"v": 1, "n": 1, "roles": {"root": [1, [A.public, A.public]]}},
        {"v": 1, "n": 1, "roles": {"root": [1, [A.public]]}, "revoked": {"keep": [b"x" * 32]}}, {"v": 1, "n": 1, "roles": {"root": [1, [A.public]]}, "apps": {"A": {}}},
        {"v": 1, "n": 1, "roles": {"root": [1, [A.public]]}, "apps": {"a": {"floor": [0, 2**32]}}}, {"v": 1, "n": 1, "roles": {"root": [1, [A.public]]}, "apps": {"a": {"floor": 3}}},
        7, [], "trust", None,
    ],
)  # fmt: skip
def test_a_malformed_trust_document_is_a_typed_error(body):
    with pytest.raises(TrustError):
        document.decode(msgpack.packb(body))


def test_the_same_bytes_as_another_type_do_not_verify():
    one = A.sign(Envelope(MANIFEST, b"body"))
    assert signers(one) == {A.public}
    with pytest.raises(TrustError):
        signers(Envelope(COMMAND, b"body", one.signatures))


def test_an_envelope_with_one_bad_signature_is_refused_as_a_whole():
    one = B.sign(A.sign(Envelope(TRUST, b"body")))
    broken = Envelope(TRUST, b"body", tuple((k, s if k == A.public else bytes(64)) for k, s in one.signatures))
    with pytest.raises(TrustError):
        signers(broken)


def test_an_envelope_has_one_form():
    raw = envelope.encode(B.sign(A.sign(Envelope(MANIFEST, b"body"))))
    assert envelope.encode(envelope.decode(raw)) == raw
    kind, body, sigs = msgpack.unpackb(raw)
    turned = dict(reversed(list(sigs.items())))
    for other in (
        [kind, body, turned],
        [kind, body, sigs, 1],
        [kind, body],
        [kind, body.decode(), sigs],
        ["x", body, sigs],
        [kind, body, {b"k": b"s"}],
        [kind, body, []],
    ):
        with pytest.raises(TrustError):
            envelope.decode(msgpack.packb(other))
    many = {bytes([i]) * 32: bytes(64) for i in range(17)}
    with pytest.raises(TrustError):
        envelope.decode(msgpack.packb([kind, body, many]))


def test_pae_is_dsse():
    assert envelope.pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@pytest.mark.parametrize(
    "data", [b"\x81\xa1a\x00\x00", b"\xd2\x00\x00\x00\x01", b"\xcb" + bytes(8), b"\xc0", b"\xc7\x01\x01x", b"\x82\xa1b\x01\xa1a\x01", b"\x82\xa1a\x01\xa1a\x01", b"\x91" * 40 + b"\x01", b"\xd9\x01a", b"\xa1\xff", b"", b"\x81\x01\x02"]
)  # fmt: skip
def test_what_is_not_canonical_is_refused(data):
    with pytest.raises(canonical.NotCanonicalError):
        canonical.unpack(data)


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@settings(deadline=None, max_examples=150)
def test_canonical_form_round_trips(value):
    data = canonical.pack(value)
    assert canonical.pack(canonical.unpack(data)) == data
    assert canonical.unpack(data) == value


def reason_of(read, data):
    """The reason of a refusal, OK when there is none; anything but a TrustError goes through."""
    try:
        read(data)
    except TrustError as fault:
        return fault.reason or reasons.INTERNAL
    return reasons.OK


def take_all(data):
    for one in envelope.decode_chain(data) or [envelope.decode(b"")]:
        chain.first(one, signers)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_arbitrary_bytes_end_in_a_typed_error_or_in_one_form(data):
    try:
        assert canonical.pack(canonical.unpack(data)) == data
    except canonical.NotCanonicalError:
        pass
    for read in (envelope.decode, envelope.decode_chain, document.decode):
        assert reason_of(read, data) != reasons.INTERNAL


GOOD = envelope.encode(signed(trust(1, [A, B], apps={"demo": document.AppTrust(None, (1, 2))}, revoked_ids=frozenset([b"i" * 32])), A))


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.sampled_from(["set", "cut", "insert"]))
@settings(deadline=None, max_examples=300)
def test_a_changed_trust_file_is_never_taken(place, value, how):
    data = GOOD[:place] + {"set": bytes([value]) + GOOD[place + 1 :], "cut": b"", "insert": bytes([value]) + GOOD[place:]}[how]
    if data == GOOD:
        return
    assert reason_of(take_all, data) not in (reasons.OK, reasons.INTERNAL)


def test_keys_are_kept_as_pem_and_read_back():
    key = sign.new()
    assert sign.load(key.pem()).public == key.public == sign.load_public(key.public_pem()) == sign.load_public(key.public.hex().encode())
    secret = key.pem(b"word")
    assert sign.load(secret, b"word").public == key.public
    for data, password in ((secret, None), (secret, b"wrong"), (b"garbage", None), (key.public_pem(), None)):
        with pytest.raises(TrustError):
            sign.load(data, password)
    with pytest.raises(TrustError):
        sign.load_public(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
