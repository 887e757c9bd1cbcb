# SPDX-License-Identifier: Apache-2.0
"""The marks log: an append-only witness of what became good, what was blocked, and which counters were reached.

Duty: one line for each mark; read back only when a record that it stands for is damaged. It is never the truth while that record is whole.
Invariants: a torn, foreign or zeroed line is skipped, the others count; it is bounded (compacted by whole-file replacement); a full disk
costs a line, never a move. Source: safety.md section 7, two bad records.
Light on purpose: the resident guard imports it.

Line: crc32 hex, space, words joined by one space, newline. Words: `image APP ID STATE REASON SECURITY MARKED DATA CONFIG TRUST DIGEST LAUNCH VERSION`,
`run APP ID`, `floor APP EPOCH N`, `wanted APP RUNNING BY UNTIL`, `counter KEY N`, `trust N`, `policy EPOCH N`.
"""

import binascii
import os

from edgeheal.core.deployment import BAD, GOOD, R_REVOKED
from edgeheal.guard.appstate import AppState, Deployment
from edgeheal.guard.blocks import sync_folder

MOST_BYTES = 262_144


class Marks:
    """The log `marks` in the guard's folder."""

    __slots__ = ("_dirty", "_path", "writable")

    def __init__(self, folder: str) -> None:
        """`folder` is the guard's own."""
        self._path = f"{folder}/marks"
        self._dirty = False
        self.writable = True

    def moved(self, state: AppState, one: Deployment, event: int) -> None:
        """A deployment moved: its line, the app's floor, and what runs."""
        words = (
            f"image {state.app} {one.hex} {one.state} {one.reason} {one.security} {one.marked} {one.data} {one.config} {one.trust} "
            f"{one.digest.hex() or '-'} {one.launch} {one.version.replace(' ', '_').replace(chr(10), '_') or '-'}"
        )
        self.say(words, f"floor {state.app} {state.floor[0]} {state.floor[1]}", f"run {state.app} {state.run.hex() or '-'}")

    def say(self, *lines: str) -> None:
        """Append; it is made durable by `sync`, soon."""
        raw = b"".join(_line(words) for words in lines)
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            self.writable = False
            return
        try:
            os.write(fd, raw)
            self._dirty = self.writable = True
            size = os.fstat(fd).st_size
        except OSError:
            self.writable = False
            return
        finally:
            os.close(fd)
        if size > MOST_BYTES:
            self._compact()

    def sync(self) -> None:
        """Make what was said durable."""
        if not self._dirty:
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.fdatasync(fd)
            self._dirty = False
        except OSError:
            self.writable = False
        finally:
            os.close(fd)

    def read(self) -> "list[list[str]]":
        """All whole lines, oldest first, as words."""
        try:
            with open(self._path, "rb") as file:
                raw = file.read(4 * MOST_BYTES)
        except OSError:
            return []
        lines = []
        for line in raw.split(b"\n"):
            crc, _, words = line.partition(b" ")
            if len(crc) == 8 and words.isascii() and f"{binascii.crc32(words):08x}".encode() == crc:
                lines.append(words.decode().split(" "))
        return lines

    def known(self, app: str) -> bool:
        """Whether anything was ever marked of this app."""
        return any(words[1] == app for words in self.read() if words[0] in ("image", "floor", "run"))

    def recall(self, app: str) -> AppState:
        """The app's state as the log has it: deployments with their last mark, blocks, floor, what ran, what was wanted."""
        state = AppState(app)
        for words in self.read():
            if len(words) < 3 or words[1] != app:
                continue
            try:
                self._take(state, words)
            except (ValueError, IndexError):
                continue
        return state

    @staticmethod
    def _take(state: AppState, words: "list[str]") -> None:
        kind = words[0]
        if kind == "image":
            one = Deployment(bytes.fromhex(words[2]), words[12] if words[12] != "-" else "", bytes.fromhex(words[10].replace("-", "")))
            one.launch = int(words[11])
            one.state, one.reason, one.security, one.marked, one.data, one.config, one.trust = (int(w) for w in words[3:10])
            state.deployments[one.id] = one
            if one.state == BAD:
                state.block(one, one.reason)
            elif one.reason != R_REVOKED:
                state.unblock(one.id, one.digest or one.id)
        elif kind == "floor":
            state.floor = max(state.floor, (int(words[2]), int(words[3])))
        elif kind == "run":
            state.before, state.run = state.run, bytes.fromhex(words[2].replace("-", ""))
        elif kind == "wanted":
            state.wanted = (int(words[2]), int(words[3]), int(words[4]))

    def highest(self, kind: str) -> "dict[str, int]":
        """The highest number said for `counter KEY N`, or under "" for `trust N`."""
        highest: dict[str, int] = {}
        for words in self.read():
            if words[0] == kind:
                key = words[1] if len(words) > 2 else ""
                try:
                    highest[key] = max(highest.get(key, 0), int(words[-1]))
                except ValueError:
                    continue
        return highest

    def _compact(self) -> None:
        """Keep the last line of each kind and subject (for GOOD and BAD images all that is known), as a new file."""
        last: dict[tuple[str, ...], str] = {}
        for words in self.read():
            key = tuple(words[:3]) if words[0] == "image" else tuple(words[:2]) if len(words) > 2 else (words[0],)
            last.pop(key, None)
            last[key] = " ".join(words)
        kept = list(last.values())
        while sum(map(len, kept)) > MOST_BYTES // 2:
            dull = next((i for i, line in enumerate(kept) if line.startswith("image ") and int(line.split(" ")[3]) not in (GOOD, BAD)), 0)
            del kept[dull]
        fresh = f"{self._path}.new"
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, b"".join(_line(words) for words in kept))
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(fresh, self._path)
            sync_folder(os.path.dirname(self._path))
        except OSError:
            self.writable = False


def _line(words: str) -> bytes:
    raw = words.encode("ascii", "replace")
    return f"{binascii.crc32(raw):08x} ".encode() + raw + b"\n"
