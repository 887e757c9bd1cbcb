# SPDX-License-Identifier: Apache-2.0
"""Texts -> `Config`: parsed, held against the schema, merged key by key, checked for what contradicts.

Duty: the values, the origin of each, and every problem. Pure: it reads no file.
Invariants: a key is known, of its kind and in its bounds, or it is a problem with its place and the nearest valid form; later
texts win key by key; a contradiction is only told of keys that could be read.
"""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import Any

from edgeheal.config.contradictions import contradictions
from edgeheal.config.files import Text
from edgeheal.config.kinds import Kind, Misread, nearest
from edgeheal.config.lines import Path, Spot, locate
from edgeheal.config.problem import Problem, looks_secret
from edgeheal.config.schema import APPS_MOST, Config, Limits

PROBLEMS_MOST = 200


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was said."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(slots=True)
class _Reading:
    """What the texts said so far, while they are walked."""

    base: str
    said: dict[Path, Any]
    tables: dict[Path, None]
    origins: dict[str, Origin]
    problems: list[Problem]


def key_name(field: "Field[Any]") -> str:
    """The key of a field: its name without the unit, and without the dash that Python's own words need."""
    kind = field.metadata.get("kind")
    return field.name.removesuffix(kind.suffix if kind is not None else "").removesuffix("_")


def dotted(path: Iterable[str]) -> str:
    """A path as it is written, odd parts quoted."""
    return ".".join(p if re.fullmatch(r"[A-Za-z0-9_-]+", p) else repr(p)[:80] for p in path)


def decode(texts: Sequence[Text], base: str) -> tuple[Config, dict[str, Origin], tuple[Problem, ...]]:
    """The config that `texts` make, lowest layer first. With problems, it has defaults where they are."""
    reading = _Reading(base, {}, {}, {}, [])
    for text in texts:
        _read_text(text, reading)
    config = _build(Config, Config(), (), reading)
    inherited = {n: replace(a, limits=_build(Limits, config.limits, ("apps", n, "limits"), reading)) for n, a in config.apps.items()}
    config = replace(config, apps=inherited)
    if len(config.apps) > APPS_MOST:
        reading.problems.append(Problem(texts[-1].path, 0, "apps", f"names {len(config.apps)} apps; at most {APPS_MOST} are taken"))
    wrong = {p.key for p in reading.problems}
    broken = any(not p.key for p in reading.problems)
    for keys, message, near in contradictions(config):
        if broken or wrong & set(keys):
            continue
        place = max((reading.origins[k] for k in keys if k in reading.origins), key=lambda o: [t.path for t in texts].index(o.file), default=None)
        said = next((k for k in keys if k in reading.origins), keys[0])
        reading.problems.append(Problem(place.file if place else "", place.line if place else 0, said, message, nearest=near))
    order = {t.path: n for n, t in enumerate(texts)}
    found = sorted(reading.problems, key=lambda p: (order.get(p.file, -1), p.line))
    return config, reading.origins, tuple(found[:PROBLEMS_MOST])


def _read_text(text: Text, reading: _Reading) -> None:
    try:
        document = tomllib.loads(text.text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as fault:
        reading.problems.append(_syntax(text, fault))
        return
    try:
        spots = locate(text.text)
    except RecursionError:
        spots = {}
    _walk(Config, document, (), _Place(text.path, spots), reading)


def _syntax(text: Text, fault: Exception) -> Problem:
    """What the parser said, with the line it stumbled at."""
    if isinstance(fault, RecursionError):
        return Problem(text.path, 0, "", "is nested too deeply")
    message = str(fault)
    match = re.search(r" \(at line (\d+), column \d+\)$", message)
    line = int(match[1]) if match else text.text.rstrip().count("\n") + 1
    words = message[: match.start()] if match else message.removesuffix(" (at end of document)")
    source = text.text.split("\n")[line - 1 : line] or [""]
    read = source[0].strip()
    return Problem(text.path, line, "", f"is no TOML: {words[:1].lower()}{words[1:]}", "" if looks_secret(read) else read)


@dataclass(frozen=True, slots=True)
class _Place:
    """The file being walked."""

    file: str
    spots: dict[Path, Spot]

    def problem(self, path: Path, message: str, near: str = "", step: str = "") -> Problem:
        spot = self.spots.get(path, Spot(0))
        return Problem(self.file, spot.line, dotted(path), message, spot.raw, near, step)


def _walk(cls: type, found: dict[str, Any], path: Path, place: _Place, reading: _Reading) -> None:
    """Hold a table against a class."""
    known = {key_name(f): f for f in fields(cls)}
    for name, raw in found.items():
        here = (*path, name)
        field = known.get(name)
        if field is None:
            near = _nearest_key(name, here, known)
            message = "unknown key" if not isinstance(raw, dict) else "unknown table"
            step = "secrets never stand in a config: put it into a file and name that" if looks_secret(name) else ""
            reading.problems.append(place.problem(here, message, near, step))
        elif "kind" in field.metadata:
            _leaf(field.metadata["kind"], raw, here, place, reading)
        elif not isinstance(raw, dict):
            reading.problems.append(place.problem(here, f"must be a table: [{dotted(here)}]", f"[{dotted(here)}]"))
        elif "section" in field.metadata:
            _walk(field.metadata["section"], raw, here, place, reading)
        else:
            _named(field, raw, here, place, reading)


def _named(field: "Field[Any]", found: dict[str, Any], path: Path, place: _Place, reading: _Reading) -> None:
    """Hold a table of tables, or of values, by name against its class or kind."""
    names = field.metadata["names"]
    for name, raw in found.items():
        here = (*path, name)
        if isinstance(names, str) and re.fullmatch(names, name) is None:
            near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32]
            near = f"[{dotted((*path, near))}]" if near else ""
            reading.problems.append(place.problem(here, "a name is a-z, 0-9 and dashes, at most 32, not first a dash", near))
        elif not isinstance(names, str) and name not in names:
            near = nearest(name, names)
            reading.problems.append(place.problem(here, f"unknown name; known: {', '.join(names)}", dotted((*path, near)) if near else ""))
        elif "values" in field.metadata:
            _leaf(field.metadata["values"], raw, here, place, reading)
        elif not isinstance(raw, dict):
            reading.problems.append(place.problem(here, f"must be a table: [{dotted(here)}]", f"[{dotted(here)}]"))
        else:
            reading.tables[here] = None
            _walk(field.metadata["table"], raw, here, place, reading)


def _leaf(kind: Kind, raw: Any, path: Path, place: _Place, reading: _Reading) -> None:
    try:
        value = kind.read(raw, reading.base)
    except Misread as fault:
        near = f"{path[-1]} = {fault.nearest}" if fault.nearest else ""
        reading.problems.append(place.problem(path, str(fault), near))
        return
    reading.said[path] = value
    reading.origins[dotted(path)] = Origin(place.file, place.spots.get(path, Spot(0)).line)


def _nearest_key(name: str, path: Path, known: dict[str, Any]) -> str:
    """The key that was probably meant: here, else anywhere in the schema."""
    if looks_secret(name) and "password_file" in known:
        return 'password_file = "keys/broker.password"'
    near = nearest(name, list(known))
    if near:
        return dotted((*path[:-1], near))
    elsewhere = [k for k in all_keys() if k.rsplit(".", 1)[-1] == name]
    return elsewhere[0] if elsewhere else ""


def all_keys(cls: type = Config, prefix: str = "") -> list[str]:
    """Every key of the schema, dotted; NAME stands for a name."""
    keys: list[str] = []
    for field in fields(cls):
        name = f"{prefix}{key_name(field)}"
        if "kind" in field.metadata:
            keys.append(name)
        elif "section" in field.metadata:
            keys += all_keys(field.metadata["section"], f"{name}.")
        elif "table" in field.metadata:
            keys += all_keys(field.metadata["table"], f"{name}.NAME.")
        else:
            keys.append(f"{name}.NAME")
    return keys


def _build(cls: type, start: Any, path: Path, reading: _Reading) -> Any:
    """`start` with everything that was said below `path`."""
    changed: dict[str, Any] = {}
    for field in fields(cls):
        here = (*path, key_name(field))
        current = getattr(start, field.name)
        if "kind" in field.metadata:
            if here in reading.said:
                changed[field.name] = reading.said[here]
        elif "section" in field.metadata:
            changed[field.name] = _build(field.metadata["section"], current, here, reading)
        elif "table" in field.metadata:
            names = [*current, *(p[-1] for p in reading.tables if p[:-1] == here and p[-1] not in current)]
            inner = field.metadata["table"]
            changed[field.name] = {n: _build(inner, current.get(n) or inner(), (*here, n), reading) for n in names}
        else:
            changed[field.name] = current | {p[-1]: v for p, v in reading.said.items() if p[:-1] == here}
    return replace(start, **changed)
