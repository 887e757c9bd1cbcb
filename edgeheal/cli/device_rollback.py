# SPDX-License-Identifier: Apache-2.0
"""`edgeheal rollback [APP] [--to VERSION] [--undo]`: back to the known-good image, by hand, without network, with the agent dead.

Duty: say what happens to the data before it happens, do it, say how long each step took and how to undo it.
Invariants: done is what the guard answered and what was seen; nothing returns to the image that was left by itself.
"""

import argparse
import time

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.cli import common, door, refusal, render
from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD, WRITTEN
from edgeheal.core.errors import RefusedByPolicyError
from edgeheal.wire import guard_frames as f
from edgeheal.wire.guard_signals import Event

_EXAMPLES = """examples:
  edgeheal rollback                       the only app, to its known-good image
  edgeheal rollback modbus-gw --to 2.3.8  another version (root, if it is not known good)
  edgeheal rollback modbus-gw --undo      back to what ran before the rollback
"""
READY_S = 10.0
LONG_S = 900.0


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    one = subparsers.add_parser(
        "rollback", help="back to the known-good image", description="Back to the known-good image. Works without network and with the agent dead.",
        epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("app", nargs="?", default="", metavar="APP", help="which app (default: the only one)")
    one.add_argument("--to", default="", metavar="VERSION|ID", help="to this one instead of the newest known-good one")
    one.add_argument("--undo", action="store_true", help="back to what ran before the last rollback or upgrade")
    common.options(one)
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """`rollback`."""
    with door.opened(args, LONG_S) as guard:
        app = door.the_app(guard, args.app)
        found = door.images(guard, app)
        now = next((i for i in found if i.running), None)
        goes = _goes(args, found, now)
        if not args.json:
            common.put(_data(now, goes))
        guard.ask(f.FOLLOW)
        watch = _Watch(app)
        verb = f.TRY if goes.state == WRITTEN else f.SWITCH
        undo = args.undo and verb == f.SWITCH
        answer = guard.ask(verb, app=app, image=goes.id if not undo else bytes(32), a=int(undo), timeout_s=LONG_S, on_event=watch.hear)
        refusal.check(answer.reason, f"rollback {app}")
        watch.finish(guard)
    if args.json:
        common.put_json({
            "app": app, "from": now.plain() if now else None, "to": goes.plain(), "ready": watch.ready, "ms": watch.steps(), "by": door.me(),
            "data_carried": watch.home,
        })  # fmt: skip
        return 0
    common.put(watch.line())
    if watch.home is not None and now is not None:
        how = "was carried home" if watch.home else "could not be carried home: what was there before stands"
        common.put(f"{render.clean(now.version)}'s data {how}")
    if now is not None and now.id != goes.id:
        common.put(f"{render.clean(now.version)} stays, nothing returns to it by itself. Undo: edgeheal rollback {app} --undo")
    common.put(f"Recorded: {door.me()}")
    return 0


def _goes(args: argparse.Namespace, found: list[door.Image], now: door.Image | None) -> door.Image:
    """Where it goes; the guard has the last word."""
    if args.undo:
        before = next((i for i in found if i.flags & f.I_PREVIOUS), None)
        if before is None:
            raise refusal.error(reasons.NOTHING_TO_DO, "rollback --undo", "nothing ran before")
        return before
    if args.to:
        return door.the_image(found, args.to)
    good = [i for i in found if i.state == GOOD and i is not now]
    if not good:
        raise RefusedByPolicyError("no other known-good image is installed", hint="see what there is: edgeheal image list; or install one")
    if now is not None and now.state == GOOD:  # further back first, as the guard does by itself
        older = found[found.index(now) + 1 :]
        return next((i for i in older if i.state == GOOD), good[0])
    return next((i for i in good if i.flags & f.I_PREVIOUS), good[0])


def _data(now: door.Image | None, goes: door.Image) -> str:
    """The sentence about the data."""
    what = f"known good, ran {render.duration(goes.served_s)} here" if goes.state == GOOD else goes.word
    head = f"{render.clean(now.version)} -> {render.clean(goes.version)}" if now else f"-> {render.clean(goes.version)}"
    if now is None or now.schema == goes.schema:
        return f"{head} ({what}). Data stays as it is."
    older, newer = render.clean(goes.version), render.clean(now.version)
    if now.flags & f.I_CARRIES and now.schema > goes.schema:
        return f"{head} ({what}). Data as {older} left it, with what {newer} carries home into it; {newer}'s data is kept."
    return f"{head} ({what}). Data as {older} left it; {newer}'s data is kept."


class _Watch:
    """What is seen while it happens, and how long each step took."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._at = {"asked": time.monotonic()}
        self.ready = False
        self.home: bool | None = None  # whether data was carried home; None: nobody had to
        self._failed = 0

    def hear(self, event: Event) -> None:
        """An event of this app."""
        if event.app != self._app:
            return
        name = {f.EV_EXITED: "stopped", f.EV_STARTED: "started", f.EV_READY: "ready", f.EV_START_FAILED: "failed"}.get(event.kind, "")
        if name:
            self._at.setdefault(name, time.monotonic())
        if event.kind == f.EV_READY and "started" in self._at:
            self.ready = True
        if event.kind == f.EV_START_FAILED:
            self._failed = event.code
        if event.kind == f.EV_HOME:
            self.home = event.code == 1

    def finish(self, guard: GuardDoor) -> None:
        """Wait for the app to be ready, a while."""
        self._at["answered"] = time.monotonic()
        end = time.monotonic() + READY_S
        while not self.ready and not self._failed and "started" in self._at and time.monotonic() < end:
            for event in guard.events(max(0.05, end - time.monotonic())):
                self.hear(event)

    def steps(self) -> dict[str, int]:
        """Milliseconds of each step that was seen."""
        at = self._at
        found: dict[str, int] = {}
        if "stopped" in at:
            found["stop"] = round((at["stopped"] - at["asked"]) * 1000)
        if "started" in at:
            found["switch"] = round((at["started"] - at.get("stopped", at["asked"])) * 1000)
        if "ready" in at and "started" in at:
            found["start"] = round((at["ready"] - at["started"]) * 1000)
        return found

    def line(self) -> str:
        """One line of it."""
        said = "  ".join(f"{name} {ms / 1000:.1f} s" for name, ms in self.steps().items())
        if self._failed:
            return f"{said}  it did not start: {reasons.word(self._failed)}".strip()
        return f"{said}  {'ready' if self.ready else 'not ready yet: edgeheal status' if 'started' in self._at else 'switched; the app is not running'}".strip()
