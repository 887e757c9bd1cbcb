# SPDX-License-Identifier: Apache-2.0
"""Signed words through the real verifier: who may order what, at which door, with how many signatures."""

import hashlib

import pytest
from workshop import OPERATOR, RELEASE, ROOT, STRANGER, TECHNICIAN, Made, key, make_trust

from edgeheal.core import reasons
from edgeheal.core.kinds import ActionCode
from edgeheal.guard import signed_words
from edgeheal.guard.signed_words import ROLES
from edgeheal.trust import document, envelope
from edgeheal.trust.document import Role, Trust
from edgeheal.trust.envelope import COMMAND, POLICY, Envelope
from edgeheal.wire import commands, policy_doc

SECOND = key("operator2")
NONCE = b"nonce--8"


def order(action, by, *others, **fields):
    said = commands.Command(**({"command_id": b"c" * 16, "tenant": "demo", "device": "gw-1", "action": action, "issued": 1, "expires": 2, "by": by.public[:8], "counter": 7, "app": "demo"} | fields))  # fmt: skip
    one = Envelope(COMMAND, commands.encode_body(said))
    for k in (by, *others):
        one = k.sign(one)
    return envelope.encode(one)


@pytest.fixture
def judge(device):
    def ask(data, *, trust=None, door="agent", **more):
        request = {"mode": "envelope", "trust": envelope.encode(trust or make_trust()), "tenant": "demo", "device": "gw-1", "door": door, "nonce": NONCE} | more
        return device.child("verifier", request, data)

    return ask


def test_a_command_gives_a_typed_verdict(judge):
    done = judge(order(ActionCode.PAUSE, OPERATOR, seconds=60))
    assert (done["k"], done["reason"], done["kind"], done["action"], done["app"]) == ("done", 0, "command", ActionCode.PAUSE, "demo")
    assert (done["counter"], done["by"], done["command_id"], done["args"]["seconds"]) == (7, OPERATOR.public[:8], b"c" * 16, 60)
    assert (done["roles"], done["signatures"], done["expires"]) == (["operator"], 1, 2)


def test_a_technicians_key_speaks_at_the_box_only(judge):
    word = order(ActionCode.RESTART, TECHNICIAN)
    assert judge(word)["reason"] == reasons.WRONG_DOOR
    assert judge(word, door="person")["reason"] == reasons.OK
    assert judge(order(ActionCode.ALLOW, TECHNICIAN, nonce=NONCE), door="root")["reason"] == reasons.WRONG_ROLE


@pytest.mark.parametrize("action", list(ActionCode))
def test_no_key_orders_what_its_role_may_not(action):
    trust = document.decode(make_trust().body)

    def judge(data, door):
        return signed_words.judge(data, trust, {"tenant": "demo", "device": "gw-1", "door": door, "nonce": NONCE})

    for by, role in ((OPERATOR, "operator"), (RELEASE, "release"), (TECHNICIAN, "technician")):
        reason = judge(order(action, by, nonce=NONCE, image=b"i" * 32), door="person")["reason"]
        assert (reason == reasons.OK) == (role in ROLES[action]), (action, role, reason)
    assert judge(order(action, ROOT, nonce=NONCE), door="root")["reason"] == reasons.WRONG_ROLE
    assert judge(order(action, STRANGER, nonce=NONCE), door="root")["reason"] == reasons.UNKNOWN_KEY


def test_addressee_and_boot_are_checked(judge):
    assert judge(order(ActionCode.START, OPERATOR, tenant="other"))["reason"] == reasons.WRONG_TENANT
    assert judge(order(ActionCode.START, OPERATOR, device="gw-2"))["reason"] == reasons.WRONG_DEVICE
    assert judge(order(ActionCode.ROLLBACK, OPERATOR))["reason"] == reasons.WRONG_NONCE
    assert judge(order(ActionCode.ROLLBACK, OPERATOR, nonce=b"old boot"))["reason"] == reasons.WRONG_NONCE
    assert judge(order(ActionCode.ROLLBACK, OPERATOR, nonce=NONCE))["reason"] == reasons.OK


def test_a_token_prepared_before_the_visit_rolls_back_to_a_known_good_at_the_box_only(judge):
    word = order(ActionCode.ROLLBACK, TECHNICIAN)
    assert judge(word, door="person")["reason"] == reasons.OK
    assert judge(word)["reason"] == reasons.WRONG_DOOR
    assert judge(order(ActionCode.ROLLBACK, TECHNICIAN, image=b"i" * 32), door="person")["reason"] == reasons.WRONG_NONCE


def test_more_approvals_are_needed_where_the_device_says_so(judge):
    trust = make_trust()
    said = Trust(1, {"root": Role(1, (ROOT.public,)), "operator": Role(1, tuple(sorted([OPERATOR.public, SECOND.public])))})
    two = ROOT.sign(said.envelope())
    needed = {str(int(ActionCode.ALLOW)): 2}
    assert judge(order(ActionCode.ALLOW, OPERATOR, nonce=NONCE), trust=two, approvals=needed)["reason"] == reasons.UNDER_THRESHOLD
    assert judge(order(ActionCode.ALLOW, OPERATOR, SECOND, nonce=NONCE), trust=two, approvals=needed)["reason"] == reasons.OK
    assert judge(order(ActionCode.ALLOW, OPERATOR, SECOND, nonce=NONCE), trust=trust, approvals=needed)["reason"] == reasons.UNDER_THRESHOLD


def test_the_key_whose_counter_is_used_must_have_signed_and_hold_the_role(judge):
    said = dict(command_id=b"c" * 16, tenant="demo", device="gw-1", action=ActionCode.START, issued=1, expires=2, counter=7, app="demo")
    one = OPERATOR.sign(Envelope(COMMAND, commands.encode_body(commands.Command(by=STRANGER.public[:8], **said))))
    assert judge(envelope.encode(one))["reason"] == reasons.UNKNOWN_KEY
    assert judge(envelope.encode(STRANGER.sign(one)))["reason"] == reasons.WRONG_ROLE


def test_revoked_keys_order_nothing(judge):
    assert judge(order(ActionCode.START, OPERATOR), trust=make_trust(2, keys=[OPERATOR.public]))["reason"] in (reasons.REVOKED, reasons.UNKNOWN_KEY)


def test_mangled_words_are_typed_errors(judge):
    good = order(ActionCode.START, OPERATOR)
    for data in (b"", b"\0" * 262_144, good[:-1], good + b"\0", good[:40] + b"\x01" + good[41:], b"\x91" * 10_000, envelope.encode(Made().envelope)):
        error = judge(data)
        assert error["k"] == "error", data[:20]
        assert error["reason"] in (reasons.MALFORMED, reasons.TOO_LARGE, reasons.BAD_SIGNATURE, reasons.WRONG_TYPE)
    for body in (b"\x80", b"\xc0", b"\x81\xa1v\x01"):
        error = judge(envelope.encode(OPERATOR.sign(Envelope(COMMAND, body))))
        assert (error["k"], error["reason"] in (reasons.MALFORMED, reasons.UNKNOWN_VERSION)) == ("error", True)


def test_a_policy_is_the_operators_word_alone(judge):
    said = policy_doc.PolicyDoc((0, 5), "demo", goals={"demo": b"i" * 32})
    body = policy_doc.encode_body(said)
    done = judge(envelope.encode(OPERATOR.sign(Envelope(POLICY, body))))
    assert (done["reason"], done["kind"], done["counter"], done["document"]["goals"]) == (0, "policy", 5, {"demo": b"i" * 32})
    assert done["command_id"] == hashlib.sha256(body).digest()[:16]
    assert judge(envelope.encode(RELEASE.sign(Envelope(POLICY, body))))["reason"] == reasons.WRONG_ROLE
    other = policy_doc.encode_body(policy_doc.PolicyDoc((0, 5), "demo", device="gw-2"))
    assert judge(envelope.encode(OPERATOR.sign(Envelope(POLICY, other))))["reason"] == reasons.WRONG_DEVICE


def test_a_trust_chain_shorter_than_what_was_seen_is_damage(device):
    one, two = make_trust(), make_trust(2)
    chain = envelope.encode(one) + envelope.encode(two)
    done = device.child("verifier", {"mode": "trust", "trust": b"", "highest": 2}, chain)
    assert (done["n"], [row[0] for row in done["links"]]) == (2, [1, 2])
    assert chain[done["links"][1][1] :][: done["links"][1][2]] == envelope.encode(two)
    error = device.child("verifier", {"mode": "trust", "trust": b"", "highest": 3}, chain)
    assert (error["k"], error["reason"]) == ("error", reasons.TRUST_CHAIN)
    assert device.child("verifier", {"mode": "trust", "trust": b"", "highest": 0}, b"")["reason"] == reasons.TRUST_CHAIN
