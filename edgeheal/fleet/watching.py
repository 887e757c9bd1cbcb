# SPDX-License-Identifier: Apache-2.0
"""What devices say, as it happens: out of the broker (live) or out of the store (as it was kept).

Duty: two sources of the same `Heard` values. Read-only: it acknowledges nothing to any device. Not its duty: showing them.
Invariants: a live watcher has a clean session of its own, so it takes nothing from the controller; a bad message is skipped.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from edgeheal.core.errors import LinkError, WireError
from edgeheal.fleet.ingest import K_RESULT
from edgeheal.fleet.packets import Message
from edgeheal.fleet.session import Address, Session
from edgeheal.fleet.store import Store
from edgeheal.wire import birth, health, results, summary, topics

FOLLOW_S = 0.5
Said = summary.Record | results.ResultRecord | birth.Birth | health.Health


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing that `device` said; `size` its bytes on the wire, `retained` when it is an old word of a new watcher."""

    device: str
    said: Said
    received: float
    size: int
    retained: bool = False


def heard(message: Message, now: float) -> Heard | None:
    """A message of the broker, decoded; None when it is none of ours or does not decode."""
    topic = topics.parse(message.topic)
    if topic is None or not message.payload:
        return None
    try:
        said: Said
        if topic.kind == topics.UP_INCIDENT:
            said = summary.read(message.payload)
        elif topic.kind == topics.UP_RESULT:
            said = results.read(message.payload)
        elif topic.kind == topics.UP_STATE:
            said = birth.decode(message.payload)
        elif topic.kind == topics.UP_HEALTH:
            said = health.decode(message.payload)
        else:
            return None
    except WireError:
        return None
    return Heard(topic.device, said, now, len(message.payload), message.retain)


def live(address: Address, tenant: str, *, seconds: float = 0.0) -> Iterator[Heard | None]:
    """From the broker, until `seconds` have passed (0: for ever); None about twice a second, so that a reader can do its own.

    Retained births come first. LinkError when the broker cannot be reached or is lost.
    """
    session = Session(address, f"eh-watch-{os.urandom(5).hex()}", clean=True, keep_alive_s=30)
    end = time.monotonic() + seconds
    try:
        mid = session.subscribe(topics.all_up(tenant), qos=0)
        while not seconds or time.monotonic() < end:
            messages = session.wait(FOLLOW_S if not seconds else max(0.0, min(FOLLOW_S, end - time.monotonic())))
            if any(code >= 0x80 for code in session.granted.get(mid, ())):
                raise LinkError(f"the broker does not let us read {topics.all_up(tenant)}", hint="use the certificate or password of an operator")
            now = time.time()
            for message in messages:
                session.acknowledge([message.mid] if message.mid else [])
                found = heard(message, now)
                if found is not None:
                    yield found
            yield None
    finally:
        session.close()


def kept(store: Store, *, last: int, follow: bool) -> Iterator[Heard | None]:
    """From the store: the newest `last` records, then what comes as long as `follow`."""
    rows = store.last_records(last)
    at, version = 0.0, -1
    while True:
        for row in rows:
            at = max(at, row["received"])
            try:
                said: Said = results.read(row["raw"]) if row["kind"] == K_RESULT else summary.read(row["raw"])
            except WireError:
                continue
            yield Heard(row["device"], said, row["received"], len(row["raw"]))
        if not follow:
            return
        yield None
        time.sleep(FOLLOW_S)
        changed = store.changed()
        rows = store.records_after(at) if changed != version else []
        version = changed
