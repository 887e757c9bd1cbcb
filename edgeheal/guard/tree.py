# SPDX-License-Identifier: Apache-2.0
"""Who belongs to an app, and how all of them are signalled or killed.

Duty: list members of a run's tree, those that left its process group included; send signals to exactly them.
Invariants: never a signal by a bare, possibly reused number: members are read afresh for each round, and a process is one of ours by its
control group, its descent, its session, its uid (where that is the app's alone) or the marker in its environment; probes are not members.
Kill is by cgroup; else by `kill(-1)` as the app's uid where that is its alone; else one by one.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.guard import kernel, launch, procs, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.app import App
    from edgeheal.guard.body import Body

_MARK, _ROOT = launch.MARK.encode(), launch.ROOT_MARK.encode()


class Trees:
    """Members of apps' trees. `spared` are sessions of ours that run as an app's uid and are no members (probes)."""

    def __init__(self, body: "Body") -> None:
        """Reads /proc and control groups when asked."""
        self._body = body
        self._root = os.fsencode(body.layout.root)
        self.spared: set[int] = set()
        self._seen: tuple[dict[int, procs.Process], dict[int, dict[bytes, bytes]]] | None = None

    def maybe(self, app: "App") -> bool:
        """Whether anyone *may* be left of an app whose main process is gone: cheap, and never wrongly False."""
        if app.group is not None:
            if app.group.populated():
                return True
            return app.run is not None and app.run.adopted and bool(self.members(app))
        if app.run is None or app.run.adopted:
            return True
        kids = procs.children_of(os.getpid())
        return kids is None or any(kid not in self._body.loop.children for kid in kids)

    def members(self, app: "App") -> "list[int]":
        """Everyone alive of this app, its main process first if it lives."""
        main = app.pid
        found: dict[int, None] = {main: None} if main and _alive(main) else {}
        if app.group is not None and not (app.run is not None and app.run.adopted):
            found.update(dict.fromkeys(pid for pid in app.group.pids() if pid not in self.spared))
            return list(found)
        everyone = self._seen[0] if self._seen is not None else procs.everyone()
        if main:
            found.update(dict.fromkeys(one.pid for one in procs.below(main, everyone)))
        if app.group is not None:
            found.update(dict.fromkeys(pid for pid in app.group.pids() if pid in everyone))
        user = self._body.user_of(app.name)
        last = app.run.pid or int(app.record.value.get("pid") or 0) if app.run is not None else int(app.record.value.get("pid") or 0)
        me = os.getpid()
        for one in everyone.values():
            if one.pid in found or one.pid == me or one.session in self.spared:
                continue
            uid = procs.uid_of(one.pid)
            if uid == user.uid and (user.alone or (last and one.session == last) or self._marked(one.pid, app.name)):
                found[one.pid] = None
        return [pid for pid in found if pid not in self.spared]

    def belongs(self, app: "App", pid: int) -> bool:
        """Whether this process is part of the app's present run."""
        if pid == app.pid:
            return True
        if app.group is not None and app.group.holds(pid):
            return True
        one = procs.process(pid)
        if one is None or not app.pid:
            return False
        return one.session == app.pid or procs.descends(pid, app.pid) or self._marked(pid, app.name)

    def worker(self, app: "App") -> int:
        """Whom signals are for: the main process, or the first child of a wrapper."""
        run = app.run
        if run is None or run.launch is None or not run.launch.worker_is_child:
            return app.pid
        kids = procs.children_of(app.pid) or [one.pid for one in procs.below(app.pid, procs.everyone())]
        return kids[0] if kids else app.pid

    def signal(self, app: "App", pid: int, signum: int) -> bool:
        """One signal to one member; by pidfd for a main process that is not our child."""
        run = app.run
        if run is not None and pid == run.pid and run.pidfd >= 0:
            return kernel.pidfd_send(run.pidfd, signum)
        try:
            os.kill(pid, signum)
        except OSError:
            return False
        return True

    def kill(self, app: "App") -> None:
        """SIGKILL to the whole tree."""
        if app.group is not None and app.group.kill() and not (app.run is not None and app.run.adopted):
            return
        user = self._body.user_of(app.name)
        if user.alone and os.geteuid() == 0 and user.uid > 0:
            spawn.kill_all_of(self._body.loop, user.uid, user.gid)
        for pid in self.members(app):
            self.signal(app, pid, kernel.SIGKILL)

    def _marked(self, pid: int, app: str) -> bool:
        marks = self._seen[1].get(pid, {}) if self._seen is not None else procs.marks(pid, (_MARK, _ROOT))
        return marks.get(_MARK, b"").startswith(app.encode() + b":") and marks.get(_ROOT) == self._root

    def marked(self) -> "dict[str, list[tuple[int, procs.Process]]]":
        """Every process of this device's apps by its marker: app -> (run, process). For adoption: one look at everybody, used for all apps until `look_anew`."""
        found: dict[str, list[tuple[int, procs.Process]]] = {}
        everyone = procs.everyone()
        self._seen = (everyone, {pid: procs.marks(pid, (_MARK, _ROOT)) for pid in everyone})
        for one in everyone.values():
            marks = self._seen[1][one.pid]
            name, colon, number = marks.get(_MARK, b"").decode("ascii", "replace").rpartition(":")
            if colon and number.isdigit() and marks.get(_ROOT) == self._root:
                found.setdefault(name, []).append((int(number), one))
        return found

    def look_anew(self) -> None:
        """What `marked` saw is old by now."""
        self._seen = None


def _alive(pid: int) -> bool:
    one = procs.process(pid)
    return one is not None and one.alive
