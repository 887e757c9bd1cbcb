# SPDX-License-Identifier: Apache-2.0
"""What people's tools are told: status, incidents, one incident whole, and events as they happen. Documents of plain values.

Duty: read the engine's state and what the world last said, and put it into the documents that `--json` prints.
Invariants: it changes nothing; times are RFC 3339 in UTC or seconds; the five shown words come from one place (`shown`).
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from edgeheal.core import deployment, host_metrics, plain, words
from edgeheal.core.effect import Act, Verb
from edgeheal.core.ids import short_id
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import AppState, IncidentState, Outcome, RemedyKind, Shown
from edgeheal.core.now import NS, Now
from edgeheal.core.signal import Booted, HostSample, LinkIs, Signal
from edgeheal.engine.state import State
from edgeheal.recover.app import App

PAST_MOST = 128
DAY_S = 86_400
_HEALING = {AppState.FAILING, AppState.RECOVERING, AppState.BACKOFF}


def shown(app: App, incident: Incident | None) -> Shown:
    """The one of five words for an app."""
    if not app.known:
        return Shown.UNKNOWN
    if app.state is AppState.PAUSED:
        return Shown.PAUSED
    if app.held or (incident is not None and words.needs_you(incident.state, incident.need)):
        return Shown.NEEDS_YOU
    if app.state in _HEALING or incident is not None:
        return Shown.HEALING
    return Shown.OK


def incident_id(incident: Incident) -> str:
    """The short id that people say."""
    return short_id(incident.session, incident.number)


@dataclass(slots=True)
class World:
    """What the world last said that the engine does not keep: figures of the box, link layers, why we booted."""

    host: dict[str, float] = field(default_factory=dict)
    link: dict[str, bool] = field(default_factory=dict)
    boot: str = ""
    done: list[tuple[int, Verb, str]] = field(default_factory=list)

    def hear(self, signal: Signal) -> None:
        """Keep what is shown."""
        match signal:
            case HostSample(metric=metric, value=value, verdict=1):
                self.host[metric] = value
            case LinkIs(layer=layer, up=up):
                self.link[layer] = up
            case Booted(reasons=reasons, verdict=verdict):
                self.boot = verdict or (max(reasons, key=lambda r: r[1])[0] if reasons else "unknown")
            case _:
                pass

    def did(self, act: Act, box_s: int) -> None:
        """Count an act for today's line."""
        self.done.append((box_s, act.verb, act.app))
        self.done = [d for d in self.done if d[0] > box_s - DAY_S]


class Past:
    """The newest revision of each incident of this session and what was recovered from before it, bounded."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._kept: OrderedDict[tuple[bytes, int], Incident] = OrderedDict()

    def keep(self, incident: Incident) -> bool:
        """Keep this revision; True when it was not there as it is."""
        key = (incident.session, incident.number)
        new = self._kept.get(key) != incident
        self._kept[key] = incident
        self._kept.move_to_end(key)
        while len(self._kept) > PAST_MOST:
            self._kept.popitem(last=False)
        return new

    def all(self) -> list[Incident]:
        """Newest last."""
        return list(self._kept.values())


def row(state: State, app: App, now: Now) -> dict[str, Any]:
    """One app of the status document."""
    own = [c for c in state.cases.values() if c.open and (c.app == app.name or app.name in c.incident.also)]
    incident = worst([c.incident for c in own if not c.parent] or [state.cases.get(c.parent, c).incident for c in own])
    spec = state.catalog.get(app.name)
    running = next((d for d in app.deployments if d.running), None)
    before = next((d.version for d in app.deployments if not d.running and d.state == deployment.GOOD), "")
    trial = app.image_state == deployment.TRIAL
    return {
        "app": app.name,
        "state": words.SHOWN[shown(app, incident)],
        "fine": app.state.name,
        "since_s": max(0, (now.mono_ns - app.since_ns) // NS),
        "version": (running.version if running else "") or (spec.version if spec else ""),
        "image": app.image,
        "image_state": deployment.STATES[app.image_state].lower() if app.image else "",
        "trial": trial,
        "soak_left_s": running.soak_left_s if running else 0,
        "before": before,
        "run": app.run,
        "pid": app.pid if app.up else 0,
        "ready": app.ready,
        "wanted": "running" if app.wanted else "stopped",
        "why": words.headline(incident) if incident else ("held: no image may run" if app.held else ""),
        "incident": incident_id(incident) if incident else "",
        "images": [
            {"id": d.image, "version": d.version, "state": deployment.STATES[d.state].lower(), "reason": deployment.REASONS[d.reason], "running": d.running}
            for d in app.deployments
        ],
    }


def worst(incidents: list[Incident]) -> Incident | None:
    """The one to look at first: what needs people most, then the gravest, then the oldest."""
    return max(incidents, key=lambda i: (i.need, i.severity, -i.number), default=None)


def box(world: World, *, trusted: bool) -> list[str]:
    """The figures of the box, in a fixed order; what is not known is left out."""
    host = world.host
    parts = []
    disk = [v for k, v in host.items() if k.startswith(host_metrics.DISK_FREE)]
    if disk:
        parts.append(f"disk {100 - round(min(disk) / 10)}%")
    if host_metrics.MEMORY_FREE in host:
        parts.append(f"mem {100 - round(host[host_metrics.MEMORY_FREE] / 10)}%")
    hot = [v for k, v in host.items() if k.startswith(host_metrics.TEMPERATURE)]
    if hot:
        parts.append(f"{round(max(hot))} C")
    if host_metrics.UNDERVOLTAGE in host:
        parts.append("supply LOW" if host[host_metrics.UNDERVOLTAGE] else "supply ok")
    parts.append("clock trusted" if trusted else "clock NOT trusted")
    return parts


def today(world: World, box_s: int) -> dict[str, Any]:
    """What was done in the last 24 h of box time."""
    verbs = [verb for at, verb, _ in world.done if at > box_s - DAY_S]
    counts = {
        "restart": sum(v in (Verb.RESTART, Verb.START, Verb.CLEAN_RESTART) for v in verbs),
        "power cycle": verbs.count(Verb.HOOK),
        "rollback": verbs.count(Verb.ROLLBACK) + verbs.count(Verb.GIVE_UP_TRIAL),
        "reboot": verbs.count(Verb.REBOOT),
    }
    return {"counts": counts, "parts": [f"{n} {word}{'' if n == 1 else 's'}" for word, n in counts.items()]}


def event_of(incident: Incident) -> dict[str, Any]:
    """One revision of an incident, as the event stream tells it: kinds by name, the remedy that counts last."""
    cause = words.top_cause(incident.causes)
    real = [t for t in incident.tried if t.outcome not in (Outcome.SKIPPED, Outcome.REFUSED) and t.kind not in (RemedyKind.HOLD, RemedyKind.LOOK_AGAIN)]
    last = real[-1] if real else None
    return {
        "event": "incident",
        "id": incident_id(incident),
        "app": incident.app,
        "symptom": incident.symptom.name,
        "subject": incident.subject,
        "state": incident.state.name,
        "severity": incident.severity.name,
        "need": incident.need.name,
        "cause": cause.kind.name if cause else "UNKNOWN",
        "remedy": last.kind.name if last else "",
        "outcome": last.outcome.name if last else "",
        "revision": incident.revision,
        "says": words.sentence(incident),
    }


def incident_document(incident: Incident) -> dict[str, Any]:
    """An incident whole, as plain values with names beside numbers, for `explain` and `--json`."""
    document: dict[str, Any] = plain.to_plain(incident)
    return {
        **document,
        "id": incident_id(incident),
        "says": words.sentence(incident),
        "opened": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(incident.opened_s)),
        "state": incident.state.name,
        "symptom": incident.symptom.name,
        "severity": incident.severity.name,
        "need": incident.need.name,
        "open": incident.state is not IncidentState.RESOLVED,
        "cause": event_of(incident)["cause"],
    }


def of_box(incident: Incident) -> Shown:
    """The word for the whole box while this is its worst incident."""
    return Shown.NEEDS_YOU if words.needs_you(incident.state, incident.need) else Shown.HEALING
