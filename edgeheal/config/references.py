# SPDX-License-Identifier: Apache-2.0
"""The files that a config names: are they there, and is a secret one secret? For `config check` and `doctor`.

Duty: look, tell. It opens nothing. Invariant: none of it keeps a config from being taken: a lost certificate costs the link, not the healing.
"""

import os
import stat
from collections.abc import Mapping

from edgeheal.config.decode import Origin
from edgeheal.config.problem import Problem
from edgeheal.config.schema import Config

_SECRET = ("link.key", "link.password_file")


def references(config: Config, origins: Mapping[str, Origin]) -> tuple[Problem, ...]:
    """What is wrong with the files that `config` names."""
    link = config.link
    named = {"link.ca": link.ca, "link.cert": link.cert, "link.key": link.key, "link.password_file": link.password_file}
    problems = []
    for key, path in named.items():
        fault = _fault(path, secret=key in _SECRET) if path else ""
        if fault:
            origin = origins.get(key, Origin("", 0))
            step = f"chmod 0640 {path}" if "readable" in fault else f"put the file there: {path}"
            problems.append(Problem(origin.file, origin.line, key, f"{path} {fault}", step=step))
    return tuple(problems)


def _fault(path: str, *, secret: bool) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError as fault:
        return f"cannot be looked at: {fault.strerror}"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    if secret and mode & 0o007:
        return "is readable by everybody"
    return ""
