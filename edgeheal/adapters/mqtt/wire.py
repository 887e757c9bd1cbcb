# SPDX-License-Identifier: Apache-2.0
"""The socket under the MQTT client: connected with deadlines, non-blocking, counted.

Duty: TCP and TLS with a time limit each; then a socket that tells when bytes last came in and went out, reads in large pieces,
and speaks `BlockingIOError` where TLS speaks of want-read. It knows no MQTT.
Invariant: `open_wire` is the only call that may block; it runs outside the loop.
"""

import socket
import ssl
import time

CHUNK = 16_384
OUTBOX_MOST = 262_144
SocketLike = socket.socket | ssl.SSLSocket


class Wire:
    """A connected socket as the MQTT client sees it."""

    def __init__(self, sock: SocketLike) -> None:
        """`sock` is connected; it becomes non-blocking."""
        self._sock = sock
        self._inbox = b""
        self._outbox = bytearray()
        self._corked = False
        self._closed = False
        sock.setblocking(False)
        self.received_ns = self.sent_ns = time.monotonic_ns()
        self.bytes_in = 0
        self.bytes_out = 0

    def recv(self, size: int) -> bytes:
        """At most `size` bytes; b"" when the peer closed; BlockingIOError when there is nothing."""
        if not self._inbox:
            try:
                self._inbox = self._sock.recv(max(size, CHUNK))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise BlockingIOError from None
            except ssl.SSLError as fault:
                raise ConnectionError(str(fault)) from None
            if not self._inbox:
                return b""
            self.received_ns = time.monotonic_ns()
            self.bytes_in += len(self._inbox)
        data, self._inbox = self._inbox[:size], self._inbox[size:]
        return data

    def send(self, data: bytes) -> int:
        """How many of `data` were taken; BlockingIOError when none can be. Corked, they wait for `flush` and go in one piece."""
        if self._corked or self._outbox:
            if len(self._outbox) > OUTBOX_MOST:
                raise BlockingIOError
            self._outbox += data
            return len(data)
        return self._write(data)

    def cork(self) -> None:
        """Several messages follow: one TLS record and one system call for them."""
        self._corked = True

    def flush(self) -> None:
        """Send what waits, as far as it goes; ConnectionError when the connection is over."""
        self._corked = False
        while self._outbox:
            try:
                sent = self._write(bytes(self._outbox[:CHUNK]))
            except BlockingIOError:
                return
            del self._outbox[:sent]

    def waiting(self) -> bool:
        """Whether something waits for the peer to take it."""
        return bool(self._outbox)

    def _write(self, data: bytes) -> int:
        try:
            sent = self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as fault:
            raise ConnectionError(str(fault)) from None
        if sent:
            self.sent_ns = time.monotonic_ns()
            self.bytes_out += sent
        return sent

    def pending(self) -> int:
        """Bytes that were read and not yet taken: poll does not know of them."""
        return len(self._inbox) or (self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0)

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def settimeout(self, value: float | None) -> None:
        """It never blocks."""

    def close(self) -> None:
        """Close it without waiting."""
        if not self._closed:
            self._closed = True
            self._sock.close()


def open_wire(host: str, port: int, context: ssl.SSLContext | None, seconds: float) -> Wire:
    """Connect; OSError says which layer failed (gaierror: DNS, SSLError: TLS). Blocks up to `seconds` an address, and again for TLS."""
    name = host.encode() if host.isascii() else host  # as bytes: the codec for other names is 0.4 MB that stays
    sock: SocketLike = socket.create_connection((name, port), timeout=seconds)  # type: ignore[arg-type, unused-ignore]
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            wrapped = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
            sock = wrapped
            wrapped.settimeout(seconds)
            wrapped.do_handshake()
    except BaseException:
        sock.close()
        raise
    return Wire(sock)


def tls_context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 or newer, the broker's name and certificate checked; our own certificate when given. OSError names what cannot be read."""
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert:
        context.load_cert_chain(cert, key or None)
    return context
