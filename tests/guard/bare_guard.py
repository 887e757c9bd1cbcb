# SPDX-License-Identifier: Apache-2.0
"""The real guard with a keeper of its own: launch records and wanted state as the test wrote them, no images, no trust.

Run as the product runs the guard: `python -I -S bare_guard.py PACKAGE --root R`. Records lie in R/bare/<app>.launch (image.records).
"""

import os
import sys

sys.path[:0] = [sys.argv[1]]

from edgeheal.core import deployment, kinds_light, reasons  # noqa: E402
from edgeheal.guard import keeper, main  # noqa: E402
from edgeheal.guard.launch import Launch  # noqa: E402
from edgeheal.image.records import pack, unpack  # noqa: E402


class BareKeeper(keeper.Keeper):
    def __init__(self, body):
        self.body = body
        self.folder = f"{body.layout.root}/bare"
        self.base = 1_000

    def _record(self, app):
        with open(f"{self.folder}/{app}.launch", "rb") as file:
            return unpack(file.read())

    def apps(self):
        return sorted(name.removesuffix(".launch") for name in os.listdir(self.folder) if name.endswith(".launch"))

    def box_s(self):
        import time

        return self.base + time.monotonic_ns() // 1_000_000_000

    def launch(self, app, by, then):
        if os.path.exists(f"{self.folder}/{app}.refused"):
            then(reasons.BLOCKED)
            return
        record = self._record(app)
        data = f"{self.body.layout.data}/{app}/0"
        user = self.body.user_of(app)
        if not os.path.isdir(data):
            os.makedirs(data)
            if os.geteuid() == 0:
                os.chown(data, user.uid, user.gid)
        then(Launch(record, tree=f"{self.folder}/{app}", data=data, user=user, word=(self.body.config.get("apps") or {}).get(app)))

    def seen(self, app):
        return keeper.Seen(b"\1" * 32, deployment.GOOD)

    def wanted(self, app):
        try:
            with open(f"{self.folder}/{app}.wanted", "rb") as file:
                running, by, until, pause = unpack(file.read())
        except OSError:
            return keeper.Wanted()
        if until and until <= self.box_s():
            running, by, until = True, kinds_light.BY_BOOT, 0
        return keeper.Wanted(running, by, until, pause)

    def want(self, app, running, by, until=0):
        with open(f"{self.folder}/{app}.wanted.new", "wb") as file:
            file.write(pack([running, by, until, 0]))
        os.rename(f"{self.folder}/{app}.wanted.new", f"{self.folder}/{app}.wanted")
        return 0


if __name__ == "__main__":
    sys.exit(main.main(sys.argv[2:], BareKeeper))
