# SPDX-License-Identifier: Apache-2.0
"""The spool: a durable append beside a bare log, a backlog of 10,000 until stored beside paho from memory, bytes to flash at rest and per incident."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROUNDS, EACH, WARM = 9, 120, 30
BACKLOG = 10_000
BODY = 160
PAGE = 4_096


def run() -> dict:
    """The figures; each beside its peer in the same run. What is simulated says so in `how`."""
    folder = Path(tempfile.mkdtemp(prefix="bench-spool-", dir=os.environ.get("BENCH_DIR") or str(HERE)))
    try:
        figures = append(folder / "append")
        figures |= backlog(folder / "backlog")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return figures | flash()


# -- one durable record at a time


def append(folder: Path) -> dict:
    """Median of a critical `put` over the median of write + fdatasync of as many bytes, rounds interleaved."""
    from edgeheal.adapters.disk import FolderDisk
    from edgeheal.adapters.spool import Spool
    from edgeheal.journal.spool_frames import OVERHEAD

    folder.mkdir()
    disk = FolderDisk(str(folder))
    spool = Spool(disk, lambda signal: None, session=os.urandom(6), encode=lambda standin: b"")
    bare = os.open(folder / "bare.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    body, record = os.urandom(BODY), os.urandom(BODY + OVERHEAD)

    def put() -> None:
        spool.put(body, severity=1, fingerprint=body[:8], critical=True)

    def write() -> None:
        os.write(bare, record)
        os.fdatasync(bare)

    for do in (put, write):
        timed(do, WARM)
    rounds = [(timed(put, EACH), timed(write, EACH)) for _ in range(ROUNDS)]
    ours = statistics.median(t for mine, _ in rounds for t in mine)
    theirs = statistics.median(t for _, other in rounds for t in other)
    assert spool.depth()[0] == WARM + ROUNDS * EACH
    disk.close()
    os.close(bare)
    return {"append_us": round(ours * 1e6, 1), "bare_us": round(theirs * 1e6, 1), "append_ratio": round(ours / theirs, 3)}


def timed(do, times: int) -> list[float]:
    """Seconds of each call."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        do()
        taken.append(time.perf_counter() - began)
    return taken


# -- a backlog until stored


def backlog(folder: Path) -> dict:
    """Seconds from a session's first connect until the controller has stored everything; paho's from memory until acknowledged, same broker."""
    try:
        from edgeheal.lab.broker import Broker, Tls, kinds
        from edgeheal.lab.certificates import Authority
    except ImportError as fault:
        return {"backlog_s": None, "backlog_ratio": None, "backlog_skipped": str(fault)}
    kind = next(iter(kinds()), "")
    if not kind:
        return {"backlog_s": None, "backlog_ratio": None, "backlog_skipped": "no broker here"}
    folder.mkdir()
    certs = Authority(folder / "certs")
    tls = Tls(certs.ca, *certs.issue("broker", server=True))
    with Broker(folder / "broker", kind, tls=tls) as broker:
        peer_s = paho_backlog(broker, certs)
        ours_s, ordered = our_backlog(folder, broker, certs)
    return {
        "backlog_records": BACKLOG, "backlog_s": round(ours_s, 3), "paho_s": round(peer_s, 3), "backlog_ratio": round(ours_s / peer_s, 2),
        "backlog_in_order_of_severity": ordered, "broker": kind, "tls": True,
    }  # fmt: skip


def paho_backlog(broker, certs) -> float:
    """paho alone: everything handed over, until the last PUBACK."""
    import paho.mqtt.client as mqtt

    arguments = (mqtt.CallbackAPIVersion.VERSION2,) if hasattr(mqtt, "CallbackAPIVersion") else ()
    client = mqtt.Client(*arguments, client_id="peer", protocol=mqtt.MQTTv5)
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(20)
    client.tls_set(certs.ca, *certs.issue("peer"))
    done, count, lock = threading.Event(), [0], threading.Lock()

    def published(*_args) -> None:
        with lock:
            count[0] += 1
            if count[0] >= BACKLOG:
                done.set()

    client.on_publish = published
    payload = os.urandom(BODY)
    began = time.perf_counter()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for _ in range(BACKLOG):
        client.publish("eh/1/default/peer/up/incident", payload, qos=1)
    if not done.wait(120):
        raise SystemExit("bench spool: paho did not finish")
    taken = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    return taken


def our_backlog(folder: Path, broker, certs) -> tuple[float, bool]:
    """The shipped spool, link and controller."""
    sys.path.insert(0, str(HERE.parent / "tests" / "link"))
    from link_device import Device, incident

    from edgeheal.adapters.mqtt.settings import LinkSettings
    from edgeheal.core.kinds import Severity
    from edgeheal.wire import summary

    cert, key = certs.issue("controller")
    words = [sys.executable, "-m", "edgeheal.cli.main", "controller", "--broker", f"127.0.0.1:{broker.port}", "--ca", certs.ca, "--cert", cert,
             "--client-key", key, "--store", str(folder / "fleet.db"), "--tenant", "default"]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    controller = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    cert, key = certs.issue("gw-1")
    settings = LinkSettings(host="127.0.0.1", port=broker.port, tenant="default", device="gw-1", tls=True, ca=certs.ca, cert=cert, key=key)
    device = Device(folder / "device", settings)
    try:
        for n in range(1, BACKLOG + 1):
            body = summary.encode(incident(n, session=device.session, severity=Severity(n % 4)), session=device.session)
            device.spool.put(body, severity=n % 4, fingerprint=n.to_bytes(8, "big"), critical=False, incident=n, at_s=1_795_600_000)
            if n % 500 == 0:
                device.spool.settle()
        device.spool.settle()
        order = [device.spool._index.head(row).severity for row in device.spool._index.gravest()]
        device.until(lambda: device.link.view().controller == "open", seconds=60, what="the controller")
        began = time.perf_counter()
        device.until(lambda: device.spool.depth()[0] == 0, seconds=300, what="the backlog")
        return time.perf_counter() - began, order == sorted(order, reverse=True)
    finally:
        device.close()
        controller.terminate()
        controller.wait(20)


# -- bytes to flash, over the real engine, in virtual time


def flash() -> dict:
    """A day at rest with 20 apps sampled every 10 s, then crashes that a restart heals: pages given to the medium by all three."""
    from edgeheal.core.app import AppSpec
    from edgeheal.core.effect import Act, Decided, Report, Verb
    from edgeheal.journal.records import DecidedLine, LightAct, Told, When
    from edgeheal.lab.device import Behaviour
    from edgeheal.lab.device import Device as Simulated
    from edgeheal.wire import summary

    with tempfile.TemporaryDirectory(prefix="bench-ring-") as ring:
        hours = float(os.environ.get("BENCH_REST_HOURS", "12"))

        class Kept(Simulated):
            """A simulated device that records as the agent does."""

            def __init__(self) -> None:
                self.keeper = None
                super().__init__([AppSpec(f"app{n}", memory_kib=65_536, files=256) for n in range(20)])
                self.keeper = Keeper(self, ring)

            def tell(self, signal):
                now = self.now()
                effects = super().tell(signal)
                if self.keeper is not None:
                    self.keeper.step(now, signal, effects)
                self.signals.clear()
                self.effects.clear()
                return effects

        class Keeper:
            """Journal, recorder and spool over one counted disk."""

            def __init__(self, device: Simulated, folder: str) -> None:
                from edgeheal.adapters.journal_files import JournalFiles
                from edgeheal.adapters.recorder import FlightRecorder
                from edgeheal.adapters.spool import Spool
                from edgeheal.engine import snapshot
                from edgeheal.journal.records import pack_state

                self.device = device
                self.disk = PageDisk()
                self.session = os.urandom(6)

                def state() -> bytes:
                    return pack_state(snapshot.to_plain(device.state))

                def clock() -> int:
                    return device.now().mono_ns

                self.journal = JournalFiles(self.disk, device_deaf, session=self.session, now=device.now, state=state)
                self.recorder = FlightRecorder(self.disk, device_deaf, folder=folder, state=state, session=self.session, boot="boot-1", clock=clock)
                self.spool = Spool(self.disk, device_deaf, session=self.session, encode=lambda s: b"", clock=clock)
                self.recorder.start()

            def step(self, now, signal, effects) -> None:
                self.recorder.note(now, signal, effects)
                when = When.of(now)
                for effect in effects:
                    if isinstance(effect, Report):
                        body = summary.encode(effect.incident, session=self.session)
                        critical = int(effect.incident.severity) >= 2
                        seq = self.spool.put(
                            body, severity=int(effect.incident.severity), fingerprint=effect.incident.fingerprint, critical=critical,
                            incident=effect.incident.number, at_s=now.wall_s,
                        )  # fmt: skip
                        self.journal.keep(Told(when, self.session, seq, effect.incident.number, effect.incident.revision, body))
                    elif isinstance(effect, Decided):
                        self.journal.keep(DecidedLine(when, effect.what, effect.incident, effect.app, effect.args))
                    elif isinstance(effect, Act) and effect.verb is not Verb.FOLLOW:
                        self.journal.keep(LightAct(when, effect.number, int(effect.verb), effect.app, effect.target, effect.incident))
                self.recorder.flush()
                for source in (self.journal, self.recorder, self.spool):
                    due = source.due()
                    if due and due <= now.mono_ns:
                        source.tick(now.mono_ns)
                self.disk.ready(-1, 0)

        device = Kept()
        for n, app in enumerate(device.apps.values()):
            app.images[0].behaviour = Behaviour(memory_kib=lambda age, n=n: 30_000 + n * 100 + int(age) % 97, fds=lambda age: 20 + int(age) % 3)
        device.start_all()
        device.run(3_600)
        before = device.keeper.disk.pages
        device.run(hours * 3_600)
        rest = (device.keeper.disk.pages - before) * PAGE * 24 / hours
        before = device.keeper.disk.pages
        for n in range(10):
            device.kill(f"app{n}")
            device.run(1_800)
        per = (device.keeper.disk.pages - before) * PAGE / 10 - rest * 1_800 / 86_400
        healed = len(device.closed())
    assert healed == 10, healed
    return {"flash_bytes_per_day_rest": round(rest), "flash_bytes_per_incident": round(per), "how": f"pages, real engine, {hours:.0f} h virtual time, 20 apps"}


def device_deaf(_signal) -> None:
    """What the parts say of themselves is of no concern here."""


def PageDisk():
    """Power-cut storage that counts pages touched by each batch, and one page for each file made anew."""
    from edgeheal.journal.ops import Replace, Write
    from edgeheal.lab.storage import CutDisk

    class Counted(CutDisk):
        pages = 0

        def _run(self, ops):
            touched = set()
            for op in ops:
                if isinstance(op, Write):
                    touched |= {(op.name, page) for page in range(op.at // PAGE, (op.at + len(op.data) - 1) // PAGE + 1)}
                elif isinstance(op, Replace):
                    self.pages += len(op.data) // PAGE + 2
            self.pages += len(touched)
            return super()._run(ops)

    return Counted()
