# SPDX-License-Identifier: Apache-2.0
"""The guard: the privileged half of EdgeHeal. Entry of the resident process.

Duty: take the lock, put the parts together, run the loop. It decides nothing.
Invariants: one guard per root (a lock that a child between fork and exec also holds: a new guard meets no half-made process); apps go on
when it ends, however it ends; SIGTERM leaves them running, SIGINT (a person at a terminal) stops them in order first; apps are adopted or
started before people and the agent are let in.
Light on purpose: no third party, hashlib, dataclasses, typing, enum, re, json, signal, socket, subprocess is loaded here (a test looks).
"""

import fcntl
import gc
import os
import time

from edgeheal.adapters.manager import Manager
from edgeheal.adapters.own_log import OwnLog
from edgeheal.core import kinds_light as k
from edgeheal.core import reasons
from edgeheal.core.layout import Layout
from edgeheal.guard import kernel, places, spawn
from edgeheal.guard.agentproc import AgentProcess
from edgeheal.guard.body import Body
from edgeheal.guard.children import Children
from edgeheal.guard.devconfig import DeviceConfig
from edgeheal.guard.doors import KEPT_MOST, Doors
from edgeheal.guard.loop import Loop
from edgeheal.guard.record import EventLog
from edgeheal.guard.runs import Supervisor
from edgeheal.guard.runverbs import RunVerbs
from edgeheal.guard.users import Users
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeheal.guard.keeper import Keeper

    MakeKeeper = Callable[[Body], Keeper]

LOCK_WAIT_S = 15.0
SETTLE_S = 20.0
DAMAGED_CONFIG = 6  # EV_DAMAGED code: the device's config cannot be kept


class UsageError(Exception):
    """Words that the guard does not take."""


def words_of(argv: "Sequence[str]") -> "dict[str, str]":
    """`--root DIR`, `--libraries A:B`."""
    words = {"--root": "/", "--libraries": ""}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name not in words:
            raise UsageError(f"unknown word {word!r}; known: {', '.join(words)}")
        if not equals and not rest:
            raise UsageError(f"{name} needs a value")
        words[name] = value if equals else rest.pop(0)
    return words


class Guard:
    """The parts and their start."""

    def __init__(self, root: str, libraries: "list[str]", make_keeper: "MakeKeeper") -> None:
        """`make_keeper` gives the monitor; everything else is made here."""
        loop = Loop()
        doors = Doors(loop)
        package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self.body = body = Body(Layout(os.path.abspath(root)), loop, doors, Children(loop, [package], libraries), libraries)
        places.first(body)
        self._lock = _lock(f"{body.layout.run}/guard/lock")
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0) if os.geteuid() == 0 else None
        _spare_us()
        doors.remember(EventLog(f"{body.layout.run}/guard/events", KEPT_MOST, f.EVENT.size))
        self._config = DeviceConfig(body)
        self._users = Users(body)
        body.users_are(self._users)
        body.keeper = make_keeper(body)
        body.supervisor = Supervisor(body)
        body.agent = AgentProcess(body)
        body.reload_config = self.reload_config
        RunVerbs(body)
        loop.on_still.append(self._still)
        loop.on_signal.append(self._signal)
        self._ending = False
        self._manager = Manager()

    def run(self) -> int:
        """Until told to end."""
        self._config.begin(self._configured)
        self.body.loop.run()
        self.body.supervisor.groups.close()
        self.body.keeper.close()
        self.body.loop.log.say("ended", "in order")
        return 0

    def _configured(self, reason: int) -> None:
        body = self.body
        if not body.config:
            text = (self._config.fault or {}).get("message") or "no device config"
            body.loop.log.say("no-config", f"no config to run by: {text}; waiting for a better one (edgeheal config check)")
            self._open()
            body.loop.after(5.0, lambda: self._config.begin(self._configured))
            return
        self._boundary()
        if reason != reasons.OK:
            self._tell_fault()
        places.owned(body)
        body.keeper.begin(self._begin)

    def _begin(self) -> None:
        """Apps first; then the doors, then the agent."""
        body = self.body
        body.supervisor.begin()
        self._open()
        body.agent.begin()
        _settle()
        body.loop.after(SETTLE_S, _settle)  # by then what starting the apps had needed is free, too
        body.loop.log.say("began", f"guard of {body.layout.root}: {len(body.supervisor.apps)} apps, boundary {body.boundary}")

    def _open(self) -> None:
        body = self.body
        if body.doors.is_open:
            return
        agent_gid = int((body.config.get("users") or {}).get("agent_gid", -1))
        body.doors.open(
            body.layout.guard_agent_socket, body.layout.guard_socket, agent_uid=body.uid("agent"), agent_gid=agent_gid, group=body.group(),
            boundary=body.boundary != "none",
        )  # fmt: skip
        self._manager.ready()
        self._alive()

    def _alive(self) -> None:
        """To the manager, if it waits for that."""
        if self._manager.period_ns:
            self._manager.alive()
            self.body.loop.at(time.monotonic_ns() + self._manager.period_ns, self._alive)

    def _boundary(self) -> None:
        users = self.body.config.get("users") or {}
        agent = int(users.get("agent", -1))
        self.body.boundary = "none" if os.geteuid() != 0 or agent in (-1, os.geteuid()) else "full"
        if self.body.boundary == "none":
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)  # for all that we start, too

    def reload_config(self, then: "Callable[[int, int], None]") -> None:
        """Read the device's config again: `then(apps, reason)`; with a reason the old one stands."""

        def read(reason: int) -> None:
            body = self.body
            if reason == reasons.OK:
                self._users.forget()
                self._boundary()
                places.owned(body)
                body.keeper.on_config(body.config)
                body.supervisor.refresh()
                body.supervisor.start_new()
                body.agent.begin()
            else:
                self._tell_fault()
            then(len(body.supervisor.apps), reason)

        self._config.read(read)

    def _tell_fault(self) -> None:
        fault = self._config.fault or {}
        text = f"{fault.get('part') or 'config'}:{fault.get('object', '')} {fault.get('message', '')}"
        self.body.loop.log.say("config-refused", f"config refused, the last good one stands: {text}")
        self.body.doors.tell(f.pack_event(f.EV_DAMAGED, code=DAMAGED_CONFIG, say=text.encode()))

    def _still(self, gap_ms: int) -> None:
        self.body.doors.tell(f.pack_event(f.EV_STILL, a=gap_ms))
        self.body.keeper.on_still(gap_ms)

    def _signal(self, signum: int) -> None:
        """TERM: leave everything running. INT: stop the apps in order first, a second INT leaves at once. HUP: read the config."""
        body = self.body
        if signum == kernel.SIGHUP:
            self.reload_config(lambda _apps, _reason: None)
        elif signum == kernel.SIGINT and not self._ending:
            self._ending = True
            self._manager.ending()
            body.agent.end()
            self._stop_all()
        else:
            self._manager.ending()
            body.keeper.ending(body.loop.stop)

    def _stop_all(self) -> None:
        left = {name for name, app in self.body.supervisor.apps.items() if app.running or app.phase != f.PHASE_STOPPED}
        if not left:
            self.body.keeper.ending(self.body.loop.stop)

        def stopped(name: str) -> None:
            left.discard(name)
            if not left:
                self.body.keeper.ending(self.body.loop.stop)

        for name in list(left):
            self.body.supervisor.stop(name, k.BY_LOCAL, lambda _reason, name=name: stopped(name))  # type: ignore[misc]


def _settle() -> None:
    """What is here stays: the collector need not look at it again, and what is free goes back to the kernel."""
    gc.collect()
    gc.freeze()
    kernel.trim()


def _lock(path: str) -> int:
    """The lock of this root's guard. Whoever waits here waits for a guard that ends, or for a child of one that has not come to its exec."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise UsageError(f"another guard runs this device ({path}); end it first") from None
            time.sleep(0.01)  # before the loop there is nothing to wait on but the lock
            continue
        return fd


def _spare_us() -> None:
    """Kill others first when memory runs out; only root may say so."""
    if os.geteuid() == 0:
        try:
            with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
                file.write("-900")
            spawn.spared = True
        except OSError:
            return


def _monitor(body: Body) -> "Keeper":
    from edgeheal.guard.monitor import Monitor

    return Monitor(body)


def main(argv: "Sequence[str]", make_keeper: "MakeKeeper" = _monitor) -> int:
    """Run the guard; 2 for words it does not take, 1 when it cannot begin."""
    try:
        words = words_of(argv)
        libraries = [path for path in words["--libraries"].split(":") if path]
        guard = Guard(words["--root"], libraries, make_keeper)
    except UsageError as fault:
        OwnLog("guard").say("cannot-begin", str(fault))
        return 2
    except OSError as fault:
        OwnLog("guard").say("cannot-begin", f"cannot begin: {fault}")
        return 1
    return guard.run()
