# SPDX-License-Identifier: Apache-2.0
"""Ports: the Protocols that the surroundings implement. An adapter and its fake pass the same contract suite (tests/contracts).

Duty: say what the agent may ask of the world. Nothing here does anything.
Invariant: no method blocks longer than a loop turn may take; what can block is asked for and answered by a later signal.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Protocol

from edgeheal.core.now import Now
from edgeheal.core.signal import Signal
from edgeheal.journal.fold import Recovered
from edgeheal.journal.ops import Ended, Op
from edgeheal.journal.records import Record


class Clock(Protocol):
    """Where `now` comes from."""

    def now(self) -> Now:
        """This instant."""


class Source(Protocol):
    """Something with descriptors and deadlines that the one loop drives. Signals leave through the `emit` given at construction."""

    def fds(self) -> dict[int, int]:
        """Descriptor -> epoll event mask to wait for, as of now."""

    def ready(self, fd: int, events: int) -> None:
        """A descriptor is ready; read or write what can be had without blocking."""

    def due(self) -> int:
        """Monotonic ns of the next deadline; 0 = none."""

    def tick(self, now_ns: int) -> None:
        """A deadline has come (or the loop woke anyway)."""


Emit = Callable[[Signal], None]


class Blocking(Protocol):
    """Where a call that may block in the kernel runs (adapters.blocking): never in the loop, one outstanding per key."""

    def ask(self, key: str, call: Callable[[], object], answer: Callable[[object], None]) -> bool:
        """Run `call` elsewhere; `answer` gets its value (or the OSError it raised) in a later turn of the loop.

        False, and nothing happens, while an earlier call under `key` has not come back.
        """

    def stuck_ns(self, key: str) -> int:
        """Since when (monotonic ns) the call under `key` is out; 0 = none is."""


class AppRow(Protocol):
    """What an AppProvider says of one app; read-only attributes."""

    app: str
    phase: int
    run: int
    pid: int
    wanted: bool
    wanted_by: int
    tree: tuple[int, ...]


class AppProvider(Protocol):
    """Whoever runs apps: the guard's children now; systemd units and containers later. Contract: tests/contracts/app_provider.py."""

    def state(self, app: str) -> AppRow:
        """The present, from the source of truth, not from memory of what was asked."""

    def start(self, app: str, by: int) -> None:
        """Ask for a start; refused while the old run is not known to be gone."""

    def stop(self, app: str, by: int) -> None:
        """Ask for an ordered stop of the whole tree: TERM, deadline, KILL, deadline."""

    def restart(self, app: str, by: int) -> None:
        """Stop, then start; what is wanted does not change, and a death in between does not lose the second half."""

    def tree(self, app: str) -> tuple[int, ...]:
        """Pids of the run, members that left the process group included."""

    def exits(self) -> Iterator[tuple[str, int, int | None, int | None]]:
        """Ends since the last call: (app, run, exit code or None, signal or None); both None = status unknown."""


class Disk(Source, Protocol):
    """The agent's folder on a medium that may be slow, full, read-only or gone (adapters.disk; lab.storage cuts its power).

    Nothing here blocks the loop longer than the caller says; answers come back in the loop's thread.
    """

    def submit(self, ops: Sequence[Op], done: Callable[[Ended], None]) -> int:
        """Run `ops` in order; a ticket (> 0). `done` is called in the loop's thread, from `ready` or `wait`."""

    def wait(self, ticket: int, timeout_s: float) -> Ended | None:
        """Block until that batch has ended (its `done` is called first), or None after `timeout_s`."""

    def names(self, folder: str) -> dict[str, int]:
        """`folder/name` -> size of the plain files there; {} when there is no such folder. For start-up: blocks."""

    def read(self, name: str, at: int, length: int) -> bytes:
        """Bytes of a file, shorter at its end; OSError when it cannot be read. For start-up: blocks."""


class JournalFiles(Source, Protocol):
    """The write-ahead record (adapters.journal_files)."""

    @property
    def recovered(self) -> Recovered:
        """What was found at the start."""

    def keep(self, record: Record, *, durable: bool = False) -> bool:
        """Append a record. `durable`: True means that it is on the medium, False that it is not; else within a second, True."""

    def snapshot(self) -> bool:
        """Keep the engine's state now, if the day's budget allows it (at a clean stop, after a change of policy)."""


class Spool(Source, Protocol):
    """Records waiting for the fleet, on disk (adapters.spool). The key of a record is (session, seq)."""

    def put(self, body: bytes, *, severity: int, fingerprint: bytes, critical: bool, incident: int = 0, at_s: int = 0) -> int:
        """Keep a record of this session; its seq. `critical`: durable when this returns, if the medium takes it.

        `incident`: its number, so that a later revision may stand for an earlier one; `at_s`: wall label.
        """

    def waits(self, fingerprint: bytes) -> bool:
        """Whether a record of this fingerprint, of whatever session, waits to be sent."""

    def pending(self, most: int, skip: Container[tuple[bytes, int]] = ()) -> list[tuple[bytes, int, bytes]]:
        """The next records to send as (session, seq, body), gravest first, oldest first within. `skip`: those that are on their way."""

    def stored(self, session: bytes, upto: int, exceptions: tuple[int, ...]) -> None:
        """The fleet has all of `session` up to `upto`, and those in `exceptions` beyond."""

    def passed(self, session: bytes, seq: int) -> None:
        """The broker acknowledged this one: it is not what breaks the connection. It waits for `stored` all the same."""

    def refused(self, session: bytes, seq: int, reason: int) -> None:
        """The broker refused this record by reason code: it is set aside, kept, counted, told, and not sent again."""

    def broke(self, keys: Sequence[tuple[bytes, int]]) -> None:
        """The connection broke while these were on their way; after N such breaks a record is set aside."""

    def depth(self) -> tuple[int, int]:
        """(records waiting, records dropped since the start)."""


class Link(Source, Protocol):
    """The way to the fleet (adapters.mqtt)."""

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool) -> int:
        """Hand over; the message id, or 0 when there is no connection."""

    def connected(self) -> bool:
        """Whether the broker answered lately, judged by received bytes."""
