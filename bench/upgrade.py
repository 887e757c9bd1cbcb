# SPDX-License-Identifier: Apache-2.0
"""Bench: EdgeHeal itself is exchanged for another version, up and down, again and again, while its apps run and fail.

Three versions take turns, each a folder that the link `current` points to, as /usr/lib/edgeheal is on a box:

    this    the checkout as it is
    newer   the same with a higher version number, and frames between guard and agent of the next version: the two must refuse each other, say so, and go on
    older   the checkout's own history, BACK changes ago (left out, by name, where there is no history)

A round turns the link, then restarts guard and agent in one of three orders, with time between the two; faults go on all the while. What is counted is
counted as in the chaos bench, by the injector and the apps themselves:

    apps_stopped    runs that ended although nobody had faulted them, and apps that are not up at the end
    apps_doubled    starts beside a living run
    incidents_lost  faults that no incident in the controller's store covers; a hang is due when it was answered: each new guard waits its deadline anew

A hang without a fault of ours is told apart (`late_of_the_machine`): on a machine that is busy with other things an app can miss its heartbeat.

As a program: `python bench/upgrade.py --rounds 10 --apps 6 --seed 7 [--keep]`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOP = HERE.parent
sys.path[:0] = [str(TOP), str(HERE)]

import chaos  # noqa: E402
from chaos import FIRST_UID, Chaos, age_s, stat  # noqa: E402

from edgeheal.lab.stage import Stage, until  # noqa: E402

chaos.SLACK_S = 45.0  # a fault may be heard only after several exchanges: an agent that starts on a busy machine is exchanged again before it is there
BACK = 40  # changes of the product
APPS = 20
FAULTS_A_ROUND = 2.0
ORDERS = (("guard", "agent"), ("agent", "guard"), ("both",))
NEWER = (("core/version.py", 'VERSION = "', 'VERSION = "9.'), ("wire/guard_frames.py", "\nVERSION = ", "\nVERSION = 1 + "))


class Versions:
    """The folders, and which is current."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current = ""
        self.missing: dict[str, str] = {}
        folder.mkdir()
        shutil.copytree(TOP / "edgeheal", folder / "this/edgeheal", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(folder / "this", folder / "newer")
        for file, old, new in NEWER:
            path = folder / "newer/edgeheal" / file
            text = path.read_text()
            if text.count(old) != 1:
                raise RuntimeError(f"{file} has changed its form: {old!r} is not there once")
            path.write_text(text.replace(old, new))
        self._older(folder / "older")
        for name in self.names():
            (folder / name).chmod(0o755)
        self.turn("this")

    def _older(self, to: Path) -> None:
        try:
            words = ["git", "-C", str(TOP), "rev-list", f"--skip={BACK}", "-n", "1", "HEAD", "--", "edgeheal"]
            commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
            if not commit:
                raise LookupError("the history is too short")
            packed = subprocess.run(["git", "-C", str(TOP), "archive", commit, "edgeheal"], capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError, LookupError) as fault:
            self.missing["older"] = f"no history here: {fault}"
            return
        to.mkdir()
        subprocess.run(["tar", "-x", "-C", str(to)], input=packed, check=True)
        self.older = commit[:10]

    def names(self) -> list[str]:
        """What there is."""
        return [name for name in ("this", "newer", "older") if name not in self.missing]

    def turn(self, name: str) -> None:
        """Make it the current one, in one step."""
        new = self.folder / "current.new"
        new.symlink_to(name)
        new.rename(self.folder / "current")
        self.current = name


class VersionedStage(Stage):
    """A stage whose programs are of the version that is current as they start."""

    versions: Versions

    def environment(self) -> dict[str, str]:
        """Only `current` is on the path, not the folder we stand in."""
        paths = os.environ.get("PYTHONPATH", "").split(":")
        kept = [path for path in paths if path and Path(path).resolve() != TOP]
        current = self.versions.folder / "current"
        if self.versions.current == "older":  # it may be of the time before a resident process went by the real name of its folder: found by this bench
            current = current.resolve()
        return os.environ | {"PYTHONPATH": ":".join([str(current), *kept]), "PYTHONSAFEPATH": "1"}


class Upgrade(Chaos):
    """Chaos's device, faults and count; the harm is an exchange of versions."""

    def __init__(self, folder: Path, seed: int, apps: int) -> None:
        super().__init__(folder, seed, apps)
        self.stage = VersionedStage(folder)
        self.stage.versions = self.versions = Versions(folder / "versions")
        self.runs = {"guard": "this", "agent": "this"}
        self.rounds: list[str] = []
        self.met = self.said = 0
        self.slowest_end_s = 0.0

    def set_up(self) -> None:
        """Chaos's device, but as on a box with an init system: the agent is no child of the guard."""
        dropin = self.stage.root / "etc/edgeheal/conf.d/10-manager.toml"
        dropin.parent.mkdir(parents=True)
        dropin.write_text("[guard]\nspawn_agent = false\n")
        launched = self.stage.start

        def start(name: str, *words: str) -> Any:
            program = launched(name, *words)
            if name == "guard":
                until(lambda: (self.stage.root / "run/edgeheal/guard-agent.sock").exists(), 30, "the guard's door")
                user = ["setpriv", f"--reuid={FIRST_UID}", f"--regid={FIRST_UID}", "--clear-groups"] if self.apart else []
                self.stage.launch("agent", [*user, sys.executable, "-m", "edgeheal.cli.main", "agent", "--root", str(self.stage.root)])
            return program

        self.stage.start = start  # type: ignore[method-assign]
        super().set_up()

    def exchange(self) -> None:
        """One round."""
        to = self.random.choice([name for name in self.versions.names() if name != self.versions.current])
        order = self.random.choice(ORDERS)
        self.rounds.append(f"{time.time():.1f} {self.versions.current}>{to}:{'+'.join(order)}")
        self.versions.turn(to)
        for n, who in enumerate(order):
            if n:
                self.while_faulting(self.random.uniform(0.0, 4.0))
            for name in ("guard", "agent") if who == "both" else (who,):
                self.restart(name)
            if self.apart_in_version():
                self._refused()

    def restart(self, name: str) -> None:
        """As a manager with a unit for each does: TERM, wait, start."""
        program = self.stage.programs[name]
        began = time.monotonic()
        program.end(30)
        self.slowest_end_s = max(self.slowest_end_s, time.monotonic() - began)
        program.again()
        self.runs[name] = self.versions.current

    def while_faulting(self, seconds: float) -> None:
        """Let time pass, with a fault now and then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn(0.05)
            if self.random.random() < 0.05 * FAULTS_A_ROUND / 5.0:
                self._fault()

    def turn(self, seconds: float) -> None:
        """A moment is no settled one while the agent is not understood by its guard, or not there yet: on a busy machine a process is long before it hears."""
        before = len(self.truth.settled)
        super().turn(seconds)
        if self.apart_in_version() or not self._agent_listens():
            del self.truth.settled[before:]

    def _agent_listens(self) -> bool:
        """Whether the agent that runs now has made its socket, a while ago."""
        one = stat(self.agent())
        try:
            made = (self.stage.root / "run/edgeheal/agent/control.sock").stat().st_mtime
        except OSError:
            return False
        return one is not None and made >= time.time() - age_s(one[2]) - 0.1 and time.time() - made > 2.0

    def answered(self) -> None:
        """Each hang happened, for the count, when its run was replaced."""
        ahead = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        for fault in self.truth.faults:
            starts = [ticks for word, _, ticks in self.truth.runs(fault.app) if word == "START"]
            after = [ticks for ticks in starts if ticks > fault.ticks]
            if fault.kind == "hang" and after:
                fault.at = max(fault.at, min(after) / os.sysconf("SC_CLK_TCK") + ahead - 1.0)

    def apart_in_version(self) -> bool:
        """Whether guard and agent speak different frames just now."""
        return len(set(self.runs.values())) == 2 and "newer" in self.runs.values()

    def _refused(self) -> None:
        """Guard and agent are of versions that do not go together: the box must say so to who asks."""
        self.met += 1
        answer = self.stage.on_device("status", check=False)
        text = (answer.stdout + answer.stderr).decode(errors="replace").lower()
        self.said += "version" in text or "guard" in text


def run(rounds: int = 50, seed: int = 1, *, apps: int = APPS, keep: bool = False) -> dict[str, Any]:
    """So many rounds; the figures."""
    folder = Path(tempfile.mkdtemp(prefix="edgeheal-upgrade-"))
    bench = Upgrade(folder, seed, apps)
    good = False
    try:
        bench.set_up()
        say(f"{apps} apps are good; versions {', '.join(bench.versions.names())} {bench.versions.missing or ''}: {folder}")
        began = time.monotonic()
        for _ in range(rounds):
            bench.exchange()
            bench.while_faulting(bench.random.uniform(2.0, 8.0))
        took = round(time.monotonic() - began, 1)
        say(f"{rounds} rounds and {len(bench.truth.faults)} faults in {took} s")
        if "newer" in bench.runs.values():  # the controller and the count are of this version
            bench.versions.turn("this")
            bench.restart("guard")
            bench.restart("agent")
        bench.calm(120.0)
        bench.answered()
        found = bench.count(60.0)
        late = sum(row["symptom"] == "HANG" for row in bench.details["surplus"])
        figures = {
            "rounds": rounds, "apps_stopped": found["apps_stopped"], "apps_doubled": found["apps_doubled"], "incidents_lost": found["lost"],
            "incidents_doubled": found["doubled"] - late, "late_of_the_machine": late, "apps": apps, "faults": found["faults"], "boundary": found["boundary"], "storm_s": took, "seed": seed,
            "versions": {name: {"skipped": bench.versions.missing[name]} if name in bench.versions.missing else sum(f">{name}:" in r for r in bench.rounds)
                         for name in ("this", "newer", "older")},
            "met_another_frame_version": bench.met, "and_said_so": bench.said, "slowest_end_s": round(bench.slowest_end_s, 2),
        }  # fmt: skip
        good = not any(figures[name] for name in ("apps_stopped", "apps_doubled", "incidents_lost", "incidents_doubled"))
        if not good:
            for one in bench.rounds:
                say(one)
            for name, one in [(name, one) for name, found in bench.details.items() for one in found]:
                say(f"{name}: {one}")
        return figures
    finally:
        bench.stage.end()
        if good and not keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"kept: {folder}")


def say(text: str) -> None:
    """A line for people."""
    print(f"upgrade: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """A round by hand."""
    parser = argparse.ArgumentParser(description="exchange EdgeHeal for another version under running apps; count what was stopped, doubled or lost")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--apps", type=int, default=APPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    figures = run(args.rounds, args.seed, apps=args.apps, keep=args.keep)
    print(json.dumps(figures))
    return int(any(figures[name] for name in ("apps_stopped", "apps_doubled", "incidents_lost", "incidents_doubled")))


if __name__ == "__main__":
    sys.exit(main())
