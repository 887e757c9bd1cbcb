# SPDX-License-Identifier: Apache-2.0
"""What the fleet's lists say: plain documents and lines out of decoded records. Values in, text out.

Duty: the layout of `fleet tail`, `devices`, `incidents`, and the same as documents for `--json`. Not its duty: where records come from.
Invariants: every figure is one that the device sent or the store knows; what came from outside is escaped; one short id everywhere.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from edgeheal.core import reasons, words
from edgeheal.core.ids import short_id
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import ActionCode, RemedyKind, ResultState
from edgeheal.core.spooled import Standin, StandinKind
from edgeheal.wire import birth, health
from edgeheal.wire.results import ResultRecord
from edgeheal.wire.summary import Record

MINUTE, HOUR, DAY = 60, 3_600, 86_400
BURST_S = 10.0
BURST_LINES = 3
SILENT_FACTOR = 2.5


def clean(text: str) -> str:
    """Control characters, and what is not ASCII, escaped."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)


def span(seconds: float) -> str:
    """`1.6s`, `34m`, `3h`, `12d`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f}s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f}m"
    return f"{seconds / HOUR:.0f}h" if seconds < 2 * DAY else f"{seconds / DAY:.0f}d"


def utc(wall_s: float) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))


def incident_id(incident: Incident) -> str:
    """The id that people say to each other."""
    return short_id(incident.session, incident.number)


# --- documents -----------------------------------------------------------------------------------------------------------


def incident_document(device: str, record: Record, *, received: float, size: int, place: str = "") -> dict[str, Any]:
    """An incident as `--json` tells it: names for codes, numbers beside them where they count."""
    i = record.incident
    document: dict[str, Any] = {
        "id": incident_id(i), "device": device, "place": place, "app": i.app, "symptom": i.symptom.name, "subject": i.subject,
        "severity": i.severity.name, "state": i.state.name, "shown": words.shown(i.state, i.need), "need": i.need.name, "mode": i.mode.name,
        "revision": i.revision, "number": i.number, "session": i.session.hex(), "seq": record.seq,
        "opened": utc(i.opened_s) if i.opened_s else None, "clock_trusted": i.trusted, "open_ms": record.open_ms, "detect_ms": i.detect_ms,
        "down_ms": i.downtime_ms, "gap_ms": i.gap_ms, "headline": words.headline(i),
        "causes": [{"kind": c.kind.name, "probability": c.probability, "subject": c.subject, "says": words.cause(c.kind, c.subject)} for c in i.causes],
        "evidence": [
            {"code": e.code.name, "value": e.value, "limit": e.limit, "text": e.text, "for": e.speaks_for, "says": words.evidence(e)} for e in i.evidence
        ],
        "changed": {"what": i.change.name, "before_s": i.change_before_s} if i.change else None,
        "fingerprint": i.fingerprint.hex(), "recurrence": {"n": i.recurrence, "window_s": i.recurrence_window_s},
        "tried": [{"remedy": t.kind.name, "outcome": t.outcome.name, "seconds": t.seconds, "reason": t.reason, "target": t.target} for t in i.tried],
        "planned": {"remedy": i.planned.name, "in_s": record.planned_in_s} if i.planned is not None else None,
        "image": {"id": i.image, "version": i.image_version, "status": i.image_status.name}, "also": list(i.also),
        "received": utc(received), "bytes": size,
    }  # fmt: skip
    if record.standin is not None:
        document["stands_for"] = standin_document(record.standin)
    return document


def standin_document(standin: Standin) -> dict[str, Any]:
    """Whom a record stands for."""
    return {
        "kind": standin.kind.name, "count": standin.count, "first": utc(standin.first_s) if standin.first_s else None,
        "last": utc(standin.last_s) if standin.last_s else None, "reason": reasons.word(standin.reason) if standin.reason else None,
    }  # fmt: skip


def result_document(device: str, record: ResultRecord, *, received: float) -> dict[str, Any]:
    """One step of a command's life as `--json` tells it."""
    r = record.result
    return {
        "device": device, "command": r.command.hex(), "state": r.state.name, "reason": reasons.word(r.reason) if r.reason else None,
        "action": action_word(r.action), "app": r.app, "took_ms": r.took_ms, "text": r.text, "received": utc(received),
    }  # fmt: skip


def action_word(action: int) -> str:
    """The word of an action; an unknown one keeps its number."""
    return words.ACTIONS.get(ActionCode(action), str(action)) if action in ActionCode._value2member_map_ else str(action)


def device_document(row: dict[str, Any], now: float) -> dict[str, Any]:
    """A device as `--json` tells it, out of the store's row."""
    said = birth.decode(row["birth"]) if row["birth"] else birth.Birth(b"")
    alive = health.decode(row["health"]) if row["health"] else None
    every_s = alive.every_s if alive is not None else 300
    seen = row["seen"] or row["since"] or 0.0
    silent = bool(row["online"]) and alive is not None and now - seen > SILENT_FACTOR * every_s
    return {
        "device": row["device"], "place": said.place, "online": bool(row["online"]), "silent": silent, "since": utc(row["since"] or 0),
        "seen": utc(seen), "since_s": round(now - (row["since"] or now)), "session": said.session.hex(), "boots": said.boots, "agent": said.agent,
        "boundary": said.boundary, "mode": said.mode.name, "watchdog_s": said.watchdog_s, "reset_reason": said.reset_reason,
        "spool_depth": alive.spool_depth if alive is not None else said.spool_depth,
        "spool_dropped": alive.spool_dropped if alive is not None else said.spool_dropped,
        "apps": [{"app": a.app, "version": a.version, "image": a.image, "state": a.state} for a in said.apps],
        "twin": bool(row["twin"]) and now - row["twin"] < HOUR,
    }  # fmt: skip


# --- lines ---------------------------------------------------------------------------------------------------------------


def incident_line(device: str, record: Record, *, received: float, place: str = "", new: bool = False) -> str:
    """One line of `fleet tail`."""
    i = record.incident
    when = time.strftime("%H:%M:%S", time.localtime(received))
    what = words.headline(i) + (" (new!)" if new else "")
    done = words.last_tried(i.tried)
    if not done and i.planned is not None and i.planned != RemedyKind.LOOK_AGAIN:
        done = f"next: {words.remedy(i.planned)}"
    cost = f"gap {span(i.gap_ms / 1000)}" if i.gap_ms else ""
    cost = f"down {span(i.downtime_ms / 1000)}" if i.downtime_ms else cost
    fields = (
        (words.severity(i.severity), 4), (device, 8), (place, 8), (i.app or "box", 10), (words.shown(i.state, i.need), 9), (what, 22), (done, 22), (cost, 9),
        (words.recurrence(i.recurrence, i.recurrence_window_s), 7),
    )  # fmt: skip
    return f"{when}  " + " ".join(clean(text).ljust(width) for text, width in fields) + f" {incident_id(i)}"


def standin_line(device: str, standin: Standin, *, received: float) -> str:
    """What was folded, dropped, lost or set aside."""
    when = time.strftime("%H:%M:%S", time.localtime(received))
    said = {
        StandinKind.DROPPED: "reports dropped, the spool was full", StandinKind.LOST: "reports lost, damaged on the medium",
        StandinKind.SET_ASIDE: "reports set aside, the broker refuses them", StandinKind.FOLDED: "reports folded into one",
    }.get(standin.kind, "reports told in a later one")  # fmt: skip
    why = f" ({reasons.word(standin.reason)})" if standin.reason else ""
    return f"{when}  ..   {clean(device):<8} {standin.count} {said}{why}"


def result_line(device: str, record: ResultRecord, *, received: float) -> str:
    """One step of a command's life."""
    r = record.result
    when = time.strftime("%H:%M:%S", time.localtime(received))
    why = f" ({reasons.word(r.reason)})" if r.reason else ""
    bad = r.state in (ResultState.REFUSED, ResultState.FAILED, ResultState.EXPIRED)
    state = words.RESULTS.get(r.state, str(int(r.state)))
    return f"{when}  {'ERR ' if bad else 'info'} {clean(device):<8} command {r.command[:4].hex()} {action_word(r.action)} {clean(r.app)}: {state}{why}"


def device_lines(documents: list[dict[str, Any]]) -> list[str]:
    """The table of `fleet devices`."""
    rows = [("DEVICE", "PLACE", "STATE", "SINCE", "AGENT", "MODE", "BOUNDARY", "SPOOL", "APPS")]
    for d in documents:
        state = "TWIN" if d["twin"] else "silent" if d["silent"] else "online" if d["online"] else "offline"
        spool = f"{d['spool_depth']}" + (f", {d['spool_dropped']} dropped" if d["spool_dropped"] else "")
        apps = " ".join(f"{a['app']} {a['version']}".strip() for a in d["apps"])
        rows.append((d["device"], d["place"], state, span(max(0, d["since_s"])), d["agent"], d["mode"].lower(), d["boundary"], spool, apps))
    sizes = [max(len(clean(str(row[i]))) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(clean(str(c)).ljust(s) for c, s in zip(row, sizes, strict=True)).rstrip() for row in rows]


@dataclass(slots=True)
class _Burst:
    began: float
    lines: int = 0
    held: int = 0
    about: str = ""
    short: str = ""


class Folding:
    """Many boxes with one fault are a few lines and a count, not a flood."""

    def __init__(self) -> None:
        """Nothing seen."""
        self._bursts: OrderedDict[bytes, _Burst] = OrderedDict()

    def take(self, record: Record, now: float) -> bool:
        """Whether this one is shown by itself."""
        i = record.incident
        if not i.fingerprint:
            return True
        burst = self._bursts.get(i.fingerprint)
        if burst is None or now - burst.began > BURST_S:
            about = f"all {i.app} {i.image_version}".rstrip() if i.app else "all of the box"
            burst = self._bursts[i.fingerprint] = _Burst(now, about=about, short=incident_id(i))
            while len(self._bursts) > 1_000:
                self._bursts.popitem(last=False)
        if burst.lines < BURST_LINES:
            burst.lines += 1
            return True
        burst.held += 1
        return False

    def ended(self, now: float, *, all_of_them: bool = False) -> list[str]:
        """Lines for bursts that are over."""
        lines = []
        for fingerprint, burst in list(self._bursts.items()):
            if now - burst.began > BURST_S or all_of_them:
                del self._bursts[fingerprint]
                if burst.held:
                    when = time.strftime("%H:%M:%S", time.localtime(now))
                    lines.append(f"{when}  ..   {burst.held} more like {burst.short} ({clean(burst.about)})  ->  edgeheal fleet issue {burst.short}")
        return lines
