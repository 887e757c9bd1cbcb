# SPDX-License-Identifier: Apache-2.0
"""The way to the fleet: one MQTT connection, driven by the agent's loop, kept honest by received bytes.

Duty: connect (off the loop), judge whether the broker is there, say birth and health, send the spool, take what comes down, see a
twin. Not its duty: what records say (`wire`), keeping them (the spool), judging commands (the guard).
Implements `ports.Link`. Invariants: no call here blocks; a silent broker is noticed within 1.5 x keep-alive, whatever we send;
the spool is closed without the controller's presence (unless stored_by = broker); a back-off is forgotten only after the link was
useful; a fault of one message costs that message.

Says (`LinkIs`): layers dns, tcp, tls, broker, controller. (`SelfSaid`, part "link"): twin, subscription, message.
"""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeheal.adapters.mqtt.backoff import Backoff, uniformly
from edgeheal.adapters.mqtt.client import Connection, Events, connect
from edgeheal.adapters.mqtt.down import Down, Inbox
from edgeheal.adapters.mqtt.sender import BODY_MOST, Sender
from edgeheal.adapters.mqtt.settings import LinkSettings
from edgeheal.core import reasons
from edgeheal.core.errors import WireError
from edgeheal.core.kinds import Severity
from edgeheal.core.now import NS
from edgeheal.core.signal import LinkIs, SelfSaid
from edgeheal.ports import Blocking, Emit, Spool
from edgeheal.wire import birth as births
from edgeheal.wire import health as healths
from edgeheal.wire import results, stored, topics
from edgeheal.wire.results import Result
from edgeheal.wire.stored import PresenceState

POLLIN, POLLOUT = 1, 4
CONNACK_S = 10.0
CHECK_S = 10.0
TAKEN_OVER = 0x8E
UNSUPPORTED = (1, 0x84)  # CONNACK of 3.1.1 and of 5: this version is not spoken here
KEY = "mqtt"


@dataclass(frozen=True, slots=True)
class LinkView:
    """For `status`: whether it is up, since when (monotonic ns), why not, and how long a silent broker may go unnoticed."""

    up: bool
    since_ns: int
    why: str
    controller: str
    version: str
    attempts: int
    retry_ns: int
    detect_s: float
    bad_messages: int
    confirmed: int
    subscribed: int


class MqttLink:
    """See the module. `birth` and `health` are asked whenever one is said; `on_down` takes commands and policies."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        session: bytes,
        spool: Spool,
        blocking: Blocking,
        emit: Emit,
        birth: Callable[[], births.Birth],
        health: Callable[[], healths.Health],
        on_down: Callable[[Down], None],
        uniform: Callable[[float, float], float] | None = None,
    ) -> None:
        """`session`: this run's 6 random bytes; `blocking` runs the connect; `uniform` is the source of chance of the back-off."""
        self._settings = settings
        self._session = session
        self._spool = spool
        self._blocking = blocking
        self._emit = emit
        self._birth = birth
        self._health = health
        self._backoff = Backoff(settings.backoff_first_s, settings.backoff_cap_s, uniform or uniformly)
        self._inbox = Inbox(on_down, self._answer, self._bad)
        self._sender = Sender(spool, self._topic, self._send_record, as_json=settings.encoding == "json", by_broker=settings.stored_by == "broker")
        self._v5 = settings.version != "3.1.1"
        self._connection: Connection | None = None
        self._attempt = 0
        self._connecting = False
        self._closed = self._anew = False
        self._up = False
        self._since_ns = time.monotonic_ns()
        self._why = "not connected yet"
        self._retry_ns = 1
        self._answer_ns = 0  # by when CONNACK, or a byte after a ping, is due
        self._pinged = False
        self._health_ns = 0
        self._useful_ns = 0
        self._birth_mid = 0
        self._birth_known = False
        self._controller = PresenceState.OFFLINE
        self._controller_session = b""
        self._subscribing: dict[int, str] = {}
        self._granted_ns = 0
        self._subscribed = 0
        self._bad_count = 0
        self._twins: set[bytes] = set()

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """The socket, for writing too while something waits."""
        connection = self._connection
        if connection is None or connection.wire.fileno() < 0:
            return {}
        return {connection.wire.fileno(): POLLIN | (POLLOUT if connection.wants_write() else 0)}

    def ready(self, fd: int, events: int) -> None:
        """Read and write what can be."""
        connection = self._connection
        if connection is None or connection.wire.fileno() != fd:
            return
        before = connection.wire.bytes_in
        alive = connection.write() if events & POLLOUT and connection.wants_write() else True
        if alive and events & ~POLLOUT:
            alive = connection.read()
        if connection.wire.bytes_in != before:
            self._heard()
        if not alive:
            self._lost("the broker closed the connection", by_peer=True)

    def due(self) -> int:
        """The next of: retry, an answer due, the next ping, heartbeat, records to send, the link proven useful."""
        connection = self._connection
        if connection is None:
            return 0 if self._connecting or self._closed else self._retry_ns
        if connection.wire.fileno() < 0 or connection.wire.pending():
            return 1
        if not self._up:
            return self._answer_ns
        ends = [self._answer_ns or self._ping_ns(connection), self._health_ns]
        ends += [at for at in (self._useful_ns, self._granted_ns if self._subscribing else 0, self._sender.stalled_ns()) if at]
        if self._may_send():
            records = self._sender.due(1)
            if records:
                ends.append(records)
        return min(ends)

    def tick(self, now_ns: int) -> None:
        """Do what is due."""
        connection = self._connection
        if connection is None:
            if not self._connecting and not self._closed and now_ns >= self._retry_ns:
                self._connect()
            return
        if connection.wire.pending():
            self.ready(connection.wire.fileno(), POLLIN)
        if connection.wire.fileno() < 0 or connection.lost >= 0:
            self._lost("the connection broke", by_peer=True)
            return
        if self._answer_ns and now_ns >= self._answer_ns:
            self._lost("no answer from the broker" if self._up else "no CONNACK", by_peer=False, try_other=not self._up)
            return
        if not self._up:
            return
        if self._subscribing and now_ns >= self._granted_ns:
            self._lost("the broker did not answer our subscriptions", by_peer=False)
            return
        if 0 < self._sender.stalled_ns() <= now_ns:
            self._lost("the broker stopped acknowledging", by_peer=False)
            return
        if not self._pinged and now_ns >= self._ping_ns(connection):
            self._ping(self._settings.keep_alive_s / 2)
        if now_ns >= self._health_ns:
            self._say_health(now_ns)
        if self._useful_ns and now_ns >= self._useful_ns:
            self._be_useful()
        if self._may_send():
            connection.cork()
            self._sender.pump(now_ns)
            if not connection.flush():
                self._lost("the connection broke", by_peer=True)

    # -- ports.Link

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """See `ports.Link.publish`."""
        connection = self._connection
        if connection is None or not self._up:
            return 0
        return connection.publish(topic, payload, qos, retain)

    def connected(self) -> bool:
        """See `ports.Link.connected`."""
        return self._up

    # -- for the agent

    def view(self) -> LinkView:
        """What `status` shows."""
        return LinkView(
            self._up, self._since_ns, self._why, self._controller.name.lower(), "5" if self._v5 else "3.1.1", self._backoff.attempts, self._retry_ns,
            self._settings.detect_s, self._bad_count, self._sender.confirmed, self._subscribed,
        )  # fmt: skip

    def say_birth(self) -> None:
        """Something in the birth changed (images, mode, policy): say it again."""
        connection = self._connection
        if connection is None or not self._up:
            return
        payload = births.encode(self._birth())
        if self._settings.encoding == "json":
            payload = births.to_json(payload)
        self._birth_mid = connection.publish(self._topic(topics.UP_STATE), payload, 1, True)

    def check_now(self) -> None:
        """Route or address changed: ask the broker at once; without a connection, try at once."""
        if self._connection is None:
            self._retry_ns = min(self._retry_ns, time.monotonic_ns())
        elif self._up and not self._pinged:
            self._ping(min(CHECK_S, self._settings.keep_alive_s / 2))

    def renew(self, settings: LinkSettings) -> None:
        """Other settings, or other files behind the same ones: the connection is made anew with them."""
        self._settings = settings
        self._v5 = settings.version != "3.1.1"
        self._sender.speak(as_json=settings.encoding == "json", by_broker=settings.stored_by == "broker")
        self._backoff.useful()
        if self._connection is not None:
            self._lost("its settings or files changed", by_peer=False)
        self._anew = self._connecting  # what is being made was asked for with the old ones
        self._retry_ns = time.monotonic_ns()

    def close(self) -> None:
        """Say goodbye: the broker keeps the will to itself, so the last word is said by us."""
        connection = self._connection
        self._closed = True
        if connection is not None and self._up:
            connection.publish(self._topic(topics.UP_STATE), births.will(self._session), 1, True)
            connection.close(orderly=True)
        elif connection is not None:
            connection.close()
        self._connection = None
        self._up = False

    # -- connecting

    def _connect(self) -> None:
        self._attempt += 1
        attempt, v5, topic = self._attempt, self._v5, self._topic(topics.UP_STATE)
        will = births.will(self._session)
        if self._settings.encoding == "json":
            will = births.to_json(will)
        events = Events(
            lambda code, limits: self._on_connack(attempt, code, limits),
            lambda name, payload, retained: self._on_message(attempt, name, payload, retained=retained),
            lambda mid, code: self._on_published(attempt, mid, code),
            lambda mid, codes: self._on_subscribed(attempt, mid, codes),
            lambda code: self._on_disconnect(attempt, code),
        )

        def call() -> object:
            return connect(self._settings, events, v5=v5, will_topic=topic, will=will)

        self._connecting = self._blocking.ask(KEY, call, self._connected_or_not)
        if not self._connecting:
            self._retry_ns = time.monotonic_ns() + NS

    def _connected_or_not(self, answer: object) -> None:
        """In the loop's thread: a connection, or the OSError that was in its way."""
        self._connecting = False
        if isinstance(answer, Connection) and (self._closed or self._anew):
            answer.close()
            self._anew = False
            return
        self._anew = False
        if isinstance(answer, Connection):
            self._connection = answer
            self._answer_ns = time.monotonic_ns() + round(CONNACK_S * NS)
            return
        fault = answer if isinstance(answer, OSError) else OSError(str(answer))
        layer = "dns" if isinstance(fault, socket.gaierror) else "tls" if isinstance(fault, ssl.SSLError) else "tcp"
        self._wait(f"{layer}: {fault.strerror or fault}", layer)

    def _wait(self, why: str, layer: str) -> None:
        """Try again later; the layer that failed is told when it is news."""
        if why != self._why or self._since_ns == 0:
            self._emit(LinkIs(layer=layer, up=False, reason=reasons.TIMEOUT))
        self._why = why
        self._retry_ns = time.monotonic_ns() + round(self._backoff.next_s() * NS)

    def _on_connack(self, attempt: int, code: int, limits: dict[str, int]) -> None:
        connection = self._connection
        if attempt != self._attempt or connection is None:
            return
        if code != 0:
            self._why = f"the broker refused us (reason {code})"
            if code in UNSUPPORTED and self._settings.version == "auto":
                self._v5 = not self._v5
                self._retry_ns = -1
            return
        now = time.monotonic_ns()
        self._up, self._since_ns, self._why = True, now, ""
        self._answer_ns, self._pinged = 0, False
        self._health_ns = now + round(self._settings.heartbeat_s * NS)
        self._useful_ns = now + round(self._settings.useful_after_s * NS)
        self._sender.most_bytes = min(BODY_MOST, limits.get("MaximumPacketSize", BODY_MOST + 256) - 256)
        self._controller, self._controller_session = PresenceState.OFFLINE, b""
        self._subscribed = 0
        self._granted_ns = now + round(min(CONNACK_S, self._settings.keep_alive_s / 2) * NS)
        for topic in (*(self._topic(k) for k in (topics.DOWN_STORED, topics.DOWN_COMMAND, topics.DOWN_POLICY)), self._presence()):
            self._subscribing[connection.subscribe(topic)] = topic
        self._subscribing[connection.subscribe(self._topic(topics.UP_STATE))] = ""  # to see a twin; an ACL may forbid it
        self.say_birth()
        self._emit(LinkIs(layer="broker", up=True))

    def _on_subscribed(self, attempt: int, mid: int, codes: list[int]) -> None:
        topic = self._subscribing.pop(mid, "")
        if attempt != self._attempt or not topic:
            return
        if any(code >= 0x80 or code < 0 for code in codes):
            self._emit(SelfSaid(part="link", what="subscription", ok=False, text=f"the broker refused {topic}"))
        else:
            self._subscribed += 1

    def _on_disconnect(self, attempt: int, code: int) -> None:
        if attempt == self._attempt and code == TAKEN_OVER:
            self._twin(b"", "the broker gave our place to another connection")

    def _lost(self, why: str, *, by_peer: bool, try_other: bool = False) -> None:
        """The connection is over: nothing of it is kept; what is not stored will be sent again."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        was_up, self._up = self._up, False
        self._attempt += 1
        self._subscribing.clear()
        self._answer_ns, self._pinged, self._useful_ns, self._birth_mid = 0, False, 0, 0
        self._sender.lost(by_peer=by_peer and was_up)
        if self._controller is not PresenceState.OFFLINE:
            self._controller = PresenceState.OFFLINE
            self._emit(LinkIs(layer="controller", up=False))
        if was_up:
            self._since_ns = time.monotonic_ns()
            self._emit(LinkIs(layer="broker", up=False, reason=reasons.TIMEOUT if not by_peer else reasons.NOT_RUNNING))
            self._why = ""
        refused = connection.refused
        switched = self._retry_ns < 0
        if not was_up and self._settings.version == "auto" and not switched and not refused and (by_peer or try_other):
            self._v5 = not self._v5  # closed without a word before CONNACK: perhaps this version is not spoken there
            switched = not self._v5
        if switched:
            self._retry_ns = time.monotonic_ns()
            return
        self._wait(self._why if refused else why, "broker")

    # -- whether the broker is there

    def _ping_ns(self, connection: Connection) -> int:
        """When to ask: nothing came in for the keep-alive time, or nothing went out (the broker judges us by that)."""
        return min(connection.wire.received_ns, connection.wire.sent_ns) + self._settings.keep_alive_s * NS

    def _ping(self, seconds: float) -> None:
        connection = self._connection
        if connection is None:
            return
        self._pinged = True
        self._answer_ns = time.monotonic_ns() + round(seconds * NS)
        if not connection.ping():
            self._lost("the connection broke", by_peer=True)

    def _heard(self) -> None:
        """Bytes came in: the broker is there."""
        if self._up:
            self._answer_ns, self._pinged = 0, False

    def _be_useful(self) -> None:
        self._useful_ns = 0
        self._backoff.useful()

    # -- up

    def _topic(self, kind: str) -> str:
        return topics.of(self._settings.tenant, self._settings.device, kind)

    def _presence(self) -> str:
        return topics.presence(self._settings.tenant)

    def _may_send(self) -> bool:
        return self._up and (self._controller is PresenceState.OPEN or self._settings.stored_by == "broker")

    def _send_record(self, topic: str, payload: bytes) -> int:
        connection = self._connection
        return connection.publish(topic, payload, 1, False) if connection is not None else 0

    def _say_health(self, now_ns: int) -> None:
        self._health_ns = now_ns + round(self._settings.heartbeat_s * NS)
        payload = healths.encode(replace(self._health(), bad_messages=self._bad_count))
        if self._settings.encoding == "json":
            payload = healths.to_json(payload)
        if self._connection is not None:
            self._connection.publish(self._topic(topics.UP_HEALTH), payload, 0, False, expiry_s=round(2 * self._settings.heartbeat_s) or 1)

    def _on_published(self, attempt: int, mid: int, code: int) -> None:
        if attempt != self._attempt:
            return
        if mid == self._birth_mid:
            self._birth_known = True
        self._sender.acknowledged(mid, code)
        if self._settings.stored_by == "broker" and code < 0x80 and mid != self._birth_mid:
            self._be_useful()

    def _answer(self, result: Result) -> None:
        """A refusal is told by the spool, like every result."""
        self._spool.put(results.encode(result), severity=int(Severity.WARNING), fingerprint=result.fingerprint, critical=False)

    # -- down

    def _on_message(self, attempt: int, topic: str, payload: bytes, *, retained: bool) -> None:
        if attempt != self._attempt:
            return
        if topic == self._topic(topics.DOWN_COMMAND):
            self._inbox.command(payload, retained=retained)
        elif topic == self._topic(topics.DOWN_POLICY):
            self._inbox.policy(payload)
        elif topic == self._topic(topics.DOWN_STORED):
            self._on_stored(payload)
        elif topic == self._presence():
            self._on_presence(payload)
        elif topic == self._topic(topics.UP_STATE):
            self._on_own_state(payload)

    def _on_stored(self, payload: bytes) -> None:
        try:
            said = stored.read(payload)
        except WireError as fault:
            self._bad(fault.code)
            return
        if said.presence is not None:
            self._controller_is(said.presence)
        if said.twin and said.twin != self._session:
            self._twin(said.twin, f"the fleet hears another session {said.twin.hex()} under our name")
        before = self._sender.confirmed
        self._sender.stored(said.acks)
        if self._sender.confirmed > before:
            self._be_useful()

    def _on_presence(self, payload: bytes) -> None:
        try:
            self._controller_is(stored.decode_presence(payload))
        except WireError as fault:
            self._bad(fault.code)

    def _controller_is(self, presence: stored.Presence) -> None:
        before, self._controller = self._controller, presence.state
        if presence.state is PresenceState.OPEN and presence.session != self._controller_session:
            if self._controller_session:
                self._sender.again()
            self._controller_session = presence.session
        if (before is PresenceState.OPEN) != (presence.state is PresenceState.OPEN):
            self._emit(LinkIs(layer="controller", up=presence.state is PresenceState.OPEN))

    def _on_own_state(self, payload: bytes) -> None:
        """Our own retained word comes back; somebody else's under our name is a twin. Before ours was taken it is our past."""
        try:
            said = births.decode(payload)
        except WireError:
            return
        if not self._birth_known:
            return
        if not said.online:
            self.say_birth()  # a late will of an earlier connection: we are here
        elif said.session != self._session:
            self._twin(said.session, f"another session {said.session.hex()} speaks under our name")

    def _twin(self, session: bytes, text: str) -> None:
        if session not in self._twins and len(self._twins) < 64:
            self._twins.add(session)
            self._emit(SelfSaid(part="link", what="twin", ok=False, text=text))

    def _bad(self, reason: int) -> None:
        """A message that names nothing: counted, told ever more seldom."""
        self._bad_count += 1
        if self._bad_count & (self._bad_count - 1) == 0:
            self._emit(SelfSaid(part="link", what="message", ok=False, value=float(self._bad_count), text=reasons.word(reason)))
