# SPDX-License-Identifier: Apache-2.0
"""Hostile apps of the hostile bench: each a real app on a real guard, beside a calm one that must not feel it.

Duty: `cases()` -> name: "" when it was contained, else what escaped. Part of bench/hostile.py; needs root.
"""

import ctypes
import os
import shutil
import tempfile
import time
from pathlib import Path

from monitor_box import APART, Box, image, until

from edgeheal.core import reasons
from edgeheal.wire import guard_frames as f

APPS = ("calm", "silent", "racer", "pipes", "forger", "storm", "flood", "full", "passer", "prober")
HEAD = """
import array, os, pathlib, signal, socket, sys, time
here = pathlib.Path(os.environ["EDGEHEAL_DATA"])
def note(name, text="x"):
    (here / name).write_text(text)
def say(words, path=None, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(path or os.environ["NOTIFY_SOCKET"])
        sock.sendmsg([words.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
note("up", str(os.getpid()))
"""
SLEEP = "\nwhile True:\n    signal.pause()\n"
CODE = {
    "calm": SLEEP,
    "silent": SLEEP,
    "racer": """
(here / "etc").mkdir(exist_ok=True)
while True:
    try:
        os.rename(here / "etc", here / "was")
        os.symlink(os.environ["VICTIM"], here / "etc")
        os.unlink(here / "etc")
        os.rename(here / "was", here / "etc")
    except OSError:
        pass
""",
    "pipes": """
(here / "etc").mkdir(exist_ok=True)
(here / "etc/app.conf").unlink(missing_ok=True)
os.mkfifo(here / "etc/app.conf")
try:
    os.mknod(here / "null", 0o20666, os.makedev(1, 3))
    note("device")
except OSError:
    pass
note("laid")
""" + SLEEP,
    "forger": """
mine = os.environ["NOTIFY_SOCKET"]
while not (here / "target").exists():
    time.sleep(0.05)
for line in (here / "target").read_text().split():
    try:
        say("READY=1", line)
    except OSError:
        pass
for pid in ("1", str(os.getppid()), (here / "pid").read_text()):
    say("MAINPID=" + pid)
note("forged")
""" + SLEEP,
    "storm": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(30):
    if os.fork() == 0:
        os.setsid()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            time.sleep(0.02)
        os._exit(0)
note("storming")
""" + SLEEP,
    "flood": """
line = b"x" * 4095 + b"\\n"
note("flooding")
while True:
    os.write(1, line * 4)
""",
    "full": """
(here / "big").write_bytes(bytes(3_000_000))
note("filled")
""" + SLEEP,
    "passer": """
for _ in range(60):
    say("STATUS=x", fds=[0, 0, 0, 0])
    time.sleep(0.01)
note("passed")
""" + SLEEP,
    "prober": SLEEP,
}  # fmt: skip
PROBE = "import os, pathlib, time\nos.fork()\npathlib.Path(os.environ['EDGEHEAL_DATA'], f'probe-{os.getpid()}').write_text('x')\ntime.sleep(600)\n"


FLOOD_BYTES = 128 << 20  # of the 0.8 to 1.5 GB that it writes meanwhile
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Yard:
    """The device with all of them."""

    def __init__(self, folder):
        self.folder = folder
        self.victim = folder / "victim"
        self.victim.mkdir()
        self.victim.chmod(0o777)
        (self.victim / "app.conf").write_text("roots")
        (self.victim / "app.conf").chmod(0o666)
        self.box = Box(folder, apps=APPS, users=APART, app_lines='max_size = "2MB"')

    def data(self, app):
        return Path(self.box.layout.app_data(app)) / "1"

    def put(self, app, version="1.0", **fields):
        extra = {"ready": "notify" if app == "silent" else "start", "stop_ms": 500} | fields.pop("extra", {})
        files = {"app.py": ((HEAD + CODE[app]).encode(), False), "probe.py": (PROBE.encode(), False)}
        made = image(version, app=app, files=files, env={"VICTIM": str(self.victim)}, extra=extra, **fields)
        reason = self.box.install(made)
        assert reason == 0, (app, reasons.word(reason), self.box.log.read_text()[-2000:])
        return made

    def wait(self, app, name):
        until((self.data(app) / name).exists, 20, f"{name} of {app}")

    def row(self, app):
        return f.APP_ROW.unpack(self.box.ask(f.STATUS, app=app).rows[0])

    def pid(self, app):
        return self.row(app)[7]

    def set_config(self, app):
        path = self.folder / "new.conf"
        path.write_bytes(b"evil=1")
        with path.open("rb") as file:
            return self.box.ask(f.SET_CONFIG, app=app, fd=file.fileno()).reason


def alive(uid):
    """Processes of a uid that are no zombies."""
    found = []
    for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
        try:
            if os.stat(f"/proc/{pid}").st_uid == uid and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(int(pid))
        except OSError:
            continue
    return found


def symlink_and_rename_races(yard):
    yard.put("racer", config={"path": "etc/app.conf"})
    yard.wait("racer", "up")
    for _ in range(25):
        yard.set_config("racer")
    names = {p.name: p.read_text() for p in yard.victim.iterdir()}
    owned = {p.name for p in yard.victim.iterdir() if p.stat().st_uid == 0}
    return "" if names.get("app.conf") in ("roots", "evil=1") and owned == {"app.conf"} else f"victim's folder: {names}"


def fifo_and_device_files(yard):
    made = yard.put("pipes", config={"path": "etc/app.conf"})
    yard.wait("pipes", "laid")
    yard.box.ask(f.MARK_GOOD, app="pipes", image=made.id)
    return "a device file was made" if (yard.data("pipes") / "device").exists() else ""


def forged_notify(yard):
    yard.put("silent")
    yard.put("forger")
    yard.wait("forger", "up")
    calm, mine = yard.pid("calm"), yard.pid("forger")
    sockets = [str(p) for p in Path(yard.box.layout.run).rglob("*") if p.is_socket() and "forger" not in str(p)]
    (yard.data("forger") / "pid").write_text(str(calm))
    (yard.data("forger") / "target").write_text("\n".join(sockets))
    yard.wait("forger", "forged")
    if yard.row("silent")[15] & f.F_READY:
        return "another app's ready was forged"
    return "" if yard.pid("forger") == mine and yard.pid("calm") == calm else "a foreign process was taken for its own"


def fork_storm(yard):
    yard.put("storm")
    yard.wait("storm", "storming")
    uid = yard.data("storm").stat().st_uid
    yard.box.ask(f.STOP, app="storm")
    left = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in alive(uid) if os.path.exists(f"/proc/{pid}")}
    return f"{len(left)} processes outlived the stop: {left}" if left else ""


def log_flood(yard):
    """On a plain disk, where nothing but the guard bounds it: what the log holds stays a few dozen MB, and the guard answers."""
    yard.put("flood")
    yard.wait("flood", "flooding")
    path, most, end = yard.box.layout.log("flood"), 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        most = max(most, os.stat(path).st_blocks * 512)
        yard.box.ask(f.STATUS)
    yard.box.ask(f.STOP, app="flood")
    return "" if most <= FLOOD_BYTES else f"the log grew to {most} bytes"


def full_quota(yard):
    one = yard.put("full", data={"schema": 1})
    yard.wait("full", "filled")
    until(lambda: yard.box.ask(f.MARK_GOOD, app="full", image=one.id).reason == 0, 10, "mark good")
    two = image("2.0", app="full", data={"schema": 2})
    reason = yard.box.install(two)
    until(lambda: yard.box.phase("full") == f.PHASE_RUNNING, 15, "what ran before")
    return "" if reason == reasons.NO_SPACE and yard.box.running("full") == one.id else f"a copy beyond the quota: {reasons.word(reason)}"


def descriptors_passed_over(yard):
    fds = f"/proc/{yard.box.process.pid}/fd"
    before = len(os.listdir(fds))
    yard.put("passer")
    yard.wait("passer", "passed")
    yard.box.ask(f.STATUS)
    after = len(os.listdir(fds))
    return "" if after - before < 12 else f"the guard holds {after - before} descriptors more"


def probe_that_never_ends(yard):
    argv = ["/usr/bin/python3", "-I", "-S", "probe.py"]
    probe = {"name": "p", "means": "live", "kind": "exec", "target": argv, "every_ms": 1000, "timeout_ms": 300, "misses": 3}
    yard.put("prober", probes=[probe])
    yard.wait("prober", "up")
    answer = yard.box.ask(f.PROBE, app="prober", a=0)
    uid = yard.data("prober").stat().st_uid
    until(lambda: len(alive(uid)) == 1, 5, "the probe's tree to end")
    return "" if answer.reason == reasons.TIMEOUT else f"the probe was answered {reasons.word(answer.reason)}"


def pid_used_again(yard):
    """While the guard is away the app ends and a stranger gets its number."""
    old = yard.pid("calm")
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # we are the init of this device: whom the guard leaves behind is ours to reap
    try:
        yard.box.kill()
        os.kill(old, 9)
        os.waitpid(old, 0)
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(old - 1))
    stranger = os.fork()
    if stranger == 0:
        os.execv("/bin/sleep", ["sleep", "60"])
    try:
        yard.box.start()
        until(lambda: yard.box.phase("calm") == f.PHASE_RUNNING, 15, "calm again")
        spared = os.waitpid(stranger, os.WNOHANG) == (0, 0)
        if stranger != old:
            return f"the case could not be made: {stranger} is not {old}"
        return "" if spared and yard.pid("calm") != stranger else "the stranger was taken for the app"
    finally:
        os.kill(stranger, 9)
        if os.path.exists(f"/proc/{stranger}"):
            os.waitpid(stranger, 0)


CASES = (
    symlink_and_rename_races, fifo_and_device_files, forged_notify, fork_storm, log_flood, full_quota, descriptors_passed_over, probe_that_never_ends,
    pid_used_again,
)  # fmt: skip


def cases(which=CASES):
    """name -> "" or what escaped; after each the calm app runs as it ran, and the guard answers."""
    folder = Path(tempfile.mkdtemp(prefix="yard"))
    folder.chmod(0o755)
    said = {}
    yard = Yard(folder)
    try:
        with yard.box as box:
            box.start()
            yard.put("calm")
            yard.wait("calm", "up")
            for case in which:
                calm = yard.pid("calm")
                try:
                    said[case.__name__] = case(yard)
                except AssertionError as fault:
                    said[case.__name__] = str(fault)[:400]
                if case is not pid_used_again and yard.pid("calm") != calm:
                    said[case.__name__] += f" calm was disturbed: {calm}, now {yard.row('calm')[6:]}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return said
