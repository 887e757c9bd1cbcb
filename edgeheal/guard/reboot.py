# SPDX-License-Identifier: Apache-2.0
"""Reboot and power-off: asked for, allowed, announced, carried out.

Duty: budget, interlock, the durable mark *ordered by us, id N*, the dog's last word, then the way out. It never decides that a reboot is due.
Invariants: refused unless the device's config enables reboots; a boot loop is never answered by another reboot; the mark is durable before anything
is done, and withdrawn when it was not done; `hooks/before-reboot.d` may say not now (a system on trial: its boot counter is restored there); a reboot
leaves the dog armed and fed once, a power-off disarms it, and where the device cannot be disarmed it is refused unless confirmed; EdgeHeal itself
calls reboot(2) only as root of the whole machine with `--root /`, anything else goes through `hooks/reboot.d` or `hooks/power-off.d`.
Field cases fc-dog-2, fc-dog-3, fc-dog-4.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.guard import asks, budgets, kernel
from edgeheal.guard.boots import TO_OFF, TO_REBOOT
from edgeheal.guard.hooks import YES
from edgeheal.guard.interlock import BY_WORDS
from edgeheal.guard.steps import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.parts import Parts
    from edgeheal.guard.steps import Job
    from edgeheal.guard.watchdog import Watchdog

REBOOT, POWER_OFF, HALT = range(3)
HOOK_OF = ("reboot", "power-off", "power-off")
BEFORE = "before-reboot"
MAGIC = (0x01234567, 0x4321FEDC, 0xCDEF0123)  # linux/reboot.h
CLEAN_S = 30.0


class Reboots:
    """The way out."""

    __slots__ = ("_parts", "_watchdog")

    def __init__(self, parts: "Parts", watchdog: "Watchdog") -> None:
        """Marks are kept in the book of boots."""
        self._parts = parts
        self._watchdog = watchdog

    def reboot(self, kind: int, by: int, *, confirmed: bool) -> "Job":
        """Carry it out; the job ends once the order is given, or Refused."""
        body, ledger = self._parts.body, self._parts.ledger
        if kind not in (REBOOT, POWER_OFF, HALT):
            raise Refused(reasons.MALFORMED)
        if not body.config.get("reboots"):
            raise Refused(reasons.NOT_CONFIGURED, "[guard] reboots = true enables it")
        if by == k.BY_REMEDY and self._parts.boots.looping:
            raise Refused(reasons.BOOT_LOOP)
        if kind != REBOOT and by == k.BY_REMEDY:
            raise Refused(reasons.WRONG_DOOR, "only a person powers off")
        if kind != REBOOT and not confirmed and not self._watchdog.can_disarm():
            raise Refused(reasons.NEEDS_APPROVAL, f"the watchdog cannot be stopped: the box comes back after {self._watchdog.timeout_s} s")
        hooked = self._parts.hooks.exists(HOOK_OF[kind])
        if not hooked and not self._may():
            raise Refused(reasons.NOT_CONFIGURED, f"no hooks/{HOOK_OF[kind]}.d, and not root of the whole machine")
        yield from self._parts.interlock.grave(HOOK_OF[kind], by)
        reason = ledger.budgets.spend(budgets.REBOOT, force=by != k.BY_REMEDY)
        if reason:
            raise Refused(reason)
        if not ledger.grave():
            raise Refused(reasons.BUDGET_UNWRITABLE)
        self._parts.boots.order(kind)
        env = {"EDGEHEAL_VERB": HOOK_OF[kind], "EDGEHEAL_BY": BY_WORDS[by]}
        told = yield asks.hook(self._parts.hooks, BEFORE, env)
        if told.verdict != YES:
            self._parts.boots.withdraw()
            raise Refused(reasons.NOT_NOW if told.reason == reasons.NOT_NOW else reasons.HOOK, f"{told.name} ended with {told.status}")
        yield from self._stop_apps(by)
        ledger.keep()
        if kind == REBOOT:
            self._watchdog.last_feed()
        else:
            self._watchdog.disarm()
        if hooked:
            told = yield asks.hook(self._parts.hooks, HOOK_OF[kind], env)
            if told.verdict != YES:
                self._back()
                raise Refused(reasons.HOOK, f"{told.name} ended with {told.status}")
            return 0
        self._parts.boots.ended(TO_REBOOT if kind == REBOOT else TO_OFF)
        os.sync()
        if not kernel.reboot(MAGIC[kind]):
            self._back()
            raise Refused(reasons.NOT_ALLOWED, "the kernel refused it")
        return 0

    def _back(self) -> None:
        """It did not happen: the dog is fed again, the mark is withdrawn, what was stopped for it is started."""
        self._watchdog.resume()
        self._parts.boots.withdraw()
        for name in self._parts.apps:
            if self._parts.body.keeper.wanted(name).running:
                self._parts.body.supervisor.start(name, k.BY_BOOT)

    def _may(self) -> bool:
        """Root of the whole machine: not in a folder, not in a container."""
        try:
            whole = os.readlink("/proc/1/ns/pid") == os.readlink("/proc/self/ns/pid") and os.readlink("/proc/1/root") == "/"
        except OSError:
            return False
        return os.geteuid() == 0 and self._parts.body.layout.root == "/" and whole and not os.path.exists("/.dockerenv")

    def _stop_apps(self, by: int) -> "Job":
        """Every app in order, all at once, within a bound: a reboot still happens when one does not end."""
        names = [n for n in self._parts.apps if (app := self._parts.body.supervisor.app(n)) is not None and app.running]
        if not names:
            return
        left = set(names)

        def wait(resume: "object") -> None:
            def gone(name: str) -> None:
                left.discard(name)
                if not left:
                    resume(None)  # type: ignore[operator]

            self._parts.body.loop.after(CLEAN_S, lambda: resume(None))  # type: ignore[operator]
            for name in names:
                self._parts.body.supervisor.stop(name, by, lambda _, name=name: gone(name))  # type: ignore[misc]

        yield wait
