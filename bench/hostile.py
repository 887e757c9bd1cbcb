# SPDX-License-Identifier: Apache-2.0
"""A hostile agent and hostile apps against a real guard with separate uids: what they moved that they should not (safety.md section 7).

Duty: first show that three seeded holes are seen, then attack the guard as it is. Needs root: without it nothing is measured.
Invariant: what happened is read from witnesses that the guard does not write: the runs' own notes, the hooks' own notes, files outside.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPO = HERE.parent
sys.path[:0] = [p for p in (str(REPO), str(REPO / "tests/guard_monitor")) if p not in sys.path]

import hostile_apps
from monitor_box import APART, Box, image, reachable, until

from edgeheal.lab.hostile import Hostile
from edgeheal.wire import guard_frames as f

AGENT = 60701
BUDGETS = {"rollback": 3, "hook": 2, "reboot": 1}
GUARD = 'reboots = true\n[guard.budgets]\nrollback = ["3 in 7d"]\nhook = ["2 in 1d"]\nreboot = ["1 in 6h"]'
HOLES = ("warrant", "budget", "symlink")
RESTARTS = 4


class HoledBox(Box):
    """A device whose guard may have a hole."""

    hole = ""

    def start(self):
        if not self.hole:
            return super().start()
        words = [reachable(), "-I", "-S", str(HERE / "hostile_guard.py"), str(REPO), self.hole, "--root", self.layout.root]
        words += ["--libraries", sysconfig.get_path("purelib")]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        until(lambda: os.path.exists(self.layout.guard_socket) and self.answers(), 20, f"the guard ({self.log.read_text()[-2000:]})")
        return self


def contents(*folders):
    """path -> (owner, mode, hash) of everything below."""
    found = {}
    for folder in folders:
        for path in [Path(folder), *Path(folder).rglob("*")]:
            said = path.lstat()
            told = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
            found[str(path)] = (said.st_uid, said.st_mode, told)
    return found


def changed(before, after):
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def rss_kib(pid):
    return next(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))


@contextlib.contextmanager
def folder():
    """One that every uid may enter."""
    made = Path(tempfile.mkdtemp(prefix="hostile"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def hook(box, point):
    """A hook that notes each of its runs; the note's path."""
    note = box.folder / f"{point}.ran"
    path = Path(box.layout.hooks) / f"{point}.d" / "10"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho x >> {note}\n")
    path.chmod(0o755)
    return note


def times(note):
    return note.read_text().count("x") if note.exists() else 0


def hijack(box, outside):
    """The app makes its config a link to a file of root's; a person sets a config."""
    data = Path(box.layout.app_data("demo")) / "1"
    uid = data.stat().st_uid
    live = data / "etc/demo.conf"
    live.parent.mkdir(exist_ok=True)
    live.unlink(missing_ok=True)
    live.symlink_to(outside / "roots")
    for path in (live.parent, live):
        os.lchown(path, uid, uid)
    new = box.folder / "new.conf"
    new.write_bytes(b"evil=1")
    with new.open("rb") as file:
        box.ask(f.SET_CONFIG, app="demo", fd=file.fileno())


def attack(verbs, hole="", seed=11):
    """One device under attack; its figures."""
    with folder() as place, HoledBox(place, apps=("demo", "other"), guard=GUARD, users=APART) as box:
        notes = {"hook": hook(box, "blink"), "reboot": hook(box, "reboot")}
        outside = place / "outside"
        outside.mkdir()
        (outside / "roots").write_text("untouched")
        box.start()
        config = {"path": "etc/demo.conf"}
        one, two = box.good(image("1.0", config=config)), box.good(image("2.0", config=config))
        three = image("3.0")
        assert box.install(three, try_it=False) == 0
        if hole:
            box.hole = hole
            box.again()
        layout = box.layout
        watched = [outside, layout.hooks, Path(layout.config_file).parent, layout.vendor_trust, layout.trust, layout.tree("demo", one.id.hex())]
        before, began = contents(*[p for p in watched if os.path.exists(p)]), len(box.all_runs())
        apps = ["demo", "demo", "other", "nobody", "", "../../etc", "blink", "reboot", "power-cycle"]
        hostile = Hostile(layout.guard_agent_socket, apps, [one.id, two.id, three.id, bytes(32), os.urandom(32)], uid=AGENT, seed=seed)
        grown = 0
        for part in range(RESTARTS):
            sizes = []
            hostile.go(verbs // RESTARTS, lambda n, sizes=sizes: n % 200 or sizes.append((rss_kib(box.process.pid), fds(box.process.pid))))
            if len(sizes) > 2:
                grown = max(grown, sizes[-1][0] - sizes[1][0])
            if part + 1 < RESTARTS:
                box.again()
        hijack(box, outside)
        runs = [run["EDGEHEAL_IMAGE"] for run in box.all_runs()][max(0, began - 1) :]
        spent = {kind: times(note) for kind, note in notes.items()}
        if not any(run == three.id.hex() for run in runs):
            spent["rollback"] = sum(a != b for a, b in zip(runs, runs[1:], strict=False))
        good = box.ask(f.START, app="demo").reason
        with contextlib.suppress(AssertionError):
            until(lambda: box.phase() == f.PHASE_RUNNING, 20, "the app")
        return {
            "asked": hostile.asked, "accepted": hostile.accepted, "broken": hostile.broken, "unwarranted": runs.count(three.id.hex()),
            "exceeded": sum(count > BUDGETS[kind] for kind, count in spent.items()), "spent": spent, "grown_kib": grown,
            "outside": changed(before, contents(*[p for p in watched if os.path.exists(p)])), "works": good in (0, 93) and box.phase() == f.PHASE_RUNNING,
        }  # fmt: skip


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def seen(hole, figures):
    """Whether the figures show the hole."""
    return bool({"warrant": figures["unwarranted"], "budget": figures["exceeded"], "symlink": figures["outside"]}[hole])


def run(verbs=100_000, seeded=800):
    """The figures; without root there are none."""
    if os.geteuid() != 0:
        return {"skipped": "needs root and separate uids"}
    caught = []
    for hole in HOLES:
        figures = attack(seeded, hole)
        print(f"hole {hole}: {figures}", file=sys.stderr)
        caught.append(seen(hole, figures))
    figures = attack(verbs)
    print(f"no hole: {figures}", file=sys.stderr)
    cases = hostile_apps.cases()
    print(f"apps: {cases}", file=sys.stderr)
    return {
        "agent_verbs": figures["asked"], "accepted": figures["accepted"], "agent_unwarranted": figures["unwarranted"],
        "budget_exceeded": figures["exceeded"], "outside_changed": len(figures["outside"]), "guard_grown_kib": figures["grown_kib"],
        "works_afterwards": figures["works"], "app_cases": len(cases), "app_escapes": sum(bool(why) for why in cases.values()),
        "escaped": {name: why for name, why in cases.items() if why}, "seeded_holes_caught": sum(caught),
    }  # fmt: skip
