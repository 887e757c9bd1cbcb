# SPDX-License-Identifier: Apache-2.0
"""MQTT packets of the fleet's side: 5 and 3.1.1, as much of it as a controller needs. Bytes in, bytes out.

Duty: pack CONNECT, SUBSCRIBE, PUBLISH, PUBACK, PINGREQ, DISCONNECT; cut the stream into packets and read those that come.
Source: OASIS MQTT 5.0 and 3.1.1. Why not paho: a controller acknowledges in batches after its commit, and reads several times faster.
Invariants: a stream that is no MQTT, or a packet longer than PACKET_MOST, is a LinkError; nothing is read past a packet's end.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from edgeheal.core.errors import LinkError

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14
PACKET_MOST = 1 << 20

# v5 properties: id -> how long its value is; 0 = length-prefixed, -1 = two length-prefixed, -2 = variable integer
_PROPERTIES = {
    0x01: 1, 0x02: 4, 0x03: 0, 0x08: 0, 0x09: 0, 0x0B: -2, 0x11: 4, 0x12: 0, 0x13: 2, 0x15: 0, 0x16: 0, 0x17: 1, 0x18: 4, 0x19: 1, 0x1A: 0, 0x1C: 0,
    0x1F: 0, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: -1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
P_EXPIRY, P_SESSION_EXPIRY, P_WILL_DELAY, P_RECEIVE_MOST, P_KEEP_ALIVE, P_PACKET_MOST = 0x02, 0x11, 0x18, 0x21, 0x13, 0x27


class Message(NamedTuple):
    """A PUBLISH that came; `mid` 0 for QoS 0."""

    topic: str
    payload: bytes
    mid: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us when we are gone."""

    topic: str
    payload: bytes
    delay_s: int = 0


@dataclass(frozen=True, slots=True)
class Connack:
    """The broker's answer: code 0 is yes; how many of our messages may be open, how often it wants to hear from us (0: as asked)."""

    code: int
    present: bool
    receive_most: int = 65_535
    keep_alive_s: int = 0


def length(value: int) -> bytes:
    """A variable byte integer."""
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + length(len(body)) + body


def _text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(raw)) + raw


def connect(
    client_id: str,
    *,
    v5: bool,
    keep_alive_s: int,
    clean: bool,
    user: str = "",
    password: str = "",
    will: Will | None = None,
    expiry_s: int = 0,
    receive_most: int = 0,
) -> bytes:
    """CONNECT."""
    flags = (2 if clean else 0) | (0x80 if user else 0) | (0x40 if user and password else 0) | (0x04 | 0x08 | 0x20 if will else 0)
    body = _text("MQTT") + bytes([5 if v5 else 4, flags]) + struct.pack("!H", keep_alive_s)
    if v5:
        properties = struct.pack("!BI", P_SESSION_EXPIRY, expiry_s) + (struct.pack("!BH", P_RECEIVE_MOST, receive_most) if receive_most else b"")
        properties += struct.pack("!BI", P_PACKET_MOST, PACKET_MOST)
        body += length(len(properties)) + properties
    body += _text(client_id)
    if will is not None:
        delay = struct.pack("!BI", P_WILL_DELAY, will.delay_s) if v5 and will.delay_s else b""
        body += (length(len(delay)) + delay if v5 else b"") + _text(will.topic) + _text(will.payload)
    if user:
        body += _text(user) + (_text(password) if password else b"")
    return _packet(CONNECT, 0, body)


def subscribe(mid: int, topics: list[str], qos: int, *, v5: bool) -> bytes:
    """SUBSCRIBE to all `topics` at `qos`; retained ones are wanted."""
    body = struct.pack("!H", mid) + (b"\0" if v5 else b"") + b"".join(_text(t) + bytes([qos]) for t in topics)
    return _packet(SUBSCRIBE, 2, body)


def publish(topic: str, payload: bytes, *, mid: int, retain: bool, v5: bool, expiry_s: int = 0) -> bytes:
    """PUBLISH; QoS 1 with a `mid`, QoS 0 with none."""
    properties = b""
    if v5:
        properties = b"\x05" + struct.pack("!BI", P_EXPIRY, expiry_s) if expiry_s else b"\0"
    head = _text(topic) + (struct.pack("!H", mid) if mid else b"")
    return _packet(PUBLISH, (2 if mid else 0) | (1 if retain else 0), head + properties + payload)


def pubacks(mids: list[int]) -> bytes:
    """PUBACK for each."""
    return b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)


PING = _packet(PINGREQ, 0, b"")
GOODBYE = b"\xe0\x00"


class Cutter:
    """Cuts a stream into packets."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        """Empty."""
        self._data = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """(first byte, body) of each packet that is whole now."""
        data = self._data + data if self._data else data
        packets: list[tuple[int, bytes]] = []
        at, end = 0, len(data)
        while at + 2 <= end:
            size, start = data[at + 1], at + 2
            if size & 0x80:
                if at + 3 > end:
                    break
                more = data[at + 2]
                if more < 0x80:
                    size, start = (size & 0x7F) | more << 7, at + 3
                else:
                    size, start = _long(data, at + 1)
                    if start < 0:
                        break
            if size > PACKET_MOST:
                raise LinkError(f"a packet of {size} bytes, at most {PACKET_MOST} are taken")
            if start + size > end:
                break
            packets.append((data[at], data[start : start + size]))
            at = start + size
        self._data = data[at:]
        return packets


def _long(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer at `at` and where it ends; end -1 when more bytes are needed."""
    value = shift = 0
    for i in range(4):
        if at + i >= len(data):
            return 0, -1
        value |= (data[at + i] & 0x7F) << shift
        if not data[at + i] & 0x80:
            return value, at + i + 1
        shift += 7
    raise LinkError("the broker's bytes are no MQTT")


def _skip_properties(body: bytes, at: int) -> int:
    size, at = _long(body, at)
    if at < 0 or at + size > len(body):
        raise LinkError("a packet's properties run past its end")
    return at + size


def _properties(body: bytes, at: int) -> dict[int, int]:
    """The properties that hold an integer."""
    size, at = _long(body, at)
    end = at + size
    if at < 0 or end > len(body):
        raise LinkError("a packet's properties run past its end")
    found: dict[int, int] = {}
    while at < end:
        kind = body[at]
        wide = _PROPERTIES.get(kind)
        at += 1
        if wide is None:
            raise LinkError(f"property {kind} is not known")
        if wide > 0:
            found[kind] = int.from_bytes(body[at : at + wide], "big")
            at += wide
        elif wide == -2:
            found[kind], at = _long(body, at)
        else:
            for _ in range(1 if wide == 0 else 2):
                at += 2 + int.from_bytes(body[at : at + 2], "big")
        if at > end or at < 0:
            raise LinkError("a property runs past its end")
    return found


def read_connack(body: bytes, *, v5: bool) -> Connack:
    """CONNACK."""
    if len(body) < 2:
        raise LinkError("CONNACK is too short")
    found = _properties(body, 2) if v5 and len(body) > 2 else {}
    return Connack(body[1], bool(body[0] & 1), found.get(P_RECEIVE_MOST, 65_535 if v5 else 100) or 1, found.get(P_KEEP_ALIVE, 0))


def read_publish(first: int, body: bytes, *, v5: bool) -> Message:
    """PUBLISH."""
    size = int.from_bytes(body[:2], "big")
    at = 2 + size
    mid = 0
    if first & 0x06:
        mid = int.from_bytes(body[at : at + 2], "big")
        at += 2
    if at > len(body) or first & 0x06 == 0x06:
        raise LinkError("a PUBLISH that is none")
    topic = body[2 : 2 + size].decode("utf-8", "replace")
    if v5:
        at = at + 1 if at < len(body) and not body[at] else _skip_properties(body, at)
    return Message(topic, body[at:], mid, bool(first & 1))


def read_mid(body: bytes) -> int:
    """The message id of PUBACK or SUBACK."""
    if len(body) < 2:
        raise LinkError("an acknowledgement without a message id")
    return int.from_bytes(body[:2], "big")


def read_suback(body: bytes, *, v5: bool) -> list[int]:
    """The codes of SUBACK; 0x80 and above is no."""
    return list(body[_skip_properties(body, 2) if v5 else 2 :])
