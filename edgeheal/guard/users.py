# SPDX-License-Identifier: Apache-2.0
"""As whom each app runs: the device config's word, or a uid of its own out of the range that root set aside.

Duty: allot, remember, answer. Invariants: one uid per app, never given to a second one while it is remembered, the same after every restart
(an app's data belong to it); with boundary none everybody is ourselves and nothing pretends otherwise.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.guard.blocks import NEWER, Blocks
from edgeheal.guard.launch import User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.body import Body

SIZE = 16_384


class Users:
    """Answers for `Body.user_of`."""

    def __init__(self, body: "Body") -> None:
        """Reads what was allotted before."""
        self._body = body
        self._blocks = Blocks(f"{body.layout.guard}/users", SIZE)
        try:
            value = self._blocks.load() or {}
        except OSError:
            value = {}
        self._table: dict[str, int] = {str(app): int(uid) for app, uid in (value.get("uids") or {}).items()}
        self._users: dict[str, User] = {}

    def forget(self) -> None:
        """The config changed: answer anew."""
        self._users.clear()

    def of(self, app: str) -> User:
        """The user of an app; the config's, else the one allotted to it."""
        user = self._users.get(app)
        if user is None:
            user = self._users[app] = self._find(app)
        return user

    def _find(self, app: str) -> User:
        if self._body.boundary == "none":
            return User(os.geteuid(), os.getegid())
        apps = self._body.config.get("apps") or {}
        word = apps.get(app) or {}
        groups = tuple(int(gid) for gid in word.get("groups") or ())
        uid = int(word.get("uid", -1))
        if uid < 0:
            uid = self._allot(app)
            return User(uid, int(word.get("gid", -1)) if int(word.get("gid", -1)) >= 0 else uid, groups, alone=True)
        others = [int(one.get("uid", -1)) for name, one in apps.items() if name != app] + [int(v) for v in (self._body.config.get("users") or {}).values()]
        gid = int(word.get("gid", -1))
        return User(uid, gid if gid >= 0 else uid, groups, alone=uid > 0 and uid not in others and uid >= 1000)

    def _allot(self, app: str) -> int:
        low, high = self._body.config.get("app_uids") or (61_000, 61_999)
        uid = self._table.get(app)
        if uid is not None and low <= uid <= high:
            return uid
        taken = set(self._table.values()) | {int(one.get("uid", -1)) for one in (self._body.config.get("apps") or {}).values()}
        for candidate in range(int(low), int(high) + 1):
            if candidate not in taken:
                self._table[app] = candidate
                self._keep()
                return candidate
        raise OSError(f"no uid left for {app} in {low}..{high}")

    def _keep(self) -> None:
        if self._blocks.found != NEWER:
            self._blocks.store({"v": 1, "uids": self._table})
