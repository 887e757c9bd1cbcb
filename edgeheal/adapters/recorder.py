# SPDX-License-Identifier: Apache-2.0
"""The flight recorder: the ring's copy on tmpfs, so that it survives an agent's death, and one `.ehr` file per incident.

Duty: write what `journal.ring` holds: to tmpfs each turn, to flash when an incident opens, decides or closes. It decides nothing.
Invariants: the copy is always a snapshot and all steps after it; files are bounded in size and number; a recording that cannot be
written costs itself, never the healing; recordings left open by a dead agent go on as a new part. Implements `ports.Source`.

What it says about itself (`SelfSaid`, part "recorder"): ring (the copy cannot be written; value = errno), unwritable (a recording
cannot be; value = errno), full (a recording reached its bound).
"""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeheal.core.effect import Effect
from edgeheal.core.ids import short_id
from edgeheal.core.now import NS, Now
from edgeheal.core.signal import CatalogIs, PolicyIs, SelfSaid, Signal
from edgeheal.core.version import VERSION
from edgeheal.journal import frames, recording
from edgeheal.journal.ops import Ended, Op, Remove, Replace, Sync, Write
from edgeheal.journal.recording import Entry, Kind
from edgeheal.journal.ring import Generation, Ring, Tape, about
from edgeheal.ports import Disk, Emit

FOLDER = "recordings"
KEEP = 16
SETTLE_NS = 3 * NS  # so long after something was decided the file is written
AGAIN_NS = 60 * NS  # and not more often than this until it closes
CLOSE_NS = NS // 2
RING_SALT = int.from_bytes(b"RING", "big")

State = Callable[[], bytes | None]


@dataclass(frozen=True, slots=True)
class Survivor:
    """What the ring's copy held after an agent's death in this boot: packed state, the steps after it, whose they were."""

    state: bytes
    steps: tuple[Entry, ...]
    session: bytes


class FlightRecorder:
    """See the module. `folder`: the agent's run folder (tmpfs); `state` gives the engine's packed state."""

    def __init__(
        self,
        disk: Disk,
        emit: Emit,
        *,
        folder: str,
        state: State,
        session: bytes,
        boot: str,
        device: str = "",
        schema: int = 1,
        most_bytes: int | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Reads what a dead agent left (`survivor`); `start` begins to record."""
        self._disk = disk
        self._clock = clock
        self._emit = emit
        self._folder = folder
        self._state = state
        self._header = {"v": recording.VERSION, "edgeheal": VERSION, "schema": schema, "device": recording.mask(device), "session": session, "boot": boot}
        self._session = session
        self._boot = boot
        self._ring = Ring() if most_bytes is None else Ring(most_bytes)
        self._says: deque[SelfSaid] = deque()
        self._policy: Any = None
        self._catalog: Any = None
        self._tapes: dict[int, Tape] = {}
        self._writing: set[int] = set()
        self._files: dict[str, int] = {}
        self._fd = -1
        self._silent = False
        self._troubled = False
        self._number = 0
        self.survivor = self._survivor()
        self._reopen()

    # -- the ring

    def start(self) -> None:
        """Begin to record from the engine's present state. Everything noted before is not replayable."""
        self._turn()

    def note(self, now: Now, signal: Signal, effects: tuple[Effect, ...]) -> None:
        """One step of the engine. Cheap: packed at `flush`."""
        self._ring.note(now, signal, effects)
        if isinstance(signal, PolicyIs):
            self._policy = signal.policy
        elif isinstance(signal, CatalogIs):
            self._catalog = signal.apps
        if effects:
            opened, decided, closed = about(effects)
            if opened or decided or closed:
                self._mark(opened, decided, closed)

    def flush(self) -> None:
        """The turn is over: copy what was noted to tmpfs; take a new snapshot when the generation is full."""
        packed = self._ring.pack()
        if packed:
            self._copy(frames.make(Kind.RAW, b"".join(packed)[: frames.MAX_BODY], salt=RING_SALT))
        if self._ring.full and self._ring.generations:
            self._turn()

    def _turn(self) -> None:
        state = self._state()
        if state is None:
            return
        generation = self._ring.turn(state, self._number + 1)
        self._number = generation.number
        self._begin_copy(generation)

    def _begin_copy(self, generation: Generation) -> None:
        """The copy of a generation lies under the name that the one before the last had."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        head = generation.number.to_bytes(8, "big") + self._session + self._boot.encode()
        try:
            os.makedirs(self._folder, 0o2750, exist_ok=True)
            path = f"{self._folder}/ring.{generation.number % 2}"
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as fault:
            self._copy_failed(fault)
            return
        self._copy(frames.make(Kind.HEADER, head, salt=RING_SALT) + frames.make(Kind.SNAPSHOT, generation.state, salt=RING_SALT))

    def _copy(self, data: bytes) -> None:
        if self._fd < 0:
            return
        fault = OSError(28, "short write")
        try:
            if os.write(self._fd, data) == len(data):
                if self._silent:
                    self._silent = False
                    self._say("ring", ok=True)
                return
        except OSError as raised:
            fault = raised
        os.close(self._fd)
        self._fd = -1
        self._copy_failed(fault)

    def _copy_failed(self, fault: OSError) -> None:
        """Without its copy the ring dies with us; the next generation tries again."""
        if not self._silent:
            self._silent = True
            self._say("ring", ok=False, value=float(fault.errno or 0), text=os.strerror(fault.errno or 5))

    def _survivor(self) -> Survivor | None:
        """The newest generation of this boot whose snapshot is whole, and its steps up to the first damage."""
        best: tuple[int, Survivor] | None = None
        for index in range(2):
            found = self._read_copy(f"{self._folder}/ring.{index}")
            if found is not None and (best is None or found[0] > best[0]):
                best = found
        if best is None:
            return None
        self._number = best[0]
        return best[1]

    def _read_copy(self, path: str) -> tuple[int, Survivor] | None:
        try:
            with open(path, "rb") as file:
                data = file.read(recording.READ_MOST)
        except OSError:
            return None
        run = list(frames.whole(data, salt=RING_SALT))
        if len(run) < 2 or run[0].kind != Kind.HEADER or run[1].kind != Kind.SNAPSHOT or len(run[0].body) < 14:
            return None
        head = run[0].body
        if head[14:].decode("utf-8", "replace") != self._boot:
            return None
        try:
            steps = recording.unpack_entries(b"".join(f.body for f in run[2:] if f.kind == Kind.RAW), self._boot)
            for step in steps:
                _ = step.signal
        except ValueError:
            return None  # a newer agent's: left alone, begun anew
        return int.from_bytes(head[:8], "big"), Survivor(run[1].body, tuple(steps), head[8:14])

    # -- recordings

    def _reopen(self) -> None:
        """Files without an end mark belong to incidents that may still be open: they go on as a new part."""
        self._files = {name: size for name, size in self._disk.names(FOLDER).items() if name.endswith(".ehr")}
        for name, size in self._files.items():
            number = _number(name)
            try:
                tail = self._disk.read(name, max(0, size - recording.END_BYTES), recording.END_BYTES)
            except OSError:
                continue
            if number and not recording.finished(tail):
                self._tapes[number] = Tape(name, number, at=(0, 0), size_bytes=size, decided=False)

    def _mark(self, opened: set[int], decided: set[int], closed: set[int]) -> None:
        now_ns = self._clock()
        for number in opened:
            if number not in self._tapes and self._ring.generations:
                name = f"{FOLDER}/{self._session.hex()}-{number:06d}-{short_id(self._session, number)}.ehr"
                self._tapes[number] = Tape(name, number, first_ns=now_ns)
        for number in decided | closed:
            tape = self._tapes.get(number)
            if tape is not None:
                tape.first_ns = tape.first_ns or now_ns
                tape.decided = True
                tape.closing = tape.closing or number in closed

    def _due_of(self, tape: Tape) -> int:
        if not tape.decided or tape.incident in self._writing or not tape.first_ns:
            return 0
        if tape.closing and not self._troubled:
            return tape.first_ns + CLOSE_NS
        return max(tape.first_ns + SETTLE_NS, tape.written_ns + AGAIN_NS if tape.written_ns else 0)

    def _write_tape(self, tape: Tape, now_ns: int) -> None:
        """Begin the file or add to it, in one batch with its sync."""
        self.flush()
        head = b"" if tape.size_bytes else recording.begin({**self._header, "incident": tape.incident}, self._policy, self._catalog)
        tape.size_bytes += len(head)
        was_full = tape.full
        chunk = tape.cut(self._ring)
        closing = tape.closing
        data = head + chunk + (recording.end(tape.steps) if closing else b"")
        if tape.full and not was_full:
            self._say("full", ok=False, text=os.path.basename(tape.name))
        at = tape.size_bytes - len(head)
        tape.size_bytes += len(data) - len(head)
        tape.decided, tape.first_ns, tape.written_ns = False, 0, now_ns
        ops: list[Op] = [Replace(tape.name, data)] if head else [Write(tape.name, at, data), Sync(tape.name)]
        ops += self._surplus(tape.name)
        self._writing.add(tape.incident)
        self._disk.submit(ops, lambda ended: self._written(tape, ended, closing=closing))

    def _surplus(self, adding: str) -> list[Op]:
        """What must go so that `KEEP` files stay: finished ones first, oldest first."""
        self._files.setdefault(adding, 0)
        busy = {tape.name for tape in self._tapes.values()}
        order = sorted((name for name in self._files if name != adding), key=lambda n: (n in busy, _number(n), n))
        gone = order[: max(0, len(self._files) - KEEP)]
        for name in gone:
            del self._files[name]
            self._tapes.pop(_number(name), None)
        return [Remove(name) for name in gone]

    def _written(self, tape: Tape, ended: Ended, *, closing: bool) -> None:
        self._writing.discard(tape.incident)
        if ended.errno:
            if not self._troubled:
                self._troubled = True
                self._say("unwritable", ok=False, value=float(ended.errno), text=os.strerror(ended.errno))
            tape.at, tape.size_bytes, tape.steps = None, 0, 0  # begun anew: what is on the medium is not known
            tape.decided, tape.first_ns = True, self._clock()
            return
        if self._troubled:
            self._troubled = False
            self._say("unwritable", ok=True)
        if closing:
            self._tapes.pop(tape.incident, None)

    def write_out(self) -> None:
        """Write all that is open now. For a clean stop."""
        for tape in list(self._tapes.values()):
            if tape.decided and tape.incident not in self._writing:
                self._write_tape(tape, self._clock())

    def _say(self, what: str, *, ok: bool, value: float = 0.0, text: str = "") -> None:
        self._says.append(SelfSaid(part="recorder", what=what, ok=ok, value=value, text=text))

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """None of its own."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """None of its own."""

    def due(self) -> int:
        """The earliest recording to write; at once when there is something to say."""
        return 1 if self._says else min((due for tape in self._tapes.values() if (due := self._due_of(tape))), default=0)

    def tick(self, now_ns: int) -> None:
        """Say what is to be said, write the recordings that are due."""
        while self._says:
            self._emit(self._says.popleft())
        for tape in list(self._tapes.values()):
            due = self._due_of(tape)
            if due and now_ns >= due:
                self._write_tape(tape, now_ns)


def _number(name: str) -> int:
    """The incident's number out of a file's name; 0 for a foreign one."""
    parts = name.rsplit("/", 1)[-1].split("-")
    return int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0


def recordings(disk: Disk) -> Sequence[str]:
    """Names of the recordings there, oldest first."""
    return sorted((n for n in disk.names(FOLDER) if n.endswith(".ehr")), key=_number)
