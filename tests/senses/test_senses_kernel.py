# SPDX-License-Identifier: Apache-2.0
import os
import time

import pytest
from drive import drive
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.adapters.kernel import Kernel, parse_record, understand
from edgeheal.core.signal import KernelSaid, SelfSaid

SAID = {
    "Out of memory: Killed process 123 (python3) total-vm:1kB, anon-rss:1kB": ("oom", "python3", 123),
    "Out of memory: Kill process 8 (a b) score 900 or sacrifice child": ("oom", "a_b", 8),
    "Memory cgroup out of memory: Killed process 99 (app) total-vm:1kB": ("oom_limit", "app", 99),
    "python3[22]: segfault at 0 ip 00007f sp 00007ffd error 4 in libc.so.6[7f+1]": ("segfault", "python3", 22),
    "traps: app[7] general protection fault ip:1 sp:2 error:0": ("segfault", "app", 7),
    "INFO: task jbd2/loop0-8:33 blocked for more than 120 seconds.": ("hung_task", "jbd2/loop0-8", 33),
    "EXT4-fs error (device mmcblk0p2): ext4_lookup:1855: inode #2: comm ls: deleted inode": ("fs_error", "mmcblk0p2", 0),
    "EXT4-fs (vda): Remounting filesystem read-only": ("fs_readonly", "vda", 0),
    "XFS (dm-0): Corruption detected. Unmount and run xfs_repair": ("fs_error", "dm-0", 0),
    "BTRFS error (device sda1): bdev /dev/sda1 errs: wr 1, rd 0": ("fs_error", "sda1", 0),
    "BTRFS info (device sda1): forced readonly": ("fs_readonly", "sda1", 0),
    "Aborting journal on device mmcblk0p2-8.": ("fs_error", "mmcblk0p2-8.", 0),
    "UBIFS error (ubi0:0 pid 1): ubifs_read_node: bad node type": ("fs_error", "UBIFS", 0),
    "Buffer I/O error on dev sda1, logical block 0, async page read": ("io_error", "sda1", 0),
    "blk_update_request: I/O error, dev mmcblk0, sector 123 op 0x0": ("io_error", "mmcblk0", 0),
    "mmc0: Timeout waiting for hardware interrupt.": ("io_error", "mmc0", 0),
    "usb 1-1.2: USB disconnect, device number 11": ("usb_gone", "1-1.2", 11),
    "usb 1-1.2: new full-speed USB device number 12 using xhci_hcd": ("usb_new", "1-1.2", 12),
    "usb 1-1.3: reset high-speed USB device number 4 using xhci_hcd": ("usb_reset", "1-1.3", 4),
    "usb 1-1.3: device descriptor read/64, error -71": ("usb_error", "1-1.3", 0),
    "hwmon hwmon1: Undervoltage detected!": ("undervoltage", "hwmon1", 0),
    "Under-voltage detected! (0x00050005)": ("undervoltage", "", 0),
    "hwmon hwmon1: Voltage normalised": ("voltage_ok", "hwmon1", 0),
    "Voltage normalised (0x00000000)": ("voltage_ok", "", 0),
    "CPU0: Core temperature above threshold, cpu clock throttled (total events = 1)": ("thermal", "CPU0", 0),
    "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [x:1]": ("lockup", "CPU_1" if False else "CPU#1", 22),
    "watchdog: watchdog0: watchdog did not stop!": ("watchdog", "watchdog0", 0),
    "NETDEV WATCHDOG: eth0 (bcmgenet): transmit queue 0 timed out": ("nic_timeout", "eth0", 0),
    "EDAC MC0: 1 CE memory read error on CPU": ("ecc", "EDAC_MC0", 0),
    "Oops: general protection fault, probably for non-canonical address": ("oops", "Oops", 0),
}
QUIET = [
    "EXT4-fs (vda): mounted filesystem with ordered data mode",
    "XFS (dm-0): Mounting V5 Filesystem",
    "mmc0: new high speed SDHC card at address aaaa",
    "usb 1-1: Product: Undervoltage detected!",
    "usb 1-1: Manufacturer: Out of memory: Killed process 1 (init)",
    "F2FS-fs (mmcblk0p3): Found nat_bits in checkpoint",
    "random: crng init done",
    "audit: type=1400 msg='Voltage normalised'",
    "",
]


@pytest.mark.parametrize(("text", "said"), SAID.items())
def test_each_kind_of_kernel_line_is_told_apart(text, said):
    assert understand(text) == said


@pytest.mark.parametrize("text", QUIET)
def test_healthy_lines_and_words_of_devices_say_nothing(text):
    assert understand(text) is None


def test_a_program_that_writes_to_the_kernels_log_is_not_the_kernel():
    text = b"Under-voltage detected! (0x00050005)"
    assert parse_record(b"4,12,99,-;" + text + b"\n SUBSYSTEM=x\n").text == text.decode()
    assert parse_record(b"12,12,99,-;" + text) is None  # facility 1: user


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_nothing(data):
    line = parse_record(data)
    if line is not None:
        understand(line.text)


@given(st.text(max_size=200))
def test_any_text_is_understood_or_not_and_its_subject_is_harmless(text):
    found = understand(text)
    if found is not None:
        assert all(c.isalnum() or c in "_.:/#-" for c in found[1])


class Log:
    """A pipe in the place of /dev/kmsg: one write, one record."""

    def __init__(self, tmp_path):
        self.path = str(tmp_path / "kmsg")
        os.mkfifo(self.path)

    def open(self, emit, now, **kw):
        kernel = Kernel(emit, lambda: now[0], path=self.path, since_usec=1, **kw)
        self.fd = os.open(self.path, os.O_WRONLY)
        return kernel

    def say(self, text, kernel, usec=5):
        os.write(self.fd, b"4,1,%d,-;%s\n" % (usec, text.encode()))
        kernel.ready(0, 1)


def test_equal_lines_of_a_second_are_told_once_and_once_more_at_its_end(tmp_path):
    out, now, log = [], [10**9], Log(tmp_path)
    kernel = log.open(out.append, now)
    for _ in range(50):
        log.say("Buffer I/O error on dev sda1, logical block 7", kernel)
    log.say("hwmon hwmon1: Undervoltage detected!", kernel)
    assert [s.what for s in out] == ["io_error", "undervoltage"]
    now[0] = kernel.due()
    kernel.tick(now[0])
    assert [s.what for s in out] == ["io_error", "undervoltage", "io_error"]
    assert kernel.due() == 0
    kernel.close()
    os.close(log.fd)


def test_a_killed_process_is_named_by_its_app(tmp_path):
    out, log = [], Log(tmp_path)
    kernel = log.open(out.append, [10**9], app_of=lambda pid: "uplink" if pid == 123 else "")
    log.say("Out of memory: Killed process 123 (python3) total-vm:1kB", kernel)
    log.say("Out of memory: Killed process 124 (cron) total-vm:1kB", kernel)
    assert out == [KernelSaid("oom", "uplink", 123), KernelSaid("oom", "cron", 124)]
    kernel.close()
    os.close(log.fd)


def test_a_log_that_cannot_be_read_is_said_once_and_nothing_breaks(tmp_path):
    out = []
    kernel = Kernel(out.append, time.monotonic_ns, path=str(tmp_path / "none"))
    assert [(s.part, s.what, s.ok) for s in out] == [("kernel", "unreadable", False)]
    assert kernel.fds() == {}
    assert kernel.due() == 0
    kernel.close()


@pytest.mark.root
def test_the_real_kernel_log_is_followed_without_blocking_and_forgers_are_ignored():
    if not os.access("/dev/kmsg", os.R_OK | os.W_OK):
        pytest.skip("needs a writable /dev/kmsg")
    out = []
    kernel = Kernel(out.append, time.monotonic_ns)
    assert not [s for s in out if isinstance(s, SelfSaid)]
    with open("/dev/kmsg", "wb", buffering=0) as log:
        log.write(b"<4>Under-voltage detected! (0x00050005)\n")
    seen = []
    real = kernel._take
    kernel._take = lambda line: (seen.append(line), real(line))
    assert not drive(kernel, until=lambda: any(isinstance(s, KernelSaid) and s.what == "undervoltage" for s in out), seconds=0.3)
    kernel.close()
