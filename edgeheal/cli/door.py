# SPDX-License-Identifier: Apache-2.0
"""The people's door to the guard, for the verbs of the command line: rows by name, images by version or id, content as a sealed descriptor.

Duty: what several verbs share. It prints nothing. Invariants: an app or image that is not the only one it could be is a usage error that names the
others; content that goes to the guard is a memfd that nobody can change any more.
"""

import argparse
import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from edgeheal.adapters.guard_client import GuardDoor
from edgeheal.cli import common
from edgeheal.core import reasons
from edgeheal.core.deployment import STATES
from edgeheal.core.errors import UsageError
from edgeheal.wire import guard_frames as f

_ADD_SEALS, _ALL = 1033, 0x1 | 0x2 | 0x4 | 0x8
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Image:
    """One deployment as the guard's row says it."""

    app: str
    id: bytes
    version: str
    state: int
    reason: int
    was: int
    flags: int
    soak_left_s: int
    served_s: int
    security: int
    schema: int

    @property
    def running(self) -> bool:
        """Whether it is what runs, or shall."""
        return bool(self.flags & f.I_RUNNING)

    @property
    def word(self) -> str:
        """Its state as people say it."""
        if self.flags & f.I_BLOCKED:
            return "blocked"
        return {"GOOD": "known good", "TRIAL": "trial", "WRITTEN": "installed", "BAD": "blocked", "UNKNOWN": "damaged"}.get(STATES[self.state], "gone")

    def plain(self) -> dict[str, object]:
        """For --json."""
        return {
            "app": self.app, "id": self.id.hex(), "version": self.version, "state": STATES[self.state].lower(), "shown": self.word, "running": self.running,
            "blocked": bool(self.flags & f.I_BLOCKED), "anchor": bool(self.flags & f.I_ANCHOR), "previous": bool(self.flags & f.I_PREVIOUS),
            "soak_left_s": self.soak_left_s, "served_s": self.served_s, "security_counter": self.security, "schema": self.schema,
        }  # fmt: skip


def opened(args: argparse.Namespace, timeout_s: float = 60.0) -> GuardDoor:
    """The door of the device below --root."""
    return GuardDoor(common.layout(args).guard_socket, timeout_s=timeout_s)


def images(door: GuardDoor, app: str = "") -> list[Image]:
    """All deployments (of one app), newest mark first."""
    answer = door.ask(f.IMAGES, app=app)
    if answer.reason == reasons.NO_SUCH_APP:
        raise UsageError(f"no app {app} here", hint="the device's config names its apps: edgeheal status")
    found = []
    for row in answer.rows:
        if len(row) == f.IMAGE_ROW.size:
            _, _, _, _, name, image, version, *numbers = f.IMAGE_ROW.unpack(row)
            found.append(Image(f.text(name), image, f.text(version), *numbers))
    return found


def apps(door: GuardDoor) -> list[str]:
    """Names of the apps that exist here."""
    return [f.text(f.APP_ROW.unpack(row)[4]) for row in door.ask(f.STATUS).rows if len(row) == f.APP_ROW.size]


def the_app(door: GuardDoor, name: str) -> str:
    """The named app, or the only one."""
    if name:
        return name
    names = apps(door)
    if len(names) != 1:
        raise UsageError("which app?", hint=f"name one: {', '.join(names) or 'there is none yet'}")
    return names[0]


def the_image(found: list[Image], said: str) -> Image:
    """The image that a version or the beginning of an id names."""
    fits = [i for i in found if i.version == said] or [i for i in found if len(said) >= 4 and i.id.hex().startswith(said.lower())]
    if len(fits) == 1:
        return fits[0]
    there = ", ".join(f"{i.version} ({i.id.hex()[:12]})" for i in (fits or found)) or "none"
    raise UsageError(f"{said}: {'several images' if fits else 'no such image'}", hint=f"say the beginning of an id; there is: {there}")


@contextlib.contextmanager
def memory(data: bytes) -> Iterator[int]:
    """A sealed memfd with `data`."""
    fd = os.memfd_create("edgeheal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = data
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, _ADD_SEALS, _ALL)
        yield fd
    finally:
        os.close(fd)


def seconds(text: str) -> int:
    """`90s`, `10m`, `2h`, `1d`: for argparse."""
    match = re.fullmatch(r"(\d{1,7})(s|m|min|h|d)", text.strip())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 90s, 10m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2]]


def me() -> str:
    """Who does this, and at which terminal: as the record has it."""
    import pwd

    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    with contextlib.suppress(OSError):
        return f"{name}, {os.ttyname(0).removeprefix('/dev/')}"
    return name
