# SPDX-License-Identifier: Apache-2.0
"""The app of the chaos bench: it keeps the truth about its own starts, whoever started it.

Duty: at its start take a lock that only one run can hold and append "START pid ticks" to its log (or "DOUBLE pid ticks" when another run holds
it), say READY, then one heartbeat a second. SIGUSR1: end with 1. Nothing of it comes from the product.
"""

import fcntl
import os
import signal
import socket
import sys
import time


def ticks(pid):
    """Start ticks of a process: with its pid, its identity."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def main(truth):
    """Run until something ends it."""
    lock = os.open(truth + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    log = os.open(truth + ".log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        word = "START"
    except BlockingIOError:
        word = "DOUBLE"
    os.write(log, f"{word} {os.getpid()} {ticks(os.getpid())}\n".encode())
    if word == "DOUBLE":
        return 3
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(1))
    say = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    word = b"READY=1"
    while True:
        try:
            say.sendto(word, os.environ["NOTIFY_SOCKET"])
            word = b"WATCHDOG=1"
        except OSError:
            pass  # no guard just now: the next one is heard
        time.sleep(1.0)


sys.exit(main(sys.argv[1]))
