# SPDX-License-Identifier: Apache-2.0
"""The agent's door for people's tools: JSON lines over a Unix socket, read-only for the group.

Duty: take requests `{"id": n, "do": word, ...}`, answer `{"id": n, "ok": true, ...}`; `watch` keeps the line open and sends
`{"event": ...}`. It moves nothing: grave words go to the guard's door.
Invariants: a request is at most 64 KiB, a client's unread answers at most 1 MiB (then it is dropped), at most 32 clients;
a malformed line is answered with its fault and costs that line only.
"""

import contextlib
import json
import os
import select
import socket
from collections.abc import Callable
from typing import Any

REQUEST_MOST = 65_536
UNREAD_MOST = 1_048_576
CLIENTS_MOST = 32

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class _Client:
    __slots__ = ("inbox", "outbox", "sock", "watching")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = b""
        self.outbox = bytearray()
        self.watching = False


class ControlServer:
    """A `ports.Source`: the listening socket and its clients."""

    def __init__(self, path: str, handlers: dict[str, Handler], *, mode: int = 0o660) -> None:
        """`handlers` answers each `do` word; `mode` of the socket file."""
        self._handlers = handlers
        self._clients: dict[int, _Client] = {}
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._listen = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._listen.bind(path)
        os.chmod(path, mode)
        self._listen.listen(16)

    def fds(self) -> dict[int, int]:
        """The listener and each client, those with unread answers for writing too."""
        wanted = {self._listen.fileno(): select.POLLIN}
        for fd, client in self._clients.items():
            wanted[fd] = select.POLLIN | (select.POLLOUT if client.outbox else 0)
        return wanted

    def due(self) -> int:
        """No deadlines of its own."""
        return 0

    def tick(self, now_ns: int) -> None:
        """Nothing is ever due."""

    def ready(self, fd: int, events: int) -> None:
        """Accept, read or write."""
        if fd == self._listen.fileno():
            self._accept()
            return
        client = self._clients.get(fd)
        if client is None:
            return
        try:
            if events & select.POLLOUT:
                self._flush(client)
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._read(client)
        except OSError:
            self._drop(client)

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event to everyone who watches."""
        watchers = [c for c in self._clients.values() if c.watching]
        if not watchers:
            return
        line = json.dumps(event, separators=(",", ":"), default=_plain).encode() + b"\n"
        for client in watchers:
            self._send(client, line)

    def _accept(self) -> None:
        try:
            sock, _ = self._listen.accept()
        except OSError:
            return
        sock.setblocking(False)
        if len(self._clients) >= CLIENTS_MOST:
            sock.close()
            return
        self._clients[sock.fileno()] = _Client(sock)

    def _read(self, client: _Client) -> None:
        data = client.sock.recv(REQUEST_MOST)
        if not data:
            self._drop(client)
            return
        client.inbox += data
        while b"\n" in client.inbox:
            line, client.inbox = client.inbox.split(b"\n", 1)
            if line.strip():
                self._answer(client, line)
        if len(client.inbox) > REQUEST_MOST:
            self._send(client, b'{"ok":false,"error":"request too large"}\n')
            self._drop(client)

    def _answer(self, client: _Client, line: bytes) -> None:
        answer: dict[str, Any] = {"ok": False}
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            answer["error"] = 'malformed: expected {"id": n, "do": word}'
        else:
            answer["id"] = request.get("id")
            handler = self._handlers.get(request["do"])
            if handler is None:
                answer["error"] = f"unknown word; known: {', '.join(sorted(self._handlers))}, watch" if request["do"] != "watch" else ""
            else:
                answer |= handler(request)
                answer.setdefault("ok", True)
                answer["ok"] = "error" not in answer
            if request["do"] == "watch":
                client.watching = True
                answer["ok"] = True
                answer.pop("error", None)
        self._send(client, json.dumps(answer, separators=(",", ":"), default=_plain).encode() + b"\n")

    def _send(self, client: _Client, line: bytes) -> None:
        if len(client.outbox) + len(line) > UNREAD_MOST:
            self._drop(client)
            return
        client.outbox += line
        try:
            self._flush(client)
        except OSError:
            self._drop(client)

    def _flush(self, client: _Client) -> None:
        if client.outbox:
            try:
                sent = client.sock.send(client.outbox)
            except BlockingIOError:
                return
            del client.outbox[:sent]

    def _drop(self, client: _Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        client.sock.close()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
