# SPDX-License-Identifier: Apache-2.0
"""The real guard with one hole, made here and nowhere else: `hostile_guard.py PACKAGE HOLE --root R --libraries L`. The hostile bench must see it."""

import os
import sys

sys.path[:0] = [sys.argv[1]]

from edgeheal.guard import appdata, budgets, main, warrants


def warrant_skipped():
    warrants.Warrants.holds = lambda *_: True
    warrants.Warrants.use = lambda *_: b""


def budget_reset():
    """A restart of the guard forgets what was spent."""
    made = budgets.Budgets.__init__

    def init(self, folder, now_s):
        made(self, folder, now_s)
        self._stamps.clear()

    budgets.Budgets.__init__ = init


def symlink_followed():
    """Root writes by path inside a folder that the app can change."""

    def set_config(self, app, one, record, fd, tree):
        with open(self.live(app.name, one.data or 1, record), "wb") as file:
            file.write(os.pread(fd, 65_536, 0))
            file.flush()
            said = os.fstat(file.fileno())
        return {"size": said.st_size, "mtime": said.st_mtime_ns}
        yield

    appdata.AppData.set_config = set_config


if __name__ == "__main__":
    {"": lambda: None, "warrant": warrant_skipped, "budget": budget_reset, "symlink": symlink_followed}[sys.argv[2]]()
    sys.exit(main.main(sys.argv[3:]))
