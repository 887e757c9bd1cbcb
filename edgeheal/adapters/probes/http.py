# SPDX-License-Identifier: Apache-2.0
"""The http probe: a GET over loopback, its status is the answer.

Duty: a tiny HTTP/1.1 client (RFC 9112): one request, one answer, no redirect, no keep-alive.
Invariants: 200..399 is yes, any other status no with that status as code; at most `HEAD_MOST` bytes of head and `BODY_MOST`
of body are read, and no body is kept; the body is read to its end (or bound) so that the app sees no broken pipe; a body
that does not end in time is no, since half an answer is a hang.
"""

import select
import socket

from edgeheal.adapters.probes.attempt import Answer, Connecting, Place, place_of
from edgeheal.core import reasons
from edgeheal.core.kinds import Verdict

HEAD_MOST = 16_384
BODY_MOST = 65_536
_CHUNK = 16_384
_NONE = -1


class HttpAttempt(Connecting):
    """One request. States: connecting, sending, reading the head, reading the body."""

    @classmethod
    def begin(cls, target: str) -> "HttpAttempt":
        """`http://127.0.0.1:8080/health`; ValueError when it is no loopback URL."""
        return cls(place_of(target, "http"))

    def __init__(self, place: Place) -> None:
        """Starts connecting at once."""
        self._unsent = (
            f"GET {place.path} HTTP/1.1\r\nHost: {place.authority}\r\nUser-Agent: edgeheal-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        ).encode("ascii")
        self._head = b""
        self._status = 0
        self._left = _NONE  # bytes of body still to come; _NONE: to the end of the connection
        self._chunks: _Chunks | None = None
        self._read = 0
        self._open = False
        super().__init__(place)

    def go(self, events: int) -> Answer | None:
        """Go on as far as can be had."""
        if not self._open:
            answer = self.connected()
            if answer is not None:
                return None if answer.code == reasons.BUSY else answer
            self._open = True
        try:
            return self._go()
        except BlockingIOError:
            return None
        except OSError:  # reset, broken pipe: the app hung up in the middle
            return self._ended()

    def expired(self) -> Answer:
        """No whole answer in time."""
        return Answer(Verdict.NO, reasons.TIMEOUT)

    def _go(self) -> Answer | None:
        sock = self.sock
        if sock is None:
            return Answer(Verdict.UNKNOWN, reasons.INTERNAL)
        while self._unsent:
            self._unsent = self._unsent[sock.send(self._unsent, socket.MSG_NOSIGNAL) :]
        self.mask = select.POLLIN
        while True:
            data = sock.recv(_CHUNK)
            if not data:
                return self._ended()
            answer = self._take(data)
            if answer is not None:
                return answer

    def _take(self, data: bytes) -> Answer | None:
        if self._status == 0:
            self._head += data
            data = b""
            while self._status == 0:  # an interim 1xx answer is followed by the real one
                end = self._head.find(b"\r\n\r\n")
                if end < 0:
                    return Answer(Verdict.NO, reasons.TOO_LARGE) if len(self._head) > HEAD_MOST else self._no_http()
                head, self._head = self._head[:end], self._head[end + 4 :]
                if not self._understand(head):
                    return Answer(Verdict.NO, reasons.MALFORMED)
            data, self._head = self._head, b""
        return self._count(data)

    def _no_http(self) -> Answer | None:
        """What does not even begin like HTTP is not waited for."""
        return None if b"HTTP/1."[: len(self._head)] == self._head[:7] else Answer(Verdict.NO, reasons.MALFORMED)

    def _understand(self, head: bytes) -> bool:
        lines = head.split(b"\r\n")
        words = lines[0].split(b" ", 2)
        if len(words) < 2 or words[0] not in (b"HTTP/1.0", b"HTTP/1.1") or len(words[1]) != 3 or not words[1].isdigit():
            return False
        status = int(words[1])
        if 100 <= status < 200:
            return status != 101
        self._status = status
        if status in (204, 304):
            self._left = 0
            return True
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            match name.strip().lower():
                case b"transfer-encoding" if value.strip().lower().endswith(b"chunked"):
                    self._chunks = _Chunks()
                case b"content-length" if self._chunks is None:
                    if not value.strip().isdigit():
                        return False
                    self._left = int(value)
        return True

    def _count(self, data: bytes) -> Answer | None:
        self._read += len(data)
        if self._chunks is not None:
            done = self._chunks.feed(data)
        elif self._left == _NONE:
            done = False
        else:
            self._left = max(0, self._left - len(data))
            done = self._left == 0
        return self._verdict() if done or self._read >= BODY_MOST else None

    def _ended(self) -> Answer:
        """The connection is over: whole only when the status came and nothing more was promised."""
        if self._status == 0 or (self._left > 0) or self._chunks is not None:
            return Answer(Verdict.NO, reasons.TRUNCATED)
        return self._verdict()

    def _verdict(self) -> Answer:
        return Answer(Verdict.YES if 200 <= self._status < 400 else Verdict.NO, self._status)


class _Chunks:
    """Finds the end of a chunked body (RFC 9112 section 7.1) without keeping it."""

    __slots__ = ("_left", "_line")

    def __init__(self) -> None:
        self._line = b""
        self._left = 0  # bytes of the present chunk with its CRLF

    def feed(self, data: bytes) -> bool:
        """True once the last chunk has come (a damaged size counts as the end: the status stands)."""
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._left -= taken
                data = data[taken:]
                continue
            end = data.find(b"\n")
            if end < 0:
                self._line += data[:64]
                return len(self._line) > 64
            size = (self._line + data[:end]).split(b";")[0].strip()
            self._line, data = b"", data[end + 1 :]
            try:
                length = int(size, 16)
            except ValueError:
                return True
            if length <= 0:
                return True
            self._left = length + 2
        return False
