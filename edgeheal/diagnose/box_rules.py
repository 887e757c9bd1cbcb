# SPDX-License-Identifier: Apache-2.0
"""What the box, its kernel and what an app uses of it say for and against a cause: one small rule each, in the table `RULES`.

Duty: as `diagnose.rules`, from what was measured by us or told by the kernel. Invariants: none of these looks at an app's words; what could
not be seen yields nothing.
"""

import errno
from collections.abc import Iterator

from edgeheal.core import reasons
from edgeheal.core.kinds import SENSOR_SYMPTOMS, CauseKind, EvidenceCode, SymptomKind
from edgeheal.diagnose.scene import Scene
from edgeheal.diagnose.word import Rule, Word, fact

C, E, S = CauseKind, EvidenceCode, SymptomKind

SPIN_PERMILLE = 850
IDLE_PERMILLE = 100
FULL = 0.95
SIGKILL = 9
STEP_LEAST_S = 30.0
SOON_S = 60.0
AT_ONCE_S = 10.0
_LATE = frozenset({S.HANG, S.PROBE_FAILED, S.CPU_SPIN, S.START_SLOW})
_DOWN = frozenset({S.EXIT, S.CRASH_LOOP, S.START_FAILED, S.START_SLOW, S.HANG, S.PROBE_FAILED})
# word of the kernel -> what is behind it
KERNEL_WORDS = {"hung_task": (C.DEVICE_IO, 12.0), "nic_timeout": (C.BUS, 400.0), "oops": (C.KERNEL, 2.0), "lockup": (C.KERNEL, 2.0)}
_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_MEDIUM = frozenset({errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.EUCLEAN})
_SCARCE = frozenset({errno.EAGAIN, errno.ENFILE, errno.ENOMEM})


def spins_or_sleeps(s: Scene) -> Iterator[Word]:
    """Late and on the processor is busy; late and idle hangs."""
    if s.symptom.kind not in _LATE or s.cpu_permille < 0:
        return
    if s.cpu_permille >= SPIN_PERMILLE:
        yield Word(C.APP_BUSY, 20.0, fact(E.CPU_PERMILLE, s.cpu_permille, SPIN_PERMILLE))
    elif s.cpu_permille < IDLE_PERMILLE:
        yield Word(C.APP_BUSY, 0.2, fact(E.CPU_PERMILLE, s.cpu_permille, SPIN_PERMILLE, speaks_for=False))


def at_its_limit(s: Scene) -> Iterator[Word]:
    """It went with all the descriptors or the memory that it may have, as we counted them last: that, whatever its log says first."""
    if s.symptom.kind not in _DOWN:
        return
    if s.fds_share >= 1.0 or (s.fds_limit > 0 and s.fds >= FULL * s.fds_limit):
        yield Word(C.APP_DESCRIPTORS, 400.0, fact(E.DESCRIPTORS, s.fds, s.fds_limit))
    if 0 < s.memory_limit_kib <= s.memory_kib and s.exit_signal == SIGKILL:
        yield Word(C.APP_MEMORY, 200.0, fact(E.MEMORY_KIB, s.memory_kib, s.memory_limit_kib))


def waits_in_kernel(s: Scene) -> Iterator[Word]:
    """Late, and seen waiting in the kernel: for a device, a medium, a mount."""
    if s.symptom.kind in _LATE and s.wait_d:
        yield Word(C.DEVICE_IO, 60.0, fact(E.STATE_D, 0, 0, s.wait_d))


def silent_mount(s: Scene) -> Iterator[Word]:
    """A mount that answers nobody explains who waits for it."""
    if s.host.mount_silent and (s.symptom.kind in _LATE or s.symptom.kind is S.UNKILLABLE):
        yield Word(C.DEVICE_IO, 8.0 if s.wait_d or s.symptom.kind is S.UNKILLABLE else 2.0, fact(E.LINK_DOWN_S, 0, 0, s.host.mount_silent), s.host.mount_silent)


def bus_resets(s: Scene) -> Iterator[Word]:
    """A port that the kernel resets again and again: the bus rather than the sensor on it."""
    if s.host.bus and s.symptom.kind in SENSOR_SYMPTOMS:
        yield Word(C.BUS, 20.0, fact(E.LINE, 0, 0, f"USB {s.host.bus}"), s.host.bus)


def kernel_word(s: Scene) -> Iterator[Word]:
    """What kind of fault of the kernel it was."""
    if s.symptom.kind is not S.KERNEL_FAULT or not s.symptom.evidence:
        return
    found = KERNEL_WORDS.get(s.symptom.evidence[0].text.partition(" ")[0])
    if found is not None:
        yield Word(found[0], found[1], s.symptom.evidence[0], s.symptom.subject)


def kernel_just_failed(s: Scene) -> Iterator[Word]:
    """The kernel reported a fault of its own a moment before the app went."""
    if 0 <= s.host.kernel_s < 10.0 and s.symptom.kind in _DOWN:
        yield Word(C.KERNEL, 500.0, fact(E.LINE, s.host.kernel_s, 10.0, "the kernel failed just before"))


def scarce(s: Scene) -> Iterator[Word]:
    """The box has no more descriptors or pids to give: who cannot start or open is not at fault; who has most of them is."""
    if s.symptom.kind in (S.HOST_FDS, S.HOST_PIDS, S.HOST_MEMORY) and s.greediest:
        cause = {S.HOST_FDS: C.APP_DESCRIPTORS, S.HOST_PIDS: C.APP_THREADS}.get(s.symptom.kind)
        if cause is not None:
            yield Word(cause, 1.0, None, s.greediest)
    elif s.host.scarce and s.symptom.kind in _DOWN:
        yield Word(C.HOST_LOAD, 150.0, fact(E.REASON, 0, 0, s.host.scarce))


def clock_jumped(s: Scene) -> Iterator[Word]:
    """The clock was set a moment before the app went: time-outs and certificates are judged by it."""
    if 0 <= s.host.stepped_s < SOON_S and abs(s.host.step_s) >= STEP_LEAST_S and s.symptom.kind in _DOWN:
        yield Word(C.CLOCK, 300.0 if s.host.stepped_s < AT_ONCE_S else 40.0, fact(E.CLOCK_STEP_S, s.host.step_s))


def our_medium(s: Scene) -> Iterator[Word]:
    """EdgeHeal's own medium does not take what is written, or does not answer: the medium, not us."""
    if s.symptom.kind is not S.AGENT_SELF or not s.symptom.evidence:
        return
    what, number = s.symptom.detail, int(s.symptom.evidence[0].value)
    if what in ("unwritable", "ring") and number in _ROOM:
        yield Word(C.DISK_FULL, 2_000.0, fact(E.REASON, number), s.symptom.subject)
    elif what in ("unwritable", "ring") and number in _MEDIUM:
        yield Word(C.DISK_FAULT, 2_000.0, fact(E.REASON, number), s.symptom.subject)
    elif what == "slow" and s.symptom.subject in ("medium", "journal"):
        yield Word(C.DEVICE_IO, 2_000.0, fact(E.GAP_MS, number), s.symptom.subject)


def cannot_start(s: Scene) -> Iterator[Word]:
    """Why no process came of a start, by the kernel's number; an image that is rotten is the medium's doing."""
    reason, number = s.start_reason, s.start_errno
    if s.symptom.kind is S.APP_HELD and reason == reasons.ROT:
        yield Word(C.DISK_FAULT, 400.0, fact(E.REASON, reason))
    if s.symptom.kind is not S.START_FAILED:
        return
    if number in _ROOM:
        yield Word(C.DISK_FULL, 100.0, fact(E.REASON, reason, number))
    elif number in _MEDIUM:
        yield Word(C.DISK_FAULT, 100.0, fact(E.REASON, reason, number))
    elif number in _SCARCE:
        yield Word(C.HOST_LOAD, 300.0, fact(E.REASON, reason, number))
    elif number in (errno.ENOENT, errno.EACCES, errno.ENOEXEC):
        yield Word(C.APP_IMAGE, 4.0, fact(E.REASON, reason, number))
    elif reason in (reasons.NOT_READY, reasons.TIMEOUT):  # a process came of it, and did not get ready
        yield Word(C.APP_HANG, 200.0, fact(E.REASON, reason))


RULES: tuple[Rule, ...] = (
    spins_or_sleeps, at_its_limit, waits_in_kernel, silent_mount, bus_resets, kernel_word, kernel_just_failed, scarce, clock_jumped, our_medium, cannot_start,
)  # fmt: skip
