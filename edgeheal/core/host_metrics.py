# SPDX-License-Identifier: Apache-2.0
"""The fixed names of `signal.HostSample.metric`: what the box's figures are called and mean.

Duty: one table, spoken by whoever samples (adapters.host) and whoever judges (detect). A name that takes a subject has it
after a colon: `disk_free_permille:var`, `temperature_c:cpu-thermal`.
Invariant: names are never reused. Verdict UNKNOWN in a sample means the figure could not be read: its value says nothing.
"""

DISK_FREE = "disk_free_permille"  # :label   what may still be written without root's reserve
DISK_INODES = "disk_inodes_permille"  # :label   free inodes; not told where the file system has no fixed number
DISK_READONLY = "disk_readonly"  # :label   1 = mounted read-only now
MOUNT_SILENT = "mount_silent_s"  # :label   seconds since an unanswered question; 0 = answers
MEMORY_FREE = "memory_free_permille"  # MemAvailable of MemTotal; limit = MemTotal in KiB
SWAP_FREE = "swap_free_permille"  # told only where there is swap
PRESSURE_CPU = "pressure_cpu_permille"  # PSI "some", last 10 s
PRESSURE_IO = "pressure_io_permille"
PRESSURE_MEMORY = "pressure_memory_permille"
STALL_IO = "stall_io_permille"  # PSI "full", last 10 s
STALL_MEMORY = "stall_memory_permille"
LOAD = "load_permille"  # 1-minute load per CPU, 1000 = just busy
HOST_FDS = "host_fds_permille"  # used of fs.file-max
HOST_PIDS = "host_pids_permille"  # used of the lower of pid_max and threads-max
TEMPERATURE = "temperature_c"  # :zone   limit = the zone's lowest hot or critical trip, 0 = none
THROTTLED = "throttled"  # 1 = the processor is slowed down now
UNDERVOLTAGE = "undervoltage"  # 1 = the supply is too low now
FLASH_WEAR = "flash_wear_permille"  # :device   life used, upper end of what the device says
CLOCK_TRUSTED = "clock_trusted"  # 1 = somebody who knows set it
CLOCK_STEP = "clock_step_s"  # the wall clock jumped by so many seconds (event)

SUBJECTS = frozenset({DISK_FREE, DISK_INODES, DISK_READONLY, MOUNT_SILENT, TEMPERATURE, FLASH_WEAR})
PLAIN = frozenset({
    MEMORY_FREE, SWAP_FREE, PRESSURE_CPU, PRESSURE_IO, PRESSURE_MEMORY, STALL_IO, STALL_MEMORY, LOAD, HOST_FDS, HOST_PIDS, THROTTLED,
    UNDERVOLTAGE, CLOCK_TRUSTED, CLOCK_STEP,
})  # fmt: skip


def split(metric: str) -> tuple[str, str]:
    """(name, subject or "") of a sample's metric."""
    name, _, subject = metric.partition(":")
    return name, subject
