# SPDX-License-Identifier: Apache-2.0
"""The screens of `edgeheal replay`: what came out otherwise, and the signals with their numbers.

Duty: render. It runs nothing. Invariants: at most `SHOWN` steps on a screen, all of them with `--json`; what an app said is escaped.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

from edgeheal.cli import common
from edgeheal.core import effect as effects_of
from edgeheal.core import signal as signals
from edgeheal.core.effect import Verb
from edgeheal.core.ids import short_id
from edgeheal.core.incident import Incident
from edgeheal.core.kinds import CauseKind, IncidentState, Need, Severity, SymptomKind
from edgeheal.core.now import NS, Now
from edgeheal.journal.recording import Entry, Recording

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One step that came out otherwise. `then`, `now`: effects as plain lists."""

    seq: int
    at: Now
    signal: list[Any]
    then: list[Any]
    now: list[Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """The whole of it: how many steps were run, which came out otherwise, every effect that this run led to."""

    steps: int
    differences: tuple[Difference, ...]
    decisions: int


def show(kept: Recording, replayed: Replayed, *, as_json: bool) -> None:
    """What a replay came to."""
    same = replayed.steps - len(replayed.differences)
    if as_json:
        common.put_json({
            "header": kept.header, "policy": kept.policy, "whole": kept.whole, "steps": replayed.steps, "same": same, "decisions": replayed.decisions,
            "differences": [{"seq": d.seq, "mono_ns": d.at.mono_ns, "signal": d.signal, "then": d.then, "now": d.now} for d in replayed.differences],
        })  # fmt: skip
        return
    common.put(_title(kept))
    if not kept.whole:
        common.put("  (still open, or cut off: what is there was run)")
    for shown in replayed.differences[:SHOWN]:
        common.put(f"#{shown.seq} {_moment(shown.at)} {describe_signal(shown.signal)}")
        for label, run_of in (("then", shown.then), ("now ", shown.now)):
            for line in [describe_effect(e) for e in run_of] or ["nothing"]:
                common.put(f"    {label}  {line}")
    if len(replayed.differences) > SHOWN:
        common.put(f"... and {len(replayed.differences) - SHOWN} more steps that differ (all of them: --json)")
    common.put(f"{same} of {replayed.steps} steps decided the same, {len(replayed.differences)} otherwise; {replayed.decisions} decisions")


def _title(kept: Recording) -> str:
    header = kept.header
    session, number = header.get("session"), header.get("incident")
    name = short_id(session, number) if isinstance(session, bytes) and isinstance(number, int) else "?"
    steps = sum(len(part.entries) for part in kept.parts)
    return f"{name}  recorded by edgeheal {header.get('edgeheal', '?')}, device {header.get('device', '?')}, {steps} steps in {len(kept.parts)} part(s)"


def list_signals(kept: Recording, *, as_json: bool) -> int:
    """Each step's number, moment and signal; an exit code."""
    rows = list(_rows(kept))
    if as_json:
        common.put_json([{"seq": seq, "mono_ns": e.now.mono_ns, "signal": _named(e.plain), "effects": e.effects} for seq, e in rows])
        return 0
    for seq, entry in rows:
        made = ", ".join(str(e[0]) for e in entry.effects if e[0] != "Wake")
        common.put(f"#{seq} {_moment(entry.now)} {describe_signal(entry.plain)}{'  -> ' + made if made else ''}")
    return 0


def _rows(kept: Recording) -> Iterator[tuple[int, Entry]]:
    seq = 0
    for part in kept.parts:
        for entry in part.entries:
            seq += 1
            yield seq, entry


def _moment(now: Now) -> str:
    stamp = time.strftime("%H:%M:%S", time.gmtime(now.wall_s))
    return f"{stamp}{'' if now.trusted else '?'} +{now.mono_ns / NS:.3f}s"


def _named(plain: list[Any]) -> dict[str, Any]:
    """A signal as a map with the names of its fields."""
    cls = signals.TAGS.get(plain[0])
    if cls is None:
        return {"kind": plain[0], "fields": plain[1:]}
    return {"kind": cls.__name__, **{f.name: v for f, v in zip(fields(cls), plain[1:], strict=False)}}


def describe_signal(plain: list[Any]) -> str:
    """One line: its name, and the fields that are not empty."""
    named = _named(plain)
    kind = named.pop("kind")
    said = " ".join(f"{k}={_short(v)}" for k, v in named.items() if v not in (None, "", 0, False, [], ()))
    return _clean(f"{kind} {said}".rstrip())


def describe_effect(plain: list[Any]) -> str:
    """One line: what was to be done, in the words of the code."""
    name, values = str(plain[0]), plain[1:]
    if name == "Report" and values and isinstance(values[0], list):
        return _clean(f"report {_incident(values[0])}")
    if name == "Wake":
        return f"look again at +{values[0] / NS:.3f}s" if values and isinstance(values[0], int) else "look again"
    cls = getattr(effects_of, name, None)
    names = [f.name for f in fields(cls)] if isinstance(cls, type) and issubclass(cls, effects_of.Effect) else []
    said = " ".join(f"{n}={_word(Verb, v) if n == 'verb' else _short(v)}" for n, v in zip(names, values, strict=False) if v not in (None, "", 0, [], ()))
    return _clean(f"{name.lower()} {said}".rstrip())


def _incident(values: list[Any]) -> str:
    plain = dict(zip((f.name for f in fields(Incident)), values, strict=False))
    causes = [_word(CauseKind, c[0]) for c in plain.get("causes") or [] if isinstance(c, list) and c]
    words = (
        f"incident {plain.get('number')} {plain.get('app') or 'box'} {_word(SymptomKind, plain.get('symptom'))}",
        f"{_word(IncidentState, plain.get('state'))} {_word(Severity, plain.get('severity'))}",
        f"need={_word(Need, plain.get('need'))} revision={plain.get('revision')}",
        f"cause={causes[0]}" if causes else "",
    )
    return " ".join(word for word in words if word)


def _word(kind: type[IntEnum], value: Any) -> str:
    try:
        return kind(value).name.lower().replace("_", " ")
    except ValueError:
        return str(value)


def _short(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _clean(text: str) -> str:
    """What an app said moves no cursor."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
