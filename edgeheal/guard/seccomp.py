# SPDX-License-Identifier: Apache-2.0
"""Which calls of the kernel a reading child may make: an allow-list as a BPF filter, put in force by the child itself before it reads its request.

Duty: the lists, the filter as bytes, its putting in force. For the importer, the storing child, the verifier and the boot child, which meet bytes
from outside. Not imported by the resident guard.
Invariants: what is not listed fails with EPERM (clone3 and openat2 with ENOSYS, so that the C library takes the older call); no network, no exec, no
signal to others, no mount, no new namespace, no change of user is listed; a reader opens nothing for writing; the filter holds for all threads and
children that come later; a machine or kernel that is not known here runs without (`status` says so), never with a wrong list.
Sources: seccomp(2), linux/audit.h; numbers of asm-generic/unistd.h, asm/unistd_64.h and the EABI table of Linux.
"""

import array
import errno
import os
import struct
import sys

from edgeheal.guard import kernel

# machine, bytes of a pointer -> (AUDIT_ARCH, column of _CALLS)
MACHINES = {
    ("x86_64", 8): (0xC000003E, 0), ("aarch64", 8): (0xC00000B7, 1), ("riscv64", 8): (0xC00000F3, 1),
    ("armv7l", 4): (0x40000028, 2), ("armv6l", 4): (0x40000028, 2), ("armv8l", 4): (0x40000028, 2), ("aarch64", 4): (0x40000028, 2),
}  # fmt: skip

_NONE = -1
# name: (x86_64, asm-generic, arm)
_READING = {
    "read": (0, 63, 3), "write": (1, 64, 4), "close": (3, 57, 6), "fstat": (5, 80, 197), "newfstatat": (262, 79, 327), "lseek": (8, 62, 140),
    "lseek_32": (_NONE, _NONE, 19), "pread64": (17, 67, 180), "readv": (19, 65, 145), "writev": (20, 66, 146), "fadvise64": (221, 223, 270),
    "getdents64": (217, 61, 217), "readlinkat": (267, 78, 332), "readlink": (89, _NONE, 85), "stat": (4, _NONE, 195), "lstat": (6, _NONE, 196),
    "statx": (332, 291, 397), "access": (21, _NONE, 33), "faccessat": (269, 48, 334), "faccessat2": (439, 439, 439), "statfs": (137, 43, 266),
    "fstatfs": (138, 44, 267), "fcntl": (72, 25, 221), "fcntl_32": (_NONE, _NONE, 55), "dup": (32, 23, 41), "dup2": (33, _NONE, 63), "dup3": (292, 24, 358),
    "pipe2": (293, 59, 359), "poll": (7, _NONE, 168), "ppoll": (271, 73, 336), "ppoll_64": (_NONE, _NONE, 414), "getcwd": (79, 17, 183),
    "mmap": (9, 222, 192), "mprotect": (10, 226, 125), "munmap": (11, 215, 91), "mremap": (25, 216, 163), "madvise": (28, 233, 220), "brk": (12, 214, 45),
    "futex": (202, 98, 240), "futex_64": (_NONE, _NONE, 422), "sched_yield": (24, 124, 158), "sched_getaffinity": (204, 123, 242),
    "set_robust_list": (273, 99, 338), "set_tid_address": (218, 96, 256), "rseq": (334, 293, 398), "membarrier": (324, 283, 389),
    "rt_sigaction": (13, 134, 174), "rt_sigprocmask": (14, 135, 175), "rt_sigreturn": (15, 139, 173), "sigreturn": (_NONE, _NONE, 119),
    "sigaltstack": (131, 132, 186), "wait4": (61, 260, 114), "exit": (60, 93, 1), "exit_group": (231, 94, 248), "fork": (57, _NONE, 2),
    "getpid": (39, 172, 20), "gettid": (186, 178, 224), "getppid": (110, 173, 64), "getuid": (102, 174, 199), "geteuid": (107, 175, 201),
    "getgid": (104, 176, 200), "getegid": (108, 177, 202), "uname": (63, 160, 122), "sysinfo": (99, 179, 116), "getrusage": (98, 165, 77),
    "getpriority": (140, 141, 96), "setpriority": (141, 140, 97), "getrlimit": (97, 163, 191), "umask": (95, 166, 60), "getrandom": (318, 278, 384),
    "clock_gettime": (228, 113, 263), "clock_gettime_64": (_NONE, _NONE, 403), "clock_getres": (229, 114, 264), "clock_nanosleep": (230, 115, 265),
    "clock_nanosleep_64": (_NONE, _NONE, 407), "nanosleep": (35, 101, 162), "gettimeofday": (96, 169, 78), "cacheflush": (_NONE, _NONE, 0x0F0002),
    "set_tls": (_NONE, _NONE, 0x0F0005), "riscv_flush_icache": (_NONE, 259, _NONE),
}  # fmt: skip
_WRITING = {
    "pwrite64": (18, 68, 181), "mkdir": (83, _NONE, 39), "mkdirat": (258, 34, 323), "rmdir": (84, _NONE, 40), "unlink": (87, _NONE, 10),
    "unlinkat": (263, 35, 328), "rename": (82, _NONE, 38), "renameat": (264, 38, 329), "renameat2": (316, 276, 382), "linkat": (265, 37, 330),
    "symlinkat": (266, 36, 331), "fchmod": (91, 52, 94), "fchmodat": (268, 53, 333), "utimensat": (280, 88, 348), "utimensat_64": (_NONE, _NONE, 412),
    "fsync": (74, 82, 118), "fdatasync": (75, 83, 148), "syncfs": (306, 267, 373), "ftruncate": (77, 46, 194), "fallocate": (285, 47, 352),
    "openat": (257, 56, 322), "open": (2, _NONE, 5),
}  # fmt: skip
_OPEN, _OPENAT, _CLONE = (2, _NONE, 5), (257, 56, 322), (56, 220, 120)
_IOCTL, _PRCTL = (16, 29, 54), (157, 167, 172)
_UNKNOWN = ((435, 435, 435), (437, 437, 437))  # clone3, openat2: their arguments lie behind a pointer
_NEW_SPACES = 0x7E020080  # CLONE_NEW*
_FOR_WRITING = 3 | 0o100 | 0o1000  # access mode, O_CREAT, O_TRUNC
_IOCTLS = (0x5401, 0x5413, 0x5450, 0x5451, 0x6685 | 0x40800000, 0x6686 | 0xC0040000)  # is it a terminal, its size, close-on-exec; fs-verity on, its digest
_PR_SET_NAME = 15

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_MODE_FILTER = 2
_NR, _ARCH, _ARGUMENTS = 0, 4, 16


def machine() -> tuple[int, int] | None:
    """(AUDIT_ARCH, column) of this process; None where no list is known."""
    return MACHINES.get((os.uname().machine, struct.calcsize("P"))) if sys.byteorder == "little" else None


def supported() -> bool:
    """Whether children are confined on this machine: a list is known, and the kernel has filters."""
    return machine() is not None and os.path.exists("/proc/sys/kernel/seccomp/actions_avail")


def program(arch: int, column: int, *, writes: bool) -> bytes:
    """The filter: `writes` adds what making files needs."""
    out = [
        _INSTRUCTION.pack(_LOAD, 0, 0, _ARCH), _INSTRUCTION.pack(_EQUAL, 1, 0, arch), _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | errno.EPERM),
        _INSTRUCTION.pack(_LOAD, 0, 0, _NR),
    ]  # fmt: skip
    allowed = _READING | (_WRITING if writes else {})
    for numbers in allowed.values():
        if numbers[column] != _NONE:
            out += [_INSTRUCTION.pack(_EQUAL, 0, 1, numbers[column]), _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)]
    for numbers in _UNKNOWN:
        out += [_INSTRUCTION.pack(_EQUAL, 0, 1, numbers[column]), _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    out += _without(_CLONE[column], 0, _NEW_SPACES)
    if not writes:
        out += _without(_OPENAT[column], 2, _FOR_WRITING)
        out += _without(_OPEN[column], 1, _FOR_WRITING)
    out += _only(_IOCTL[column], 1, _IOCTLS)
    out += _only(_PRCTL[column], 0, (_PR_SET_NAME,))
    out.append(_INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | errno.EPERM))
    return b"".join(out)


def _without(number: int, argument: int, bits: int) -> list[bytes]:
    """This call, unless its argument has one of `bits`."""
    if number == _NONE:
        return []
    return [
        _INSTRUCTION.pack(_EQUAL, 0, 4, number), _INSTRUCTION.pack(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), _INSTRUCTION.pack(_ANY_BIT, 0, 1, bits),
        _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | errno.EPERM), _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW),
    ]  # fmt: skip


def _only(number: int, argument: int, values: tuple[int, ...]) -> list[bytes]:
    """This call, if its argument is one of `values`."""
    out = [_INSTRUCTION.pack(_EQUAL, 0, 2 + 2 * len(values), number), _INSTRUCTION.pack(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
    for value in values:
        out += [_INSTRUCTION.pack(_EQUAL, 0, 1, value), _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)]
    return [*out, _INSTRUCTION.pack(_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def confine(*, writes: bool) -> bool:
    """Put the filter in force for this process, its later threads and children; False where there is none to have."""
    known = machine()
    if known is None:
        return False
    code = array.array("B", program(*known, writes=writes))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    return kernel.seccomp(_MODE_FILTER, struct.pack("HP", len(code) // _INSTRUCTION.size, code.buffer_info()[0]))
