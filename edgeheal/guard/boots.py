# SPDX-License-Identifier: Apache-2.0
"""The book of boots: how the boot before ended, what was seen at the start of this one, and how many nobody had wanted.

Duty: keep it durably, look once a boot, answer WHY. It judges nothing: what the witnesses mean is `detect.reset`'s.
Invariants: a mark (an order, an orderly end) is durable before what it speaks of; an order that was not carried out is withdrawn; witnesses that
can be read once are read once a boot, early, and kept with the boot's id; an image on trial under which the box went down three times unordered
is out before anything is started; in a boot loop no remedy reboots. Field cases fc-dog-2, fc-dog-3.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD, TRIAL
from edgeheal.guard import asks
from edgeheal.guard.blocks import DAMAGED, FRESH, NEWER, Blocks
from edgeheal.guard.boxtime import REST_S
from edgeheal.guard.deployments import goes_back_to
from edgeheal.guard.steps import Refused, run
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.doors import Request
    from edgeheal.guard.parts import Parts

    Value = dict[str, Any]
    Row = tuple[int, int, int, int, str, str]  # W_*, a, b, c, text, app

SIZE = 8_192
LOOP_BOOTS = 3
LOOP_S = 3_600
MOST_BOOTS = 16
MOST_ROWS = 32
YOUNG_S = 7 * 86_400  # an image that served so long is no suspect
WALL_LEAST = 1_700_000_000  # a clock before this was never set
CHILD = "edgeheal.guard.witness_child"
RUNNING, GUARD_ENDED, TO_REBOOT, TO_OFF, UNREADABLE, GOES_DOWN = range(6)  # detect.reset.END_*
ORDERED_SURE = (TO_REBOOT, TO_OFF, GOES_DOWN)


class Boots:
    """The book. `value` is what is kept: boot, end, order, before {end, order, armed, off, first}, unplanned, answers, ordered, number, rows, seen, lies, armed, for_agent."""

    __slots__ = ("_blocks", "_looking", "_parts", "_waiting", "value")

    def __init__(self, parts: "Parts") -> None:
        """Nothing is read before `begin`."""
        self._parts = parts
        self._blocks = Blocks(f"{parts.body.layout.guard}/boots", SIZE)
        self._waiting: list[Request] = []
        self._looking = False
        self.value: Value = {}

    # -- the start of a boot, or of a guard within one

    def begin(self) -> None:
        """Turn the page if this is a new boot; durable before any app is started."""
        box = self._parts.ledger.box
        try:
            value = self._blocks.load() or {}
            found = self._blocks.found
        except OSError:
            value, found = {}, DAMAGED
        self._parts.body.doors.verb(f.WHY, self._why)
        self._forget_word()
        if value.get("boot") == box.boot:
            self.value = value
            if value.get("end") or value.get("order"):
                self._keep(end=RUNNING, order=[])  # the guard was restarted, or what was ordered did not happen
            return
        first = found == FRESH
        end = UNREADABLE if found in (DAMAGED, NEWER) else int(value.get("end") or 0)
        order = list(value.get("order") or ())
        kept = box.now_s() - LOOP_S
        unplanned = [t for t in value.get("unplanned") or () if t > kept][-(MOST_BOOTS - 1) :]
        if not first and not order and end == RUNNING:
            unplanned.append(box.now_s())
        looping = len(unplanned) >= LOOP_BOOTS
        self.value = {
            "boot": box.boot, "end": RUNNING, "order": [], "unplanned": unplanned, "number": int(value.get("number") or 0),
            "answers": int(value.get("answers") or 0) if looping else 0, "ordered": int(value.get("ordered") or 0) + 1 if order else 0,
            "before": {"end": end, "order": order, "armed": int(value.get("armed") or 0), "off": self._off_s(), "first": int(first)},
            "seen": list(value.get("seen") or ()), "lies": dict(value.get("lies") or {}), "armed": 0, "for_agent": int(value.get("for_agent") or 0),
        }  # fmt: skip
        self._keep()

    def _off_s(self) -> int:
        """How long the box was off by its own clock; -1 when that cannot be told."""
        wall = self._parts.ledger.box.before[1]
        now = int(time.time())
        if wall < WALL_LEAST or now < WALL_LEAST:
            return -1
        gap = now - int(time.monotonic()) - wall - REST_S  # the last word may be that old
        return gap if gap > 0 else -1

    def _keep(self, **words: "Any") -> bool:
        self.value |= words
        try:
            self._blocks.store(self.value)
        except OSError:
            return False
        return True

    # -- boot loops

    @property
    def looping(self) -> bool:
        """Whether the box went down unordered too often lately."""
        kept = self._parts.ledger.box.now_s() - LOOP_S
        lately = [t for t in self.value.get("unplanned") or () if t > kept]
        return len(lately) >= LOOP_BOOTS

    def out_on_trial(self) -> None:
        """Images on trial under which the box went down so often have failed, agent or not; before anything is started."""
        for app in list(self._parts.apps.values()):
            one = app.running
            if one is None or one.state != TRIAL or app.rebuilding or goes_back_to(app.state, one, lower=True) is None:
                continue
            if sum(t >= one.marked for t in self.value.get("unplanned") or ()) >= LOOP_BOOTS:
                self._parts.trials.failed(app, one.id, reasons.BOOT_LOOP)
                self.answered(f.L_ROLLBACK)

    def answered(self, how: int) -> None:
        """An answer to the loop was given: the next boot goes on from there."""
        if self.looping and not int(self.value.get("answers") or 0) & how:
            self._keep(answers=int(self.value.get("answers") or 0) | how)

    def _suspect(self) -> str:
        """The app whose image is the youngest here, if it is young and there is a known-good one before it."""
        young = []
        for app in self._parts.apps.values():
            one = app.running
            if one is not None and not app.rebuilding and one.state in (TRIAL, GOOD) and goes_back_to(app.state, one, lower=one.state == TRIAL) is not None:
                young.append((one.served, app.name))
        served, name = min(young, default=(YOUNG_S, ""))
        return name if served < YOUNG_S else ""

    # -- marks

    def order(self, kind: int) -> int:
        """Durable before anything is done: the next boot knows that it was ordered, and by which order. The order's number; Refused."""
        number = int(self.value.get("number") or 0) + 1
        if not self._keep(order=[kind, number], number=number):
            raise Refused(reasons.UNWRITABLE, "the mark of the order could not be written")
        return number

    def withdraw(self) -> None:
        """What was ordered does not happen."""
        self._keep(order=[])

    def agent_reboot(self, *, used: bool) -> bool:
        """The one reboot for an agent that will not stay: False when it was used already, or cannot be noted."""
        if used:
            return not self.value.get("for_agent") and self._keep(for_agent=1)
        if self.value.get("for_agent"):
            self._keep(for_agent=0)
        return True

    @property
    def ordered(self) -> "tuple[int, int] | None":
        """What was ordered in this boot: (kind, number)."""
        order = list(self.value.get("order") or ())
        return (int(order[0]), int(order[1])) if len(order) == 2 else None

    def ended(self, how: int) -> None:
        """The guard ends in order; how the system goes on, as far as it is known."""
        if self.value:
            self._keep(end=how)

    @property
    def word(self) -> str:
        """Where an init without better words says what it is about to do: `reboot`, `poweroff`, or `down` where it does not know."""
        return f"{self._parts.body.layout.run}/shutdown"

    def _forget_word(self) -> None:
        try:
            os.unlink(self.word)
        except OSError:
            return

    # -- witnesses

    def look(self) -> None:
        """Read what this boot can tell, once, in a child; called when the watchdogs are open."""
        if "rows" in self.value or self._looking:
            self._served()
            return
        self._looking = True
        run(self._look(), self._looked)

    def _look(self) -> "Any":
        boot = self._parts.body.config.get("boot") or {}
        request = {
            "pstore": list(boot.get("pstore") or ()), "clear": bool(boot.get("clear_pstore")), "keep": f"{self._parts.body.layout.guard}/pstore",
            "sources": list(boot.get("sources") or ()), "seen": self.value["seen"], "first": self.value["before"]["first"],
        }  # fmt: skip
        return (yield asks.helper(self._parts.body, CHILD, request, deadline_s=20, libraries=False))

    def _looked(self, said: "Any") -> None:
        """What the child found, with what we know ourselves, is kept with the boot's id."""
        self._looking = False
        found: Value = {} if isinstance(said, Refused) else said
        before, lies = self.value["before"], dict(self.value["lies"])
        sure = bool(before["order"]) and before["end"] in ORDERED_SURE
        rows = [list(row) for row in found.get("rows") or ()][: MOST_ROWS // 2]
        dogs = self._parts.verbs.box.watchdog.witnesses() if (self._parts.body.config.get("watchdog") or {}).get("device") else []
        known = {dog[0] for dog in dogs}
        dogs += [(str(n), int(s), int(t), 0) for n, s, t in found.get("dogs") or () if n not in known]
        for name, status, flags, timeout_s in dogs[:8]:
            armed = f.D_ARMED if before["armed"] else 0
            rows.append([f.W_DOG, max(0, status), flags & ~f.D_ARMED | armed | (f.D_LIES if lies.get(name) else 0), timeout_s, name, ""])
            if sure and not flags & f.D_UNKNOWN:  # learned for the next boot: this time both may be true, an order and a shutdown that hung
                lies = {k: v for k, v in lies.items() if k != name} | ({name: 1} if status & 0x20 else {})
        armed_now = int(any(dog[2] & f.D_ARMED for dog in dogs))
        words: Value = {"rows": rows[:MOST_ROWS], "seen": list(found.get("seen") or self.value["seen"])[-16:], "lies": dict(list(lies.items())[-8:])}
        if isinstance(said, Refused):
            words.pop("rows")  # looked at again by the next guard of this boot
            self.value["rows"] = rows
        self._keep(armed=armed_now, **words)
        self._served()

    def _served(self) -> None:
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._answer(request)

    def _why(self, request: "Request") -> None:
        if "rows" in self.value:
            self._answer(request)
        else:
            self._waiting.append(request)

    def _answer(self, request: "Request") -> None:
        for code, a, b, c, say, app in self._rows():
            request.row(f.pack_event(f.EV_BOOT, code=code, a=a, b=b, c=c, say=say.encode()[:96], app=app))
        request.answer()

    def _rows(self) -> "list[Row]":
        value = self.value
        before = value["before"]
        rows: list[Row] = [(f.W_COUNT, self._parts.ledger.box.boots, len(value["unplanned"]), value["answers"], self._parts.body.boot, "")]
        rows.append((f.W_END, before["end"], 0, 0, "", ""))
        if len(before["order"]) == 2:
            rows.append((f.W_ORDER, int(before["order"][0]), int(before["order"][1]), 0, "", ""))
        if before["off"] > 0:
            rows.append((f.W_OFF, before["off"], 0, 0, "", ""))
        if before["first"]:
            rows.append((f.W_FIRST, 0, 0, 0, "", ""))
        if self.looping and (suspect := self._suspect()):
            rows.append((f.W_SUSPECT, 0, 0, 0, "", suspect))
        for code, a, b, c, say, app in value.get("rows") or ():
            rows.append((code, a, b, value["ordered"] if code == f.W_TRIAL else c, say, app))
        return rows
