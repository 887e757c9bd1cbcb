# SPDX-License-Identifier: Apache-2.0
"""A hostile agent: thousands of well-formed verbs at its own door move nothing that a restart could not undo."""

import os
from pathlib import Path

from monitor_box import Box, image, until

from edgeheal.core.deployment import GOOD
from edgeheal.lab.hostile import Hostile
from edgeheal.wire import guard_frames as f

VERBS = 1_500


def rss_kib(pid):
    return next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))


def below(folder):
    return {str(p): p.lstat().st_mtime_ns for p in Path(folder).rglob("*") if p.is_file()}


def test_no_unwarranted_image_runs_and_no_budget_is_exceeded(tmp_path):
    with Box(tmp_path, apps=("demo", "other"), guard='reboots = true\n[guard.budgets]\nrollback = ["3 in 7d"]\nreboot = ["1 in 6h"]') as box:
        ran = tmp_path / "reboots"
        hook = Path(box.layout.hooks) / "reboot.d" / "10"
        hook.parent.mkdir(parents=True)
        hook.write_text(f"#!/bin/sh\necho x >> {ran}\n")
        hook.chmod(0o755)
        box.start()
        one, two = box.good(image("1.0")), box.good(image("2.0"))
        three = image("3.0")
        assert box.install(three, try_it=False) == 0
        trust = below(box.layout.trust) if os.path.isdir(box.layout.trust) else {}
        images = [one.id, two.id, three.id, bytes(32), os.urandom(32)]
        apps = ["demo", "other", "nobody", "", "../../etc", "power-cycle", "reboot"]
        grown = {}

        def each(n):
            if n in (300, VERBS - 1):
                grown[n] = rss_kib(box.process.pid)

        hostile = Hostile(box.layout.guard_agent_socket, apps, images, seed=11)
        hostile.go(VERBS, each)
        assert hostile.accepted > 0.3 * hostile.asked, (hostile.accepted, hostile.asked)
        assert hostile.broken == VERBS // 50
        assert three.id.hex() not in {r["EDGEHEAL_IMAGE"] for r in box.all_runs()}, "an unwarranted image ran"
        rows = box.rows()
        assert rows[one.id]["state"] == rows[two.id]["state"] == GOOD, "nothing was demoted or blocked by the agent's word"
        assert (ran.read_text().count("x") if ran.exists() else 0) <= 1
        spent = [f.EVENT.unpack(r) for r in box.ask(f.BUDGETS, app="demo").rows]
        assert all(row[8] <= row[9] for row in spent if row[2] in (1, 4)), "a budget was exceeded"
        assert (below(box.layout.trust) if os.path.isdir(box.layout.trust) else {}) == trust
        assert grown[VERBS - 1] - grown[300] < 1_024, f"the guard grew by {grown[VERBS - 1] - grown[300]} KiB"
        assert box.ask(f.START, app="demo").reason in (0, 93)
        until(lambda: box.phase() == f.PHASE_RUNNING, 15, "the app, for a well-behaved agent")
