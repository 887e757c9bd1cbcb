# SPDX-License-Identifier: Apache-2.0
"""What a dying kernel left in pstore: records found, read, told apart, fingerprinted; kept, and cleared as pstore asks.

Duty: from the folders that hold records to rows `[kind, fingerprint, headline]`. It judges no boot.
Invariants: at most `MOST_FILES` records of at most `MOST_BYTES` are read; the parts of one panic are one record; a record is cleared only
where it is pstore itself, and only after a durable copy; one that was seen in an earlier boot is no news (known by its digest).
Source: Documentation/admin-guide/ramoops, pstore(5) of systemd. Used by the child `witness_child` alone.
"""

import hashlib
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from edgeheal.detect.reset import P_OOPS, P_ORDER, P_PANIC, P_PRETIMEOUT, P_SYSRQ, P_THERMAL

MOST_FILES = 64
MOST_BYTES = 262_144
KEPT_MOST = 8
HEADLINE_MOST = 80
_NAME = re.compile(r"(?P<type>dmesg|console)-(?P<backend>[a-z_]+)-(?P<id>\d+)(?P<packed>\.enc\.z)?")
_MOVED = re.compile(r"dmesg\.txt|dmesg-[a-z_]+-\d+|console-[a-z_]+-\d+")
_FIRST = re.compile(r"(?P<why>Panic|Oops|Emergency|Shutdown|Unknown)#(?P<n>\d+) Part(?P<part>\d+)")
_STAMP = re.compile(r"^(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[CT]\d+\])? ?)?")
_FRAME = re.compile(r"^ *(?:\? )?([A-Za-z_][\w.]*?)(?:\.(?:isra|constprop|part|cold)[.\d]*)*\+0x[0-9a-f]+/0x[0-9a-f]+")
# the strongest line of a record decides what it tells; order matters
_TELLS: tuple[tuple[int, re.Pattern[str]], ...] = (
    (P_PRETIMEOUT, re.compile(r"watchdog pretimeout event|Kernel panic - not syncing: watchdog", re.IGNORECASE)),
    (P_THERMAL, re.compile(r"critical temperature reached|thermal.*shutting down|temperature too high", re.IGNORECASE)),
    (P_PANIC, re.compile(r"Kernel panic - not syncing: (?P<why>.*)")),
    (P_SYSRQ, re.compile(r"sysrq: (?:Resetting|Power Off|Emergency Remount R/O and reboot)")),
    (P_ORDER, re.compile(r"reboot: (?:Restarting system|Power down|System halted)")),
    (P_OOPS, re.compile(r"(?:BUG: |Oops: |Internal error: |Unable to handle kernel |watchdog: BUG: |general protection fault)(?P<why>.*)")),
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record: where it lay (several files: parts of one panic), its text, its digest."""

    files: tuple[str, ...]
    text: str
    digest: bytes
    clearable: bool = False


def told(text: str) -> tuple[int, int, str] | None:
    """(kind, fingerprint, headline) of a record's text; None when it says nothing of an end."""
    lines = [_STAMP.sub("", line) for line in text.splitlines()]
    for kind, pattern in _TELLS:
        hit = next((line for line in reversed(lines) if pattern.search(line)), None)
        if hit is not None:
            said = pattern.search(hit)
            headline = "".join(c if c.isprintable() else "?" for c in (said.group(0) if said else hit))[:HEADLINE_MOST]
            return kind, fingerprint(headline, lines) if kind in (P_PANIC, P_OOPS, P_PRETIMEOUT) else 0, headline
    return None


def fingerprint(headline: str, lines: Iterable[str]) -> int:
    """63 bits of what stays the same when the same panic happens again: its words without numbers, its innermost functions without addresses."""
    frames = [m.group(1) for line in lines if (m := _FRAME.match(line))]
    bare = re.sub(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+", "#", headline.lower())
    raw = "\n".join((bare, *[f for f in frames if f not in ("panic", "dump_stack", "dump_stack_lvl", "show_stack")][:8])).encode()
    return int.from_bytes(hashlib.sha256(raw).digest()[:8], "big") >> 1


def find(folders: Iterable[str]) -> list[Record]:
    """Every record in these folders (and, for systemd's, one or two levels below)."""
    parts: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for folder in folders:
        for path in _files(folder):
            text = _read(path)
            first = _FIRST.match(text.partition("\n")[0])
            group = first.group("why") + first.group("n") if first else os.path.basename(path)
            parts.setdefault((os.path.dirname(path), group), []).append((int(first.group("part")) if first else 0, path, text))
    found = []
    for (folder, _), pieces in parts.items():
        pieces.sort(reverse=True)  # part 1 is the latest text
        text = "\n".join(piece[2] for piece in pieces)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]
        found.append(Record(tuple(p[1] for p in pieces), text, digest, clearable=_is_pstore(folder)))
    return found


def _files(folder: str) -> list[str]:
    names = []
    for where, below, files in os.walk(folder):
        if where.count("/") - folder.rstrip("/").count("/") >= 2:
            below.clear()
        names += [os.path.join(where, name) for name in files if _NAME.fullmatch(name) or _MOVED.fullmatch(name)]
        if len(names) > 4 * MOST_FILES:
            break
    return sorted(names)[:MOST_FILES]


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            raw = file.read(MOST_BYTES)
    except OSError:
        return ""
    if path.endswith(".enc.z"):
        try:
            raw = zlib.decompressobj().decompress(raw, MOST_BYTES)
        except zlib.error:
            return ""
    return raw.decode("utf-8", "replace")


def _is_pstore(folder: str) -> bool:
    """Whether this is the file system itself: only there a record takes up room that the next panic needs."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return any(line.split(" ")[4] == folder and " - pstore " in line for line in file)
    except OSError:
        return False


def keep(record: Record, folder: str) -> bool:
    """A durable copy in our own folder; the oldest beyond `KEPT_MOST` go."""
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        path = os.path.join(folder, f"{record.digest.hex()}.txt")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(record.text.encode("utf-8", "replace")[:MOST_BYTES])
            file.flush()
            os.fsync(file.fileno())
        ours = sorted((os.path.join(folder, n) for n in os.listdir(folder)), key=os.path.getmtime)
        for old in ours[:-KEPT_MOST]:
            os.unlink(old)
    except OSError:
        return False
    return True


def clear(record: Record) -> None:
    """Free its room: unlinking a record is how pstore is told that somebody has it."""
    for path in record.files:
        try:
            os.unlink(path)
        except OSError:
            continue
