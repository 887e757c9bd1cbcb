# SPDX-License-Identifier: Apache-2.0
"""Screens as lines of text: status and its parts. Pure: a document in, lines out.

Duty: layout, durations, times, escaping. The documents are what `--json` prints; the sentences come from `core.words`.
Invariants: plain ASCII; meaning never by colour; at most `width` columns, narrower screens drop columns from the right and
wrap; what came from an app or from outside is escaped before it gets here and again on the way out (`clean`).
"""

import time
from collections.abc import Iterable
from typing import Any

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def clean(text: str) -> str:
    """Control characters, and what is not ASCII, escaped: nobody's text moves the cursor."""
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """`0.4 s`, `38 s`, `38 min`, `3 h`, `12 d`: one unit, as a person says it."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    if seconds < 2 * DAY:
        return f"{seconds / HOUR:.0f} h"
    return f"{seconds / DAY:.0f} d"


def clock(wall_s: float, *, seconds: bool = False) -> str:
    """Local time of day, with its date when it is not today."""
    then = time.localtime(wall_s)
    today = time.localtime()
    day = "" if then[:3] == today[:3] else time.strftime("%d %b ", then)
    return day + time.strftime("%H:%M:%S" if seconds else "%H:%M", then)


def utc(wall_s: float) -> str:
    """RFC 3339 in UTC, for `--json`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))


def count(n: int, word: str) -> str:
    """`0 restarts`, `1 restart`."""
    return f"{n} {word}{'' if n == 1 else 's'}"


def wrap(label: str, parts: Iterable[str], width: int, gap: str = "  ") -> list[str]:
    """`label`, then parts joined by `gap`, continued under the first part when the line is full."""
    lines: list[str] = []
    line = label
    for part in parts:
        joined = line + ("" if line == label or not line.strip() else gap) + part
        if len(joined) > width and line.strip() and line != label:
            lines.append(line)
            line = " " * len(label) + part
        else:
            line = joined
    lines.append(line)
    return lines


def table(rows: list[tuple[str, ...]], width: int) -> list[str]:
    """Rows in columns two spaces apart; columns that do not fit `width` go on a line of their own below, indented."""
    if not rows:
        return []
    sizes = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    fitting, used = 0, 0
    for size in sizes:
        used += size + 2
        if used - 2 > width and fitting >= 2:
            break
        fitting += 1
    lines = []
    for row in rows:
        lines.append("  ".join(c.ljust(s) for c, s in zip(row[:fitting], sizes, strict=False)).rstrip()[:width])
        rest = "  ".join(c for c in row[fitting:] if c)
        if rest and row is not rows[0]:
            lines.append(("    " + rest)[:width])
    return lines


def status(doc: dict[str, Any], width: int = 80) -> list[str]:
    """The screen of `edgeheal status`, from its document."""
    head = f"{clean(doc['device'])}  {clean(doc.get('place') or '')}".rstrip()
    up = f"up {duration(doc['up_s'])}" + (f"; last boot: {doc['boot_reason']}" if doc.get("boot_reason") else "")
    lines = wrap("", [head, " " + doc["shown"], "  " + up], width)
    rows: list[tuple[str, ...]] = [("APP", "STATE", "SINCE", "RUNNING", "WHY", "")]
    rows += [_app_row(app) for app in doc["apps"]]
    lines += table(rows, width) if len(rows) > 1 else ["no apps yet: name one in [apps.NAME] of edgeheal.toml, then `edgeheal image install FILE`"]
    lines += wrap("box    ", [clean(p) for p in doc.get("box", [])], width)
    lines += wrap("fleet  ", [clean(doc["fleet"]["text"])], width)
    lines += wrap("today  ", [", ".join(doc["today"]["parts"])], width)
    for note in doc.get("notes", []):
        lines += wrap("note   ", clean(note).split("  "), width)
    if doc.get("next"):
        lines.append(f"next:  {doc['next']}")
    return lines


def _app_row(app: dict[str, Any]) -> tuple[str, ...]:
    state = app["state"] + (", trial" if app.get("trial") and app["state"] == "OK" else "")
    running = clean(app.get("version") or "-")
    if app.get("trial"):
        running += f" ({duration(app['soak_left_s'])} to go)"
    elif app.get("image_state") in ("good", "blocked", "unknown"):
        running += f" {app['image_state']}"
    why = clean(app.get("why") or (f"before: {app['before']}" if app.get("before") else ""))
    return (clean(app["app"]), state, duration(app["since_s"]), running, why, app.get("incident") or "")
