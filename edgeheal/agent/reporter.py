# SPDX-License-Identifier: Apache-2.0
"""Tells the fleet: incidents and results into the spool, each kept in the journal as told.

Duty: encode, put, remember. It sends nothing (the link does) and decides nothing.
Invariants: a record is in the spool before anybody is told that it was told; errors and criticals are durable at once.
"""

from collections.abc import Callable

from edgeheal.core.incident import Incident
from edgeheal.core.kinds import IncidentState, Need, Severity
from edgeheal.core.now import Now
from edgeheal.journal.records import Told, When
from edgeheal.ports import JournalFiles, Spool
from edgeheal.wire import results, summary
from edgeheal.wire.results import Result


class Reporter:
    """See the module."""

    def __init__(self, spool: Spool, journal: JournalFiles, session: bytes, now: Callable[[], Now]) -> None:
        """`session`: this run's 6 bytes."""
        self._spool = spool
        self._journal = journal
        self._session = session
        self._now = now

    def incident(self, incident: Incident) -> None:
        """One revision of an incident."""
        now = self._now()
        body = summary.encode(incident, session=self._session, now_ns=now.mono_ns)
        first = incident.revision == 0
        critical = incident.severity >= Severity.ERROR or incident.need is not Need.NOTHING or first or incident.state is IncidentState.RESOLVED
        number = incident.number if incident.session == self._session else 0
        seq = self._spool.put(body, severity=int(incident.severity), fingerprint=incident.fingerprint, critical=critical, incident=number, at_s=now.wall_s)
        self._journal.keep(Told(When.of(now), self._session, seq, incident.number, incident.revision, body))

    def result(self, result: Result) -> None:
        """One step of a command's life; durable before the step is taken. The same step that still waits (told before we died) is not told again."""
        severity = int(Severity.WARNING)
        if self._spool.waits(result.fingerprint):
            return
        self._spool.put(results.encode(result), severity=severity, fingerprint=result.fingerprint, critical=True, at_s=result.at_s)
