# SPDX-License-Identifier: Apache-2.0
"""The agent's policy goes on while the agent is away: it has placed its orders beforehand, once, and status shows them."""

import os
import time
from dataclasses import replace

from edgeheal.adapters.guard_client import GuardClient
from edgeheal.agent.loop import Loop
from edgeheal.agent.standing import Standing, starts
from edgeheal.core.kinds import Mode, RemedyKind
from edgeheal.core.policy import AppPolicy, Policy
from edgeheal.engine.state import initial
from edgeheal.recover.app import App
from edgeheal.wire import guard_frames as f
from tests.guard.conftest import until

POLICY = Policy(apps={"two": AppPolicy(mode=Mode.OBSERVE)})
MOST = max(budget.most for budget in POLICY.remedy(RemedyKind.RESTART).budgets)


def test_an_order_is_what_the_policy_allows():
    assert starts(POLICY, "one") == MOST > 0
    assert starts(POLICY, "two") == 0


def agent(box, state, done, seconds=10.0):
    """A client and its orders in the agent's loop, until `done`."""
    loop = Loop(lambda _: None)
    client = GuardClient(str(box.root / "run/edgeheal/guard-agent.sock"), lambda _: None, heartbeat_s=0.2)
    standing = Standing(client)
    end = time.monotonic() + seconds

    def turn():
        standing.place(state)
        if done(standing):
            loop.stop()
        assert time.monotonic() < end, standing.known

    loop.add("guard", client)
    loop.run(turn)
    client._lost()
    return standing


def test_orders_are_placed_once_shown_and_hold_without_the_agent(box):
    box.app("one", "after_ms=0", "exit=1")
    box.app("two")
    state = replace(initial(1, b"sess01"), policy=POLICY, apps={"one": App("one"), "two": App("two")})
    door = box.start()
    agent(box, state, lambda standing: standing.known == {"one", "two"})
    for app in ("one", "two"):
        assert box.row(app)["flags"] & f.F_ORDERED
    written = {name: os.stat(box.root / f"var/lib/edgeheal/guard/{name}").st_mtime_ns for name in ("orders.a", "orders.b")}
    assert door.next(f.EV_FIRED, "one", seconds=20).a >= 1, "by order, not by default"
    until(lambda: door.next(f.EV_FIRED, "one", seconds=20).a >= 3, seconds=30)
    state = replace(state, apps={"two": App("two")})
    agent(box, state, lambda standing: standing.known == {"two"})
    assert {name: os.stat(box.root / f"var/lib/edgeheal/guard/{name}").st_mtime_ns for name in written} == written, "what the guard has is not written again"
