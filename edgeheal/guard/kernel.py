# SPDX-License-Identifier: Apache-2.0
"""The few words of the kernel that Python's light modules do not speak.

Duty: prctl, unshare, mount, inotify, timers, holes in files, the exit status behind a pidfd; signals by name. It decides nothing.
Invariants: a call that the kernel does not know says so (False, None), it never raises; no `ctypes`, `signal` or `enum` is loaded
(they cost the resident guard 1.3 MB). Sources: prctl(2), unshare(2), inotify(7), linux/pidfd.h of 6.15.
Light on purpose: the resident guard imports it.
"""

import _ctypes
import _signal  # type: ignore[import-not-found, unused-ignore]
import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGCHLD = 1, 2, 9, 15, int(_signal.SIGCHLD)

# what we or Python changed: caught ones would be lost before exec, ignored ones would stay ignored after it
OURS = (SIGHUP, SIGINT, 3, SIGTERM, SIGCHLD, int(_signal.SIGPIPE), int(_signal.SIGXFSZ))
PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_SECCOMP = 38, 36, 4, 15, 22
CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER = 0x40000000, 0x00020000, 0x10000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE = 1, 2
IN_MODIFY, IN_ONESHOT = 0x2, 0x80000000
IN_NONBLOCK, IN_CLOEXEC = 0o4000, 0o2000000

# struct pidfd_info: mask u64, cgroupid u64, pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid (u32), exit_code s32, ...
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_PIDFD_INFO_EXIT = 1 << 3
_INFO_SIZE = 64
_PIDFD_GET_INFO = 0xC000FF0B | (_INFO_SIZE << 16)  # _IOWR(0xFF, 11, 64 bytes); the kernel takes the size from the number
PIDFD_EXITS = 1 << 3

_LIBC = _ctypes.dlopen(None, 0)  # type: ignore[arg-type, unused-ignore]  # the program itself: libc is in it


def _call(name: str, *words: object) -> int:
    """A C function's int; -1 also when libc has no such function."""
    try:
        return int(_ctypes.call_function(_ctypes.dlsym(_LIBC, name), words))
    except (OSError, AttributeError):
        return -1


def prctl(option: int, value: int) -> bool:
    """Set one option of this process; False when it was refused."""
    return _call("prctl", option, value, 0, 0, 0) == 0


def seccomp(mode: int, filter_words: bytes) -> bool:
    """PR_SET_SECCOMP with a `struct sock_fprog` as bytes (guard.seccomp makes it); False when the kernel has none."""
    return _call("prctl", PR_SET_SECCOMP, mode, filter_words, 0, 0) == 0


def unshare(flags: int) -> bool:
    """Leave namespaces; needs privileges."""
    return _call("unshare", flags) == 0


def mount_tmpfs(path: str, words: str) -> bool:
    """A volatile disk of its own at `path`; needs privileges."""
    return _call("mount", b"edgeheal", os.fsencode(path), b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, words.encode()) == 0


def reboot(command: int) -> bool:
    """Restart, halt or power off; returns only when it was refused."""
    return _call("reboot", command) == 0


def trim() -> None:
    """Give memory that is free back to the kernel, where the C library can."""
    _call("malloc_trim", 0)


class _Long(_ctypes._SimpleCData):  # type: ignore[misc, name-defined, type-arg, unused-ignore]
    """A C `long long`: a plain int would be passed as 32 bits."""

    _type_ = "q"


def punch(fd: int, start: int, length: int) -> bool:
    """Free this part of a file; its size and what lies elsewhere stay. False: the file system cannot."""
    words = (fd, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, _Long(start), _Long(length))
    return _call("fallocate64", *words) == 0 or _call("fallocate", *words) == 0  # musl has the second one only, 64 bits wide


def timer() -> int:
    """A new timer descriptor, readable once its time is over; -1 when there is none to have. Whoever has it may set it anew."""
    return _call("timerfd_create", 1, IN_NONBLOCK | IN_CLOEXEC)  # 1: monotonic; the flags are open's, as inotify's


def timer_set(fd: int, seconds: int) -> bool:
    """So long from now; 0: never."""
    return _call("timerfd_settime", fd, 0, struct.pack("@4l", 0, 0, seconds, 0), None) == 0


def inotify() -> int:
    """A new inotify descriptor, non-blocking; -1 when there is none to have."""
    return _call("inotify_init1", IN_NONBLOCK | IN_CLOEXEC)


def inotify_once(fd: int, path: str) -> bool:
    """Tell of the next write to `path`, once."""
    return _call("inotify_add_watch", fd, os.fsencode(path), IN_MODIFY | IN_ONESHOT) >= 0


def pidfd_status(fd: int) -> int | None:
    """The wait status of a process that ended and was reaped by whoever is its parent; None: not told (yet, or by this kernel)."""
    buffer = bytearray(_INFO_SIZE)
    struct.pack_into("=Q", buffer, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(fd, _PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    fields = _PIDFD_INFO.unpack_from(buffer)
    return fields[-1] if fields[0] & _PIDFD_INFO_EXIT else None


def pidfd_send(fd: int, signum: int) -> bool:
    """A signal to the process behind a pidfd; False when it is gone."""
    try:
        _signal.pidfd_send_signal(fd, signum)
    except OSError:
        return False
    return True


_CLONE3, _CLONE_INTO_CGROUP = 435, 0x200000000
_CLONE_ARGS = struct.Struct("=11Q")  # flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup


def fork_into(folder: int) -> int:
    """fork(2), the child already in the control group of this folder descriptor (5.7 and newer): 0 in the child, the pid, or -1.

    Moving a process afterwards waits for a grace period of the kernel, 10 to 20 ms; this does not. The child must exec or end soon: the C
    library's and Python's own words after a fork are not run, which a process with one thread can do without.
    """
    return _call("syscall", _CLONE3, _CLONE_ARGS.pack(_CLONE_INTO_CGROUP, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, folder), _CLONE_ARGS.size)


def number_of(name: str) -> int:
    """The number of `TERM` (or `SIGTERM`); SIGTERM for a name that this machine does not know."""
    bare = name.upper().removeprefix("SIG")
    return int(getattr(_signal, f"SIG{bare}", SIGTERM))


def block(signums: "Iterable[int]") -> "set[int]":
    """Hold these back; the set that was blocked before."""
    before: set[int] = _signal.pthread_sigmask(_signal.SIG_BLOCK, signums)
    return before


def mask(signums: "Iterable[int]") -> None:
    """Let exactly these be blocked."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, signums)


def wake_by(fd: int, signums: "Iterable[int]") -> None:
    """From now on a signal of `signums` writes its number to `fd` and does nothing else."""
    _signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    for signum in signums:
        _signal.signal(signum, _nothing)


def ignore(signum: int) -> None:
    """A signal that shall not end us."""
    _signal.signal(signum, _signal.SIG_IGN)


def forget_signals() -> None:
    """In a child before exec: every disposition back to what a program expects, nothing blocked, no wake-up descriptor."""
    _signal.set_wakeup_fd(-1)
    for signum in OURS:
        _signal.signal(signum, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _nothing(signum: int, frame: object) -> None:
    """The wake-up descriptor is what counts."""
