# SPDX-License-Identifier: Apache-2.0
"""The agent's memory across its deaths: takes the engine's state over from the ring or the journal, settles what is in doubt.

Duty: at the start, decide from what was kept which state to go on from. It judges no app.
Invariants: the ring of this boot (it survives a SIGKILL) goes before the journal's last snapshot; an unreadable or newer snapshot
is kept unread and the agent begins anew, saying so; intents without outcome are handed to the engine as *in doubt*, never repeated;
a report that the ring knows and the journal does not was cut between deciding and telling: it is told now, under its own key, so
that telling it twice tells it once.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from edgeheal.core.effect import Report
from edgeheal.core.errors import EdgeHealError
from edgeheal.core.incident import Incident
from edgeheal.core.now import Now
from edgeheal.core.signal import ActEnded, SelfSaid, Signal
from edgeheal.engine import snapshot
from edgeheal.engine.state import State, initial, rebooted, resumed
from edgeheal.engine.step import step
from edgeheal.journal.fold import Recovered
from edgeheal.journal.recording import Entry
from edgeheal.journal.records import Told, unpack_state
from edgeheal.wire import summary


@dataclass(frozen=True, slots=True)
class Taken:
    """The state to go on from, what must be said about it, how it was come by (`ring`, `journal`, `new`), and reports to be told still."""

    state: State
    says: tuple[Signal, ...]
    source: str
    untold: tuple[Incident, ...] = ()


def packed(state: State) -> bytes:
    """The state's bytes for journal and ring."""
    from edgeheal.journal.records import pack_state

    return pack_state(snapshot.to_plain(state))


def take_over(seed: int, session: bytes, now: Now, found: Recovered, ring: tuple[bytes, Iterable[Entry]] | None) -> Taken:
    """The newest state that can be read, in this boot and this session."""
    says: list[Signal] = []
    state: State | None = None
    source = "new"
    reports: dict[tuple[bytes, int], Incident] = {}
    if ring is not None:
        state = _read(ring[0], says, "ring")
        if state is not None:
            source = "ring"
            for entry in ring[1]:
                state, effects = step(state, entry.signal, entry.now)
                reports |= {(e.incident.session, e.incident.number): e.incident for e in effects if isinstance(e, Report)}
    if state is None and found.state is not None:
        state = _read(found.state, says, "journal")
        source = "journal" if state is not None else source
    if state is None:
        fresh = resumed(initial(seed, session), session, act=found.act, incident=found.incident)
        return Taken(fresh, (*says, *_doubts(found)), source)
    if state.boot and state.boot != now.boot:
        state = rebooted(state, now)
    taken = resumed(state, session, act=found.act, incident=found.incident)
    return Taken(taken, (*says, *_past_troubles(taken), *_doubts(found)), source, _untold(reports, found.told))


def _untold(reports: dict[tuple[bytes, int], Incident], told: Iterable[Told]) -> tuple[Incident, ...]:
    """The newest revisions that no line of the journal tells."""
    if not reports:
        return ()
    known: dict[tuple[bytes, int], int] = {}
    for line in told:
        try:
            said = summary.decode(line.body)
        except EdgeHealError:
            continue
        known[said.session or line.session, said.number] = max(line.revision, known.get((said.session or line.session, said.number), -1))
    return tuple(incident for key, incident in reports.items() if incident.revision > known.get(key, -1))


def _past_troubles(state: State) -> list[Signal]:
    """What a dead agent said of itself ended with it; what still holds is said again. The guard's being lost is judged at its door."""
    troubles = [name.partition(":") for name in state.senses.box.itself.on]
    return [SelfSaid(part=part, what=what, ok=True) for part, _, what in troubles if part != "guard"]


def _read(data: bytes, says: list[Signal], part: str) -> State | None:
    try:
        return snapshot.from_plain(unpack_state(data))
    except (EdgeHealError, ValueError) as fault:
        says.append(SelfSaid(part=part, what="unreadable", ok=False, text=str(fault)[:200]))
        return None


def _doubts(found: Recovered) -> list[Signal]:
    return [ActEnded(intent.act, ok=False, doubt=True) for intent in found.doubt]
