# SPDX-License-Identifier: Apache-2.0
"""Hardware watchdogs: opened last, set and read back, fed from the guard's own loop.

Duty: keep the dogs fed while the loop turns; disarm them, or feed them once and never again, when told. It judges nobody: feeding says only that the
guard's loop is alive.
Invariants: the range is read before a device is opened for good; the period is made from the shortest time-out that was *read back*; nothing else than
the loop feeds; closing without the magic letter leaves a dog armed, and one that cannot be stopped is not closed; whether it can be stopped is yes,
no or not known, and not known is no. Field cases fc-dog-1, fc-dog-4. Source: linux/watchdog.h, asm-generic/ioctl.h.
Light on purpose: the resident guard imports it.
"""

import fcntl
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeheal.guard.loop import Loop, Timer

# struct watchdog_info: u32 options, u32 firmware_version, u8 identity[32]; all other words are an int: alike on 32 and 64 bit
_INFO = struct.Struct("=II32s")
_INT = struct.Struct("i")
# the direction bits of an ioctl number differ on a few machines (asm/ioctl.h)
_ODD = os.uname().machine.startswith(("mips", "ppc", "powerpc", "sparc", "alpha"))
_READ, _WRITE, _SHIFT = (2, 4, 29) if _ODD else (2, 1, 30)


def number(nr: int, size: int, *, both: bool = False) -> int:
    """_IOR('W', nr, size), or _IOWR."""
    return (_READ | (_WRITE if both else 0)) << _SHIFT | size << 16 | ord("W") << 8 | nr


GETSUPPORT, GETBOOTSTATUS, SETOPTIONS, KEEPALIVE = number(0, _INFO.size), number(2, 4), number(4, 4), number(5, 4)
SETTIMEOUT, GETTIMEOUT = number(6, 4, both=True), number(7, 4)
SETPRETIMEOUT, GETPRETIMEOUT, GETTIMELEFT = number(8, 4, both=True), number(9, 4), number(10, 4)
DISABLECARD = 1
CARDRESET, CAN_SET = 0x0020, 0x0080
D_TELLS, D_ARMED, D_UNKNOWN = 1, 4, 8  # wire.guard_frames
NO, YES, UNKNOWN = range(3)
SHORTEST_S = 4  # a slow step of ours may take so long; a dog that bites sooner is refused
AGAIN_S = 30.0  # a device that somebody else holds is asked for again


class Dog:
    """One device. `timeout_s` is what it said it was set to, 0 while it is not open; `stops`: YES, NO or UNKNOWN; `fault` what went wrong last."""

    __slots__ = ("_fd", "boot_status", "device", "fault", "options", "pretimeout_s", "stops", "timeout_s")

    def __init__(self, device: str) -> None:
        """Nothing is opened before `open`."""
        self.device = device
        self.fault = ""
        self.timeout_s = self.pretimeout_s = 0
        self.boot_status = -1
        self.options = 0
        self.stops = UNKNOWN
        self._fd = -1

    @property
    def is_open(self) -> bool:
        """Whether it is ours, and so armed."""
        return self._fd >= 0

    def open(self, timeout_s: int, pretimeout_s: int = 0) -> bool:
        """Open, set, read back, fed once; False (and `fault`) when it cannot be had or would bite too soon."""
        self.fault = too_short(self.device, timeout_s)
        if self.fault:
            return False
        try:
            self._fd = os.open(self.device, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            self.fault = f"{self.device}: {error.strerror}"
            return False
        self.feed()  # whoever opens it can feed it from this moment on
        try:
            self.options = _INFO.unpack(fcntl.ioctl(self._fd, GETSUPPORT, bytes(_INFO.size)))[0]
        except OSError:
            self.options = 0
        nowayout = said(self.device, "nowayout")
        self.stops = NO if nowayout == 1 else YES if nowayout == 0 else UNKNOWN  # one without the magic letter stops when it is closed
        self.boot_status = self._ask(GETBOOTSTATUS, -1)
        self._set(timeout_s, pretimeout_s)
        if self.timeout_s < SHORTEST_S and self.stops != NO:
            fault = f"{self.device} bites after {self.timeout_s} s, at least {SHORTEST_S} s are needed"
            if self.disarm():
                self.fault = fault
                return False
        return True

    def _set(self, timeout_s: int, pretimeout_s: int) -> None:
        """Some drivers set it without listing that; what counts is what is read back."""
        most = said(self.device, "max_timeout")
        told = self._tell(SETTIMEOUT, min(timeout_s, most) if most > 0 else timeout_s)
        self.timeout_s = self._ask(GETTIMEOUT, 0) or told or timeout_s
        if told < 0 and self.options & CAN_SET:
            self.fault = f"{self.device}: a time-out of {timeout_s} s was refused, {self.timeout_s} s is what it has"
        elif self.timeout_s != timeout_s:
            self.fault = f"{self.device}: asked for {timeout_s} s, it says {self.timeout_s} s"
        if pretimeout_s:
            self._tell(SETPRETIMEOUT, min(pretimeout_s, max(1, self.timeout_s - 1)))
            self.pretimeout_s = self._ask(GETPRETIMEOUT, 0)
            if not self.pretimeout_s:
                self.fault = f"{self.device} takes no pretimeout"

    def _tell(self, nr: int, value: int) -> int:
        try:
            return int(_INT.unpack(fcntl.ioctl(self._fd, nr, _INT.pack(value)))[0])
        except OSError:
            return -1

    def _ask(self, nr: int, default: int) -> int:
        try:
            return int(_INT.unpack(fcntl.ioctl(self._fd, nr, _INT.pack(0)))[0])
        except OSError:
            return default

    def feed(self) -> bool:
        """Once; False when it did not take it."""
        if self._fd < 0:
            return False
        try:
            fcntl.ioctl(self._fd, KEEPALIVE, 0)
        except OSError:
            try:
                os.write(self._fd, b"\0")
            except OSError as error:
                self.fault = f"{self.device}: feed: {error.strerror}"
                return False
        return True

    def disarm(self) -> bool:
        """The magic letter, then close. One that cannot be stopped goes on and is not closed, so that it can still be fed: then False."""
        if self._fd < 0:
            return True
        if self.stops == NO:
            return False
        self._tell(SETOPTIONS, DISABLECARD)
        try:
            os.write(self._fd, b"V")
        except OSError as error:
            self.fault = f"{self.device}: {error.strerror}"
            return False
        os.close(self._fd)
        self._fd = -1
        if word(self.device, "state") == "active":  # done is what was read back
            self.stops = NO
            try:
                self._fd = os.open(self.device, os.O_WRONLY | os.O_CLOEXEC)
            except OSError as error:
                self.fault = f"{self.device}: it goes on and cannot be had again: {error.strerror}"
            self.feed()
            return False
        self.timeout_s = 0
        return True


class Watchdog:
    """All of them. `timeout_s` is the shortest that was read back, 0 while none is open."""

    __slots__ = ("_again", "_loop", "_pretimeout_s", "_timer", "_wanted_s", "dogs", "feeds", "over")

    def __init__(self, loop: "Loop") -> None:
        """Nothing is opened before `open`."""
        self._loop = loop
        self._timer: Timer | None = None
        self._again: Timer | None = None
        self._wanted_s = self._pretimeout_s = 0
        self.dogs: list[Dog] = []
        self.feeds = 0
        self.over = False  # the last feed was given, or they were stopped for good

    @property
    def timeout_s(self) -> int:
        """The shortest that was read back."""
        return min((dog.timeout_s for dog in self.dogs if dog.is_open), default=0)

    @property
    def fault(self) -> str:
        """What is wrong with any of them."""
        return "; ".join(dog.fault for dog in self.dogs if dog.fault)

    def open(self, devices: "Sequence[str]", timeout_s: int, pretimeout_s: int = 0) -> bool:
        """Open those that are not, and feed from now on; False (and `fault`) when one cannot be had. What somebody holds is asked for again."""
        self._wanted_s, self._pretimeout_s = timeout_s, pretimeout_s
        known = {dog.device for dog in self.dogs}
        self.dogs += [Dog(device) for device in devices if device not in known]
        opened = [dog.is_open or dog.open(timeout_s, pretimeout_s) for dog in self.dogs]
        fine = all(opened)
        self.over = False
        self._arm()
        if not fine and self._again is None:
            self._again = self._loop.after(AGAIN_S, self._retry)
        return fine

    def _retry(self) -> None:
        self._again = None
        if not self.over:
            self.open((), self._wanted_s, self._pretimeout_s)

    def witnesses(self) -> "list[tuple[str, int, int, int]]":
        """(name, boot status, D_* flags, time-out) of each: what the last reset has to do with it, as far as it says."""
        rows = []
        for dog in self.dogs:
            status = dog.boot_status if dog.boot_status >= 0 else said(dog.device, "bootstatus")
            flags = (D_TELLS if dog.options & CARDRESET or (status > 0 and status & CARDRESET) else 0) | (D_ARMED if dog.is_open else 0)
            rows.append((os.path.basename(dog.device), max(0, status), flags | (D_UNKNOWN if status < 0 else 0), dog.timeout_s))
        return rows

    def _arm(self) -> None:
        """The next feed: a third of what was read back."""
        if self._timer is not None:
            self._timer.cancel()
        shortest = self.timeout_s
        self._timer = self._loop.after(max(0.25, shortest / 3), self._due) if shortest else None

    def _due(self) -> None:
        self.feed()
        self._arm()

    def feed(self) -> None:
        """All, once."""
        taken = [dog.feed() for dog in self.dogs]
        self.feeds += any(taken)

    def can_disarm(self) -> bool:
        """Whether a power-off surely stays off: there is no dog, or each can be stopped."""
        return all(dog.stops == YES for dog in self.dogs if dog.is_open)

    def last_feed(self) -> None:
        """Before a reboot: fed once more, then never again, so that a shutdown that hangs still ends."""
        self.over = True
        self._still()
        self.feed()

    def resume(self) -> None:
        """The way out was not taken: go on."""
        if self.dogs and self.over:
            self.open((), self._wanted_s, self._pretimeout_s)

    def disarm(self) -> bool:
        """Stop them all. One that cannot be stopped is fed a last time and will bite: then False."""
        self.over = True
        self._still()
        stopped = [dog.disarm() for dog in self.dogs]
        self.feed()
        return all(stopped)

    def _still(self) -> None:
        for timer in (self._timer, self._again):
            if timer is not None:
                timer.cancel()
        self._timer = self._again = None


def too_short(device: str, timeout_s: int) -> str:
    """What the kernel says of the device before it is opened: an open may start it for good. "" when all is well."""
    most, least = said(device, "max_timeout"), said(device, "min_timeout")
    if 0 < most < SHORTEST_S:
        return f"{device} can be set to {most} s at most, at least {SHORTEST_S} s are needed"
    if timeout_s < max(least, SHORTEST_S):
        return f"{timeout_s} s is too short for {device} (at least {max(least, SHORTEST_S)} s)"
    return ""


def said(device: str, name: str) -> int:
    """A figure of /sys/class/watchdog, -1 when there is none."""
    try:
        return int(word(device, name) or -1)
    except ValueError:
        return -1


def word(device: str, name: str) -> str:
    """A word of /sys/class/watchdog, "" when there is none. /dev/watchdog is the first device under its old name."""
    base = os.path.basename(os.path.realpath(device))
    if base == "watchdog":
        base = "watchdog0"
    try:
        with open(f"/sys/class/watchdog/{base}/{name}", encoding="ascii", errors="replace") as file:
            return file.read(128).strip()
    except OSError:
        return ""
