# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from drive import drive

from edgeheal.adapters.blocking import Workers
from edgeheal.adapters.host.board import Board
from edgeheal.adapters.host.disks import Disks
from edgeheal.adapters.host.load import Load, meminfo, pressure
from edgeheal.adapters.host.network import Network
from edgeheal.adapters.host.source import Host
from edgeheal.adapters.host.wall import Wall
from edgeheal.agent.assembly import mounts_of
from edgeheal.config.schema import Config
from edgeheal.core import host_metrics as names
from edgeheal.core.signal import HostSample, LinkIs
from edgeheal.core.version import BUILT_S


def figures(out):
    return {s.metric: s.value for s in out if isinstance(s, HostSample) and s.verdict == 1}


class Now(Workers):
    """Answers at once, in the caller's thread: for parts whose threads are not what is tested."""

    def ask(self, key, call, answer):
        try:
            answer(call())
        except OSError as fault:
            answer(fault)
        return True


def test_the_real_box_tells_its_figures_under_their_fixed_names(tmp_path):
    out, workers = [], Workers()
    host = Host(out.append, workers, {"var": str(tmp_path)}, time.monotonic_ns)
    assert drive(host, workers, until=lambda: f"{names.DISK_FREE}:var" in figures(out))
    told = figures(out)
    assert {names.split(metric)[0] for metric in told} <= names.PLAIN | names.SUBJECTS
    assert 0 < told[names.MEMORY_FREE] <= 1000
    assert 0 < told[f"{names.DISK_FREE}:var"] <= 1000
    assert told[f"{names.DISK_READONLY}:var"] == 0
    assert names.CLOCK_TRUSTED in told
    assert {s.layer for s in out if isinstance(s, LinkIs)} == {"carrier", "address", "route"}
    assert host.due() > time.monotonic_ns() + 5_000_000_000
    host.close()


def test_fc_sto_3_a_mount_that_does_not_answer_is_told_as_silent_and_all_else_goes_on():
    out, workers, back, calls = [], Workers(), threading.Event(), []

    def statvfs(path):
        calls.append(path)
        if path == "/dead" and not back.is_set():
            back.wait(30)
        return os.statvfs("/" if path == "/dead" else "/dev/shm")

    disks = Disks(out.append, workers, {"dead": "/dead", "good": "/proc"}, time.monotonic_ns, statvfs)
    began = time.monotonic_ns()
    for _ in range(50):
        disks.look(time.monotonic_ns())
    assert (time.monotonic_ns() - began) < 100_000_000  # the loop never waits
    assert drive(workers, until=lambda: f"{names.DISK_FREE}:good" in figures(out))
    due = disks.due(began)
    assert began < due < began + 6_000_000_000
    disks.look(due + 60_000_000_000)
    assert drive(workers, until=lambda: not workers.stuck_ns("disk:good"))
    assert 60 <= figures(out)[f"{names.MOUNT_SILENT}:dead"] <= 66
    assert disks.due(due) == 0
    assert calls.count("/dead") == 1
    back.set()
    assert drive(workers, until=lambda: figures(out).get(f"{names.MOUNT_SILENT}:dead") == 0)
    assert f"{names.DISK_FREE}:dead" in figures(out)


FUSE = r"""
import os, struct, sys, time
fd = os.open("/dev/fuse", os.O_RDWR)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
opts = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"never", sys.argv[1].encode(), b"fuse", 0, opts):
    sys.exit(3)
req = os.read(fd, 1 << 17)
uniq = struct.unpack_from("<Q", req, 8)[0]
body = struct.pack("<IIIIHHIIHHIIIIIIII", 7, 31, 0, 0, 12, 12, 65536, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)[:64].ljust(64, b"\0")
os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, uniq) + body)
print("up", flush=True)
while True:
    os.read(fd, 1 << 17)  # takes each request and never answers
"""


@pytest.mark.root
def test_fc_sto_3_a_real_mount_whose_server_never_answers_leaves_the_loop_quick(tmp_path):
    if os.getuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("needs root and /dev/fuse")
    mount = tmp_path / "m"
    mount.mkdir()
    server = subprocess.Popen([sys.executable, "-c", FUSE, str(mount)], stdout=subprocess.PIPE, text=True)
    try:
        if server.stdout.readline() != "up\n":
            pytest.skip("cannot mount FUSE here")
        out, workers = [], Workers()
        disks = Disks(out.append, workers, {"foreign": str(mount), "root": "/"}, time.monotonic_ns)
        longest = 0
        for _ in range(100):
            began = time.monotonic_ns()
            disks.look(began)
            longest = max(longest, time.monotonic_ns() - began)
        assert longest < 50_000_000
        assert drive(workers, until=lambda: f"{names.DISK_FREE}:root" in figures(out))
        assert workers.stuck_ns("disk:foreign")
        assert workers.threads() <= 2
        server.kill()
        assert drive(workers, until=lambda: any(s.verdict == 2 for s in out))  # the server is gone: an error, and the worker is free
        assert workers.stuck_ns("disk:foreign") == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        subprocess.run(["umount", "-l", mount], capture_output=True, check=False)


@pytest.mark.root
def test_a_full_and_a_read_only_disk_and_their_end_are_told(tmp_path):
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=100", "t", tmp_path], capture_output=True).returncode:
        pytest.skip("needs root to mount a tmpfs")
    try:
        out = []
        disks = Disks(out.append, Now(), {"data": str(tmp_path)}, time.monotonic_ns)
        (tmp_path / "fill").write_bytes(b"x" * (8 << 20))
        disks.look(1)
        assert figures(out)[f"{names.DISK_FREE}:data"] == 0
        os.unlink(tmp_path / "fill")
        for n in range(95):
            (tmp_path / f"f{n}").touch()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        disks.look(2)
        told = figures(out)
        assert told[f"{names.DISK_FREE}:data"] > 900
        assert told[f"{names.DISK_INODES}:data"] < 100
        assert told[f"{names.DISK_READONLY}:data"] == 1
    finally:
        subprocess.run(["umount", tmp_path], check=False)


def test_roots_reserve_is_neither_free_nor_full():
    out = []
    stat = os.statvfs_result((4096, 4096, 1000, 100, 50, 0, 0, 0, 0, 255))
    Disks(out.append, Now(), {"d": "/"}, time.monotonic_ns, lambda _: stat).look(1)
    assert figures(out)[f"{names.DISK_FREE}:d"] == pytest.approx(50 * 1000 / 950)
    assert f"{names.DISK_INODES}:d" not in figures(out)  # a file system without a fixed number has no such figure


def test_two_folders_on_one_file_system_are_one_figure(tmp_path):
    out = []
    disks = Disks(out.append, Now(), {"var": str(tmp_path), "data": str(tmp_path), "proc": "/proc"}, time.monotonic_ns)
    disks.look(1)
    disks.look(2)
    assert f"{names.DISK_FREE}:var" in figures(out)
    assert f"{names.DISK_FREE}:data" not in figures(out)


def test_a_folder_that_cannot_be_asked_is_unknown_not_empty():
    out = []
    Disks(out.append, Now(), {"d": "/no/such"}, time.monotonic_ns).look(1)
    assert [(s.metric, s.verdict) for s in out] == [(f"{names.DISK_FREE}:d", 2)]


def test_memory_and_pressure_are_read_as_the_kernel_writes_them(tmp_path):
    (tmp_path / "pressure").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 250 kB\nSwapTotal: 100 kB\nSwapFree: 40 kB\n")
    (tmp_path / "pressure/memory").write_text("some avg10=12.34 avg60=0.00 avg300=0.00 total=1\nfull avg10=5.00 avg60=0.00 avg300=0.00 total=1\n")
    (tmp_path / "loadavg").write_text("4.00 1.00 0.50 2/250 12345\n")
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/pid_max").write_text("1000\n")
    (tmp_path / "sys/kernel/threads-max").write_text("500\n")
    out = []
    load = Load(out.append, str(tmp_path))
    load.look()
    load.look()
    told = figures(out)
    assert told[names.MEMORY_FREE] == 250
    assert told[names.SWAP_FREE] == 400
    assert told[names.PRESSURE_MEMORY] == pytest.approx(123.4)
    assert told[names.STALL_MEMORY] == pytest.approx(50)
    assert names.PRESSURE_IO not in told
    assert told[names.HOST_PIDS] == 500
    assert told[names.LOAD] == pytest.approx(4000 / (os.cpu_count() or 1))
    load.close()
    assert meminfo(b"x\nA: b\nB: 7 kB\n") == {"B": 7}
    assert pressure(b"") == {}


def test_unreadable_memory_is_unknown(tmp_path):
    out = []
    Load(out.append, str(tmp_path)).look()
    assert [(s.metric, s.verdict) for s in out] == [(names.MEMORY_FREE, 2)]


def board_of(tmp_path, files):
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    out = []
    board = Board(out.append, Now(), str(tmp_path))
    return board, out


def test_temperature_supply_throttling_and_wear_are_read_where_a_board_has_them(tmp_path):
    board, out = board_of(
        tmp_path,
        {
            "class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "class/thermal/thermal_zone0/temp": "51234\n",
            "class/thermal/thermal_zone0/trip_point_0_type": "critical\n",
            "class/thermal/thermal_zone0/trip_point_0_temp": "110000\n",
            "class/thermal/thermal_zone1/type": "cpu-thermal\n",
            "class/thermal/thermal_zone1/temp": "-5000\n",
            "class/thermal/thermal_zone2/type": "broken\n",
            "devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "block/mmcblk0/device/life_time": "0x02 0x0b\n",
            "block/mmcblk0boot0/device/life_time": "0x01 0x01\n",
            "block/sda/device/life_time": "0x01\n",
        },
    )
    board.look()
    told = figures(out)
    assert told == {
        "temperature_c:cpu-thermal": 51.234, "temperature_c:cpu-thermal2": -5.0, "undervoltage": 1, "throttled": 1, "flash_wear_permille:mmcblk0": 1100,
    }  # fmt: skip
    assert {s.limit for s in out if s.metric == "temperature_c:cpu-thermal"} == {110.0}


def test_a_board_without_sensors_is_silent_and_a_hwmon_supply_is_found(tmp_path):
    board, out = board_of(tmp_path, {})
    board.look()
    assert out == []
    board, out = board_of(tmp_path, {"class/hwmon/hwmon1/name": "rpi_volt\n", "class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"})
    board.look()
    assert figures(out) == {"undervoltage": 1}


def test_a_card_whose_spare_blocks_are_nearly_used_up_is_worn_whatever_its_life_time_says(tmp_path):
    card = "block/mmcblk1/device"
    for spare, permille in (("0x01", 100.0), ("0x02", 910.0), ("0x03", 1_000.0)):
        board, out = board_of(tmp_path / spare, {f"{card}/life_time": "0x01 0x01\n", f"{card}/pre_eol_info": f"{spare}\n"})
        board.look()
        assert figures(out) == {"flash_wear_permille:mmcblk1": permille}


def test_any_rail_below_what_the_chip_can_live_with_is_a_weak_supply(tmp_path):
    alarms = {"class/hwmon/hwmon0/in3_lcrit_alarm": "0\n", "class/hwmon/hwmon1/in1_lcrit_alarm": "1\n", "class/hwmon/hwmon2/in0_min_alarm": "1\n"}
    board, out = board_of(tmp_path / "low", alarms)
    board.look()
    assert figures(out) == {"undervoltage": 1}
    board, out = board_of(tmp_path / "well", {**alarms, "class/hwmon/hwmon1/in1_lcrit_alarm": "0\n"})
    board.look()
    assert figures(out) == {"undervoltage": 0}


def wall_of(out, wall, synced):
    return Wall(out.append, lambda: synced[0], lambda: wall[0], "/no/such/mark")


def test_a_step_of_the_clock_is_told_and_a_slew_is_not():
    out, wall, synced = [], [time.time_ns()], [True]
    clock = wall_of(out, wall, synced)
    clock.look()
    wall[0] += 900_000_000
    clock.look()
    assert names.CLOCK_STEP not in figures(out)
    wall[0] -= 3600 * 10**9
    clock.look()
    assert figures(out)[names.CLOCK_STEP] == pytest.approx(-3600, abs=1)


def test_a_clock_before_our_own_build_is_never_trusted():
    out, wall, synced = [], [90 * 10**9], [True]
    clock = wall_of(out, wall, synced)
    clock.look()
    clock.look()
    assert [s.value for s in out if s.metric == names.CLOCK_TRUSTED] == [0.0]
    wall[0] = (BUILT_S + 5) * 10**9
    clock.look()
    assert figures(out)[names.CLOCK_TRUSTED] == 1
    synced[0] = False
    clock.look()
    assert figures(out)[names.CLOCK_TRUSTED] == 0


NS_SCRIPT = r"""
import subprocess, sys, time
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from drive import drive
from edgeheal.adapters.host.network import Network
class N(Network):
    def fds(self): return {self.fd(): self.mask()}
    def ready(self, fd, ev): self.heard()
    def due(self): return self.due_ns
    def tick(self, now): self.look(now)
def ip(*a): subprocess.run(["ip", *a], check=True)
out = []
n = N(out.append, time.monotonic_ns)
n.tick(time.monotonic_ns())
ups = lambda: {s.layer: s.up for s in out}
assert ups() == {"carrier": False, "address": False, "route": False}, ups()
ip("link", "add", "wwan0", "type", "veth", "peer", "name", "far0"); ip("link", "set", "far0", "up"); ip("link", "set", "wwan0", "up")
assert drive(n, until=lambda: ups()["carrier"], seconds=5), "carrier"
assert not ups()["address"]
ip("addr", "add", "192.0.2.7/24", "dev", "wwan0")
assert drive(n, until=lambda: ups()["address"], seconds=5), "address"
ip("route", "add", "default", "via", "192.0.2.1")
assert drive(n, until=lambda: ups()["route"], seconds=5), "route"
count = len(out)
ip("route", "replace", "default", "via", "192.0.2.9")
assert drive(n, until=lambda: len(out) > count, seconds=5), "a new route is told again"
assert out[-1].layer == "route" and out[-1].up
ip("link", "set", "far0", "down")
assert drive(n, until=lambda: not ups()["carrier"], seconds=5), "no carrier"
print("ok")
"""


@pytest.mark.root
def test_carrier_address_and_route_are_told_apart_as_they_come_and_go(tmp_path):
    if os.getuid() != 0 or subprocess.run(["unshare", "-nm", "true"], capture_output=True).returncode:
        pytest.skip("needs root and network namespaces")
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    script = f"mount -t sysfs none /sys && exec {sys.executable} -c '{NS_SCRIPT}' {root} {os.path.dirname(os.path.abspath(__file__))}"
    if subprocess.run(["ip", "-V"], capture_output=True).returncode:
        pytest.skip("no ip tool here")
    done = subprocess.run(["unshare", "-nm", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "ok\n", done.stderr


def test_an_address_on_a_bridge_over_a_real_port_counts_and_a_containers_bridge_does_not(tmp_path):
    net = tmp_path / "class/net"
    for name in ("eth0/device", "br0", "docker0", "veth1", "lo"):
        (net / name).mkdir(parents=True)
    (net / "br0/lower_eth0").touch()
    (net / "docker0/lower_veth1").touch()
    network = Network(lambda _: None, time.monotonic_ns, sysfs=str(tmp_path))
    assert network._outward() == ["br0", "eth0"]
    network.close()


def test_further_mounts_of_the_config_are_watched_under_their_path():
    config = replace(Config(), sampling=replace(Config().sampling, mounts=("/media/usb", "/")))
    assert mounts_of(config) == {"media/usb": "/media/usb", "root": "/"}
