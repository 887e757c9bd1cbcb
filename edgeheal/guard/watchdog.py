# SPDX-License-Identifier: Apache-2.0
"""The hardware watchdog: opened last, set and read back, fed from the guard's own loop.

Duty: keep the dog fed while the loop turns; disarm it, or feed it once and never again, when told. It judges nobody: feeding says only that the
guard's loop is alive.
Invariants: the range is read before the device is opened for good; the period is made from the time-out that was *read back*; nothing else than the
loop feeds; closing without the magic letter leaves it armed. Field cases fc-dog-1, fc-dog-4. Source: linux/watchdog.h.
Light on purpose: the resident guard imports it.
"""

import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgeheal.guard.loop import Loop, Timer

GETSUPPORT, GETBOOTSTATUS, KEEPALIVE, SETTIMEOUT, GETTIMEOUT = 0x80285700, 0x80045702, 0x80045705, 0xC0045706, 0x80045707
SETOPTIONS, DISABLECARD = 0x80045704, 1
MAGICCLOSE, CAN_SET = 0x0100, 0x0080
_INT = struct.Struct("i")
_INFO = struct.Struct("II32s")
SHORTEST_S = 4  # a slow step of ours may take so long; a dog that bites sooner is refused


class Watchdog:
    """One device, or none. `timeout_s` is what the device said it was set to, 0 while it is not open."""

    __slots__ = ("_fd", "_loop", "_timer", "boot_status", "device", "fault", "feeds", "magic", "timeout_s")

    def __init__(self, loop: "Loop") -> None:
        """Nothing is opened before `open`."""
        self._loop = loop
        self._fd = -1
        self._timer: Timer | None = None
        self.device = ""
        self.fault = ""
        self.timeout_s = 0
        self.boot_status = -1
        self.magic = False
        self.feeds = 0

    def open(self, device: str, timeout_s: int) -> bool:
        """Open, set, read back, and feed from now on; False (and `fault`) when it cannot be had or would bite too soon."""
        self.device = device
        fault = self._too_short(device, timeout_s)
        if fault:
            self.fault = fault
            return False
        try:
            self._fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            self.fault = f"{device}: {error.strerror}"
            return False
        self._feed()  # whoever opens it can feed it from this moment on
        try:
            options = _INFO.unpack(fcntl.ioctl(self._fd, GETSUPPORT, bytes(_INFO.size)))[0]
        except OSError:
            options = 0
        self.magic = bool(options & MAGICCLOSE) and not _nowayout(device)
        self.boot_status = self._ask(GETBOOTSTATUS, -1)
        if options & CAN_SET:
            self._set(timeout_s)
        self.timeout_s = self._ask(GETTIMEOUT, 0) or timeout_s
        if self.timeout_s < SHORTEST_S and self.magic:
            self.fault = f"{device} bites after {self.timeout_s} s, at least {SHORTEST_S} s are needed"
            self.disarm()
            return False
        self._arm()
        return True

    def _too_short(self, device: str, timeout_s: int) -> str:
        """What the kernel says of the device before it is opened: an open may start it for good."""
        most = _said(device, "max_timeout")
        least = _said(device, "min_timeout")
        if 0 < most < SHORTEST_S:
            return f"{device} can be set to {most} s at most, at least {SHORTEST_S} s are needed"
        if timeout_s < max(least, SHORTEST_S):
            return f"{timeout_s} s is too short for {device} (at least {max(least, SHORTEST_S)} s)"
        return ""

    def _set(self, seconds: int) -> None:
        try:
            fcntl.ioctl(self._fd, SETTIMEOUT, _INT.pack(seconds))
        except OSError as error:
            self.fault = f"{self.device}: time-out of {seconds} s refused: {error.strerror}"

    def _ask(self, number: int, default: int) -> int:
        try:
            return int(_INT.unpack(fcntl.ioctl(self._fd, number, _INT.pack(0)))[0])
        except OSError:
            return default

    def _arm(self) -> None:
        """The next feed: a third of what was read back."""
        self._timer = self._loop.after(max(0.25, self.timeout_s / 3), self._due)

    def _due(self) -> None:
        self._feed()
        self._arm()

    def _feed(self) -> None:
        if self._fd < 0:
            return
        try:
            fcntl.ioctl(self._fd, KEEPALIVE, 0)
        except OSError:
            try:
                os.write(self._fd, b"\0")
            except OSError as error:
                self.fault = f"{self.device}: feed: {error.strerror}"
                return
        self.feeds += 1

    def can_disarm(self) -> bool:
        """Whether a power-off stays off: there is no dog, or it can be stopped."""
        return self._fd < 0 or self.magic

    def last_feed(self) -> None:
        """Before a reboot: fed once more, then never again, so that a shutdown that hangs still ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._feed()

    def resume(self) -> None:
        """The way out was not taken: go on feeding."""
        if self._fd >= 0 and self._timer is None:
            self._due()

    def disarm(self) -> None:
        """The magic letter, then close. A dog that cannot be stopped goes on: it is not closed, so that it can still be fed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._fd < 0:
            return
        if not self.magic:
            self._due()
            return
        try:
            fcntl.ioctl(self._fd, SETOPTIONS, _INT.pack(DISABLECARD))
        except OSError:
            pass
        try:
            os.write(self._fd, b"V")
        finally:
            os.close(self._fd)
            self._fd = -1
            self.timeout_s = 0

    def close(self) -> None:
        """The guard ends in order: hand the dog over stopped where it can be."""
        if self.magic:
            self.disarm()
        else:
            self.last_feed()


def _said(device: str, name: str) -> int:
    """A figure of /sys/class/watchdog, or 0."""
    try:
        with open(f"/sys/class/watchdog/{os.path.basename(os.path.realpath(device))}/{name}", encoding="ascii") as file:
            return int(file.read().strip() or 0)
    except (OSError, ValueError):
        return 0


def _nowayout(device: str) -> bool:
    return _said(device, "nowayout") == 1
