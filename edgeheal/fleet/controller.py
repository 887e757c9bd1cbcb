# SPDX-License-Identifier: Apache-2.0
"""The controller: takes what devices send, stores it durably, then acknowledges.

Duty: the loop over one broker session and one store: batches, acknowledgements, presence, retention, a full disk.
Invariants: nothing is acknowledged (to the broker or to a device) before its commit; a store that cannot be written stops the
acknowledgements and says so in the presence, so that devices keep what they have; a broker that is gone is tried again with
full jitter; all of it may be killed at any moment.
"""

import contextlib
import os
import random
import select
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from edgeheal.core.errors import LinkError
from edgeheal.fleet.ingest import Ingest
from edgeheal.fleet.packets import Will
from edgeheal.fleet.session import Address, Session
from edgeheal.fleet.store import Batch, Store
from edgeheal.wire import stored, topics
from edgeheal.wire.stored import Ack, Presence, PresenceState

RETENTION_EVERY_S = 600.0
RETRY_MOST_S = 30.0
STORED_EXPIRY_S = 3_600
HELD_MOST = 50_000
SESSIONS_AN_ACK = 32


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """`name` tells controllers of one tenant apart; `batch` messages or `batch_ms`, whichever comes first."""

    address: Address
    tenant: str
    store: str
    name: str = "controller"
    batch: int = 200
    batch_ms: int = 20
    retention_s: int = 90 * 86_400
    keep_alive_s: int = 60


def say(text: str) -> None:
    """A line of the controller's own log."""
    sys.stderr.write(f"edgeheal controller: {text}\n")
    sys.stderr.flush()


class Controller:
    """See the module. `run` until `stop`."""

    def __init__(self, settings: ControllerSettings, *, log: Callable[[str], None] = say) -> None:
        """Opens the store (StoreError)."""
        self._settings = settings
        self._log = log
        self._store = Store(settings.store)
        self._run = os.urandom(6)
        self._ingest = Ingest(settings.tenant)
        self._bell_read, self._bell_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._state = PresenceState.OPEN
        self._batch = Batch()
        self._mids: list[int] = []
        self._began = 0.0
        self._retry_at = 0.0
        self._retry_s = 1.0
        self._clean_at = time.monotonic() + 5.0
        self._twins = 0
        self.stored = 0

    def stop(self) -> None:
        """End `run` soon; may be called from a signal handler or another thread."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell_write, b"x")

    def handle_signals(self) -> None:
        """SIGTERM and SIGINT stop it in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def run(self) -> None:
        """Serve until `stop`."""
        failed = 0
        try:
            while not self._stopping:
                try:
                    session = self._connect()
                except LinkError as fault:
                    wait_s = random.uniform(0, min(RETRY_MOST_S, 0.5 * 2.0 ** min(failed, 10)))  # noqa: S311 - jitter, no secret
                    failed += 1
                    self._log(f"{fault}; next try in {wait_s:.1f} s")
                    self._sleep(wait_s)
                    continue
                failed = 0
                self._serve(session)
        finally:
            self._store.close()

    def _sleep(self, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._bell_read, select.POLLIN)
        poll.poll(seconds * 1000)

    def _connect(self) -> Session:
        settings = self._settings
        will = Will(topics.presence(settings.tenant), self._presence(PresenceState.OFFLINE))
        session = Session(
            settings.address, f"eh-{settings.tenant}-{settings.name}", clean=False, will=will, keep_alive_s=settings.keep_alive_s,
            receive_most=min(20 * settings.batch, 65_000),
        )  # fmt: skip
        self._batch, self._mids = Batch(), []  # the broker sends again what it was not told of
        session.subscribe(topics.all_up(settings.tenant))
        self._say_presence(session)
        self._log(f"connected to {settings.address.host}:{settings.address.port}, MQTT {'5' if session.v5 else '3.1.1'}")
        return session

    def _presence(self, state: PresenceState) -> bytes:
        return stored.encode_presence(Presence(self._run, state, self._settings.name, int(time.time())))

    def _say_presence(self, session: Session) -> None:
        session.publish(topics.presence(self._settings.tenant), self._presence(self._state), retain=True)

    def _serve(self, session: Session) -> None:
        """Until the connection is over or we are asked to stop."""
        poll = select.poll()
        poll.register(self._bell_read, select.POLLIN)
        try:
            while not self._stopping:
                poll.register(session.fileno(), session.events())
                poll.poll(max(0.0, self._wait_s(session)) * 1000)
                self._turn(session)
            self._flush(session)
            session.publish(topics.presence(self._settings.tenant), self._presence(PresenceState.OFFLINE), retain=True)
            session.finish()
        except LinkError as fault:
            self._log(str(fault))
            session.close()

    def _wait_s(self, session: Session) -> float:
        now = time.monotonic()
        ends = [session.due(), self._clean_at]
        if len(self._batch) or self._mids:
            ends.append(self._retry_at if self._state is PresenceState.FULL else self._began + self._settings.batch_ms / 1000)
        return min(ends) - now

    def _turn(self, session: Session) -> None:
        """Take what came, commit when the batch is full or old enough."""
        now = time.time()
        for message in session.receive():
            if not self._mids and not len(self._batch):
                self._began = time.monotonic()
            self._ingest.take(message, now, self._batch)
            if message.mid:
                self._mids.append(message.mid)
        if len(self._batch.records) > HELD_MOST:  # while the store is full; what is not acknowledged comes again
            raise LinkError(f"more than {HELD_MOST} reports wait for a store that cannot be written")
        session.tick()
        session.flush()
        self._maybe_flush(session)
        self._maybe_clean()

    def _maybe_flush(self, session: Session) -> None:
        if not len(self._batch) and not self._mids:
            return
        now = time.monotonic()
        if self._state is PresenceState.FULL:
            if now >= self._retry_at:
                self._flush(session)
        elif len(self._mids) >= self._settings.batch or now - self._began >= self._settings.batch_ms / 1000:
            self._flush(session)

    def _flush(self, session: Session) -> None:
        """One transaction, then the acknowledgements."""
        if not len(self._batch) and not self._mids:
            return
        try:
            if len(self._batch):
                self.stored += self._store.commit(self._batch)
        except sqlite3.Error as fault:
            self._full(session, fault)
            return
        batch, mids = self._batch, self._mids
        self._batch, self._mids = Batch(), []
        if self._state is PresenceState.FULL:
            self._state = PresenceState.OPEN
            self._retry_s = 1.0
            self._log("the store can be written again")
            self._say_presence(session)
        session.acknowledge(mids)
        self._acknowledge(session, batch)
        for device in batch.twins:
            if self._ingest.counts.twins != self._twins:
                self._log(f"two sessions are alive under the name {device}")
        self._twins = self._ingest.counts.twins

    def _full(self, session: Session, fault: sqlite3.Error) -> None:
        """The store cannot be written: keep the batch, acknowledge nothing, say so, try again."""
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(RETRY_MOST_S, self._retry_s * 2)
        if self._state is not PresenceState.FULL:
            self._state = PresenceState.FULL
            self._log(f"the store cannot be written ({fault}): nothing is acknowledged until it can")
            self._say_presence(session)

    def _acknowledge(self, session: Session, batch: Batch) -> None:
        """`down/stored`, one message a device."""
        devices: dict[str, list[Ack]] = {}
        for (device, owner), seqs in batch.seqs.items():
            covered = self._store.covered((device, owner))
            beyond = tuple(dict.fromkeys(seq for seq in seqs if seq > covered.upto))
            acks = devices.setdefault(device, [])
            for at in range(0, max(1, len(beyond)), stored.EXCEPTIONS_MOST):
                acks.append(Ack(owner, covered.upto, beyond[at : at + stored.EXCEPTIONS_MOST]))
        for device in batch.greeted:
            devices.setdefault(device, [])
        for device, acks in devices.items():
            topic = topics.of(self._settings.tenant, device, topics.DOWN_STORED)
            greeting = Presence(self._run, self._state) if device in batch.greeted else None
            twin = batch.twins[device][1] if greeting is not None and device in batch.twins else b""
            for at in range(0, max(1, len(acks)), SESSIONS_AN_ACK):
                session.publish(topic, stored.encode(acks[at : at + SESSIONS_AN_ACK], greeting, twin), expiry_s=STORED_EXPIRY_S)

    def _maybe_clean(self) -> None:
        if time.monotonic() < self._clean_at:
            return
        self._clean_at = time.monotonic() + RETENTION_EVERY_S
        try:
            gone = self._store.forget_before(time.time() - self._settings.retention_s)
        except sqlite3.Error as fault:
            self._log(f"retention failed: {fault}")
            return
        if gone:
            self._clean_at = time.monotonic() + 0.5
            self._log(f"retention: {gone} rows older than {self._settings.retention_s // 86_400} days went")
