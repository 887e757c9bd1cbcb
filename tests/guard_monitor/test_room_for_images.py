# SPDX-License-Identifier: Apache-2.0
"""Room in the store: a quota of bytes for all images; what is not needed goes for what comes, what is needed never does."""

import os
import shutil
import threading
from pathlib import Path

import pytest
from monitor_box import Box, image, until

from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD, WRITTEN
from edgeheal.wire import guard_frames as f

MB = 1_000_000


@pytest.fixture
def small(tmp_path):
    with Box(tmp_path, guard='quota = "10MB"') as made:
        yield made.start()


def weighing(version, size, **fields):
    return image(version, files={"big": (os.urandom(size), False)}, **fields)


def used(box):
    seen = {p.stat().st_ino: p.stat().st_size for p in Path(box.layout.store).rglob("*") if p.is_file() and not p.is_symlink()}
    return sum(seen.values())


def test_what_is_not_needed_goes_for_what_comes_and_what_is_needed_stays(small):
    box = small
    one = box.good(weighing("1.0", 3 * MB))
    spare = weighing("2.0", 4 * MB)
    assert box.install(spare, try_it=False) == 0
    three = weighing("3.0", 4 * MB)
    assert box.install(three, try_it=False) == 0
    assert (box.state(one), box.state(spare), box.state(three)) == (GOOD, None, WRITTEN)
    assert used(box) <= 10 * MB
    assert box.install(weighing("4.0", 9 * MB), try_it=False) == reasons.NO_SPACE
    assert box.state(one) == GOOD
    assert (box.running(), box.phase()) == (one.id, f.PHASE_RUNNING)


def test_an_image_that_never_fits_costs_nobody_his_place(small):
    one = small.good(weighing("1.0", 3 * MB))
    two = weighing("2.0", 2 * MB)
    assert small.install(two, try_it=False) == 0
    assert small.install(weighing("3.0", 11 * MB), try_it=False) == reasons.TOO_LARGE
    assert (small.state(one), small.state(two)) == (GOOD, WRITTEN)


def test_what_installed_images_hold_already_weighs_nothing(small):
    big = (os.urandom(6 * MB), False)
    one = small.good(image("1.0", files={"big": big}))
    two = image("2.0", files={"big": big, "new": (b"x" * 5000, False)})
    assert small.install(two, try_it=False) == 0
    assert (small.state(one), small.state(two)) == (GOOD, WRITTEN)
    assert used(small) < 7 * MB


def test_fc_sto_4_an_install_meets_strays_half_downloads_and_entries_without_files(small):
    """Three images that are named, trees that nobody names, entries whose files are gone, one download half done with its writer alive, one without."""
    box = small
    one = box.good(weighing("1.0", 2 * MB))
    two, three = weighing("2.0", MB), weighing("3.0", MB)
    assert box.install(two, try_it=False) == box.install(three, try_it=False) == 0
    store, staging = Path(box.layout.store), Path(box.layout.staging)
    for n in range(1, 21):
        stray = store / "demo" / (f"{n:02x}" * 32)
        (stray / "files").mkdir(parents=True)
        (stray / "files" / "big").write_bytes(b"x" * 200_000)
    for lost in (two, three):
        shutil.rmtree(store / "demo" / lost.id.hex())
    dead = staging / ("ab" * 32)
    dead.mkdir()
    (dead / "part").write_bytes(b"x")
    os.utime(dead, (1, 1))
    box.again()
    four = weighing("4.0", 6 * MB)
    path = box.folder / "four.ehi"
    path.write_bytes(four.bytes())
    reading, writing = os.pipe()
    said = []
    asking = threading.Thread(target=lambda: said.append(box.ask(f.IMPORT, fd=reading).reason))
    asking.start()
    data = path.read_bytes()
    os.write(writing, data[:60_000])
    half = staging / four.id.hex()
    until(half.exists, 15, "the half download")
    os.close(reading)
    until(lambda: sorted(p.name for p in (store / "demo").iterdir() if len(p.name) == 64) == [one.id.hex()], 30, "strays and lost entries to leave")
    assert half.exists(), "its writer lives"
    with open(writing, "wb") as rest:
        rest.write(data[60_000:])
    asking.join(30)
    assert said == [0]
    until(lambda: not dead.exists(), 20, "the dead download to leave")
    assert set(box.rows()) == {one.id, four.id}
    assert (box.state(one), box.running()) == (GOOD, one.id)
