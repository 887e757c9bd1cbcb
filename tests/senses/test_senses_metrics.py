# SPDX-License-Identifier: Apache-2.0
import os
import socket
import time

import pytest
from drive import drive
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.adapters.metrics import PER_SECOND, BadLineError, Metrics, parse_line, source_of
from edgeheal.core.app import AppSpec, MetricSpec
from edgeheal.core.signal import Reading, SelfSaid

SPEC = AppSpec("gw", metrics=(MetricSpec("temperature", "C"), MetricSpec("m1.voltage", "V")))


@pytest.fixture
def door(tmp_path):
    out = []
    metrics = Metrics(out.append, lambda app: str(tmp_path / f"{app}.sock"), time.monotonic_ns)
    metrics.catalog([SPEC])
    app = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    app.connect(str(tmp_path / "gw.sock"))
    yield metrics, app, out
    app.close()
    metrics.close()


def readings(out):
    return [(r.sensor, r.value) for r in out if isinstance(r, Reading)]


def test_a_reading_goes_from_the_apps_socket_to_a_signal(door):
    metrics, app, out = door
    app.send(b"temperature 21.5 C\nm1.voltage 230.1 V 1795564800.5\ntemperature nan\n")
    assert drive(metrics, until=lambda: len(readings(out)) == 3)
    assert readings(out) == [("temperature", 21.5), ("m1.voltage", 230.1), ("temperature", None)]
    assert [r.source for r in out] == ["gw", "m1", "gw"]


def test_statsd_gauges_are_understood(door):
    metrics, app, out = door
    app.send(b"temperature:19|g\n")
    assert drive(metrics, until=lambda: readings(out) == [("temperature", 19.0)])


@pytest.mark.parametrize(
    "line",
    ["x", "a b c d e", "temperature 1e999", "temperature inf", "temperature 1_0", "temperature 0x10", "\x1b[2J 1", "temperature 1 C later", "a" * 80 + " 1"],
)
def test_a_bad_line_costs_that_line_only(door, line):
    metrics, app, out = door
    app.send(line.encode() + b"\ntemperature 5\n")
    assert drive(metrics, until=lambda: readings(out) == [("temperature", 5.0)])
    with pytest.raises(BadLineError):
        parse_line(line)


def test_what_was_not_promised_or_comes_in_another_unit_is_dropped_and_said_once(door):
    metrics, app, out = door
    for _ in range(20):
        app.send(b"pressure 3\ntemperature 70 F\n")
        metrics.ready(next(iter(metrics.fds())), 1)
    app.send(b"temperature 1 C")
    assert drive(metrics, until=lambda: bool(readings(out)))
    assert readings(out) == [("temperature", 1.0)]
    said = [s for s in out if isinstance(s, SelfSaid)]
    assert len(said) == 1
    assert "pressure is not in the manifest" in said[0].text


@pytest.mark.root
def test_only_the_apps_own_uid_may_speak_for_it(door):
    if os.getuid() != 0:
        pytest.skip("needs root and separate uids")
    metrics, app, out = door
    metrics._uid_of = lambda app: 4711
    app.send(b"temperature 99\n")
    pid = os.fork()
    if pid == 0:
        os.setuid(4711)
        app.send(b"temperature 1\n")
        os._exit(0)
    os.waitpid(pid, 0)
    assert drive(metrics, until=lambda: bool(readings(out)))
    assert readings(out) == [("temperature", 1.0)]


def test_descriptors_that_come_along_are_closed(door):
    metrics, app, out = door
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        socket.send_fds(app, [b"temperature 1\n"], [0, 1, 2])
        metrics.ready(next(iter(metrics.fds())), 1)
    assert drive(metrics, until=lambda: len(readings(out)) >= PER_SECOND)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_burst_is_thinned_and_its_newest_value_is_kept(tmp_path):
    out, now = [], [10**9]
    metrics = Metrics(out.append, lambda app: str(tmp_path / app), lambda: now[0])
    metrics.catalog([SPEC])
    app = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    app.connect(str(tmp_path / "gw"))
    for n in range(60):
        app.send(b"temperature %d" % n)
        metrics.ready(next(iter(metrics.fds())), 1)
    assert len(readings(out)) == PER_SECOND
    assert metrics.due()
    now[0] = metrics.due()
    metrics.tick(now[0])
    assert readings(out)[-1] == ("temperature", 59.0)
    assert len(readings(out)) == PER_SECOND + 1
    assert metrics.due() == 0
    app.close()
    metrics.close()


def test_a_flood_keeps_other_apps_readings_coming(tmp_path):
    out = []
    metrics = Metrics(out.append, lambda app: str(tmp_path / app), time.monotonic_ns)
    metrics.catalog([SPEC, AppSpec("quiet", metrics=(MetricSpec("p"),))])
    loud, quiet = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2))
    loud.connect(str(tmp_path / "gw"))
    quiet.connect(str(tmp_path / "quiet"))

    def flood():
        try:
            while True:
                loud.send(b"temperature 1\n" * 60)
        except BlockingIOError:
            pass
        return any(r.app == "quiet" for r in out if isinstance(r, Reading))

    quiet.send(b"p 7")
    assert drive(metrics, until=flood, seconds=2)
    loud.close()
    quiet.close()
    metrics.close()


def test_an_app_that_leaves_takes_its_door_with_it(door, tmp_path):
    metrics, _, out = door
    metrics.catalog([AppSpec("other")])
    assert metrics.fds() == {}
    assert not (tmp_path / "gw.sock").exists()
    bad = Metrics(out.append, lambda app: str(tmp_path / "no/such" / app), time.monotonic_ns)
    bad.catalog([SPEC])
    assert bad.fds() == {}
    assert out[-1].what == "unreachable"


@given(st.text(max_size=100))
def test_any_line_is_a_reading_or_a_typed_error(line):
    try:
        name, value, _ = parse_line(line)
    except BadLineError:
        return
    assert name
    assert value is None or abs(value) < float("inf")
    assert source_of("a", name)
