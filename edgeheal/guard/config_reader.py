# SPDX-License-Identifier: Apache-2.0
"""Child of the guard: the device's TOML files -> the guard's config record.

Duty: read, check, resolve users, answer; then exit. The resident guard knows no TOML.
Not imported by the resident guard. Invariant: a config with a problem is no record: the guard keeps the one in force.

Request  {"root": str, "uid": int, "gid": int (the guard's own; absent: this process's)}
Done     {"config": the guard config record (config.guard_record), "files": [path]}
Error    reason BAD_CONFIG, part = file, object = line (-1: the file as a whole), message = the first problem and how many more, hint = nearest valid form
"""

import sys
from collections.abc import Sequence
from typing import Any

from edgeheal.config.accounts import resolve
from edgeheal.config.guard_record import guard_record
from edgeheal.config.load import load
from edgeheal.config.problem import Problem
from edgeheal.core import reasons
from edgeheal.core.errors import ConfigError
from edgeheal.core.layout import Layout
from edgeheal.guard import child


class ReaderError(ConfigError):
    """A config that cannot be kept, as the guard's child protocol tells it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """The first problem, with file and line apart."""
        first = problems[0]
        more = f" (and {len(problems) - 1} more: `edgeheal config check`)" if len(problems) > 1 else ""
        super().__init__(first.sentence() + more, place=first.place(), hint=first.hint())
        self.reason = reasons.BAD_CONFIG
        self.part = first.file
        self.number = first.line or -1


def work(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    """The values of "done"."""
    loaded = load(Layout(str(request.get("root") or "/")))
    if loaded.config is None:
        raise ReaderError(loaded.problems)
    us = (int(request["uid"]), int(request.get("gid", 0))) if "uid" in request else None
    accounts, problems = resolve(loaded.config, loaded.origins, us)
    if problems:
        raise ReaderError(problems)
    return {"config": guard_record(loaded.config, accounts), "files": [t.path for t in loaded.texts]}


def main(_words: Sequence[str] = ()) -> int:
    """Run as a child."""
    return child.run(work)


if __name__ == "__main__":
    sys.exit(main())
