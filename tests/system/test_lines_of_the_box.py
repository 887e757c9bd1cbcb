# SPDX-License-Identifier: Apache-2.0
"""fc-sen-1 and fc-sen-3 on a whole device: meters on a real line over a pty, no app, a hook that gives power back."""

import contextlib
import errno
import os
import pty
import threading
import tty

import pytest

from edgeheal.adapters.sensors.rtu import sealed
from edgeheal.lab import demo
from edgeheal.lab.events import Events
from edgeheal.lab.stage import Stage, until

CONFIG = """
mode = "act"

[device]
id = "gw-7"

[hooks]
power = true

[remedies.look_again]
probation = "3s"

[remedies.power_cycle]
mode = "act"
probation = "3s"
"""
METER = """
[sensors.meter{n}]
kind = "modbus"
device = "{line}"
slave = {n}
every = "1s"
unit = "V"
power = {n}
"""
HOOK = '#!/bin/sh\nprintf "%s" "$EDGEHEAL_TARGET" > {ran}\n'


class Cable:
    """A pty behind a stable link: slaves that have power answer; it can be pulled and come back under another name."""

    def __init__(self, folder):
        self.link = folder / "dev/serial/by-id/usb-acme_0001"
        self.link.parent.mkdir(parents=True)
        self.powered = {1, 2, 3}
        self.count = 0
        self.spares = []
        self.plug()

    def plug(self):
        self.near, far = pty.openpty()
        tty.setraw(far)
        self.path = os.ttyname(far)
        os.close(far)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(self.path)
        threading.Thread(target=self._serve, args=(self.near,), daemon=True).start()

    def pull(self):
        self.link.unlink()
        near, self.near = self.near, -1
        os.close(near)

    def _serve(self, fd):
        data = b""
        os.set_blocking(fd, False)
        while fd == self.near:
            try:
                data += os.read(fd, 256)
            except OSError as fault:
                if fault.errno not in (errno.EIO, errno.EAGAIN):
                    return
                threading.Event().wait(0.004)
            while len(data) >= 8:
                ask, data = data[:8], data[8:]
                self.count += 1
                if ask[0] in self.powered:
                    with contextlib.suppress(OSError):
                        os.write(fd, sealed(bytes([ask[0], 3, 2, 0, 210 + self.count % 20])))

    def close(self):
        near, self.near = self.near, -1
        for fd in (near, *self.spares):
            os.close(fd)


@pytest.mark.system
def test_fc_sen_1_and_3_on_a_device_without_an_app(tmp_path):
    cable = Cable(tmp_path)
    ran = tmp_path / "ran"
    with Stage(tmp_path / "stage") as stage:
        for name in ("root", "release", "operator", "technician"):
            stage.edgeheal("key", "new", "-o", str(stage.keys / f"{name}.key"))
        words = [w for role in ("release", "operator", "technician") for w in (f"--{role}", str(stage.keys / f"{role}.key.pub"))]
        stage.edgeheal("key", "trust", "--root-key", str(stage.keys / "root.key"), *words, "-o", str(demo.trust_folder(stage) / "00001.eht"))
        stage.write_config(CONFIG + "".join(METER.format(n=n, line=cable.link) for n in (1, 2, 3)))
        hook = stage.root / "etc/edgeheal/hooks/power-cycle.d/10-relay"
        hook.parent.mkdir(parents=True)
        hook.write_text(HOOK.format(ran=ran))
        hook.chmod(0o755)
        (stage.root / "etc/edgeheal/hooks/power-cycle.targets").write_text("relay-1\nrelay-2\nrelay-3\n")
        stage.start("guard", "guard", "--root", str(stage.root))
        until(lambda: (stage.answer("status") or {}).get("agent") == "ok", 30, "the agent to answer", every=0.2)
        events = Events(stage)

        def told(since, what):
            return events.wait(since, lambda e: e["event"] == "incident" and e["state"] != "RESOLVED", 40, what)

        def ended(since, incident):
            return events.wait(since, lambda e: e["event"] == "incident" and e["id"] == incident and e["state"] == "RESOLVED", 60, "its end")

        def others(since, incident):
            return events.find(since, lambda e: e["event"] == "incident" and e["id"] != incident)

        until(lambda: cable.count > 12, 30, "the meters to be asked")
        # -- the adapter drops out and comes back under another name
        since, old = events.mark(), cable.path
        cable.pull()
        out = told(since, "the outage of the line")
        assert (out["app"], out["symptom"]) == ("", "SENSOR_MISSING")
        cable.spares += pty.openpty()  # the old name is taken
        cable.plug()
        assert cable.path != old
        over = ended(since, out["id"])
        assert over["cause"] == "BUS"
        assert others(since, out["id"]) is None, "one incident, none for the meters"
        assert not ran.exists()
        # -- one meter loses its power: the others go on, its own feed is switched off and on
        since = events.mark()
        cable.powered = {1, 3}
        dead = told(since, "the meter that is dead")
        assert (dead["subject"], dead["cause"]) == ("meter2", "SENSOR")
        until(ran.exists, 60, "its power to be cycled", every=0.2)
        assert ran.read_text() == "relay-2"
        cable.powered = {1, 2, 3}
        ended(since, dead["id"])
        assert "power cycle" in stage.on_device("explain", dead["id"]).stdout.decode()
        assert others(since, dead["id"]) is None
    cable.close()
