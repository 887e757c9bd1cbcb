# SPDX-License-Identifier: Apache-2.0
"""What people's tools get from the agent: the words of the control socket, and events for those who watch.

Duty: answer status, incidents, explain, link; read the config again when asked; tell changes. Carry signed words between link and guard. It moves nothing itself.
Invariants: an answer is made from what is known now; an app's change is told once, after the turn in which it happened.
"""

import os
import time
from typing import TYPE_CHECKING, Any

from edgeheal.agent import view
from edgeheal.agent.clock import boot_id
from edgeheal.agent.control import Handler
from edgeheal.core import plain, words
from edgeheal.core.ids import normalise, short_id
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import IncidentState, Shown
from edgeheal.core.now import NS
from edgeheal.core.version import VERSION

if TYPE_CHECKING:
    from edgeheal.adapters.mqtt.down import Down
    from edgeheal.agent.assembly import Agent
    from edgeheal.agent.words import SignedWords
    from edgeheal.wire.guard_event import Event

_RANK = {Shown.OK: 0, Shown.PAUSED: 1, Shown.UNKNOWN: 2, Shown.HEALING: 3, Shown.NEEDS_YOU: 4}


class Tools:
    """See the module. `boundary` is what the guard said."""

    def __init__(self, agent: "Agent") -> None:
        """Nothing was told yet."""
        self._agent = agent
        self._told: dict[str, tuple[Any, ...]] = {}
        self._words: SignedWords | None = None
        self.boundary = "unknown"

    def handlers(self) -> dict[str, Handler]:
        """The words of the control socket."""
        return {"status": self.status, "incidents": self.incidents, "explain": self.explain, "link": self.link, "hello": self.hello, "reload": self.reload}

    # -- answers

    def hello(self, _: dict[str, Any]) -> dict[str, Any]:
        """Who answers."""
        return {"version": VERSION, "pid": os.getpid(), "session": self._agent.session}

    def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """The status document."""
        agent = self._agent
        now = agent.clock.now()
        state = agent.brain.state
        rows = [
            view.row(state, app, now) | {"standing_order": name in agent.standing.known}
            for name, app in sorted(state.apps.items())
            if name in agent.config.apps
        ]
        worst = view.worst([c.incident for c in state.cases.values() if c.open and not c.parent])
        guard = "ok" if agent.guard.connected else "gone"
        return {
            "device": agent.config.device.id or "this device",
            "place": agent.config.device.place,
            "shown": self._shown(rows, worst, guard),
            "up_s": _up_s(),
            "boot_reason": self.boot_reason,
            "mode": agent.config.mode,
            "agent": "ok",
            "agent_pid": os.getpid(),
            "version": VERSION,
            "guard": guard,
            "boundary": self.boundary,
            "apps": rows,
            "box": view.box(agent.world, trusted=now.trusted),
            "fleet": self._fleet(),
            "today": view.today(agent.world, now.box_s),
            "notes": self._notes(guard),
            "next": f"edgeheal explain {view.incident_id(worst)}" if worst is not None else "",
            "agent_view": {"turns": agent.loop.turns, "longest_gap_ms": agent.loop.longest_gap_ms, "steps": agent.brain.steps},
        }

    @property
    def boot_reason(self) -> str:
        """Why this boot came: as the engine judged it once, else as it was told last."""
        boots = self._agent.brain.state.senses.box.boots
        return boots.said if boots.said and boots.boot == boot_id() else self._agent.world.boot

    def _shown(self, rows: list[dict[str, Any]], worst: Incident | None, guard: str) -> str:
        names = {word: kind for kind, word in words.SHOWN.items()}
        kinds = [names[row["state"]] for row in rows]
        if guard != "ok":
            kinds.append(Shown.UNKNOWN)
        if worst is not None:
            kinds.append(view.of_box(worst))
        return words.SHOWN[max(kinds, key=_RANK.__getitem__, default=Shown.OK)]

    def _notes(self, guard: str) -> list[str]:
        force = self._agent.force
        notes = self._agent.why.notes()
        if guard != "ok":
            notes.append("the guard does not answer: apps go on running, nothing can be repaired")
        if force.problems:
            notes.append(f"the config is broken, the last good one is in force: {force.problems[0].place()} {force.problems[0].sentence()}")
        if self.boundary == "none":
            notes.append("boundary: none (guard, agent and apps are one user)")
        if self._agent.config.mode != "act":
            notes.append(f"mode {self._agent.config.mode}: remedies are not taken by themselves")
        return notes

    def _fleet(self) -> dict[str, Any]:
        agent = self._agent
        depth, dropped = agent.spool.depth()
        waiting = f"{depth} report{'' if depth == 1 else 's'} waiting, {dropped} dropped"
        if agent.link is None:
            return {"up": False, "waiting": depth, "dropped": dropped, "text": f"no broker configured; {waiting}"}
        seen = agent.link.view()  # type: ignore[attr-defined]
        since_s = max(0, (time.monotonic_ns() - seen.since_ns) // NS)
        told = "online" if seen.up else f"offline {since_s} s: {seen.why}"
        return {
            "up": seen.up, "since_s": since_s, "why": seen.why, "controller": seen.controller, "detect_s": seen.detect_s, "waiting": depth, "dropped": dropped,
            "text": f"{told}{'' if not seen.up else f', controller {seen.controller.lower()}'}; {waiting}",
        }  # fmt: skip

    def link(self, _: dict[str, Any]) -> dict[str, Any]:
        """The link alone."""
        return {"fleet": self._fleet()}

    def reload(self, _: dict[str, Any]) -> dict[str, Any]:
        """Read the config's files again; what is in force then. Whoever may ask may only have read what root wrote."""
        self._agent.reload()
        force = self._agent.force
        return {"source": force.source, "problems": len(force.problems)}

    def incidents(self, request: dict[str, Any]) -> dict[str, Any]:
        """Incidents, newest last; `open` only those that are."""
        found = [view.incident_document(i) for i in self._agent.past.all()]
        return {"incidents": [d for d in found if d["open"] or not request.get("open")]}

    def explain(self, request: dict[str, Any]) -> dict[str, Any]:
        """One incident whole, by its short id; without one the worst open, else the newest."""
        past = self._agent.past.all()
        wanted = normalise(str(request.get("incident") or ""))
        if wanted:
            fitting = [i for i in past if short_id(i.session, i.number, 6).startswith(wanted)]
            if not fitting:
                return {"error": f"no incident {wanted} here"}
            chosen: Incident | None = fitting[-1]
        else:
            chosen = view.worst([i for i in past if i.state is not IncidentState.RESOLVED]) or (past[-1] if past else None)
        if chosen is None:
            return {"none": True}
        return {"document": view.incident_document(chosen), "incident": plain.to_plain(chosen)}

    # -- events

    def tell_incident(self, incident: Incident) -> None:
        """A revision, to those who watch."""
        self._agent.control.tell(view.event_of(incident))

    def tell_changes(self) -> None:
        """Apps whose state, run or image changed in this turn."""
        state = self._agent.brain.state
        for name, app in state.apps.items():
            key = (app.state, app.run, app.pid, app.up, app.image, app.image_state, app.ready, app.held)
            if self._told.get(name) != key:
                self._told[name] = key
                self._agent.control.tell({"event": "app"} | view.row(state, app, self._agent.clock.now()))

    # -- signed words

    def _signed(self) -> "SignedWords":
        if self._words is None:
            from edgeheal.agent.words import SignedWords

            self._words = SignedWords(self._agent.guard, self._agent.reporter.result, self._agent.clock.now)
        return self._words

    def word_came(self, word: "Down") -> None:
        """From the fleet, to the guard."""
        self._signed().take(word)

    def word_ended(self, event: "Event") -> None:
        """From the guard, to the fleet."""
        self._signed().ended(event)

    def words_go(self) -> None:
        """The guard is there."""
        if self._words is not None:
            self._words.go()

    def words_lost(self) -> None:
        """The guard is gone."""
        if self._words is not None:
            self._words.guard_lost()


def _up_s() -> int:
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            return int(float(file.read().split()[0]))
    except (OSError, ValueError):
        return 0
