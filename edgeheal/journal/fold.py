# SPDX-License-Identifier: Apache-2.0
"""What the journal knows when it is read again: the last snapshot, what came after it, what is in doubt, the last numbers.

Duty: fold frames into `Recovered`. It reads no file and settles no doubt: the agent asks the ports for the facts.
Invariants: an intent without outcome is in doubt, however old, in whatever session; an outcome without its intent is only a line;
numbers are the highest ever seen, so that none is given twice; damage is carried along, and a damaged journal is never fresh.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from edgeheal.journal.frames import Frame
from edgeheal.journal.records import DecidedLine, Gap, Intent, LightAct, Outcome, Record, Session, Snapshot, Told, Unread, record_of
from edgeheal.journal.segments import Damage

LINES_MOST = 4_096
TOLD_MOST = 256


@dataclass(frozen=True, slots=True)
class Recovered:
    """`state` is the packed engine state of the last snapshot (None: none was readable), `lines` what was recorded after it.

    `doubt`: intents without outcome, oldest first. `told`: the newest revision told of each incident, oldest first, bounded.
    `act`, `incident`: highest numbers seen (0: none). `fresh`: nothing was ever written here. `unread`: records of a newer version.
    """

    state: bytes | None = None
    state_when_mono_ns: int = 0
    session: Session | None = None
    lines: tuple[Record, ...] = ()
    doubt: tuple[Intent, ...] = ()
    told: tuple[Told, ...] = ()
    act: int = 0
    incident: int = 0
    unread: int = 0
    damage: tuple[Damage, ...] = ()
    fresh: bool = True


@dataclass(slots=True)
class _Fold:
    out: Recovered = field(default_factory=Recovered)
    lines: list[Record] = field(default_factory=list)
    open: dict[int, Intent] = field(default_factory=dict)
    told: dict[tuple[bytes, int], Told] = field(default_factory=dict)


def fold(frames: Iterable[Frame], *, damage: tuple[Damage, ...] = (), fresh: bool = False) -> Recovered:
    """Fold all frames, oldest first."""
    state = _Fold()
    for frame in frames:
        record = record_of(frame)
        if isinstance(record, Unread):
            state.out = replace(state.out, unread=state.out.unread + 1)
        else:
            _one(state, record)
    return replace(
        state.out,
        lines=tuple(state.lines[-LINES_MOST:]),
        doubt=tuple(state.open.values()),
        told=tuple(list(state.told.values())[-TOLD_MOST:]),
        damage=damage,
        fresh=fresh,
    )


def _one(state: _Fold, record: Record) -> None:
    out = state.out
    match record:
        case Session():
            state.out = replace(out, session=record)
        case Snapshot():
            state.out = replace(out, state=record.state, state_when_mono_ns=record.when.mono_ns)
            state.lines.clear()
        case Intent():
            state.open[record.act] = record
            state.out = replace(out, act=max(out.act, record.act), incident=max(out.incident, record.incident))
            state.lines.append(record)
        case LightAct():
            state.out = replace(out, act=max(out.act, record.act), incident=max(out.incident, record.incident))
            state.lines.append(record)
        case Outcome():
            state.open.pop(record.act, None)
            state.out = replace(out, act=max(out.act, record.act))
            state.lines.append(record)
        case Told():
            key = (record.session, record.incident)
            older = state.told.pop(key, None)
            state.told[key] = older if older is not None and older.revision > record.revision else record
            state.out = replace(out, incident=max(out.incident, record.incident))
            state.lines.append(record)
        case DecidedLine() | Gap():
            incident = record.incident if isinstance(record, DecidedLine) else 0
            state.out = replace(out, incident=max(out.incident, incident))
            state.lines.append(record)
