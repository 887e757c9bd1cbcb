# SPDX-License-Identifier: Apache-2.0
"""The device of the signals bench: real guard, real agent, five specimens from signed images, in the bench's own world.

Duty: set it up, rest between faults, watch what is told of each, ask what is blamed. It knows no fault.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from signals_world import ISP, World

from edgeheal.core.kinds import CauseKind
from edgeheal.lab.broker import Broker
from edgeheal.lab.demo import python, trust_folder
from edgeheal.lab.events import Event, Events
from edgeheal.lab.stage import Program, Stage, StageError, free_port, until

APPS = ("historian", "meter", "camera", "logger", "uplink")
CONFIG = """\
[device]
id = "{device}"
tenant = "{tenant}"
classes = ["gateway"]

[guard]
soak_min = "5s"
interpreters = ["{python}", "/bin/sh"]
spawn_agent = false

[guard.budgets]
starts = ["240 in 10m"]
exits = ["100 in 10m"]
rollback = ["30 in 1d"]
config = ["30 in 1d"]

[remedies.restart]
probation = "5s"
budget = ["200 in 10m"]

[remedies.look_again]
probation = "2s"

[remedies.restore_config]
probation = "1s"
budget = ["30 in 1d"]

[remedies.rollback]
probation = "2s"
budget = ["30 in 1d"]

[backoff]
first = "200ms"
cap = "1s"
healthy_after = "2s"
slow_retry = "5s"

[sampling]
every = "1s"
suspected = "500ms"
mounts = [{mounts}]

[probes]
every = "1s"
timeout = "500ms"
start_grace = "3s"

[thresholds]
leak_window = "5s"
leak_points = 8
crash_loop = ["5 in 12s"]
foreign_restarts = ["4 in 20s"]
link_down = "3s"
clock_untrusted = "3s"
{more}
"""
IMAGE = """\
app = "{app}"
version = "{version}"
security_counter = 1
device = ["gateway"]
soak_s = 5

[run]
argv = ["{python}", "-I", "-S", "specimen.py"]
env = {{ SPECIMEN = "{orders}", SPECIMEN_PORT = "{port}", SPECIMEN_NEEDS = "{needs}", SPECIMEN_FAULT = "{fault}" }}
ready = "notify"
start_ms = 3000
stop_ms = 1000
heartbeat_ms = {heartbeat}
network = true

[limits]
memory_kib = 65536
files = 64
tasks = 64

[[probes]]
name = "health"
kind = "http"
target = "http://127.0.0.1:{port}/"
every_ms = 1000
timeout_ms = 500
misses = 3

[[probes]]
name = "self-test"
kind = "exec"
target = ["/bin/sh", "-c", "test ! -e {orders}/{app}.probe"]
every_ms = 1000
timeout_ms = 900
misses = 3
{metrics}
[config]
path = "specimen.json"
"""
METRIC = """
[[metrics]]
name = "{name}"
exp = -2
min = {low}
max = {high}
step_max = {step}
every_ms = 500
stuck_ms = 3000
"""


class Device:
    """On the stage; `orders` is where the specimens look."""

    def __init__(self, stage: Stage, world: World, mounts: list[Path]) -> None:
        self.stage = stage
        self.world = world
        self.mounts = mounts
        self.orders = stage.folder / "orders"
        self.orders.mkdir()
        self.ports = {app: free_port() for app in APPS}
        self.bundles: dict[str, Path] = {}
        self.events: Events
        self.standing: set[str] = set()  # incidents that stay, since what they tell stays

    # -- setting up

    def set_up(self) -> None:
        """Keys, trust, images, provider's broker, guard, agent; until every app is known good."""
        stage = self.stage
        for name in ("root", "release", "operator", "technician"):
            stage.edgeheal("key", "new", "-o", str(stage.keys / f"{name}.key"))
        pubs = [word for role in ("release", "operator", "technician") for word in (f"--{role}", str(stage.keys / f"{role}.key.pub"))]
        stage.edgeheal("key", "trust", "--root-key", str(stage.keys / "root.key"), *pubs, "-o", str(trust_folder(stage) / "00001.eht"))
        self.configure()
        for app in APPS:
            self.bundles[app] = self.build(app, "1.0.0")
        self.broker(True)
        stage.start("guard", "guard", "--root", str(stage.root))
        self.start_agent()
        self.events = Events(stage)
        for app in APPS:
            stage.on_device("app", "config", "set", app, "-", stdin=b'{"period_s": 0.2}')
            stage.on_device("image", "install", str(self.bundles[app]))
        until(
            lambda: all(r.get("image_state") == "good" and r.get("state") == "OK" for r in self.rows()) and len(self.rows()) == len(APPS),
            90,
            "all to be good",
            every=0.5,
        )

    def configure(self, more: str = "", link: bool = True) -> None:
        """Write the device's config."""
        mounts = ", ".join(f'"{m}"' for m in self.mounts)
        text = CONFIG.format(device=self.stage.device, tenant=self.stage.tenant, python=python(), mounts=mounts, more=more)
        text = 'group_window = "2s"\n' + text
        text += "".join(f'\n[apps.{app}]\nsoak = "5s"\n' + ('needs = ["app:historian"]\nwants = ["network:out"]\n' if app == "uplink" else "") for app in APPS)
        if link:
            text += f'\n[link]\nhost = "broker.test"\nport = {self.stage.port}\ntls = false\nheartbeat = "10s"\nkeep_alive = "5s"\n'
        self.stage.write_config(text)

    def start_agent(self) -> None:
        """The agent, seeing the bench's clock."""
        words = [sys.executable, "-m", "edgeheal.cli.main", "agent", "--root", str(self.stage.root)]
        environment = self.stage.environment() | self.world.clock_environment()
        self.stage.programs["agent"] = Program("agent", words, self.stage.logs / "agent.log", environment)
        until(lambda: (self.stage.answer("status") or {}).get("agent") == "ok", 30, "the agent to answer", every=0.2)

    def broker(self, up: bool) -> None:
        """The fleet's broker at the provider's end."""
        old = self.stage.programs.pop("broker", None)
        if old is not None:
            old.kill()
        if not up:
            return
        broker = Broker(self.stage.folder / "broker", "iotcore", port=self.stage.port)
        words = broker.words()
        path = Path(words[words.index("--config") + 1])
        path.write_text(path.read_text().replace("127.0.0.1", ISP))
        words = ["nsenter", "-t", str(self.world.isp), "-n", *words]
        self.stage.launch("broker", words)

    def build(self, app: str, version: str, fault: str = "") -> Path:
        """A signed bundle of the specimen."""
        source = self.stage.folder / "src" / f"{app}-{version}"
        (source / "files").mkdir(parents=True)
        shutil.copy(Path(__file__).parent / "specimen.py", source / "files/specimen.py")
        metrics = ""
        if app == "meter":
            ranges = (("temperature", 0, 6000, 0), ("pressure", 80000, 120000, 0), ("flow", 0, 0, 500))
            metrics = (
                "".join(METRIC.format(name=n, low=lo, high=hi, step=s) for n, lo, hi, s in ranges)
                .replace("min = 0\nmax = 0\n", "")
                .replace("step_max = 0\n", "")
            )
        text = IMAGE.format(
            app=app, version=version, python=python(), orders=self.orders, port=self.ports[app], needs=self.ports["historian"], fault=fault,
            heartbeat=0 if app == "logger" else 1500, metrics=metrics,
        )  # fmt: skip
        (source / "image.toml").write_text(text)
        bundle = self.stage.folder / f"{app}-{version}.ehi"
        self.stage.edgeheal("image", "build", str(source), "--key", str(self.stage.keys / "release.key"), "-o", str(bundle))
        return bundle

    # -- hands on it

    def order(self, app: str, words: str) -> None:
        """A word to a specimen."""
        part = self.orders / f"{app}.part"
        part.write_text(words)
        part.replace(self.orders / f"{app}.order")

    def always(self, app: str, words: str) -> None:
        """A word for each start; "" takes it away."""
        path = self.orders / f"{app}.always"
        path.write_text(words) if words else path.unlink(missing_ok=True)

    def probe_breaks(self, app: str, broken: bool) -> None:
        """The self-test of this app fails, whatever the app does."""
        path = self.orders / f"{app}.probe"
        path.touch() if broken else path.unlink(missing_ok=True)

    def kill(self, app: str, signum: int = signal.SIGKILL) -> int:
        """A signal out of nowhere; when."""
        pid = self.pid(app)
        at_ns = time.monotonic_ns()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        return at_ns

    # -- looking

    def status(self) -> dict[str, Any]:
        """`edgeheal status --json`."""
        return self.stage.answer("status") or {}

    def rows(self) -> list[dict[str, Any]]:
        """Its apps."""
        found: list[dict[str, Any]] = self.status().get("apps", [])
        return found

    def pid(self, app: str) -> int:
        """Of an app's run."""
        return int(next((r["pid"] for r in self.rows() if r["app"] == app), 0))

    def open(self) -> list[dict[str, Any]]:
        """Open incidents."""
        found = self.stage.answer("incidents", "--open") or []
        return list(found.get("incidents", []) if isinstance(found, dict) else found)

    def at_rest(self, apps: tuple[str, ...], seconds: float = 25.0) -> bool:
        """Whether these apps are well and nothing is open about them or about the box, in time."""

        def ask() -> bool:
            rows = {r["app"]: r for r in self.rows()}
            well = all(rows.get(a, {}).get("fine") in ("HEALTHY", "DEGRADED") and rows[a]["ready"] for a in apps)
            return well and not [i for i in self.open() if (i["app"] in apps or i["app"] == "") and i["id"] not in self.standing]

        with contextlib.suppress(StageError):
            until(ask, seconds, "rest", every=0.4)
            return True
        self.standing |= {i["id"] for i in self.open()}
        return False

    def online(self, seconds: float = 90.0) -> None:
        """Wait until the broker is there again; a change of way makes the link look at once."""
        end = time.monotonic() + seconds
        while not (self.status().get("fleet") or {}).get("up") and time.monotonic() < end:
            self.world.no_route()
            time.sleep(0.6)
            self.world.route()
            time.sleep(2.0)

    def told(self, since: int, app: str, symptoms: frozenset[str], subject: str, seconds: float, began_ns: int) -> Event:
        """The first word of an incident with one of these symptoms."""

        def fits(event: Event) -> bool:
            return (
                event.get("event") == "incident" and event["app"] == app and event["symptom"] in symptoms and event["state"] != "RESOLVED"
                and (not subject or subject in event["subject"])
            )  # fmt: skip

        try:
            return self.events.wait(since, fits, seconds, f"{'/'.join(sorted(symptoms))} of {app or 'the box'}")
        except StageError:
            for one in self.open():  # told while nobody watched: the agent had just been started
                if fits({"event": "incident", **one}) and one["opened_ns"] >= began_ns:
                    return {**one, "at_ns": one["opened_ns"]}
            raise

    def blamed(self, incident: str) -> tuple[list[str], list[str]]:
        """Causes of an incident as they stand, the likeliest first; and the other apps that it speaks for."""
        document = self.stage.answer("explain", incident) or {}
        document = document.get("document", document)
        return [CauseKind(c["kind"]).name for c in document.get("causes", [])], list(document.get("also", []))


def monotonic_ns() -> int:
    """Now."""
    return time.monotonic_ns()
