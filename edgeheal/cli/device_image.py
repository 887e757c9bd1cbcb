# SPDX-License-Identifier: Apache-2.0
"""`edgeheal image install | list | mark-good | allow | drop`: images on this device, at the guard's door.

Duty: arguments, progress on a terminal, answers. Invariants: the guard reads the bundle, this only opens it; an image that is refused says why and what to do.
"""

import argparse
import os
import sys

from edgeheal.adapters.guard_client import Answer, GuardDoor
from edgeheal.cli import common, door, refusal, render
from edgeheal.core import reasons
from edgeheal.core.deployment import GOOD, STATES, TRIAL
from edgeheal.core.errors import UsageError
from edgeheal.wire import guard_frames as f
from edgeheal.wire.guard_signals import Event

STEPS = ("proof", "unpacking", "linking", "syncing", "reading back", "checking")
LONG_S = 3_600.0
REFUSED = 0xFFFF


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verbs to `image`."""
    install = verbs.add_parser("install", help="put a bundle on this device and run it on trial")
    install.add_argument("file", metavar="BUNDLE", help="an .ehi file, or - for stdin")
    install.add_argument("--no-try", action="store_true", help="only store it; run it later with `image try`")
    common.options(install)
    install.set_defaults(run=run_install)
    listed = verbs.add_parser("list", help="images installed here, and what each is")
    listed.add_argument("app", nargs="?", default="", metavar="APP")
    common.options(listed)
    listed.set_defaults(run=run_list)
    words = (
        ("try", "run an installed image on trial", run_try),
        ("mark-good", "end the soak of the image on trial: it is known good", run_mark_good),
        ("allow", "lift the block of an image that failed here", run_allow),
        ("drop", "remove an image from this device", run_drop),
    )
    for verb, line, run in words:
        one = verbs.add_parser(verb, help=line)
        one.add_argument("app", metavar="APP")
        one.add_argument("image", nargs="?" if verb == "mark-good" else None, default="", metavar="VERSION|ID", help="a version, or the beginning of an id")
        common.options(one)
        one.set_defaults(run=run)


def run_install(args: argparse.Namespace) -> int:
    """`image install`."""
    try:
        fd = 0 if args.file == "-" else os.open(args.file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as fault:
        raise UsageError(fault.strerror or str(fault), place=args.file, hint="check the name and its permissions") from None
    progress = _Progress()
    try:
        with door.opened(args, LONG_S) as guard:
            answer = guard.ask(f.IMPORT, fd=fd, timeout_s=LONG_S, on_event=progress.hear)
            progress.end()
            refusal.check(answer.reason, f"install {args.file}", progress.said)
            if not args.no_try:
                tried = guard.ask(f.TRY, app=answer.app, image=answer.image, timeout_s=LONG_S)
                refusal.check(tried.reason, f"try {args.file}")
            one = next(i for i in door.images(guard, answer.app) if i.id == answer.image)
    finally:
        if fd:
            os.close(fd)
    if args.json:
        common.put_json(one.plain())
    else:
        common.put(f"{one.app} {one.version}  {one.id.hex()}  {_state(one)}")
        if one.state == TRIAL:
            common.say(f"it soaks for {render.duration(one.soak_left_s)}; back at once with: edgeheal rollback {one.app}")
    return 0


def _state(one: door.Image) -> str:
    """Its state with what there is to say of it."""
    if one.state == TRIAL:
        return f"on trial, {render.duration(one.soak_left_s)} to go"
    if one.state == GOOD:
        return f"known good, ran {render.duration(one.served_s)}"
    return one.word


class _Progress:
    """Progress on a terminal only; keeps what the guard said when it refused."""

    def __init__(self) -> None:
        self.said = ""
        self._shown = sys.stderr.isatty()
        self._last = ""

    def hear(self, event: Event) -> None:
        """One event of the import."""
        if event.kind != f.EV_PROGRESS:
            return
        if event.code == REFUSED:
            self.said = event.say.decode("utf-8", "replace")
            return
        if self._shown:
            step = STEPS[event.code] if event.code < len(STEPS) else ""
            text = f"\r{step} {event.a * 100 // event.b if event.b else 100} %"
            if text != self._last:
                self._last = text
                sys.stderr.write(f"{text:<30}")
                sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._last:
            sys.stderr.write(f"\r{'':<30}\r")


def run_list(args: argparse.Namespace) -> int:
    """`image list`."""
    with door.opened(args) as guard:
        found = door.images(guard, args.app)
    if args.json:
        common.put_json([one.plain() for one in found])
        return 0
    rows: list[tuple[str, ...]] = [("APP", "VERSION", "STATE", "RUNS", "SINCE", "ID")]
    for one in found:
        notes = [word for word, flag in (("anchor", f.I_ANCHOR), ("before", f.I_PREVIOUS)) if one.flags & flag]
        rows.append((one.app, render.clean(one.version), _state(one), "yes" if one.running else "", " ".join(notes), one.id.hex()[:12]))
    for line in render.table(rows, 120) if found else ["no images yet: edgeheal image install FILE"]:
        common.put(line)
    return 0


def _asked(args: argparse.Namespace, verb: int, *, timeout_s: float = LONG_S) -> tuple[door.Image | None, Answer]:
    """Ask a verb about one image; it as it was before."""
    with door.opened(args, timeout_s) as guard:
        one = _image(guard, args)
        answer = guard.ask(verb, app=args.app, image=one.id if one is not None else bytes(32), timeout_s=timeout_s)
    return one, answer


def _image(guard: GuardDoor, args: argparse.Namespace) -> door.Image | None:
    """The image meant. An id of full length may be one that has left the store."""
    found = door.images(guard, args.app)
    if not args.image:
        return next((i for i in found if i.running), None)
    if len(args.image) == 64 and all(i.id.hex() != args.image.lower() for i in found):
        try:
            gone = bytes.fromhex(args.image)
        except ValueError:
            raise UsageError(f"{args.image}: no id", hint="64 hex digits, a version, or the beginning of an id") from None
        return door.Image(args.app, gone, "", 1, 0, 0, 0, 0, 0, 0, 0)
    return door.the_image(found, args.image)


def _told(args: argparse.Namespace, one: door.Image | None, answer: Answer, what: str, said: str) -> int:
    refusal.check(answer.reason, f"{what} {args.app} {args.image}".strip())
    if args.json:
        common.put_json({"app": args.app, "id": (one.id if one else answer.image).hex(), "done": what, "state": STATES[answer.a].lower()})
    else:
        common.put(f"{args.app} {one.version if one else ''}: {said}".replace(" :", ":"))
    return 0


def run_try(args: argparse.Namespace) -> int:
    """`image try`."""
    one, answer = _asked(args, f.TRY)
    return _told(args, one, answer, "try", "runs on trial" if answer.a == TRIAL else "runs")


def run_mark_good(args: argparse.Namespace) -> int:
    """`image mark-good`."""
    one, answer = _asked(args, f.MARK_GOOD)
    if answer.reason == reasons.NOTHING_TO_DO and one is not None and one.state == GOOD:
        answer = Answer(reasons.OK, image=one.id, a=GOOD)
    return _told(args, one, answer, "mark-good", "known good")


def run_allow(args: argparse.Namespace) -> int:
    """`image allow`."""
    one, answer = _asked(args, f.ALLOW)
    return _told(args, one, answer, "allow", "may be tried again")


def run_drop(args: argparse.Namespace) -> int:
    """`image drop`."""
    one, answer = _asked(args, f.DROP)
    return _told(args, one, answer, "drop", "removed")
