# SPDX-License-Identifier: Apache-2.0
"""What the kernel said: supply, file systems, media, USB, memory, its own faults.

Duty: a row a word. Passing words (an error that happened) open and calm down by themselves; supply has an end of its own.
Healthy look-alikes: one USB device that re-enumerates once, a reset that is not repeated, a memory error that was corrected, one task that
waited long for a slow disk, one stutter of a network chip. A program's segfault is its end, which the guard tells.
Invariant: only the kernel's own words get here (the adapter sees to that).
"""

from dataclasses import dataclass, field

from edgeheal.core.incident import Evidence
from edgeheal.core.kinds import Channel, EvidenceCode, SymptomKind
from edgeheal.core.now import NS
from edgeheal.core.signal import KernelSaid
from edgeheal.core.symptom import Symptom
from edgeheal.detect.around import Around

TIMES_MOST = 16
SUBJECTS_MOST = 64
BUS_S = 300
BUS_TIMES = 2


@dataclass(frozen=True, slots=True)
class Row:
    """`times` within `within_s` make a symptom."""

    kind: SymptomKind
    times: int = 1
    within_s: int = 600


S = SymptomKind
ROWS: dict[str, Row] = {
    "fs_error": Row(S.DISK_ERRORS),
    "fs_readonly": Row(S.DISK_READONLY),
    "io_error": Row(S.DISK_ERRORS, 3),
    "usb_reset": Row(S.USB_RESET, 3),
    "usb_gone": Row(S.USB_RESET, 3),
    "usb_error": Row(S.USB_RESET, 3),
    "thermal": Row(S.TEMPERATURE, 3),
    "undervoltage": Row(S.UNDERVOLTAGE, 1, 86_400),
    "oops": Row(S.KERNEL_FAULT),
    "lockup": Row(S.KERNEL_FAULT, 2),
    "hung_task": Row(S.KERNEL_FAULT, 3),
    "nic_timeout": Row(S.KERNEL_FAULT, 2, 3_600),
    "ecc": Row(S.HARDWARE_ERROR, 3, 3_600),
}
LASTING = frozenset({S.UNDERVOLTAGE, S.DISK_READONLY})  # their end is told; the others pass


@dataclass(slots=True)
class Kernel:
    """`times`: "what:subject" -> mono ns, newest last. `voltage_ns`: last under-voltage, on while `voltage_low`.

    `fault_ns`, `fault`: last word on a damaged file system; `own_ns`: last fault of the kernel's own.
    """

    times: dict[str, list[int]] = field(default_factory=dict)
    voltage_ns: int = 0
    voltage_low: bool = False
    voltages: int = 0
    oom_ns: int = 0
    fault_ns: int = 0
    fault: str = ""
    own_ns: int = 0


def said(mem: Kernel, signal: KernelSaid, around: Around) -> tuple[Symptom, ...]:
    """One word of the kernel."""
    match signal.what:
        case "voltage_ok":
            was, mem.voltage_low = mem.voltage_low, False
            return (Symptom(S.UNDERVOLTAGE, on=False, channel=Channel.KERNEL),) if was else ()
        case "undervoltage":
            mem.voltage_ns, mem.voltages = around.ns, mem.voltages + 1
            if mem.voltage_low:
                return ()
            mem.voltage_low = True
        case "oom":
            mem.oom_ns = around.ns
            return ()
        case "fs_error" | "fs_readonly":
            mem.fault_ns, mem.fault = around.ns, signal.subject
        case "oops" | "lockup":
            mem.own_ns = around.ns
    row = ROWS.get(signal.what)
    if row is None:
        return ()
    name = f"{signal.what}:{signal.subject}"
    times = [*[t for t in mem.times.pop(name, ()) if t > around.ns - row.within_s * NS][-(TIMES_MOST - 1) :], around.ns]
    mem.times[name] = times
    while len(mem.times) > SUBJECTS_MOST:
        del mem.times[next(iter(mem.times))]
    if len(times) < row.times:
        return ()
    subject = "" if row.kind is S.UNDERVOLTAGE else signal.subject
    text = (
        signal.what
        if len(times) == 1
        else f"{signal.what} {len(times)} times in {row.within_s // 3_600} h"
        if row.within_s >= 3_600
        else f"{signal.what} {len(times)} times"
    )
    return (Symptom(row.kind, "", subject, channel=Channel.KERNEL, evidence=(Evidence(EvidenceCode.LINE, len(times), row.times, text),)),)


def bus(mem: Kernel, now_ns: int) -> str:
    """A USB port that the kernel had trouble with again and again lately, "" for none."""
    since = now_ns - BUS_S * NS
    troubled = (name.partition(":") for name, times in mem.times.items() if sum(t > since for t in times) >= BUS_TIMES)
    return next((subject for what, _, subject in troubled if what in ("usb_reset", "usb_gone", "usb_error")), "")
