# SPDX-License-Identifier: Apache-2.0
"""Talking to the guard: `GuardClient`, a Source of the agent's loop, and `GuardDoor`, a blocking one for the command line.

Duty: connect, greet, ask, hand answers back, turn events into signals, come back when the guard was away. It decides nothing.
Invariants: every question gets exactly one answer, NOT_RUNNING when the guard went away first; after each (re)connect the guard's kept events
come first and the present of every app and image after them; an event is confirmed only when `durable()` has said so since; nothing blocks
the agent's loop; a descriptor that came along has one owner, who closes it; a heartbeat wakes the guard only where it confirms something.
"""

import array
import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from edgeheal.core import reasons
from edgeheal.core.errors import AgentUnreachableError, EdgeHealError, RefusedByPolicyError
from edgeheal.wire import guard_frames as f
from edgeheal.wire.guard_event import Event

if TYPE_CHECKING:
    from edgeheal.core.mask import Masker
    from edgeheal.core.signal import Signal

NS = 1_000_000_000
RETRY_FIRST_S = 0.05
RETRY_MOST_S = 5.0
ACK_AFTER_S = 2.0
FRAMES_A_TURN = 64
LOST_AFTER_S = 3.0  # a guard that is being replaced is no incident

Emit = Callable[["Signal"], None]  # as ports.Emit; that module would load the journal's libraries into the command line
Answered = Callable[[int, bytes, int, int], None]
"""reason, image, a, b"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a `GuardDoor` got: the reason (core.reasons), ids and numbers, rows and events before it, a descriptor (-1: none)."""

    reason: int
    app: str = ""
    image: bytes = b""
    a: int = 0
    b: int = 0
    fd: int = -1
    rows: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Hello:
    """What the guard says of itself: first 8 bytes of the boot id, box seconds, "none" or "full"."""

    boot: int
    box_s: int
    boundary: str


@dataclass(slots=True)
class _Asked:
    then: Callable[[Answer], None]
    rows: list[bytes] = field(default_factory=list)


def _connect(path: str) -> socket.socket:
    """A connected socket; OSError. A path longer than a socket address goes by its folder."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = -1
    try:
        if len(os.fsencode(path)) < 108:
            sock.connect(path)
        else:
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
            sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    except OSError:
        sock.close()
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return sock


def _receive(sock: socket.socket) -> tuple[bytes, int]:
    """One frame and the descriptor that came with it, or -1."""
    data, extra, _, _ = sock.recvmsg(f.MAX_FRAME, socket.CMSG_SPACE(16))
    fds: list[int] = []
    for level, kind, body in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            passed = array.array("i")
            passed.frombytes(body[: len(body) // passed.itemsize * passed.itemsize])
            fds.extend(passed)
    for surplus in fds[1:]:
        os.close(surplus)
    if fds:
        os.set_inheritable(fds[0], False)
    return data, fds[0] if fds else -1


def _send(sock: socket.socket, frame: bytes, fd: int) -> None:
    if fd >= 0:
        socket.send_fds(sock, [frame], [fd])
    else:
        sock.send(frame)


class GuardClient:
    """See the module. Hooks: `on_hello(Hello)`, `on_lost()`, `on_event(Event)` for those that want more than signals."""

    def __init__(self, path: str, emit: Emit, *, heartbeat_s: float = 20.0, durable: Callable[[], bool] | None = None, masker: "Masker | None" = None) -> None:
        """`durable()`: whether everything heard so far is safe in the journal (None: it always is)."""
        self._path = path
        self._emit = emit
        self._heartbeat_ns = round(heartbeat_s * NS)
        self._durable = durable or (lambda: True)
        from edgeheal.wire import guard_signals  # here: the command line uses GuardDoor alone and shall not load the agent's words

        self._words = guard_signals.Words(masker)
        self._sock: socket.socket | None = None
        self._out: list[tuple[bytes, int]] = []
        self._asked: dict[int, _Asked] = {}
        self._number = 0
        self._retry_s = RETRY_FIRST_S
        self._due_connect_ns = time.monotonic_ns()
        self._due_beat_ns = 0
        self._due_ack_ns = 0
        self._due_lost_ns = time.monotonic_ns() + round(LOST_AFTER_S * NS)
        self._told_lost = True  # an agent before us may have said so, and died before the guard was back
        self._beats = 0
        self._timer, self._timer_s = -1, 0
        self._last_seq = 0
        self._acked_seq = 0
        self.connected = False
        self.hello: Hello | None = None
        self.on_hello: Callable[[Hello], None] = lambda _: None
        self.on_lost: Callable[[], None] = lambda: None
        self.on_event: Callable[[Event], None] = lambda _: None

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """The connection, for writing too while something waits."""
        if self._sock is None:
            return {}
        return {self._sock.fileno(): select.POLLIN | (select.POLLOUT if self._out else 0)}

    def due(self) -> int:
        """The next connect, heartbeat or confirmation."""
        times = [self._due_connect_ns if self._sock is None else 0, self._due_beat_ns, self._due_ack_ns, self._due_lost_ns]
        return min((at for at in times if at), default=0)

    def tick(self, now_ns: int) -> None:
        """Whatever is due."""
        if self._sock is None and now_ns >= self._due_connect_ns:
            self._begin()
        if self._due_beat_ns and now_ns >= self._due_beat_ns:
            self._beat(now_ns)
        if self._due_ack_ns and now_ns >= self._due_ack_ns:
            self._due_ack_ns = 0
            if self._last_seq != self._acked_seq:
                self._beat(now_ns)
        if self._due_lost_ns and now_ns >= self._due_lost_ns:
            self._due_lost_ns = 0
            self._told_lost = True
            self._emit(self._words.guard("lost", ok=False))

    def ready(self, fd: int, events: int) -> None:
        """Read what is there, write what waits."""
        if self._sock is None or fd != self._sock.fileno():
            return
        if events & select.POLLOUT:
            self._flush()
        for _ in range(FRAMES_A_TURN):
            if self._sock is None:
                return
            try:
                data, passed = _receive(self._sock)
            except BlockingIOError:
                return
            except OSError:
                data, passed = b"", -1
            if not data:
                self._lost()
                return
            self._frame(data, passed)

    # -- asking

    def request(self, verb: int, then: Answered, *, app: str = "", image: bytes = b"", a: int = 0, b: int = 0, fd: int = -1) -> bool:
        """Ask; `then(reason, image, a, b)` later. False: nobody is there. `fd` rides along and is closed here."""
        return self.ask(verb, lambda answer: _plain(answer, then), app=app, image=image, a=a, b=b, fd=fd)

    def ask(self, verb: int, then: Callable[[Answer], None], *, app: str = "", image: bytes = b"", a: int = 0, b: int = 0, code: int = 0, fd: int = -1) -> bool:
        """As `request`, with the whole `Answer` (rows, descriptor: the taker closes it)."""
        if self._sock is None:
            _close(fd)
            return False
        self._number = self._number % 0x7FFFFFFF + 1
        self._asked[self._number] = _Asked(then)
        self._out.append((f.pack_plain(verb, request=self._number, code=code, app=app, image=image, a=a, b=b), fd))
        self._flush()
        return True

    def refresh(self) -> bool:
        """Ask for the present of all apps and their images."""
        return self.ask(f.STATUS, self._seen)

    def confirm_soon(self) -> None:
        """What was heard is safe: say so at the next turn."""
        self._due_ack_ns = 1

    def secrets(self, values: "tuple[str, ...]") -> None:
        """Values that must not leave in what an app says to the guard, from now on."""
        from edgeheal.core.mask import Masker
        from edgeheal.wire import guard_signals

        self._words = guard_signals.Words(Masker(values))

    def probe(self, app: str, index: int, told: Callable[[int, int, int], None]) -> bool:
        """Have the guard run probe number `index` of the app; `told(verdict, took ms, reason)`."""

        def then(answer: Answer) -> None:
            unknown = 2
            if answer.reason in (reasons.BUSY, reasons.NOT_RUNNING, reasons.NOT_CONFIGURED, reasons.NOT_ALLOWED) and not answer.b:
                told(unknown, 0, answer.reason)
            else:
                told(answer.a, answer.b, answer.reason)

        return self.ask(f.PROBE, then, app=app, a=index)

    def open_log(self, app: str, then: Callable[[int], None]) -> bool:
        """A read-only descriptor of the app's log for `then` (who closes it), -1 when there is none."""
        return self.ask(f.OPEN_LOG, lambda answer: then(answer.fd), app=app)

    # -- inside

    def _begin(self) -> None:
        try:
            sock = _connect(self._path)
        except OSError:
            self._later()
            return
        sock.setblocking(False)
        self._sock = sock
        self.ask(f.HELLO, self._greeted, a=f.VERSION)

    def _later(self) -> None:
        self._due_connect_ns = time.monotonic_ns() + round(self._retry_s * NS)
        self._retry_s = min(self._retry_s * 2, RETRY_MOST_S)

    def _greeted(self, answer: Answer) -> None:
        if answer.reason != reasons.OK:
            if answer.reason != reasons.NOT_RUNNING:  # that is: it went away before it answered
                self._emit(self._words.guard("version", ok=False, value=float(answer.a)))
            return
        self._retry_s = RETRY_FIRST_S
        self.connected = True
        self._due_lost_ns = 0
        self._due_beat_ns = time.monotonic_ns() + self._heartbeat_ns
        self.hello = Hello(answer.a, answer.b, answer.app)
        self.on_hello(self.hello)
        if self._told_lost:
            self._told_lost = False
            self._emit(self._words.guard("lost", ok=True))
        self.ask(f.FOLLOW, self._follows)
        self.refresh()

    def _follows(self, answer: Answer) -> None:
        """A guard that shares a timer need not be woken by a heartbeat."""
        self._timer, self._timer_s = answer.fd, answer.a

    def _seen(self, answer: Answer) -> None:
        if answer.reason != reasons.OK:
            return
        for row in answer.rows:
            seen = self._words.app_row(row)
            self._emit(seen)
            self._images(seen.app)

    def _images(self, app: str) -> None:
        def then(answer: Answer) -> None:
            if answer.reason == reasons.OK:
                self._emit(self._words.images(app, tuple(self._words.image_row(row)[1] for row in answer.rows)))

        self.ask(f.IMAGES, then, app=app)

    def _frame(self, data: bytes, passed: int) -> None:
        if len(data) < f.HEAD.size:
            _close(passed)
            return
        _, kind, code, number = f.HEAD.unpack_from(data)
        if kind == f.ANSWER and len(data) == f.PLAIN.size:
            self._answered(data, code, number, passed)
            return
        _close(passed)
        asked = self._asked.get(number)
        if asked is not None:
            asked.rows.append(data)
        if len(data) == f.EVENT.size and kind in f.EVENTS:
            self._event(data)

    def _answered(self, data: bytes, code: int, number: int, passed: int) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            _close(passed)
            return
        _, _, _, _, app, image, a, b = f.PLAIN.unpack(data)
        asked.then(Answer(code, f.text(app), image, a, b, passed, tuple(asked.rows)))

    def _event(self, data: bytes) -> None:
        event = Event(data)
        if event.number & f.EVENT_BIT:
            self._last_seq = event.number
            if not self._due_ack_ns:
                self._due_ack_ns = time.monotonic_ns() + round(ACK_AFTER_S * NS)
        self.on_event(event)
        signal = self._words.event(event)
        if signal is not None:
            self._emit(signal)
        if event.kind in (f.EV_IMAGE, f.EV_TRIAL):
            self._images(event.app)

    def _beat(self, now_ns: int) -> None:
        """We are alive, and have this much safely."""
        self._due_beat_ns = now_ns + self._heartbeat_ns if self.connected else 0
        if not self.connected:
            return
        if self._timer >= 0 and self._last_seq == self._acked_seq and _set_timer(self._timer, self._timer_s):
            return
        self._beats += 1
        if self._durable():
            self._acked_seq = self._last_seq
        elif self._last_seq != self._acked_seq:
            self._due_ack_ns = now_ns + round(ACK_AFTER_S * NS)
        self.ask(f.HEARTBEAT, lambda _: None, a=self._beats, b=self._acked_seq)

    def _flush(self) -> None:
        while self._out and self._sock is not None:
            frame, fd = self._out[0]
            try:
                _send(self._sock, frame, fd)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            self._out.pop(0)
            _close(fd)

    def _lost(self) -> None:
        """The guard is gone: whoever waits is told, and we come back soon."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        was, self.connected = self.connected, False
        for _, fd in self._out:
            _close(fd)
        self._out.clear()
        _close(self._timer)
        self._timer = -1
        self._due_beat_ns = self._due_ack_ns = 0
        self._later()
        if was:
            self._due_lost_ns = time.monotonic_ns() + round(LOST_AFTER_S * NS)
            self.on_lost()
        waiting, self._asked = list(self._asked.values()), {}
        for asked in waiting:
            asked.then(Answer(reasons.NOT_RUNNING))


def _set_timer(fd: int, seconds: int) -> bool:
    """timerfd_settime(2): Python has it from 3.13 on."""
    import ctypes  # here: not for the command line

    return bool(ctypes.CDLL(None).timerfd_settime(fd, 0, struct.pack("@4l", 0, 0, seconds, 0), None) == 0)


def _plain(answer: Answer, then: Answered) -> None:
    _close(answer.fd)
    then(answer.reason, answer.image, answer.a, answer.b)


def _close(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)


class GuardDoor:
    """One blocking conversation, for the command line: `with GuardDoor(path) as door: door.ask(verb, app=...)`."""

    def __init__(self, path: str, *, timeout_s: float = 30.0) -> None:
        """Connects and greets; AgentUnreachableError when nobody is there, RefusedByPolicyError when the door is closed to us."""
        self._number = 0
        self._timeout_s = timeout_s
        try:
            self._sock = _connect(path)
        except PermissionError:
            raise RefusedByPolicyError("the guard's door is closed to you", place=path, hint="be root, or a member of the group edgeheal") from None
        except OSError as fault:
            raise AgentUnreachableError(f"no guard answers: {fault.strerror}", place=path) from None
        answer = self.ask(f.HELLO, a=f.VERSION)
        if answer.reason != reasons.OK:
            self._sock.close()
            raise EdgeHealError(f"the guard speaks version {answer.a} of the frames, not {f.VERSION}", place=path, hint="install the same version of both")
        self.hello = Hello(answer.a, answer.b, answer.app)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self._sock.close()

    def ask(
        self,
        verb: int,
        *,
        app: str = "",
        image: bytes = b"",
        a: int = 0,
        b: int = 0,
        code: int = 0,
        fd: int = -1,
        timeout_s: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Answer:
        """Ask and wait. Rows (and events that this question caused) are in the answer; `on_event` hears events as they come. `fd` stays the caller's."""
        self._number += 1
        end = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        rows: list[bytes] = []
        try:
            self._sock.settimeout(self._timeout_s)
            _send(self._sock, f.pack_plain(verb, request=self._number, code=code, app=app, image=image, a=a, b=b), fd)
            while True:
                self._sock.settimeout(max(0.001, end - time.monotonic()))
                data, passed = _receive(self._sock)
                if not data:
                    raise AgentUnreachableError("the guard closed the door", hint="was it restarted? try again, then `edgeheal status`")
                _, kind, reason, number = f.HEAD.unpack_from(data)
                if kind == f.ANSWER and number == self._number and len(data) == f.PLAIN.size:
                    _, _, _, _, name, got, x, y = f.PLAIN.unpack(data)
                    return Answer(reason, f.text(name), got, x, y, passed, tuple(rows))
                _close(passed)
                if kind in (f.ROW_APP, f.ROW_IMAGE) or len(data) == f.EVENT.size:
                    rows.append(data)
                    if on_event is not None and len(data) == f.EVENT.size:
                        on_event(Event(data))
        except TimeoutError:
            raise AgentUnreachableError(
                f"the guard did not answer `{f.VERBS.get(verb, verb)}` in time", hint="see `edgeheal status`; it may still happen"
            ) from None
        except OSError as fault:
            raise AgentUnreachableError(f"the guard went away: {fault.strerror}", hint="was it restarted? try again, then `edgeheal status`") from None

    def events(self, timeout_s: float) -> list[Event]:
        """Events that have come, waiting at most so long for the first (after FOLLOW)."""
        found: list[Event] = []
        self._sock.settimeout(timeout_s)
        try:
            while True:
                data, passed = _receive(self._sock)
                _close(passed)
                if not data:
                    return found
                if len(data) == f.EVENT.size:
                    found.append(Event(data))
                self._sock.settimeout(0.001)
        except TimeoutError:
            return found
        except OSError:
            return found
