# SPDX-License-Identifier: Apache-2.0
"""Bytes from outside: whatever comes, a value or a typed error, and nothing of ours is forged by it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeheal.core.errors import WireError
from edgeheal.guard import notify
from edgeheal.guard.launch import Launch, User
from edgeheal.guard.ports import of as ports_of
from edgeheal.wire import guard_frames as f
from edgeheal.wire.guard_event import Event
from edgeheal.wire.guard_signals import Words

LINES = st.lists(
    st.one_of(st.binary(max_size=40), st.sampled_from([b"READY=1", b"STATUS=x", b"MAINPID=-1", b"WATCHDOG_USEC=99999999999999999999999", b"="])), max_size=12
)


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_notify_words_are_known_words_with_bounded_values(lines):
    words = notify.parse(b"\n".join(lines))
    assert words.keys() <= notify.KNOWN
    assert all(len(value) <= 1_024 for value in words.values())
    for value in words.values():
        assert -1 <= notify.number(value, 1_000) <= 1_000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 255))
def test_any_event_frame_is_a_signal_nothing_or_a_typed_error(raw, kind):
    words = Words()
    for frame in (raw, raw[: f.EVENT.size].ljust(f.EVENT.size, b"\xff")):
        frame = frame[:1] + bytes([kind]) + frame[2:] if len(frame) > 2 else frame
        try:
            signal = words.event(Event(frame))
        except WireError:
            assert len(frame) != f.EVENT.size
            continue
        assert signal is None or all(char.isprintable() for value in vars_of(signal) if isinstance(value, str) for char in value)
        for read in (words.app_row, words.image_row):
            try:
                read(raw)
            except WireError:
                assert len(raw) not in (f.APP_ROW.size, f.IMAGE_ROW.size)


def vars_of(signal):
    return [getattr(signal, name) for name in signal.__slots__]


NAMES = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.one_of(NAMES, st.sampled_from(["EDGEHEAL_RUN", "NOTIFY_SOCKET", "LD_PRELOAD", "A=B", "X\0"])), NAMES, max_size=8))
def test_an_image_cannot_forge_our_environment(env):
    launch = Launch({"app": "a", "id": b"\1" * 32, "argv": ["x"], "env": env}, tree="/t", data="/d", user=User(1, 1))
    made = launch.env({"NOTIFY_SOCKET": "ours", "EDGEHEAL_RUN": "a:1"})
    assert made["NOTIFY_SOCKET"] == "ours"
    assert made["EDGEHEAL_RUN"] == "a:1"
    assert made["EDGEHEAL_APP"] == "a"
    assert "LD_PRELOAD" not in made
    assert not [name for name in made if "=" in name or "\0" in name]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["tcp", "http", "exec"]),
            st.one_of(st.text(max_size=40), st.sampled_from(["127.0.0.1:80", "http://127.0.0.1:8080/x", "http://localhost"])),
        ),
        max_size=4,
    )
)
def test_ports_of_probes_are_ports(rows):
    launch = Launch(
        {"app": "a", "id": b"", "argv": ["x"], "probes": [["n", "live", kind, target, 1, 1, 1] for kind, target in rows]}, tree="", data="", user=User(1, 1)
    )
    assert all(0 < port < 65_536 for port in ports_of(launch))
