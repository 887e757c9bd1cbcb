# SPDX-License-Identifier: Apache-2.0
"""`edgeheal incidents` and `edgeheal explain`: what went wrong, why, what was done, what you can do.

Duty: ask the agent, else read the journal's files; render, or print the documents.
"""

import argparse
from typing import Any

from edgeheal.cli import common, explain_screen, render
from edgeheal.cli.ask import ask
from edgeheal.cli.status import width
from edgeheal.core import plain, words
from edgeheal.core.errors import AgentUnreachableError, GuardError, NoSuchIncidentError
from edgeheal.core.ids import normalise, short_id
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import IncidentState

EXAMPLES = """examples:
  edgeheal explain              the worst open incident
  edgeheal explain K7QF
  edgeheal incidents --open --json
"""


def add(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both verbs."""
    listing = subparsers.add_parser("incidents", help="open and past incidents", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.options(listing)
    listing.add_argument("--open", action="store_true", help="only those that are open")
    listing.set_defaults(run=run_list)
    why = subparsers.add_parser("explain", help="why, and what you can do", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    common.options(why)
    why.add_argument("incident", nargs="?", default="", help="its id (default: the worst open one)")
    why.set_defaults(run=run_explain)


def documents(incidents: list[Incident]) -> list[dict[str, Any]]:
    """As `agent.view` makes them; agent and command line share no room but this form."""
    return [_document(i) for i in incidents]


def _document(incident: Incident) -> dict[str, Any]:
    cause = words.top_cause(incident.causes)
    document: dict[str, Any] = plain.to_plain(incident) | {
        "id": short_id(incident.session, incident.number), "says": words.sentence(incident), "opened": render.utc(incident.opened_s),
        "state": incident.state.name, "symptom": incident.symptom.name, "severity": incident.severity.name, "need": incident.need.name,
        "open": incident.state is not IncidentState.RESOLVED, "cause": cause.kind.name if cause else "UNKNOWN",
    }  # fmt: skip
    return document


def run_list(args: argparse.Namespace) -> int:
    """The list, newest last."""
    layout = common.layout(args)
    try:
        rows = ask(layout.control_socket, "incidents", open=args.open)["incidents"]
    except AgentUnreachableError:
        from edgeheal.cli import offline

        rows = [d for d in documents(offline.incidents(layout)) if d["open"] or not args.open]
        common.say("the agent does not answer: from the journal on disk")
    if args.json:
        common.put_json(rows)
        return 0
    if not rows:
        common.put("no incidents")
    for line in render.table([(render.clock(r["opened_s"]), r["id"], render.clean(r["says"])) for r in rows], width()):
        common.put(line)
    return 0


def run_explain(args: argparse.Namespace) -> int:
    """One incident."""
    layout = common.layout(args)
    try:
        answer = ask(layout.control_socket, "explain", incident=args.incident)
        found = None if answer.get("none") else _incident(answer["incident"])
        document = answer.get("document")
    except AgentUnreachableError:
        from edgeheal.cli import offline

        found = choose(offline.incidents(layout), args.incident)
        document = None if found is None else _document(found)
        common.say("the agent does not answer: from the journal on disk, as it was told")
    except GuardError as fault:
        raise NoSuchIncidentError(fault.message) from None
    if args.json:
        common.put_json(document)
    elif found is None:
        common.put("no incident: all is well")
    else:
        for line in explain_screen.explain(found, width()):
            common.put(line)
    return 0


def _incident(document: dict[str, Any]) -> Incident:
    """The incident out of a control answer, whose bytes are hexadecimal."""
    found: Incident = plain.from_plain(Incident, document | {name: bytes.fromhex(document[name]) for name in ("session", "fingerprint")})
    return found


def choose(incidents: list[Incident], wanted: str) -> Incident | None:
    """By id; without one the worst open, else the newest."""
    if wanted:
        ident = normalise(wanted)
        fitting = [i for i in incidents if short_id(i.session, i.number, 6).startswith(ident)]
        if not fitting:
            raise NoSuchIncidentError(f"no incident {ident} here")
        return fitting[-1]
    still = [i for i in incidents if i.state is not IncidentState.RESOLVED]
    return max(still, key=lambda i: (i.need, i.severity), default=incidents[-1] if incidents else None)
