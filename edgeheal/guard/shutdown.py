# SPDX-License-Identifier: Apache-2.0
"""The guard was told to end: is the whole system going down, and will it come back?

Duty: ask whoever knows (our own order, the init's word, systemd, OpenRC), within a bound. It ends nothing itself.
Invariants: two seconds at most, then the answer is *the guard ended*; asking costs a process, so only an end of the guard asks; `systemctl restart`
of the guard is no shutdown. Loaded when the guard ends.
"""

import os

from edgeheal.guard import asks, spawn
from edgeheal.guard.boots import GOES_DOWN, GUARD_ENDED, TO_OFF, TO_REBOOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.parts import Parts

LIMIT_S = 2.0
SYSTEMCTL = ("/usr/bin/systemctl", "/bin/systemctl")
OPENRC = "/run/openrc/softlevel"
WORDS = {"reboot": TO_REBOOT, "kexec": TO_REBOOT, "poweroff": TO_OFF, "halt": TO_OFF, "shutdown": GOES_DOWN, "down": GOES_DOWN}


def ask(parts: "Parts", then: "Callable[[int], None]") -> None:
    """`then(GUARD_ENDED | TO_REBOOT | TO_OFF | GOES_DOWN)`, once."""
    known = _known(parts)
    systemctl = next((p for p in SYSTEMCTL if os.access(p, os.X_OK)), "")
    if known or not systemctl or not os.path.isdir("/run/systemd/system") or parts.body.layout.root != "/" or os.geteuid() != 0:
        then(known or GUARD_ENDED)
        return
    fd = asks.memory(b"")
    told: list[int] = []

    def once(seen: bool) -> None:
        if not told:
            told.append(jobs(os.pread(fd, 65_536, 0).decode("ascii", "replace")) if seen else GUARD_ENDED)
            os.close(fd)
            then(told[0])

    program = spawn.Program([systemctl, "list-jobs", "--no-legend", "--plain"], env={"PATH": "/usr/bin:/bin", "LANG": "C"}, stdout=fd)
    try:
        spawn.start(parts.body.loop, program, lambda _: None, lambda _pid, _status: once(True))
    except OSError:
        once(False)
        return
    parts.body.loop.after(LIMIT_S, lambda: once(False))


def _known(parts: "Parts") -> int:
    """Our own order, or a word in a file."""
    ordered = parts.boots.ordered
    if ordered is not None:
        return TO_REBOOT if ordered[0] == 0 else TO_OFF
    for path in (parts.boots.word, OPENRC if parts.body.layout.root == "/" else ""):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                return WORDS.get(file.read(32).strip(), 0)
        except OSError:
            continue
    return 0


def jobs(text: str) -> int:
    """The queue of systemd: `NUMBER UNIT start waiting` a line."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and words[2] == "start" and words[1].endswith(".target") and words[1][:-7] in WORDS:
            kind = words[1][:-7]
            if kind != "shutdown":  # shutdown.target is part of each of them
                return WORDS[kind]
    return GUARD_ENDED
