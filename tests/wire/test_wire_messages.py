# SPDX-License-Identifier: Apache-2.0
"""Births, hearts, results, acknowledgements, commands: what goes in comes out, and stays readable."""

from pathlib import Path

import pytest

from edgeheal.core.kinds import ActionCode, Mode, ResultState
from edgeheal.trust import envelope, sign
from edgeheal.wire import birth, commands, control, health, policy_doc, results, stored

GOLDEN = Path(__file__).parent / "golden"
SESSION = bytes.fromhex("a1b2c3d4e5f6")
BIRTH = birth.Birth(
    SESSION, boots=17, nonce=b"nonce-01", reset_reason="power loss", agent="0.1.0", config="c0ffee", policy=3, trust=2, capabilities=("json", "evidence"),
    classes=("generic", "gw-2"), boundary="full", watchdog_s=30, mode=Mode.ASK, spool_depth=4, spool_dropped=1, place="Lyon, pump house 3",
    hardware=b"\x01\x02\x03", apps=(birth.AppBirth("modbus-gw", "2.4.1", "4f1e0d9c", 3), birth.AppBirth("bare")), at_s=1_795_600_000, up_s=77,
)  # fmt: skip
COMMAND = commands.Command(
    bytes(range(16)), "acme", "gw-0417", ActionCode.ROLLBACK, 1_795_600_000, 1_795_600_600, b"keykey01", 1_795_600_000, "modbus-gw", nonce=b"nonce-01"
)
MESSAGES = {
    "birth-1": (birth.encode(BIRTH), birth.decode, BIRTH),
    "will-1": (birth.will(SESSION), birth.decode, birth.Birth(SESSION, online=False)),
    "health-1": (health.encode(health.Health(SESSION, 12_345, 86_400, 3, 1, 2, 5, 300)), health.decode, health.Health(SESSION, 12_345, 86_400, 3, 1, 2, 5, 300)),
    "result-1": (
        results.encode(results.Result(bytes(range(16)), ResultState.FAILED, 24, 2, "modbus-gw", 1_795_600_005, 412, 7, b"m" * 32, "why")),
        results.decode, results.Result(bytes(range(16)), ResultState.FAILED, 24, 2, "modbus-gw", 1_795_600_005, 412, 7, b"m" * 32, "why"),
    ),
    "stored-1": (
        stored.encode([stored.Ack(SESSION, 41, (43, 45)), stored.Ack(b"older!", 9)], stored.Presence(b"ctlctl", stored.PresenceState.OPEN), b"twin!!"),
        stored.read,
        stored.Stored((stored.Ack(SESSION, 41, (43, 45)), stored.Ack(b"older!", 9)), stored.Presence(b"ctlctl", stored.PresenceState.OPEN), b"twin!!"),
    ),
    "presence-1": (
        stored.encode_presence(stored.Presence(b"ctlctl", stored.PresenceState.FULL, "main", 5)), stored.decode_presence,
        stored.Presence(b"ctlctl", stored.PresenceState.FULL, "main", 5),
    ),
    "command-1": (commands.encode_body(COMMAND), commands.decode_body, COMMAND),
    "policy-1": (
        policy_doc.encode_body(policy_doc.PolicyDoc((1, 7), "acme", "gw-0417", {"modbus-gw": b"g" * 32}, {"disk_low_permille": 80}, {"restart": ((5, 600),)},
                                                    ((b"fprint!!", 2, 8, 9),))),
        policy_doc.decode_body,
        policy_doc.PolicyDoc((1, 7), "acme", "gw-0417", {"modbus-gw": b"g" * 32}, {"disk_low_permille": 80}, {"restart": ((5, 600),)}, ((b"fprint!!", 2, 8, 9),)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_what_goes_in_comes_out(name):
    data, read, value = MESSAGES[name]
    assert read(data) == value


@pytest.mark.parametrize("name", MESSAGES)
def test_golden_bytes_stay_readable_and_are_still_what_we_write(name):
    data, read, value = MESSAGES[name]
    golden = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())
    assert read(golden) == value
    assert golden == data, "a change of the bytes needs a new version and a new golden file beside this one"


def test_births_hearts_and_results_say_the_same_in_json():
    assert birth.decode(birth.to_json(birth.encode(BIRTH))) == BIRTH
    heart = MESSAGES["health-1"]
    assert health.decode(health.to_json(heart[0])) == heart[2]
    result = MESSAGES["result-1"]
    assert results.decode(results.to_json(result[0])) == result[2]
    text = b'{"v":1,"acks":[["a1b2c3d4e5f6",41,43]],"presence":["63746c63746c",1]}'
    assert stored.read(text).acks == (stored.Ack(SESSION, 41, (43,)),)


def test_a_heartbeat_is_small():
    assert len(MESSAGES["health-1"][0]) <= 64


@pytest.mark.parametrize("action", [ActionCode.RESTART, ActionCode.ROLLBACK, ActionCode.PAUSE, ActionCode.REBOOT])
def test_a_signed_command_is_at_most_260_bytes(action):
    key = sign.from_seed(b"k" * 32)
    command = commands.Command(
        bytes(16), "acme", "gw-0417", action, 1_795_600_000, 1_795_600_600, key.public[:8], 1_795_600_000, "modbus-gw", seconds=7_200, nonce=b"n" * 8
    )
    sealed = envelope.encode(key.sign(envelope.Envelope(envelope.COMMAND, commands.encode_body(command))))
    assert len(sealed) <= 260
    assert commands.peek(sealed) == command
    assert commands.peek_id(sealed) == command.command_id


def test_an_id_is_found_in_a_command_that_cannot_be_read():
    key = sign.from_seed(b"k" * 32)
    from edgeheal.trust import canonical

    sealed = envelope.encode(key.sign(envelope.Envelope(envelope.COMMAND, canonical.pack({"v": 9, "i": b"i" * 16, "new": 1}))))
    assert commands.peek_id(sealed) == b"i" * 16
    assert commands.peek_id(b"junk") == b""


def test_control_lines_come_back():
    request = control.Request("explain", 7, {"incident": "K7QF"})
    assert control.decode_request(control.encode_request(request)) == request
    answer = control.Answer(7, False, {"x": 1}, "no such incident")
    assert control.decode_answer(control.encode_answer(answer)) == answer
