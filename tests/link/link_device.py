# SPDX-License-Identifier: Apache-2.0
"""A device's end of the link, of real parts: the shipped loop, disk, spool and link. Driven by the test, no thread of its own."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeheal.adapters.blocking import Workers
from edgeheal.adapters.disk import FolderDisk
from edgeheal.adapters.mqtt.link import MqttLink
from edgeheal.adapters.mqtt.settings import LinkSettings
from edgeheal.adapters.spool import Spool
from edgeheal.agent.loop import Loop
from edgeheal.core.incident import Cause, Incident
from edgeheal.core.kinds import CauseKind, IncidentState, Mode, Need, Severity, SymptomKind
from edgeheal.wire import standin, summary
from edgeheal.wire.birth import Birth
from edgeheal.wire.health import Health


def incident(number: int, *, session: bytes = b"", severity: Severity = Severity.WARNING, revision: int = 0, fingerprint: bytes = b"") -> Incident:
    return Incident(
        number,
        "gw",
        SymptomKind.EXIT,
        IncidentState.RESOLVED,
        severity,
        Need.NOTHING,
        Mode.ACT,
        fingerprint or number.to_bytes(8, "big"),
        0,
        1_795_600_000,
        0,
        True,
        revision=revision,
        closed_ns=10**9,
        downtime_ms=12,
        causes=(Cause(CauseKind.APP_CRASH, 0.9),),
        session=session,
    )


class Device:
    def __init__(self, folder: Path, settings: LinkSettings, **more: Any) -> None:
        self.session = more.pop("session", None) or os.urandom(6)
        self.signals: list[Any] = []
        self.downs: list[Any] = []
        self.loop = Loop(self.signals.append)
        self.workers = Workers()
        self.disk = FolderDisk(str(folder))
        self.spool = Spool(self.disk, self.signals.append, session=self.session, encode=lambda s: standin.encode(s, self.session))
        self.births = 0
        self.link = MqttLink(
            settings,
            session=self.session,
            spool=self.spool,
            blocking=self.workers,
            emit=self.signals.append,
            birth=self._birth,
            health=self._health,
            on_down=self.downs.append,
            **more,
        )
        self._ask: Callable[[], Any] = lambda: True
        self._end = 0.0
        self.answer: Any = None
        for name, source in (("workers", self.workers), ("disk", self.disk), ("spool", self.spool), ("link", self.link), ("until", self)):
            self.loop.add(name, source)

    def _birth(self) -> Birth:
        self.births += 1
        return Birth(self.session, boots=1, nonce=b"nonce123", agent="0.1.0", place="Lyon-3", hardware=b"hw-1")

    def _health(self) -> Health:
        return Health(self.session, self.loop.turns, every_s=1)

    def say(self, number: int, **more: Any) -> int:
        body = summary.encode(incident(number, session=self.session, **more), session=self.session)
        severity = int(more.get("severity", Severity.WARNING))
        return self.spool.put(body, severity=severity, fingerprint=number.to_bytes(8, "big"), critical=severity >= 2)

    def until(self, ask: Callable[[], Any], seconds: float = 15.0, what: str = "") -> Any:
        """Drive the loop until `ask` answers; AssertionError after `seconds`."""
        self._ask, self._end = ask, time.monotonic() + seconds
        self.answer = None
        self.loop._stop = False
        self.loop.run(self._look)
        assert self.answer, f"waited {seconds} s in vain for {what or ask}: {self.link.view()} {self.signals[-5:]}"
        return self.answer

    def run_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, seconds + 5)

    def _look(self) -> None:
        self.answer = self._ask()
        if self.answer or time.monotonic() >= self._end:
            self.loop.stop()
            self._end = 0.0

    # the loop's own source: the deadline, and a look ten times a second at what the test waits for

    def fds(self) -> dict[int, int]:
        return {}

    def ready(self, fd: int, events: int) -> None: ...

    def due(self) -> int:
        return time.monotonic_ns() + 20_000_000 if self._end else 1

    def tick(self, now_ns: int) -> None: ...

    def close(self) -> None:
        self.link.close()
        self.workers.close()
