# SPDX-License-Identifier: Apache-2.0
"""Standing orders: what the guard does about an app's end while no agent is there to decide.

Duty: keep orders durably; say when, if at all, an app is started again without an agent. It starts nothing by itself.
Invariants: an order is bounded in number and life; a crash loop is met with growing waits, and once an order is used up with a slow retry
for ever, never with silence; what was wanted and what is paused is asked each time; an order's use is counted through our own death.
Light on purpose: the resident guard imports it.
"""

import time

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.guard.blocks import Blocks
from edgeheal.guard.loop import NS
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.app import App
    from edgeheal.guard.body import Body
    from edgeheal.guard.loop import Timer

SIZE = 16_384
MOST_STARTS = 1_000
WRITES_LEAST, WRITES_IN_S = 32, 3_600
LONGEST_S = 30 * 86_400
DEFAULT_STARTS = 5  # without an order: so many starts in WINDOW_S, then the slow retry
WINDOW_S = 600
SLOW_S = 900.0
HEALTHY_NS = 60 * NS
HELD_S = 60.0  # an app that the agent itself had stopped is left alone so long after the agent is gone
PORT_S = 30.0


class Orders:
    """The table of orders. `fire(app)` is called when one is due."""

    def __init__(self, body: "Body") -> None:
        """Reads what is kept; a damaged file is as if no order had been given (the default is bounded, too)."""
        self._body = body
        self._blocks = Blocks(f"{body.layout.guard}/orders", SIZE)
        self._table: dict[str, list[int]] = {}
        self._timers: dict[str, Timer] = {}
        self._written: list[int] = []
        try:
            value = self._blocks.load() or {}
        except OSError:
            value = {}
        for app, row in (value.get("orders") or {}).items():
            if isinstance(row, list) and len(row) == 3:
                self._table[app] = [int(word) for word in row]

    def place(self, app: str, most: int, life_s: int) -> int:
        """The agent's word: at most `most` starts, for `life_s` box seconds. 0 or a reason."""
        if most > MOST_STARTS or life_s > LONGEST_S:
            return reasons.TOO_MANY
        row = [most, self._body.keeper.box_s() + life_s, 0]
        kept = self._table.get(app)
        if kept is not None and kept[0] == most and kept[2] == 0 and abs(kept[1] - row[1]) < life_s // 4:
            return reasons.OK  # as good as the one we have: no write
        if not self._may_write():
            return reasons.BUDGET_SPENT
        self._table[app] = row
        return reasons.OK if self._keep() else reasons.UNWRITABLE

    def _may_write(self) -> bool:
        """An agent that changes its mind all the time must not wear out the flash."""
        now = time.monotonic_ns()
        self._written = [at for at in self._written if now - at < WRITES_IN_S * NS]
        if len(self._written) >= max(WRITES_LEAST, 2 * len(self._body.supervisor.apps)):
            return False
        self._written.append(now)
        return True

    def row(self, app: str) -> "tuple[int, int, int] | None":
        """(most, until box seconds, used), or None when there is no order (any more)."""
        row = self._table.get(app)
        if row is None or self._body.keeper.box_s() >= row[1]:
            return None
        return row[0], row[1], row[2]

    def ended(self, app: "App", *, port_held: bool = False) -> None:
        """The app is down though it is wanted, and nobody is there to decide: start it when its turn comes."""
        self.cancel(app.name)
        wait_s = self._wait_s(app)
        if port_held:
            wait_s = max(wait_s, PORT_S)
        elif app.held_by_agent:
            wait_s = max(wait_s, HELD_S)
        if wait_s <= 0:
            self._fire(app)
        else:
            self._timers[app.name] = self._body.loop.after(wait_s, lambda: self._fire(app))

    def cancel(self, app: str) -> None:
        """Somebody decides now."""
        timer = self._timers.pop(app, None)
        if timer is not None:
            timer.cancel()

    def _wait_s(self, app: "App") -> float:
        """0 for the first exit after a healthy run, then 1, 2, 4 ... s; the slow retry once the order (or the default) is used up."""
        row = self.row(app.name)
        now = time.monotonic_ns()
        recent = [at for at in app.exits if now - at < WINDOW_S * NS]
        if row is not None and row[2] >= row[0]:
            return self._slow_s()
        if row is None and len(recent) > DEFAULT_STARTS:
            return self._slow_s()
        streak = len(recent)
        if streak <= 1:
            return 0.0
        return min(2.0 ** (streak - 2), 60.0)

    def _slow_s(self) -> float:
        return float(self._body.config.get("slow_retry_s") or SLOW_S)

    def _fire(self, app: "App") -> None:
        self._timers.pop(app.name, None)
        body = self._body
        wanted = body.keeper.wanted(app.name)
        if app.phase != f.PHASE_STOPPED or app.finished or app.taken or body.doors.agent_follows():
            return
        if not wanted.running:
            return
        if wanted.pause_until > body.keeper.box_s():
            self._timers[app.name] = body.loop.after(max(1.0, wanted.pause_until - body.keeper.box_s()), lambda: self._fire(app))
            return
        row = self._table.get(app.name)
        used = 0
        if row is not None and self.row(app.name) is not None:
            row[2] += 1
            used = row[2]
            app.record.keep(order=list(row))  # on tmpfs: a restart waits for no flash
        body.doors.tell(f.pack_event(f.EV_FIRED, app=app.name, run=app.run_number, a=used))
        body.supervisor.start(app.name, k.BY_STANDING_ORDER)

    def refused(self, app: "App") -> None:
        """A start by order was refused or failed: the slow retry, for ever."""
        self.cancel(app.name)
        self._timers[app.name] = self._body.loop.after(self._slow_s(), lambda: self._fire(app))

    def adopt(self, app: "App") -> None:
        """How far an order was used by the guard before us."""
        kept, row = app.record.value.get("order"), self._table.get(app.name)
        if row is not None and isinstance(kept, list) and len(kept) == 3 and kept[1] == row[1]:
            row[2] = max(row[2], int(kept[2]))

    def _keep(self) -> bool:
        try:
            self._blocks.store({"v": 1, "orders": self._table})
        except OSError:
            return False
        return True
