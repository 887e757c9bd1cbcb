# SPDX-License-Identifier: Apache-2.0
"""Follows the apps' logs and tells what is new in them: folded templates, crashes with their frames.

Duty: read each app's log through a descriptor that the guard passed, mine it, emit `LogSeen`; ask that what was read be freed. It never
writes to a log and never makes an app wait.
Invariants: a turn reads at most `CHUNK` bytes of a log (`CHUNK_MOST` while all of it is known) and mines at most `MINED_MOST` lines, and
after it we rest for three times as long as it took; a template met for the first time is told at once, however loud the others
are (`NEW_BURST`, then four a second, gravest first); what is folded or passed over is counted and said, also what the guard
had to free before it was read (a hole in the file, `UNREAD`, in bytes); text is masked and escaped before it leaves; an app's
share of memory is bounded by its miner's.

A plain file has no readiness: a quiet log is watched by inotify (by the clock where that is refused), a busy one read by the clock,
faster while much comes, and at once when the app ends.
"""

import errno
import os
import re
import select
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edgeheal.adapters.logs.level import CRITICAL, INFO, WARNING, level_of
from edgeheal.adapters.logs.miner import Miner
from edgeheal.adapters.logs.readers.shape import Crash
from edgeheal.adapters.logs.traces import HINT, Traces
from edgeheal.adapters.logs.watch import Watch
from edgeheal.core.mask import Masker
from edgeheal.core.now import NS
from edgeheal.core.signal import AppExited, AppSeen, AppStarted, LogSeen, Signal
from edgeheal.ports import Emit

CHUNK = 131_072
CHUNK_MOST = 1_048_576
MINED_MOST = 256
REST = 3
LINE_MOST = 4_096
TAIL = 48
ASK_AGAIN_NS = 5 * NS
QUIET_NS = NS  # where a quiet log cannot be watched
WATCHED_NS = 60 * NS  # where it can: a lost wake-up does not leave us deaf
BUSY_NS = NS // 2
FLOOD_NS = NS // 10
WOKEN_NS = NS // 100  # more comes than the first line
SOON_NS = NS // 20
AT_ONCE_NS = NS // 100
FLUSH_NS = 10 * NS
TRACE_IDLE_NS = NS // 4
HALF_LINE_NS = 2 * NS
CRASHES_MOST = 16
NEW_BURST = 64
NEW_EVERY_NS = NS // 4
WAITING_MOST = 64
FOLDS_MOST = 512
FOLD_LINE_MOST = 200
CAP_BYTES = 1_048_576
OTHERS = "(further new lines)"
UNREAD = "(bytes that were freed before they were read)"
LOUD_MOST = 4
LOUD_FROM = 1_000  # times in a chunk

Give = Callable[[int], None]
"""Takes the descriptor of a log; -1 when there is none."""
OpenLog = Callable[[str, Give], None]

_SHAPE = bytes.maketrans(b"123456789", b"000000000")  # lines that differ in digits alone are folded before they are looked at


@dataclass(slots=True)
class _Log:
    """One app's log."""

    app: str
    fd: int = -1
    asked: bool = False
    offset: int = 0
    chunk: int = CHUNK
    tail: bytes = b""
    rest: bytes = b""
    put_back: bool = False
    watch: int = -1
    due_ns: int = 0
    before_ns: int = 0
    quiet_ns: int = 0  # since when nothing came; for the end of a trace
    flush_ns: int = 0
    ending: bool = False
    fresh: bool = False
    cutting: bool = False
    cut: int = 0  # up to here it was asked to be freed
    miner: Miner = field(default_factory=Miner)
    traces: Traces = field(default_factory=Traces)
    folds: dict[bytes, int] = field(default_factory=dict)
    levels: dict[int, tuple[int, str]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    waiting: list[LogSeen] = field(default_factory=list)
    crashes: dict[LogSeen, int] = field(default_factory=dict)
    passed_over: int = 0
    unread: int = 0
    loud: dict[re.Pattern[bytes], int] = field(default_factory=dict)  # lines of which a chunk was full, with their groups
    allowance: int = NEW_BURST
    refill_ns: int = 0


class Logs:
    """A `ports.Source`."""

    def __init__(
        self,
        emit: Emit,
        open_log: OpenLog,
        cut: Callable[[str, int, Callable[[], None]], None],
        clock: Callable[[], int],
        *,
        masker: Masker | None = None,
        cap_of: Callable[[str], int] = lambda _: CAP_BYTES,
        work: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        """`open_log` asks the guard for a read-only descriptor; `cap_of` an app is its log's cap in bytes.

        `cut(app, upto, done)` asks it to free what was read; `work` tells the processor time spent so far.
        """
        self._emit = emit
        self._open_log = open_log
        self._cut = cut
        self._clock = clock
        self._masker = masker or Masker()
        self._cap_of = cap_of
        self._work = work
        self._logs: dict[str, _Log] = {}
        self._watch = Watch()

    def secrets(self, values: tuple[str, ...]) -> None:
        """Values that must not leave in any encoding, from now on."""
        self._masker = Masker(values)

    def heed(self, signal: Signal) -> None:
        """Apps begin and end as the guard says."""
        match signal:
            case AppStarted(app=app):
                self._follow(app, fresh=True)
            case AppSeen(app=app, pid=pid) if pid > 0:
                self._follow(app, fresh=False)
            case AppExited(app=app) if app in self._logs:
                log = self._logs[app]
                log.ending = True
                log.due_ns = self._clock()

    def forget(self, app: str) -> None:
        """The app does not exist here any more."""
        log = self._logs.pop(app, None)
        if log is not None and log.fd >= 0:
            self._watch.disarm(log.watch)
            os.close(log.fd)

    def guard_lost(self) -> None:
        """The guard went away: what was asked of it is asked again. Descriptors in hand stay good."""
        for log in self._logs.values():
            log.asked = False
            log.cutting = False

    # -- ports.Source

    def fds(self) -> dict[int, int]:
        """Where the kernel tells that a quiet log is written to."""
        return {self._watch.fd: select.POLLIN} if self._watch.fd >= 0 else {}

    def ready(self, fd: int, events: int) -> None:
        """Quiet logs are quiet no more."""
        fired = self._watch.fired()
        for log in self._logs.values():
            if log.watch in fired:
                log.watch = -1
                log.due_ns = min(log.due_ns, self._clock() + WOKEN_NS)

    def due(self) -> int:
        """The next look at any log."""
        return min((log.due_ns for log in self._logs.values() if log.due_ns), default=0)

    def tick(self, now_ns: int) -> None:
        """Look at the logs that are due, and at those that soon would be."""
        for log in tuple(self._logs.values()):
            if log.fd < 0:
                log.due_ns = 0 if log.asked else now_ns + ASK_AGAIN_NS
                self._ask(log)
            elif now_ns >= log.due_ns - SOON_NS:
                self._look(log, now_ns)

    def close(self) -> None:
        """Let go of the descriptors."""
        for app in tuple(self._logs):
            self.forget(app)
        self._watch.close()

    # -- following

    def _follow(self, app: str, *, fresh: bool) -> None:
        log = self._logs.get(app)
        if log is None:
            log = self._logs[app] = _Log(app, fresh=fresh, flush_ns=self._clock() + FLUSH_NS)
        log.ending = False
        if log.fd < 0:
            self._ask(log)
        else:
            log.due_ns = self._clock() + BUSY_NS

    def _ask(self, log: _Log) -> None:
        if log.asked:
            return
        log.asked = True

        def give(fd: int) -> None:
            if self._logs.get(log.app) is not log or log.fd >= 0:
                if fd >= 0:
                    os.close(fd)
                return
            log.asked = False
            log.due_ns = self._clock() + (0 if fd >= 0 else ASK_AGAIN_NS)
            if fd >= 0:
                log.fd = fd
                size = os.fstat(fd).st_size
                log.offset = max(0, size - CHUNK) if log.fresh else size

        self._open_log(log.app, give)

    def _look(self, log: _Log, now_ns: int) -> None:
        began_ns = self._work()
        read, left = self._read(log)
        if read:
            log.before_ns, log.quiet_ns = log.quiet_ns, now_ns
        elif log.traces.busy and (log.ending or now_ns - log.quiet_ns >= (HALF_LINE_NS if log.rest else TRACE_IDLE_NS)):
            self._line(log, log.rest)  # what has no newline yet belongs to the trace, or ends it
            log.rest = b""
            self._crashed(log, log.traces.flush())
        self._tell_waiting(log, now_ns)
        if now_ns >= log.flush_ns or (log.ending and not left):
            log.flush_ns = now_ns + FLUSH_NS
            self._flush(log)
        spent_ns = self._work() - began_ns  # not the clock: on a busy box we wait for the processor more than we use it
        if left or (log.ending and log.traces.busy):
            log.due_ns = now_ns + spent_ns + max(AT_ONCE_NS, REST * spent_ns)
        elif log.waiting:
            log.due_ns = now_ns + NEW_EVERY_NS
        elif log.traces.busy:
            log.due_ns = now_ns + TRACE_IDLE_NS
        elif read:
            log.due_ns = now_ns + spent_ns + max(AT_ONCE_NS, REST * spent_ns, min(FLOOD_NS if read >= CHUNK // 2 else BUSY_NS, self._pace(log, read, now_ns)))
        else:
            log.ending = False
            log.due_ns = self._rest(log, now_ns)

    def _pace(self, log: _Log, read: int, now_ns: int) -> int:
        """How long a quarter of the cap takes to fill, as fast as it filled last: so that nothing is freed before we come."""
        return self._cap_of(log.app) // 4 * max(now_ns - log.before_ns, AT_ONCE_NS) // read

    def _rest(self, log: _Log, now_ns: int) -> int:
        """When to look at a log that has gone quiet: at the next flush while there is something to tell, else when it wakes us."""
        if log.fd < 0:
            return now_ns + ASK_AGAIN_NS
        if log.watch < 0:
            log.watch = self._watch.arm(log.fd)
            if os.fstat(log.fd).st_size != log.offset:
                return now_ns + WOKEN_NS  # written to just before it was armed
        quiet = now_ns + (QUIET_NS if log.watch < 0 else WATCHED_NS)
        return min(quiet, log.flush_ns) if log.counts or log.passed_over or log.unread or any(log.crashes.values()) else quiet

    def _read(self, log: _Log) -> tuple[int, bool]:
        """(bytes taken, whether there are more now)."""
        try:
            size = os.fstat(log.fd).st_size
            if size < log.offset or not self._goes_on(log):
                log.offset, log.cut, log.tail, log.rest, log.cutting = 0, 0, b"", b"", False  # it was emptied, and may have grown again
            room = 0 if log.put_back else log.chunk  # what was put back goes first
            data = self._fetch(log, room, size) if room and size > log.offset else b""
        except OSError:
            self._watch.disarm(log.watch)
            os.close(log.fd)
            log.fd, log.watch, log.tail = -1, -1, b""
            return 0, False
        if data:
            log.offset += len(data)
            log.tail = data[-TAIL:] if len(data) >= TAIL else (log.tail + data)[-TAIL:]
        if data or log.put_back:
            self._take(log, log.rest + data if log.rest else data)
        left = size > log.offset or log.put_back
        if log.offset - log.cut > self._cap_of(log.app) // 4 and not log.cutting and not log.put_back:
            log.cutting, log.cut = True, log.offset
            self._cut(log.app, log.offset, lambda: setattr(log, "cutting", False))
        return len(data), left

    def _goes_on(self, log: _Log) -> bool:
        """Whether what stands before our place is what we read there, or was freed since."""
        before = os.pread(log.fd, len(log.tail), log.offset - len(log.tail)) if log.tail else b""
        return before == log.tail or (len(before) == len(log.tail) and all(b in (0, a) for a, b in zip(log.tail, before, strict=True)))

    def _fetch(self, log: _Log, room: int, size: int) -> bytes:
        """What comes next; what was freed before we came is passed over, with the rest of the line that it cut."""
        try:
            at = os.lseek(log.fd, log.offset, os.SEEK_DATA)
        except OSError as fault:
            at = size if fault.errno == errno.ENXIO else log.offset
        data = os.pread(log.fd, room, at)
        skip = len(data) - len(data.lstrip(b"\0")) if data[:1] == b"\0" else 0
        if at + skip > log.offset:
            skip += data.find(b"\n", skip) + 1 - skip if b"\n" in data[skip:] else 0
            log.unread += at + skip - log.offset + len(log.rest)
            log.offset, log.tail, log.rest = at + skip, b"", b""
        return data[skip:]

    def _take(self, log: _Log, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) >= LINE_MOST:
            end = len(data)  # a line without an end is taken in pieces
        log.rest, log.put_back = data[end:], False
        if end == 0:
            return
        body = data[: end - 1] if data[end - 1 : end] == b"\n" else data[:end]
        if log.loud and not log.traces.busy:
            body = self._quieten(log, body)
            if not body:
                log.chunk = CHUNK_MOST
                return
        shapes = body.translate(_SHAPE).split(b"\n")
        log.chunk = CHUNK
        if not log.traces.busy:
            counts = Counter(shapes)
            if len(shapes) > LOUD_FROM:
                self._who_is_loud(log, counts)
            if counts.keys() <= log.folds.keys():
                for shape, count in counts.items():
                    self._count(log, log.folds[shape], count)
                log.chunk = CHUNK_MOST
                return
        self._mine(log, body, shapes)

    def _who_is_loud(self, log: _Log, counts: Counter[bytes]) -> None:
        """A line that comes again and again, but for its digits: a search by the C library passes over it faster than any split."""
        shape, count = counts.most_common(1)[0]
        number = log.folds.get(shape)
        if number is None or count < LOUD_FROM or len(shape) > FOLD_LINE_MOST:
            return
        pattern = re.compile(rb"\n(?:" + re.sub(rb"0+", rb"[0-9]+", re.escape(shape)) + rb"\n)+")
        while len(log.loud) >= LOUD_MOST:
            log.loud.pop(next(iter(log.loud)))
        log.loud[pattern] = number

    def _quieten(self, log: _Log, body: bytes) -> bytes:
        """The body without its loud lines; they are counted."""
        body = b"\n" + body + b"\n"
        for pattern, number in log.loud.items():
            less = pattern.sub(b"\n", body)
            if len(less) < len(body):
                self._count(log, number, body.count(b"\n") - less.count(b"\n"))
                body = less
        return body[1:-1]

    def _mine(self, log: _Log, body: bytes, shapes: list[bytes]) -> None:
        """Line by line; beyond the bound of a turn the rest is put back."""
        mined = at = 0
        for line, shape in zip(body.split(b"\n"), shapes, strict=True):
            number = log.folds.get(shape)
            if number is not None and not log.traces.busy:
                self._count(log, number, 1)
            else:
                if mined >= MINED_MOST:
                    log.rest, log.put_back = body[at:] + b"\n" + log.rest, True
                    break
                mined += 1
                number = self._line(log, line)
                if number and len(shape) <= FOLD_LINE_MOST:
                    if len(log.folds) >= FOLDS_MOST:
                        log.folds.clear()
                    log.folds[shape] = number
            at += len(line) + 1

    def _count(self, log: _Log, number: int, count: int) -> None:
        log.counts[number] = log.counts.get(number, 0) + count

    def _line(self, log: _Log, raw: bytes) -> int:
        """Take one line; the number of its group, 0 when it belongs to a trace (or might begin one) and must be looked at each time."""
        line = raw[:LINE_MOST].decode("utf-8", "backslashreplace").rstrip("\r")
        if not line.strip():
            if log.traces.busy:
                self._crashed(log, log.traces.feed(line)[1])
            return 0
        part, crash = log.traces.feed(line)
        self._crashed(log, crash)
        if part:
            return 0
        group, new = log.miner.add(line)
        if new:
            level = level_of(line)
            said = self._masker.fit(line)
            log.levels[group.number] = (level, said)
            self._new(log, LogSeen(log.app, self._masker.fit(group.template), 1, level, said))
        else:
            self._count(log, group.number, 1)
        return 0 if HINT.search(line) else group.number

    # -- telling

    def _new(self, log: _Log, seen: LogSeen) -> None:
        """Gravest first in the row; when it is full the least grave is passed over, counted."""
        log.waiting.append(seen)
        if len(log.waiting) > WAITING_MOST:
            log.waiting.sort(key=lambda s: s.level)
            log.waiting.pop()
            log.passed_over += 1

    def _tell_waiting(self, log: _Log, now_ns: int) -> None:
        """As many new ones as the allowance has."""
        refill = min(NEW_BURST, (now_ns - log.refill_ns) // NEW_EVERY_NS)
        if refill > 0:
            log.allowance = min(NEW_BURST, log.allowance + refill)
            log.refill_ns = now_ns
        if log.waiting and log.allowance:
            log.waiting.sort(key=lambda seen: seen.level)
            now, log.waiting = log.waiting[: log.allowance], log.waiting[log.allowance :]
            log.allowance -= len(now)
            for seen in now:
                self._emit(seen)

    def _crashed(self, log: _Log, crash: Crash | None) -> None:
        if crash is None:
            return
        error = self._masker.fit(crash.error, 80)
        frames = tuple(self._masker.fit(frame, 80) for frame in crash.frames)
        seen = LogSeen(log.app, f"{crash.language} {error}", 1, CRITICAL, "", frames, error)
        if seen in log.crashes:
            log.crashes[seen] += 1  # told with its number at the next flush, which an exit brings on
            return
        if len(log.crashes) < CRASHES_MOST:
            log.crashes[seen] = 0
        self._emit(replace(seen, excerpt=self._masker.fit(crash.message)))

    def _flush(self, log: _Log) -> None:
        """How often the known ones came: from warnings up; what only informs is folded away."""
        counts, log.counts = log.counts, {}
        for number, count in counts.items():
            level, said = log.levels.get(number, (INFO, ""))
            if level <= WARNING:
                self._emit(LogSeen(log.app, self._masker.fit(log.miner.template(number) or said), count, level, said))
        crashes, log.crashes = log.crashes, {}
        for crash, count in crashes.items():
            if count:
                self._emit(replace(crash, count=count))
        if log.passed_over:
            self._emit(LogSeen(log.app, OTHERS, log.passed_over, WARNING))
            log.passed_over = 0
        if log.unread:
            self._emit(LogSeen(log.app, UNREAD, log.unread, WARNING))
            log.unread = 0
        log.levels = {number: said for number, said in log.levels.items() if log.miner.template(number)}
