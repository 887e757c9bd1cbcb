# SPDX-License-Identifier: Apache-2.0
"""Sensors that an app of this box publishes under topics of a local broker.

Duty: subscribe, cut packets, parse each payload for its sensors, tell `Reading`. It publishes nothing and judges nothing; a broker that is
away is asked again every few seconds, and silence is the engine's business.
Invariants: loopback only (the config takes nothing else), so that a connect does not wait; QoS 0, a clean session; at most `PACKET_MOST`
bytes of a packet are held, a longer or malformed one ends the connection; a flood is thinned to the sensor's period.
Source: MQTT 3.1.1 (OASIS), sections 2 and 3.
"""

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

from edgeheal.adapters.sensors.parse import FORMS
from edgeheal.adapters.sensors.spec import TopicSensor
from edgeheal.core.now import NS
from edgeheal.core.signal import Reading, SelfSaid
from edgeheal.ports import Emit

MS = 1_000_000
PACKET_MOST = 65_536
KEEP_ALIVE_S = 120
RETRY_NS = 5 * NS
CONNACK, PUBLISH, SUBACK, PINGRESP = 2, 3, 9, 13


class PacketError(ValueError):
    """What came is no MQTT."""


def text(word: str) -> bytes:
    """A string with its length."""
    raw = word.encode()
    return struct.pack(">H", len(raw)) + raw


def packet(kind: int, body: bytes) -> bytes:
    """A packet of this first byte."""
    length, rest = b"", len(body)
    while True:
        length += bytes([rest % 128 | (0x80 if rest > 127 else 0)])
        rest //= 128
        if not rest:
            return bytes([kind]) + length + body


def cut(data: bytes) -> tuple[int, bytes, bytes] | None:
    """(first byte, body, rest) of the first packet; None while it is not whole. PacketError."""
    size, shift, at = 0, 0, 1
    while True:
        if at >= len(data):
            return None
        size |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            break
        if shift > 21:
            raise PacketError("length")
    if size > PACKET_MOST:
        raise PacketError("too long")
    return None if len(data) < at + size else (data[0], data[at : at + size], data[at + size :])


def published(first: int, body: bytes) -> tuple[str, bytes]:
    """(topic, payload) of a PUBLISH. PacketError."""
    if len(body) < 2:
        raise PacketError("no topic")
    (size,) = struct.unpack_from(">H", body)
    at = 2 + size + (2 if first & 0x06 else 0)
    if at > len(body):
        raise PacketError("topic")
    return body[2 : 2 + size].decode("utf-8", "replace"), body[at:]


class Topics:
    """A `ports.Source`: one broker and the sensors under its topics."""

    def __init__(self, emit: Emit, broker: str, sensors: Sequence[TopicSensor], clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`broker`: HOST:PORT of the loopback."""
        self._emit = emit
        self._clock = clock
        self._host, _, port = broker.rpartition(":")
        self._port = int(port)
        self._sensors = tuple(sensors)
        self._told: dict[str, int] = {}
        self._sock: socket.socket | None = None
        self._got = b""
        self._due_ns = clock()
        self._heard_ns = 0
        self._away = False

    def fds(self) -> dict[int, int]:
        """The connection, while there is one."""
        return {} if self._sock is None else {self._sock.fileno(): select.POLLIN}

    def ready(self, fd: int, events: int) -> None:
        """Take what came."""
        if self._sock is None or fd != self._sock.fileno():
            return
        try:
            data = self._sock.recv(16_384)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("ended")
            return
        self._got += data
        self._heard_ns = self._clock()
        try:
            while (whole := cut(self._got)) is not None:
                first, body, self._got = whole
                self._take(first, body)
        except PacketError as fault:
            self._lose(str(fault))

    def due(self) -> int:
        """The next connect, or the next sign of life."""
        return self._due_ns

    def tick(self, now_ns: int) -> None:
        """Connect, or show that we live; a broker that answers nothing is let go."""
        if now_ns < self._due_ns:
            return
        if self._sock is None:
            self._due_ns = now_ns + RETRY_NS
            self._connect()
            return
        self._due_ns = now_ns + KEEP_ALIVE_S * NS // 2
        if now_ns - self._heard_ns > 2 * KEEP_ALIVE_S * NS:
            self._lose("silent")
        else:
            self._send(packet(0xC0, b""))

    def close(self) -> None:
        """Let go."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.send(packet(0xE0, b""))
            self._sock.close()
            self._sock = None

    def _connect(self) -> None:
        host = self._host.strip("[]")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(0.2)  # loopback: it is there or it refuses
        try:
            sock.connect((host, self._port))
        except OSError as fault:
            sock.close()
            self._lost(os.strerror(fault.errno) if fault.errno else str(fault))
            return
        sock.setblocking(False)
        self._sock, self._got, self._heard_ns = sock, b"", self._clock()
        self._due_ns = self._heard_ns + KEEP_ALIVE_S * NS // 2
        body = text("MQTT") + bytes([4, 2]) + struct.pack(">H", KEEP_ALIVE_S) + text(f"edgeheal-{os.getpid()}")
        wanted = sorted({sensor.topic for sensor in self._sensors})
        self._send(packet(0x10, body) + packet(0x82, struct.pack(">H", 1) + b"".join(text(topic) + b"\0" for topic in wanted)))

    def _send(self, data: bytes) -> None:
        try:
            sent = 0 if self._sock is None else self._sock.send(data)
        except OSError as fault:
            self._lose(str(fault.strerror))
            return
        if sent < len(data):
            self._lose("chokes")

    def _lose(self, why: str) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._due_ns = self._clock() + RETRY_NS
        self._lost(why)

    def _lost(self, why: str) -> None:
        if not self._away:
            self._away = True
            self._emit(SelfSaid(part="topics", what="unreachable", ok=False, text=f"broker at port {self._port}: {why}"[:120]))

    def _take(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == CONNACK and (len(body) != 2 or body[1]):
            raise PacketError("refused")
        if kind == SUBACK and self._away:
            self._away = False
            self._emit(SelfSaid(part="topics", what="unreachable", ok=True))
        if kind == PUBLISH:
            topic, payload = published(first, body)
            self._tell(topic, payload.decode("utf-8", "replace"))

    def _tell(self, topic: str, payload: str) -> None:
        now = self._clock()
        for sensor in self._sensors:
            if sensor.topic != topic:
                continue
            spec = sensor.spec
            raw = FORMS[sensor.form](payload, sensor.field)
            if raw is not None and now - self._told.get(spec.name, 0) >= spec.every_ms * MS // 2:
                self._told[spec.name] = now
                self._emit(Reading(spec.app, spec.name, spec.value(raw), spec.source or spec.name))
