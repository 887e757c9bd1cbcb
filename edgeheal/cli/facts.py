# SPDX-License-Identifier: Apache-2.0
"""What each verb needs: who may say it, what still works when agent, guard or network are gone, what it answers, how it ends.

Duty: one table, the source of the docs' page and of the test that tries each cell. It runs nothing.
Invariant: every verb of `cli.main.VERBS` stands here with all its words; a cell is a promise that tests/cli/test_verb_table.py keeps.
"""

from dataclasses import dataclass
from enum import Enum


class Right(Enum):
    """Who may say it to a device."""

    ANYONE = "anyone"
    GROUP = "group edgeheal"
    ROOT = "root, or a token"
    ONLY_ROOT = "root"


class Works(Enum):
    """What becomes of it when somebody is gone."""

    YES = "yes"
    FILES = "yes, from the files"
    NO = "no: exit 3"
    NEEDS = "no"


@dataclass(frozen=True, slots=True)
class Facts:
    """One verb with its words. `answer`: its schema in `cli.answers` ("" = none); `exits`: every code beside 2 (usage) and 130.

    `network`: without any network; the broker of a fleet verb is the network's other end.
    """

    words: str
    right: Right
    agent_dead: Works
    guard_dead: Works
    network: Works
    answer: str
    exits: tuple[int, ...]


_Y, _F, _N = Works.YES, Works.FILES, Works.NO
_ANY, _GROUP, _ROOT = Right.ANYONE, Right.GROUP, Right.ROOT


def _looks(words: str, answer: str, *exits: int, agent: Works = _Y, guard: Works = _N) -> Facts:
    """A verb that reads a device."""
    return Facts(words, _GROUP, agent, guard, _Y, answer, (0, *exits, 3, 4))


def _moves(words: str, answer: str, *exits: int, right: Right = _GROUP, agent: Works = _Y) -> Facts:
    """A verb at the guard's door."""
    return Facts(words, right, agent, _N, _Y, answer, (0, *exits, 3, 4))


def _offline(words: str, answer: str, *exits: int) -> Facts:
    """A verb of the operator's own machine."""
    return Facts(words, _ANY, _Y, _Y, _Y, answer, (0, *exits))


def _fleet(words: str, answer: str, *exits: int) -> Facts:
    """A verb that speaks with a broker."""
    return Facts(words, _ANY, _Y, _Y, Works.NEEDS, answer, (0, 1, *exits))


FACTS: tuple[Facts, ...] = (
    _looks("status", "status", guard=_Y, agent=_Y),
    _looks("status --check", "check", 10, guard=_Y),
    _looks("incidents", "incidents", agent=_F, guard=_Y),
    _looks("explain", "explain", 1, agent=_F, guard=_Y),
    _looks("watch", "event", agent=_N, guard=_Y),
    _looks("logs", "log line", 1),
    _looks("probe", "probe", 1),
    _moves("start", "done", 1),
    _moves("stop", "done", 1),
    _moves("restart", "done", 1),
    _moves("rollback", "rollback", 1, 5),
    _moves("approve", "answered", 1, right=_ROOT, agent=_N),
    _moves("reject", "answered", 1, agent=_N),
    _moves("pause", "done", 1),
    _moves("resume", "done", 1),
    _moves("challenge", "challenge"),
    _moves("redeem", "redeem", 1, 5, 6),
    _offline("image build", "built", 1, 6),
    _offline("image sign", "signed", 1, 6),
    _offline("image verify", "verified", 1, 4, 6),
    _offline("image inspect", "inspected", 1),
    _moves("image install", "image", 1, 5, 6, right=_ROOT),
    _looks("image list", "images"),
    _moves("image try", "moved", 1, 5, 6, right=_ROOT),
    _moves("image mark-good", "moved", 1, right=_ROOT),
    _moves("image allow", "moved", 1, right=_ROOT),
    _moves("image drop", "moved", 1, right=_ROOT),
    _offline("key new", "key", 1),
    _offline("key trust", "trust made", 1, 6),
    _offline("key sign", "trust made", 1, 6),
    _offline("key show", "keys", 1, 6),
    _moves("app config set", "done", 1, right=_ROOT),
    _moves("app config restore", "done", 1),
    _moves("app secret set", "done", 1, right=_ROOT),
    _offline("config check", "config check", 1),
    _offline("config show", "config show", 1),
    Facts("config reload", _ROOT, _Y, _Y, _Y, "config reload", (0, 1, 3, 4)),
    Facts("setup", Right.ONLY_ROOT, _Y, _Y, _Y, "setup", (0, 1, 4, 6)),
    _offline("drill list", "drills"),
    _offline("drill run", "drill", 1, 4),
    _offline("replay", "replay", 1),
    _offline("doctor", "doctor", 1),
    Facts("doctor --archive", _GROUP, _Y, _Y, _Y, "archive", (0, 1, 4)),
    _fleet("fleet tail", "fleet event"),
    _fleet("fleet devices", "fleet devices"),
    _offline("fleet incidents", "fleet incidents", 1),
    _fleet("fleet command", "fleet command", 3, 4, 6, 7),
    Facts("agent", _ANY, _Y, _Y, _Y, "", (0, 1)),
    Facts("guard", Right.ONLY_ROOT, _Y, _Y, _Y, "", (0, 1)),
    Facts("controller", _ANY, _Y, _Y, Works.NEEDS, "", (0, 1)),
)
