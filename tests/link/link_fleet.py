# SPDX-License-Identifier: Apache-2.0
"""The shipped controller as a process of its own, and a wait with a deadline."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeheal.core.errors import StoreError
from edgeheal.fleet.store import Store


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
        except (StoreError, sqlite3.Error):  # not made yet
            return 0


def wait_for(ask: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
        time.sleep(0.02)
