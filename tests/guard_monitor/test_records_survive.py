# SPDX-License-Identifier: Apache-2.0
"""Records that must survive: cuts at every byte, emptied files, newer versions, a guard killed at many moments."""

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import pytest
from monitor_box import REPO, Box, image, until

from edgeheal.core import reasons
from edgeheal.core.deployment import BAD, GOOD, TRIAL
from edgeheal.guard.blocks import DAMAGED, FOUND, FRESH, NEWER, Blocks
from edgeheal.guard.boxtime import BoxTime
from edgeheal.guard.budgets import HOOK, ROLLBACK, STARTS, Budgets
from edgeheal.guard.marks import Marks
from edgeheal.image.records import block, unblock
from edgeheal.wire import guard_frames as f


def test_a_write_cut_at_any_byte_leaves_the_old_or_the_new_value(tmp_path):
    blocks = Blocks(str(tmp_path / "r"), 512)
    blocks.store({"n": 1})
    blocks.store({"n": 2})
    old = {name: (tmp_path / f"r.{name}").read_bytes() for name in "ab"}
    blocks.store({"n": 3})
    new = {name: (tmp_path / f"r.{name}").read_bytes() for name in "ab"}
    changed = next(name for name in "ab" if old[name] != new[name])
    for cut in range(len(new[changed]) + 1):
        (tmp_path / f"r.{changed}").write_bytes(new[changed][:cut] + old[changed][cut:])
        again = Blocks(str(tmp_path / "r"), 512)
        value = again.load()
        assert again.found == FOUND
        assert value["n"] in (2, 3), cut


def test_empty_and_zeroed_is_damaged_and_never_fresh(tmp_path):
    path = str(tmp_path / "r")
    fresh = Blocks(path, 512)
    assert fresh.load() is None
    assert fresh.found == FRESH
    fresh.store({"n": 1})
    fresh.store({"n": 2})
    for spoil in (b"", bytes(512), b"EHR1" + bytes(508), os.urandom(512)):
        for name in "ab":
            (tmp_path / f"r.{name}").write_bytes(spoil)
        again = Blocks(path, 512)
        assert again.load() is None
        assert again.found == DAMAGED


def test_a_newer_version_is_read_and_never_overwritten(tmp_path):
    blocks = Blocks(str(tmp_path / "r"), 512)
    blocks.store({"n": 1})
    (tmp_path / "r.b").write_bytes(block({"v": 9, "seq": 7, "n": 5}, 512))
    again = Blocks(str(tmp_path / "r"), 512)
    assert again.load()["n"] == 5
    assert again.found == NEWER
    with pytest.raises(OSError):
        again.store({"n": 6})
    assert unblock((tmp_path / "r.b").read_bytes())["n"] == 5


def test_box_time_never_falls_over_boots_and_kills(tmp_path):
    last, boots = 0, []
    for boot in (b"a" * 16, b"a" * 16, b"b" * 16, b"c" * 16):
        box = BoxTime(str(tmp_path), boot)
        assert box.now_s() >= last
        last = box.now_s()
        boots.append((box.boots, box.nonce))
    assert boots[0] == boots[1], "the same boot has the same nonce"
    assert [b for b, _ in boots] == [1, 1, 2, 3]
    assert len({n for _, n in boots}) == 3


def test_a_budget_is_not_reset_by_a_restart_nor_by_damage(tmp_path):
    now = [1000]
    budgets = Budgets(str(tmp_path), lambda: now[0])
    for _ in range(4):
        assert budgets.spend(ROLLBACK, "demo") == 0
    assert budgets.spend(ROLLBACK, "demo") != 0
    again = Budgets(str(tmp_path), lambda: now[0])
    assert again.spend(ROLLBACK, "demo") != 0
    assert again.spend(ROLLBACK, "other") == 0
    for name in ("budgets.a", "budgets.b"):
        (tmp_path / name).write_bytes(bytes(100))
    damaged = Budgets(str(tmp_path), lambda: now[0])
    assert damaged.damaged
    damaged.floor_of_damage()
    assert not damaged.allows(ROLLBACK, "third")
    assert not damaged.allows(HOOK)
    assert damaged.allows(STARTS, "demo"), "starts go on"
    now[0] += 604_801
    assert damaged.allows(ROLLBACK, "third")


def test_a_grave_act_is_refused_where_its_budget_cannot_be_written(tmp_path):
    folder = tmp_path / "guard"
    folder.mkdir()
    budgets = Budgets(str(folder), lambda: 1000)
    assert budgets.spend(STARTS, "demo") == 0
    shutil.rmtree(folder)
    assert budgets.spend(ROLLBACK, "demo") != 0
    assert budgets.spend(STARTS, "demo") == 0
    assert budgets.spent(ROLLBACK, "demo")[0][0] == 0, "what was refused is not counted"


def test_marks_skip_torn_lines_and_remember_the_rest(tmp_path):
    marks = Marks(str(tmp_path))
    for n in range(10):
        marks.say(f"counter k{n} {n}")
    raw = (tmp_path / "marks").read_bytes()
    for cut in range(len(raw)):
        (tmp_path / "marks").write_bytes(raw[:cut])
        assert len(Marks(str(tmp_path)).read()) >= raw[:cut].count(b"\n")
    (tmp_path / "marks").write_bytes(raw[:30] + bytes(40) + raw[70:])
    assert Marks(str(tmp_path)).highest("counter")["k9"] == 9


RECORDS = ["state.a", "state.b", "counters.a", "counters.b", "box.a", "budgets.a", "marks"]


@pytest.mark.parametrize("emptied", [c for n in (2, 3) for c in itertools.combinations(RECORDS, n)][::7] + [tuple(RECORDS)], ids="+".join)
def test_fc_sto_2_any_records_emptied_by_a_cut_lose_neither_image_nor_floor_nor_counter(tmp_path_factory, template, emptied):
    folder = tmp_path_factory.mktemp("cut")
    shutil.rmtree(folder)
    shutil.copytree(template.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    with Box.over(folder, template) as box:
        for name in emptied:
            where = f"{box.layout.guard_apps}/demo/{name}" if name.startswith("state") else f"{box.layout.guard}/{name}"
            os.truncate(where, 0)
        box.start()
        one, two = template.one, template.two
        both, witness = {"state.a", "state.b"} <= set(emptied), "marks" not in emptied
        if not both or witness:
            until(lambda: box.phase() == f.PHASE_RUNNING, 15, "something admitted to run")
        else:
            until(box.running, 15, "something admitted to be chosen")
        rows = box.rows()
        if not both or witness:
            assert rows[one.id]["state"] == GOOD
            assert box.running() == one.id
            assert rows[two.id]["state"] == BAD
            assert box.install(template.low) != 0, "the floor stands"
        else:
            assert box.running() in (one.id, two.id), "without a witness the highest counter is on trial"
            assert rows[box.running()]["state"] == TRIAL
        if witness or not {"counters.a", "counters.b"} <= set(emptied):
            assert box.present(template.used).reason != 0, "a used command stays used"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A device that has lived: a good image with a floor, one that failed, a command that was used; stopped."""
    with Box(tmp_path_factory.mktemp("template")) as box:
        box.start()
        box.low = image("0.9", security=2)
        box.one = box.good(image("1.0", security=5, min_security_counter=5))
        box.two = image("2.0", security=5, mode="crash")
        assert box.install(box.two) == 0
        until(lambda: box.state(box.two) == BAD, 10, "the trial to fail")
        until(lambda: box.phase() == f.PHASE_RUNNING, 10, "v1")
        box.used = box.order(1)
        assert box.present(box.used).reason == 0
        box.end()
        yield box


def test_a_state_record_of_a_newer_version_is_kept_and_the_app_runs(box):
    one = box.good(image("1.0"))
    box.kill()
    folder = f"{box.layout.guard_apps}/demo"
    values = {n: unblock(open(f"{folder}/state.{n}", "rb").read()) for n in "ab"}
    newest = max(values, key=lambda n: values[n]["seq"])
    newer = block({**values[newest], "v": 2, "seq": values[newest]["seq"] + 1}, 8192)
    other = "b" if newest == "a" else "a"
    with open(f"{folder}/state.{other}", "wb") as file:
        file.write(newer)
    box.sweep()
    box.start()
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the app, as the newer record says")
    assert box.running() == one.id
    assert box.ask(f.SWITCH, app="demo").reason != 0
    assert box.install(image("2.0")) != 0
    assert open(f"{folder}/state.{other}", "rb").read() == newer


def test_a_guard_killed_at_many_moments_leaves_the_old_or_the_new_and_one_app(box):
    """SIGKILL while installing, trying, marking and rolling back: after each something whole runs, and exactly one of it."""
    rng = random.Random(7)
    box.good(image("0.0"))
    for round_ in range(12):
        made = image(f"{round_}.1", mode=rng.choice(["run", "run", "crash"]))
        killer = threading.Timer(rng.uniform(0.01, 1.2), box.process.kill)
        killer.start()
        try:
            box.install(made)
            box.ask(f.MARK_GOOD, app="demo")
            box.ask(f.SWITCH, app="demo")
        except Exception:  # noqa: BLE001, S110 - the guard died under us: that is the test
            pass
        killer.join()
        box.process.wait(10)
        box.start()
        until(lambda: box.phase() == f.PHASE_RUNNING, 20, f"an app after kill {round_}: {box.log.read_text()[-1500:]}")
        until(lambda: len(mains(box)) == 1, 10, f"exactly one app after kill {round_}")
        running = box.rows()[box.running()]
        assert running["state"] in (GOOD, TRIAL)


def test_an_image_that_served_a_week_is_the_anchor_and_heals_from_its_spare(box):
    one = box.good(image("1.0"))
    box.kill()
    record = Blocks(f"{box.layout.guard_apps}/demo/state", 8192)
    value = record.load()
    row = value["deployments"][one.id.hex()]
    row[9] = 700_000  # seconds served
    record.store({k: v for k, v in value.items() if k not in ("v", "seq")})
    box.start()
    assert box.rows()[one.id]["flags"] & f.I_ANCHOR
    assert box.ask(f.DROP, app="demo", image=one.id).reason != 0
    spare = f"{box.layout.spare}/demo.ehi"
    until(lambda: os.path.exists(spare), 20, "the spare")
    with open(f"{box.layout.tree('demo', one.id.hex())}/files/app.py", "a") as file:
        file.write("#")
    until(lambda: box.ask(f.VERIFY, app="demo", image=one.id).reason == reasons.ROT, 10, "the rot to be found")
    until(lambda: box.state(one) == GOOD, 20, "the heal")
    until(lambda: box.ask(f.VERIFY, app="demo", image=one.id).reason == 0, 10, "whole files")


def test_fc_img_4_a_mark_that_cannot_be_written_is_no_mark(box):
    """The record's files cannot be written: the trial stays a trial, the answer is *in doubt*, nothing is told as done."""
    one = image("1.0")
    assert box.install(one) == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the app")
    folder = f"{box.layout.guard_apps}/demo"
    for name in ("state.a", "state.b"):
        os.rename(f"{folder}/{name}", f"{folder}/{name}.kept")
        os.mkdir(f"{folder}/{name}")
    assert box.ask(f.MARK_GOOD, app="demo").reason == reasons.UNWRITABLE
    assert box.state(one) == TRIAL
    for name in ("state.a", "state.b"):
        os.rmdir(f"{folder}/{name}")
        os.rename(f"{folder}/{name}.kept", f"{folder}/{name}")
    assert box.ask(f.MARK_GOOD, app="demo").reason == 0
    assert box.state(one) == GOOD


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs mount")
def test_fc_img_4_on_a_medium_that_became_read_only_a_trial_stays_a_trial_and_the_screen_says_in_doubt(box):
    one = image("1.0")
    assert box.install(one) == 0
    until(lambda: box.phase() == f.PHASE_RUNNING, 10, "the app")
    folder = f"{box.layout.guard_apps}/demo"
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        done = subprocess.run(
            [sys.executable, "-m", "edgeheal.cli.main", "image", "mark-good", "demo", "--root", box.layout.root, "--json"],
            env=os.environ | {"PYTHONPATH": REPO}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, box.state(one)) == (7, TRIAL), done.stderr
        assert box.phase() == f.PHASE_RUNNING
    finally:
        subprocess.run(["umount", folder], check=True)
    assert box.ask(f.MARK_GOOD, app="demo").reason == 0
    assert box.state(one) == GOOD


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs mount")
def test_fc_img_4_on_a_full_medium_the_mark_and_the_rollback_are_made_all_the_same(tmp_path):
    """The records were made beforehand and are written in place."""
    (tmp_path / "root").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "edgeheal-test", str(tmp_path / "root")], check=True)
    try:
        with Box(tmp_path) as box:
            box.start()
            one = box.good(image("1.0"))
            two = image("2.0")
            assert box.install(two) == 0
            until(lambda: box.phase() == f.PHASE_RUNNING and box.running() == two.id, 10, "the trial")
            with contextlib.suppress(OSError), open(f"{box.layout.var}/filler", "wb", buffering=0) as filler:
                while filler.write(bytes(1 << 16)):
                    pass
            assert box.ask(f.MARK_GOOD, app="demo").reason == 0
            assert box.state(two) == GOOD
            assert box.ask(f.SWITCH, app="demo").reason == 0
            assert box.running() == one.id
            os.unlink(f"{box.layout.var}/filler")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "root")], check=True)


def mains(box):
    """Pids of the app's processes."""
    mark = f"EDGEHEAL_ROOT={box.layout.root}".encode()
    found = []
    for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
        try:
            with open(f"/proc/{pid}/environ", "rb") as env, open(f"/proc/{pid}/cmdline", "rb") as words:
                if mark in env.read() and b"app.py" in words.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def test_nothing_is_written_at_rest_but_a_page_in_ten_minutes():
    from edgeheal.guard import ledger

    assert ledger.KEEP_S <= 60
    assert 86_400 / ledger.REST_S * 4096 < 1_000_000
    assert time is not None
