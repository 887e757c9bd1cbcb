# SPDX-License-Identifier: Apache-2.0
"""Bench: bytes of an incident on the wire, eight kinds, as a plain subscriber saw them, beside JSON, CBOR and Sparkplug B.

Each kind is made for real on a whole device (`incident_device`): shipped guard and agent, signed apps, real processes, files, disks and network,
bytes as a subscriber at its broker saw them, the largest revision. Each is provoked over the real engine as well (a simulated world drives the
shipped `step`; its summaries travel through the shipped spool, link and a real broker): those bytes stand beside it, and in the place of a kind that cannot be
made here, which `provoked_on` says (`BENCH_DEVICE=0` leaves the device out). The other encodings carry the same fields under their full
names, as such messages do; Sparkplug B as metrics with name, time and type.
"""

from __future__ import annotations

import json
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

APP = "modbus-gw"
IMAGE = "4f1e0d9c" * 8


# -- provoked over the real engine


def _world(behaviour: Any = None) -> Any:
    from edgeheal.core.app import AppSpec, MetricSpec
    from edgeheal.lab.device import Device

    spec = AppSpec(
        APP,
        image=IMAGE,
        version="2.4.1",
        heartbeat_ms=2_000,
        memory_kib=262_144,
        has_config=True,
        metrics=(MetricSpec("meter 2", every_ms=1_000, stuck_ms=30_000),),
    )
    world = Device([spec])
    if behaviour is not None:
        world.apps[APP].images[0].behaviour = behaviour
    world.start_all()
    world.run(400)
    return world


def _crash() -> Any:
    from edgeheal.core import signal as sig

    world = _world()
    world.kill(APP, 11)
    world.tell(sig.LogSeen(APP, "Traceback <*>", 1, 3, "ValueError: bad block", ("poller.py:read_block", "main.py:loop"), "ValueError"))
    world.run(300)
    return world


def _oom() -> Any:
    from edgeheal.core import signal as sig

    world = _world()
    world.tell(sig.KernelSaid("oom", APP, world.apps[APP].run + 1_000))
    world.kill(APP, 9)
    world.run(300)
    return world


def _stuck() -> Any:
    from edgeheal.lab.device import Behaviour

    world = _world(Behaviour(sensors={"meter 2": lambda age: 21.25 if age > 300 else 20.0 + age % 7}))
    world.run(900)
    return world


def _watchdog() -> Any:
    from edgeheal.core import signal as sig

    world = _world()
    world.tell(sig.Booted("boot-2", 5, (("watchdog", 900), ("power", 100))))
    world.run(300)
    return world


def _loop() -> Any:
    from edgeheal.core import deployment as dep
    from edgeheal.lab.device import Behaviour, Image

    world = _world()
    world.apps[APP].images.append(Image("img2", dep.GOOD, Behaviour(lives_s=2.0)))
    world._switch(APP, "img2", 2)
    world.run(1_500)
    return world


def _config() -> Any:
    from edgeheal.lab.device import Behaviour

    world = _world()
    world.break_config(APP, Behaviour(lives_s=1.0))
    world.kill(APP)
    world.run(600)
    return world


def _disk() -> Any:
    from edgeheal.core import signal as sig

    world = _world()
    for _ in range(30):
        world.tell(sig.HostSample("disk_free_permille:/var", 18.0))
        world.run(10)
    return world


def _network() -> Any:
    from edgeheal.core import signal as sig

    world = _world()
    world.tell(sig.LinkIs("carrier", False, 6))
    world.run(420)
    world.tell(sig.LinkIs("carrier", True))
    world.run(120)
    return world


KINDS: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "process crash": (_crash, {"EXIT"}),
    "out of memory": (_oom, {"OOM_KILL"}),
    "sensor stuck": (_stuck, {"SENSOR_STUCK"}),
    "watchdog reset": (_watchdog, {"WATCHDOG"}),
    "crash loop to rollback": (_loop, {"CRASH_LOOP", "TRIAL_FAILED"}),
    "config rollback": (_config, {"EXIT", "CRASH_LOOP"}),
    "disk full": (_disk, {"DISK_SPACE"}),
    "network loss": (_network, {"CARRIER"}),
}


def engine_bodies() -> dict[str, list[bytes]]:
    """For each kind, the bodies of all revisions told of its incident."""
    from edgeheal.wire import summary

    bodies: dict[str, list[bytes]] = {}
    for kind, (provoke, symptoms) in KINDS.items():
        world = provoke()
        told = [i for i in world.reports if any(r.symptom.name in symptoms for r in world.reports if r.number == i.number)]
        if not told:
            raise SystemExit(f"bench incident: the engine told nothing of {kind}")
        bodies[kind] = [summary.encode(i, session=b"\0lab\0\1", now_ns=round(world.at * 1e9)) for i in told]
    return bodies


# -- through spool, link and broker, to a plain subscriber


def over_the_wire(folder: Path, bodies: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    """The payloads as a plain subscriber saw them, by kind."""
    import paho.mqtt.client as mqtt
    from link import _device, _drive, _Until

    from edgeheal.lab.broker import Broker, kinds

    seen: list[bytes] = []
    with Broker(folder / "broker", kinds()[0]) as broker:
        arguments = (mqtt.CallbackAPIVersion.VERSION2,) if hasattr(mqtt, "CallbackAPIVersion") else ()
        subscriber = mqtt.Client(*arguments, client_id="plain", protocol=mqtt.MQTTv5)
        subscriber.on_message = lambda _c, _u, message: seen.append(bytes(message.payload))
        subscriber.connect("127.0.0.1", broker.port)
        subscriber.subscribe("eh/1/bench/+/up/incident", qos=1)
        subscriber.loop_start()
        loop, link = _device(broker.port, folder / "device", tls=False, stored_by="broker")
        until = _Until(loop, 0)
        loop.add("until", until)
        spool = link._spool
        keys = {}
        for kind, rows in bodies.items():
            for body in rows:
                keys[spool.put(body, severity=1, fingerprint=os.urandom(8), critical=False)] = kind
        end = time.monotonic() + 60
        while len(seen) < len(keys) and time.monotonic() < end:
            _drive(loop, until, 0.2)
        link.close()
        subscriber.loop_stop()
    import msgpack

    found: dict[str, list[bytes]] = {kind: [] for kind in bodies}
    for payload in seen:
        found[keys[msgpack.unpackb(payload, strict_map_key=False)[1][1]]].append(payload)
    return found


def key_of(payload: bytes) -> tuple[bytes, int]:
    """(session, number) of the incident that a payload is about."""
    import msgpack

    body = msgpack.unpackb(payload, strict_map_key=False)[1]
    of = body.get(2, 0)
    return (of[1], of[0]) if isinstance(of, list) else (body.get(0, b""), of)


# -- the same fields in other encodings


def named(payload: bytes) -> dict[str, Any]:
    """The fields of the summary table under their full names, kinds as words: what a message without our schema would carry."""
    from edgeheal.wire import summary

    record = summary.read(payload)
    i = record.incident
    return {
        "session": i.session.hex(), "sequence": record.seq, "incident": i.number, "app": i.app, "symptom": i.symptom.name.lower(),
        "severity": i.severity.name.lower(), "state": i.state.name.lower(), "need": i.need.name.lower(), "mode": i.mode.name.lower(),
        "opened": i.opened_s, "open_seconds": record.open_ms / 1000, "downtime_seconds": i.downtime_ms / 1000, "data_gap_seconds": i.gap_ms / 1000,
        "clock_trusted": i.trusted, "revision": i.revision, "subject": i.subject,
        "causes": [{"kind": c.kind.name.lower(), "probability": c.probability, "subject": c.subject} for c in i.causes],
        "evidence": [{"code": e.code.name.lower(), "value": e.value, "limit": e.limit, "text": e.text} for e in i.evidence],
        "changed_last": {"what": i.change.name.lower(), "seconds_before": i.change_before_s}, "fingerprint": i.fingerprint.hex(),
        "recurrence": {"count": i.recurrence, "window_seconds": i.recurrence_window_s},
        "remedies": [{"kind": t.kind.name.lower(), "outcome": t.outcome.name.lower(), "seconds": t.seconds} for t in i.tried],
        "next": i.planned.name.lower() if i.planned is not None else None,
        "image": {"id": i.image, "version": i.image_version, "status": i.image_status.name.lower()},
    }  # fmt: skip


def cbor(value: dict[str, Any]) -> bytes:
    """CBOR with string keys."""
    import cbor2

    return bytes(cbor2.dumps(value))


def sparkplug(value: dict[str, Any]) -> bytes:
    """A Sparkplug B payload: a timestamp, a sequence number, a metric (name, timestamp, datatype, value) for each scalar."""
    at = 1_795_600_000_000
    body = _varint_field(1, at)
    for name, scalar in _flat("", value):
        metric = _bytes_field(1, name.encode()) + _varint_field(3, at)
        if isinstance(scalar, bool):
            metric += _varint_field(4, 11) + _varint_field(14, int(scalar))
        elif isinstance(scalar, int):
            metric += _varint_field(4, 4) + _varint_field(11, scalar)
        elif isinstance(scalar, float):
            metric += _varint_field(4, 9) + bytes([12 << 3 | 5]) + struct.pack("<f", scalar)
        else:
            metric += _varint_field(4, 12) + _bytes_field(15, str(scalar).encode())
        body += _bytes_field(2, metric)
    return body + _varint_field(3, 7)


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [row for name, inner in value.items() for row in _flat(f"{prefix}/{name}" if prefix else name, inner)]
    if isinstance(value, list):
        return [row for n, inner in enumerate(value) for row in _flat(f"{prefix}/{n}", inner)]
    return [] if value is None or value == "" else [(prefix, value)]


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        digit, value = value & 0x7F, value >> 7
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _figures(sizes: dict[str, int]) -> dict[str, Any]:
    return {"median": statistics.median(sizes.values()), "max": max(sizes.values()), "kinds": sizes}


def run() -> dict[str, Any]:
    """Median, maximum and each kind, for us and for the others."""
    with tempfile.TemporaryDirectory(prefix="bench-incident-", ignore_cleanup_errors=True) as scratch:
        seen = over_the_wire(Path(scratch), engine_bodies())
    largest = {kind: max(payloads, key=len) for kind, payloads in seen.items()}
    engine = {kind: len(payload) for kind, payload in largest.items()}
    provoked = dict.fromkeys(engine, "engine: BENCH_DEVICE=0")
    if os.environ.get("BENCH_DEVICE", "1") != "0":
        from incident_device import payloads

        found = payloads()
        provoked = {kind: "device" if kind in found["seen"] else f"engine: {found['not'].get(kind, 'not made')}" for kind in engine}
        largest |= {kind: bytes.fromhex(row) for kind, row in found["seen"].items()}
    sizes = {kind: len(payload) for kind, payload in largest.items()}
    texts = {kind: named(payload) for kind, payload in largest.items()}
    return {
        "edgeheal": _figures(sizes) | {"provoked_on": provoked, "over_the_engine": engine},
        "json": _figures({k: len(json.dumps(v, separators=(",", ":")).encode()) for k, v in texts.items()}),
        "cbor": _figures({k: len(cbor(v)) for k, v in texts.items()}),
        "sparkplug": _figures({k: len(sparkplug(v)) for k, v in texts.items()}),
    }
