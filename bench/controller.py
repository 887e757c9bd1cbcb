# SPDX-License-Identifier: Apache-2.0
"""The controller: reports a core-second beside mosquitto_sub and a bare counter, and 10,000 devices with one report each until stored.

The broker is Mosquitto (or iotcore where that is not installed: then there is no mosquitto_sub either), the controller the shipped verb
with its defaults. `mosquitto_sub` prints nothing and keeps nothing; the counter is our own session that counts and acknowledges. CPU is
user + system of the whole process, as the kernel counts it.
"""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPORTS = 30_000
DEVICES = 10_000
WINDOW = 1_000
TENANT = "bench"
DEADLINE_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


def run() -> dict[str, Any]:
    """`per_core_s` and `ratio` beside mosquitto_sub; `fleet_s` and `fleet_ratio` beside the counter."""
    from edgeheal.lab.broker import Broker, mosquitto_path

    kind = "mosquitto" if mosquitto_path() else "iotcore"
    figures: dict[str, Any] = {"reports": REPORTS, "devices": DEVICES, "broker": kind}
    with tempfile.TemporaryDirectory(prefix="bench-controller-") as name, Broker(Path(name) / "broker", kind) as broker:
        folder = Path(name)
        sub = shutil.which("mosquitto_sub")
        if kind == "mosquitto" and sub:
            figures["mosquitto_sub"] = {"per_core_s": _subscriber(sub, broker.port)}
        else:
            figures["mosquitto_sub"] = {"skipped": "mosquitto and its clients are not installed"}
        with _controller(folder, broker.port) as (pid, store):
            figures["edgeheal"] = {"per_core_s": _stored(pid, store, broker.port)}
            figures["fleet_s"] = _fleet(lambda: _rows(store), broker.port, start=3)
        figures["counter_s"] = _counted(broker.port)
        figures["fleet_ratio"] = figures["fleet_s"] / figures["counter_s"]
    peer = figures["mosquitto_sub"].get("per_core_s")
    figures["ratio"] = figures["edgeheal"]["per_core_s"] / peer if peer else None
    return figures


# -- what is published


def _body(number: int) -> bytes:
    """One report of ordinary size, as a device would send it."""
    from edgeheal.core.incident import Cause, Evidence, Incident, Tried
    from edgeheal.core.kinds import CauseKind, EvidenceCode, ImageStatus, IncidentState, Mode, Need, Outcome, RemedyKind, Severity, SymptomKind
    from edgeheal.wire import summary

    return summary.encode(Incident(
        number=number, session=b"", app="gateway", symptom=SymptomKind(1), severity=Severity.WARNING, state=IncidentState.RESOLVED, need=Need(0), mode=Mode.ACT,
        trusted=True, fingerprint=os.urandom(8), opened_ns=1, opened_s=1_790_000_000, opened_box_s=5, revision=1, downtime_ms=1_400, detect_ms=12,
        causes=(Cause(CauseKind(1), 0.8), Cause(CauseKind(2), 0.1, "x")), evidence=(Evidence(EvidenceCode(1), 3.0),),
        tried=(Tried(RemedyKind.RESTART, Outcome(1), 0.4),), image="ab" * 32, image_version="2.4.1", image_status=ImageStatus(1),
    ))  # fmt: skip


def _publish(port: int, devices: int, seqs: range) -> None:
    """One report of each device for each seq, at QoS 1, as fast as the broker takes them."""
    from edgeheal.fleet.session import Address, Session
    from edgeheal.wire import packed, topics

    session = Session(Address("127.0.0.1", port, version="5"), f"pub-{os.getpid()}-{seqs.start}", clean=True)
    names = [topics.of(TENANT, f"gw-{n:05d}", topics.UP_INCIDENT) for n in range(devices)]
    for seq in seqs:
        body = _body(seq)
        for n, topic in enumerate(names):
            session.publish(topic, packed.with_key(body, n.to_bytes(6, "big"), seq))
            if session.waiting() > WINDOW:
                session.wait(1.0)
    session.finish(DEADLINE_S)


def _fleet(rows: Any, port: int, *, start: int) -> float:
    """Seconds from the first publish until `rows()` has grown by one report of each of DEVICES devices."""
    before, began = rows(), time.monotonic()
    _publish(port, DEVICES, range(start + 1, start + 2))
    _until(lambda: rows() >= before + DEVICES)
    return time.monotonic() - began


def _until(ask: Any) -> None:
    end = time.monotonic() + DEADLINE_S
    while not ask():
        if time.monotonic() > end:
            raise SystemExit("bench controller: not all reports arrived")
        time.sleep(0.005)


# -- who takes them


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextlib.contextmanager
def _controller(folder: Path, port: int) -> Iterator[tuple[int, Path]]:
    store = folder / "fleet.db"
    words = [sys.executable, "-m", "edgeheal.cli.main", "controller", "--broker", f"127.0.0.1:{port}", "--tenant", TENANT, "--store", str(store)]
    with (folder / "controller.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _until(lambda: process.poll() is not None or b"connected to" in (folder / "controller.log").read_bytes())
        if process.poll() is not None:
            raise SystemExit((folder / "controller.log").read_text())
        yield process.pid, store
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _rows(store: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM records").fetchone()[0])


def _stored(pid: int, store: Path, port: int) -> float:
    before = _cpu(pid)
    _publish(port, DEVICES, range(1, REPORTS // DEVICES + 1))
    _until(lambda: _rows(store) >= REPORTS)
    return REPORTS / (_cpu(pid) - before)


def _subscriber(sub: str, port: int) -> float:
    """mosquitto_sub, the same messages."""
    words = [sub, "-p", str(port), "-V", "5", "-q", "1", "-t", f"eh/1/{TENANT}/+/up/#", "-C", str(REPORTS), "-F", "%l", "-i", "peer"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(0.5)  # it says nothing when it is subscribed
    _publish(port, DEVICES, range(1, REPORTS // DEVICES + 1))
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return REPORTS / (usage.ru_utime + usage.ru_stime)


def _counted(port: int) -> float:
    """Our own session that counts and acknowledges, and stores nothing."""
    from edgeheal.fleet.session import Address, Session
    from edgeheal.wire import topics

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        session = Session(Address("127.0.0.1", port, version="5"), "counter", clean=True)
        session.subscribe(topics.all_up(TENANT))
        while not session.granted:
            session.wait(1.0)
        os.write(write, b"r")
        count = 0
        while count < DEVICES:
            came = session.wait(1.0)
            session.acknowledge([m.mid for m in came if m.mid])
            count += len(came)
        os.write(write, b"d")
        os._exit(0)
    os.read(read, 1)
    began = time.monotonic()
    _publish(port, DEVICES, range(1, 2))
    os.read(read, 1)
    took = time.monotonic() - began
    os.waitpid(child, 0)
    return took
