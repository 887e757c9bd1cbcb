# SPDX-License-Identifier: Apache-2.0
"""The guard's children keep the promises of `ports.AppProvider`, asked through its doors."""

from dataclasses import dataclass

import pytest

from edgeheal.wire import guard_frames as f
from tests.contracts.app_provider import AppProviderContract
from tests.guard.conftest import until


@dataclass
class Row:
    app: str
    phase: int
    run: int
    pid: int
    wanted: bool
    wanted_by: int
    tree: tuple[int, ...] = ()


class GuardsChildren:
    """An AppProvider over the doors of a running guard: a person starts and stops, the agent restarts."""

    def __init__(self, box):
        self.box = box
        self.person = box.door()
        self.agent = box.door(agent=True)

    def state(self, app):
        row = self.box.row(app)
        return Row(app, row["phase"], row["run"], row["pid"], bool(row["wanted"]), row["by"])

    def start(self, app, by):
        self.person.ask(f.START, app=app)

    def stop(self, app, by):
        self.person.ask(f.STOP, app=app)

    def restart(self, app, by):
        self.agent.ask(f.RESTART, app=app)

    def tree(self, app):
        import os

        from tests.guard.test_adoption import environ

        mark, root = f"EDGEHEAL_RUN={app}:".encode(), f"EDGEHEAL_ROOT={self.box.root}".encode()
        return tuple(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and mark in environ(pid) and root in environ(pid))

    def exits(self):
        self.agent.seen += self.agent.events(0.02)
        seen, self.agent.seen = self.agent.seen, []
        for event in seen:
            if event.kind == f.EV_EXITED:
                yield event.app, event.run, event.a if event.code & f.X_CODE else None, event.a if event.code & f.X_SIGNAL else None


class TestGuardsChildren(AppProviderContract):
    @pytest.fixture
    def provider(self, box):
        box.app("calm")
        box.app("brief", "after_ms=100", "exit=3")
        for name in ("calm", "brief"):
            (box.bare / f"{name}.wanted").write_bytes(b"D\0\0\0\0")
            from edgeheal.image.records import pack

            (box.bare / f"{name}.wanted").write_bytes(pack([False, 2, 0, 0]))
        box.start()
        until(lambda: box.row("calm")["phase"] == f.PHASE_STOPPED)
        return GuardsChildren(box)
