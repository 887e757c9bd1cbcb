# SPDX-License-Identifier: Apache-2.0
"""The screen of `edgeheal explain`: cause, seen, not, did, you. Pure: an incident in, lines out.

Duty: the layout of one incident. The words are `core.words`; the advice is the table below, one line per kind of cause.
Invariants: as `cli.render`; what is said is what the incident carries, nothing is guessed here.
"""

from collections.abc import Callable

from edgeheal.cli import render
from edgeheal.core import words
from edgeheal.core.ids import short_id
from edgeheal.core.incident import Cause, Incident, Tried
from edgeheal.core.kinds import CauseKind, ChangeKind, ImageStatus, IncidentState, Mode, Need, Outcome, RemedyKind
from edgeheal.core.now import NS

ORDINALS = ("", "First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth")

# what a person can do about a cause; {app} and {subject} are filled in
ADVICE: dict[CauseKind, tuple[str, ...]] = {
    CauseKind.APP_CRASH: ("edgeheal logs {app}", "edgeheal rollback {app}"),
    CauseKind.APP_HANG: ("edgeheal logs {app}", "edgeheal restart {app}"),
    CauseKind.APP_MEMORY: ("edgeheal restart {app}", "ask the makers of {app} for the leak"),
    CauseKind.APP_DESCRIPTORS: ("edgeheal restart {app}", "ask the makers of {app} for what stays open"),
    CauseKind.APP_CONFIG: ("edgeheal app config set {app} FILE",),
    CauseKind.APP_IMAGE: ("send this recording to the makers of {app}", "edgeheal image list {app}"),
    CauseKind.DEPENDENCY: ("see to {subject} first",),
    CauseKind.PORT_HELD: ("end {subject}, or give {app} another port",),
    CauseKind.SENSOR: ("check {subject}: supply and wiring", "edgeheal probe {app}"),
    CauseKind.SENSOR_SCALE: ("check the unit and firmware of {subject}",),
    CauseKind.BUS: ("check the bus: termination, supply, adapter",),
    CauseKind.SUPPLY: ("check the power supply and its cable",),
    CauseKind.DISK_FULL: ("free space on {subject}", "edgeheal doctor"),
    CauseKind.DISK_FAULT: ("replace the disk or card soon", "edgeheal doctor"),
    CauseKind.HOST_MEMORY: ("see what else runs on this box",),
    CauseKind.HOST_LOAD: ("see what else runs on this box",),
    CauseKind.CLOCK: ("set the clock, or give the box a time server",),
    CauseKind.NETWORK: ("check antenna, cable and SIM",),
    CauseKind.BROKER: ("ask the operator: the broker does not answer",),
    CauseKind.PROBE: ("check the probe {subject} of {app}: the app itself is well",),
    CauseKind.FOREIGN_HAND: ("find who restarts {app}: {subject}",),
    CauseKind.DEVICE_IO: ("check the device behind {subject}",),
    CauseKind.DEVICE_CONFIG: ("edgeheal config check",),
    CauseKind.TWIN: ("two devices use one name: give one of them its own",),
    CauseKind.TRUST: ("edgeheal key show",),
}
BOX_ADVICE: dict[CauseKind, tuple[str, ...]] = {CauseKind.PORT_HELD: ("end {subject}",)}
_LABEL = 6


def explain(incident: Incident, width: int = 80) -> list[str]:
    """The lines for one incident."""
    lines = render.wrap("", [_head(incident)], width)
    causes = sorted(incident.causes, key=lambda c: -c.probability)
    lines += _block("cause", [_cause(c, incident) for c in causes] or ["not known yet"], width, "   ")
    seen = [words.evidence(e) for e in incident.evidence if e.speaks_for]
    lines += _block("seen", [f"{render.clock(incident.opened_s, seconds=True)} {words.symptom(incident.symptom, incident.subject)}", *seen], width)
    against = [words.evidence(e).removeprefix("not: ") for c in causes for e in c.evidence if not e.speaks_for]
    against += [words.evidence(e).removeprefix("not: ") for e in incident.evidence if not e.speaks_for]
    if against:
        lines += _block("not", list(dict.fromkeys(against)), width)
    if incident.change is not ChangeKind.NONE:
        lines += _block("since", [f"the {words.CHANGES[incident.change]} changed {render.duration(incident.change_before_s)} before"], width)
    lines += _did(incident, width)
    lines += _you(incident, causes, width)
    return [render.clean(line) for line in lines]


def _head(incident: Incident) -> str:
    state = words.shown(incident.state, incident.need)
    name = incident.app or "this box"
    head = f"{short_id(incident.session, incident.number)} {name} {state}"
    if incident.state is IncidentState.RESOLVED:
        head += f" after {render.duration((incident.closed_ns - incident.opened_ns) / NS)}, {render.clock(incident.opened_s)}"
    else:
        head += f" since {render.clock(incident.opened_s)}"
    head += "."
    if not incident.trusted:
        head += " (clock not trusted)"
    if incident.recurrence > 1:
        ordinal = ORDINALS[incident.recurrence] if incident.recurrence < len(ORDINALS) else f"{incident.recurrence}th"
        head += f" {ordinal} time in {render.duration(incident.recurrence_window_s)} on this box."
    if incident.mode is Mode.OBSERVE:
        head += " Mode observe: nothing was done."
    return head


def _cause(cause: Cause, incident: Incident) -> str:
    name = words.cause(cause.kind, cause.subject)
    return (
        f"{round(cause.probability * 100)}% {name}"
        if cause.kind is not CauseKind.UNKNOWN
        else f"{round(cause.probability * 100)}% unknown in {incident.app or 'the box'}"
    )


def _did(incident: Incident, width: int) -> list[str]:
    rows = []
    for step in incident.tried:
        at = incident.opened_s + (step.began_ns - incident.opened_ns) / NS if step.began_ns else incident.opened_s
        rows.append(f"{render.clock(at, seconds=True)} {_tried(step)}")
    if incident.planned is not None and incident.state is not IncidentState.RESOLVED:
        rows.append(f"next  {words.remedy(incident.planned)}")
    if not rows:
        rows.append("nothing yet")
    return [line for i, text in enumerate(rows) for line in render.wrap("did   " if i == 0 else " " * _LABEL, [text], width)]


def _tried(step: Tried) -> str:
    if step.outcome is Outcome.SKIPPED:
        return f"no {words.remedy(step.kind, step.target)}: cannot help here"
    if step.outcome is Outcome.WOULD:
        return f"would {words.remedy(step.kind, step.target)}"
    return words.tried(step)


def _you(incident: Incident, causes: list[Cause], width: int) -> list[str]:
    if incident.state is IncidentState.RESOLVED:
        return render.wrap("you   ", ["nothing to do"], width)
    ident = short_id(incident.session, incident.number)
    parts = []
    if incident.need is Need.APPROVE and incident.planned is not None:
        parts += [f"edgeheal approve {ident}", f"edgeheal reject {ident}"]
    top = causes[0] if causes else None
    fill: Callable[[str], str] = lambda text: text.format(app=incident.app or "APP", subject=(top.subject if top else "") or incident.subject or "it")  # noqa: E731
    if top is not None:
        advice = ADVICE.get(top.kind, ("edgeheal doctor",))
        if not incident.app:  # the box's own: there is no app to do anything to
            advice = BOX_ADVICE.get(top.kind, tuple(text for text in advice if "{app}" not in text))
        parts += [fill(text) for text in advice or ("edgeheal doctor",)]
    lines = render.wrap("you   ", [f"{i} {text}" for i, text in enumerate(parts, 1)] or ["wait: it is being healed"], width, "   ")
    unlikely = [words.remedy(s.kind) for s in incident.tried if s.outcome in (Outcome.SKIPPED, Outcome.FAILED) and s.kind is not RemedyKind.HOLD]
    if unlikely:
        lines += render.wrap(" " * _LABEL, ["unlikely to help: " + ", ".join(dict.fromkeys(unlikely))], width)
    if incident.image_status is ImageStatus.TRIAL:
        lines += render.wrap(" " * _LABEL, [f"{incident.image_version} is on trial"], width)
    return lines


def _block(label: str, parts: list[str], width: int, gap: str = "  ") -> list[str]:
    return render.wrap(label.ljust(_LABEL), parts, width, gap)
