# SPDX-License-Identifier: Apache-2.0
"""A case: an incident with what its care needs - symptoms that are on, the remedy under way, what waits until when.

Duty: the value and its moves through the incident table. It decides nothing.
Invariants: frozen; a cell that refuses changes nothing; `floor` (the mildest rung still open) only rises.
"""

from dataclasses import dataclass
from typing import Any

from edgeheal.core.incident import Incident, Tried
from edgeheal.core.incident_table import IncidentEvent, decide
from edgeheal.core.kinds import CauseClass, Channel, IncidentState, Outcome, RemedyKind, SymptomKind
from edgeheal.core.symptom import Symptom
from edgeheal.core.table import Verdict
from edgeheal.core.values import replace

TRIED_MOST = 16


@dataclass(frozen=True, slots=True)
class Case:
    """Times are monotonic ns, 0 = not. `signs`: symptoms that are on.

    `remedy` is under way (`act` its number) or under probation (until `verify_ns`). `wait_ns`: nothing before that.
    `armed`: chosen, and due when the
    wait is over. `holds`: looks taken while held. `barred`: rungs that cannot or may no longer be used. `parent`: the case it is folded into.
    `spent`: ledger keys this case charged, for a refund. `onsets`: when symptoms began, mono ns, newest last. `was_up`: the remedy was used on a
    running app. `rolled_back`: this case went back to an older image already. `left_image`: what ran when the remedy was ordered.
    `before_s`: how long all was well before it opened.
    """

    incident: Incident
    signs: tuple[Symptom, ...] = ()
    channels: tuple[Channel, ...] = ()
    run: int = 0
    remedy: RemedyKind | None = None
    armed: RemedyKind | None = None
    cause_class: CauseClass = CauseClass.CRASH
    act: int = 0
    act_due_ns: int = 0
    began_ns: int = 0
    verify_ns: int = 0
    wait_ns: int = 0
    holds: int = 0
    floor: RemedyKind = RemedyKind.LOOK_AGAIN
    barred: tuple[tuple[RemedyKind, int], ...] = ()
    approved: tuple[RemedyKind, ...] = ()
    parent: int = 0
    told: int = -1
    spent: tuple[str, ...] = ()
    onsets: tuple[int, ...] = ()
    detail: str = ""
    frames: tuple[str, ...] = ()
    was_up: bool = False
    rolled_back: bool = False
    left_image: str = ""
    before_s: float = 0.0

    @property
    def number(self) -> int:
        """The incident's number."""
        return self.incident.number

    @property
    def app(self) -> str:
        """The app, "" for the box."""
        return self.incident.app

    @property
    def open(self) -> bool:
        """Whether it is still somebody's concern."""
        return self.incident.state is not IncidentState.RESOLVED

    def has(self, kind: SymptomKind) -> bool:
        """Whether a symptom of this kind is on."""
        return any(s.kind is kind for s in self.signs)


def step(case: Case, event: IncidentEvent, incident: dict[str, Any], **changes: Any) -> Case:
    """The case with new fields of its incident and of its own, moved by `event`, in one go."""
    cell = decide(case.incident.state, event)
    if cell.verdict is Verdict.MOVE:
        incident = {**incident, "state": IncidentState(cell.next)}
    return replace(case, incident=replace(case.incident, **incident), **changes)


def moved(case: Case, event: IncidentEvent) -> Case:
    """The case after `event`; the same value when the table says ignore or refuse."""
    cell = decide(case.incident.state, event)
    if cell.verdict is not Verdict.MOVE:
        return case
    return replace(case, incident=replace(case.incident, state=IncidentState(cell.next)))


def tried(case: Case, entry: Tried) -> Case:
    """With one more remedy; the oldest of many is forgotten."""
    return replace(case, incident=replace(case.incident, tried=(*case.incident.tried, entry)[-TRIED_MOST:]))


def ended(case: Case, outcome: Outcome, now_ns: int, reason: int = 0) -> Case:
    """The remedy that was running has this outcome."""
    entries = case.incident.tried
    for at in range(len(entries) - 1, -1, -1):
        entry = entries[at]
        if entry.outcome is Outcome.RUNNING and (case.remedy is None or entry.kind is case.remedy):
            done = replace(entry, outcome=outcome, seconds=round((now_ns - entry.began_ns) / 1e9, 3), reason=reason)
            return replace(case, incident=replace(case.incident, tried=(*entries[:at], done, *entries[at + 1 :])))
    return case


def folded(case: Case) -> Case:
    """The last remedy and the one before it, refused for the same reason, are one: a guard that is away must not fill the row."""
    entries = case.incident.tried
    if len(entries) < 2:
        return case
    before, last = entries[-2:]
    if (before.kind, before.outcome, before.reason, before.target) != (
        last.kind,
        last.outcome,
        last.reason,
        last.target,
    ) or last.outcome is not Outcome.REFUSED:
        return case
    one = replace(before, seconds=round(before.seconds + last.seconds, 3))
    return replace(case, incident=replace(case.incident, tried=(*entries[:-2], one)))
