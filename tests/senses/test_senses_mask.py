# SPDX-License-Identifier: Apache-2.0
import base64
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.core.mask import MASK, Masker, escaped

SECRET = "p4ss-0002"


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("GET https://u:p4ss-0002@host/path", "p4ss-0002"),
        ("password=hunter22 ok", "hunter22"),
        ('{"api_key": "s3cr3t-0001", "n": 1}', "s3cr3t-0001"),
        ("mqtt.password = 'a b c' next", "a b c"),
        ("Authorization: Bearer abcdef123456.xyz", "abcdef123456"),
        ("curl -H 'authorization: Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
        ("run --token abcd1234 --verbose", "abcd1234"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig-nature", "eyJzdWIiOiIxIn0"),
        ("aws AKIAABCDEFGHIJKLMNOP", "AKIAABCDEFGHIJKLMNOP"),
        ("-----BEGIN PRIVATE KEY-----MIIabc-----END PRIVATE KEY----- tail", "MIIabc"),
        ("blob " + "QUJD" * 20 + "QQ==", "QUJDQUJD"),
        ("Zm9v" * 16, "Zm9vZm9v"),
        ("key A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0", "A1b2C3d4"),
        ("WIFI_PSK=correcthorse", "correcthorse"),
        ("session_id: 991122aabb;", "991122aabb"),
    ],
)
def test_secrets_are_masked_by_their_shape(line, gone):
    assert gone in line
    masked = Masker().masked(line)
    assert gone not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "line",
    [
        "authentication failure; logname= uid=0",
        "token expired at 3",
        "Failed password for root from 10.0.0.1",
        "pin 4 high",
        "http://127.0.0.1:8080/health ok",
        "/usr/lib/python3/dist-packages/serial/serialposix.py line 12",
    ],
)
def test_ordinary_lines_stay_readable(line):
    assert Masker().masked(line) == line


@given(st.binary(max_size=30), st.binary(max_size=30), st.text("abcdefghijklmnopqrstuvwxyzäöü0123456789-_ /+", min_size=6, max_size=40))
def test_fc_sec_3_a_known_secret_is_found_in_any_encoding(before, after, secret):
    secret = secret.strip()
    if len(secret) < 6:
        return
    masker = Masker([secret])
    raw = secret.encode()
    hidden = base64.b64encode(before + raw + after).decode()
    core = base64.b64encode(raw).decode().rstrip("=")[:-1]
    masked = masker.masked(f"x {hidden} y")
    assert core not in masked or core not in hidden
    assert MASK in masked
    for form in (secret, raw.hex(), urllib.parse.quote(secret), urllib.parse.quote(secret, safe=""), base64.urlsafe_b64encode(before + raw + after).decode()):
        assert MASK in masker.masked(f"<{form}>")
    assert secret not in masker.masked(json.dumps({"error": f"bad {secret}!"}, ensure_ascii=False))


@given(st.binary(max_size=400))
def test_nothing_that_steers_a_terminal_leaves(raw):
    text = Masker([SECRET]).fit(raw)
    assert len(text) <= 200
    assert text.isprintable()


@pytest.mark.parametrize("char", ["\x1b", "\r", "\n", "\x00", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\ud800"])
def test_control_and_direction_characters_are_escaped(char):
    assert char not in escaped(f"a{char}b")
    assert escaped(f"a{char}b").startswith("a\\")


def test_a_cut_never_leaves_half_a_secret():
    line = "x" * 190 + " key " + SECRET + " tail"
    assert "p4ss" not in Masker([SECRET]).fit(line)
    assert escaped(b"\xff\xfe ok") == "\\xff\\xfe ok"
