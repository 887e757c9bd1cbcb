# SPDX-License-Identifier: Apache-2.0
"""Waits: what a job of the monitor may wait for - a helper, an app that stops or starts, a hook, a while.

Duty: turn the body's callbacks into `steps.Wait`. It decides nothing. Invariant: each wait answers exactly once; a helper's error record
becomes a `Refused` with its reason, so that a job reads from top to bottom.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.core import reasons
from edgeheal.guard.steps import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from edgeheal.guard.body import Body
    from edgeheal.guard.hooks import Hooks
    from edgeheal.guard.steps import Resume, Wait

    Frame = dict[str, Any]

VERIFIER = "edgeheal.guard.verifier"
IMPORTER = "edgeheal.guard.importer"
STORER = "edgeheal.guard.storer"
DATA = "edgeheal.guard.data_child"
BOOT = "edgeheal.guard.boot_child"


def helper(
    body: "Body",
    module: str,
    request: "Frame",
    *,
    duty: str = "",
    uid: int = -1,
    gid: int = -1,
    fd: int = -1,
    deadline_s: float = 30.0,
    libraries: bool = True,
    on_frame: "Callable[[Frame], None] | None" = None,
) -> "Wait":
    """Run a helper; the answer is its "done" record. `duty` names its user (`import`, `store`, `verify`, `check`), else `uid` does.

    With boundary none it runs as ourselves.
    """
    if duty:
        uid, gid = body.uid(duty), group_of(body, duty)
    plain = body.boundary == "none" or uid < 0

    def wait(resume: "Resume") -> None:
        def ended(frame: "Frame") -> None:
            if frame.get("k") == "done":
                resume(frame)
            else:
                resume(Refused(int(frame.get("reason") or reasons.INTERNAL), _said(frame)))

        body.children.run(
            module, request, ended, on_frame=on_frame, uid=-1 if plain else uid, gid=-1 if plain else gid, fd=fd, deadline_s=deadline_s, libraries=libraries,
        )  # fmt: skip

    return wait


def group_of(body: "Body", duty: str) -> int:
    """The gid of a helper's user; the number of its uid where the config names none."""
    uid = body.uid(duty)
    return int((body.config.get("users") or {}).get(f"{duty}_gid", uid))


def _said(frame: "Frame") -> str:
    """What a helper's error record says, in one line."""
    part = str(frame.get("part") or "")
    number = frame.get("object", -1)
    where = f"{part} {number}" if part and isinstance(number, int) and number >= 0 else part
    message = str(frame.get("message") or "")
    return f"{where}: {message}" if where and not message.startswith(where) else message


def stopped(body: "Body", app: str, by: int) -> "Wait":
    """The app's whole tree is gone; Refused UNKILLABLE (or INTERLOCK, ...) when it is not."""
    return lambda resume: body.supervisor.stop(
        app, by, lambda reason: resume(Refused(reason) if reason not in (0, reasons.NOT_RUNNING, reasons.ALREADY) else 0)
    )


def started(body: "Body", app: str, by: int) -> "Wait":
    """The start's reason code: 0 once exec has succeeded. It never refuses: what became of a start is for the caller to judge."""
    return lambda resume: body.supervisor.start(app, by, resume)


def hook(hooks: "Hooks", point: str, env: "dict[str, str]", *, uid: int = -1, gid: int = -1, wanted: bool = False) -> "Wait":
    """A hook point's `Told`."""
    return lambda resume: hooks.run(point, env, resume, uid=uid, gid=gid, wanted=wanted)


def while_s(body: "Body", seconds: float) -> "Wait":
    """So many seconds have passed."""

    def wait(resume: "Resume") -> None:
        body.loop.after(seconds, lambda: resume(None))

    return wait


def closing(wait: "Wait", fd: int) -> "Wait":
    """The wait, with our own copy of a descriptor closed once it was handed on."""

    def begin(resume: "Resume") -> None:
        try:
            wait(resume)
        finally:
            os.close(fd)

    return begin


def memory(data: bytes) -> int:
    """A descriptor whose content is `data`, at its start; the caller closes it."""
    fd = os.memfd_create("edgeheal", os.MFD_CLOEXEC)
    try:
        rest = data
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd
