# SPDX-License-Identifier: Apache-2.0
"""The state that `step` folds over: everything the engine knows, in one value.

Duty: hold it, begin it, take it over into a new session or a new boot. It decides nothing.
Invariants: what decides (policy, catalog, apps, cases, acts, ledger) is immutable and replaced; `senses` and `learned` are numeric
memory, updated in place by `step`, so that a state is spent once it was stepped. Times in `_ns` belong to `boot`, in `_s` to the box.
"""

from dataclasses import dataclass, field
from typing import Any

from edgeheal.core.app import AppSpec
from edgeheal.core.effect import Verb
from edgeheal.core.incident import Incident
from edgeheal.core.now import Now
from edgeheal.core.plain import from_plain, to_plain
from edgeheal.core.policy import Policy
from edgeheal.core.values import replace
from edgeheal.detect.senses import Senses
from edgeheal.diagnose.learned import Learned
from edgeheal.recover.app import App
from edgeheal.recover.budget import Ledger
from edgeheal.recover.case import Case

CLOSED_MOST = 16


@dataclass(frozen=True, slots=True)
class Pending:
    """An act that is out: `case` its incident (0 none), `due_ns` when its silence is an answer."""

    number: int
    verb: Verb
    app: str
    target: str
    case: int
    began_ns: int
    due_ns: int


@dataclass(frozen=True, slots=True)
class Group:
    """A restart with dependents under way: `waits` for this app to be ready, `then` those still to be restarted."""

    case: int
    waits: str
    then: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class State:
    """`cases` are open ones by number, `closed` the last that were resolved. `wake_ns`: the deadline asked for last, 0 = none.

    `paused_until_s`: all remedies are paused until then (box seconds). `still_ns`: when the last standstill ended.
    `box`: what the box itself promises (its own sensors), since `box_ns`.
    """

    seed: int
    session: bytes
    boot: str = ""
    last_ns: int = 0
    policy: Policy = field(default_factory=Policy)
    catalog: dict[str, AppSpec] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    cases: dict[int, Case] = field(default_factory=dict)
    acts: dict[int, Pending] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    ledger: Ledger = field(default_factory=lambda: Ledger({}))
    next_incident: int = 1
    next_act: int = 1
    wake_ns: int = 0
    paused_until_s: int = 0
    still_ns: int = 0
    closed: tuple[Incident, ...] = ()
    box: AppSpec = field(default_factory=lambda: AppSpec(""))
    box_ns: int = 0
    senses: Senses = field(default_factory=Senses)
    learned: Learned = field(default_factory=Learned)


def initial(seed: int, session: bytes) -> State:
    """A state that knows nothing. `session`: 6 bytes of this run of the agent; `seed`: all chance comes from it."""
    return State(seed=seed & ((1 << 64) - 1), session=session)


def resumed(state: State, session: bytes, *, act: int = 0, incident: int = 0) -> State:
    """The state of an earlier run of the agent, taken over: its incidents stay, new ones belong to `session`.

    `act` and `incident`: the highest numbers known to have been used (a snapshot may be older than the journal).
    """
    return replace(state, session=session, next_act=max(state.next_act, act + 1), next_incident=max(state.next_incident, incident + 1))


def rebooted(state: State, now: Now) -> State:
    """The state in a new boot: its clock starts anew, so all times move by the same distance; no run and no act survived."""
    delta = now.mono_ns - state.last_ns
    plain = _shifted(to_plain(state), delta)
    moved: State = from_plain(State, plain)
    apps = {n: replace(a, up=False, ready=False, stuck=False, run=0, pid=0, known=False, ordered_ns=0, judging_ns=0) for n, a in moved.apps.items()}
    return replace(moved, boot=now.boot, apps=apps, wake_ns=0, last_ns=now.mono_ns)


def _shifted(plain: Any, delta: int, name: str = "") -> Any:
    """All `_ns` values (and lists of them) moved by `delta`; 0 stays 0, what fell before the boot is 1."""
    if isinstance(plain, dict):
        return {k: _shifted(v, delta, k) for k, v in plain.items()}
    if isinstance(plain, list):
        return [_shifted(v, delta, name) for v in plain]
    if name.endswith("_ns") and isinstance(plain, int) and plain > 0:
        return max(1, plain + delta)
    return plain
