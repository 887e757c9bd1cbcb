# SPDX-License-Identifier: Apache-2.0
"""Every byte of what is installed is read now and then: weekly, and after an unclean end. Rot is answered, and nothing else waits."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from monitor_box import REPO, Box, image, reachable, until

from edgeheal.core.deployment import GOOD, UNKNOWN
from edgeheal.guard.blocks import Blocks
from edgeheal.guard.recheck import SIZE, WEEK_S
from edgeheal.wire import guard_frames as f

# the shipped guard, whose minute lasts half a second
GUARD = """import sys
sys.path[:0] = {paths!r}
from edgeheal.guard import ledger
ledger.KEEP_S = ledger.REST_S = 0.5
from edgeheal.guard.main import main
sys.exit(main(["--root", {root!r}, "--libraries", {library!r}]))
"""


class Quick(Box):
    """A device that looks after half a second instead of a minute."""

    def start(self):
        library = sysconfig.get_path("purelib")
        code = GUARD.format(paths=[REPO], root=self.layout.root, library=library)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen([reachable(), "-I", "-S", "-c", code], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        until(lambda: Path(self.layout.guard_socket).exists() and self.answers(), 30, "the guard")
        return self

    def record(self, name="recheck", **words):
        """The record as kept, changed while no guard runs."""
        blocks = Blocks(f"{self.layout.guard}/{name}", SIZE)
        value = blocks.load()
        blocks.store(value | words)
        return value


@pytest.fixture
def quick(tmp_path):
    with Quick(tmp_path) as made:
        yield made.start()


def hurt(box, made):
    """One byte of a big file changes, and nothing that a quick look sees."""
    path = Path(box.layout.store) / "demo" / made.id.hex() / "files" / "big"
    said = path.stat()
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)
    os.utime(path, ns=(said.st_atime_ns, said.st_mtime_ns))


def two_good(box):
    one = box.good(image("1.0", files={"big": (b"1" * 5000, False)}))
    two = box.good(image("2.0", files={"big": (b"2" * 5000, False)}))
    until(lambda: Path(f"{box.layout.guard}/recheck.a").exists(), 10, "the first look at the calendar")
    return one, two


def test_once_a_week_rot_in_what_runs_is_found_and_the_known_good_runs_instead(quick):
    box = quick
    one, two = two_good(box)
    hurt(box, two)
    box.kill()
    box.record(at={"demo": -WEEK_S})
    box.start()
    until(lambda: box.state(two) == UNKNOWN, 30, "the rot to be seen")
    until(lambda: box.running() == one.id and box.phase() == f.PHASE_RUNNING, 15, "the known-good")
    assert box.state(one) == GOOD
    until(lambda: box.record()["at"]["demo"] >= 0, 10, "the look to be noted")


def test_after_an_unclean_end_it_is_due_at_once_and_once_only(quick):
    box = quick
    one, two = two_good(box)
    hurt(box, one)
    box.again()
    assert box.state(one) == GOOD, "the guard was killed, the box was not"
    box.kill()
    box.record("boots", boot=b"the boot before", end=0, order=[])
    box.record(boot=b"the boot before")
    box.start()
    until(lambda: box.state(one) == UNKNOWN, 30, "the rot in what does not run to be seen")
    assert (box.running(), box.state(two)) == (two.id, GOOD)


def test_after_an_orderly_end_nothing_is_read(quick):
    box = quick
    one, _ = two_good(box)
    hurt(box, one)
    box.kill()
    box.record("boots", boot=b"the boot before", end=3, order=[])
    before = box.record(boot=b"the boot before")
    box.start()
    until(lambda: box.record()["boot"] != b"the boot before", 15, "the calendar of this boot")
    assert box.record()["at"] == before["at"]
    assert box.state(one) == GOOD
