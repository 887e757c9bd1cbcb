# SPDX-License-Identifier: Apache-2.0
"""The witness child: what the hardware and the last kernel have to say about this boot, read once, early.

Duty: pstore's records, the boot status of watchdogs, registers and files that the config (or the table `KNOWN`) names. It judges nothing.
Not imported by the resident guard; runs with its rights, since most of this is root's to read. Invariants: each read is bounded; what cannot be
read is left out, never an error; records are cleared only after a durable copy.

Request  {"pstore": [folder], "clear": bool, "keep": folder, "sources": [[name, file, form, field, mask, [[value, bits]], role, of]], "seen": [digest], "first": bool}
Done     {"rows": [[W_*, a, b, c, text, app]], "dogs": [[name, status, D_* flags]], "seen": [digest]}
"""

import glob
import os
import sys
from collections.abc import Sequence
from typing import Any

from edgeheal.detect.reset import CARDRESET, DOG, ORDERED, P_ORDER, POWER, REASONS
from edgeheal.guard import child, pstore
from edgeheal.wire import guard_frames as f

READ_MOST = 65_536
TEXT_MOST = 40
SYS = "/sys/class/watchdog"
# drivers that report CARDRESET (Linux 6.1); all others are silent, which says nothing
TELLING = (
    "i6300esb", "imx2+", "omap watchdog", "sp5100", "sbsa", "qcom", "wdat_wdt", "hardware-based", "renesas", "s3c2410", "aspeed", "mt7621",
)  # fmt: skip


def bits(*reasons: str) -> int:
    """Reasons as a mask."""
    return sum(1 << REASONS.index(r) for r in reasons)


# boards that say it in a well-known place: (name, glob, form, mask, ((value, bits), ...)); a raw value that is not listed means nothing
KNOWN: tuple[tuple[str, str, str, int, tuple[tuple[str, int], ...]], ...] = (
    (
        "pm_rsts", "/proc/device-tree/chosen/bootloader/pm_rsts", "u32be", 0x1FFF & ~0x555,
        (("0x1000", bits(POWER)), ("0x1020", bits(DOG, ORDERED)), ("0x20", bits(DOG, ORDERED)), ("0x200", bits(ORDERED))),
    ),
)  # fmt: skip


def main(_words: Sequence[str] = ()) -> int:
    """The child's way in."""
    return child.run(work)


def work(request: dict[str, Any], _answers: child.Answers) -> dict[str, Any]:
    """The values of "done"."""
    rows: list[list[Any]] = []
    seen = [bytes(d) for d in request.get("seen") or ()]
    for record in pstore.find(request.get("pstore") or ()):
        if record.digest not in seen:
            seen.append(record.digest)
            said = pstore.told(record.text)
            if said is not None and not request.get("first"):
                rows.append([f.W_CRASH, said[0], said[1], 0, said[2], ""])
            kept = said is None or said[0] == P_ORDER or pstore.keep(record, request["keep"])
        else:
            kept = True
        if kept and record.clearable and request.get("clear"):
            pstore.clear(record)
    rows += [row for source in request.get("sources") or () if (row := _source(*source))]
    for name, pattern, form, mask, means in KNOWN:
        for path in sorted(glob.glob(pattern))[:2]:
            rows += [row for row in [_source(name, path, form, "", mask, means, "reason", 0)] if row]
    return {"rows": rows[:16], "dogs": _dogs(SYS), "seen": seen[-16:]}


def _source(name: str, path: str, form: str, field: str, mask: int, means: Sequence[Sequence[Any]], role: str, of: int) -> list[Any] | None:
    """What one register or file says, as a row."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            raw = file.read(READ_MOST)
    except OSError:
        return None
    value = value_of(raw, form, field)
    if value is None:
        return None
    number = number_of(value)
    if role == "attempts":
        return None if number is None or of <= 0 else [f.W_TRIAL, max(1, of - number), of, 0, name, ""]
    hit = 0
    for word, reasons in means:
        wanted = number_of(str(word))
        if str(word) == value or (number is not None and wanted is not None and (number & mask if mask else number) == wanted):
            hit |= int(reasons)
    shown = "".join(c if c.isprintable() else "?" for c in f"{name} {value}")
    return [f.W_SOURCE, hit, 0, 0, shown[: TEXT_MOST + len(name)], ""]


def value_of(raw: bytes, form: str, field: str) -> str | None:
    """The value in its form: a line of text, a big- or little-endian word, or one variable of a boot loader's environment."""
    if form in ("u32be", "u32le"):
        return hex(int.from_bytes(raw[:4], "big" if form == "u32be" else "little")) if len(raw) >= 4 else None
    if form == "env":
        return _variable(raw, field.encode())
    return raw[:256].split(b"\n")[0].strip(b" \t\r\0").decode("utf-8", "replace")


def _variable(raw: bytes, name: bytes) -> str | None:
    """`name=value`, in lines (GRUB) or zero-separated after a checksum (U-Boot)."""
    for piece in raw.replace(b"\n", b"\0").split(b"\0"):
        for at in (0, 4, 5):  # U-Boot: CRC32, and a flag where there are two copies
            if piece[at:].startswith(name + b"="):
                return piece[at + len(name) + 1 :].strip().decode("utf-8", "replace")
    return None


def number_of(text: str) -> int | None:
    """A decimal or 0x number; None when it is none."""
    try:
        return int(text, 0)
    except ValueError:
        return None


def _dogs(folder: str) -> list[list[Any]]:
    """Each watchdog's boot status, read without opening it: whoever opens it may start it."""
    found: list[list[Any]] = []
    for name in sorted(os.listdir(folder))[:8] if os.path.isdir(folder) else ():
        texts = []
        for what in ("bootstatus", "identity"):
            try:
                with open(f"{folder}/{name}/{what}", encoding="utf-8", errors="replace") as file:
                    texts.append(file.read(256).strip())
            except OSError:
                texts.append("")
        status = number_of(texts[0]) if texts[0] else None
        tells = bool(status and status & CARDRESET) or texts[1].lower().startswith(TELLING)
        found.append([name, status or 0, (f.D_TELLS if tells else 0) | (f.D_UNKNOWN if status is None else 0)])
    return found


if __name__ == "__main__":
    sys.exit(main())
