# SPDX-License-Identifier: Apache-2.0
"""EdgeHeal's own part of the supervision bench: the shipped commands, twenty signed images, TLS, controller and detection on.

Duty: set a whole device, kill, start it as after a boot, weigh. The keys that differ from the defaults are said in the result's notes.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from edgeheal.lab.broker import Broker, Tls
from edgeheal.lab.certificates import Authority
from edgeheal.lab.stage import Stage, accepts, until

HEALTHY_S = 3.0
NOTES = [
    "guard.soak_min, apps.*.soak = 5s: images are good before the kills begin",
    "backoff.healthy_after, remedies.restart.probation = 1s, remedies.restart.budget, thresholds.crash_loop = 200 in 10m: each kill is meant as a first crash",
    "guard.interpreters: the Python that the Python apps run on; device and link: who and where",
    "sampling.every = 1h for the kills, for what is weighed and for cpu_ms_per_min_events; = 1s for cpu_ms_per_min_1hz",
    "start_all_ms: from `edgeheal guard` to the last app up, with nothing in /run (as after a boot); the agent is started, too, once the apps are",
    "memory: resident set of each over that of a bare interpreter of the same run, 20 s after a start of all, TLS connected",
]
REST_S = 15.0
SETTLE_S = 15.0
FIRST_UID = 62_000 + os.getpid() % 64 * 40
DEVICE_TOML = """\
[device]
id = "{device}"
tenant = "{tenant}"
classes = ["gateway"]

[guard]
soak_min = "5s"
interpreters = ["{python}"]
{users}
[remedies.restart]
probation = "1s"
budget = ["200 in 10m"]

[backoff]
healthy_after = "1s"

[thresholds]
crash_loop = ["200 in 10m"]

[sampling]
every = "{every}"

[link]
host = "127.0.0.1"
port = {port}
ca = "{ca}"
cert = "{cert}"
key = "{key}"
"""
IMAGE_TOML = """\
app = "{app}"
version = "1.0.0"
security_counter = 1
device = ["gateway"]
soak_s = 5

[run]
argv = {argv}
ready = "start"
start_ms = 5000
stop_ms = 3000
"""


USERS_TOML = """app_uids = "{apps}-{last}"

[users]
agent = {0}
import = {1}
store = {2}
verify = {3}
check = {4}
group = {5}
"""


def reachable(path: Path) -> bool:
    """Whether another user gets to `path`."""
    return all(part.stat().st_mode & 0o005 for part in (path, *path.parents) if part.is_dir())


class Bench:
    """Twenty apps on a stage; `files[i]` is what app i writes when it is up. `apart`: as root, with a uid for each part and each app."""

    def __init__(self, stage: Stage, sleeper: Path | None, *, apart: bool = False) -> None:
        self.stage = stage
        self.apart = apart
        self.sleeper = sleeper
        self.python = os.path.realpath(sys.executable)
        self.apps = [f"{'c' if i < 10 else 'py'}{i:02d}" for i in range(20)]
        (stage.folder / "up").mkdir()
        (stage.folder / "up").chmod(0o1777)
        self.files = [stage.folder / "up" / app for app in self.apps]
        self.config: dict[str, Any] = {}

    def set_up(self) -> None:
        """Keys, TLS, broker, controller, guard, images; until all are known good."""
        stage = self.stage
        for name in ("root", "release", "operator", "technician"):
            stage.edgeheal("key", "new", "-o", str(stage.keys / f"{name}.key"))
        trust = stage.root / "usr/share/edgeheal/trust"
        trust.mkdir(parents=True)
        pubs = [word for role in ("release", "operator", "technician") for word in (f"--{role}", str(stage.keys / f"{role}.key.pub"))]
        stage.edgeheal("key", "trust", "--root-key", str(stage.keys / "root.key"), *pubs, "-o", str(trust / "00001.eht"))
        authority = Authority(stage.folder / "tls")
        server, ours, theirs = authority.issue("broker", server=True), authority.issue(stage.device), authority.issue("controller")
        self.config = {"device": stage.device, "tenant": stage.tenant, "python": self.python, "port": stage.port, "ca": authority.ca,
                       "cert": ours[0], "key": ours[1], "users": ""}  # fmt: skip
        if self.apart:
            stage.folder.chmod(0o755)
            for path in ours:
                os.chown(path, FIRST_UID, FIRST_UID)
            self.config["users"] = USERS_TOML.format(*range(FIRST_UID, FIRST_UID + 6), apps=FIRST_UID + 6, last=FIRST_UID + 39)
        self.configure("1h")
        bundles = [self._build(i) for i in range(20)]
        stage.launch("broker", Broker(stage.folder / "broker", port=stage.port, tls=Tls(authority.ca, *server)).words())
        until(lambda: accepts(stage.port), 15, "the broker to listen")
        link = ["--broker", f"127.0.0.1:{stage.port}", "--ca", authority.ca, "--cert", theirs[0], "--client-key", theirs[1], "--tenant", stage.tenant]
        stage.start("controller", "controller", *link, "--store", str(stage.store))
        stage.start("guard", "guard", "--root", str(stage.root))
        self.agent_answers()
        for bundle in bundles:
            stage.on_device("image", "install", str(bundle))
        until(self._all_good, 120, "every app to be known good", every=0.5)

    def configure(self, every: str) -> None:
        """Write the config, with sampling `every`."""
        tables = "".join(f'\n[apps.{app}]\nsoak = "5s"\n' for app in self.apps)
        self.stage.write_config(DEVICE_TOML.format(every=every, **self.config) + tables)

    def agent_answers(self) -> None:
        """Wait for the agent."""
        until(lambda: (self.stage.answer("status") or {}).get("agent") == "ok", 30, "the agent to answer", every=0.2)

    def _build(self, i: int) -> Path:
        app, source = self.apps[i], self.stage.folder / "src" / self.apps[i]
        (source / "files").mkdir(parents=True)
        if i < 10 and self.sleeper:
            shutil.copy(self.sleeper, source / "files/sleeper")
            argv = f'["sleeper", "{self.files[i]}"]'
        else:
            from supervision import SLEEPER_PY

            (source / "files/sleeper.py").write_text(SLEEPER_PY)
            argv = f'["{self.python}", "-I", "-S", "sleeper.py", "{self.files[i]}"]'
        (source / "image.toml").write_text(IMAGE_TOML.format(app=app, argv=argv))
        bundle = self.stage.folder / f"{app}.ehi"
        self.stage.edgeheal("image", "build", str(source), "--key", str(self.stage.keys / "release.key"), "-o", str(bundle))
        return bundle

    def _all_good(self) -> bool:
        rows = (self.stage.answer("status") or {}).get("apps", [])
        return len(rows) == 20 and all(row.get("image_state") == "good" and row.get("state") == "OK" for row in rows)

    def kills(self, count: int) -> tuple[list[float], list[float]]:
        """(ms of C apps, ms of Python apps); no app is killed before it was up for HEALTHY_S."""
        from supervision import kill_one

        rng = random.Random(7)
        times: tuple[list[float], list[float]] = ([], [])
        for n in range(count):
            time.sleep(rng.uniform(0.1, 0.4))
            times[n % 2].append(kill_one(rng.choice(until(partial(self._rested, n % 2), 30, "an app that was up long enough"))))
        return times

    def _rested(self, half: int) -> list[Path]:
        """The files of those C (0) or Python (1) apps that were up long enough."""
        from supervision import last_up

        return [f for f in self.files[half * 10 : half * 10 + 10] if time.monotonic_ns() - last_up(f)[1] > HEALTHY_S * 1e9]

    def start_all(self) -> float:
        """Everything ends, nothing is left in /run, and the guard is started: ms until the last app is up."""
        from supervision import last_up, wait_up

        _, agent = self.resident()
        self.stage.programs["guard"].end(30)
        for pid in (agent, *(last_up(file)[0] for file in self.files)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for file in self.files:
            file.unlink()
        shutil.rmtree(self.stage.root / "run")
        time.sleep(1.0)
        began = time.monotonic_ns()
        self.stage.programs["guard"].again()
        return (wait_up(self.files, 60) - began) / 1e6

    def resident(self) -> tuple[int, int]:
        """Pids of guard and agent."""
        root = str(self.stage.root).encode()
        agents = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if root in words and b"edgeheal.agent.main" in words:
                agents.append(int(name))
        return self.stage.programs["guard"].process.pid, min(agents)


def rest(bench: Bench) -> float:
    """CPU ms a minute of guard and agent once a start is long over."""
    from supervision import cpu_ns

    bench.agent_answers()
    time.sleep(SETTLE_S)
    pids = list(bench.resident())
    before = cpu_ns(pids)
    time.sleep(REST_S)
    return round((cpu_ns(pids) - before) / 1e6 * 60 / REST_S, 1)


def measure_edgeheal(folder: Path, sleeper: Path | None, kills: int, bare_mb: float) -> dict[str, Any]:
    """EdgeHeal's figures; `bare_mb` is a bare interpreter of the same run."""
    from supervision import figures, rss_mb

    with Stage(folder) as stage:
        bench = Bench(stage, sleeper)
        bench.set_up()
        print("edgeheal: twenty apps are good; killing", file=sys.stderr)
        c, py = bench.kills(kills)
        print(f"edgeheal: {figures(c, py, 0.0)}; starting all", file=sys.stderr)
        starts = [bench.start_all() for _ in range(5)]
        found = figures(c, py, statistics.median(starts))
        found["cpu_ms_per_min_events"] = rest(bench)
        guard, agent = bench.resident()
        found |= {"agent_over_bare_mb": round(rss_mb(agent) - bare_mb, 2), "guard_over_bare_mb": round(rss_mb(guard) - bare_mb, 2)}
        bench.configure("1s")
        bench.start_all()
        found["cpu_ms_per_min_1hz"] = rest(bench)
        found["boundary"] = (stage.answer("status") or {}).get("boundary", "")
        return found | {"notes": NOTES}


def measure_apart(folder: Path, sleeper: Path | None, kills: int) -> dict[str, Any]:
    """The restart figures once more as root with a uid for each part and each app, and control groups where there are some."""
    from supervision import HERE, figures

    here = (folder.parent, Path(sys.prefix), Path(os.path.realpath(sys.executable)), HERE)
    if os.geteuid() != 0 or not all(map(reachable, here)):
        return {"skipped": "needs root, and an interpreter and a checkout that other users reach"}
    with Stage(folder) as stage:
        bench = Bench(stage, sleeper, apart=True)
        bench.set_up()
        c, py = bench.kills(kills)
        return figures(c, py, bench.start_all()) | {"boundary": (stage.answer("status") or {}).get("boundary", "")}
