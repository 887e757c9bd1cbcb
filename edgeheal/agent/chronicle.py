# SPDX-License-Identifier: Apache-2.0
"""The agent's own log: what it meets and does, one line each, for whoever reads the box's journal.

Duty: turn signals about EdgeHeal itself, incidents and acts into lines of `own_log`. It decides nothing; the journal of decisions is elsewhere.
Invariants: an incident is told when it opens, when its state changes, when it needs people and when it ends, not at each revision; a trouble
is told when it begins and when it is over.
"""

from edgeheal.adapters.own_log import OwnLog
from edgeheal.core.effect import Act, Decided, Effect, Report
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import IncidentState
from edgeheal.core.signal import ConfigIs, SelfSaid, Signal

OPEN_MOST = 256


class Chronicle:
    """`heed` each signal, `overhear` each effect."""

    def __init__(self, log: OwnLog) -> None:
        """Lines go to `log`."""
        self._log = log
        self._states: dict[int, IncidentState] = {}
        self._troubles: set[tuple[str, str]] = set()

    def heed(self, signal: Signal) -> None:
        """What was heard."""
        match signal:
            case ConfigIs(ok=True):
                self._log.say("config-read", "the config is read and in force")
            case ConfigIs(place=place, message=message):
                self._log.say("config-refused", f"the last good one stands: {place}: {message}")
            case SelfSaid(part="guard", what="version", ok=False, value=theirs):
                self._log.say(
                    "version-differs", f"the guard speaks version {theirs:.0f} of the frames; nothing is repaired by us until both are of one version"
                )
            case SelfSaid():
                self._said(signal)
            case _:
                if self._log.wants("signal"):
                    self._log.say("signal", repr(signal))

    def _said(self, said: SelfSaid) -> None:
        key = (said.part, said.what)
        text = f"{said.part}: {said.what} {said.text}".strip()
        if not said.ok:
            if len(self._troubles) < OPEN_MOST:
                self._troubles.add(key)
            self._log.say("trouble", text)
        elif key in self._troubles:
            self._troubles.discard(key)
            self._log.say("trouble-over", text)

    def overhear(self, effect: Effect) -> None:
        """What follows from it."""
        match effect:
            case Report(incident=incident):
                self._incident(incident)
            case Act():
                if effect.incident:
                    self._log.say("act", f"{effect.verb.name} {effect.app} {effect.target}".strip() + f" (incident {effect.incident})")
                elif self._log.wants("decided"):
                    self._log.say("decided", f"{effect.verb.name} {effect.app} {effect.target}".strip())
            case Decided(what=what, app=app, incident=number):
                if self._log.wants("decided"):
                    self._log.say("decided", f"{what} {app} {number or ''} {effect.args or ''}".strip())
            case _:
                return

    def _incident(self, incident: Incident) -> None:
        before = self._states.get(incident.number)
        if before is incident.state:
            return
        text = f"incident {incident.number}: {incident.app or 'the box'} {incident.symptom.name} {incident.state.name}"
        if incident.state is IncidentState.RESOLVED:
            self._states.pop(incident.number, None)
            self._log.say("incident-resolved", f"{text} after {incident.downtime_ms} ms of downtime")
            return
        if len(self._states) >= OPEN_MOST:
            self._states.clear()
        self._states[incident.number] = incident.state
        if incident.state in (IncidentState.ESCALATED, IncidentState.AWAITING_APPROVAL):
            self._log.say("incident-needs-you", f"{text}; next: edgeheal explain")
        else:
            self._log.say("incident-opened" if before is None else "incident-goes-on", text)
