# SPDX-License-Identifier: Apache-2.0
"""An incident and its parts: what the engine keeps, `explain` shows and the wire carries.

Duty: the values. The state table is `core.incident_table`; who moves it is `recover`.
Invariant: frozen; a new fact makes a new value with a higher `revision`.
"""

from dataclasses import dataclass

from edgeheal.core.kinds import CauseKind, ChangeKind, EvidenceCode, ImageStatus, IncidentState, Mode, Need, Outcome, RemedyKind, Severity, SymptomKind


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact: `code` says what `value` and `limit` mean; `speaks_for` is False for a fact against."""

    code: EvidenceCode
    value: float = 0.0
    limit: float = 0.0
    text: str = ""
    speaks_for: bool = True


@dataclass(frozen=True, slots=True)
class Cause:
    """A candidate with its probability 0..1; `subject` names the part (sensor, peer app, mount) where it is not the app."""

    kind: CauseKind
    probability: float
    subject: str = ""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """A remedy that was taken (or would have been): outcome, seconds it took, when it began (mono ns)."""

    kind: RemedyKind
    outcome: Outcome
    seconds: float = 0.0
    began_ns: int = 0
    reason: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident, whole. `number` is unique within the agent's session; `key` (session hex + number) in the fleet.

    `app` is "" for the box itself. Times: `opened_ns` monotonic of this boot, `opened_s` wall (label), box seconds.
    `downtime_ms` what the app was not running or ready, `gap_ms` what a sensor gave no data.
    """

    number: int
    app: str
    symptom: SymptomKind
    state: IncidentState
    severity: Severity
    need: Need
    mode: Mode
    fingerprint: bytes
    opened_ns: int
    opened_s: int
    opened_box_s: int
    trusted: bool
    subject: str = ""
    revision: int = 0
    closed_ns: int = 0
    downtime_ms: int = 0
    gap_ms: int = 0
    detect_ms: int = 0
    causes: tuple[Cause, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    change: ChangeKind = ChangeKind.NONE
    change_before_s: int = 0
    recurrence: int = 1
    recurrence_window_s: int = 604_800
    tried: tuple[Tried, ...] = ()
    planned: RemedyKind | None = None
    planned_at_ns: int = 0
    approval_until_s: int = 0
    image: str = ""
    image_version: str = ""
    image_status: ImageStatus = ImageStatus.NONE
    also: tuple[str, ...] = ()  # other apps folded into this one
    session: bytes = b""
