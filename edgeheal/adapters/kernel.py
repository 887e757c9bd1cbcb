# SPDX-License-Identifier: Apache-2.0
"""What the kernel says in /dev/kmsg, parsed into `KernelSaid`.

Duty: follow the kernel's log without blocking and name the few kinds of lines that matter. It draws no conclusion.
Invariants: only records of the kernel's own facility count (who may write to /dev/kmsg cannot forge them); a turn reads a
bounded number of records; lines of one kind and subject within a second are one signal with their number; a log that cannot
be read is said once and is no fault. Messages are matched, never passed on: `subject` holds a device or process name of
harmless characters only, and patterns begin where the kernel's own words begin (a USB device's name may say anything).
Source: Documentation/ABI/testing/dev-kmsg: `prefix,sequence,microseconds,flags;message`, prefix = facility * 8 + level.

what             subject                         value
oom              app, or name of the process     pid           (host out of memory)
oom_limit        app, or name of the process     pid           (the limit of its own cgroup)
segfault         app, or name of the process     pid
hung_task        app, or name of the process     pid           (blocked for minutes in the kernel)
fs_error         device                          0             (file system found itself damaged)
fs_readonly      device                          0             (remounted read-only because of errors)
io_error         device                          0             (medium, controller or card does not do as told)
usb_gone usb_new usb_reset usb_error             port 1-1.2    device number or 0
undervoltage voltage_ok                          hwmon name    0
thermal          zone or processor               0
lockup           processor                       seconds
oops             kind                            0             (BUG, Oops, panic)
nic_timeout      interface                       0
watchdog         device                          0             (closed without being stopped)
ecc              source                          0             (memory or bus errors told by the hardware)
"""

import contextlib
import errno
import os
import re
import select
from collections.abc import Callable
from dataclasses import dataclass

from edgeheal.core.now import NS
from edgeheal.core.signal import KernelSaid, SelfSaid
from edgeheal.ports import Emit

PATH = "/dev/kmsg"
TURN_MOST = 256
KEPT_MOST = 256
FOLD_NS = NS


@dataclass(frozen=True, slots=True)
class Line:
    """One record: `level` 0..7, `usec` since boot, `text` unescaped bytes as text."""

    level: int
    sequence: int
    usec: int
    text: str


_DEVICE = r"(?P<subject>[\w.:!/-]{1,32})"
_TASK = r"(?P<subject>[^\n]{1,16}?)"
_RULES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (what, re.compile(pattern))
    for what, pattern in (
        ("oom_limit", r"^Memory cgroup out of memory: Kill(?:ed)? process (?P<value>\d+) \(" + _TASK + r"\)"),
        ("oom", r"^Out of memory(?: \([^)]*\))?: Kill(?:ed)? process (?P<value>\d+) \(" + _TASK + r"\)"),
        ("segfault", r"^" + _TASK + r"\[(?P<value>\d+)\]: segfault at "),
        ("segfault", r"^traps: " + _TASK + r"\[(?P<value>\d+)\] (?:general protection|trap )"),
        ("hung_task", r"^INFO: task " + _TASK + r":(?P<value>\d+) blocked for more than \d+ seconds"),
        ("fs_readonly", r"^EXT[234]-fs \(" + _DEVICE + r"\): Remounting filesystem read-only"),
        ("fs_readonly", r"^BTRFS info \(device " + _DEVICE + r"(?: state \w+)?\): forced readonly"),
        ("fs_readonly", r"^FAT-fs \(" + _DEVICE + r"\): Filesystem has been set read-only"),
        ("fs_error", r"^EXT[234]-fs error \(device " + _DEVICE + r"\)"),
        ("fs_error", r"^BTRFS (?:error|critical) \(device " + _DEVICE + r"(?: state \w+)?\)"),
        ("fs_error", r"^XFS \(" + _DEVICE + r"\): .*(?:orrupt|rror)"),
        ("fs_error", r"^JBD2: .*[Ee]rror.* on " + _DEVICE),
        ("fs_error", r"^F2FS-fs \(" + _DEVICE + r"\): .*(?:orrupt|nconsistent|rror|ecover)"),
        ("fs_error", r"^FAT-fs \(" + _DEVICE + r"\): (?:error|Volume was not properly)"),
        ("fs_error", r"^(?P<subject>UBIFS|SQUASHFS|EROFS)(?: error|: .*error| \w+ error)"),
        ("fs_error", r"^Aborting journal on device " + _DEVICE),
        ("io_error", r"^(?:[\w ()-]+: )?(?:[Bb]uffer I/O error on (?:dev|device)|I/O error,? dev|critical [a-z ]{1,40} error, dev|print_req_error: .* dev) " + _DEVICE),
        ("io_error", r"^(?P<subject>mmc\d+): .*(?:[Ee]rror|[Tt]imeout|timed out|never left busy)"),
        ("io_error", r"^nvme (?P<subject>nvme\d+): (?:I/O .*timeout|controller is down|Device not ready)"),
        ("io_error", r"^(?P<subject>ata\d+)(?:\.\d+)?: (?:failed command|hard resetting|SError|exception)"),
        ("usb_gone", r"^usb (?P<subject>\d+-[\d.]+): USB disconnect, device number (?P<value>\d+)"),
        ("usb_new", r"^usb (?P<subject>\d+-[\d.]+): new \S+ USB device number (?P<value>\d+)"),
        ("usb_reset", r"^usb (?P<subject>\d+-[\d.]+): reset \S+ USB device number (?P<value>\d+)"),
        ("usb_error", r"^usb (?P<subject>\d+-[\d.]+(?:-port\d+)?): (?:device descriptor read|device not accepting|unable to enumerate|over-current|can't set config)"),
        ("usb_error", r"^(?:hub|usb) (?P<subject>[\d.-]+)(?::[\d.]+)?(?:-port\d+)?: .*over-current"),
        ("undervoltage", r"^(?:hwmon (?P<subject>hwmon\d+): |raspberrypi-\S+ \S+: )?Under-?voltage detected"),
        ("voltage_ok", r"^(?:hwmon (?P<subject>hwmon\d+): |raspberrypi-\S+ \S+: )?Voltage normali[sz]ed"),
        ("thermal", r"^(?:mce: )?(?P<subject>CPU\d+): (?:Core|Package) temperature.*(?:above threshold|throttled)"),
        ("thermal", r"^thermal (?P<subject>thermal_zone\d+): .*critical temperature reached"),
        ("thermal", r"^(?P<subject>thermal_sys): [Cc]ritical temperature"),
        ("lockup", r"soft lockup - (?P<subject>CPU#\d+) stuck for (?P<value>\d+)s"),
        ("lockup", r"hard LOCKUP on cpu (?P<subject>\d+)"),
        ("lockup", r"rcu.*detected (?P<subject>stall)s? on CPU"),
        ("oops", r"^(?P<subject>BUG|Oops|Internal error|Unable to handle kernel|Kernel panic|kernel BUG)\b"),
        ("nic_timeout", r"^NETDEV WATCHDOG: " + _DEVICE + r" "),
        ("watchdog", r"^watchdog: (?P<subject>watchdog\d+): watchdog did not stop!"),
        ("ecc", r"^(?P<subject>EDAC MC\d+|mce|\{\d+\}\[Hardware Error\]|AER): .*(?:[CU]E|[Hh]ardware [Ee]rror|[Uu]ncorrect)"),
    )
)  # fmt: skip
_HINT = re.compile(
    r"ill(?:ed)? process|segfault|traps:|blocked for|fs|FS|JBD2|journal|I/O|mmc|nvme|ata\d|usb|hub |error|oltage|emperature|throttled|lockup|LOCKUP|rcu|BUG"
    r"|Oops|panic|Unable to|WATCHDOG|watchdog|EDAC|mce|AER|Hardware"
)
_PIDS = frozenset({"oom", "oom_limit", "segfault", "hung_task"})
_HARMLESS = re.compile(r"[^\w.:/#-]")


def parse_record(record: bytes) -> Line | None:
    """A record of the kernel's own, None for others' (programs may write to /dev/kmsg too) and for what is no record."""
    head, found, rest = record.partition(b";")
    words = head.split(b",")
    if not found or len(words) < 4 or not all(w.isdigit() for w in words[:3]):
        return None
    prefix = int(words[0])
    if prefix >> 3:
        return None
    text = rest.partition(b"\n")[0].decode("utf-8", "replace")
    return Line(prefix & 7, int(words[1]), int(words[2]), text)


def understand(text: str) -> tuple[str, str, int] | None:
    """(what, subject, value) of a line that matters."""
    if not _HINT.search(text):
        return None
    for what, pattern in _RULES:
        found = pattern.search(text)
        if found is not None:
            groups = found.groupdict()
            return what, _HARMLESS.sub("_", groups.get("subject") or "")[:32], int((groups.get("value") or "0")[:9])
    return None


class Kernel:
    """A `ports.Source` over /dev/kmsg."""

    def __init__(self, emit: Emit, clock: Callable[[], int], app_of: Callable[[int], str] = lambda _: "", *, path: str = PATH, since_usec: int = 0) -> None:
        """`app_of` a pid is whose process it was, "" = nobody's. `since_usec`: lines of this boot from then on too; 0 = only new ones."""
        self._emit = emit
        self._clock = clock
        self._app_of = app_of
        self._since_usec = since_usec
        self._folded: dict[tuple[str, str], tuple[KernelSaid, int]] = {}
        self._fold_ns = 0
        self.lost = 0
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not since_usec:
                with contextlib.suppress(OSError):  # a log that is handed in through a pipe has no past
                    os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as fault:
            self._fd = -1
            emit(SelfSaid(part="kernel", what="unreadable", ok=False, text=f"{path}: {fault.strerror}"))

    def fds(self) -> dict[int, int]:
        """The kernel's log."""
        return {self._fd: select.POLLIN} if self._fd >= 0 else {}

    def ready(self, fd: int, events: int) -> None:
        """Read what is there, a bounded number of records a turn."""
        for _ in range(TURN_MOST):
            try:
                record = os.read(self._fd, 8_192)
            except BlockingIOError:
                return
            except OSError as fault:
                if fault.errno == errno.EPIPE:  # overwritten before we read it
                    self.lost += 1
                    continue
                self._give_up(fault)
                return
            if not record:
                return
            line = parse_record(record)
            if line is not None and line.usec >= self._since_usec:
                self._take(line)

    def due(self) -> int:
        """The end of the second in which equal lines are folded."""
        return self._fold_ns

    def tick(self, now_ns: int) -> None:
        """Tell how often the folded ones came: the signal once more, when it came again."""
        if self._fold_ns and now_ns >= self._fold_ns:
            folded, self._folded, self._fold_ns = self._folded, {}, 0
            for said, count in folded.values():
                if count > 1:
                    self._emit(said)

    def close(self) -> None:
        """Let go of the log."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, line: Line) -> None:
        found = understand(line.text)
        if found is None:
            return
        what, subject, value = found
        if what in _PIDS:
            subject = self._app_of(value) or subject
        said = KernelSaid(what, subject, value)
        key = (what, subject)
        if key in self._folded:
            self._folded[key] = (said, self._folded[key][1] + 1)
            return
        self._emit(said)
        if len(self._folded) < KEPT_MOST:
            self._folded[key] = (said, 1)
        self._fold_ns = self._fold_ns or self._clock() + FOLD_NS

    def _give_up(self, fault: OSError) -> None:
        self.close()
        self._emit(SelfSaid(part="kernel", what="unreadable", ok=False, text=str(fault.strerror)))
