# SPDX-License-Identifier: Apache-2.0
"""A short-lived child, as an app's uid: empties the app's volatile folder for a clean restart.

Duty: remove what is below one folder, the folder itself left. Not imported by the resident guard.
Invariants: follows no link; bounded in depth by the file system; a name that will not go is counted, not fought.
Request: {"path"}. Done: {"left": names that could not be removed}.
"""

import os
from typing import Any

from edgeheal.guard import child


def work(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    """Remove; see the module."""
    left = 0
    for folder, folders, names, at in os.fwalk(request["path"], topdown=False, follow_symlinks=False):
        del folder
        for name, remove in [(n, os.unlink) for n in names] + [(n, os.rmdir) for n in folders]:
            try:
                remove(name, dir_fd=at)
            except NotADirectoryError:
                os.unlink(name, dir_fd=at)  # a link to a folder
            except OSError:
                left += 1
    return {"left": left}


def main(_words: list[str]) -> int:
    """Entry of the child."""
    return child.run(work)
