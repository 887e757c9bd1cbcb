# SPDX-License-Identifier: Apache-2.0
"""The eight kinds of the incident bench made for real on a whole device, and each payload as a plain subscriber at its broker saw it.

Duty: the signals bench's world and device (guard, agent, five signed apps, namespaces of their own), its hands for the faults, and a subscriber
at the provider's end of the cable. It judges nothing. Run by `incident`, inside namespaces.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

INSIDE = ("unshare", "-n", "-m", "-p", "-f", "--mount-proc", "--kill-child")
SETTLE_S = 25.0
TRIES = 2
# kind -> the signals bench's fault; the watchdog's is no fault of that bench: a register that stands where the board's would
MADE = {
    "process crash": "uncaught exception",
    "out of memory": "killed by the kernel for memory",
    "sensor stuck": "a value stands still",
    "crash loop to rollback": "a new image that crashes",
    "config rollback": "a config it cannot read",
    "disk full": "a disk runs full",
    "network loss": "the cable is pulled",
}
MORE = """
[boot]
pstore = []
[reset.board]
file = "{register}"
means = ["0x20 watchdog", "0x1000 power-loss"]
[link]
host = "broker.test"
port = {port}
tls = false
heartbeat = "10s"
keep_alive = "5s"
stored_by = "broker"
"""
SUBSCRIBER = """
import sys
from edgeheal.fleet.session import Address, Session
with open(sys.argv[3], "w") as out:
    session = Session(Address(sys.argv[1], int(sys.argv[2])), "plain", clean=True)
    session.subscribe("eh/1/+/+/up/incident", qos=1)
    while True:
        for message in session.wait(1.0):
            session.acknowledge([message.mid] if message.mid else [])
            out.write(message.payload.hex() + chr(10))
            out.flush()
"""


def payloads() -> dict[str, Any]:
    """{"seen": {kind: hex of the largest payload}, "not": {kind: why}}, made in namespaces of their own; root is needed."""
    if os.geteuid() != 0:
        return {"seen": {}, "not": dict.fromkeys([*MADE, "watchdog reset"], "needs root: namespaces, loop devices, a memory group")}
    done = subprocess.run([*INSIDE, sys.executable, __file__, "inside"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        return {"seen": {}, "not": dict.fromkeys([*MADE, "watchdog reset"], f"the device could not be set up ({done.returncode})")}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def inside() -> dict[str, Any]:
    """Set up, make each kind, collect."""
    from signals_box import BOX_FAULTS
    from signals_device import Device
    from signals_faults import APP_FAULTS, SENSOR_FAULTS
    from signals_world import ISP, World

    from edgeheal.lab.stage import Stage, StageError, until

    class Told(Device):
        """The device with a reset register, whose reports the broker's acknowledgement frees."""

        def configure(self, more: str = "", link: bool = True) -> None:
            del link
            super().configure(more + MORE.format(register=self.stage.folder / "register", port=self.stage.port), link=False)

        def broker(self, up: bool) -> None:
            """The subscriber is there before the device is."""
            super().broker(up)
            if up:
                until(lambda: _accepts(self.world.isp, ISP, self.stage.port), 15, "the broker")
                words = [sys.executable, "-c", SUBSCRIBER, ISP, str(self.stage.port), str(self.stage.folder / "seen")]
                self.stage.launch("subscriber", ["nsenter", "-t", str(self.world.isp), "-n", *words])

    faults = {one.name: one for one in (*APP_FAULTS, *SENSOR_FAULTS, *BOX_FAULTS)}
    ids: dict[str, str] = {}
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="incident-") as folder:
        world = World(Path(folder) / "world")
        try:
            with Stage(Path(folder) / "stage") as stage:
                (stage.folder / "register").write_text("0x20\n")
                far = world.folder / "mnt-far"
                far.mkdir()
                device = Told(stage, world, [world.disk("media"), far])
                device.set_up()
                ids |= {"watchdog reset": one["id"] for one in stage.answer("incidents") or [] if one["symptom"] == "WATCHDOG"}
                for kind, name in MADE.items():
                    for _ in range(TRIES):
                        print(f"incident: {kind}: {name}", file=sys.stderr)
                        try:
                            ids[kind] = make(device, faults[name])
                        except (StageError, OSError, subprocess.SubprocessError) as why:
                            missing[kind] = str(why)[:200]
                            continue
                        missing.pop(kind, None)
                        break
                time.sleep(3)
                device.events.close()
                lines = (stage.folder / "seen").read_text().split()
        finally:
            world.close()
    seen = {kind: row for kind, wanted in ids.items() if (row := largest(lines, wanted))}
    for kind in (*MADE, "watchdog reset"):
        if kind not in seen:
            missing.setdefault(kind, "it never came to the subscriber" if kind in ids else "it was not noticed")
    return {"seen": seen, "not": missing}


def make(device: Any, one: Any) -> str:
    """One fault, made and mended; the id of what was told of it."""
    device.at_rest(one.about)
    since, began_ns = device.events.mark(), time.monotonic_ns()
    try:
        one.make(device)
        told: str = device.told(since, one.app, one.symptoms, one.subject, one.limit_s, began_ns)["id"]
        time.sleep(one.settle_s)
    finally:
        one.mend(device)
        device.at_rest(one.about, SETTLE_S)
    return told


def _accepts(isp: int, host: str, port: int) -> bool:
    probe = f"import socket; socket.create_connection(('{host}', {port}), 1).close()"
    return subprocess.run(["nsenter", "-t", str(isp), "-n", sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def largest(lines: list[str], wanted: str) -> str:
    """The largest revision of this incident, as hex."""
    from incident import key_of

    from edgeheal.core.ids import short_id

    fitting = [line for line in lines if wanted.startswith(short_id(*key_of(bytes.fromhex(line)))[:4])]
    return max(fitting, key=len, default="")


if __name__ == "__main__":
    print(json.dumps(inside() if sys.argv[1:] == ["inside"] else payloads()))
