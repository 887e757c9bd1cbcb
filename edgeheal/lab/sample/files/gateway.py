# SPDX-License-Identifier: Apache-2.0
"""A small sensor gateway: reads a sensor file, tells its readings, answers on HTTP, and beats its heart.

It is the demo's app and the shape of a reader's own: standard library only, nothing of EdgeHeal imported. What it uses of its
surroundings is what any app gets: NOTIFY_SOCKET, EDGEHEAL_CONFIG, EDGEHEAL_METRICS, EDGEHEAL_DATA. `GATEWAY_FAULT` in the
image's environment makes a faulty build of it; POST /leak makes it leak, as a bug would.
"""

import http.server
import json
import os
import pathlib
import socket
import sys
import threading
import time

FAULT = os.environ.get("GATEWAY_FAULT", "")


class Gateway:
    """The app's state: the last reading and what it has leaked."""

    def __init__(self, config: dict[str, object]) -> None:
        """`config`: listen (port), sensor (path), period_s (seconds)."""
        self.port = int(str(config["listen"]))
        self.sensor = pathlib.Path(str(config["sensor"]))
        self.period_s = float(str(config["period_s"]))
        self.read_at = time.monotonic()
        self.leaking = False
        self.hoard: list[bytes] = []
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.metrics = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.metrics.setblocking(False)

    def tell(self, words: str) -> None:
        """Say `words` to whoever supervises (sd_notify)."""
        if "NOTIFY_SOCKET" in os.environ:
            self.notify.sendto(words.encode(), os.environ["NOTIFY_SOCKET"])

    def once(self) -> None:
        """One period: read, tell the reading, beat."""
        try:
            value = float(self.sensor.read_text())
        except (OSError, ValueError):
            value = None
        if value is not None:
            self.read_at = time.monotonic()
            try:
                self.metrics.sendto(f"temperature {value} C\n".encode(), os.environ.get("EDGEHEAL_METRICS", ""))
            except OSError:
                pass  # nobody listens just now: a reading is not worth waiting for
        if self.leaking:
            self.hoard.append(os.urandom(1 << 20))
        self.tell("WATCHDOG=1")


def server_of(gateway: Gateway) -> http.server.ThreadingHTTPServer:
    """The HTTP side: GET /health, POST /leak."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self) -> None:
            sick = FAULT == "sick"
            self.answer(503 if sick else 200, "sick\n" if sick else "ok\n")

        def do_POST(self) -> None:
            gateway.leaking = True
            self.answer(200, "leaking\n")

        def log_message(self, *_: object) -> None:
            return

    http.server.ThreadingHTTPServer.allow_reuse_address = True
    return http.server.ThreadingHTTPServer(("127.0.0.1", gateway.port), Handler)


def main() -> None:
    """Start, say READY, then work until told to end."""
    if FAULT == "crash":
        sys.exit("gateway: cannot load calibration table")
    try:
        config = json.loads(pathlib.Path(os.environ["EDGEHEAL_CONFIG"]).read_text())
        gateway = Gateway(config)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        sys.exit(f"gateway: bad config: {fault}")
    server = server_of(gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("gateway: up", flush=True)
    gateway.tell(f"READY=1\nSTATUS=reading every {gateway.period_s:.1f} s")
    while True:
        gateway.once()
        time.sleep(gateway.period_s)


if __name__ == "__main__":
    main()
