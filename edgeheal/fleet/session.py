# SPDX-License-Identifier: Apache-2.0
"""One connection of the fleet's side to the broker: connect, subscribe, take messages, acknowledge them when the caller says so.

Duty: sockets, TLS, pings, the broker's window for our own messages. Not its duty: what messages say, when to connect again.
Invariants: a message is acknowledged only by `acknowledge`; at most what the broker allows is open of ours; the broker's silence
is judged by received bytes (1.5 x keep-alive); any fault is a LinkError and the end of this session.
"""

import select
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass

from edgeheal.core.errors import LinkError
from edgeheal.fleet import packets
from edgeheal.fleet.packets import Message, Will

READ_BYTES = 262_144
OPEN_MOST = 1_000
UNSUPPORTED = (1, 0x84)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is and how to prove who we are. `version` auto, 5 or 3.1.1."""

    host: str
    port: int = 1883
    tls: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password_file: str = ""
    version: str = "auto"


def _open(address: Address, seconds: float) -> socket.socket | ssl.SSLSocket:
    try:
        sock: socket.socket | ssl.SSLSocket = socket.create_connection((address.host, address.port), timeout=seconds)
    except OSError as fault:
        raise LinkError(f"no connection: {fault.strerror or fault}", place=f"{address.host}:{address.port}") from None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tls:
            context = ssl.create_default_context(cafile=address.ca or None)
            if address.cert:
                context.load_cert_chain(address.cert, address.key or None)
            sock = context.wrap_socket(sock, server_hostname=address.host)
    except OSError as fault:
        sock.close()
        raise LinkError(f"TLS: {fault.strerror or fault}", place=f"{address.host}:{address.port}") from None
    return sock


def _password(path: str) -> str:
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(4_096).strip("\r\n")
    except OSError as fault:
        raise LinkError(f"the password cannot be read: {fault.strerror}", place=path) from None


class Session:
    """See the module. Made connected; `close` in any case."""

    def __init__(
        self,
        address: Address,
        client_id: str,
        *,
        clean: bool,
        will: Will | None = None,
        keep_alive_s: int = 60,
        receive_most: int = 2_000,
        seconds: float = 10.0,
    ) -> None:
        """Connects (blocks up to `seconds` for each of TCP, TLS, CONNACK); MQTT 5, else 3.1.1 when the address says auto."""
        versions = {"auto": (True, False), "5": (True,), "3.1.1": (False,)}[address.version]
        self._cutter = packets.Cutter()
        self._early: list[tuple[int, bytes]] = []
        for v5 in versions:
            self.v5 = v5
            self._sock = _open(address, seconds)
            try:
                answer = self._shake_hands(address, client_id, clean=clean, will=will, keep_alive_s=keep_alive_s, receive_most=receive_most, seconds=seconds)
            except LinkError:
                self._sock.close()
                if v5 and len(versions) > 1:
                    continue
                raise
            if answer.code in UNSUPPORTED and v5 and len(versions) > 1:
                self._sock.close()
                continue
            if answer.code:
                self._sock.close()
                raise LinkError(f"the broker refused us (reason {answer.code})", place=f"{address.host}:{address.port}")
            break
        self.present = answer.present
        self._window = min(OPEN_MOST, answer.receive_most)
        self._keep_alive_s = answer.keep_alive_s or keep_alive_s
        self._out = bytearray()
        self._queue: deque[tuple[str, bytes, bool, int]] = deque()
        self._open: set[int] = set()
        self._mid = 0
        self._received = self._sent = time.monotonic()
        self._pinged = False
        self.granted: dict[int, list[int]] = {}
        self._sock.setblocking(False)

    def _shake_hands(
        self, address: Address, client_id: str, *, clean: bool, will: Will | None, keep_alive_s: int, receive_most: int, seconds: float
    ) -> packets.Connack:
        data = packets.connect(
            client_id, v5=self.v5, keep_alive_s=keep_alive_s, clean=clean, user=address.user, password=_password(address.password_file), will=will,
            expiry_s=0 if clean else 604_800, receive_most=receive_most,
        )  # fmt: skip
        self._cutter = packets.Cutter()
        try:
            self._sock.settimeout(seconds)
            self._sock.sendall(data)
            while True:
                came = self._sock.recv(4_096)
                if not came:
                    raise LinkError("the broker closed the connection before it answered")
                found = self._cutter.feed(came)
                if found:
                    break
        except OSError as fault:
            raise LinkError(f"no answer from the broker: {fault}") from None
        first, body = found[0]
        if first >> 4 != packets.CONNACK:
            raise LinkError("the broker's first word is no CONNACK")
        self._early = found[1:]
        return packets.read_connack(body, v5=self.v5)

    # -- polling

    def fileno(self) -> int:
        """For poll."""
        return self._sock.fileno()

    def events(self) -> int:
        """What to poll for."""
        return select.POLLIN | (select.POLLOUT if self._out else 0)

    def due(self) -> float:
        """Monotonic seconds at which `tick` wants to be called."""
        if self._pinged:
            return self._received + 1.5 * self._keep_alive_s
        return min(self._received, self._sent) + self._keep_alive_s

    def tick(self) -> None:
        """Ping, or give up a silent broker."""
        now = time.monotonic()
        if self._pinged and now >= self._received + 1.5 * self._keep_alive_s:
            raise LinkError("no answer from the broker")
        if not self._pinged and now >= min(self._received, self._sent) + self._keep_alive_s:
            self._pinged = True
            self._write(packets.PING)

    def wait(self, seconds: float) -> list[Message]:
        """Poll once, for at most `seconds`, and do what there is; the messages that came."""
        poll = select.poll()
        poll.register(self._sock, self.events())
        pending = bool(self._early) or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending())
        timeout = 0.0 if pending else max(0.0, min(seconds, self.due() - time.monotonic()))
        found = poll.poll(timeout * 1000)
        messages = self.receive() if pending or any(mask & ~select.POLLOUT for _, mask in found) else []
        self.tick()
        self.flush()
        return messages

    # -- receiving

    def receive(self) -> list[Message]:
        """Messages that are whole now; nothing is acknowledged yet."""
        found, self._early = self._early, []
        for _ in range(4):
            try:
                data = self._sock.recv(READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as fault:
                raise LinkError(f"the connection broke: {fault}") from None
            if not data:
                raise LinkError("the broker closed the connection")
            self._received = time.monotonic()
            self._pinged = False
            found += self._cutter.feed(data)
            if len(data) < 16_384:
                break
        return [message for first, body in found if (message := self._take(first, body)) is not None]

    def _take(self, first: int, body: bytes) -> Message | None:
        kind = first >> 4
        if kind == packets.PUBLISH:
            return packets.read_publish(first, body, v5=self.v5)
        if kind == packets.PUBACK:
            self._open.discard(packets.read_mid(body))
            self._send_queued()
        elif kind == packets.SUBACK:
            self.granted[packets.read_mid(body)] = packets.read_suback(body, v5=self.v5)
        elif kind == packets.DISCONNECT:
            raise LinkError(f"the broker sent us away (reason {body[0] if body else 0})")
        return None

    def acknowledge(self, mids: list[int]) -> None:
        """These are safe with us: the broker may forget them."""
        if mids:
            self._write(packets.pubacks(mids))

    # -- sending

    def subscribe(self, *topics: str, qos: int = 1) -> int:
        """Ask for `topics`; `granted[mid]` holds the answer once it came."""
        mid = self._next_mid()
        self._write(packets.subscribe(mid, list(topics), qos, v5=self.v5))
        return mid

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int = 0) -> None:
        """QoS 1, as soon as the broker's window allows."""
        self._queue.append((topic, payload, retain, expiry_s))
        self._send_queued()

    def waiting(self) -> int:
        """Messages of ours that the broker has not acknowledged."""
        return len(self._queue) + len(self._open)

    def _send_queued(self) -> None:
        data = bytearray()
        while self._queue and len(self._open) < self._window:
            topic, payload, retain, expiry_s = self._queue.popleft()
            mid = self._next_mid()
            self._open.add(mid)
            data += packets.publish(topic, payload, mid=mid, retain=retain, v5=self.v5, expiry_s=expiry_s)
        if data:
            self._write(bytes(data))

    def _next_mid(self) -> int:
        self._mid = self._mid % 65_535 + 1
        while self._mid in self._open:
            self._mid = self._mid % 65_535 + 1
        return self._mid

    def _write(self, data: bytes) -> None:
        self._out += data
        self.flush()

    def flush(self) -> None:
        """Send what can be sent without waiting."""
        while self._out:
            try:
                sent = self._sock.send(bytes(self._out[:READ_BYTES]))
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as fault:
                raise LinkError(f"the connection broke: {fault}") from None
            del self._out[:sent]
            self._sent = time.monotonic()

    def finish(self, seconds: float = 5.0) -> None:
        """Wait until all of ours is acknowledged, say goodbye, close."""
        end = time.monotonic() + seconds
        try:
            while (self.waiting() or self._out) and time.monotonic() < end:
                self.wait(0.2)
            self._write(packets.GOODBYE)
        except LinkError:
            pass
        self.close()

    def close(self) -> None:
        """End it without a word."""
        self._sock.close()
