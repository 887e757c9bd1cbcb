# SPDX-License-Identifier: Apache-2.0
"""What an agent said of itself does not outlive it: its incident ends with the next agent, or is said again."""

from edgeheal.agent.store import take_over
from edgeheal.core.effect import Report
from edgeheal.core.kinds import IncidentState
from edgeheal.core.now import NS, Now
from edgeheal.core.signal import SelfSaid, Tick
from edgeheal.engine.snapshot import to_plain
from edgeheal.engine.state import initial
from edgeheal.engine.step import step
from edgeheal.journal.fold import Recovered
from edgeheal.journal.records import pack_state


def at(second: int) -> Now:
    return Now("boot", second * NS, second, 1_700_000_000 + second, trusted=True)


def test_a_trouble_of_a_dead_agent_is_over_with_the_next_one():
    state, effects = step(initial(1, b"first!"), SelfSaid(part="recorder", what="unwritable", ok=False, text="no space"), at(1))
    assert [e.incident.state for e in effects if isinstance(e, Report)]
    assert list(state.senses.box.itself.on) == ["recorder:unwritable"]
    taken = take_over(1, b"second", at(2), Recovered(), (pack_state(to_plain(state)), ()))
    state, told = taken.state, []
    for second, signal in enumerate((*taken.says, Tick(), Tick()), 3):
        state, effects = step(state, signal, at(second * 100))
        told += [e.incident.state for e in effects if isinstance(e, Report)]
    assert told[-1] is IncidentState.RESOLVED
    assert state.cases == {}
