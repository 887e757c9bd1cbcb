# SPDX-License-Identifier: Apache-2.0
"""Hard needs that are no app: a device file, a network interface that carries, a clock that was set.

Duty: say which one is away. It waits for nothing and starts nothing. Invariants: what cannot be told is not held against the app; a
network need by the name of no interface means *any* interface but the loopback.
Light on purpose: the resident guard imports it.
"""

import os
import time

from edgeheal.core.version import BUILT_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.launch import Launch

NET = "/sys/class/net"
LOOK_S = 2.0  # while an app waits for one of them


def missing(launch: "Launch") -> str:
    """The first that is away, as `device:ttyUSB0`; "" when nothing is missing."""
    for kind, name in launch.hard_others:
        there = {"device": _device, "network": _network, "time": _time}.get(kind)
        if there is not None and not there(name):
            return f"{kind}:{name}"
    return ""


def _device(name: str) -> bool:
    try:
        os.stat(name if name.startswith("/") else f"/dev/{name}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _network(name: str) -> bool:
    try:
        names = os.listdir(NET)
    except OSError:
        return True
    return any(_carries(one) for one in ([name] if name in names else names) if one != "lo")


def _carries(name: str) -> bool:
    """Up, or of a kind that does not tell (a tunnel)."""
    try:
        with open(f"{NET}/{name}/operstate", encoding="ascii") as file:
            return file.read().strip() in ("up", "unknown")
    except OSError:
        return False


def _time(_name: str) -> bool:
    """Nobody has a right clock from before this program was built."""
    return time.time() >= BUILT_S
