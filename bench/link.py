# SPDX-License-Identifier: Apache-2.0
"""Bench: the MQTT part of the agent at rest beside paho's own thread, and the loop's longest gap before a black hole.

Both rest beside each other in one run, each in a process of its own, over TLS with client certificates at the same broker, with the
default heartbeat and keep-alive for us and a keep-alive of 60 s for paho, as its users have it. A wake-up is a voluntary context
switch of the process (all threads), CPU is user + system time, both as the kernel counts them.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
REST_S = float(os.environ.get("BENCH_REST_S", "60"))
SETTLE_S = 3.0


def main(argv: list[str]) -> int:
    """A child: rest as `ours` or `paho`, and print what the kernel counted."""
    what, port, ca, cert, key, folder = argv
    figures = {"ours": _ours, "paho": _paho, "hole": _hole}[what](int(port), ca, cert, key, Path(folder))
    print(json.dumps(figures))
    return 0


def _counted() -> tuple[int, float]:
    """(voluntary context switches of all threads, CPU seconds)."""
    switches = 0
    for task in os.listdir("/proc/self/task"):
        try:
            text = Path(f"/proc/self/task/{task}/status").read_text()
        except OSError:
            continue
        switches += int(text.split("voluntary_ctxt_switches:")[1].split()[0])
    return switches, time.process_time()


def _between(before: tuple[int, float], after: tuple[int, float]) -> dict[str, float]:
    return {"wakeups_per_min": (after[0] - before[0]) * 60 / REST_S, "cpu_ms_per_min": (after[1] - before[1]) * 60_000 / REST_S}


def _device(port: int, folder: Path, **words: object):
    """The shipped loop, disk, spool and link."""
    from edgeheal.adapters.blocking import Workers
    from edgeheal.adapters.disk import FolderDisk
    from edgeheal.adapters.mqtt.link import MqttLink
    from edgeheal.adapters.mqtt.settings import LinkSettings
    from edgeheal.adapters.spool import Spool
    from edgeheal.agent.loop import Loop
    from edgeheal.wire import standin
    from edgeheal.wire.birth import Birth
    from edgeheal.wire.health import Health

    session = os.urandom(6)
    loop = Loop(lambda _: None)
    workers, disk = Workers(), FolderDisk(str(folder))
    spool = Spool(disk, lambda _: None, session=session, encode=lambda s: standin.encode(s, session))
    link = MqttLink(
        LinkSettings("127.0.0.1", "bench", "gw-1", port, **words),
        session=session,
        spool=spool,
        blocking=workers,
        emit=lambda _: None,
        birth=lambda: Birth(session),
        health=lambda: Health(session, loop.turns),
        on_down=lambda _: None,
    )
    for name, source in (("workers", workers), ("disk", disk), ("spool", spool), ("link", link)):
        loop.add(name, source)
    return loop, link


class _Until:
    """A source that stops the loop at a time of its own."""

    def __init__(self, loop, at_ns: int) -> None:
        self.loop, self.at_ns = loop, at_ns

    def fds(self) -> dict[int, int]:
        return {}

    def ready(self, fd: int, events: int) -> None: ...

    def due(self) -> int:
        return self.at_ns

    def tick(self, now_ns: int) -> None:
        if now_ns >= self.at_ns:
            self.at_ns = 0
            self.loop.stop()


def _drive(loop, until: _Until, seconds: float) -> None:
    until.at_ns = time.monotonic_ns() + round(seconds * 1e9)
    loop._stop = False
    loop.run(lambda: None)


def _ours(port: int, ca: str, cert: str, key: str, folder: Path) -> dict[str, float]:
    loop, link = _device(port, folder, ca=ca, cert=cert, key=key)
    until = _Until(loop, 0)
    loop.add("until", until)
    _drive(loop, until, SETTLE_S)
    if not link.connected():
        raise SystemExit(f"bench link: not connected: {link.view()}")
    before = _counted()
    _drive(loop, until, REST_S)
    figures = _between(before, _counted())
    if not link.connected():
        raise SystemExit("bench link: the connection did not last")
    return figures


def _paho(port: int, ca: str, cert: str, key: str, folder: Path) -> dict[str, float]:
    import threading

    import paho.mqtt.client as mqtt

    arguments = (mqtt.CallbackAPIVersion.VERSION2,) if hasattr(mqtt, "CallbackAPIVersion") else ()
    client = mqtt.Client(*arguments, client_id="peer", protocol=mqtt.MQTTv5)
    client.tls_set(ca, cert, key)
    client.connect("127.0.0.1", port, keepalive=60)
    client.subscribe("eh/1/bench/peer/down/#", qos=1)
    client.loop_start()
    rest = threading.Event()
    rest.wait(SETTLE_S)
    before = _counted()
    rest.wait(REST_S)
    figures = _between(before, _counted())
    client.loop_stop()
    return figures


def _hole(port: int, ca: str, cert: str, key: str, folder: Path) -> dict[str, float]:
    """The loop's longest gap while the broker takes no connection and answers nothing; paho's connect in a loop beside it."""
    import paho.mqtt.client as mqtt

    loop, link = _device(port, folder, tls=False)
    until = _Until(loop, 0)
    loop.add("until", until)
    _drive(loop, until, 12.0)
    arguments = (mqtt.CallbackAPIVersion.VERSION2,) if hasattr(mqtt, "CallbackAPIVersion") else ()
    client = mqtt.Client(*arguments, client_id="peer")
    began = time.monotonic()
    try:
        client.connect("127.0.0.1", port)
    except OSError:
        pass
    return {"gap_ms": loop.longest_gap_ms, "paho_connect_ms": (time.monotonic() - began) * 1000, "attempts": link.view().attempts + 1}


def _child(what: str, *words: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen([sys.executable, __file__, what, *words], stdout=subprocess.PIPE, env=env)


def _answer(process: subprocess.Popen[bytes]) -> dict[str, float]:
    out, _ = process.communicate(timeout=REST_S + 60)
    if process.returncode:
        raise SystemExit(f"bench link: a child ended with {process.returncode}")
    return json.loads(out)


def run() -> dict[str, object]:
    """The figures of `numbers`: wake-ups a minute, CPU beside paho's, the loop's gap before a black hole."""
    sys.path.insert(0, str(HERE.parent))
    from edgeheal.lab.broker import Broker, Tls, kinds
    from edgeheal.lab.certificates import Authority

    with tempfile.TemporaryDirectory(prefix="bench-link-") as scratch:
        folder = Path(scratch)
        authority = Authority(folder / "ca")
        cert, key = authority.issue("broker", server=True)
        with Broker(folder / "broker", kinds()[-1], tls=Tls(authority.ca, cert, key)) as broker:
            children = {
                name: _child(name, str(broker.port), authority.ca, *authority.issue(device), str(folder / name))
                for name, device in (("ours", "gw-1"), ("paho", "peer"))
            }
            figures = {name: _answer(child) for name, child in children.items()}
        with socket.create_server(("127.0.0.1", 0), backlog=1) as hole:
            fillers = [socket.socket() for _ in range(4)]  # fill the backlog: who comes now gets no answer
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(hole.getsockname())
            gap = _answer(_child("hole", str(hole.getsockname()[1]), "-", "-", "-", str(folder / "hole")))
            for filler in fillers:
                filler.close()
    return {
        "wakeups_per_min": figures["ours"]["wakeups_per_min"],
        "cpu_ratio": figures["ours"]["cpu_ms_per_min"] / max(0.001, figures["paho"]["cpu_ms_per_min"]),
        "blackhole_gap_ms": gap["gap_ms"],
        "edgeheal": figures["ours"], "paho": figures["paho"], "paho_connect_gap_ms": gap["paho_connect_ms"], "rest_s": REST_S,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
