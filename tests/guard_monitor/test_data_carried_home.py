# SPDX-License-Identifier: Apache-2.0
"""`data.back`: the newer image carries what it wrote home on a rollback, on a copy, timed; it never stands in the way of going back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from monitor_box import REPO, image, until
from workshop import split

from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD
from edgeheal.image.records import pack
from edgeheal.wire import guard_frames as f

BACK = """#!/usr/bin/python3 -IS
import os, pathlib
to, frm = (pathlib.Path(os.environ[n]) for n in ("EDGEHEAL_DATA", "EDGEHEAL_DATA_FROM"))
assert (to / "schema").read_text() == "3" and (frm / "schema").read_text() == "4"
(to / "carried").write_text((frm / "readings").read_text() + " by uid %d" % os.getuid())
"""


def v1():
    return image("1.0", env={"SCHEMA": "3"}, data={"schema": 3})


def v2(back):
    return image("2.0", env={"SCHEMA": "4"}, mode="migrates", files={"back": (back.encode(), True)}, data={"schema": 4, "back": "back", "downgrade": "yes"})


def both(box, back):
    """v1 and v2 are known good, v2 runs and has written; (v1, v2, folder of data)."""
    one, two = box.good(v1()), box.good(v2(back))
    data = Path(box.layout.data) / "demo"
    (data / "2" / "readings").write_text("41 days")
    return one, two, data


def rollback(box):
    with box.door(60) as door:
        door.ask(f.FOLLOW)
        heard = []
        answer = door.ask(f.SWITCH, app="demo", on_event=heard.append)
        return answer.reason, [(e.code, e.a) for e in heard if e.kind == f.EV_HOME]


def test_a_rollback_goes_on_with_what_the_newer_image_carried_home(box):
    one, two, data = both(box, BACK)
    assert box.rows()[two.id]["flags"] & f.I_CARRIES
    done = subprocess.run(
        [sys.executable, "-m", "edgeheal.cli.main", "rollback", "demo", "--root", box.layout.root], env=os.environ | {"PYTHONPATH": REPO},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Data as 1.0 left it, with what 2.0 carries home into it; 2.0's data is kept." in done.stdout
    assert "2.0's data was carried home" in done.stdout
    until(lambda: box.running() == one.id and box.phase() == f.PHASE_RUNNING, 10, "v1")
    now = Path(box.all_runs()[-1]["EDGEHEAL_DATA"])
    assert (now / "carried").read_text().startswith("41 days")
    assert (now / "schema").read_text() == "3"
    assert now.name not in ("1", "2")
    assert (data / "2" / "readings").read_text() == "41 days"
    assert box.ask(f.SWITCH, app="demo", a=1).reason == 0, "undo: back to v2 and its own data"
    until(lambda: box.running() == two.id and len(box.runs(generation=2)) == 2, 10, "v2 again, with its own data")


@pytest.mark.parametrize("back", ["#!/bin/sh\necho half > carried\nexit 9\n", "#!/no/such/program\n"])
def test_fc_img_5_a_back_that_fails_leaves_the_old_data_and_the_rollback_is_done(box, back):
    one, _, data = both(box, back)
    reason, told = rollback(box)
    assert reason == 0
    assert [code for code, _ in told] == [0]
    until(lambda: box.running() == one.id and box.phase() == f.PHASE_RUNNING, 10, "v1")
    until(lambda: len(box.runs(generation=1)) == 2, 10, "v1 with its own data")
    assert not (data / "1" / "carried").exists()
    assert {"1", "2"} <= {p.name for p in data.iterdir()} <= {"1", "2", "config", "secret"}
    assert box.state(one) == GOOD


def test_fc_img_5_a_back_that_hangs_is_ended_at_its_limit_and_nothing_is_left_of_it(tmp_path):
    for g, schema in (("1", "3"), ("2", "4")):
        (tmp_path / g).mkdir()
        (tmp_path / g / "schema").write_text(schema)
    program = tmp_path / "back"
    program.write_text("#!/bin/sh\necho half > carried\nexec sleep 1000\n")
    program.chmod(0o755)
    request = {
        "mode": "back",
        "folder": str(tmp_path),
        "source": 1,
        "from": 2,
        "generation": 3,
        "argv": [str(program)],
        "env": {"PATH": "/bin:/usr/bin"},
        "timeout_s": 1,
    }
    code = f"import sys; sys.path[:0] = [{REPO!r}]; from edgeheal.guard.data_child import main; main([])"
    done = subprocess.run([sys.executable, "-I", "-c", code], input=pack(request), capture_output=True, timeout=30, check=False)
    last = list(split(done.stdout))[-1]
    assert (last["k"], last["reason"], last["part"]) == ("error", reasons.TIMEOUT, "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "back"]
    assert [p.name for p in (tmp_path / "1").iterdir()] == ["schema"]
