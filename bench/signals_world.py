# SPDX-License-Identifier: Apache-2.0
"""The world around the device of the signals bench: a network of its own, a board, a kernel log, disks that fail, a clock that jumps.

Duty: make faults of the box for real where this machine can (namespaces, veth, loop devices, FUSE, pid limit), and through files that stand where
the kernel's own would where it cannot (no thermal zone, no eMMC, no USB here). Invariants: everything lives in namespaces of this process
and is gone with it; nothing outside is touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

UPLINK, ISP = "10.9.0.2", "10.9.0.1"
RESOLVER = r"""
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("10.9.0.1", 53))
while True:
    asked, whom = sock.recvfrom(512)
    end = asked.index(b"\0", 12) + 5
    a = asked[end - 4:end - 2] == b"\0\1"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton("10.9.0.1") if a else b""
    sock.sendto(asked[:2] + b"\x81\x80\0\1" + (b"\0\1" if a else b"\0\0") + b"\0\0\0\0" + asked[12:end] + answer, whom)
"""
FUSE = r"""
import ctypes, os, struct, sys
fd = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"never", sys.argv[1].encode(), b"fuse", 0, f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()):
    sys.exit(3)
asked = os.read(fd, 1 << 17)
body = struct.pack("<IIIIHHIIHHI", 7, 31, 0, 0, 12, 12, 65536, 1, 0, 0, 0).ljust(64, b"\0")
os.write(fd, struct.pack("<IiQ", 16 + len(body), 0, struct.unpack_from("<Q", asked, 8)[0]) + body)
print("up", flush=True)
while True:
    os.read(fd, 1 << 17)
"""
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>
static volatile int64_t *told; /* [0] offset in ns, [1] 1 = synchronised */
static volatile int64_t *page(void) {
    if (!told && getenv("BENCH_CLOCK")) {
        int fd = open(getenv("BENCH_CLOCK"), O_RDONLY | O_CLOEXEC);
        void *p = fd < 0 ? MAP_FAILED : mmap(0, 16, PROT_READ, MAP_SHARED, fd, 0);
        if (fd >= 0) close(fd);
        if (p != MAP_FAILED) told = p;
    }
    return told;
}
int clock_gettime(clockid_t id, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int rc = real(id, ts);
    if (rc == 0 && id == CLOCK_REALTIME && page()) {
        int64_t ns = ts->tv_sec * 1000000000LL + ts->tv_nsec + told[0];
        ts->tv_sec = ns / 1000000000LL;
        ts->tv_nsec = ns % 1000000000LL;
    }
    return rc;
}
int adjtimex(struct timex *t) {
    t->status = page() && told[1] ? 0 : STA_UNSYNC;
    return 0;
}
"""


def run(*words: str, check: bool = True) -> str:
    """A command; its output."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class World:
    """Made inside namespaces of its own (see `signals.enter`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[subprocess.Popen[bytes]] = []
        self.loops: list[str] = []
        self.isp = 0
        self.resolver: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        groups = folder / "cgroup"
        groups.mkdir()
        run("mount", "--rbind", "/sys/fs/cgroup", str(groups))
        run("mount", "-t", "sysfs", "sysfs", "/sys")
        run("mount", "--rbind", str(groups), "/sys/fs/cgroup")
        self._network()
        self._board()
        self._figures()
        self._kernel_log()
        self._clock()

    # -- the network: we hang on a provider by a cable that can be pulled

    def _network(self) -> None:
        holder = self.start("unshare", "-n", "sleep", "100000")
        self.isp = holder.pid
        run("ip", "link", "set", "lo", "up")
        ours = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.isp}/ns/net") == ours:
            time.sleep(0.01)
        run("ip", "link", "add", "wwan0", "type", "veth", "peer", "name", "isp0", "netns", str(self.isp))
        for words in ("ip link set lo up", f"ip addr add {ISP}/24 dev isp0", "ip link set isp0 up"):
            self.at_isp(*words.split())
        with contextlib.suppress(OSError):
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        self.address()
        resolv = self.folder / "resolv.conf"
        resolv.write_text(f"nameserver {ISP}\noptions timeout:1 attempts:1\n")
        run("mount", "--bind", str(resolv), os.path.realpath("/etc/resolv.conf"))
        self.resolve(True)

    def at_isp(self, *words: str) -> None:
        """A command at the provider's end."""
        run("nsenter", "-t", str(self.isp), "-n", *words)

    def carrier(self, up: bool) -> None:
        """Plug and unplug the cable."""
        self.at_isp("ip", "link", "set", "isp0", "up" if up else "down")

    def address(self) -> None:
        """Address and default route, as a DHCP client would set them."""
        run("ip", "link", "set", "wwan0", "up")
        run("ip", "addr", "replace", f"{UPLINK}/24", "dev", "wwan0")
        self.route()

    def no_address(self) -> None:
        """The lease is gone."""
        run("ip", "addr", "flush", "dev", "wwan0")

    def route(self) -> None:
        """The way out."""
        run("ip", "route", "replace", "default", "via", ISP)

    def no_route(self) -> None:
        """No way out."""
        run("ip", "route", "del", "default")

    def resolve(self, works: bool) -> None:
        """The provider's resolver works, or is gone."""
        if self.resolver is not None:
            self.resolver.kill()
            self.resolver.wait()
            self.resolver = None
        if works:
            self.resolver = self.start("nsenter", "-t", str(self.isp), "-n", sys.executable, "-c", RESOLVER)

    # -- files that stand where the kernel's would

    def _board(self) -> None:
        self.board = self.folder / "board"
        zone = self.board / "thermal/thermal_zone0"
        mmc = self.board / "block/mmcblk0/device"
        firmware = self.board / "platform/soc/soc:firmware"
        for made in (zone, mmc, firmware):
            made.mkdir(parents=True)
        (zone / "type").write_text("cpu-thermal\n")
        (zone / "trip_point_0_type").write_text("critical\n")
        (zone / "trip_point_0_temp").write_text("95000\n")
        self.temperature(51.0)
        self.wear("0x02 0x01")
        self.throttled(0)
        run("mount", "--bind", str(self.board / "thermal"), "/sys/class/thermal")
        run("mount", "--bind", str(self.board / "block"), "/sys/block")
        run("mount", "--bind", str(self.board / "platform"), "/sys/devices/platform")

    def temperature(self, degrees: float) -> None:
        """The processor's."""
        (self.board / "thermal/thermal_zone0/temp").write_text(f"{round(degrees * 1000)}\n")

    def wear(self, life: str) -> None:
        """What the eMMC says of its life."""
        (self.board / "block/mmcblk0/device/life_time").write_text(life + "\n")

    def throttled(self, bits: int) -> None:
        """What the firmware says: bit 0 under-voltage, bit 2 throttled."""
        (self.board / "platform/soc/soc:firmware/get_throttled").write_text(f"{bits:x}\n")

    def _figures(self) -> None:
        self.figures: dict[str, Path] = {}
        for name in ("meminfo", "pressure/io", "sys/fs/file-nr"):
            stand_in = self.folder / name.replace("/", "-")
            self.figures[name] = stand_in
            self.calm(name)
            run("mount", "--bind", str(stand_in), f"/proc/{name}")

    def figure(self, name: str, text: str) -> None:
        """What a file of /proc says from now on (written in place: it is held open)."""
        with self.figures[name].open("r+b" if self.figures[name].exists() else "wb") as file:
            file.write(text.encode())
            file.truncate()

    def calm(self, name: str) -> None:
        """The file of /proc says that all is well."""
        calm = {
            "meminfo": "MemTotal: 2000000 kB\nMemFree: 900000 kB\nMemAvailable: 1200000 kB\n",
            "pressure/io": "some avg10=1.00 avg60=0.50 avg300=0.20 total=1\nfull avg10=0.50 avg60=0.10 avg300=0.10 total=1\n",
            "sys/fs/file-nr": "2000\t0\t100000\n",
        }
        self.figure(name, calm[name])

    # -- the kernel's log: what the real one says, and what hardware that is not here would make it say

    def _kernel_log(self) -> None:
        fifo = self.folder / "kmsg"
        os.mkfifo(fifo)
        self._log = os.open(fifo, os.O_RDWR)
        self._lock = threading.Lock()
        self._sequence = 0
        real = os.open("/dev/kmsg", os.O_RDONLY)
        os.lseek(real, 0, os.SEEK_END)
        run("mount", "--bind", str(fifo), "/dev/kmsg")
        threading.Thread(target=self._relay, args=(real,), daemon=True).start()

    def _relay(self, real: int) -> None:
        """Records of the real log, as they are, one at a time."""
        while True:
            with contextlib.suppress(BrokenPipeError):
                self._record(os.read(real, 8192))

    def _record(self, record: bytes) -> None:
        with self._lock:
            os.write(self._log, record)
            time.sleep(0.02)  # a pipe keeps no borders of records; the log's reader is woken for each

    def kernel_says(self, *lines: str, level: int = 4) -> None:
        """What the kernel would say of hardware that this machine has not."""
        for line in lines:
            self._sequence += 1
            self._record(f"{level},{self._sequence},{time.monotonic_ns() // 1000},-;{line}\n".encode())

    # -- a clock that others may set

    def _clock(self) -> None:
        self.shim = self.folder / "clock.so"
        page = self.folder / "clock"
        page.write_bytes(struct.pack("<qq", 0, 1))
        with page.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 16)
        source = self.folder / "clock.c"
        source.write_text(SHIM)
        run("gcc", "-shared", "-fPIC", "-O1", "-o", str(self.shim), str(source), "-ldl")

    def clock_environment(self) -> dict[str, str]:
        """For a program that shall see this clock."""
        return {"LD_PRELOAD": str(self.shim), "BENCH_CLOCK": str(self.folder / "clock")}

    def clock(self, *, offset_s: float | None = None, synchronised: bool | None = None) -> None:
        """Set it, or take away who disciplines it."""
        offset, trusted = struct.unpack("<qq", self._page[:])
        offset = offset if offset_s is None else round(offset_s * 1e9)
        self._page[:] = struct.pack("<qq", offset, trusted if synchronised is None else int(synchronised))

    # -- disks

    def disk(self, name: str, mib: int = 16, *, inodes: int = 0, damaged: bool = False, at: Path | None = None) -> Path:
        """A file system of its own on a loop device, mounted. `damaged`: a file in it has an inode that is none."""
        image = self.folder / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(mib << 20)
        run("mkfs.ext4", "-q", "-F", "-O", "^metadata_csum,^64bit", *(["-N", str(inodes)] if inodes else []), str(image))
        if damaged:
            run("debugfs", "-w", "-R", f"write {__file__} broken", str(image))
            run("debugfs", "-w", "-R", "sif broken mode 0", str(image))
        where = at or self.folder / f"mnt-{name}"
        where.mkdir(parents=True)
        device = self._loop(image)
        run("mount", "-o", "errors=remount-ro", device, str(where))
        run("losetup", "-d", device)  # it goes with its mount, also when this process is killed
        self.loops.remove(device)
        return where

    def narrow_device(self) -> str:
        """A block device of 16 MiB whose backing has room for 2: what is written beyond fails, as on a dying card."""
        backing = self.folder / "narrow"
        backing.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=2m", "narrow", str(backing))
        with (backing / "img").open("wb") as file:
            file.truncate(16 << 20)
        return self._loop(backing / "img")

    def _loop(self, image: Path) -> str:
        for _ in range(20):
            with contextlib.suppress(OSError):  # somebody else took the free one in between
                self.loops.append(run("losetup", "--find", "--show", str(image)).strip())
                return self.loops[-1]
            time.sleep(0.1)
        raise OSError("no free loop device")

    def mute_mount(self, name: str) -> tuple[Path, subprocess.Popen[bytes]]:
        """A mount whose server takes every question and answers none, held back until it is wanted: see `FUSE`."""
        where = self.folder / f"mnt-{name}"
        where.mkdir(exist_ok=True)
        server = subprocess.Popen([sys.executable, "-c", FUSE, str(where)], stdout=subprocess.PIPE)
        if not server.stdout or server.stdout.readline() != b"up\n":
            raise OSError("FUSE cannot be mounted here")
        return where, server

    # -- the end

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A helper that is ended with the world."""
        made = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.programs.append(made)
        return made

    def close(self) -> None:
        """All helpers, mounts and loop devices."""
        for program in self.programs:
            with contextlib.suppress(OSError):
                program.send_signal(signal.SIGKILL)
            program.wait()
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            where = line.split()[1]
            if where.startswith(str(self.folder.parent)):
                run("umount", "-l", where, check=False)
        for device in self.loops:
            run("losetup", "-d", device, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def die_with_parent() -> None:
    """Helpers of a killed bench go with it."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
