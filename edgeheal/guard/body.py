# SPDX-License-Identifier: Apache-2.0
"""The guard's parts, held together: what every module of the resident guard may reach.

Duty: name the parts. It does nothing itself.
Invariant: made once by `main`, handed to each part; no part looks another one up elsewhere.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.core.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from edgeheal.guard.agentproc import AgentProcess
    from edgeheal.guard.children import Children
    from edgeheal.guard.doors import Doors
    from edgeheal.guard.keeper import Keeper
    from edgeheal.guard.launch import User
    from edgeheal.guard.loop import Loop
    from edgeheal.guard.runs import Supervisor


class Body:
    """The parts. `config` is the guard config record in force; `boundary` "none" or "full"; `boot` the kernel's boot id."""

    __slots__ = ("_users", "agent", "boot", "boundary", "children", "config", "doors", "keeper", "layout", "libraries", "loop", "package", "reload_config", "supervisor")  # fmt: skip

    def __init__(self, layout: Layout, loop: "Loop", doors: "Doors", children: "Children", libraries: "list[str]") -> None:
        """`keeper` and `supervisor` are set by main before anything runs."""
        self.layout = layout
        self.loop = loop
        self.doors = doors
        self.children = children
        self.libraries = libraries
        self.config: dict[str, Any] = {}
        self.boundary = "none"
        self.boot = boot_id()
        self.package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self.agent: AgentProcess
        self.keeper: Keeper
        self.supervisor: Supervisor
        self.reload_config: Any = None
        self._users: Any = None

    def user_of(self, app: str) -> "User":
        """As whom the app runs: the device config's word, or the uid allotted to it; ourselves with boundary none."""
        user: User = self._users.of(app)
        return user

    def users_are(self, users: "Any") -> None:
        """Who answers `user_of` (guard.users)."""
        self._users = users

    def uid(self, duty: str) -> int:
        """The uid of `agent`, `import`, `store`, `verify`, `check`; our own with boundary none."""
        uid = int((self.config.get("users") or {}).get(duty, -1))
        return os.geteuid() if self.boundary == "none" or uid < 0 else uid

    def group(self) -> int:
        """The gid of people's group; -1 when there is none."""
        return int((self.config.get("users") or {}).get("group", -1))


def boot_id() -> str:
    """The kernel's id of this boot; "" where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
