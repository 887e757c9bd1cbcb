# SPDX-License-Identifier: Apache-2.0
"""What a new guard must know of runs it did not start: one small record an app, on tmpfs, written in place.

Duty: keep and give back. It judges nothing.
Invariants: a record names boot, pid and start ticks, so that it never speaks for another process or another boot; it is written *before* a
process is made (with pid 0) and after; a damaged one is "no record", and the marker in the environment answers instead.
Why tmpfs: it means nothing after a boot, and a restart must not cost a write to flash.
Light on purpose: the resident guard imports it.
"""

import os

from edgeheal.image.records import RecordError, block, unblock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Value = dict[str, Any]

SIZE = 2_048
VERSION = 1


class RunRecord:
    """One app's record."""

    __slots__ = ("_fd", "path", "value")

    def __init__(self, folder: str, app: str) -> None:
        """`folder` is the guard's own below /run, mode 0700."""
        self.path = f"{folder}/{app}"
        self.value: Value = {}
        self._fd = -1

    def load(self) -> "Value":
        """What is there, {} when nothing or nothing whole is."""
        try:
            with open(self.path, "rb", buffering=0) as file:
                value = unblock(file.read(SIZE))
        except OSError:
            value = None
        self.value = value if isinstance(value, dict) and value.get("v") == VERSION else {}
        return dict(self.value)

    def keep(self, **words: "Any") -> bool:
        """Change these words; False when it could not be written (the run goes on, only adoption suffers)."""
        self.value = self.value | {"v": VERSION} | words
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            os.pwrite(self._fd, block(self.value, SIZE), 0)
        except (OSError, RecordError):
            return False
        return True

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class EventLog:
    """Events that the agent has not confirmed, kept on tmpfs so that the guard's own death loses none."""

    __slots__ = ("_fd", "_most", "_size")

    def __init__(self, path: str, most: int, size: int) -> None:
        """`most` events of `size` bytes; slot 0 holds the confirmed number."""
        self._most = most
        self._size = size
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            self._fd = -1

    def load(self) -> "tuple[int, list[bytes]]":
        """(confirmed number, events of any number); what is torn or empty is left out."""
        if self._fd < 0:
            return 0, []
        raw = os.pread(self._fd, self._size * (self._most + 1), 0)
        slots = [raw[at : at + self._size] for at in range(0, len(raw), self._size)]
        acked = int.from_bytes(slots[0][:4], "big") if slots else 0
        return acked, [slot for slot in slots[1:] if len(slot) == self._size and slot[0]]

    def keep(self, number: int, event: bytes) -> None:
        """One event."""
        self._write(event, self._size * (1 + number % self._most))

    def acked(self, number: int) -> None:
        """Everything up to this number is the agent's."""
        self._write(number.to_bytes(4, "big"), 0)

    def _write(self, data: bytes, at: int) -> None:
        if self._fd >= 0:
            try:
                os.pwrite(self._fd, data, at)
            except OSError:
                return
