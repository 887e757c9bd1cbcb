# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
import time
import tracemalloc
from collections import Counter

import crash_samples as samples
import pytest
from drive import drive
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.adapters.logs.level import level_of
from edgeheal.adapters.logs.miner import GROUPS_MOST, Miner, masked
from edgeheal.adapters.logs.source import CHUNK, OTHERS, Logs, _Log
from edgeheal.core.mask import Masker
from edgeheal.core.signal import AppExited, AppSeen, AppStarted, LogSeen
from edgeheal.guard import kernel


class Guard:
    """What the guard does with an app's log: opens it, frees what was read."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "a.log"
        self.path.touch()
        self.there = True
        self.asked = 0
        self.cuts = []
        self.most = 0

    def open(self, app, give):
        self.asked += 1
        give(os.open(self.path, os.O_RDONLY) if self.there else -1)

    def cut(self, app, upto, done):
        self.cuts.append(upto)
        self.most = max(self.most, self.path.stat().st_blocks * 512)
        self.free(upto)
        done()

    def free(self, upto):
        fd = os.open(self.path, os.O_WRONLY)
        assert kernel.punch(fd, 0, upto // 4096 * 4096)
        os.close(fd)

    def write(self, text):
        with open(self.path, "ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)


@pytest.fixture
def guard(tmp_path):
    return Guard(tmp_path)


class Bench:
    def __init__(self, guard, **kw):
        self.now = 10**9
        self.out = []
        self.guard = guard
        self.logs = Logs(self.out.append, guard.open, guard.cut, lambda: self.now, **kw)

    def pass_time(self, seconds):
        end = self.now + round(seconds * 1e9)
        while True:
            for fd in self.logs.fds():
                self.logs.ready(fd, 1)
            due = self.logs.due()
            if not due or due > end:
                break
            self.now = max(self.now, due)
            self.logs.tick(self.now)
        self.now = end

    def seen(self):
        told, self.out[:] = [(s.template, s.count) for s in self.out], []
        return told


@pytest.fixture
def bench(guard):
    made = Bench(guard)
    made.logs.heed(AppStarted(app="a", run=1, pid=1))
    yield made
    made.logs.close()


def test_a_new_line_is_told_at_once_and_known_ones_are_folded_with_their_number(bench, guard):
    guard.write("ERROR: write error 28 on /data\nplain words\n")
    bench.pass_time(1)
    assert bench.seen() == [("ERROR: write error <*> on /data", 1), ("plain words", 1)]
    guard.write("ERROR: write error 5 on /data\n" * 500 + "plain words\n" * 3)
    bench.pass_time(1)
    assert bench.seen() == []
    bench.pass_time(11)
    assert bench.seen() == [("ERROR: write error <*> on /data", 500)]  # what only informs is folded away


FLOOD = r"""
import os, sys, time
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
seconds = float(sys.argv[2])
began = time.monotonic()
lines, singles = 0, [(0.3, b"journal checksum mismatch at block 77\n"), (0.7, b"inode table of group 3 is gone\n")]
while (t := time.monotonic() - began) < seconds:
    for _ in range(100):
        os.write(fd, b"write error 28 on /data\n")
    lines += 100
    if singles and t > singles[0][0] * seconds:
        os.write(fd, singles.pop(0)[1])
print(lines / seconds)
"""


def test_fc_log_2_a_new_template_gets_through_a_flood_within_bounds(guard):
    out = []
    logs = Logs(out.append, guard.open, guard.cut, time.monotonic_ns)
    logs.heed(AppStarted(app="a", run=1, pid=1))
    seconds = 2.0
    app = subprocess.Popen([sys.executable, "-I", "-S", "-c", FLOOD, str(guard.path), str(seconds)], stdout=subprocess.PIPE, text=True)
    began, cpu = time.monotonic(), time.process_time()
    drive(logs, until=lambda: app.poll() is not None, seconds=20)
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    rate = float(app.stdout.read())
    app.stdout.close()
    logs.heed(AppExited(app="a", run=1))
    assert drive(logs, until=lambda: sum(s.count for s in out) > 10_000, seconds=8)
    templates = [s.template for s in out]
    assert "journal checksum mismatch at block <*>" in templates
    assert "inode table of group <*> is gone" in templates
    assert sum(s.count for s in out if s.template.startswith("write error")) > 10_000
    print(f"{rate:.0f} lines a second, {share:.0%} of a core, at most {guard.most} bytes")
    assert share < 0.30, f"{share:.0%} of a core"
    assert rate > 10_000, f"the app wrote {rate:.0f} lines a second"
    assert sum(len(repr(s)) for s in out) < 65_536
    assert guard.cuts
    logs.close()


def test_every_new_line_of_a_storm_of_new_lines_is_told_or_counted(bench, guard):
    words = ["alpha", "beta", "gamma", "delta", "kappa", "sigma", "omega", "theta"]
    lines = [f"{a}-{b}-{c}-{d} went elsewhere" for a in words for b in words for c in words for d in words[:2]]
    lines.insert(900, "FATAL: battery is on fire")
    guard.write("\n".join(lines) + "\n")
    bench.pass_time(1)
    told = bench.seen()
    assert ("FATAL: battery is on fire", 1) in told  # the gravest goes first
    assert len(told) < 80
    bench.pass_time(30)
    told += bench.seen()
    counted = sum(count for template, count in told if template == OTHERS)
    assert counted > 500
    assert counted + sum(template != OTHERS for template, _ in told) == len(lines)


def test_a_crash_is_told_whole_when_the_app_ends_with_it(bench, guard):
    guard.write(samples.PY_OTHER.rstrip("\n"))  # no newline at the end: it died there
    bench.logs.heed(AppExited(app="a", run=1, signum=6))
    bench.pass_time(0.2)
    crash = next(s for s in bench.out if s.frames)
    assert crash.error == "BrokenPipeError"
    assert crash.frames == ("reader.py:once", "gateway.py:main")
    assert crash.excerpt == "[Errno 32] Broken pipe"
    assert crash.template == "python BrokenPipeError"


def test_a_crash_in_two_writes_is_one(bench, guard):
    guard.write(samples.JAVA[:120])
    bench.pass_time(0.6)
    guard.write(samples.JAVA[120:])
    bench.pass_time(2)
    assert [s.error for s in bench.out if s.frames] == ["NullPointerException"]


def test_the_same_exception_a_thousand_times_costs_bounded_signals(bench, guard):
    for _ in range(20):
        guard.write(samples.PY_OTHER * 50)
        bench.pass_time(0.5)
    crashes = [s for s in bench.out if s.frames]
    assert sum(s.count for s in crashes) <= 1000
    bench.pass_time(15)
    crashes = [s for s in bench.out if s.frames]
    assert sum(s.count for s in crashes) == 1000
    assert len(crashes) < 20


@pytest.mark.parametrize("grown", [0, 10, 5_000])
def test_a_truncated_log_is_read_from_its_beginning_even_if_it_grew_again(bench, guard, grown):
    guard.write("first words are here\n" * 20)
    bench.pass_time(1)
    bench.seen()
    os.truncate(guard.path, 0)
    guard.write("second thing happened\n" + "x y z filler words\n" * grown)
    bench.pass_time(6)
    assert ("second thing happened", 1) in bench.seen()


def test_what_was_read_is_freed_and_nothing_that_was_not(guard):
    bench = Bench(guard, cap_of=lambda _: 100_000)
    bench.logs.heed(AppStarted(app="a", run=1))
    bench.pass_time(0.1)
    guard.write(b"line of the app\n" * 30_000)
    bench.pass_time(2)
    assert guard.cuts[-1] > 300_000
    assert guard.path.stat().st_blocks * 512 < 180_000
    guard.write("afterwards something else\n")
    bench.pass_time(12)
    told = bench.seen()
    assert ("afterwards something else", 1) in told
    assert "(bytes that were freed before they were read)" not in [template for template, _ in told]
    bench.logs.close()


def test_what_was_freed_before_it_was_read_is_said_in_bytes(bench, guard):
    guard.write("first words are here\n")
    bench.pass_time(1)
    bench.seen()
    guard.write("lost line of the flood\n" * 2_000)
    guard.free(20_480)
    guard.write("the line that mattered\n")
    bench.pass_time(12)
    told = bench.seen()
    lines = sum(count for template, count in told if template == "lost line of the flood")
    assert ("the line that mattered", 1) in told
    assert ("(bytes that were freed before they were read)", 23 * (2_000 - lines)) in told
    assert 1_100 < lines < 1_115


@given(st.lists(st.sampled_from([b"loud line 28", b"loud line 7", b"quiet [word]", b"a loud line 28", b"", b"loud line 28 b"]), max_size=400))
def test_loud_lines_are_passed_over_and_counted_and_no_other_is(lines):
    out = []
    logs = Logs(out.append, lambda *_: None, lambda *_: None, lambda: 0)
    log = _Log("a", folds={b"loud line 00": 1, b"quiet [word]": 2})
    for shape in log.folds:
        logs._who_is_loud(log, Counter({shape: 5_000}))
    left = logs._quieten(log, b"\n".join(lines)).split(b"\n") if lines else []
    logs.close()
    loud = {b"loud line 28", b"loud line 7", b"quiet [word]"}
    assert [line for line in left if line] == [line for line in lines if line and line not in loud]
    assert sum(log.counts.values()) == sum(line in loud for line in lines)
    assert log.counts.get(2, 0) == lines.count(b"quiet [word]")


def test_an_adopted_apps_old_lines_are_not_told_again(guard):
    guard.write("old news of yesterday\n")
    bench = Bench(guard)
    bench.logs.heed(AppSeen(app="a", run=1, pid=5, phase=2))
    bench.pass_time(1)
    guard.write("fresh news of today\n")
    bench.pass_time(6)
    assert bench.seen() == [("fresh news of today", 1)]
    bench.logs.close()


def test_a_log_that_cannot_be_had_is_asked_for_again_and_no_descriptor_leaks(guard):
    guard.there = False
    bench = Bench(guard)
    bench.logs.heed(AppStarted(app="a", run=1))
    bench.pass_time(30)
    assert 3 <= guard.asked <= 12
    guard.there = True
    guard.write("now it is there\n")
    bench.pass_time(12)
    assert bench.seen() == [("now it is there", 1)]
    before = len(os.listdir("/proc/self/fd"))
    bench.logs.forget("a")
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert bench.logs.due() == 0


def test_secrets_and_control_bytes_never_leave(guard):
    bench = Bench(guard, masker=Masker(["p4ss-0002"]))
    bench.logs.heed(AppStarted(app="a", run=1))
    guard.write(b"login p4ss-0002 \x1b[31mred\x07 token=abcdef\n" + samples.PY_OTHER.replace("Broken pipe", "no p4ss-0002").encode() + b"x\n")
    bench.pass_time(3)
    text = repr(bench.out)
    assert "p4ss" not in text
    assert "abcdef" not in text
    assert all(s.excerpt.isprintable() and s.template.isprintable() for s in bench.out)
    bench.logs.close()


def test_a_line_without_an_end_is_taken_in_pieces(bench, guard):
    guard.write(b"\0" * (3 * CHUNK))
    bench.pass_time(2)
    assert len(bench.out) <= 4
    guard.write(b"\nplain end of it\n")
    bench.pass_time(6)
    assert ("plain end of it", 1) in bench.seen()


@given(chunks=st.lists(st.binary(max_size=300), max_size=12))
def test_any_bytes_in_any_pieces_are_taken(tmp_path_factory, chunks):
    guard = Guard(tmp_path_factory.mktemp("log"))
    bench = Bench(guard)
    bench.logs.heed(AppStarted(app="a", run=1))
    for chunk in chunks:
        guard.write(chunk)
        bench.pass_time(0.6)
    bench.logs.heed(AppExited(app="a", run=1))
    bench.pass_time(1)
    assert all(isinstance(s, LogSeen) and s.excerpt.isprintable() for s in bench.out)
    bench.logs.close()


def test_nothing_wakes_us_while_logs_are_quiet_and_a_word_wakes_us_at_once(bench, guard):
    guard.write("hello out there\n")
    bench.pass_time(30)
    assert bench.logs.due() - bench.now > 20_000_000_000
    assert bench.seen() == [("hello out there", 1)]
    guard.write("more to say here\n")
    bench.pass_time(0.1)
    assert bench.seen() == [("more to say here", 1)]


def test_without_inotify_quiet_logs_are_looked_at_by_the_clock(guard):
    bench = Bench(guard)
    bench.logs._watch.close()
    bench.logs.heed(AppStarted(app="a", run=1))
    bench.pass_time(5)
    guard.write("hello out there\n")
    bench.pass_time(1.1)
    assert bench.seen() == [("hello out there", 1)]
    bench.logs.close()


# -- the miner


def test_lines_of_one_statement_group_and_others_do_not():
    miner = Miner()
    same = ["read 5 bytes from 10.0.0.1:502 in 3.2 ms", "read 77 bytes from 10.9.0.12:1502 in 0 ms", "read 1024 bytes from fe80::1:502 in 15.25 ms"]
    assert len({miner.add(line)[0].number for line in same}) == 1
    assert miner.add("wrote 5 bytes to 10.0.0.1:502 in 3.2 ms")[1]
    assert len({miner.add(f"session opened for user {user} by uid={n}")[0].number for n, user in enumerate(["root", "guest", "mia"])}) == 1
    assert len({miner.add(f"values: {' '.join(str(n) for n in range(k))} end")[0].number for k in range(1, 9)}) == 1


def test_the_miners_memory_is_bounded_whatever_the_lines():
    miner = Miner()
    tracemalloc.start()
    for n in range(3_000):
        miner.add(" ".join(f"w{chr(97 + (n * k) % 26)}{chr(97 + (n // 26 + k) % 26)}{chr(97 + (n // 676) % 26)}{'q' * (k % 9)}" for k in range(1, 45)))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(miner) <= GROUPS_MOST
    assert size < 1_048_576
    assert miner.evicted > 0


@given(st.lists(st.text(max_size=120), max_size=30))
def test_the_same_lines_give_the_same_groups(lines):
    one, two = Miner(), Miner()
    assert [one.add(line)[0].number for line in lines] == [two.add(line)[0].number for line in lines]
    for line in lines:
        masked(line)


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("<3>disk gone", 3), ("2026-11-25 08:00:00,123 ERROR gw: x", 3), ("[warn] slow", 4), ('{"level":"error","msg":"x"}', 3), ("level=debug msg=x", 7),
        ("E1125 08:00:00.1 12 x.cc:1] bad", 3), ("INFO all fine, 0 errors", 6), ("cannot open /dev/ttyUSB0", 4), ("FATAL: no", 2), ("hello", 6),
        ("03-17 16:13:38.811  1702  2395 W PowerManager: slow", 4), ("listening on 1", 6),
    ],
)  # fmt: skip
def test_the_level_of_a_line_is_found_by_whatever_sign_it_bears(line, level):
    assert level_of(line) == level
