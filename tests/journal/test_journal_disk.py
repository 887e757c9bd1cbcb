# SPDX-License-Identifier: Apache-2.0
"""The real folder: one thread, no blocking beyond what is asked for; and both disks under one contract."""

import errno
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "contracts"))
from disk_contract import DiskContract

from edgeheal.adapters.disk import FolderDisk
from edgeheal.adapters.journal_files import JournalFiles, read_all
from edgeheal.adapters.spool import Spool
from edgeheal.core.now import Now
from edgeheal.journal.ops import Read, Replace, Sync, Write
from edgeheal.journal.records import Intent, When
from edgeheal.lab.storage import CutDisk

TOP = str(Path(__file__).parent.parent.parent)
W = When(1, 2, 3, True)


class TestFolderDisk(DiskContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.root = str(tmp_path)

    def make(self):
        return FolderDisk(self.root)

    def again(self, disk):
        assert disk.close()
        return FolderDisk(self.root)


class TestCutDisk(DiskContract):
    def make(self):
        return CutDisk()

    def again(self, disk):
        return CutDisk(disk.remains(0))


def test_the_loop_is_rung_when_a_batch_has_ended_and_sleeps_otherwise(tmp_path) -> None:
    disk = FolderDisk(str(tmp_path))
    answers = []
    disk.submit([Replace("a/x", b"1")], answers.append)
    poll = select.poll()
    (fd,) = disk.fds()
    poll.register(fd, select.POLLIN)
    assert poll.poll(5_000)
    disk.ready(fd, select.POLLIN)
    assert [a.errno for a in answers] == [0]
    assert poll.poll(0) == []
    assert disk.due() == 0
    disk.close()


def test_a_medium_that_hangs_costs_a_stated_time_and_its_own_thread(tmp_path) -> None:
    disk = FolderDisk(str(tmp_path))
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "x")  # an open for reading that nobody answers stands for a call that never returns
    started = time.monotonic()
    ticket = disk.submit([Read("a/x", 0, 1)], lambda e: None)
    assert disk.wait(ticket, 0.2) is None
    assert time.monotonic() - started < 1.0
    writer = os.open(tmp_path / "a" / "x", os.O_RDWR)
    assert disk.wait(ticket, 5.0) is not None
    os.close(writer)
    assert disk.close()


def test_errors_of_the_medium_come_back_as_numbers(tmp_path) -> None:
    disk = FolderDisk(str(tmp_path))
    (tmp_path / "flat").write_text("no folder")
    answers = []
    ticket = disk.submit([Write("flat/x", 0, b"1"), Sync("flat/x")], answers.append)
    assert disk.wait(ticket, 5).errno == errno.ENOTDIR
    os.symlink("/etc/passwd", tmp_path / "link")
    assert disk.wait(disk.submit([Write("link", 0, b"1")], answers.append), 5).errno == errno.ELOOP
    disk.close()


CRASHER = """
import os, sys
from edgeheal.adapters.disk import FolderDisk
from edgeheal.adapters.journal_files import JournalFiles
from edgeheal.adapters.spool import Spool
from edgeheal.core.now import Now
from edgeheal.journal.records import Intent, When
disk = FolderDisk(sys.argv[1])
journal = JournalFiles(disk, lambda s: None, session=os.urandom(6), now=lambda: Now("b", 1), state=lambda: None)
session = os.urandom(6)
spool = Spool(disk, lambda s: None, session=session, encode=lambda s: b"standin")
act = journal.recovered.act
while True:
    act += 1
    journal.keep(Intent(When(), act, 7), durable=True)
    seq = spool.put(b"%d" % act, severity=1, fingerprint=b"", critical=True)
    sys.stdout.write(f"{act} {session.hex()} {seq}\\n")
    sys.stdout.flush()
"""


@pytest.mark.system
def test_after_sigkill_at_any_moment_all_that_was_acknowledged_is_there(tmp_path) -> None:
    last, promised = 0, set()
    for lines in (1, 3, 20, 50, 90):
        env = {**os.environ, "PYTHONPATH": TOP}
        child = subprocess.Popen([sys.executable, "-c", CRASHER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=env)
        told = [child.stdout.readline().split() for _ in range(lines)]
        child.kill()
        told += [line.split() for line in child.stdout if line.endswith("\n")]
        child.wait()
        for act, session, seq in told:
            last = int(act)
            promised.add((bytes.fromhex(session), int(seq), act.encode()))
        disk = FolderDisk(str(tmp_path))
        found, _ = read_all(disk)
        assert found.act >= last
        assert {i.act for i in found.doubt} >= set(range(1, last + 1))
        assert not found.damage
        spool = Spool(disk, lambda s: None, session=b"reader", encode=lambda s: b"")
        assert set(spool.pending(10_000)) >= promised
        disk.close()


SPACE = """
import errno, os, sys
sys.path.insert(0, sys.argv[2])
from edgeheal.adapters.disk import FolderDisk
from edgeheal.adapters.journal_files import JournalFiles, read_all
from edgeheal.adapters.spool import Spool
from edgeheal.core.now import Now
from edgeheal.journal.records import Intent, LightAct, When
root = sys.argv[1]
says = []
def turn(*parts):
    for part in parts:
        if part.due(): part.tick(part.due())
    disk.ready(next(iter(disk.fds())), 1)
def start():
    disk = FolderDisk(root + "/agent")
    journal = JournalFiles(disk, says.append, session=os.urandom(6), now=lambda: Now("b", 1), state=lambda: None, size_bytes=1 << 20)
    spool = Spool(disk, says.append, session=os.urandom(6), encode=lambda s: b"standin", size_bytes=1 << 20)
    return disk, journal, spool
def fill():
    try:
        with open(root + "/ballast", "ab", buffering=0) as file:
            while True: file.write(bytes(4096))
    except OSError as fault: assert fault.errno == errno.ENOSPC
case = sys.argv[3]
if case == "before":
    fill()
disk, journal, spool = start()
assert journal.settle() or case == "before"
if case == "after":
    fill()
    assert journal.keep(Intent(When(), 1, 7), durable=True), "a full disk of others mutes us"
    spool.put(b"x", severity=3, fingerprint=b"", critical=True)
    assert not spool.dark and not journal.dark
    turn(journal, spool)
else:
    assert not journal.keep(Intent(When(), 1, 7), durable=True)
    spool.put(b"x", severity=3, fingerprint=b"", critical=True)
    for _ in range(3): turn(journal, spool)
    assert journal.dark and spool.dark
    assert len(spool.pending(10)) == 1
    os.unlink(root + "/ballast")
    for _ in range(20):
        for part in (journal, spool):
            part.tick(part._commit.due() or 1)
        disk.wait(disk._tickets, 5)
        disk.ready(next(iter(disk.fds())), 1)
        if not (journal.dark or spool.dark): break
    assert journal.settle() and spool.settle()
    turn(journal, spool)
    words = [(s.part, s.what, s.ok) for s in says]
    assert ("journal", "unwritable", False) in words and ("journal", "unwritable", True) in words, words
    assert ("spool", "unwritable", False) in words and ("spool", "unwritable", True) in words, words
disk.close()
disk, journal, spool = start()
assert [i.act for i in journal.recovered.doubt] == [1]
assert [b for _, _, b in spool.pending(10)] == [b"x"]
print("whole")
"""


@pytest.mark.root
@pytest.mark.parametrize("case", ["before", "after"])
def test_fc_sto_1_a_full_file_system_of_others_neither_mutes_nor_breaks_us(tmp_path, case: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs of 8 MB needs root")
    script = tmp_path / "space.py"
    script.write_text(SPACE)
    mount = f"mount -t tmpfs -o size=8m tmpfs {tmp_path}/m && exec {sys.executable} {script} {tmp_path}/m {TOP} {case}"
    (tmp_path / "m").mkdir()
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, text=True, timeout=60, check=False)
    if "ermission denied" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("mounts are not allowed here")
    if "root filesystem propagation" in done.stderr:
        pytest.skip("inside a chroot no mount of our own can be made private")
    assert done.stdout.strip() == "whole", done.stderr


def test_the_journal_is_readable_with_the_agent_dead_and_reading_changes_nothing(tmp_path) -> None:
    disk = FolderDisk(str(tmp_path))
    journal = JournalFiles(disk, lambda s: None, session=b"sessA.", now=lambda: Now("b", 1), state=lambda: None)
    assert journal.keep(Intent(W, 5, 7, "gw", "", 2), durable=True)
    disk.close()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "journal").iterdir()}
    found, records = read_all(FolderDisk(str(tmp_path)))
    assert [i.act for i in found.doubt] == [5]
    assert [type(r).__name__ for r in records] == ["Session", "Intent"]
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "journal").iterdir()} == before


SYNCS = """
import sys
from edgeheal.adapters.disk import FolderDisk
from edgeheal.journal.ops import Allocate, Replace, Sync, Write
disk = FolderDisk(sys.argv[1])
def run(*ops):
    assert disk.wait(disk.submit(ops, lambda e: None), 5).errno == 0
run(Allocate("a/one", 4096), Allocate("a/two", 4096))
sys.stderr.write("begin\\n")
run(Write("a/one", 0, b"x"), Sync("a/one"))
sys.stderr.write("both\\n")
run(Write("a/one", 1, b"y"), Write("a/two", 0, b"z"), Sync("a/one"), Sync("a/two"))
sys.stderr.write("loose\\n")
run(Write("a/one", 2, b"l"))
run(Write("a/one", 3, b"m"), Sync("a/one"))
sys.stderr.write("anew\\n")
run(Replace("a/three", b"whole"))
disk.close()
"""


@pytest.mark.system
def test_every_sync_reaches_the_kernel(tmp_path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    words = [
        strace,
        "-f",
        "-y",
        "-e",
        "trace=write,pwritev2,fdatasync,fsync,rename",
        "-o",
        str(tmp_path / "log"),
        sys.executable,
        "-c",
        SYNCS,
        str(tmp_path / "d"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": TOP})
    if done.returncode != 0:
        pytest.skip(f"strace cannot trace here: {done.stderr[-100:]}")
    parts = re.split(r'"(?:begin|both|loose|anew)\\n"', (tmp_path / "log").read_text())
    at_once, both, loose, anew = parts[1:5]
    assert "RWF_DSYNC" in at_once
    assert len(re.findall(r"fdatasync\(\d+<[^>]*a/(?:one|two)>\)", both)) == 2
    assert re.search(r"fdatasync\(\d+<[^>]*a/one>\)", loose), "what was loose from before goes to the medium, too"
    assert re.search(r"fsync\(\d+<[^>]*three.part>\).*\n(?:.*\n)*?.*rename\(.*\n(?:.*\n)*?.*fsync\(\d+<[^>]*/a>\)", anew)
