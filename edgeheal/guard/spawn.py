# SPDX-License-Identifier: Apache-2.0
"""How a process is started: fork, become somebody else, exec; the parent never waits for it.

Duty: carry out one `Program`. It knows no app, restarts nothing and looks for nothing.
Invariants: the program starts with no descriptor of ours but those named, no blocked signal, its own session, the named uid, gid and groups
(and no others), its limits in force before its first instruction; whether exec worked is told through `on_exec(errno)` (0: it did),
never by blocking the loop. Between fork and exec signals to the child cannot reach our wake-up pipe.
Why mostly a fork: posix_spawn has no ids, no control group and no limits (docs/adr). Where nothing of that is asked for (`quick`: one plain user,
boundary none) it is used, since it takes half the time; there the limits follow a moment after the start.
Light on purpose: the resident guard imports it.
"""

import errno
import os
import resource
import select

from edgeheal.guard import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edgeheal.guard.loop import Loop

ASIDE_MS = 3
spared = False  # whether the guard itself is spared by the OOM killer (main says so): then a child must give that up
_HELD = (kernel.SIGTERM, kernel.SIGINT, kernel.SIGHUP, kernel.SIGCHLD)


class Program:
    """What to start, and as whom. -1 for an id: stay who we are; -1 for a descriptor: /dev/null."""

    __slots__ = (
        "argv", "cgroup", "cwd", "env", "gid", "groups", "isolate", "limits", "no_new_privs", "passed", "quick", "stderr", "stdin", "stdout", "uid", "umask", "work",
    )  # fmt: skip

    def __init__(
        self,
        argv: "Sequence[str]",
        *,
        env: "dict[str, str] | None" = None,
        cwd: str = "/",
        uid: int = -1,
        gid: int = -1,
        groups: "Sequence[int]" = (),
        stdin: int = -1,
        stdout: int = -1,
        stderr: int = -1,
        passed: int = -1,
        limits: "Sequence[tuple[int, int, int]]" = (),
        cgroup: int = -1,
        isolate: bool = False,
        no_new_privs: bool = True,
        umask: int = 0o022,
        work: "Callable[[], int] | None" = None,
        quick: bool = False,
    ) -> None:
        """`quick`: by posix_spawn where no ids change. `work`: done in the child in place of exec, its value the exit status. `argv[0]` is an absolute path; `passed` becomes descriptor 3; `limits` are (resource, soft, hard); `cgroup` an open folder of a group."""
        self.argv = list(argv)
        self.env = env or {}
        self.cwd = cwd
        self.uid = uid
        self.gid = gid
        self.groups = list(groups)
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.passed = passed
        self.limits = list(limits)
        self.cgroup = cgroup
        self.isolate = isolate
        self.no_new_privs = no_new_privs
        self.umask = umask
        self.work = work
        self.quick = quick and work is None and cgroup < 0 and passed < 0 and not isolate and uid in (-1, os.geteuid()) and gid in (-1, os.getegid())


def start(loop: "Loop", program: Program, on_exec: "Callable[[int], None]", on_exit: "Callable[[int, int], None]") -> int:
    """The pid, or OSError when there could be no child. `on_exec(errno)` later, once; `on_exit(pid, wait status)` when it ended."""
    if program.quick:
        return _quick(loop, program, on_exec, on_exit)
    tell_in, tell_out = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = kernel.block(_HELD)
    pid = kernel.fork_into(program.cgroup) if program.cgroup >= 0 else -1
    joined = pid >= 0
    try:
        pid = pid if joined else os.fork()
    except OSError:
        kernel.mask(before)
        os.close(tell_in)
        os.close(tell_out)
        raise
    if pid == 0:
        _become(program, tell_out, joined)
    kernel.mask(before)
    os.close(tell_out)
    loop.child(pid, on_exit)

    def told(fd: int, _events: int) -> None:
        loop.unwatch(fd)
        try:
            word = os.read(fd, 16)
        finally:
            os.close(fd)
        on_exec(int(word) if word else 0)

    if _soon(tell_in):
        loop.later(lambda: told(tell_in, 1))
    else:
        loop.watch(tell_in, told)
    return pid


def _quick(loop: "Loop", program: Program, on_exec: "Callable[[int], None]", on_exit: "Callable[[int, int], None]") -> int:
    """posix_spawn from the program's folder, with its umask; no-new-privileges is the guard's own then, and inherited (`main`)."""
    opens = [(os.POSIX_SPAWN_OPEN, target, "/dev/null", os.O_RDWR, 0) for target, fd in enumerate((program.stdin, program.stdout, program.stderr)) if fd < 0]
    copies = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate((program.stdin, program.stdout, program.stderr)) if fd >= 0]
    mask = os.umask(program.umask)
    try:
        os.chdir(program.cwd)
        pid = os.posix_spawn(program.argv[0], program.argv, program.env, file_actions=[*copies, *opens], setsid=True, setsigmask=(), setsigdef=kernel.OURS)
    finally:
        os.umask(mask)
        os.chdir("/")
    loop.child(pid, on_exit)
    for kind, soft, hard in program.limits:
        try:
            resource.prlimit(pid, kind, (soft, hard))
        except (OSError, ValueError):
            continue  # it has ended already, or we may not raise it: then ours hold
    loop.later(lambda: on_exec(0))
    return pid


def _soon(fd: int) -> bool:
    """Step aside for at most `ASIDE_MS`, so that the child has our processor: on a busy box that saves it a whole turn of the scheduler."""
    poll = select.poll()
    poll.register(fd, 1)
    return bool(poll.poll(ASIDE_MS))


def _become(program: Program, tell: int, joined: bool) -> None:
    """In the child: never returns."""
    code = errno.EPROTO
    try:
        kernel.forget_signals()
        os.setsid()
        _descriptors(program, tell)
        if program.cgroup >= 0 and not joined:
            os.write(os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=program.cgroup), b"0")
        _become_user(program)
        if program.work is not None:
            os.closerange(3, 65_536)  # no exec will: a child that hangs must hold neither lock nor doors
            os._exit(program.work())
        os.execve(program.argv[0], program.argv, program.env)
    except OSError as fault:
        code = fault.errno or errno.EPROTO
    except ValueError:
        code = errno.EINVAL
    finally:
        try:
            os.write(tell, b"%d" % code)
        finally:
            os._exit(127)


def _descriptors(program: Program, tell: int) -> None:
    """0, 1, 2 and, when there is one to pass, 3; all others of ours are close-on-exec."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    wanted = [null if fd < 0 else fd for fd in (program.stdin, program.stdout, program.stderr)]
    if program.passed >= 0:
        wanted.append(program.passed)
    if tell <= 3:  # our own 0..3 were closed: move out of the way
        raise ValueError("descriptors 0 to 3 must be taken")
    high = [fd if fd > 3 else os.dup(fd) for fd in wanted]
    high = [_above(fd) for fd in high]
    for target, fd in enumerate(high):
        os.dup2(fd, target)


def _above(fd: int) -> int:
    """A copy that cannot be overwritten by the dup2 that follow."""
    held = []
    while fd <= 3:
        held.append(fd)
        fd = os.dup(fd)
    return fd


def _become_user(program: Program) -> None:
    """Limits, namespace, ids, folder: in the order in which each is still allowed."""
    if program.isolate and os.geteuid() == 0:
        kernel.unshare(kernel.CLONE_NEWNET)
    for kind, soft, hard in program.limits:
        _limit(kind, soft, hard)
    if spared:
        _spare_nobody()
    if (program.uid >= 0 and program.uid != os.geteuid()) or (program.gid >= 0 and program.gid != os.getegid()):
        os.setgroups(program.groups)
        if program.gid >= 0:
            os.setgid(program.gid)
        if program.uid >= 0:
            os.setuid(program.uid)
    elif program.groups and os.geteuid() == 0:
        os.setgroups(program.groups)
    if program.no_new_privs:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    os.umask(program.umask)
    os.chdir(program.cwd)


def _limit(kind: int, soft: int, hard: int) -> None:
    """A limit, at most what we ourselves are allowed."""
    mine = resource.getrlimit(kind)[1]
    if mine != resource.RLIM_INFINITY and os.geteuid() != 0:
        hard = mine if hard == resource.RLIM_INFINITY else min(hard, mine)
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(kind, (soft, hard))


def _spare_nobody() -> None:
    """The guard may be spared by the OOM killer; what it starts is not."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, b"0")
    except OSError:
        return
    finally:
        os.close(fd)


def kill_all_of(loop: "Loop", uid: int, gid: int) -> None:
    """`kill(-1, SIGKILL)` as that uid: nobody of it can fork away from this."""
    before = kernel.block(_HELD)
    try:
        pid = os.fork()
    except OSError:
        kernel.mask(before)
        return
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            os.kill(-1, kernel.SIGKILL)
        finally:
            os._exit(0)
    kernel.mask(before)
    loop.child(pid, _ended)


def _ended(pid: int, status: int) -> None:
    """A helper whose end tells nothing."""
