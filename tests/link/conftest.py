# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from device import Device

from edgeheal.adapters.mqtt.settings import LinkSettings
from edgeheal.core.errors import StoreError
from edgeheal.fleet.store import Store
from edgeheal.lab.broker import Broker, kinds


def pytest_generate_tests(metafunc: Any) -> None:
    if "broker_kind" in metafunc.fixturenames:
        metafunc.parametrize("broker_kind", kinds())


@pytest.fixture
def broker(tmp_path: Path, broker_kind: str) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", broker_kind) as running:
        yield running


class ControllerProcess:
    """The shipped controller as its own process."""

    def __init__(self, folder: Path, port: int, *more: str) -> None:
        self.store = str(folder / "fleet.db")
        self.log = folder / "controller.log"
        self.words = [
            sys.executable,
            "-m",
            "edgeheal.cli.main",
            "controller",
            "--broker",
            f"127.0.0.1:{port}",
            "--tenant",
            "t",
            "--store",
            self.store,
            *more,
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(10)

    def rows(self, sql: str) -> list[Any]:
        store = Store(self.store, writable=False)
        try:
            return store._db.execute(sql).fetchall()
        finally:
            store.close()

    def count(self, table: str = "records") -> int:
        try:
            return int(self.rows(f"select count(*) from {table}")[0][0])
        except StoreError:  # not made yet
            return 0


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


def wait_for(ask: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)
