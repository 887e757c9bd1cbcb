# SPDX-License-Identifier: Apache-2.0
"""Bench: SIGKILL of agent, guard, controller and broker at random moments, while apps die and hang of faults that are ours.

The truth is kept by the injector and by the apps themselves (`chaos_app`: a lock that only one run can hold, a line for each start), never by the
product. Counted at the end, and all of them 0 when the promises hold:

    apps_stopped   runs that ended although nobody had faulted them, and apps that are not up at the end
    apps_doubled   starts beside a living run
    lost           faults that no incident in the controller's store covers: each fault is matched with an incident of its own, opened after it and
                   at the latest SLACK_S after the agent was back for good; without one it must lie within an incident that was open (the same
                   fault again inside a probation), or share that of another fault, opened after both, when the agent was away all the time between the two
    doubled        incidents of apps that no fault is left for (the same end told twice), and keys that stand twice in the store

As a program: `python bench/chaos.py --kills 20 --faults 30 --seed 7 [--keep]`.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import ctypes
import heapq
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from edgeheal.lab.broker import Broker, Tls  # noqa: E402
from edgeheal.lab.certificates import Authority  # noqa: E402
from edgeheal.lab.stage import Stage, accepts, until  # noqa: E402

APPS = 12
SLACK_S = 15.0  # an incident is opened at the latest so long after the agent was back for good
HANG_S = 25.0  # and a hang is one only after its deadline (5 s), which pressure on the host stretches three times
EARLY_S = 1.5  # wall times on the wire are whole seconds
SETTLED_S = 4.0  # an agent of this age (and a guard of a second) hears what happens
REST_S = 3.0  # a run is faulted when it is at least so old
KILLED = ("agent", "guard", "controller", "broker")
FAULTS = (("kill", signal.SIGKILL, 5), ("abort", signal.SIGABRT, 2), ("exit", signal.SIGUSR1, 3), ("hang", signal.SIGSTOP, 1))
FAILURES = {"EXIT", "OOM_KILL", "CRASH_LOOP", "START_FAILED", "START_SLOW", "HANG", "TRIAL_FAILED", "APP_HELD", "PROBE_FAILED", "FOREIGN_RESTARTS"}

IMAGE_TOML = """\
app = "{app}"
version = "1.0.0"
security_counter = 1
device = ["gateway"]
soak_s = 5

[run]
argv = ["{python}", "-I", "-S", "chaos_app.py", "{truth}"]
ready = "notify"
start_ms = 15000
stop_ms = 3000
heartbeat_ms = 5000
"""

# Documented keys only: a short soak, budgets and waits that let some twenty-five faults of one app heal within minutes, and no grouping: here
# each fault has a cause of its own, although many apps fail in a short time.
DEVICE_TOML = """\
group_window = "100ms"

[device]
id = "{device}"
tenant = "{tenant}"
classes = ["gateway"]

[guard]
soak_min = "5s"
interpreters = ["{python}"]
{uids}
[guard.budgets]
starts = ["240 in 10m"]
{users}[remedies.restart]
probation = "1s"
budget = ["240 in 10m"]

[remedies.clean_restart]
probation = "1s"
budget = ["240 in 10m"]

[backoff]
first = "100ms"
cap = "1s"
healthy_after = "1s"

[thresholds]
crash_loop = ["240 in 10m"]

[link]
host = "127.0.0.1"
port = {port}
ca = "{ca}"
cert = "{cert}"
key = "{key}"
"""
USERS_TOML = """
[users]
agent = {0}
import = {1}
store = {2}
verify = {3}
check = {4}
group = {5}
"""
UIDS = 40  # a round's own users: a guard ends all of an app's uid, that of another device on this machine, too, if they shared it
FIRST_UID = 62_000 + os.getpid() % 64 * UIDS


@dataclass(slots=True)
class Fault:
    """One fault of ours: which run of which app, when (wall seconds), and by what."""

    app: str
    kind: str
    pid: int
    ticks: int
    at: float
    incident: str = ""


@dataclass(slots=True)
class Truth:
    """What the injector and the apps know."""

    folder: Path
    faults: list[Fault] = field(default_factory=list)
    kills: list[tuple[float, str]] = field(default_factory=list)
    settled: list[float] = field(default_factory=list)  # moments at which agent and guard were both there for a while

    def runs(self, app: str) -> list[tuple[str, int, int]]:
        """(START or DOUBLE, pid, ticks) in order."""
        try:
            lines = (self.folder / f"{app}.log").read_text().split("\n")[:-1]
        except OSError:
            return []
        return [(word, int(pid), int(ticks)) for word, pid, ticks in (line.split() for line in lines)]

    def up(self, app: str) -> tuple[int, int] | None:
        """The living run, as the app's log tells it."""
        for word, pid, ticks in reversed(self.runs(app)):
            if word == "START":
                return (pid, ticks) if alive(pid, ticks) else None
        return None


def stat(pid: int) -> tuple[str, int, int] | None:
    """(state, parent, start ticks)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return words[0], int(words[1]), int(words[19])


def alive(pid: int, ticks: int) -> bool:
    """Whether this very process runs; a zombie is gone."""
    one = stat(pid)
    return one is not None and one[2] == ticks and one[0] not in "ZX"


def age_s(ticks: int) -> float:
    """Seconds since a process with these start ticks began."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def reachable(path: Path) -> bool:
    """Whether another user gets to `path`."""
    return all(part.stat().st_mode & 0o005 for part in (path, *path.parents) if part.is_dir())


class Chaos:
    """The device, its fleet, and what is done to them."""

    def __init__(self, folder: Path, seed: int, apps: int) -> None:
        """Nothing is started yet."""
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: we are the init of this device, and reap
        folder.chmod(0o755)
        self.stage = Stage(folder)
        self.random = random.Random(seed)
        self.apps = [f"app{i:02d}" for i in range(apps)]
        (folder / "truth").mkdir()
        (folder / "truth").chmod(0o1777)
        self.truth = Truth(folder / "truth")
        self.apart = os.geteuid() == 0 and all(reachable(p) for p in (folder, Path(sys.prefix), Path(os.path.realpath(sys.executable)), HERE))
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    # -- setting

    def set_up(self) -> None:
        """Keys, certificates, config, images; broker, controller, guard (which starts the agent); every app known good."""
        stage, python = self.stage, os.path.realpath(sys.executable)
        for name in ("root", "release", "operator", "technician"):
            stage.edgeheal("key", "new", "-o", str(stage.keys / f"{name}.key"))
        trust = stage.root / "usr/share/edgeheal/trust"
        trust.mkdir(parents=True)
        pubs = [word for role in ("release", "operator", "technician") for word in (f"--{role}", str(stage.keys / f"{role}.key.pub"))]
        stage.edgeheal("key", "trust", "--root-key", str(stage.keys / "root.key"), *pubs, "-o", str(trust / "00001.eht"))
        authority = Authority(stage.folder / "tls")
        server, ours, theirs = authority.issue("broker", server=True), authority.issue(stage.device), authority.issue("controller")
        if self.apart:
            for path in ours:
                os.chown(path, FIRST_UID, FIRST_UID)
        text = DEVICE_TOML.format(
            device=stage.device,
            tenant=stage.tenant,
            python=python,
            port=stage.port,
            ca=authority.ca,
            cert=ours[0],
            key=ours[1],
            users=USERS_TOML.format(*range(FIRST_UID, FIRST_UID + 6)) if self.apart else "\n",
            uids=f'app_uids = "{FIRST_UID + 6}-{FIRST_UID + UIDS - 1}"\n' if self.apart else "",
        )
        stage.write_config(text + "".join(f"\n[apps.{app}]\n" for app in self.apps))
        bundles = [self._build(app, python) for app in self.apps]
        broker = Broker(stage.folder / "broker", port=stage.port, tls=Tls(authority.ca, *server))
        stage.launch("broker", broker.words())
        until(lambda: accepts(stage.port), 15, "the broker to listen")
        link = ["--broker", f"127.0.0.1:{stage.port}", "--ca", authority.ca, "--cert", theirs[0], "--client-key", theirs[1], "--tenant", stage.tenant]
        stage.start("controller", "controller", *link, "--store", str(stage.store))
        stage.start("guard", "guard", "--root", str(stage.root))
        until(lambda: (stage.answer("status") or {}).get("agent") == "ok", 30, "the agent to answer", every=0.2)
        for bundle in bundles:
            stage.on_device("image", "install", str(bundle))
        until(self._all_good, 120, "every app to be known good", every=1.0)

    def _build(self, app: str, python: str) -> Path:
        source = self.stage.folder / "src" / app
        (source / "files").mkdir(parents=True)
        shutil.copy(HERE / "chaos_app.py", source / "files/chaos_app.py")
        (source / "image.toml").write_text(IMAGE_TOML.format(app=app, python=python, truth=self.truth.folder / app))
        bundle = self.stage.folder / f"{app}.ehi"
        self.stage.edgeheal("image", "build", str(source), "--key", str(self.stage.keys / "release.key"), "-o", str(bundle))
        return bundle

    def _all_good(self) -> bool:
        rows = (self.stage.answer("status") or {}).get("apps", [])
        return len(rows) == len(self.apps) and all(row.get("image_state") == "good" and row.get("state") == "OK" for row in rows)

    # -- breaking

    def storm(self, kills: int, faults: int, every_s: float, amid: float) -> None:
        """Kills and faults at random moments, until both numbers are reached; `amid`: the share of faults with a kill amid the restart they cause."""
        due_kill, due_fault = time.monotonic() + 1.0, time.monotonic() + 0.5
        while len(self.truth.kills) < kills or len(self.truth.faults) < faults:
            self.turn(0.02)
            now = time.monotonic()
            if len(self.truth.faults) < faults and now >= due_fault and self._fault():
                due_fault = now + self.random.expovariate(1 / (every_s * kills / faults))
                if self.random.random() < amid:
                    due_kill = min(due_kill, now + self.random.uniform(0.0, 0.05))
            if len(self.truth.kills) < kills and now >= due_kill:
                self._kill()
                due_kill = now + self.random.expovariate(1 / every_s)

    def _fault(self) -> bool:
        """Break one app that is well; False when none is, just now."""
        well = [(app, run) for app in self.apps if (run := self.truth.up(app)) is not None and age_s(run[1]) > REST_S]
        if not well:
            return False
        app, (pid, ticks) = self.random.choice(well)
        kind, signum, _ = self.random.choices(FAULTS, [weight for *_, weight in FAULTS])[0]
        if (stat(pid) or ("T",))[0] in "TZX":
            return False  # it hangs already
        self.truth.faults.append(Fault(app, kind, pid, ticks, time.time()))
        os.kill(pid, signum)
        return True

    def _kill(self) -> None:
        """Kill one of the four (agent and guard together, now and then); what the device's init would start again is started again later."""
        who = self.random.choices(KILLED, [5, 4, 2, 2])[0]
        for name in ("agent", "guard") if who in ("agent", "guard") and self.random.random() < 0.1 else (who,):
            if name == "agent":
                pid = self.agent()
                if pid:
                    self.truth.kills.append((time.time(), name))
                    os.kill(pid, signal.SIGKILL)
                continue
            program = self.stage.programs[name]
            if program.process.poll() is not None:
                continue
            self.truth.kills.append((time.time(), name))
            program.kill()
            self._after(self.random.choice((0.0, 0.2, 0.5, 2.0 if name == "guard" else 4.0)), program.again)

    def agent(self) -> int:
        """The agent's pid out of /proc; 0 when none runs."""
        root = str(self.stage.root).encode()
        for pid in processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"edgeheal.agent.main" in words and root in words and (stat(pid) or ("Z",))[0] not in "ZX":
                    return pid
        return 0

    def turn(self, seconds: float) -> None:
        """Wait; reap what has become ours; start again what is due; note whether the two are there."""
        time.sleep(seconds)
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            heapq.heappop(self._later)[2]()
        self._reap()
        guard, agent = self.stage.programs["guard"].process, 0
        one = stat(guard.pid) if guard.poll() is None else None
        if one is not None and age_s(one[2]) > 1.0:
            agent = self.agent()
        two = stat(agent) if agent else None
        if two is not None and age_s(two[2]) > SETTLED_S:
            self.truth.settled.append(time.time())

    def _after(self, seconds: float, what: Callable[[], Any]) -> None:
        self._number += 1
        heapq.heappush(self._later, (time.monotonic() + seconds, self._number, what))

    def _reap(self) -> None:
        """What lost its parent ends up with us, as with any init."""
        ours = {program.process.pid for program in self.stage.programs.values()}
        me = os.getpid()
        for pid in processes():
            one = stat(pid)
            if one is not None and one[0] == "Z" and one[1] == me and pid not in ours:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    # -- counting

    def calm(self, seconds: float) -> None:
        """No more harm: everything comes back, each app is up and stays up for a while."""
        end = time.monotonic() + seconds
        steady = 0.0
        while time.monotonic() < end:
            self.turn(0.2)
            there = not self._later and self.agent() and all(self.truth.up(app) for app in self.apps)
            steady = (steady or time.monotonic()) if there else 0.0
            if steady and time.monotonic() - steady > 8.0:
                return

    def incidents(self) -> list[dict[str, Any]]:
        """All incidents of the controller's store."""
        done = self.stage.edgeheal("fleet", "incidents", "--store", str(self.stage.store), "--most", "100000", "--json", check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
        return found

    def count(self, seconds: float) -> dict[str, Any]:
        """The figures; waits up to `seconds` for what is still on its way."""
        end = time.monotonic() + seconds
        while True:
            rows = self.incidents()
            lost, surplus = match(self.truth, rows)
            self.turn(1.0)
            if not lost or time.monotonic() > end:
                break
        keys = [(row["device"], row["session"], row["number"]) for row in rows]
        faulted = {(fault.pid, fault.ticks) for fault in self.truth.faults}
        stopped, doubled = [], []
        for app in self.apps:
            runs = self.truth.runs(app)
            doubled += [(app, run) for run in runs if run[0] == "DOUBLE"]
            stopped += [(app, *run[1:]) for run in runs if run[0] == "START" and run[1:] not in faulted and not alive(*run[1:])]
            if self.truth.up(app) is None:
                stopped.append((app, 0, 0))
        self.details = {
            "stopped": stopped, "doubled": doubled, "lost": [f"{f.app} {f.kind} pid {f.pid} at {f.at:.2f}" for f in lost],
            "surplus": [{k: row[k] for k in ("id", "app", "symptom", "opened", "open_ms", "number", "session")} for row in surplus],
        }  # fmt: skip
        by = {name: sum(who == name for _, who in self.truth.kills) for name in KILLED}
        return {
            "kills": len(self.truth.kills), "killed": by, "faults": len(self.truth.faults), "apps": len(self.apps), "boundary": "full" if self.apart else "none",
            "apps_stopped": len(stopped), "apps_doubled": len(doubled), "incidents": len(rows), "lost": len(lost),
            "doubled": len(keys) - len(set(keys)) + len(surplus),
        }  # fmt: skip


def processes() -> list[int]:
    """All pids."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


# --- faults and incidents ------------------------------------------------------------------------------------------------


def match(truth: Truth, rows: list[dict[str, Any]]) -> tuple[list[Fault], list[dict[str, Any]]]:
    """(faults that nothing covers, incidents of apps that no fault is left for)."""
    lost: list[Fault] = []
    surplus: list[dict[str, Any]] = []
    for app in sorted({fault.app for fault in truth.faults} | {row["app"] for row in rows if row["symptom"] in FAILURES and row["app"]}):
        faults = [fault for fault in truth.faults if fault.app == app]
        told = [row for row in rows if row["app"] == app and row["symptom"] in FAILURES]
        own = len(told)
        told += [row for row in rows if app in row["also"]]
        late = [_latest(truth, fault) for fault in faults]
        fits = {n: [m for m, row in enumerate(told) if fault.at - EARLY_S <= _opened(row) <= late[n]] for n, fault in enumerate(faults)}
        folded = {n for n, fault in enumerate(faults) if any(_spans(row, fault.at) for row in told)}
        taken: dict[int, int] = {}
        order = sorted(range(len(faults)), key=lambda n: n in folded)
        firsts = {n: [m for m in fits[n] if m < own] for n in order}
        for n in order:  # as many of its own incidents as can be, so that what is left of them is one too many
            _augment(n, firsts, taken, set())
        for n in set(order) - set(taken.values()):
            _augment(n, fits, taken, set())
        matched = {n: m for m, n in taken.items()}
        for n, fault in enumerate(faults):
            if n in matched:
                fault.incident = told[matched[n]]["id"]
            elif n not in folded and not _shares(truth, faults, n, {k: _opened(told[m]) for k, m in matched.items()}):
                lost.append(fault)
        surplus += [row for m, row in enumerate(told[:own]) if m not in taken]
    return lost, surplus


def _opened(row: dict[str, Any]) -> float:
    return float(calendar.timegm(time.strptime(row["opened"], "%Y-%m-%dT%H:%M:%SZ"))) if row["opened"] else 0.0


def _spans(row: dict[str, Any], at: float) -> bool:
    end = _opened(row) + (row["open_ms"] / 1000 if row["state"] == "RESOLVED" else 1e9)
    return _opened(row) - EARLY_S <= at <= end + EARLY_S


def _latest(truth: Truth, fault: Fault) -> float:
    """The latest opening of the incident of a fault."""
    return next((moment for moment in truth.settled if moment > fault.at), fault.at) + SLACK_S + (HANG_S if fault.kind == "hang" else 0.0)


def _shares(truth: Truth, faults: list[Fault], n: int, opened: dict[int, float]) -> bool:
    """Whether another fault of the app has an incident, opened after both, with nobody there in between to tell the two apart."""
    for other, at in opened.items():
        first, last = sorted((faults[n].at, faults[other].at))
        if last - EARLY_S <= at and not any(first + 1.0 < moment < last for moment in truth.settled):
            return True
    return False


def _augment(n: int, fits: dict[int, list[int]], taken: dict[int, int], seen: set[int]) -> bool:
    """Kuhn's step: find fault `n` an incident, moving others where they have another."""
    for m in fits[n]:
        if m not in seen:
            seen.add(m)
            if m not in taken or _augment(taken[m], fits, taken, seen):
                taken[m] = n
                return True
    return False


def run(kills: int = 200, faults: int = 300, seed: int = 1, *, apps: int = APPS, every_s: float = 2.0, amid: float = 0.3, keep: bool = False) -> dict[str, Any]:
    """One round; its figures. `details` of what is not 0 go to stderr."""
    folder = Path(tempfile.mkdtemp(prefix="edgeheal-chaos-"))
    chaos = Chaos(folder, seed, apps)
    good = False
    try:
        began = time.monotonic()
        chaos.set_up()
        say(f"set up in {time.monotonic() - began:.0f} s, boundary {'full' if chaos.apart else 'none'}: {folder}")
        began = time.monotonic()
        chaos.storm(kills, faults, every_s, amid)
        storm_s = round(time.monotonic() - began, 1)
        say(f"{len(chaos.truth.kills)} kills and {len(chaos.truth.faults)} faults in {storm_s} s")
        chaos.calm(90.0)
        figures = chaos.count(60.0) | {"seed": seed, "storm_s": storm_s}
        good = not any(figures[name] for name in ("apps_stopped", "apps_doubled", "lost", "doubled"))
        if not good:
            for name, found in chaos.details.items():
                for one in found:
                    say(f"{name}: {one}")
        return figures
    finally:
        with (folder / "truth/injected.json").open("w") as file:
            json.dump({"faults": [[f.app, f.kind, f.pid, f.ticks, f.at, f.incident] for f in chaos.truth.faults], "kills": chaos.truth.kills}, file)
        chaos.stage.end()
        if good and not keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"kept: {folder}")


def say(text: str) -> None:
    """A line for people."""
    print(f"chaos: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """A round by hand."""
    parser = argparse.ArgumentParser(description="kill agent, guard, controller and broker while apps fail; count what was lost or doubled")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--faults", type=int, default=0, help="default: one and a half for each kill")
    parser.add_argument("--apps", type=int, default=APPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=2.0, metavar="S", help="mean time between kills (default: 2)")
    parser.add_argument("--amid", type=float, default=0.3, metavar="P", help="share of faults with a kill amid the restart they cause (default: 0.3)")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    args = parser.parse_args()
    figures = run(args.kills, args.faults or args.kills * 3 // 2, args.seed, apps=args.apps, every_s=args.every, amid=args.amid, keep=args.keep)
    print(json.dumps(figures))
    return int(any(figures[name] for name in ("apps_stopped", "apps_doubled", "lost", "doubled")))


if __name__ == "__main__":
    sys.exit(main())
