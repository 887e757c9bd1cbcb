# SPDX-License-Identifier: Apache-2.0
"""Which hook points exist on this box: folders `hooks/<point>.d` with at least one executable in them.

Duty: look. It runs nothing and judges no file's owner: the guard does both when it runs them.
Invariants: bounded; a folder that may not be looked into is no point, and raises nothing.
"""

import os
import re
import stat

POINTS_MOST = 64
FILES_MOST = 64
_POINT = re.compile(r"([a-z0-9_][a-z0-9_.-]{0,31})\.d")


def hook_points(folder: str) -> tuple[str, ...]:
    """Their names, sorted."""
    found = []
    for entry in _listed(folder, POINTS_MOST):
        named = _POINT.fullmatch(entry)
        if named is not None and any(_runs(f"{folder}/{entry}/{name}") for name in _listed(f"{folder}/{entry}", FILES_MOST)):
            found.append(named[1])
    return tuple(found)


def _listed(folder: str, most: int) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:most]
    except OSError:
        return []


def _runs(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111)
