# SPDX-License-Identifier: Apache-2.0
"""Faults of the box: disks, memory, pressure, limits, heat, supply, buses, clock, network, EdgeHeal itself. See `signals_faults`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from signals_device import Device, monotonic_ns
from signals_faults import Fault, fault
from signals_world import ISP, run

USB = ("usb 1-1.2: reset full-speed USB device number 7 using xhci_hcd",)
TASK = ("INFO: task kworker/u4:1:233 blocked for more than 120 seconds.",)
LOCKUP = ("watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [kworker/1:1:1234]",)
NIC = ("NETDEV WATCHDOG: eth0 (r8169): transmit queue 0 timed out",)
CALM_LOG_S = 1.1  # equal lines within a second are folded


def _fill(where: int, most: int = 1 << 30) -> Callable[[Device], object]:
    def make(d: Device) -> int:
        with (d.mounts[where] / "fill").open("wb") as file:
            try:
                for _ in range(most >> 16):
                    file.write(b"x" * (1 << 16))
                    file.flush()
            except OSError:
                pass
        return monotonic_ns()

    return make


def _empty(where: int) -> Callable[[Device], object]:
    def mend(d: Device) -> None:
        for path in d.mounts[where].glob("f*"):
            path.unlink()

    return mend


def _inodes(d: Device) -> int:
    for n in range(100_000):
        try:
            (d.mounts[1] / f"f{n}").touch()
        except OSError:
            break
    return monotonic_ns()


def _remount(where: int, how: str) -> Callable[[Device], object]:
    return lambda d: run("mount", "-o", f"remount,{how}", str(d.mounts[where]))


def _full_and_down(d: Device) -> None:
    """An app that must write at its start, a disk that is full, and the app ends."""
    _fill(0)(d)
    d.always("meter", f"full {d.mounts[0]}")
    d.stage.on_device("restart", "meter", check=False)


def _full_over(d: Device) -> None:
    _empty(0)(d)
    d.always("meter", "")


def _bogus(d: Device) -> None:
    """Look at the file whose inode is damaged: the kernel finds the file system in error, and makes it read-only."""
    for path in d.mounts[2].iterdir():
        try:
            path.stat()
        except OSError:
            continue


def _bad_medium(d: Device) -> None:
    """Write to a device whose backing has no more room: the kernel reports errors of the medium."""
    device = "/dev/" + d.world.loops[-1].removeprefix("/dev/")
    for n in range(6):
        run("dd", "if=/dev/zero", f"of={device}", "bs=1M", "count=1", f"seek={4 + n}", "oflag=direct", check=False)
        time.sleep(CALM_LOG_S)


def _mute(d: Device) -> None:
    where, server = d.world.mute_mount("far")
    d.__dict__["far"] = (where, server)


def _answers(d: Device) -> None:
    where, server = d.__dict__.pop("far")
    server.kill()
    server.wait()
    server.stdout.close()
    run("umount", "-l", str(where), check=False)


def _crowd(d: Device) -> int:
    """Bring the tasks of this pid namespace to its limit."""
    tasks = lambda: int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])  # noqa: E731
    d.__dict__["crowd"] = [subprocess.Popen(["sleep", "1000"]) for _ in range(max(20, 290 - tasks()))]
    Path("/proc/sys/kernel/pid_max").write_text(str(max(301, tasks() + 15)))
    return monotonic_ns()


def _crowd_over(d: Device) -> None:
    Path("/proc/sys/kernel/pid_max").write_text("32768")
    for one in d.__dict__.pop("crowd"):
        one.kill()
        one.wait()


def _figure(name: str, text: str) -> tuple[Callable[[Device], object], Callable[[Device], object]]:
    return (lambda d: d.world.figure(name, text)), (lambda d: d.world.calm(name))


def _kernel(lines: tuple[str, ...], times: int = 1, level: int = 4) -> Callable[[Device], object]:
    def make(d: Device) -> None:
        for n in range(times):
            time.sleep(CALM_LOG_S if n else 0)
            d.world.kernel_says(*lines, level=level)

    return make


def _weak_supply(d: Device) -> None:
    """One supply, four broken apps: the kernel's word comes first."""
    d.world.kernel_says("hwmon hwmon1: Undervoltage detected!")
    time.sleep(0.4)
    pids = {row["app"]: row["pid"] for row in d.rows()}
    d.world.kernel_says("usb 1-1.2: USB disconnect, device number 11")
    for app in ("meter", "camera", "logger", "historian"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[app], signal.SIGBUS)
        time.sleep(0.1)


def _strong_supply(d: Device) -> None:
    d.world.kernel_says("hwmon hwmon1: Voltage normalised")


def _worn(d: Device) -> None:
    d.world.wear("0x0b 0x03")
    d.stage.programs["agent"].end()
    d.start_agent()


def _new(d: Device) -> None:
    d.world.wear("0x02 0x01")
    d.stage.programs["agent"].end()
    d.start_agent()


def _dns_gone(d: Device) -> None:
    d.world.resolve(False)
    d.broker(False)
    d.broker(True)


def _dns_back(d: Device) -> None:
    d.world.resolve(True)
    d.online()


def _broker_back(d: Device) -> None:
    d.broker(False)
    d.broker(True)
    d.online()


def _garbage(d: Device) -> None:
    path = d.stage.root / "etc/edgeheal/edgeheal.toml"
    path.write_text(path.read_text().replace('link_down = "3s"', 'link_down = "3ss"'))
    d.stage.programs["agent"].process.send_signal(signal.SIGHUP)


def _config_back(d: Device) -> None:
    d.configure()
    d.stage.programs["agent"].process.send_signal(signal.SIGHUP)


def _guard_killed(d: Device) -> int:
    at_ns = monotonic_ns()
    d.stage.programs["guard"].kill()
    return at_ns


def _fail_agent(d: Device) -> None:
    """The kernel finds the file system of the agent's own folder in error, and makes it read-only."""
    device = next(line.split()[0] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1] == str(d.mounts[3]))
    Path(f"/sys/fs/ext4/{device.removeprefix('/dev/')}/trigger_fs_error").write_text("signals bench")
    d.kill("camera", signal.SIGFPE)  # something to write down


def _freeze_agent(d: Device) -> None:
    run("fsfreeze", "-f", str(d.mounts[3]))
    d.kill("camera", signal.SIGILL)  # something to write down


def _twin(d: Device) -> None:
    """A second device says its birth under our name."""
    script = (
        "import paho.mqtt.client as m, time\n"
        "from edgeheal.wire import birth, topics\n"
        "c = m.Client(m.CallbackAPIVersion.VERSION2, client_id='a-twin', protocol=m.MQTTv5)\n"
        f"c.connect('{ISP}', {d.stage.port})\nc.loop_start()\ntime.sleep(0.5)\n"
        f"topic = topics.of('{d.stage.tenant}', '{d.stage.device}', topics.UP_STATE)\n"
        "c.publish(topic, birth.encode(birth.Birth(b'twin-1', hardware=b'other hw')), 1, True).wait_for_publish(5)\n"
    )
    subprocess.run([sys.executable, "-c", script], env=d.stage.environment(), check=True, timeout=30)


def _silent_broker(d: Device) -> int:
    d.stage.programs["broker"].process.send_signal(signal.SIGSTOP)
    return monotonic_ns()


LINK = 30.0
BOX_FAULTS: tuple[Fault, ...] = (
    fault("a disk runs full", "", "DISK_SPACE", "DISK_FULL", _fill(0), _empty(0), subject="media"),
    fault("an app ends since the disk is full", "", "DISK_SPACE", "DISK_FULL", _full_and_down, _full_over, subject="media", apps=("meter",), takes=("meter",), settle_s=2.0),
    fault("inodes run out", "", "DISK_INODES", "DISK_FULL", _inodes, _empty(1), subject="many"),
    fault("a disk is made read-only", "", "DISK_READONLY", "DISK_FAULT", _remount(0, "ro"), _remount(0, "rw"), subject="media"),
    fault("a file system finds itself damaged", "", "DISK_ERRORS", "DISK_FAULT", _bogus, subject="loop"),
    fault("a medium does not take what is written", "", "DISK_ERRORS", "DISK_FAULT", _bad_medium, subject="loop"),
    fault("a mount answers nobody", "", "MOUNT_HANG", "DEVICE_IO", _mute, _answers, subject="far"),
    fault("the box runs out of memory", "", "HOST_MEMORY", "HOST_MEMORY", *_figure("meminfo", "MemTotal: 2000000 kB\nMemFree: 20000 kB\nMemAvailable: 60000 kB\n")),
    fault("everything waits for the disk", "", "HOST_PRESSURE", "HOST_LOAD", *_figure("pressure/io", "some avg10=92.00 avg60=60.0 avg300=20.0 total=9\nfull avg10=88.00 avg60=50.0 avg300=10.0 total=9\n")),
    fault("the box runs out of descriptors", "", "HOST_FDS", "APP_DESCRIPTORS", *_figure("sys/fs/file-nr", "97000\t0\t100000\n")),
    fault("the box runs out of pids", "", "HOST_PIDS", "APP_THREADS", _crowd, _crowd_over),
    fault("too hot", "", "TEMPERATURE", "THERMAL", lambda d: d.world.temperature(99.0), lambda d: d.world.temperature(51.0), subject="cpu"),
    fault("slowed down by its firmware", "", "TEMPERATURE", "THERMAL", lambda d: d.world.throttled(0x4), lambda d: d.world.throttled(0)),
    fault("a USB port resets again and again", "", "USB_RESET", "BUS", _kernel(USB, 3), subject="1-1.2"),
    fault("tasks wait for minutes in the kernel", "", "KERNEL_FAULT", "DEVICE_IO", _kernel(TASK, 3)),
    fault("a processor is stuck in the kernel", "", "KERNEL_FAULT", "KERNEL", _kernel(LOCKUP, 2), subject="CPU"),
    fault("a network chip stops sending", "", "KERNEL_FAULT", "BUS", _kernel(NIC, 2), subject="eth0"),
    fault("flash at the end of its life", "", "FLASH_WEAR", "DISK_FAULT", _worn, _new, subject="mmcblk0"),
    fault("somebody sets a trusted clock by an hour", "", "CLOCK_STEP", "CLOCK", lambda d: d.world.clock(offset_s=3600), lambda d: d.world.clock(offset_s=0)),
    fault("nobody sets the clock any more", "", "CLOCK_UNTRUSTED", "CLOCK", lambda d: d.world.clock(synchronised=False), lambda d: d.world.clock(synchronised=True)),
    fault("the cable is pulled", "", "CARRIER", "NETWORK", lambda d: d.world.carrier(False), lambda d: d.world.carrier(True), limit_s=LINK),
    fault("the lease is gone", "", "ADDRESS", "NETWORK", lambda d: d.world.no_address(), lambda d: d.world.address(), limit_s=LINK),
    fault("no way out", "", "ROUTE", "NETWORK", lambda d: d.world.no_route(), lambda d: d.world.route(), limit_s=LINK),
    fault("names do not resolve", "", "DNS", "NETWORK", _dns_gone, _dns_back, limit_s=LINK),
    fault("the broker is gone", "", "BROKER", "BROKER", lambda d: d.broker(False), _broker_back, limit_s=LINK),
    fault("the broker takes all and answers nothing", "", "BROKER", "BROKER", _silent_broker, _broker_back, limit_s=LINK),
    fault("a second device under our name", "", "TWIN", "TWIN", _twin, limit_s=LINK),
    fault("a config that is none", "", "CONFIG_BROKEN", "DEVICE_CONFIG", _garbage, _config_back),
    fault("the guard is killed", "", "GUARD_LOST", "GUARD", _guard_killed, lambda d: d.stage.programs["guard"].again()),
    fault("the agent's own medium does not answer", "", "AGENT_SELF", "DEVICE_IO", _freeze_agent, lambda d: run("fsfreeze", "-u", str(d.mounts[3])), apps=("camera",), limit_s=30),
    fault("the firmware sees a weak supply", "", "UNDERVOLTAGE", "SUPPLY", lambda d: d.world.throttled(0x1), lambda d: d.world.throttled(0)),
    fault("five symptoms, one weak supply", "", "UNDERVOLTAGE", "SUPPLY", _weak_supply, _strong_supply, apps=("meter", "camera", "logger", "historian"),
          takes=("meter", "camera", "logger", "historian"), settle_s=5.0),
    fault("the agent's own medium fails and turns read-only", "", "AGENT_SELF", "DISK_FAULT", _fail_agent, settle_s=2.0, limit_s=30),
)  # fmt: skip
