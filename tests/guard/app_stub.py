# SPDX-License-Identifier: Apache-2.0
"""The app stub of the field cases: `app_stub.py KEY=VALUE ...`, each a switch; it logs "pid" lines to $EDGEHEAL_DATA/log.

sleep_ms=N before anything   exit=N after   after_ms=N lifetime (0: for ever)   port=N listen   helper=1 fork a setsid child that keeps the port
beat_ms=N WATCHDOG=1   ready_ms=N READY=1 after   hup=ignore|after:N|reload   term=ignore   say=text STATUS   lock=1 one copy only
"""

import fcntl
import os
import signal
import socket
import sys
import time

words = dict(word.split("=", 1) for word in sys.argv[1:])
data = os.environ.get("EDGEHEAL_DATA", "/tmp")


def log(text):
    fd = os.open(f"{data}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, f"{text} {os.getpid()} {time.monotonic_ns()}\n".encode())
    os.close(fd)


def tell(text):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.sendto(text.encode(), path)
        except ConnectionRefusedError:
            log("unheard")  # no guard is there
        sock.close()


if words.get("lock"):
    held = os.open(f"{data}/lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log("doubled")
        sys.exit(99)
if words.get("term") == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if words.get("hup") == "ignore":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
elif words.get("hup") == "reload":
    signal.signal(signal.SIGHUP, lambda *_: log("reloaded"))
time.sleep(int(words.get("sleep_ms", 0)) / 1000)
port = None
if "port" in words:
    port = socket.socket(socket.AF_INET6 if words.get("six") else socket.AF_INET)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        port.bind(("127.0.0.1", int(words["port"])))
    except OSError:
        log("in-use")
        sys.exit(1)
    port.listen(1)
if words.get("helper"):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            log("helper")
            signal.signal(signal.SIGTERM, signal.SIG_IGN if words["helper"] == "stubborn" else signal.SIG_DFL)
            time.sleep(600)
        os._exit(0)
    os.wait()
log("up")
if words.get("hup", "").startswith("after:"):
    time.sleep(int(words["hup"][6:]) / 1000)
    signal.signal(signal.SIGHUP, lambda *_: log("reloaded"))
if "ready_ms" in words:
    time.sleep(int(words["ready_ms"]) / 1000)
    tell("READY=1")
for text in words.get("say", "").split(";"):
    if text:
        tell(text.replace("%PID", str(os.getpid())))
print("hello from the stub", flush=True)
end = time.monotonic() + int(words["after_ms"]) / 1000 if "after_ms" in words else float("inf")
beat = int(words.get("beat_ms", 0)) / 1000
stop = os.path.join(data, "mute")
while time.monotonic() < end:
    if beat and not os.path.exists(stop):
        tell("WATCHDOG=1")
    time.sleep(min(beat or 0.2, max(0.0, end - time.monotonic())) if end != float("inf") else beat or 600)
log("down")
sys.exit(int(words.get("exit", 0)))
