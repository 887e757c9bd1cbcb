# SPDX-License-Identifier: Apache-2.0
"""What the agent says as it happens: `edgeheal watch --json`, followed in a thread, with the moment each line came.

Duty: keep events and let scenes wait for one. Invariant: when the agent dies the watch is begun again until `close`.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from edgeheal.lab.stage import StageError

Event = dict[str, Any]


class Followed(Protocol):
    """A device whose agent can be followed: a stage, or a box."""

    root: Path

    def environment(self) -> dict[str, str]:
        """That of the command that follows."""


class Events:
    """All events since the start, each with `at_ns` (monotonic, ours)."""

    def __init__(self, stage: Followed) -> None:
        """Begin to follow at once."""
        self._stage = stage
        self._seen: list[Event] = []
        self._news = threading.Condition()
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._follow, name="events", daemon=True)
        self._thread.start()

    def mark(self) -> int:
        """A place in the stream: events from here on."""
        with self._news:
            return len(self._seen)

    def wait(self, since: int, fits: Callable[[Event], bool], seconds: float, what: str) -> Event:
        """The first event from `since` on that `fits`; StageError after `seconds`, with what came instead."""
        end = time.monotonic() + seconds
        at = since
        with self._news:
            while True:
                while at < len(self._seen):
                    event = self._seen[at]
                    at += 1
                    if fits(event):
                        return event
                left = end - time.monotonic()
                if left <= 0:
                    last = [{k: v for k, v in e.items() if k != "at_ns"} for e in self._seen[since:]][-3:]
                    raise StageError(f"waited {seconds:.0f} s in vain for {what}; last events: {last}")
                self._news.wait(left)

    def find(self, since: int, fits: Callable[[Event], bool]) -> Event | None:
        """The first event from `since` on that fits, as of now."""
        with self._news:
            return next((e for e in self._seen[since:] if fits(e)), None)

    def close(self) -> None:
        """Stop following."""
        self._closed = True
        if self._process is not None:
            self._process.kill()
        self._thread.join(5)

    def _follow(self) -> None:
        words = [sys.executable, "-m", "edgeheal.cli.main", "watch", "--json", "--root", str(self._stage.root)]
        while not self._closed:
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=self._stage.environment()) as process:
                self._process = process
                for line in process.stdout or ():
                    self._add(json.loads(line))
            time.sleep(0.1)

    def _add(self, event: Event) -> None:
        event["at_ns"] = time.monotonic_ns()
        with self._news:
            self._seen.append(event)
            self._news.notify_all()
