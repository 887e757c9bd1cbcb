# SPDX-License-Identifier: Apache-2.0
"""Records on their way: from the spool to the broker, until the fleet says that it stored them.

Duty: how many may be on their way, which were acknowledged by whom, when one is sent again. It owns no connection.
Invariants: at most 20 without the broker's acknowledgement and AWAY_MOST without the fleet's; a record leaves the spool only by
`stored` (or, with stored_by = broker, by the broker's acknowledgement); after a connection everything not stored may go again:
the fleet keeps each key once.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edgeheal.core import reasons
from edgeheal.core.errors import WireError
from edgeheal.core.now import NS
from edgeheal.ports import Spool
from edgeheal.wire import packed, results, summary
from edgeheal.wire.stored import Ack

UNACKNOWLEDGED_MOST = 20
AWAY_MOST = 1_000
AGAIN_NS = 30 * NS
AGAIN_MOST_NS = 600 * NS
LOOK_NS = NS
ANSWER_NS = 60 * NS
BODY_MOST = 120_000  # many brokers stop at 128 kB

# v5 reasons of a PUBACK that will not change by trying again -> core.reasons
FOR_GOOD = {0x87: reasons.NOT_ALLOWED, 0x90: reasons.NOT_ALLOWED, 0x95: reasons.TOO_LARGE, 0x99: reasons.MALFORMED}

Key = tuple[bytes, int]


@dataclass(slots=True)
class _Away:
    """`mid` 0 once the broker acknowledged it."""

    mid: int
    sent_ns: int


class Sender:
    """`topic_of(kind)` makes a topic; `publish(topic, payload)` hands over at QoS 1 and gives the message id or 0."""

    def __init__(self, spool: Spool, topic_of: Callable[[str], str], publish: Callable[[str, bytes], int], *, as_json: bool, by_broker: bool) -> None:
        """Nothing is on its way."""
        self._spool = spool
        self._topic_of = topic_of
        self._publish = publish
        self._as_json = as_json
        self._by_broker = by_broker
        self._away: OrderedDict[Key, _Away] = OrderedDict()
        self._mids: dict[int, Key] = {}
        self._again_ns = AGAIN_NS
        self._stood = (-1, -1)
        self._look_ns = 0
        self.most_bytes = BODY_MOST
        self.confirmed = 0

    def speak(self, *, as_json: bool, by_broker: bool) -> None:
        """In this encoding from now on, and whose word frees a record."""
        self._as_json, self._by_broker = as_json, by_broker

    def due(self, now_ns: int) -> int:
        """When `pump` should be called; 0 = not before something happens. Asks the spool for its depth only."""
        waiting = self._spool.depth()[0]
        if waiting > len(self._away) and len(self._mids) < UNACKNOWLEDGED_MOST and len(self._away) < AWAY_MOST:
            if (waiting, len(self._away)) != self._stood:
                return now_ns
            return self._look_ns
        oldest = next((a for a in self._away.values() if not a.mid), None)
        return oldest.sent_ns + self._again_ns if oldest is not None and not self._by_broker else 0

    def stalled_ns(self) -> int:
        """When the oldest record that the broker has not acknowledged has waited too long; 0 = none is on its way."""
        key = next(iter(self._mids.values()), None)
        away = self._away.get(key) if key is not None else None
        return away.sent_ns + ANSWER_NS if away is not None else 0

    def pump(self, now_ns: int) -> None:
        """Send what may go."""
        self._repeat(now_ns)
        room = min(UNACKNOWLEDGED_MOST - len(self._mids), AWAY_MOST - len(self._away))
        rows = self._spool.pending(room, self._away) if room > 0 else []
        for session, seq, body in rows:
            if not self._send((session, seq), body, now_ns):
                break
        self._stood = (self._spool.depth()[0], len(self._away))
        self._look_ns = now_ns + LOOK_NS

    def _send(self, key: Key, body: bytes, now_ns: int) -> bool:
        try:
            topic = self._topic_of(results.topic_kind(body))
            payload = packed.with_key(body, *key)
            if self._as_json:
                payload = results.to_json(payload) if results.is_result(body) else summary.to_json(payload)
        except WireError as fault:
            self._spool.refused(*key, fault.code or reasons.MALFORMED)
            return True
        if len(payload) > self.most_bytes:
            self._spool.refused(*key, reasons.TOO_LARGE)
            return True
        mid = self._publish(topic, payload)
        if mid == 0:
            return False
        self._away[key] = _Away(mid, now_ns)
        self._mids[mid] = key
        return True

    def _repeat(self, now_ns: int) -> None:
        """What the broker took long ago and the fleet has not stored goes again; each time it waits longer."""
        if self._by_broker:
            return
        late = [k for k, a in self._away.items() if not a.mid and now_ns - a.sent_ns >= self._again_ns]
        for key in late:
            del self._away[key]
        if late:
            self._again_ns = min(self._again_ns * 2, AGAIN_MOST_NS)

    def acknowledged(self, mid: int, code: int) -> bool:
        """The broker answered message `mid` with a v5 reason (0: well); whether it was one of ours."""
        key = self._mids.pop(mid, None)
        away = self._away.get(key) if key is not None else None
        if key is None or away is None:
            return False
        away.mid = 0
        self._stood = (-1, -1)
        if code < 0x80:
            self._spool.passed(*key)
            if self._by_broker:
                self._stored(Ack(key[0], 0, (key[1],)))
        elif code in FOR_GOOD:
            del self._away[key]
            self._spool.refused(*key, FOR_GOOD[code])
        else:
            del self._away[key]
            self._spool.broke([key])
        return True

    def stored(self, acks: tuple[Ack, ...]) -> None:
        """The fleet's word: it frees, whoever else's word does, too."""
        for ack in acks:
            self._stored(ack)

    def _stored(self, ack: Ack) -> None:
        self._spool.stored(ack.session, ack.upto, ack.beyond)
        beyond = frozenset(ack.beyond)
        gone = [key for key in self._away if key[0] == ack.session and (key[1] <= ack.upto or key[1] in beyond)]
        for key in gone:
            away = self._away.pop(key)
            self._mids.pop(away.mid, None)
        self.confirmed += len(gone)
        if gone:
            self._again_ns = AGAIN_NS

    def lost(self, *, by_peer: bool) -> None:
        """The connection is over. `by_peer`: it was closed on us, so one of those on their way may be why."""
        unacknowledged = [key for key, away in self._away.items() if away.mid]
        self._away.clear()
        self._mids.clear()
        self._stood = (-1, -1)
        if by_peer and unacknowledged:
            self._spool.broke(unacknowledged)

    def again(self) -> None:
        """The fleet's store began anew: what it has not confirmed goes again."""
        for key in [k for k, a in self._away.items() if not a.mid]:
            del self._away[key]
        self._again_ns = AGAIN_NS
