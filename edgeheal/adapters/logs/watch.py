# SPDX-License-Identifier: Apache-2.0
"""Wakes us when a quiet log is written to, so that nobody has to look at quiet logs by the clock.

Duty: one inotify instance; each watch fires once and is then gone until it is armed again. Source: inotify(7).
Invariant: where the kernel refuses (no instance, no watch left, no right to the file) it says so, and the caller looks by the clock.
"""

import contextlib
import ctypes
import os
import struct

IN_MODIFY = 0x2
IN_ONESHOT = 0x80000000
_EVENT = struct.Struct("iIII")


class Watch:
    """One-shot watches on open files."""

    def __init__(self) -> None:
        """`fd` is -1 where there is no inotify."""
        self.fd = -1
        with contextlib.suppress(OSError, AttributeError):
            self._libc = ctypes.CDLL(None, use_errno=True)
            self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def arm(self, fd: int) -> int:
        """Fire when the file behind `fd` is written to or cut; the watch's number, -1 = cannot be watched."""
        if self.fd < 0:
            return -1
        number: int = self._libc.inotify_add_watch(self.fd, b"/proc/self/fd/%d" % fd, ctypes.c_uint32(IN_MODIFY | IN_ONESHOT))
        return number

    def disarm(self, number: int) -> None:
        """Fire no more."""
        if self.fd >= 0 and number >= 0:
            self._libc.inotify_rm_watch(self.fd, number)

    def fired(self) -> set[int]:
        """The watches that fired since the last call; they are gone now."""
        numbers: set[int] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                data = os.read(self.fd, 16_384)
                at = 0
                while at + _EVENT.size <= len(data):
                    number, _, _, length = _EVENT.unpack_from(data, at)
                    numbers.add(number)
                    at += _EVENT.size + length
        return numbers

    def close(self) -> None:
        """Let go of the instance."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
