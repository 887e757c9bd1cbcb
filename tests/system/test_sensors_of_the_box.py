# SPDX-License-Identifier: Apache-2.0
"""Sensors that the agent reads itself, over a file and over a pty: a whole device notices what goes wrong with them."""

import contextlib
import os
import pty
import threading
import tty

import pytest

from edgeheal.lab import demo
from edgeheal.lab.events import Events
from edgeheal.lab.stage import Stage, free_port, until

SENSORS = """
[sensors.cabinet]
app = "sensor-gw"
path = "{file}"
every = "200ms"
scale = 0.001
low = -10
high = 60

[sensors.flow]
app = "sensor-gw"
kind = "line"
device = "{line}"
field = "flow"
every = "300ms"
"""


class Instrument:
    """A program behind a pty that says a flow five times a second, until it is muted."""

    def __init__(self):
        self.near, far = pty.openpty()
        tty.setraw(far)
        self.path = os.ttyname(far)
        os.close(far)  # a line that somebody else has open is not opened
        self.muted = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        os.set_blocking(self.near, False)
        count = 0
        while not self._end.wait(0.2):
            count += 1
            if not self.muted:
                with contextlib.suppress(BlockingIOError):
                    os.write(self.near, b'{"flow": %d.5}\n' % (10 + count % 5))

    def close(self):
        self._end.set()
        self._thread.join(5)
        os.close(self.near)


@pytest.fixture
def instrument():
    made = Instrument()
    yield made
    made.close()


def put(path, text):
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").replace(path)


@pytest.mark.system
def test_a_device_notices_a_hot_cabinet_and_a_mute_instrument_and_restarts_nobody(tmp_path, instrument):
    with Stage(tmp_path) as stage:
        for name in ("root", "release", "operator", "technician"):
            stage.edgeheal("key", "new", "-o", str(stage.keys / f"{name}.key"))
        keys = {role: str(stage.keys / f"{role}.key.pub") for role in ("release", "operator", "technician")}
        words = [word for role, path in keys.items() for word in (f"--{role}", path)]
        stage.edgeheal("key", "trust", "--root-key", str(stage.keys / "root.key"), *words, "-o", str(demo.trust_folder(stage) / "00001.eht"))
        cabinet = tmp_path / "temp1_input"
        put(cabinet, "21500\n")
        config = demo.DEVICE_TOML.format(device=stage.device, tenant=stage.tenant, port=1, python=demo.python())
        stage.write_config(config[: config.index("[link]")] + SENSORS.format(file=cabinet, line=instrument.path))
        port = free_port()
        bundle = demo.build(stage, "v1", version="1.0.0", fault="", port=port, counter=1)
        own = tmp_path / "temperature"
        world = demo.World(own)
        try:
            stage.start("guard", "guard", "--root", str(stage.root))
            until(lambda: (stage.answer("status") or {}).get("agent") == "ok", 30, "the agent to answer", every=0.2)
            events = Events(stage)
            stage.on_device("app", "config", "set", "sensor-gw", "-", stdin=b'{"listen": %d, "sensor": "%s", "period_s": 0.25}' % (port, str(own).encode()))
            stage.on_device("image", "install", str(bundle))
            row = lambda: next((r for r in (stage.answer("status") or {}).get("apps", []) if r["app"] == "sensor-gw"), {})  # noqa: E731
            until(lambda: row().get("image_state") == "good", 60, "the app to be known good", every=0.25)
            pid = row()["pid"]

            def told(since, symptom, subject):
                return events.wait(
                    since, lambda e: e["event"] == "incident" and e["symptom"] == symptom and e["state"] != "RESOLVED", 40, f"{symptom} of {subject}"
                )

            def ended(since, incident):
                return events.wait(since, lambda e: e["event"] == "incident" and e["id"] == incident and e["state"] == "RESOLVED", 90, "its end")

            since = events.mark()
            put(cabinet, "71000\n")
            hot = told(since, "SENSOR_RANGE", "cabinet")
            put(cabinet, "22000\n")
            ended(since, hot["id"])
            since = events.mark()
            instrument.muted = True
            mute = told(since, "SENSOR_MISSING", "flow")
            instrument.muted = False
            ended(since, mute["id"])
            assert hot["cause"] == mute["cause"] == "SENSOR"
            assert row()["pid"] == pid, "a bad sensor is no reason to restart an app that works"
        finally:
            world.close()
