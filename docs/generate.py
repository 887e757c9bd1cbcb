# SPDX-License-Identifier: Apache-2.0
"""The reference pages that have their one source in code: config keys, guard frames, reasons, exit codes, state tables, words.

Duty: code -> Markdown. Run by the docs build; `python docs/generate.py DIR` writes them by hand.
Invariant: nothing here is said that the code does not say.
"""

import argparse
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from enum import IntEnum
from typing import Any

import generate_faces
import watched

from edgeheal.cli.main import VERBS
from edgeheal.config.contradictions import RULES
from edgeheal.config.decode import key_name
from edgeheal.config.flat import UNSAID, show
from edgeheal.config.kinds import Account, BudgetKind, Celsius, Choice, FilePath, Flag, IdRange, Items, Kind, Number, Permille, Text
from edgeheal.config.schema import Config
from edgeheal.core import app_table, deployment, errors, incident_table, kinds, reasons
from edgeheal.wire import guard_frames


def cell(text: str) -> str:
    """Text for a table cell."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def table(head: tuple[str, ...], lines: list[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    out = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    out += ["| " + " | ".join(cell(str(c)) for c in line) + " |" for line in lines]
    return "\n".join(out) + "\n"


def bounds(kind: Kind) -> str:
    """The values that a kind takes, in a few words."""
    if isinstance(kind, Items):
        return f"list of: {bounds(kind.of)}"
    if isinstance(kind, Number):
        return f"{kind.low} to {kind.high}"
    if isinstance(kind, Permille | Celsius) or hasattr(kind, "table"):
        low, high = getattr(kind, "low", 0), getattr(kind, "high", 0)
        return f"{kind.show(low)} to {kind.show(high)}"
    words: dict[type, str] = {Flag: "true, false", Account: 'user name, number, "self"', IdRange: '"LOW-HIGH"', BudgetKind: '"N in WINDOW"', FilePath: "path"}
    if isinstance(kind, Choice):
        return ", ".join(f'"{w}"' for w in kind.words if w)
    if isinstance(kind, Text):
        return kind.words.removeprefix("a quoted ")
    return words.get(type(kind), "")


def config_page() -> str:
    """Every key of the config."""
    intro = (
        "Files, lowest layer first: `/usr/lib/edgeheal/*.toml`, `/etc/edgeheal/edgeheal.toml`, `/etc/edgeheal/conf.d/NN-*.toml`. Later ones win key by key; "
        "a list is replaced, not joined. Durations (`ms s m h d w`), sizes (`B kB MB GB KiB MiB GiB`), shares (`%`) and temperatures (`C`) are quoted and "
        "carry their unit; a bare number is refused. `edgeheal config check` names every problem with its file, line and nearest valid form; a config with a "
        "problem is not taken, and the last good one stays in force. Secrets never stand in a config, only the path of the file that holds them.\n"
    )
    parts = ["# Config keys\n", intro]
    _section(parts, Config, "", "at the top of the file, before any table")
    parts += ["## What contradicts\n", "Beside the bounds of each key, these are refused together:\n"]
    parts += [f"- {line}" for line in RULES]
    return "\n".join(parts) + "\n"


def _section(parts: list[str], cls: type, prefix: str, doc: str) -> None:
    lines = []
    start = cls()
    for field in fields(cls):
        kind = field.metadata.get("kind")
        if kind is not None:
            default = show(kind, getattr(start, field.name))
            lines.append((f"`{key_name(field)}`", bounds(kind), "unsaid" if default in (UNSAID, '""') else f"`{default}`", field.metadata["doc"]))
    if lines:
        parts += [
            f"## `[{prefix.rstrip('.')}]`\n" if prefix else "## Top level\n",
            f"{doc[:1].upper()}{doc[1:]}.\n",
            table(("key", "value", "default", "meaning"), lines),
        ]
    for field in fields(cls):
        name = f"{prefix}{key_name(field)}"
        if "section" in field.metadata:
            _section(parts, field.metadata["section"], f"{name}.", field.metadata["doc"])
        elif "table" in field.metadata:
            _section(parts, field.metadata["table"], f"{name}.NAME.", field.metadata["doc"])
            if getattr(start, field.name):
                parts += [_named(name, getattr(start, field.name))]
        elif "values" in field.metadata:
            words = ", ".join(f"`{n}`" for n in field.metadata["names"])
            parts += [f"## `[{name}]`\n", f"{field.metadata['doc'].capitalize()}: NAME = {bounds(field.metadata['values'])}; NAME is one of {words}.\n"]


def _named(name: str, rows: dict[str, Any]) -> str:
    """The defaults of a table of tables that has some."""
    first = next(iter(rows.values()))
    kinds_of = [f for f in fields(first) if "kind" in f.metadata]
    lines = [(f"`{n}`", *(show(f.metadata["kind"], getattr(r, f.name)) for f in kinds_of)) for n, r in rows.items()]
    return f"Defaults of `[{name}.NAME]`:\n\n" + table(("NAME", *(key_name(f) for f in kinds_of)), lines)


def guard_page() -> str:
    """The frames between the guard and those at its doors."""
    source = inspect.getsource(guard_frames)
    numbers = {name: value for name, value in vars(guard_frames).items() if isinstance(value, int) and name.isupper()}
    rows: dict[str, tuple[int, str]] = {}
    for match in re.finditer(r"^([A-Z][A-Z_]+) = (?:0x)?[0-9A-Fa-f]+(?: *# *(.*))?$", source, re.MULTILINE):
        rows[match[1]] = (numbers[match[1]], match[2] or "")
    witnesses = [(f"`{n}`", str(v), doc) for n, (v, doc) in rows.items() if n.startswith("W_")]
    verbs = [
        (f"`{n}`", v, *_doors(doc)) for n, (v, doc) in rows.items()
        if v in guard_frames.VERBS and n not in ("VERSION", "MAX_FRAME") and not n.startswith("W_")
    ]  # fmt: skip
    events = [(f"`{n}`", f"0x{v:02X}", doc) for n, (v, doc) in rows.items() if n.startswith("EV_")]
    doc = inspect.getdoc(guard_frames) or ""
    intro = (
        "Between the guard and those at its doors (`guard-agent.sock`, `guard.sock`): fixed structs over `SOCK_SEQPACKET`, big-endian. Who may ask: A the "
        "agent, P a person of group `edgeheal`, R root or a warrant.\n"
    )
    verb_table, event_table = table(("verb", "number", "who", "fields"), verbs), table(("event", "number", "fields"), events)
    witness_table = table(("witness", "code", "fields"), witnesses)
    parts = [intro, f"```text\n{doc}\n```\n", "## Verbs\n", verb_table, "## Events\n", event_table, "## Witnesses of a boot\n", witness_table]
    return "\n".join(["# Guard frames\n", *parts])


def _doors(comment: str) -> tuple[str, str]:
    match = re.match(r"((?:[APR](?: |$))+|R or what the guard saw)\s*(.*)", comment)
    return (match[1].strip(), match[2].strip()) if match else ("", comment)


def reasons_page() -> str:
    """Reason codes and exit codes."""
    lines = [(number, word) for number, word in sorted(reasons.WORDS.items())]
    codes: dict[int, list[str]] = {0: ["ok"], 1: ["failed"], 10: ["unhealthy (`status --check`)"], 130: ["interrupted"]}
    trees = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.EdgeHealError)]
    for cls in trees:
        codes.setdefault(cls.exit_code, []).append(f"{cls.__doc__.splitlines()[0]}" if cls.__doc__ else cls.__name__)
    exits = [(code, texts[0]) for code, texts in sorted(codes.items())]
    messages = [(f"`{c.message_id}`", c.exit_code, (c.__doc__ or "").splitlines()[0], c.hint) for c in trees]
    return "\n".join(
        [
            "# Reasons and exit codes\n", "## Exit codes of `edgeheal`\n", table(("code", "meaning"), exits),
            "## Errors\n", table(("message id", "exit code", "meaning", "next step"), messages),
            "## Reason codes\n", "The same number in the guard's answers, in results over MQTT and on screens.\n", table(("number", "word"), lines),
        ]
    )  # fmt: skip


def words_page() -> str:
    """Every enumeration that crosses a process or the wire."""
    parts = ["# Numbers on the wire\n", "Stable: never reused, never renumbered; an unknown number met on the wire is kept.\n"]
    for name, cls in vars(kinds).items():
        if inspect.isclass(cls) and issubclass(cls, IntEnum) and cls is not IntEnum:
            parts += [f"## {name}\n", f"{(cls.__doc__ or '').splitlines()[0]}\n", table(("number", "name"), [(int(m), f"`{m.name.lower()}`") for m in cls])]
    return "\n".join(parts) + "\n"


def tables_page() -> str:
    """The state tables, drawn from themselves."""
    parts = ["# State tables\n", "Total: each (state, event) cell says *move*, *ignore* or *refuse*. Drawn from the code that decides.\n"]
    for module, title in ((app_table, "App"), (incident_table, "Incident")):
        parts += [f"## {title}\n", f"```text\n{module.text().rstrip()}\n```\n"]
    parts += ["## Deployment\n", "UNKNOWN veils what was there before: it is never *bad*.\n", table(("event", *deployment.STATES), _deployments())]
    return "\n".join(parts)


def _deployments() -> list[tuple[str, ...]]:
    """The deployment table, for one that runs and is not the last good; BAD for having failed."""
    rows = []
    for event, name in enumerate(deployment.EVENTS):
        cells = []
        for state in range(len(deployment.STATES)):
            was = deployment.GOOD
            verdict, after, duty = deployment.decide(state, event, was=was, reason=deployment.R_FAILED, running=True)
            word = deployment.VERDICTS[verdict] if verdict != deployment.MOVE else deployment.STATES[after]
            cells.append(f"{word}, {deployment.DUTIES[duty]}" if duty else word)
        rows.append((name, *cells))
    return rows


def cli_page() -> str:
    """Every verb's own help."""
    os.environ["COLUMNS"] = "100"
    parser = argparse.ArgumentParser(prog="edgeheal", add_help=False)
    verbs = parser.add_subparsers()
    for module in dict.fromkeys(module for module, _ in VERBS.values()):
        if importlib.util.find_spec(f"edgeheal.cli.{module}") is not None:
            importlib.import_module(f"edgeheal.cli.{module}").add(verbs)
    intro = "`edgeheal VERB --help` says the same. Exit codes: [Reasons and exit codes](reasons.md).\n"
    parts = ["# Command line\n", intro, table(("verb", "what"), [(f"`{v}`", VERBS[v][1]) for v in VERBS if v in verbs.choices])]
    for verb in VERBS:
        if verb in verbs.choices:
            parts += [f"## `edgeheal {verb}`\n", *_helps(verbs.choices[verb])]
    return "\n".join(parts)


def watched_page() -> str:
    """Every symptom: where it comes from, what it is told apart from, how soon, what is done."""
    intro = "Each symptom, in the words of the screens; the first suspects and what is done are what the tables say before any evidence.\n"
    parts = ["# Symptoms\n", intro, table(watched.HEAD, list(watched.rows()))]
    parts += ["## Words of the kernel\n", table(("word", "noticed as", "times", "within s"), list(watched.KERNEL_ROWS))]
    return "\n".join(parts) + "\n"


def _helps(parser: argparse.ArgumentParser) -> list[str]:
    parts = [f"```text\n{parser.format_help().rstrip()}\n```\n"]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                parts += _helps(inner)
    return parts


PAGES: dict[str, Callable[[], str]] = {
    "config.md": config_page, "guard-frames.md": guard_page, "reasons.md": reasons_page, "numbers.md": words_page, "state-tables.md": tables_page,
    "command-line.md": cli_page, "watched.md": watched_page, "verbs.md": generate_faces.verbs_page,
    "mqtt.md": generate_faces.mqtt_page,
}  # fmt: skip


def write_all(folder: str) -> None:
    """Write each page whose text differs from what is there."""
    os.makedirs(folder, exist_ok=True)
    for name, make in PAGES.items():
        path, text = os.path.join(folder, name), make()
        old = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                old = file.read()
        if old != text:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)


if __name__ == "__main__":
    write_all(sys.argv[1])
