# SPDX-License-Identifier: Apache-2.0
"""The link keeps the contract of `ports.Link`, at each broker and with each version of MQTT."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contracts"))
from link import LinkContract

from edgeheal.fleet.session import Address, Session

pytestmark = pytest.mark.system


class TestMqttLink(LinkContract):
    @pytest.fixture(params=["5", "3.1.1"])
    def ends(self, request, broker, device):
        port = broker.port if request.param == "5" else broker.port_311
        watcher = Session(Address("127.0.0.1", broker.port), "other-end", clean=True)
        watcher.subscribe("eh/1/t/gw-1/up/#")
        said: list[tuple[str, bytes]] = []
        dev = device(port, version=request.param)

        def heard(topic: str) -> list[bytes]:
            for message in watcher.wait(0.01):
                watcher.acknowledge([message.mid] if message.mid else [])
                said.append((message.topic, message.payload))
            return [payload for name, payload in said if name == topic]

        yield dev.link, dev.until, heard
        watcher.close()
