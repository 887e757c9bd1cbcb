# SPDX-License-Identifier: Apache-2.0
"""What an agent said, or was about to say, when it died: told once, and what it said of itself does not outlive it."""

from edgeheal.agent.store import Taken, take_over
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Report
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import IncidentState, SymptomKind
from edgeheal.core.now import NS, Now
from edgeheal.core.signal import SelfSaid, Signal, Tick
from edgeheal.core.signal import to_plain as to_list
from edgeheal.engine.snapshot import to_plain
from edgeheal.engine.state import State, initial
from edgeheal.engine.step import step
from edgeheal.journal.fold import Recovered
from edgeheal.journal.recording import Entry
from edgeheal.journal.records import Told, When, pack_state
from edgeheal.wire import summary

FIRST = b"first!"


def at(second: int) -> Now:
    return Now("boot", second * NS, second, 1_700_000_000 + second, trusted=True)


def reports(effects) -> list[Incident]:
    return [e.incident for e in effects if isinstance(e, Report)]


def told_by(state: State, signals) -> tuple[State, list[Incident]]:
    found = []
    for second, signal in enumerate(signals, 3):
        state, effects = step(state, signal, at(second * 100))
        found += reports(effects)
    return state, found


def test_a_trouble_of_a_dead_agent_is_over_with_the_next_one():
    state, effects = step(initial(1, FIRST), SelfSaid(part="recorder", what="unwritable", ok=False, text="no space"), at(1))
    assert len(reports(effects)) == 1
    taken = take_over(1, b"second", at(2), Recovered(), (pack_state(to_plain(state)), ()))
    state, found = told_by(taken.state, (*taken.says, Tick(), Tick()))
    assert found[-1].state is IncidentState.RESOLVED
    assert state.cases == {}


def crashed(told: tuple[Told, ...]) -> tuple[Taken, list[Incident]]:
    """The agent noted the end of an app in its ring and was killed; `told`: what its journal has."""
    state = initial(1, FIRST)
    state, _ = step(state, sig.CatalogIs((AppSpec("a").to_plain(),)), at(1))
    state, _ = step(state, sig.AppSeen("a", 7, 2, 99, 1, image="img1"), at(1))
    packed = pack_state(to_plain(state))
    signals: list[Signal] = [sig.AppExited("a", 7, signum=9, lived_ms=90_000)]
    steps, found = [], []
    for second, signal in enumerate(signals, 60):
        state, effects = step(state, signal, at(second))
        found += reports(effects)
        steps.append(Entry(at(second), to_list(signal), []))
    return take_over(1, b"second", at(62), Recovered(told=told), (packed, steps)), found


def test_a_report_cut_between_deciding_and_telling_is_told_by_the_next_agent_under_its_own_key():
    taken, found = crashed(())
    assert [i.symptom for i in found] == [SymptomKind.EXIT]
    assert taken.untold == (found[-1],)
    assert taken.untold[0].session == FIRST


def test_a_report_that_the_journal_knows_is_not_told_again():
    _, found = crashed(())
    told = tuple(Told(When(), FIRST, 1 + n, i.number, i.revision, summary.encode(i, session=FIRST, now_ns=60 * NS)) for n, i in enumerate(found))
    taken, _ = crashed(told)
    assert taken.untold == ()
