# SPDX-License-Identifier: Apache-2.0
"""Boxes with an init system of their own, one a module; and an app that shows what the guard's unit lets it do."""

import shutil
import tempfile
import time
from pathlib import Path

import pytest

from tests.lab import box as lab

NET_APP = '''\
"""Serves and asks over TCP on the loopback, resolves over UDP's socket, runs code out of memory that is writable and executable; then lives."""
import ctypes, mmap, os, signal, socket, sys, time
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
data = os.environ["EDGEHEAL_DATA"]
server = socket.create_server(("127.0.0.1", 0))
peer = socket.create_connection(server.getsockname())
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
if os.uname().machine == "x86_64":
    code.write(bytes.fromhex("b82a000000c3"))  # mov eax, 42; ret
    assert ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() == 42
with open(f"{data}/proved", "w") as file:
    file.write("network, writable and executable memory\\n")
while not stopped:
    time.sleep(0.2)
with open(f"{data}/ended-in-order", "a") as file:
    file.write("x")
'''
PLAIN_APP = '#!/bin/sh\nwhile :; do date > "$EDGEHEAL_DATA/last"; sleep 1; done\n'
IMAGE = """\
app = "{app}"
version = "1.0"
security_counter = 1
device = ["lab"]
soak_s = 5
[run]
argv = {argv}
stop_ms = 3000
network = {network}
"""
CONFIG = """\
[device]
id = "lab-1"
classes = ["lab"]
[apps.net]
actuates = true
[apps.plain]
[guard]
soak_min = "5s"
interpreters = ["/usr/bin/python3"]
"""


@pytest.fixture(scope="module")
def folder():
    """On a disk: the layers of a box do not belong on a tmpfs."""
    made = Path(tempfile.mkdtemp(prefix="edgeheal-box-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def furnish(box: lab.Box) -> None:
    """Keys, trust, config and two images, made by the shipped commands, in a box in which EdgeHeal is installed."""
    to = box.root / "root/apps"
    for app, name, text, argv, network in (
        ("net", "net.py", NET_APP, '["/usr/bin/python3", "-I", "net.py"]', "true"),
        ("plain", "plain.sh", PLAIN_APP, '["plain.sh"]', "false"),
    ):
        (to / app / "files").mkdir(parents=True)
        (to / app / "files" / name).write_text(text)
        (to / app / "files" / name).chmod(0o755)
        (to / app / "image.toml").write_text(IMAGE.format(app=app, argv=argv, network=network))
    (box.root / "etc/edgeheal/edgeheal.toml").write_text(CONFIG)
    for point, text in (("safe-state", 'echo "$EDGEHEAL_APP" >> /var/lib/made-safe'), ("safe-state-check", 'grep -q "$EDGEHEAL_APP" /var/lib/made-safe')):
        hook = box.root / f"etc/edgeheal/hooks/{point}.d/10-lab"
        hook.parent.mkdir(parents=True)
        hook.write_text(f"#!/bin/sh\n{text}\n")
        hook.chmod(0o755)
    box.sh(
        "set -e; cd /root/apps; mkdir -p /usr/share/edgeheal/trust; edgeheal key new --role root -o root.key; edgeheal key new --role release -o release.key;"
        "edgeheal key trust --root-key root.key --release release.key -o /usr/share/edgeheal/trust/00001.eht;"
        "for a in net plain; do edgeheal image build $a --key release.key -o $a.ehi; done; edgeheal config check"
    )


def install_images(box: lab.Box) -> None:
    """Both apps, until they are known good."""
    for app in ("net", "plain"):
        box.sh(f"edgeheal image install /root/apps/{app}.ehi")
    box.until(lambda: box.sh("edgeheal image list").count("good") >= 2, 60, "both images to be known good")


def pids(box: lab.Box) -> dict[str, str]:
    """Pid of each app's process, in the box, with its start time."""
    found = {}
    for app, word in (("net", "net[.]py"), ("plain", "plain[.]sh")):
        found[app] = box.sh(f"pgrep -f '{word}' | head -1 | while read p; do echo $p $(cut -d' ' -f22 /proc/$p/stat); done").strip()
    assert all(found.values()), found
    return found


def both_run(box: lab.Box) -> bool:
    """Whether both apps run now."""
    return box.ok("pgrep -f 'net[.]py' >/dev/null && pgrep -f 'plain[.]sh' >/dev/null")


def settle(seconds: float) -> None:
    """Let something not happen for so long."""
    time.sleep(seconds)
