# SPDX-License-Identifier: Apache-2.0
"""The app of the signals bench: a small gateway program that goes wrong on order, each time in a way that programs do go wrong.

It works as an app should (says READY, beats, answers on HTTP, tells its readings) until a word stands in its order file. `SPECIMEN` is the
folder of orders: `NAME.order` is taken once, `NAME.always` at each start. Nothing of EdgeHeal is imported.
"""

import ctypes
import faulthandler
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

NAME = os.environ["EDGEHEAL_APP"]
ORDERS = pathlib.Path(os.environ["SPECIMEN"])
PORT = int(os.environ["SPECIMEN_PORT"])
NEEDS_PORT = int(os.environ.get("SPECIMEN_NEEDS", "0"))
HOARD: list = []


class State:
    """What is wrong now."""

    mute = False  # no heartbeat
    deaf = False  # HTTP hangs
    silent: set[str] = set()  # metrics that are not told
    scale = 1.0
    value: float | None = None  # metrics stand still here
    work: list = []


SOCKET = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def say(words: str) -> None:
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where:
        SOCKET.sendto(words.encode(), where)


def tell(lines: str) -> None:
    try:
        SOCKET.sendto(lines.encode(), os.environ.get("EDGEHEAL_METRICS", ""))
    except OSError:
        return


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        while State.deaf:
            time.sleep(0.1)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_: object) -> None:
        return


def spin() -> None:
    while True:
        pass


def each(seconds: float, do) -> None:
    """Do it for ever, every so often, in a thread of its own."""

    def run() -> None:
        while True:
            do()
            time.sleep(seconds)

    threading.Thread(target=run, daemon=True).start()


def open_more() -> None:
    try:
        HOARD.append(socket.socket())
    except OSError:
        print("ERROR resolve example.test failed: temporary failure in name resolution", flush=True)


def to_disk(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())


def obey(word: str, rest: str) -> None:
    match word:
        case "exit":
            os._exit(int(rest))
        case "abort":
            os.abort()
        case "segv":
            faulthandler.disable()
            ctypes.string_at(0)
        case "raise":
            State.work.append(lambda: json.loads("{broken"))
        case "mute":
            State.mute = True
        case "deaf":
            State.deaf = True
        case "spin":
            State.mute = State.deaf = True
            for _ in range(int(rest)):
                threading.Thread(target=spin, daemon=True).start()
        case "leak":
            each(0.1, lambda: HOARD.append(os.urandom(int(rest) * 1024)))
        case "eat":
            for _ in range(int(rest)):
                HOARD.append(os.urandom(1 << 20))
        case "fds":
            each(1 / int(rest), open_more)
        case "fds-and-go":
            each(1 / int(rest), lambda: State.work.append(lambda: HOARD.append(socket.socket())))
        case "threads":
            each(1 / int(rest), lambda: threading.Thread(target=time.sleep, args=(600,), daemon=True).start())
        case "children":
            each(1 / int(rest), lambda: HOARD.append(subprocess.Popen(["/bin/sleep", "600"])))
        case "zombies":
            for _ in range(int(rest)):
                if os.fork() == 0:
                    os._exit(0)
        case "silent":
            State.silent = set(rest.split())
        case "scale":
            State.scale = float(rest)
        case "value":
            State.value = float(rest)
        case "write":
            threading.Thread(target=to_disk, args=(rest,), daemon=True).start()
        case "write-main":
            State.work.append(lambda: to_disk(rest))
        case "well":
            State.mute = State.deaf = False
            State.silent, State.scale, State.value = set(), 1.0, None
        case _:
            print(f"specimen: no such word {word}", flush=True)


def orders() -> None:
    """Take what stands in the order file, for ever."""
    path = ORDERS / f"{NAME}.order"
    while True:
        try:
            text = path.read_text()
            path.unlink()
        except OSError:
            text = ""
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            obey(word, rest)
        time.sleep(0.05)


def at_start() -> None:
    """A fault that is there at each start."""
    try:
        word = (ORDERS / f"{NAME}.always").read_text().strip()
    except OSError:
        return
    if word.startswith("needs"):
        try:
            socket.create_connection(("127.0.0.1", NEEDS_PORT), timeout=1).close()
        except OSError as fault:
            sys.exit(f"ERROR cannot reach the historian: {fault}")
    elif word.startswith("full"):
        try:
            to_disk(f"{word.split()[1]}/{NAME}.part")
        except OSError as fault:
            sys.exit(f"ERROR cannot write: {fault}")
    elif word == "never":
        time.sleep(600)
    elif word.startswith("exit"):
        sys.exit(f"ERROR fatal: cannot go on ({word})")


def reading(at: float, base: float) -> float:
    if State.value is not None:
        return State.value
    return (base + (int(at * 10) * 7919 % 97) / 50) * State.scale


def main() -> None:
    pathlib.Path("/proc/self/comm").write_text(NAME[:15])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.environ.get("SPECIMEN_FAULT") == "crash":
        sys.exit("ERROR calibration table missing")
    State.deaf = os.environ.get("SPECIMEN_FAULT") == "sick"
    config = json.loads(pathlib.Path(os.environ["EDGEHEAL_CONFIG"]).read_text())
    period_s = float(config["period_s"])
    at_start()
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(target=orders, daemon=True).start()
    say("READY=1")
    while True:
        now = time.monotonic()
        lines = [f"{name} {reading(now, base):.2f}" for name, base in (("temperature", 20.0), ("pressure", 990.0), ("flow", 12.0)) if name not in State.silent]
        if lines:
            tell("\n".join(lines))
        while State.work:
            State.work.pop()()
        if not State.mute:
            say("WATCHDOG=1")
        time.sleep(period_s)


main()
