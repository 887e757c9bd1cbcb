# SPDX-License-Identifier: Apache-2.0
"""Users and groups of a config as numbers of this system.

Duty: look them up; say which are missing. It makes none (installing does).
Invariants: without root, or where none of the usual users was made and the config names none, nothing is looked up: all are
ourselves, and there is no privilege boundary (`status` says so); uid 0 is nobody's but the
guard's; no two of the parts and apps share a uid.
"""

import grp
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeheal.config.decode import Origin
from edgeheal.config.problem import Problem
from edgeheal.config.schema import Config

PARTS = ("agent", "import", "store", "verify", "check")
ALLOTTED = -1
_STEP = '[users] takes existing users, numeric ids, or "self" for all (then there is no privilege boundary); scripts/install makes the usual ones'


@dataclass(frozen=True, slots=True)
class Accounts:
    """part or app -> (uid, gid); `groups`: app -> further gids; `people` the gid of the group, -1 when there is none."""

    parts: dict[str, tuple[int, int]]
    apps: dict[str, tuple[int, int]] = field(default_factory=dict)
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    people: int = -1


def resolve(config: Config, origins: Mapping[str, Origin], us: tuple[int, int] | None = None) -> tuple[Accounts, tuple[Problem, ...]]:
    """The numbers, and what is wrong with the names. `us`: uid and gid of the guard, where this runs as somebody else."""
    us = us or (os.geteuid(), os.getegid())
    if us[0] != 0 or _none_was_made(config, origins):
        return Accounts(dict.fromkeys(PARTS, us), dict.fromkeys(config.apps, (ALLOTTED, ALLOTTED)), dict.fromkeys(config.apps, ()), us[1]), ()
    finder = _Finder(origins, us)
    users = config.users
    said = {"agent": users.agent, "import": users.import_, "store": users.store, "verify": users.verify, "check": users.check}
    parts = {part: finder.user(f"users.{part}", name) for part, name in said.items()}
    apps = {n: finder.user(f"apps.{n}.user", a.user) for n, a in config.apps.items()}
    groups = {n: tuple(finder.group(f"apps.{n}.groups", g) for g in a.groups) for n, a in config.apps.items()}
    people = finder.group("users.group", users.group, missing="users.group" in origins)
    finder.tell_absent()
    finder.apart(parts, apps, config.guard.app_uids)
    return Accounts(parts, apps, groups, people), tuple(finder.problems)


def _none_was_made(config: Config, origins: Mapping[str, Origin]) -> bool:
    """Nobody said users and none of the usual ones is here: a demo, a drill, a first try. `status` then says `boundary: none`."""
    if any(key.startswith("users.") for key in origins):
        return False
    users = config.users
    return not any(_exists(name) for name in (users.agent, users.import_, users.store, users.verify, users.check))


def _exists(name: str | int) -> bool:
    try:
        return isinstance(name, int) or bool(pwd.getpwnam(name))
    except KeyError:
        return False


class _Finder:
    """Looks names up and gathers what is wrong."""

    def __init__(self, origins: Mapping[str, Origin], us: tuple[int, int]) -> None:
        self._origins = origins
        self._us = us
        self._absent: list[str] = []
        self.problems: list[Problem] = []

    def user(self, key: str, name: str | int) -> tuple[int, int]:
        if name == "":
            return (ALLOTTED, ALLOTTED)
        if name == "self":
            return self._us
        try:
            if isinstance(name, int):
                try:
                    return (name, pwd.getpwuid(name).pw_gid)
                except KeyError:
                    return (name, name)
            row = pwd.getpwnam(name)
        except KeyError:
            if key in self._origins:
                self._tell(key, f"no such user: {name}", _STEP)
            else:
                self._absent.append(str(name))
            return (ALLOTTED, ALLOTTED)
        if row.pw_uid == 0:
            self._tell(key, f"{name} is root under another name", _STEP)
        return (row.pw_uid, row.pw_gid)

    def group(self, key: str, name: str | int, *, missing: bool = True) -> int:
        """`missing`: whether a group that is not there is a problem."""
        if isinstance(name, int):
            return name
        if name == "self":
            return self._us[1]
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            if missing:
                self._tell(key, f"no such group: {name}", "name an existing group or its number")
            return -1

    def tell_absent(self) -> None:
        """The default users that are not here: one problem, one cause."""
        if self._absent:
            self._tell("users", f"not on this system: {', '.join(self._absent)}", _STEP)

    def apart(self, parts: Mapping[str, tuple[int, int]], apps: Mapping[str, tuple[int, int]], allotted: tuple[int, int]) -> None:
        """No two under one uid, but parts that are all ourselves."""
        taken: dict[int, str] = {}
        rows = [(f"users.{p}", uid) for p, (uid, _) in parts.items()] + [(f"apps.{n}.user", uid) for n, (uid, _) in apps.items()]
        for key, uid in rows:
            if uid == ALLOTTED or (uid == self._us[0] and key.startswith("users.")):
                continue
            if uid in taken:
                self._tell(key, f"uid {uid} is {taken[uid]} already: each needs one of its own", "")
            elif allotted[0] <= uid <= allotted[1]:
                self._tell(key, f"uid {uid} is one of those that the guard allots ([guard] app_uids)", "")
            taken.setdefault(uid, key)

    def _tell(self, key: str, message: str, step: str) -> None:
        origin = self._origins.get(key)
        self.problems.append(Problem(origin.file if origin else "", origin.line if origin else 0, key, message, step=step))
