# SPDX-License-Identifier: Apache-2.0
"""From messages to rows: what a device sent, decoded, and what the store must keep of it.

Duty: one message -> entries of a `Batch`; who is alive under which session; twins. Not its duty: sockets, transactions.
Invariants: a record whose key can be read is kept raw even where the rest cannot be decoded (its `fault` says why), so that it is
acknowledged and no spool waits for ever; a message without a key costs itself and a count; the topic says whose it is.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from edgeheal.core import reasons
from edgeheal.core.errors import WireError
from edgeheal.core.spooled import Standin
from edgeheal.fleet.packets import Message
from edgeheal.fleet.store import Batch
from edgeheal.wire import birth, health, packed, results, summary, topics

K_INCIDENT, K_RESULT, K_EVIDENCE = 1, 2, 3
DEVICES_MOST = 200_000
HEALTH_EVERY_S = 60.0


@dataclass(slots=True)
class _Alive:
    """Sessions seen under one name: the newest birth's, the one before it, when health was last written down."""

    session: bytes = b""
    before: bytes = b""
    hardware: bytes = b""
    health_at: float = 0.0


@dataclass(slots=True)
class Counts:
    """What came, for the controller's own word on itself."""

    messages: int = 0
    records: int = 0
    malformed: int = 0
    twins: int = 0


@dataclass(slots=True)
class Ingest:
    """Decodes messages of one tenant into batches."""

    tenant: str
    counts: Counts = field(default_factory=Counts)
    _alive: dict[str, _Alive] = field(default_factory=dict)
    _parse: Callable[[str], topics.Topic | None] = field(default_factory=lambda: lru_cache(65_536)(topics.parse))

    def take(self, message: Message, now: float, batch: Batch) -> None:
        """Add what `message` brings to `batch`."""
        self.counts.messages += 1
        topic = self._parse(message.topic)
        if topic is None or topic.tenant != self.tenant or not message.payload:
            return
        try:
            if topic.kind == topics.UP_INCIDENT:
                self._incident(topic.device, message.payload, now, batch)
            elif topic.kind == topics.UP_RESULT:
                self._result(topic.device, message.payload, now, batch)
            elif topic.kind == topics.UP_STATE:
                self._state(topic.device, message, now, batch)
            elif topic.kind == topics.UP_HEALTH:
                self._health(topic.device, message.payload, now, batch)
        except WireError:
            self.counts.malformed += 1

    def _key(self, payload: bytes, fault: WireError) -> tuple[bytes, int]:
        """The key of a record that cannot be decoded; the fault again where there is none."""
        key = packed.key_of(payload)
        if key is None:
            raise fault
        self.counts.malformed += 1
        return key

    def _record(self, device: str, key: tuple[bytes, int], raw: bytes, now: float, batch: Batch, *, kind: int, fault: int = 0) -> None:
        self.counts.records += 1
        batch.records.append((device, *key, now, kind, fault, raw))
        batch.seqs.setdefault((device, key[0]), []).append(key[1])

    def _incident(self, device: str, payload: bytes, now: float, batch: Batch) -> None:
        try:
            h = summary.headline(payload)
        except WireError as fault:
            self._record(device, self._key(payload, fault), payload, now, batch, kind=K_INCIDENT, fault=fault.code or reasons.MALFORMED)
            return
        self._record(device, _keyed(h), payload, now, batch, kind=K_INCIDENT)
        if h.standin is not None:
            self._spans(device, h.standin, batch)
        if h.number:
            batch.incidents.append((
                device, h.owner, h.number, h.revision, h.seq, h.app, h.symptom, h.severity, h.state, h.need, h.opened_s, h.fingerprint, h.cause, h.percent,
                h.image, now, now, payload,
            ))  # fmt: skip

    def _result(self, device: str, payload: bytes, now: float, batch: Batch) -> None:
        try:
            record = results.read(payload)
        except WireError as fault:
            self._record(device, self._key(payload, fault), payload, now, batch, kind=K_RESULT, fault=fault.code or reasons.MALFORMED)
            return
        self._record(device, _keyed(record), payload, now, batch, kind=K_RESULT)
        self._spans(device, record.standin, batch)
        result = record.result
        if result.command:
            batch.results.append((
                device, record.session, record.seq, result.command, int(result.state), result.reason, result.action, result.app, now, payload,
            ))  # fmt: skip

    def _spans(self, device: str, standin: Standin | None, batch: Batch) -> None:
        for span in standin.ranges if standin is not None else ():
            if span.session:
                batch.spans.setdefault((device, span.session), []).append((span.first, span.last))

    def _of(self, device: str) -> _Alive:
        alive = self._alive.get(device)
        if alive is None:
            if len(self._alive) >= DEVICES_MOST:
                self._alive.clear()
            alive = self._alive[device] = _Alive()
        return alive

    def _state(self, device: str, message: Message, now: float, batch: Batch) -> None:
        payload = message.payload
        said = birth.decode(payload)
        alive = self._of(device)
        if not said.online:
            batch.gone[device] = (now, said.session)
            return
        batch.gone.pop(device, None)
        if not message.retain:
            batch.greeted.add(device)
        if said.session == alive.before or (alive.hardware and said.hardware and said.hardware != alive.hardware and said.session != alive.session):
            self._twin(device, alive.session, now, batch)
        if said.session != alive.session:
            alive.before, alive.session = alive.session, said.session
        alive.hardware = said.hardware or alive.hardware
        batch.births[device] = (device, 1, said.session, now, now, said.place, payload)

    def _health(self, device: str, payload: bytes, now: float, batch: Batch) -> None:
        said = health.decode(payload)
        alive = self._of(device)
        if alive.before and said.session == alive.before:
            self._twin(device, alive.session, now, batch)
        elif now - alive.health_at >= HEALTH_EVERY_S:
            alive.health_at = now
            batch.healths[device] = (now, payload)

    def _twin(self, device: str, other: bytes, now: float, batch: Batch) -> None:
        """Two sessions speak in turns under one name; whoever was greeted is told of the other."""
        self.counts.twins += 1
        batch.twins[device] = (now, other)


def _keyed(record: summary.Headline | results.ResultRecord) -> tuple[bytes, int]:
    """The record's key; a record without one cannot be kept once."""
    if not record.session or not record.seq:
        raise WireError("a record without its key", code=reasons.MALFORMED, place="record")
    return record.session, record.seq
