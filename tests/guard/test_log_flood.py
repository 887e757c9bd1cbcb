# SPDX-License-Identifier: Apache-2.0
"""A flood of log lines through the real guard, file and reader: bounded on disk and in CPU, the app unhindered, the rare line kept."""

import time

from edgeheal.adapters.guard_client import GuardClient
from edgeheal.adapters.logs.source import Logs
from edgeheal.agent.loop import Loop
from edgeheal.core.signal import LogSeen
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import PYTHON

# lines at full speed, one write each, and two that come once; "stamped": no two lines are the same, and they come in blocks, a million a second
APP = r"""
import os, sys, time
stamped, seconds = sys.argv[1] == "stamped", 4.0
began, lines = time.monotonic(), 0
singles = [(1.2, "journal checksum mismatch at block 77"), (2.8, "inode table of group 3 is gone")]
while (t := time.monotonic() - began) < seconds:
    for n in range(200):
        if stamped:
            print(f"{n + lines} write error 28 on /data")
        else:
            os.write(1, b"write error 28 on /data\n")
    lines += 200
    if singles and t > singles[0][0]:
        print(singles.pop(0)[1], flush=True)
print("rate", int(lines / seconds), flush=True)
with open(os.environ["EDGEHEAL_DATA"] + "/rate", "w") as file:
    file.write(str(int(lines / seconds)))
"""


class Reader:
    """The agent's client, log reader and loop, in this process."""

    def __init__(self, box):
        self.told = []
        self.disk = 0
        self.path = box.root / "run/edgeheal/logs/one.log"
        self.loop = Loop(lambda _: None)
        self.client = GuardClient(str(box.root / "run/edgeheal/guard-agent.sock"), self._hear)
        self.logs = Logs(self.told.append, self._open, self._cut, time.monotonic_ns)
        self.loop.add("guard", self.client)
        self.loop.add("logs", self.logs)

    def _hear(self, signal):
        self.logs.heed(signal)

    def _open(self, app, give):
        if not self.client.open_log(app, give):
            give(-1)

    def _cut(self, app, upto, done):
        if not self.client.request(f.TRUNCATE, lambda *_: done(), app=app, a=upto):
            done()

    def run(self, done, seconds):
        """Until `done`; the share of a core that it took."""
        began, cpu = time.monotonic(), time.process_time()

        def turn():
            if self.path.exists():
                self.disk = max(self.disk, self.path.stat().st_blocks * 512)
            if done() or time.monotonic() > began + seconds:
                self.loop.stop()

        self.loop.run(turn)
        return (time.process_time() - cpu) / (time.monotonic() - began)

    def count(self, words):
        return sum(s.count for s in self.told if isinstance(s, LogSeen) and words in s.template)


def flood(box, kind):
    rate = box.data("one") / "rate"
    box.app("one", argv=[PYTHON, "-I", "-S", "-c", APP, kind])
    box.start()
    reader = Reader(box)
    share = reader.run(lambda: reader.count("write error") > 10_000 and reader.count("rate "), 20)
    reader.logs.close()
    per_s = int(rate.read_text())
    unread = reader.count("freed before they were read")
    print(f"{per_s} lines a second, {share:.0%} of a core, {reader.disk} bytes on disk, {unread} unread, {len(reader.told)} told")
    assert per_s >= 10_000, per_s
    assert share <= 0.30, share
    assert reader.disk < 16 << 20, reader.disk
    assert sum(len(repr(s)) for s in reader.told) < 65_536
    assert reader.count("write error") > 10_000, "folded and counted"
    return reader


def test_fc_log_2_a_line_that_comes_once_gets_through_a_flood_at_full_speed(box):
    reader = flood(box, "same")
    assert reader.count("journal checksum mismatch") == 1
    assert reader.count("inode table of group") == 1


def test_fc_log_2_also_where_no_two_lines_are_the_same(box):
    reader = flood(box, "stamped")
    missed = reader.count("freed before they were read")
    assert missed or reader.count("journal checksum mismatch") == reader.count("inode table of group") == 1, "kept, or said that something was not read"
