# SPDX-License-Identifier: Apache-2.0
"""One connection to a broker: a paho client over our own socket, for one connection only.

Duty: hide paho's two callback APIs (1.6 and 2.x) and both protocol versions behind `Connection`; nothing of a connection
survives it, so that no half-sent state is ever repeated. Not its duty: when to connect, what to send.
Invariants: `connect` is the only call that may block; all callbacks run inside `read`, `write` or `publish`, in the caller's thread;
an incoming packet longer than PACKET_MOST ends the connection.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
import paho.mqtt.properties as paho_properties
from paho.mqtt.packettypes import PacketTypes

from edgeheal.adapters.mqtt.settings import LinkSettings
from edgeheal.adapters.mqtt.wire import Wire, open_wire, tls_context

UNACKNOWLEDGED_MOST = 20
PACKET_MOST = 1 << 20  # memory bound; a v5 broker is told RECEIVE_MOST
RECEIVE_MOST = 98_304
SESSION_EXPIRY_S = 604_800
WILL_DELAY_S = 30
READS_A_TURN = 64

# paho 1.6 has no types and 2.x has some: neither is relied upon
_BASE: Any = paho.Client
_PROPERTIES: Any = paho_properties.Properties

# what paho may raise out of a malformed or broken stream
FAULTS = (OSError, ValueError, IndexError, KeyError, TypeError, struct.error, paho.MQTTException if hasattr(paho, "MQTTException") else OSError)


@dataclass(slots=True)
class Events:
    """Whom to tell. `message(topic, payload, retained)`, `published(mid, code)`: code 0 or the v5 reason, -1 not known."""

    connected: Callable[[int, dict[str, int]], None]
    message: Callable[[str, bytes, bool], None]
    published: Callable[[int, int], None]
    subscribed: Callable[[int, list[int]], None]
    disconnected: Callable[[int], None]


@dataclass(slots=True)
class Connection:
    """A paho client with its socket."""

    client: Any
    wire: Wire
    v5: bool
    events: Events
    lost: int = -1  # reason, once paho says that it is over
    refused: bool = field(default=False)

    def read(self) -> bool:
        """Take what came; False when the connection is over. Whole packets are handled, at most READS_A_TURN a call."""
        for _ in range(READS_A_TURN):
            if not self._call(self.client.loop_read):
                return False
            if not self.wire.pending():
                break
        packet = getattr(self.client, "_in_packet", None)
        return not (isinstance(packet, dict) and packet.get("remaining_length", 0) > PACKET_MOST) or self.close()

    def write(self) -> bool:
        """Send what waits; False when the connection is over."""
        return self.flush() and self._call(self.client.loop_write)

    def cork(self) -> None:
        """Several messages follow: they go in one piece at `flush`."""
        self.wire.cork()

    def flush(self) -> bool:
        """Send what was corked; False when the connection is over."""
        try:
            self.wire.flush()
        except OSError:
            return self.close()
        return True

    def wants_write(self) -> bool:
        """Whether something waits to be sent."""
        return self.wire.waiting() or bool(self.client.want_write())

    def ping(self) -> bool:
        """Ask the broker whether it is there."""
        return self._call(self.client._send_pingreq)  # private: paho's own pings go by what was sent, too

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, expiry_s: int = 0) -> int:
        """Hand over; the message id, 0 when the connection is over."""
        properties = None
        if self.v5 and expiry_s:
            properties = _PROPERTIES(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = expiry_s
        try:
            info = self.client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        except FAULTS:
            return 0
        return int(info.mid) if info.rc == paho.MQTT_ERR_SUCCESS else 0

    def subscribe(self, topic: str) -> int:
        """Ask for a topic at QoS 1; the message id of the answer."""
        try:
            code, mid = self.client.subscribe(topic, qos=1)
        except FAULTS:
            return 0
        return int(mid) if code == paho.MQTT_ERR_SUCCESS and mid else 0

    def close(self, *, orderly: bool = False) -> bool:
        """End it; `orderly` says goodbye first, so that the broker keeps the will to itself. Always False."""
        if orderly:
            self._call(self.client.disconnect)
            self._call(self.client.loop_write)
        self.wire.close()
        return False

    def _call(self, method: Callable[[], Any]) -> bool:
        try:
            code = method()
        except FAULTS:
            return self.close()
        return int(code) == paho.MQTT_ERR_SUCCESS and self.lost < 0 and self.wire.fileno() >= 0


class _Client(_BASE):  # type: ignore[misc]
    """paho over a socket that we made."""

    wire_of: Callable[[], Wire]
    reason = 0

    def _handle_pubackcomp(self, cmd: Any) -> Any:
        packet = self._in_packet["packet"]
        self.reason = packet[2] if len(packet) > 2 else 0  # paho 1.6 reads the reason and tells nobody
        return super()._handle_pubackcomp(cmd)

    def _create_socket_connection(self) -> Wire:
        return self.wire_of()


def _make(settings: LinkSettings, v5: bool) -> Any:
    protocol = paho.MQTTv5 if v5 else paho.MQTTv311
    words: dict[str, Any] = {"client_id": settings.device, "protocol": protocol}
    if not v5:
        words["clean_session"] = False
    version = getattr(paho, "CallbackAPIVersion", None)  # paho 1.6 has one callback API and no name for it
    return _Client(version.VERSION2, **words) if version is not None else _Client(**words)


def connect(settings: LinkSettings, events: Events, *, v5: bool, will_topic: str, will: bytes) -> Connection:
    """Resolve, connect, shake hands, send CONNECT. Blocks, with limits: run it outside the loop. OSError when it fails."""
    client = _make(settings, v5)
    context = tls_context(settings.ca, settings.cert, settings.key) if settings.tls else None
    wire = open_wire(settings.host, settings.port, context, settings.connect_s)
    client.wire_of = lambda: wire
    if settings.user or settings.password_file:
        client.username_pw_set(settings.user or settings.device, _password(settings.password_file))
    will_properties = None
    words: dict[str, Any] = {}
    if v5:
        will_properties = _PROPERTIES(PacketTypes.WILLMESSAGE)
        will_properties.WillDelayInterval = WILL_DELAY_S
        properties = _PROPERTIES(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.MaximumPacketSize = RECEIVE_MOST
        words = {"clean_start": False, "properties": properties}
    client.will_set(will_topic, will, qos=1, retain=True, properties=will_properties)
    client.max_inflight_messages_set(UNACKNOWLEDGED_MOST * 4)
    connection = Connection(client, wire, v5, events)
    _listen(client, connection)
    try:
        client.connect(settings.host, settings.port, keepalive=settings.keep_alive_s, **words)
    except BaseException:
        wire.close()
        raise
    return connection


def _password(path: str) -> str | None:
    if not path:
        return None
    with open(path, encoding="utf-8") as file:
        return file.read(4_096).strip("\r\n")


def _code(value: Any) -> int:
    """A reason as a number, whatever paho calls it."""
    value = getattr(value, "value", value)
    return int(value) if isinstance(value, int) else -1


def _listen(client: Any, connection: Connection) -> None:
    """Both callback APIs: the places of what we need are counted from the side where they agree."""
    events = connection.events

    def on_connect(_client: Any, _data: Any, _flags: Any, code: Any, properties: Any = None) -> None:
        limits = {
            name: int(value) for name in ("MaximumPacketSize", "ReceiveMaximum", "ServerKeepAlive") if (value := getattr(properties, name, None)) is not None
        }
        connection.refused = _code(code) != 0
        events.connected(_code(code), limits)

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        try:
            topic = str(message.topic)
        except UnicodeDecodeError:
            topic = ""
        events.message(topic, bytes(message.payload), bool(message.retain))

    def on_publish(_client: Any, _data: Any, mid: int, code: Any = None, _properties: Any = None) -> None:
        events.published(mid, client.reason if code is None else _code(code))

    def on_subscribe(_client: Any, _data: Any, mid: int, codes: Any, _properties: Any = None) -> None:
        events.subscribed(mid, [_code(c) for c in codes])

    def on_disconnect(_client: Any, _data: Any, *rest: Any) -> None:
        code = rest[1] if len(rest) == 3 else rest[0] if rest else 0  # 2.x: flags, code, properties; 1.6: code[, properties]
        connection.lost = max(0, _code(code))
        events.disconnected(connection.lost)

    client.on_connect, client.on_message, client.on_publish = on_connect, on_message, on_publish
    client.on_subscribe, client.on_disconnect = on_subscribe, on_disconnect
