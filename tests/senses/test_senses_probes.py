# SPDX-License-Identifier: Apache-2.0
import contextlib
import errno
import os
import socket
import threading
import time

import pytest
from drive import drive
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.adapters.probes.attempt import Answer, place_of
from edgeheal.adapters.probes.http import BODY_MOST, HttpAttempt
from edgeheal.adapters.probes.schedule import Probes
from edgeheal.adapters.probes.tcp import TcpAttempt
from edgeheal.core import reasons
from edgeheal.core.app import AppSpec, ProbeSpec
from edgeheal.core.kinds import Verdict
from edgeheal.core.signal import AppExited, AppReady, AppSeen, AppStarted

NO, YES, UNKNOWN = Verdict.NO, Verdict.YES, Verdict.UNKNOWN


class Peer:
    """A real TCP listener that answers each connection with `script(sock)` in a thread."""

    def __init__(self, script, host="127.0.0.1", backlog=16):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.bind((host, 0))
        self.sock.listen(backlog)
        self.port = self.sock.getsockname()[1]
        self.accepted = 0
        self.seen = []
        self._script = script
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            self.accepted += 1
            with contextlib.suppress(OSError), conn:
                self._script(conn, self)

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


@pytest.fixture
def peers():
    made = []

    def make(script, **kw):
        made.append(Peer(script, **kw))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


def says(*parts, linger=None):
    def script(conn, peer):
        peer.seen.append(conn.recv(4096))
        for part in parts:
            conn.sendall(part)
        if linger is not None:
            linger.wait(5)

    return script


def run(attempt, seconds=5.0) -> Answer | None:
    import select

    end = time.monotonic() + seconds
    answer = attempt.go(0)
    while answer is None and time.monotonic() < end:
        poll = select.poll()
        poll.register(attempt.fd, attempt.mask)
        for _, events in poll.poll(100):
            answer = attempt.go(events)
    attempt.close()
    return answer


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("parts", "verdict", "code"),
    [
        ((OK,), YES, 200),
        ((b"HTTP/1.0 204 No Content\r\n\r\n",), YES, 204),
        ((b"HTTP/1.1 200\r\n\r\n",), YES, 200),
        ((b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",), YES, 302),
        ((b"HTTP/1.1 503 Sick\r\nContent-Length: 5\r\n\r\nsick\n",), NO, 503),
        ((b"HTTP/1.1 404 x\r\n\r\n",), NO, 404),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), YES, 200),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhel", b"lo\r\n0\r\n\r\n"), YES, 200),
        (tuple(OK[i : i + 1] for i in range(len(OK))), YES, 200),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",), NO, reasons.TRUNCATED),
        ((b"",), NO, reasons.TRUNCATED),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), NO, reasons.MALFORMED),
        ((b"HTTP/1.1 abc OK\r\n\r\n",), NO, reasons.MALFORMED),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",), NO, reasons.MALFORMED),
        ((b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 40_000,), NO, reasons.TOO_LARGE),
    ],
)
def test_an_http_answer_is_yes_no_or_malformed_by_its_status(peers, parts, verdict, code):
    peer = peers(says(*parts))
    assert run(HttpAttempt.begin(f"http://127.0.0.1:{peer.port}/health?x=1")) == Answer(verdict, code)
    assert peer.seen[0].startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % peer.port)


def test_a_redirect_is_never_followed(peers):
    trap = peers(says(OK))
    peer = peers(says(b"HTTP/1.1 301 x\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % trap.port))
    assert run(HttpAttempt.begin(f"http://127.0.0.1:{peer.port}/")).verdict == YES
    assert trap.accepted == 0


def test_an_endless_body_is_read_to_a_bound_and_no_further(peers):
    sent = []

    def flood(conn, peer):
        conn.recv(4096)
        conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sent.append(conn.send(b"x" * 65_536))

    peer = peers(flood)
    assert run(HttpAttempt.begin(f"http://127.0.0.1:{peer.port}")) == Answer(YES, 200)
    assert sum(sent) < 100 * BODY_MOST


def test_the_app_sees_no_broken_pipe_from_a_probe(peers):
    fault = []

    def script(conn, peer):
        conn.recv(4096)
        try:
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n")
            for _ in range(30):
                conn.sendall(b"y" * 1000)
            conn.shutdown(socket.SHUT_WR)
            conn.recv(10)
        except OSError as problem:
            fault.append(problem)
        peer.seen.append("end")

    peer = peers(script)
    assert run(HttpAttempt.begin(f"http://127.0.0.1:{peer.port}")).verdict == YES
    deadline = time.monotonic() + 5
    while not peer.seen and time.monotonic() < deadline:
        os.sched_yield()
    assert peer.seen == ["end"]
    assert fault == []


def test_a_port_with_nobody_behind_it_is_a_clear_no():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert run(TcpAttempt.begin(f"127.0.0.1:{port}")) == Answer(NO, reasons.NOT_RUNNING)
        assert run(HttpAttempt.begin(f"http://127.0.0.1:{port}/")) == Answer(NO, reasons.NOT_RUNNING)


def test_tcp_accepts_is_yes_and_localhost_tries_both_families(peers):
    peer = peers(says(b""))
    assert run(TcpAttempt.begin(f"127.0.0.1:{peer.port}")) == Answer(YES)
    assert run(TcpAttempt.begin(f"localhost:{peer.port}")) == Answer(YES)
    try:
        six = peers(says(b""), host="::1")
    except OSError:
        pytest.skip("no IPv6 loopback here")
    assert run(TcpAttempt.begin(f"tcp://[::1]:{six.port}")) == Answer(YES)
    assert run(TcpAttempt.begin(f"localhost:{six.port}")) == Answer(YES)


def test_a_socket_that_meets_itself_has_found_nobody():
    attempt = TcpAttempt.begin("127.0.0.1:1")
    attempt.close()
    attempt.sock = socket.socket()
    attempt.sock.bind(("127.0.0.1", 0))
    assert attempt.sock.connect_ex(attempt.sock.getsockname()) == 0  # the kernel does connect it to itself
    attempt._fault = errno.EINPROGRESS  # as if it had just come through
    attempt._next = 1
    assert attempt.go(0) == Answer(NO, reasons.NOT_RUNNING)
    attempt.close()


def test_no_descriptor_left_for_us_is_could_not_tell(peers):
    import resource

    peer = peers(says(OK))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(n) for n in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    hold = []
    try:
        with contextlib.suppress(OSError):
            while True:
                hold.append(os.dup(1))
        attempt = HttpAttempt.begin(f"http://127.0.0.1:{peer.port}")
        assert attempt.go(0) == Answer(UNKNOWN, reasons.INTERNAL)
    finally:
        for fd in hold:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1:80/",
        "http://example.test/",
        "http://169.254.1.1:1/",
        "http://[fe80::1]:80/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:70000/",
        "https://127.0.0.1:1/",
        "",
        "http://127.0.0.1:80/a b",
        "http://u@127.0.0.1:80/",
        "http://127.0.0.1:80/\r\nX: y",
    ],
)
def test_a_target_off_the_loopback_or_odd_is_refused(target):
    with pytest.raises(ValueError):
        HttpAttempt.begin(target)


@given(st.text(max_size=60), st.sampled_from(["http", "tcp"]))
def test_any_text_is_a_loopback_place_or_a_value_error(text, scheme):
    with contextlib.suppress(ValueError):
        place = place_of(text, scheme)
        assert all(host == "::1" or host.startswith("127.") for host, _ in place.addresses)
        assert "\r" not in place.path + place.authority


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_bytes_of_a_peer_end_in_an_answer(chunks):
    attempt = HttpAttempt(place_of("http://127.0.0.1:9/", "http"))
    attempt.close()
    answer = None
    for chunk in [b"HTTP/1.1 200 OK\r\n", *chunks]:
        answer = answer or attempt._take(chunk)
    answer = answer or attempt._ended()
    assert answer.verdict in (YES, NO)


# -- the schedule


def spec(*probes, **kw):
    return AppSpec("a", probes=probes, **{"start_ms": 1_000, **kw})


class Bench:
    """The schedule with a clock of its own and a guard that keeps what it was asked."""

    def __init__(self, *specs):
        self.now = 1_000_000_000
        self.out = []
        self.asked = []
        self.there = True
        self.probes = Probes(self.out.append, self._ask, lambda: self.now)
        self.probes.catalog(specs)

    def _ask(self, app, index, told):
        self.asked.append((app, index, told))
        return self.there

    def to(self, ms):
        """Let time come to `ms`, ticking whatever is due on the way."""
        end = 1_000_000_000 + ms * 1_000_000
        while True:
            due = self.probes.due()
            if not due or due > end:
                break
            self.now = max(self.now, due)
            self.probes.tick(self.now)
        self.now = end
        self.probes.tick(end)

    def answers(self):
        told = [(p.probe, p.verdict) for p in self.out]
        self.out.clear()
        return told


EXEC = ProbeSpec("e", "live", "exec", "check", 1_000, 500, 3)


def test_live_probes_wait_for_readiness_or_the_end_of_the_start_time():
    bench = Bench(spec(EXEC, start_ms=5_000))
    bench.probes.heed(AppStarted(app="a", run=1))
    bench.to(4_900)
    assert bench.asked == []
    bench.to(6_100)
    assert len(bench.asked) == 1
    early = Bench(spec(EXEC, start_ms=60_000))
    early.probes.heed(AppStarted(app="a", run=1))
    early.probes.heed(AppReady(app="a", run=1))
    early.to(1_000)
    assert len(early.asked) == 1


def test_fc_sto_1_at_most_one_run_of_a_probe_is_out():
    bench = Bench(spec(EXEC))
    bench.probes.heed(AppSeen(app="a", run=1, phase=2))
    bench.to(9_000)
    assert len(bench.asked) == 1
    assert bench.answers() == []
    bench.to(30_000)  # the guard itself never came back: could not tell, and then the next one
    assert bench.answers()[0] == ("e", UNKNOWN)
    assert len(bench.asked) <= 4


def test_an_answer_comes_once_and_the_next_run_is_at_the_period():
    bench = Bench(spec(EXEC))
    bench.probes.heed(AppSeen(app="a", run=1, phase=2))
    bench.to(1_000)
    told = bench.asked[0][2]
    told(1, 20, 0)
    told(0, 20, 7)
    assert bench.answers() == [("e", YES)]
    bench.to(1_999)
    assert len(bench.asked) <= 2
    bench.to(2_000)
    assert len(bench.asked) == 2


def test_an_answer_for_an_older_run_is_dropped():
    bench = Bench(spec(EXEC))
    bench.probes.heed(AppSeen(app="a", run=1, phase=2))
    bench.to(1_000)
    old = bench.asked[0][2]
    bench.probes.heed(AppExited(app="a", run=1))
    bench.probes.heed(AppStarted(app="a", run=2))
    old(0, 1, 1)
    assert bench.answers() == []
    bench.probes.heed(AppExited(app="a", run=2))
    assert bench.probes.due() == 0


def test_start_probes_end_with_their_first_yes_and_ready_ones_slow_down():
    bench = Bench(spec(ProbeSpec("s", "start", "exec", "x", 5_000, 400), ProbeSpec("r", "ready", "exec", "x", 5_000, 400)))
    bench.probes.heed(AppStarted(app="a", run=1))
    bench.to(1_100)
    for _, _, told in bench.asked:
        told(0, 1, 1)
    bench.to(2_200)
    assert len(bench.asked) == 4  # both quickly again
    for _, _, told in bench.asked[2:]:
        told(1, 1, 0)
    bench.to(6_900)
    assert len(bench.asked) == 4
    bench.to(7_200)
    assert [index for _, index, _ in bench.asked[4:]] == [1]


def test_being_late_ourselves_is_could_not_tell(peers):
    stop = threading.Event()
    peer = peers(says(linger=stop))
    bench = Bench(spec(ProbeSpec("h", "live", "http", f"http://127.0.0.1:{peer.port}/", 2_000, 500)))
    bench.probes.heed(AppSeen(app="a", run=1, phase=2))
    bench.now = bench.probes.due()
    bench.probes.tick(bench.now)
    bench.now += 120_000_000_000  # the box stood still
    bench.probes.tick(bench.now)
    assert bench.answers() == [("h", UNKNOWN)]
    bench.now = bench.probes.due()
    bench.probes.tick(bench.now)
    bench.now = bench.probes.due()
    bench.probes.tick(bench.now)
    assert bench.answers() == [("h", NO)]
    stop.set()
    bench.probes.close()


def test_without_a_guard_what_it_is_asked_is_could_not_tell():
    bench = Bench(spec(EXEC))
    bench.there = False
    bench.probes.heed(AppSeen(app="a", run=1, phase=2))
    bench.to(1_000)
    assert bench.answers() == [("e", UNKNOWN)]
    bench.there = True
    bench.to(2_000)
    bench.probes.guard_lost()
    assert ("e", UNKNOWN) in bench.answers()


def test_an_app_whose_readiness_is_told_by_probes_is_ready_once_all_of_them_said_yes():
    heard = []
    probes = (
        ProbeSpec("s", "start", "exec", "x", 1_000, 400),
        ProbeSpec("r", "ready", "exec", "x", 1_000, 400),
        ProbeSpec("l", "live", "exec", "x", 1_000, 400),
    )
    bench = Bench(spec(*probes, ready="probe", start_ms=60_000))
    bench.probes._on_ready = heard.append
    bench.probes.heed(AppStarted(app="a", run=1))
    bench.to(1_100)
    assert [index for _, index, _ in bench.asked] == [0, 1]
    bench.asked[0][2](1, 1, 0)
    assert heard == []
    bench.asked[1][2](0, 1, 1)
    bench.to(2_200)
    bench.asked[2][2](1, 1, 0)
    assert heard == ["a"]
    bench.to(3_300)
    bench.asked[3][2](1, 1, 0)
    assert heard == ["a"]
    bench.probes.heed(AppSeen(app="a", run=1, phase=1))  # a guard that came back without knowing
    bench.to(4_400)
    bench.asked[-1][2](1, 1, 0)
    assert heard == ["a", "a"]
    heard.pop()
    other = Bench(spec(*probes, ready="notify"))
    other.probes._on_ready = heard.append
    other.probes.heed(AppStarted(app="a", run=1))
    other.to(1_100)
    for _, _, told in other.asked:
        told(1, 1, 0)
    assert heard == ["a"]


def test_twenty_apps_are_not_probed_at_once():
    specs = [AppSpec(f"app{n}", probes=(EXEC,)) for n in range(20)]
    bench = Bench(*specs)
    for s in specs:
        bench.probes.heed(AppSeen(app=s.name, run=1, phase=2))
    dues = sorted(row.due_ns for r in bench.probes._runs.values() for row in r.rows)
    assert len(set(dues)) > 15
    assert dues[-1] - dues[0] > 500_000_000


def test_probe_again_now_and_a_changed_catalog_begins_anew():
    bench = Bench(spec(EXEC))
    bench.probes.heed(AppSeen(app="a", run=1, phase=2))
    assert bench.probes.again("a") == 1
    bench.probes.tick(bench.now)
    assert len(bench.asked) == 1
    bench.probes.catalog([spec(EXEC, ProbeSpec("f", "live", "freshness", "x", 1_000, 100))])
    bench.asked[0][2](1, 1, 0)
    assert bench.answers() == []
    bench.to(2_000)
    assert {i for _, i, _ in bench.asked[1:]} == {0, 1}
    bench.probes.catalog([])
    assert bench.probes.due() == 0


def test_a_run_that_began_before_the_catalog_named_its_app_is_probed_once_it_does():
    bench = Bench()
    bench.probes.heed(AppStarted(app="a", run=1))
    bench.probes.heed(AppReady(app="a", run=1))
    bench.to(5_000)
    assert bench.asked == []
    bench.probes.catalog([spec(EXEC, start_ms=60_000)])
    bench.to(6_100)
    assert len(bench.asked) == 1
    gone = Bench()
    gone.probes.heed(AppStarted(app="a", run=1))
    gone.probes.heed(AppExited(app="a", run=1))
    gone.probes.catalog([spec(EXEC)])
    assert gone.probes.due() == 0


def test_a_real_peer_is_probed_by_the_loop_until_it_dies(peers):
    peer = peers(says(OK))
    out = []
    probes = Probes(out.append, lambda *_: False, time.monotonic_ns)
    probes.catalog(
        [spec(ProbeSpec("h", "live", "http", f"http://127.0.0.1:{peer.port}/", 100, 80), ProbeSpec("t", "live", "tcp", f"127.0.0.1:{peer.port}", 100, 80))]
    )
    probes.heed(AppSeen(app="a", run=5, phase=2))
    assert drive(probes, until=lambda: {(p.probe, p.verdict) for p in out} >= {("h", YES), ("t", YES)})
    assert all(p.run == 5 and p.verdict == YES for p in out)
    peer.close()
    assert drive(probes, until=lambda: {(p.probe, p.verdict) for p in out} >= {("h", NO), ("t", NO)})
    before = len(os.listdir("/proc/self/fd"))
    probes.close()
    assert len(os.listdir("/proc/self/fd")) <= before
