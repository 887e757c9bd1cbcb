# SPDX-License-Identifier: Apache-2.0
"""The demo: a whole device, its fleet and a sample app from signed images; twelve faults for real, each healed before your eyes.

Duty: set the stage with the shipped commands, play the scenes, tell what the controller has. It ends by itself in under two
minutes; exit status 0 only if every scene healed as it should. `--keep` leaves everything running.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from edgeheal.core.errors import EdgeHealError
from edgeheal.lab import scenes
from edgeheal.lab.broker import Broker
from edgeheal.lab.events import Events
from edgeheal.lab.scenes import APP, Play, Result
from edgeheal.lab.stage import Stage, accepts, free_port, until

SAMPLE = Path(__file__).parent / "sample"
DEVICE_TOML = """\
# The demo's device. Every key is documented; the short times are only there so that you need not wait.
mode = "act"

[device]
id = "{device}"
tenant = "{tenant}"
classes = ["gateway"]
place = "your desk"

[apps.sensor-gw]
soak = "5s"

[guard]
soak_min = "5s"
interpreters = ["{python}"]

[remedies.restart]
probation = "3s"
budget = ["8 in 10m", "40 in 1d"]

[remedies.restore_config]
probation = "3s"

[remedies.rollback]
probation = "4s"
budget = ["5 in 1d"]

[backoff]
healthy_after = "2s"

[sampling]
every = "1s"
suspected = "500ms"

[probes]
every = "1s"
timeout = "500ms"
start_grace = "3s"

[thresholds]
leak_window = "5s"
leak_points = 8

[link]
host = "127.0.0.1"
port = {port}
tls = false
heartbeat = "10s"
"""


class World:
    """What the app looks at: a sensor file with a wandering temperature, until it is frozen."""

    def __init__(self, path: Path) -> None:
        """Begin to write `path` three times a second."""
        self.path = path
        self.frozen = False
        self._end = threading.Event()
        self._step()
        self._thread = threading.Thread(target=self._run, name="world", daemon=True)
        self._thread.start()

    def freeze(self, frozen: bool) -> None:
        """Stop or go on changing."""
        self.frozen = frozen

    def close(self) -> None:
        """No more writes."""
        self._end.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._end.wait(0.3):
            if not self.frozen:
                self._step()

    def _step(self) -> None:
        tenth = int(time.monotonic() * 10)
        value = 20 + (tenth * 7919 % 97) / 50
        part = self.path.with_suffix(".part")
        part.write_text(f"{value:.2f}\n")
        part.replace(self.path)


def build(stage: Stage, name: str, *, version: str, fault: str, port: int, counter: int, key: str = "release") -> Path:
    """A bundle of the sample app, built and signed with the shipped command."""
    source = stage.folder / "src" / name
    shutil.copytree(SAMPLE, source)
    text = (source / "image.toml").read_text()
    text = text.replace('version = "1.0.0"', f'version = "{version}"').replace("security_counter = 1", f"security_counter = {counter}")
    text = text.replace("18080", str(port)).replace("/usr/bin/python3", python())
    if fault:
        text = text.replace("[run]\n", f'[run]\nenv = {{ GATEWAY_FAULT = "{fault}" }}\n')
    (source / "image.toml").write_text(text)
    bundle = stage.folder / f"{name}.ehi"
    stage.edgeheal("image", "build", str(source), "--key", str(stage.keys / f"{key}.key"), "-o", str(bundle))
    return bundle


def python() -> str:
    """The host's interpreter behind this one."""
    return os.path.realpath(sys.executable)


def set_stage(stage: Stage, tell: Any) -> tuple[Play, World]:
    """Keys, trust, config, broker, controller, guard (which starts the agent), and the app's first image, good."""
    tell("making keys and the device's trust")
    for name in ("root", "release", "operator", "technician", "mallory"):
        stage.edgeheal("key", "new", "-o", str(stage.keys / f"{name}.key"))
    stage.edgeheal(
        "key", "trust", "--root-key", str(stage.keys / "root.key"), "--release", str(stage.keys / "release.key.pub"), "--operator", str(stage.keys / "operator.key.pub"),
        "--technician", str(stage.keys / "technician.key.pub"), "-o", str(trust_folder(stage) / "00001.eht"),
    )  # fmt: skip
    stage.write_config(DEVICE_TOML.format(device=stage.device, tenant=stage.tenant, port=stage.port, python=python()))
    world = World(stage.folder / "temperature")
    port = free_port()
    bundles = {
        "1.0.0": build(stage, "v1.0.0", version="1.0.0", fault="", port=port, counter=1),
        "1.1.0": build(stage, "v1.1.0", version="1.1.0", fault="", port=port, counter=1),
        "2.0.0": build(stage, "v2.0.0", version="2.0.0", fault="crash", port=port, counter=1),
        "3.0.0": build(stage, "v3.0.0", version="3.0.0", fault="sick", port=port, counter=1),
        "forged": build(stage, "forged", version="9.9.9", fault="", port=port, counter=9, key="mallory"),
    }
    tell(f"broker ({stage.broker_kind}) on port {stage.port}, controller, guard and agent")
    start_broker(stage)
    stage.start("controller", "controller", "--broker", f"127.0.0.1:{stage.port}", "--tenant", stage.tenant, "--store", str(stage.store))
    stage.start("guard", "guard", "--root", str(stage.root))
    until(lambda: (stage.answer("status") or {}).get("agent") == "ok", 20, "the agent to answer", every=0.2)
    events = Events(stage)
    play = Play(stage, events, port, world.path, bundles, world.freeze)
    config = json.dumps({"listen": port, "sensor": str(world.path), "period_s": 0.25}).encode()
    stage.on_device("app", "config", "set", APP, "-", stdin=config)
    tell("installing sensor-gw 1.0.0 from its signed image, and waiting for its soak")
    stage.on_device("image", "install", str(bundles["1.0.0"]))
    play.settled(version="1.0.0")
    until(lambda: play.app().get("image_state") == "good", 30, "sensor-gw 1.0.0 to be known good", every=0.25)
    return play, world


def trust_folder(stage: Stage) -> Path:
    """Where the device finds trust version 1."""
    folder = stage.root / "usr/share/edgeheal/trust"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def start_broker(stage: Stage) -> None:
    """The broker as a program of its own, and wait until it listens."""
    broker = Broker(stage.folder / "broker", stage.broker_kind, port=stage.port)
    stage.launch("broker", broker.words())
    until(lambda: accepts(stage.port), 15, "the broker to listen")


def told(stage: Stage, results: list[Result]) -> tuple[int, int, list[dict[str, Any]]]:
    """(lost, doubled, incidents) as the controller has them, once everything that was opened has arrived."""

    def fetch() -> list[dict[str, Any]]:
        done = stage.edgeheal("fleet", "incidents", "--store", str(stage.store), "--json", check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
        return found

    wanted = {r.incident for r in results if r.incident}
    end = time.monotonic() + 20
    rows = fetch()
    while not wanted <= {r["id"] for r in rows} and time.monotonic() < end:
        time.sleep(0.3)
        rows = fetch()
    ids = [r["id"] for r in rows]
    sizes = {r["id"]: r["bytes"] for r in rows}
    for result in results:
        result.bytes = int(sizes.get(result.incident, 0))
    return len(wanted - set(ids)), len(ids) - len(set(ids)), rows


def main(argv: list[str] | None = None) -> int:
    """Play the demo; exit status 0 only if every scene healed as it should."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Break a real app twelve ways and watch it heal.")
    parser.add_argument("--broker", choices=("iotcore", "mosquitto"), default="iotcore", help="which broker to start (default: iotcore, from PyPI)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, no story")
    parser.add_argument("--keep", action="store_true", help="leave everything running, and say how to look at it")
    parser.add_argument("scene", nargs="*", help=f"only these scenes, in this order ({', '.join(scenes.SCENES)})")
    args = parser.parse_args(argv)
    unknown = [s for s in args.scene if s not in scenes.SCENES]
    if unknown:
        parser.error(f"no such scene: {', '.join(unknown)} (known: {', '.join(scenes.SCENES)})")
    began = time.monotonic()

    def tell(text: str) -> None:
        if not args.json:
            print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)

    folder = Path(tempfile.mkdtemp(prefix="edgeheal-demo-"))
    stage = Stage(folder, broker=args.broker)
    results: list[Result] = []
    try:
        play, world = set_stage(stage, tell)
        for name in args.scene or scenes.SCENES:
            tell(f"{name}: {(scenes.SCENES[name].__doc__ or '').strip()}")
            result = scenes.play_one(name, play)
            results.append(result)
            tell(verdict(result))
            settle(play, result)
        lost, doubled, rows = told(stage, results)
        if args.json:
            print(json.dumps({"scenes": [r.to_json() for r in results], "lost": lost, "doubled": doubled}))
        else:
            summary(stage, results, lost, doubled, rows, time.monotonic() - began)
        good = all(r.ok for r in results) and not lost and not doubled
        if args.keep:
            tell(f"kept in {folder}; look with: edgeheal status --root {stage.root}; end it with ctrl-c")
            wait_for_end()
        play.events.close()
        world.close()
        return 0 if good else 1
    except EdgeHealError as fault:
        print(f"demo: {fault}\n  logs: {stage.logs}", file=sys.stderr)
        args.keep = True
        return 1
    finally:
        stage.end()
        if not args.keep and all(r.ok for r in results):
            shutil.rmtree(folder, ignore_errors=True)


def settle(play: Play, result: Result) -> None:
    """Leave the app well for the next scene; what does not settle is a fault of this one."""
    try:
        play.settled()
    except EdgeHealError as fault:
        result.ok, result.note = False, result.note or str(fault)


def wait_for_end() -> None:
    """Until ctrl-c."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return


def verdict(result: Result) -> str:
    """One scene's line."""
    if not result.ok:
        return f"    FAILED  {result.note}"
    noticed = f"noticed in {result.detect_ms / 1000:.2f} s, " if result.detect_ms else ""
    return f"    ok  {noticed}well again after {result.recover_ms / 1000:.2f} s: {result.cause.lower().replace('_', ' ')} -> {result.remedy.lower().replace('_', ' ')}"


def summary(stage: Stage, results: list[Result], lost: int, doubled: int, rows: list[dict[str, Any]], seconds: float) -> None:
    """What the controller has, and the size of each on the wire."""
    print("\nas the controller has it:")
    tail = stage.edgeheal("fleet", "incidents", "--store", str(stage.store), check=False).stdout.decode()
    print(tail.rstrip())
    print(f"\n{'SCENE':<16} {'':<6} {'NOTICED':>9} {'WELL':>9}  {'CAUSE':<14} {'REMEDY':<15} {'BYTES':>5}")
    for r in results:
        ok = "ok" if r.ok else "FAILED"
        print(f"{r.name:<16} {ok:<6} {r.detect_ms:>6} ms {r.recover_ms:>6} ms  {r.cause.lower():<14} {r.remedy.lower():<15} {r.bytes or '-':>5}")
    good = sum(r.ok for r in results)
    print(f"\n{good} of {len(results)} scenes healed; {len(rows)} incidents at the controller, {lost} lost, {doubled} doubled; {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
