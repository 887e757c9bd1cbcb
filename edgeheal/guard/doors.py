# SPDX-License-Identifier: Apache-2.0
"""The guard's two doors: who is there, what they may ask for, and how they are answered.

Duty: accept, read peer credentials, check frames, look the verb up, hand it to its handler; send answers and events. It carries out nothing.
Invariants: the door and the peer's uid say who speaks, the frame never does; an unknown verb, length or version closes that connection and
counts (an unknown version in a HELLO is answered with ours instead); clients, their unread answers and what they may have pending are
bounded; a descriptor that came along is closed unless a handler took it; a client that goes away costs nobody an answer.
Light on purpose: the resident guard imports it.

    doors.verb(START, handler)           handler(request) -> reason code (answered at once) | None (it has answered, or will)
    request.client.rank                  AGENT (the agent's door) | MEMBER | ROOT (people's door: root, or the guard's own uid with boundary none)
    request.answer(code, app=, image=, a=, b=, fd=)   once; `request.row(bytes)` any number of times before it
    request.take_fd()                    the descriptor that rode along, -1 if none; the taker closes it
    doors.tell(event bytes)              to everyone who follows; kept for an agent that is away, until it says that it has it
"""

import _socket
import errno
import os
import struct

from edgeheal.core import reasons
from edgeheal.wire import guard_frames as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeheal.guard.loop import Loop, Timer
    from edgeheal.guard.record import EventLog

AGENT, MEMBER, ROOT = range(3)
RANKS = ("agent", "member", "root")

CLIENTS_MOST = {0: 4, 1: 24}  # per door: the agent's, people's
UNREAD_MOST = 512  # frames
KEPT_MOST = 512  # events for an agent that is away
HELLO_WITHIN_S = 10.0
FRAMES_A_TURN = 32

_A, _M, _R = 1 << AGENT, 1 << MEMBER, 1 << ROOT
_AP = _A | _M | _R
_P = _M | _R
RIGHTS = {
    f.HELLO: _AP, f.STATUS: _AP, f.IMAGES: _AP, f.FOLLOW: _AP, f.START: _AP, f.STOP: _AP, f.RESTART: _AP, f.RELOAD: _AP, f.CLEAN_RESTART: _AP,
    f.PROBE: _AP, f.TRUNCATE: _A | _R, f.OPEN_LOG: _AP, f.SWITCH: _AP, f.TRY: _A | _R, f.GIVE_UP: _AP, f.MARK_GOOD: _R, f.MARK_FAILED: _A | _R, f.ALLOW: _R,
    f.DROP: _R, f.RESTORE_CONFIG: _AP, f.SET_CONFIG: _R, f.SET_SECRET: _R, f.HOOK: _AP, f.REBOOT: _A | _R, f.ORDER: _A | _R, f.PAUSE: _P, f.RESUME: _P,
    f.IMPORT: _A | _R, f.PRESENT: _AP, f.HOLD_SOAK: _A, f.CHALLENGE: _AP, f.BUDGETS: _AP, f.OVERRIDE: _R, f.RELOAD_CONFIG: _R, f.HEARTBEAT: _A,
    f.VERIFY: _AP, f.CHECKS: _AP, f.TRUST: _R, f.READY: _A, f.APPROVE: _R,
    f.REJECT: _P, f.WHY: _AP,
}  # fmt: skip

INT = struct.Struct("i")
_CRED = struct.Struct("iii")
_PLAIN_SIZE = f.PLAIN.size


class Client:
    """One connection."""

    __slots__ = ("_doors", "_out", "_sock", "_timer", "_waits", "acked", "door", "fd", "following", "gid", "greeted", "pending", "pid", "rank", "uid")

    def __init__(self, doors: "Doors", sock: "_socket.socket", door: int, rank: int, cred: "tuple[int, int, int]") -> None:
        """Made by `Doors`."""
        self._doors = doors
        self._sock = sock
        self.fd = sock.fileno()
        self.door = door
        self.rank = rank
        self.pid, self.uid, self.gid = cred
        self.greeted = False
        self.following = False
        self.pending = 0
        self._out: list[tuple[bytes, int]] = []
        self._waits = False
        self._timer: Timer | None = None

    @property
    def open(self) -> bool:
        """Whether it is still there."""
        return self.fd >= 0

    def send(self, frame: bytes, fd: int = -1) -> None:
        """Hand over; `fd` is closed here, sent or not. A client that does not read is closed."""
        if not self.open:
            _close(fd)
            return
        self._out.append((frame, fd))
        if len(self._out) == 1:
            self.flush()
        elif len(self._out) > UNREAD_MOST:
            self._doors.drop(self)

    def flush(self) -> None:
        """Send what the socket takes."""
        while self._out and self.open:
            frame, fd = self._out[0]
            extra = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, INT.pack(fd))] if fd >= 0 else []
            try:
                self._sock.sendmsg([frame], extra, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                if not self._waits:
                    self._waits = True
                    self._doors.want_out(self, True)
                return
            except OSError:
                self._doors.drop(self)
                return
            self._out.pop(0)
            _close(fd)
        if self.open and self._waits:
            self._waits = False
            self._doors.want_out(self, False)

    def receive(self) -> "tuple[bytes, list[int], int] | None":
        """One frame with its descriptors and the kernel's flags; None when there is none now. OSError and b"" mean gone."""
        try:
            data, extra, flags, _ = self._sock.recvmsg(f.MAX_FRAME + 1, 256, _socket.MSG_DONTWAIT | _socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        fds: list[int] = []
        for level, kind, body in extra:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds.extend(descriptors(body))
        return data, fds, flags

    def close(self) -> None:
        """Only `Doors.drop` calls this."""
        if self._timer is not None:
            self._timer.cancel()
        for _, fd in self._out:
            _close(fd)
        self._out = []
        self._sock.close()
        self.fd = -1

    def expect(self, timer: "Timer | None") -> None:
        """The deadline by which it must have greeted."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer


class Request:
    """One verb on its way. Exactly one `answer`."""

    __slots__ = ("_answered", "_fd", "a", "app", "b", "client", "code", "image", "number", "verb")

    def __init__(self, client: Client, verb: int, code: int, number: int, words: "tuple[str, bytes, int, int]", fd: int) -> None:
        """Made by `Doors`."""
        self.client = client
        self.verb = verb
        self.code = code
        self.number = number
        self.app, self.image, self.a, self.b = words
        self._fd = fd
        self._answered = False

    @property
    def answered(self) -> bool:
        """Whether the answer was given."""
        return self._answered

    def take_fd(self) -> int:
        """The descriptor that came along, or -1; the caller closes it."""
        fd, self._fd = self._fd, -1
        return fd

    def row(self, frame: bytes) -> None:
        """A row, or an event about this request, before the answer; it carries the request's number."""
        self.client.send(frame[:4] + struct.pack("!I", self.number) + frame[8:])

    def answer(self, code: int = reasons.OK, *, app: str = "", image: bytes = b"", a: int = 0, b: int = 0, fd: int = -1) -> None:
        """The answer; a second one is dropped. `fd` is closed here."""
        if self._answered:
            _close(fd)
            return
        self._answered = True
        self.client.pending -= 1
        _close(self.take_fd())
        self.client.send(f.pack_plain(f.ANSWER, request=self.number, code=code, app=app or self.app, image=image, a=a, b=b), fd)


class Doors:
    """Both sockets. `on_agent(True | False)` when the agent begins to follow, or is gone; `on_confirmed(events)` when it has them durably."""

    def __init__(self, loop: "Loop") -> None:
        """Nothing is open before `open`."""
        self._loop = loop
        self._handlers: dict[int, Callable[[Request], int | None]] = {}
        self._clients: dict[int, Client] = {}
        self._listening: dict[int, tuple[_socket.socket, int]] = {}
        self._agent_uid = -1
        self._own_is_root = False
        self._kept: list[tuple[int, bytes]] = []
        self._seq = 0
        self._log: EventLog | None = None
        self.refused = 0
        self.lost_events = 0
        self.on_agent: list[Callable[[bool], None]] = []
        self.on_confirmed: list[Callable[[list[bytes]], None]] = []

    def verb(self, verb: int, handler: "Callable[[Request], int | None]") -> None:
        """Who carries out `verb`."""
        self._handlers[verb] = handler

    def open(self, agent_path: str, people_path: str, *, agent_uid: int, agent_gid: int, group: int, boundary: bool) -> None:
        """Bind both sockets. `boundary` False: the guard's own uid counts as root at the people's door, and as the agent at the agent's."""
        self._agent_uid = agent_uid
        self._own_is_root = not boundary
        for door, path, uid, gid, mode in ((0, agent_path, agent_uid, agent_gid, 0o600), (1, people_path, -1, group, 0o660)):
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
            _bind(sock, path, mode)
            if os.geteuid() == 0:
                os.chown(path, uid, gid)
            sock.listen(16)
            self._listening[sock.fileno()] = (sock, door)
            self._loop.watch(sock.fileno(), self._accept)

    @property
    def is_open(self) -> bool:
        """Whether the sockets are bound."""
        return bool(self._listening)

    def agent_follows(self) -> bool:
        """Whether an agent is there to decide."""
        return any(client.following and client.rank == AGENT for client in self._clients.values())

    def agents(self) -> "list[Client]":
        """The agent's connections that follow."""
        return [client for client in self._clients.values() if client.following and client.rank == AGENT]

    def tell(self, event: bytes, *, keep: bool = True) -> None:
        """An event for all who follow; numbered, and with `keep` kept until the agent has it (durably, in its own words)."""
        if keep:
            self._seq = f.EVENT_BIT | ((self._seq + 1) & 0x7FFFFFFF)
            event = event[:4] + struct.pack("!I", self._seq) + event[8:]
            self._kept.append((self._seq, event))
            if self._log is not None:
                self._log.keep(self._seq, event)
            if len(self._kept) > KEPT_MOST:
                del self._kept[0]
                self.lost_events += 1
        for client in [c for c in self._clients.values() if c.following]:
            client.send(event)

    def acked(self, seq: int) -> None:
        """The agent has everything up to this event durably."""
        for at, (number, _) in enumerate(self._kept):
            if number == seq:
                confirmed = [event for _, event in self._kept[: at + 1]]
                del self._kept[: at + 1]
                if self._log is not None:
                    self._log.acked(seq)
                for told in self.on_confirmed:
                    told(confirmed)
                return

    def remember(self, log: "EventLog") -> None:
        """Go on with what an earlier guard of this boot had kept."""
        acked, events = log.load()
        numbered = sorted((struct.unpack_from("!I", event, 4)[0], event) for event in events)
        self._kept = [(number, event) for number, event in numbered if number > acked]
        self._seq = max([acked, *(number for number, _ in numbered)])
        self._log = log

    @property
    def kept(self) -> "list[tuple[int, bytes]]":
        """Events the agent has not confirmed, oldest first."""
        return self._kept

    def follow(self, client: Client) -> None:
        """From now on events go to this client; an agent first gets those it may have missed."""
        first = not client.following
        client.following = True
        if client.rank == AGENT and first:
            for _, event in list(self._kept):
                client.send(event)
            for told in self.on_agent:
                told(True)

    def want_out(self, client: Client, wanted: bool) -> None:
        """Whether to wait for room in the client's socket."""
        self._loop.watch(client.fd, self._ready, 5 if wanted else 1)

    def drop(self, client: Client, refused: bool = False) -> None:
        """Close a connection; `refused`: it had broken the rules."""
        if not client.open:
            return
        self.refused += refused
        self._loop.unwatch(client.fd)
        self._clients.pop(client.fd, None)
        was = client.following and client.rank == AGENT
        client.close()
        if was and not self.agent_follows():
            for told in self.on_agent:
                told(False)

    def _accept(self, fd: int, events: int) -> None:
        sock, door = self._listening[fd]
        try:
            new = _socket.socket(fileno=sock._accept()[0])  # type: ignore[attr-defined, unused-ignore]
        except OSError as fault:
            if fault.errno in (errno.EMFILE, errno.ENFILE):
                self._loop.unwatch(fd)  # a full table must not make the loop spin: look again in a second
                self._loop.after(1.0, lambda: self._loop.watch(fd, self._accept))
            return
        os.set_inheritable(new.fileno(), False)
        cred = _CRED.unpack(new.getsockopt(_socket.SOL_SOCKET, 17, _CRED.size))  # 17: SO_PEERCRED
        rank = self._rank(door, cred[1])
        if rank < 0 or sum(c.door == door for c in self._clients.values()) >= CLIENTS_MOST[door]:
            self.refused += 1
            new.close()
            return
        client = Client(self, new, door, rank, cred)
        self._clients[client.fd] = client
        self._loop.watch(client.fd, self._ready)
        client.expect(self._loop.after(HELLO_WITHIN_S, lambda: self.drop(client, refused=True)))

    def _rank(self, door: int, uid: int) -> int:
        if door == 0:
            return AGENT if uid in (self._agent_uid, 0) or (self._own_is_root and uid == os.geteuid()) else -1
        return ROOT if uid == 0 or (self._own_is_root and uid == os.geteuid()) else MEMBER

    def _ready(self, fd: int, events: int) -> None:
        client = self._clients.get(fd)
        if client is None:
            return
        if events & 4:
            client.flush()
        if not client.open or not events & ~4:
            return
        for _ in range(FRAMES_A_TURN):
            try:
                got = client.receive()
            except OSError:
                self.drop(client)
                return
            if got is None:
                return
            data, fds, flags = got
            if not data and not fds:
                self.drop(client)
                return
            try:
                self._frame(client, data, fds, flags)
            finally:
                for fd_left in fds[1:]:
                    _close(fd_left)
            if not client.open:
                return

    def _frame(self, client: Client, data: bytes, fds: "list[int]", flags: int) -> None:
        """Check one frame and hand it on. Whatever is wrong closes the connection, except a HELLO of another version."""
        fd = fds[0] if fds else -1
        if len(data) >= f.HEAD.size and data[1] == f.HELLO and (data[0] != f.VERSION or len(data) != _PLAIN_SIZE):
            _close(fd)
            client.send(f.pack_plain(f.ANSWER, request=f.HEAD.unpack_from(data)[3], code=reasons.UNKNOWN_VERSION, a=f.VERSION))
            return
        bad = len(data) != _PLAIN_SIZE or data[0] != f.VERSION or data[1] not in f.VERBS or len(fds) > 1
        bad = bad or bool(flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC)) or (not client.greeted and data[1] != f.HELLO)
        if bad:
            _close(fd)
            self.drop(client, refused=True)
            return
        _, verb, code, number, app, image, a, b = f.PLAIN.unpack(data)
        request = Request(client, verb, code, number, (f.text(app), image, a, b), fd)
        client.pending += 1
        if not RIGHTS[verb] >> client.rank & 1:
            request.answer(reasons.WRONG_DOOR if client.rank == AGENT else reasons.NOT_ALLOWED)
            return
        handler = self._handlers.get(verb)
        if handler is None:
            request.answer(reasons.NOT_CONFIGURED)
            return
        if client.pending > UNREAD_MOST // 8:
            request.answer(reasons.BUSY)
            return
        if verb == f.HELLO:
            client.greeted = True
            client.expect(None)
        try:
            said = handler(request)
        except BaseException:
            request.answer(reasons.INTERNAL)
            raise
        if said is not None:
            request.answer(said)


def descriptors(body: bytes) -> "list[int]":
    """What SCM_RIGHTS carried. (The module `array` would cost 0.4 MB.)"""
    return [fd for (fd,) in INT.iter_unpack(body[: len(body) // INT.size * INT.size])]


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


def _bind(sock: "_socket.socket", path: str, mode: int) -> None:
    """Bind at `path` with exactly `mode`, also where the path is longer than a socket address may be."""
    folder, name = path.rsplit("/", 1)
    held = os.open(folder or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o777 & ~mode)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        sock.bind(path if len(os.fsencode(path)) < 108 else f"/proc/self/fd/{held}/{name}")
        os.chmod(path, mode)
    finally:
        os.umask(before)
        os.close(held)


bind = _bind
