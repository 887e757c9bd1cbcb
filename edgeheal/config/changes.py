# SPDX-License-Identifier: Apache-2.0
"""What a reload changes: the difference of two configs, key by key, and what each change reaches.

Duty: compare. Pure. Invariant: no difference means equal configs, and equal configs have none.
"""

from dataclasses import dataclass

from edgeheal.config.flat import Row, rows
from edgeheal.config.schema import Config


@dataclass(frozen=True, slots=True)
class Change:
    """One key: `old` and `new` as TOML, "" where there was or is none; `touches` what must take notice."""

    key: str
    old: str
    new: str
    touches: str

    def __str__(self) -> str:
        return f"{self.key}: {self.old or '(none)'} -> {self.new or '(none)'}  [{self.touches}]"


def changes(old: Config, new: Config) -> tuple[Change, ...]:
    """Every key that differs, in the schema's order; an app that came or went is one change, before its keys."""
    before, after = _by_key(old), _by_key(new)
    found = [Change(f"apps.{n}", "", "(new app)", "catalog") for n in new.apps if n not in old.apps]
    found += [Change(f"apps.{n}", "(app)", "", "catalog") for n in old.apps if n not in new.apps]
    gone = tuple(f"apps.{n}." for n in old.apps if n not in new.apps)
    keys = [k for k in dict.fromkeys([*after, *before]) if not k.startswith(gone or ("\0",))]
    for key in keys:
        was, now = before.get(key), after.get(key)
        row = now or was
        if row is not None and (was.shown if was else "") != (now.shown if now else ""):
            if was is None and _is_default(row):
                continue
            found.append(Change(key, was.shown if was else "", now.shown if now else "", row.touches))
    return tuple(found)


def touched(found: tuple[Change, ...]) -> frozenset[str]:
    """What takes notice of these changes: "policy", "catalog", "link", "guard", "sampling", "restart of ..."."""
    return frozenset(c.touches for c in found)


def _by_key(config: Config) -> dict[str, Row]:
    return {r.key: r for r in rows(config)}


def _is_default(row: Row) -> bool:
    """Of a new app only what was said is told."""
    from edgeheal.config.schema import App

    if not row.key.startswith("apps."):
        return False
    plain = {r.key.removeprefix("apps.x."): r.shown for r in rows(Config(apps={"x": App()})) if r.key.startswith("apps.x.")}
    return plain.get(row.key.split(".", 2)[2]) == row.shown
