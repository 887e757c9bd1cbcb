# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from link_device import Device
from link_fleet import ControllerProcess

from edgeheal.adapters.mqtt.settings import LinkSettings
from edgeheal.lab.broker import Broker, kinds


def pytest_generate_tests(metafunc: Any) -> None:
    if "broker_kind" in metafunc.fixturenames:
        metafunc.parametrize("broker_kind", kinds()[: getattr(metafunc.module, "BROKERS_MOST", 2)])


@pytest.fixture
def broker(tmp_path: Path, broker_kind: str) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", broker_kind) as running:
        yield running


@pytest.fixture
def controller(tmp_path: Path, broker: Broker) -> Iterator[ControllerProcess]:
    running = ControllerProcess(tmp_path, broker.port)
    yield running
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    made: list[Device] = []

    def make(port: int, name: str = "gw-1", folder: str = "agent", session: bytes | None = None, **words: Any) -> Device:
        words = {"tls": False, "heartbeat_s": 60, "backoff_first_s": 0.2, "backoff_cap_s": 2.0} | words
        settings = LinkSettings("127.0.0.1", "t", name, port, **words)
        made.append(Device(tmp_path / folder, settings, session=session))
        return made[-1]

    yield make
    for one in made:
        one.close()
