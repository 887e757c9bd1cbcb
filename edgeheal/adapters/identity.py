# SPDX-License-Identifier: Apache-2.0
"""To which machine an identity belongs: marks of the hardware, and the record that `edgeheal setup` leaves.

Duty: read marks, read the record, compare. Invariants: only hashes of marks are kept; what cannot be read says nothing, so a machine
without marks keeps its identity; the strongest kind of mark that both sides have decides: board serial, then network cards, then machine id.
"""

import hashlib
import json
import os
import stat
from dataclasses import dataclass

from edgeheal.core.layout import Layout

RECORD_MOST = 16_384
CARDS_MOST = 16
KINDS = ("board", "card", "machine")  # strongest first
_BOARD = ("proc/device-tree/serial-number", "sys/class/dmi/id/board_serial", "sys/class/dmi/id/product_serial")
_NO_SERIALS = frozenset({"", "none", "0", "default string", "to be filled by o.e.m.", "not specified", "not applicable", "system serial number", "unknown"})

Marks = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Identity:
    """What `setup` wrote: for which device, on which machine, when (RFC 3339)."""

    device: str
    marks: Marks
    made: str = ""


def marks(root: str = "/", machine_id: str = "") -> Marks:
    """This machine's marks as hashes. `root` holds proc and sys; `machine_id` is a path in its place."""
    base = root.rstrip("/")
    boards = [text for path in _BOARD if (text := _text(f"{base}/{path}")).lower() not in _NO_SERIALS]
    found = {"board": boards[:1], "card": _cards(f"{base}/sys/class/net"), "machine": [_text(machine_id or f"{base}/etc/machine-id")]}
    return {kind: tuple(_hash(kind, value) for value in values if value) for kind, values in found.items() if any(values)}


def _cards(folder: str) -> list[str]:
    """Permanent addresses of cards with hardware behind them; not those of containers, bridges or random ones."""
    try:
        names = sorted(os.listdir(folder))[:256]
    except OSError:
        return []
    found = [
        _text(f"{folder}/{name}/address") for name in names if os.path.exists(f"{folder}/{name}/device") and _text(f"{folder}/{name}/addr_assign_type") == "0"
    ]
    return sorted(set(found) - {"", "00:00:00:00:00:00"})[:CARDS_MOST]


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(256).strip(b"\0 \n").decode("ascii", "replace")
    except OSError:
        return ""


def _hash(kind: str, value: str) -> str:
    return hashlib.sha256(f"edgeheal {kind} {value}".encode()).hexdigest()[:16]


def machine_id_of(layout: Layout) -> str:
    """The machine id below the root where there is one; else the host's."""
    own = os.path.join(layout.root, "etc/machine-id")
    return own if os.path.exists(own) else "/etc/machine-id"


def here(layout: Layout) -> Marks:
    """The marks of the machine that this device lives on."""
    return marks("/", machine_id_of(layout))


def read(layout: Layout) -> Identity | None:
    """The record; None where there is none (a device that was configured by hand), ValueError where it cannot be understood."""
    try:
        fd = os.open(layout.identity, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise ValueError(fault.strerror) from None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("is no file")
        data = file.read(RECORD_MOST)
    return decode(data)


def decode(data: bytes) -> Identity:
    """The record in `data`; ValueError when it is none."""
    said = json.loads(data)
    if not isinstance(said, dict) or said.get("v") != 1 or not isinstance(said.get("device"), str) or not isinstance(said.get("marks"), dict):
        raise ValueError("is no identity record of this version")
    kept = {k: tuple(str(x) for x in v) for k, v in said["marks"].items() if isinstance(v, list)}
    return Identity(said["device"], kept, str(said.get("made", "")))


def encode(identity: Identity) -> bytes:
    """The record's bytes."""
    return json.dumps({"v": 1, "device": identity.device, "marks": {k: list(v) for k, v in identity.marks.items()}, "made": identity.made}).encode() + b"\n"


def foreign(kept: Marks, now: Marks) -> str:
    """The kind of mark by which this is another machine; "" when it is the same, or nobody can tell."""
    for kind in KINDS:
        if kept.get(kind) and now.get(kind):
            return "" if set(kept[kind]) & set(now[kind]) else kind
    return ""


def fault(layout: Layout) -> str:
    """Why the identity found here may not be used; "" when it may."""
    try:
        kept = read(layout)
    except ValueError as problem:
        return f"{layout.identity}: {problem}"
    kind = foreign(kept.marks, here(layout)) if kept is not None else ""
    words = {"board": "board serial", "card": "network cards", "machine": "machine id"}
    return f"the identity {kept.device} was set up on another machine (other {words[kind]})" if kept is not None and kind else ""
