# SPDX-License-Identifier: Apache-2.0
"""A watchdog reset, from the register that tells it to the fleet's topic: shipped guard, agent and broker."""

import os
import shutil
import signal
import uuid

import pytest
from dog_box import preloaded

from edgeheal.core.kinds import CauseKind, SymptomKind
from edgeheal.fleet.session import Address, Session
from edgeheal.lab import demo
from edgeheal.lab.broker import kinds
from edgeheal.lab.stage import Stage, until
from edgeheal.wire import summary

MORE = """
[boot]
pstore = []
[reset.board]
file = "{register}"
means = ["0x20 watchdog", "0x1000 power-loss"]
"""


class Bare:
    """A device without apps at a broker, whose boots are made here."""

    def __init__(self, stage, library):
        self.stage = stage
        self.fake = stage.folder / "fake"
        self.fake.mkdir()
        self.register = stage.folder / "register"
        self.register.write_text("0x1000\n")
        self.library = library
        for name in ("root", "release", "operator", "technician"):
            stage.edgeheal("key", "new", "-o", str(stage.keys / f"{name}.key"))
        keys = [word for role in ("release", "operator", "technician") for word in (f"--{role}", str(stage.keys / f"{role}.key.pub"))]
        stage.edgeheal("key", "trust", "--root-key", str(stage.keys / "root.key"), *keys, "-o", str(demo.trust_folder(stage) / "00001.eht"))
        text = demo.DEVICE_TOML.format(device=stage.device, tenant=stage.tenant, port=stage.port, python=demo.python())
        stage.write_config(text + MORE.format(register=self.register))
        demo.start_broker(stage)
        stage.start("controller", "controller", "--broker", f"127.0.0.1:{stage.port}", "--tenant", stage.tenant, "--store", str(stage.store))

    def boot(self):
        """Another boot id, nothing left in /run or of the processes."""
        if "guard" in self.stage.programs:
            agent = (self.stage.answer("status") or {}).get("agent_pid", 0)
            self.stage.programs.pop("guard").kill()
            if agent:
                os.kill(agent, signal.SIGKILL)
            shutil.rmtree(self.stage.root / "run")
        (self.fake / "boot_id").write_text(f"{uuid.uuid4()}\n")
        with preloaded(self.library, self.fake):
            self.stage.start("guard", "guard", "--root", str(self.stage.root))
        until(lambda: (said := self.stage.answer("status") or {}).get("agent") == "ok" and said["boot_reason"], 30, "the agent to know why", every=0.2)


@pytest.mark.system
def test_a_watchdog_reset_reaches_the_fleet_and_the_screen_says_why_the_box_booted(tmp_path, fakedog):
    if not kinds():
        pytest.skip("no broker here")
    with Stage(tmp_path) as stage:
        device = Bare(stage, fakedog)
        device.boot()
        assert stage.answer("status")["boot_reason"] == "power loss"
        assert "last boot: power loss" in " ".join(stage.on_device("status").stdout.decode().split())
        fleet = Session(Address("127.0.0.1", stage.port), "plain", clean=True)
        fleet.subscribe(f"eh/1/{stage.tenant}/+/up/incident", qos=1)
        try:
            device.register.write_text("0x20\n")
            device.boot()
            said = stage.answer("status")
            assert said["boot_reason"] == "watchdog"
            assert said["agent_pid"] > 1
            os.kill(said["agent_pid"], signal.SIGSTOP)
            offline = stage.answer("status")
            os.kill(said["agent_pid"], signal.SIGCONT)
            assert (offline["agent"], offline["boot_reason"]) == ("unreachable", "watchdog"), "with the agent dead the guard tells it"
            seen = []

            def told():
                for message in fleet.wait(0.3):
                    fleet.acknowledge([message.mid] if message.mid else [])
                    seen.append((len(message.payload), summary.read(message.payload).incident))
                return next((row for row in seen if row[1].symptom is SymptomKind.WATCHDOG), None)

            size, incident = until(told, 30, "the incident at the broker")
        finally:
            fleet.close()
        assert incident.causes[0].kind is CauseKind.WATCHDOG
        assert any("board says 0x20" in fact.text for fact in incident.evidence), "with what it rests on"
        assert size <= 245, "the bound of an incident on the wire"
