# SPDX-License-Identifier: Apache-2.0
"""What belongs together among sensors: channels of one device, devices of one line, and what feeds them.

Duty: from specs and memory to a few plain answers. It judges nothing and changes nothing.
Invariant: an app's sensors and the box's own are looked at alike; a name that nobody promises belongs to nothing.
"""

from collections.abc import Iterator

from edgeheal.core.app import MetricSpec
from edgeheal.core.kinds import SENSOR_SYMPTOMS, SymptomKind
from edgeheal.core.now import NS
from edgeheal.detect import sensors
from edgeheal.detect.lines import PART
from edgeheal.detect.sensors import Sensor
from edgeheal.engine.turn import Turn
from edgeheal.recover.case import Case

PATIENCE_S = 15.0
PATIENCE_PERIODS = 10


def memory(turn: Turn, app: str) -> dict[str, Sensor]:
    """What is remembered of the sensors of an app, or of the box ("")."""
    senses = turn.state.senses
    if not app:
        return senses.box.sensed
    found = senses.apps.get(app)
    return {} if found is None else found.sensed


def metric(turn: Turn, app: str, name: str) -> MetricSpec | None:
    """The promise of this sensor."""
    return next((m for m in turn.spec(app).metrics if m.name == name), None)


def line_of(turn: Turn, app: str, subject: str) -> str:
    """The line that a sensor (or the line itself) is."""
    if not app and subject.startswith(PART):
        return subject.removeprefix(PART)
    found = metric(turn, app, subject)
    return "" if found is None else found.bus


def _all(turn: Turn) -> Iterator[tuple[str, MetricSpec]]:
    for name in ("", *turn.catalog):
        for found in turn.spec(name).metrics:
            yield name, found


def beside(turn: Turn, app: str, subject: str) -> tuple[int, int]:
    """(how many sensors are on the same line, or of the same owner where there is no line; how many of them are bad)."""
    line = line_of(turn, app, subject)
    if line:
        owners = [(name, m.name) for name, m in _all(turn) if m.bus == line]
    else:
        owners = [(app, m.name) for m in turn.spec(app).metrics if not m.bus and (app or m.source == _source(turn, subject))]
    wrong = sum(1 for name, m in owners if (s := memory(turn, name).get(m)) is not None and sensors.is_bad(s))
    return len(owners), wrong


def _source(turn: Turn, subject: str) -> str:
    found = metric(turn, "", subject)
    return "" if found is None else found.source


def belongs(turn: Turn, case: Case, app: str, kind: SymptomKind, subject: str) -> bool:
    """Whether a sensor's symptom is part of this case: the same sensor, another channel of its device, or all that is on its line."""
    incident = case.incident
    if incident.symptom not in SENSOR_SYMPTOMS or kind not in SENSOR_SYMPTOMS:
        return False
    subjects = {incident.subject, *(s.subject for s in case.signs)}
    if app == incident.app and subject in subjects:
        return True
    soon = turn.ns - incident.opened_ns <= round(turn.policy.group_window_s * NS)
    if incident.app and app == incident.app and soon:
        return True
    ours, theirs = metric(turn, app, subject), metric(turn, incident.app, incident.subject)
    if app == incident.app and ours is not None and theirs is not None and ours.source and ours.source == theirs.source:
        return True
    line = line_of(turn, app, subject)
    if not line or line != line_of(turn, incident.app, incident.subject) or app != incident.app:
        return False
    n, wrong = beside(turn, app, subject)
    return soon or n == wrong or line_down(turn, line)


def holder_of(turn: Turn, line: str) -> str:
    """Who holds the line, as he was told."""
    for case in turn.cases.values():
        for sign in case.signs:
            if sign.kind is SymptomKind.PORT_HELD and sign.subject == PART + line:
                return next((e.text for e in sign.evidence if e.text), line)
    return ""


def line_down(turn: Turn, line: str) -> bool:
    """Whether the line itself is known to be away or held."""
    return line in turn.state.senses.box.lines


def patience_s(turn: Turn, case: Case) -> float:
    """How long sensors may be silent before their power is taken: ten periods, a quarter of a minute at least."""
    every_ms = [m.every_ms for sign in case.signs if (m := metric(turn, sign.app, sign.subject)) is not None]
    return max(PATIENCE_S, PATIENCE_PERIODS * max(every_ms, default=0) / 1000)


def power_of(turn: Turn, case: Case) -> int:
    """The line of `hooks/power-cycle.targets` that feeds all that is wrong in this case; 0 where they have none in common."""
    feeds = {m.power for sign in case.signs if (m := metric(turn, sign.app, sign.subject)) is not None}
    lines = {line_of(turn, sign.app, sign.subject) for sign in case.signs}
    if not feeds:
        feeds = {m.power for _, m in _all(turn) if m.bus and m.bus in lines}
    return feeds.pop() if len(feeds) == 1 else 0
