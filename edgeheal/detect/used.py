# SPDX-License-Identifier: Apache-2.0
"""What an app used at its last sample: for the scene of a fault, and for who has most of what is scarce. It is no symptom.

Duty: keep the last figures of the present run. Invariant: -1 and "" are not known; a new run begins with nothing.
"""

from dataclasses import dataclass

from edgeheal.core.signal import Usage


@dataclass(slots=True)
class Used:
    """`cpu_permille` of one core since the sample before; `wait_d`: where it was seen waiting in the kernel."""

    run: int = 0
    at_ns: int = 0
    cpu_permille: int = -1
    wait_d: str = ""
    memory_kib: int = -1
    fds: int = -1
    tasks: int = -1
    fds_limit: int = -1
    fds_before: int = -1
    limit_kib: int = -1


def sampled(mem: Used, signal: Usage, now_ns: int) -> None:
    """One sample."""
    mem.fds_before = mem.fds if mem.run == signal.run else -1
    mem.run, mem.at_ns = signal.run, now_ns
    mem.fds_limit, mem.limit_kib = signal.fds_limit, signal.limit_kib
    mem.cpu_permille = signal.cpu_ms * 1_000 // signal.every_ms if signal.every_ms > 0 and signal.cpu_ms >= 0 else -1
    mem.wait_d = (signal.wchan or "?")[:40] if signal.proc_state == "D" else ""
    mem.memory_kib, mem.fds, mem.tasks = signal.memory_kib, signal.fds, signal.threads + max(0, signal.children)


def fds_share(mem: Used) -> float:
    """Descriptors of those it may have, as they would be at the next sample if they went on growing; -1 = not known."""
    if mem.fds < 0 or mem.fds_limit <= 0:
        return -1.0
    return (mem.fds + max(0, mem.fds - mem.fds_before if mem.fds_before >= 0 else 0)) / mem.fds_limit
