# SPDX-License-Identifier: Apache-2.0
"""The fleet's store: one SQLite file, raw and decoded, each record once.

Duty: schema, one transaction a batch, queries of the views, retention. Not its duty: MQTT, decoding (`ingest`).
Invariants: the key (device, session, seq) is kept once, whatever is sent again; the highest revision of an incident wins;
`commit` leaves all of a batch or nothing; WAL with synchronous=FULL, so that what was acknowledged survives a power cut.
"""

import contextlib
import json
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edgeheal.core.errors import StoreError
from edgeheal.fleet.ranges import Covered

SCHEMA = 1
SESSIONS_KEPT = 50_000
CHUNK_ROWS = 2_000

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS devices (
  device TEXT PRIMARY KEY, online INTEGER NOT NULL, session BLOB, since REAL, seen REAL, twin REAL, place TEXT, birth BLOB, health BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
  device TEXT, session BLOB, seq INTEGER, received REAL NOT NULL, kind INTEGER NOT NULL, fault INTEGER NOT NULL, raw BLOB NOT NULL,
  PRIMARY KEY (device, session, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_received ON records (received);
CREATE TABLE IF NOT EXISTS incidents (
  device TEXT, session BLOB, number INTEGER, revision INTEGER NOT NULL, seq INTEGER NOT NULL, app TEXT, symptom INTEGER, severity INTEGER, state INTEGER,
  need INTEGER, opened INTEGER, fingerprint BLOB, cause INTEGER, percent INTEGER, image TEXT, first REAL, updated REAL, raw BLOB,
  PRIMARY KEY (device, session, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS incidents_updated ON incidents (updated);
CREATE INDEX IF NOT EXISTS incidents_fingerprint ON incidents (fingerprint);
CREATE TABLE IF NOT EXISTS results (
  device TEXT, session BLOB, seq INTEGER, command BLOB, state INTEGER, reason INTEGER, action INTEGER, app TEXT, received REAL, raw BLOB,
  PRIMARY KEY (device, session, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_command ON results (command);
CREATE TABLE IF NOT EXISTS sessions (device TEXT, session BLOB, upto INTEGER NOT NULL, PRIMARY KEY (device, session)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spans (device TEXT, session BLOB, first INTEGER, last INTEGER, PRIMARY KEY (device, session, first)) WITHOUT ROWID;
"""

_UPSERT_INCIDENT = """
INSERT INTO incidents VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
ON CONFLICT (device, session, number) DO UPDATE SET
  revision=excluded.revision, seq=excluded.seq, app=excluded.app, symptom=excluded.symptom, severity=excluded.severity, state=excluded.state,
  need=excluded.need, opened=excluded.opened, fingerprint=excluded.fingerprint, cause=excluded.cause, percent=excluded.percent, image=excluded.image,
  updated=excluded.updated, raw=excluded.raw
WHERE excluded.revision > incidents.revision
"""

_UPSERT_DEVICE = """
INSERT INTO devices (device, online, session, since, seen, place, birth) VALUES (?,?,?,?,?,?,?)
ON CONFLICT (device) DO UPDATE SET
  online=excluded.online, session=excluded.session, since=excluded.since, seen=excluded.seen, place=excluded.place, birth=excluded.birth
"""

Key = tuple[str, bytes]


@dataclass(slots=True)
class Batch:
    """What one transaction writes. Rows are tuples in the tables' order; `seqs` and `spans` feed the acknowledgements,
    `greeted` are the devices that just came and are to be told that we are here.
    """

    records: list[tuple[Any, ...]] = field(default_factory=list)
    incidents: list[tuple[Any, ...]] = field(default_factory=list)
    results: list[tuple[Any, ...]] = field(default_factory=list)
    births: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    gone: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    healths: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    twins: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    seqs: dict[Key, list[int]] = field(default_factory=dict)
    spans: dict[Key, list[tuple[int, int]]] = field(default_factory=dict)
    greeted: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        """How many messages would be acknowledged or noted by it."""
        return len(self.records) + len(self.births) + len(self.gone) + len(self.healths) + len(self.twins)


class Store:
    """See the module. One writer; any number of readers open the same file with `writable=False`."""

    def __init__(self, path: str, *, writable: bool = True) -> None:
        """Opens or makes it; StoreError when it is no store of ours, or of a newer version."""
        self.path = path
        self._covered: OrderedDict[Key, Covered] = OrderedDict()
        if not writable and not os.path.exists(path):
            raise StoreError("there is no such store", place=path, hint="name the controller's database with --store")
        try:
            self._db = sqlite3.connect(
                path if writable else f"file:{path}?mode=ro", uri=not writable, isolation_level=None, timeout=5.0, check_same_thread=False
            )
            self._prepare(writable=writable)
        except sqlite3.Error as fault:
            raise StoreError(f"the fleet's store cannot be opened: {fault}", place=path) from None

    def _prepare(self, *, writable: bool) -> None:
        db = self._db
        if writable:
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA wal_autocheckpoint=4000")
            db.execute("PRAGMA journal_size_limit=67108864")
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise StoreError(f"the store is of version {version}, this side knows {SCHEMA}", place=self.path, hint="use a newer EdgeHeal")
        if writable:
            db.executescript(_TABLES)
            if version < SCHEMA:
                db.execute(f"PRAGMA user_version={SCHEMA}")

    def close(self) -> None:
        """Close it; a checkpoint is made by the last one."""
        self._db.close()

    # -- writing

    def commit(self, batch: Batch) -> int:
        """Write all of it durably, or nothing (sqlite3.Error); how many records were new."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            before = db.total_changes
            db.executemany("INSERT OR IGNORE INTO records VALUES (?,?,?,?,?,?,?)", batch.records)
            new = db.total_changes - before
            db.executemany(_UPSERT_INCIDENT, batch.incidents)
            db.executemany("INSERT OR IGNORE INTO results VALUES (?,?,?,?,?,?,?,?,?,?)", batch.results)
            db.executemany(_UPSERT_DEVICE, batch.births.values())
            db.executemany("UPDATE devices SET online=0, since=? WHERE device=? AND session=? AND online=1", [(t, d, s) for d, (t, s) in batch.gone.items()])
            db.executemany("UPDATE devices SET seen=?, health=? WHERE device=?", [(t, raw, d) for d, (t, raw) in batch.healths.items()])
            db.executemany("UPDATE devices SET twin=? WHERE device=?", [(t, d) for d, (t, _) in batch.twins.items()])
            marks = self._cover(batch)
            db.executemany("INSERT INTO sessions VALUES (?,?,?) ON CONFLICT (device, session) DO UPDATE SET upto=max(upto, excluded.upto)", marks)
            spans = [(*key, first, last) for key, rows in batch.spans.items() for first, last in rows]
            db.executemany("INSERT INTO spans VALUES (?,?,?,?) ON CONFLICT (device, session, first) DO UPDATE SET last=max(last, excluded.last)", spans)
            db.execute("COMMIT")
        except sqlite3.Error:
            self._covered.clear()
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        return new

    def _cover(self, batch: Batch) -> list[tuple[str, bytes, int]]:
        """Mark what the batch brings; the contiguous marks of the sessions it touched."""
        marks: list[tuple[str, bytes, int]] = []
        for key in batch.seqs.keys() | batch.spans.keys():
            covered = self.covered(key)
            for seq in batch.seqs.get(key, ()):
                covered.cover(seq, seq)
            for first, last in batch.spans.get(key, ()):
                covered.cover(first, last)
            if covered.upto:
                marks.append((*key, covered.upto))
        return marks

    def covered(self, key: Key) -> Covered:
        """What is stored of one session, from memory or out of the tables."""
        found = self._covered.get(key)
        if found is not None:
            self._covered.move_to_end(key)
            return found
        row = self._db.execute("SELECT upto FROM sessions WHERE device=? AND session=?", key).fetchone()
        covered = Covered(row[0] if row else 0)
        for (seq,) in self._db.execute("SELECT seq FROM records WHERE device=? AND session=? AND seq>? ORDER BY seq", (*key, covered.upto)):
            covered.cover(seq, seq)
        for first, last in self._db.execute("SELECT first, last FROM spans WHERE device=? AND session=? AND last>?", (*key, covered.upto)):
            covered.cover(first, last)
        self._covered[key] = covered
        while len(self._covered) > SESSIONS_KEPT:
            self._covered.popitem(last=False)
        return covered

    def forget_before(self, received: float) -> int:
        """Retention: records, closed incidents and results older than `received` go, a chunk a call; how many went.

        Contiguous marks stay: what was acknowledged stays known.
        """
        cut = "SELECT device, session, seq FROM records WHERE received < ? LIMIT ?"
        gone = self._db.execute(f"DELETE FROM records WHERE (device, session, seq) IN ({cut})", (received, CHUNK_ROWS)).rowcount  # noqa: S608 - fixed words
        if gone < CHUNK_ROWS:
            gone += self._db.execute("DELETE FROM incidents WHERE updated < ?", (received,)).rowcount
            gone += self._db.execute("DELETE FROM results WHERE received < ?", (received,)).rowcount
        if gone:
            self._db.execute("PRAGMA incremental_vacuum(500)").fetchall()
        return gone

    # -- reading

    def devices(self) -> list[dict[str, Any]]:
        """All devices by name: device, online, session, since, seen, twin, place, birth, health (raw)."""
        return self._rows("SELECT device, online, session, since, seen, twin, place, birth, health FROM devices ORDER BY device")

    def incidents(self, *, device: str = "", open_only: bool = False, after: float = 0.0, most: int = 100) -> list[dict[str, Any]]:
        """The incidents changed last, newest first: the table's columns."""
        where, words = ["updated > ?"], [after]
        if device:
            where.append("device = ?")
            words.append(device)  # type: ignore[arg-type]
        if open_only:
            where.append("state != 5")
        return self._rows(f"SELECT * FROM incidents WHERE {' AND '.join(where)} ORDER BY updated DESC LIMIT ?", (*words, most))  # noqa: S608 - fixed words

    def records_after(self, received: float, most: int = 100_000) -> list[dict[str, Any]]:
        """Records in order of arrival: device, session, seq, received, kind, raw."""
        return self._rows("SELECT device, session, seq, received, kind, raw FROM records WHERE received > ? ORDER BY received LIMIT ?", (received, most))

    def last_records(self, most: int) -> list[dict[str, Any]]:
        """The newest `most` records, oldest first."""
        return self._rows("SELECT device, session, seq, received, kind, raw FROM records ORDER BY received DESC LIMIT ?", (most,))[::-1]

    def results(self, command: bytes) -> list[dict[str, Any]]:
        """The life of one command."""
        return self._rows("SELECT * FROM results WHERE command=? ORDER BY received, seq", (command,))

    def counts(self) -> dict[str, int]:
        """Rows of the tables that grow."""
        return {table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("records", "incidents", "results", "devices")}  # noqa: S608

    def changed(self) -> int:
        """A number that differs once another connection has written."""
        version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return version

    def meta(self, key: str, make: Callable[[], str]) -> str:
        """A value kept in the store, made once."""
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        if row is None:
            self._db.execute("INSERT INTO meta VALUES (?,?)", (key, make()))
            row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return str(row[0])

    def _rows(self, sql: str, words: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        try:
            cursor = self._db.execute(sql, words)
            names = [d[0] for d in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except sqlite3.Error as fault:
            raise StoreError(f"the fleet's store cannot be read: {fault}", place=self.path) from None


@contextlib.contextmanager
def reading(path: str) -> Iterator[Store]:
    """A store opened for reading."""
    store = Store(path, writable=False)
    try:
        yield store
    finally:
        store.close()


def plain(value: Any) -> str:
    """JSON of a row, bytes as hex."""
    return json.dumps(value, default=lambda b: b.hex())
