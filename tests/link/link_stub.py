# SPDX-License-Identifier: Apache-2.0
"""A scripted broker with a controller behind it, for faults that no real broker offers: mute, refuse, hang up, drop."""

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

from edgeheal.fleet import packets
from edgeheal.wire import packed, stored, topics
from edgeheal.wire.stored import Ack, Presence, PresenceState


class Stub:
    """`on_publish(topic, payload, v5)` answers None (take it), an int (v5 PUBACK reason), "close" or "mute"."""

    def __init__(
        self, on_publish: Callable[[str, bytes, bool], object] = lambda *_: None, *, presence: bool = True, versions: tuple[int, ...] = (4, 5)
    ) -> None:
        self.on_publish = on_publish
        self.presence = presence
        self.versions = versions
        self.mute = False
        self.accept = True
        self.connects: list[float] = []
        self.published: list[tuple[str, bytes]] = []
        self.stored: dict[tuple[bytes, int], bytes] = {}
        self._listen = socket.create_server(("127.0.0.1", 0))
        self.port = self._listen.getsockname()[1]
        self._session = os.urandom(6)
        self._peers: dict[int, _Peer] = {}
        self._bell = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = False
        self._thread.start()

    def __enter__(self) -> "Stub":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        os.write(self._bell[1], b"x")
        self._thread.join(5)
        for peer in list(self._peers.values()):
            peer.sock.close()
        self._listen.close()

    def send(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """To whoever is connected."""
        for peer in list(self._peers.values()):
            peer.publish(topic, payload, retain=retain)

    def say_presence(self, state: PresenceState) -> None:
        self.send(topics.presence("t"), stored.encode_presence(Presence(self._session, state)), retain=True)

    def _run(self) -> None:
        while not self._stop:
            poll = select.poll()
            for fd in (self._listen.fileno(), self._bell[0], *self._peers):
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll(500):
                if fd == self._listen.fileno():
                    sock, _ = self._listen.accept()
                    self._peers[sock.fileno()] = _Peer(sock, self)
                elif fd in self._peers:
                    peer = self._peers[fd]
                    try:
                        alive = peer.read()
                    except OSError:
                        alive = False
                    if not alive:
                        del self._peers[fd]
                        peer.sock.close()


class _Peer:
    def __init__(self, sock: socket.socket, stub: Stub) -> None:
        self.sock = sock
        self.stub = stub
        self.v5 = False
        self.cutter = packets.Cutter()
        self.mid = 0

    def read(self) -> bool:
        data = self.sock.recv(65_536)
        if not data:
            return False
        return all(self.take(first, body) for first, body in self.cutter.feed(data))

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.mid += 1
        self.sock.sendall(packets.publish(topic, payload, mid=self.mid, retain=retain, v5=self.v5))

    def take(self, first: int, body: bytes) -> bool:
        kind = first >> 4
        stub = self.stub
        if kind == packets.CONNECT:
            stub.connects.append(time.monotonic())
            version = body[6]
            self.v5 = version == 5
            if version not in stub.versions or not stub.accept:
                return False
            self.sock.sendall(b"\x20\x03\0\0\0" if self.v5 else b"\x20\x02\0\0")
        elif stub.mute:
            return True
        elif kind == packets.SUBSCRIBE:
            self.sock.sendall(b"\x90" + (b"\x04" + body[:2] + b"\0\x01" if self.v5 else b"\x03" + body[:2] + b"\x01"))
            if stub.presence and topics.presence("t").encode() in body:
                self.publish(topics.presence("t"), stored.encode_presence(Presence(stub._session, PresenceState.OPEN)), retain=True)
        elif kind == packets.PUBLISH:
            return self.published(packets.read_publish(first, body, v5=self.v5))
        elif kind == packets.PINGREQ:
            self.sock.sendall(b"\xd0\0")
        elif kind == packets.DISCONNECT:
            return False
        return True

    def published(self, message: packets.Message) -> bool:
        stub = self.stub
        stub.published.append((message.topic, message.payload))
        verdict = stub.on_publish(message.topic, message.payload, self.v5)
        if verdict == "close":
            return False
        if verdict == "mute":
            return True
        if message.mid:
            code = verdict if isinstance(verdict, int) else 0
            self.sock.sendall(b"\x40\x03" + struct.pack("!HB", message.mid, code) if code else b"\x40\x02" + struct.pack("!H", message.mid))
        key = packed.key_of(message.payload) if verdict is None and message.topic.endswith(("up/incident", "up/result")) else None
        if key is not None:
            stub.stored[key] = message.payload
            if stub.presence:
                self.publish(topics.of("t", topics.parse(message.topic).device, topics.DOWN_STORED), stored.encode([Ack(key[0], 0, (key[1],))]))
        return True
