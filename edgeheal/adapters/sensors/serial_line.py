# SPDX-License-Identifier: Apache-2.0
"""One serial line, held by its stable name: opened on a worker, closed at the first sign of loss, looked up again under whatever name it has now.

Duty: open, read, write, notice loss. It knows no protocol.
Invariants: EIO, a hang-up or a read of nothing closes the descriptor at once; at most one descriptor of the line is open; a line that
somebody else holds is not opened a second time but said, with the holder where he can be known; opening never blocks the loop.
"""

import contextlib
import errno
import fcntl
import os
import select
import stat
import termios
from collections.abc import Callable

from edgeheal.adapters.sensors.spec import Line
from edgeheal.core.mask import Masker
from edgeheal.core.now import NS
from edgeheal.core.signal import SelfSaid
from edgeheal.ports import Blocking, Emit

RETRY_NS = NS
SOON_NS = NS // 3  # a drop-out that is over so soon is no outage
READ_MOST = 4_096
UNSENT_MOST = 4_096


class HeldError(OSError):
    """The line is held by somebody else; the message says by whom."""


class SerialLine:
    """A line that may come and go. `up` while it is open."""

    def __init__(self, line: Line, emit: Emit, blocking: Blocking, clock: Callable[[], int]) -> None:
        """The first look-up is due at once."""
        self._line = line
        self._emit = emit
        self._blocking = blocking
        self._clock = clock
        self._port: object | None = None
        self._unsent = b""
        self._said = ""
        self.fd = -1
        self.due_ns = clock()
        self.lost_ns = 0
        self.name = os.path.basename(line.link)[:48]

    @property
    def up(self) -> bool:
        """Whether it is open."""
        return self.fd >= 0

    def mask(self) -> int:
        """What to wait for."""
        return select.POLLIN | (select.POLLOUT if self._unsent else 0)

    def tick(self, now_ns: int) -> None:
        """Look it up and open it, when that is due."""
        if self.up or now_ns < self.due_ns:
            return
        self.due_ns = now_ns + RETRY_NS
        line = self._line
        self._blocking.ask(f"serial:{line.link}", lambda: open_line(line), self._opened)

    def read(self, events: int) -> bytes:
        """What came; b"" with the line closed when it is lost."""
        try:
            data = os.read(self.fd, READ_MOST) if events & (select.POLLIN | select.POLLHUP | select.POLLERR) else b""
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data and events & ~select.POLLOUT:
            self.lose()
        elif events & select.POLLOUT:
            self._send()
        return data

    def write(self, data: bytes) -> bool:
        """Send as the line takes it; False when it is not open, or chokes."""
        if not self.up or len(self._unsent) + len(data) > UNSENT_MOST:
            return False
        self._unsent += data
        self._send()
        return self.up

    def drain(self) -> None:
        """Throw away what came late for somebody who does not wait any more."""
        with contextlib.suppress(OSError):
            while self.up and os.read(self.fd, READ_MOST):
                pass

    def lose(self) -> None:
        """Close; look for it again in a moment."""
        port, self._port = self._port, None
        self.fd, self._unsent = -1, b""
        self.lost_ns = self.lost_ns or self._clock()
        self.due_ns = self._clock() + SOON_NS
        if port is not None:
            _shut(port)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self.fd, self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.lose()

    def _opened(self, value: object) -> None:
        if isinstance(value, OSError):
            self.lost_ns = self.lost_ns or self._clock()
            what = "held" if isinstance(value, HeldError) else "missing"
            if what != self._said:
                self._said = what
                away_s = (self._clock() - self.lost_ns) / NS
                self._emit(SelfSaid(part=f"line:{self.name}", what=what, ok=False, value=round(away_s, 1), text=str(value.strerror or value)[:120]))
            return
        if self.up:
            _shut(value)
            return
        self._port = value
        self.fd = value.fileno()  # type: ignore[attr-defined]
        if self._said or self.lost_ns:
            away_s = (self._clock() - self.lost_ns) / NS if self.lost_ns else 0.0
            self._emit(SelfSaid(part=f"line:{self.name}", what=self._said or "missing", ok=True, value=round(away_s, 1)))
        self._said, self.lost_ns = "", 0


def open_line(line: Line) -> object:
    """Find and open the line (a `serial.Serial`); OSError. Blocks as the driver does, so it runs on a worker."""
    import serial  # only a box with serial sensors pays for it

    path = find(line.link)
    device = os.stat(path)
    if not stat.S_ISCHR(device.st_mode):
        raise FileNotFoundError(2, "is no character device", path)
    holder = holder_of(device.st_rdev) or locker_of(path)
    if holder:
        raise HeldError(16, f"held by {holder}")
    try:
        port = serial.Serial(path, line.baud, parity=line.parity, stopbits=line.stop_bits, timeout=0, write_timeout=0, exclusive=True)
    except serial.SerialException as fault:
        if "exclusively lock" in str(fault) or getattr(fault, "errno", 0) == errno.EBUSY:
            raise HeldError(16, f"held by {locker_of(path) or 'another program'}") from None
        raise OSError(getattr(fault, "errno", None) or 5, str(fault)[:120]) from None
    except ValueError as fault:
        raise OSError(22, str(fault)[:120]) from None
    os.set_blocking(port.fileno(), False)
    with contextlib.suppress(OSError):
        fcntl.ioctl(port.fileno(), termios.TIOCEXCL)  # who comes after us is told that it is busy, lock or no lock
    return port


def find(link: str) -> str:
    """The device's present path by its stable identity."""
    if not link.startswith("usb:"):
        return os.path.realpath(link, strict=True)
    from serial.tools import list_ports

    words = link.split(":")[1:]
    for port in list_ports.comports():
        said = (f"{port.vid or 0:04x}", f"{port.pid or 0:04x}", port.serial_number or "")
        if all(want.lower() == have.lower() for want, have in zip(words, said, strict=False)):
            return str(port.device)
    raise FileNotFoundError(2, "no such USB device", link)


def holder_of(rdev: int) -> str:
    """`pid (command)` of another process that has the device open, as far as we may see; "" = nobody."""
    me = str(os.getpid())
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or pid == me:
            continue
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{pid}/fd/{fd}").st_rdev == rdev:
                        return _named(int(pid))
    return ""


def locker_of(path: str, locks: str = "/proc/locks", uucp: str = "/var/lock") -> str:
    """`pid (command)` of another process that has locked the device, by the kernel's table of locks or by an old lock file: both may be read by all."""
    with contextlib.suppress(OSError, ValueError):
        inode = os.stat(path).st_ino
        with open(locks, encoding="ascii", errors="replace") as table:
            for line in table:
                words = line.split()  # 1: FLOCK ADVISORY WRITE 4242 00:05:91 0 EOF
                if len(words) >= 6 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode) and _another(pid := int(words[4])):
                    return _named(pid)
    with contextlib.suppress(OSError, ValueError):
        with open(f"{uucp}/LCK..{os.path.basename(path)}", encoding="ascii", errors="replace") as file:
            pid = int(file.read(32).split()[0])
        if _another(pid):
            os.kill(pid, 0)  # ProcessLookupError: the lock file outlived its owner
            return _named(pid)
    return ""


def _another(pid: int) -> bool:
    return pid > 0 and pid != os.getpid()


def _named(pid: int) -> str:
    """`4242 (minicom -D /dev/ttyUSB0)`: the start of its command line, else its name."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(256).replace(b"\0", b" ").decode("ascii", "replace").strip()
        if not words:
            with open(f"/proc/{pid}/comm", "rb") as file:
                words = file.read(16).decode("ascii", "replace").strip()
        first, _, rest = words.partition(" ")
        return f"{pid} ({Masker().fit(f'{os.path.basename(first)} {rest}'.strip(), 60)})"
    return f"{pid}"


def _shut(port: object) -> None:
    with contextlib.suppress(OSError):
        port.close()  # type: ignore[attr-defined]
