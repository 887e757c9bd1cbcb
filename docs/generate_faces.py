# SPDX-License-Identifier: Apache-2.0
"""The pages and files of the faces that other people's tools meet: the table of verbs, `--json` answers, messages over MQTT.

Duty: `cli.facts`, `cli.answers`, `cli.messages` -> Markdown, and JSON files in packaging/asyncapi. `python docs/generate_faces.py` writes the latter.
Invariant: as `generate`: nothing is said that the code does not say.
"""

import json
import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TOP)

from edgeheal.cli import answers, facts, messages  # noqa: E402 - from this checkout

FILES = {"asyncapi.json": messages.asyncapi, "answers.json": answers.document}


def verbs_page() -> str:
    """Every verb: who may say it, what works when something is gone, what it answers, how it ends."""
    head = ("verb", "right", "agent dead", "guard dead", "no network", "`--json`", "exit codes")
    lines = [
        (
            f"`{f.words}`",
            f.right.value,
            f.agent_dead.value,
            f.guard_dead.value,
            f.network.value,
            f"[{f.answer}](#{_anchor(f.answer)})" if f.answer else "",
            " ".join(map(str, sorted(f.exits))),
        )
        for f in facts.FACTS
    ]
    intro = (
        "Each cell is tried by a test on a real device. Beside these every verb ends with 2 when its words are wrong, and 130 when interrupted. *Right*: with "
        "one user for all (`boundary: none`) that user counts as root. A token is a signed word (`edgeheal redeem`).\n\nAn error is one object on stdout, "
        '`{"error": {...}}`, with the exit code that goes with it. The same as one JSON Schema document: `packaging/asyncapi/answers.json`.\n'
    )
    parts = [
        "# Verbs and their answers\n",
        intro,
        _table(head, lines),
        "## Forms of answers\n",
        "A field may be added; a reader skips what it does not know.\n",
    ]
    for name, schema in answers.ANSWERS.items():
        parts += [f"### {name}\n", f"```text\n{_shape(schema)}\n```\n"]
    return "\n".join(parts)


def mqtt_page() -> str:
    """Topics and payloads."""
    document = messages.asyncapi()
    intro = (
        'Seen from the device: *send* is what it publishes. A payload is msgpack `[version, {number: value}]`; with `encoding = "json"` in `[link]` the same '
        "fields under their names. As an AsyncAPI 3 document: `packaging/asyncapi/asyncapi.json`.\n"
    )
    rows = []
    for operation in document["operations"].values():
        name = operation["channel"]["$ref"].rsplit("/", 1)[1]
        channel, mqtt = document["channels"][name], operation["bindings"]["mqtt"]
        rows.append((f"`{channel['address']}`", operation["action"], mqtt["qos"], "yes" if mqtt["retain"] else "", channel["description"]))
    parts = ["# Messages over MQTT\n", intro, _table(("topic", "device", "QoS", "retained", "content"), rows)]
    for name, names in messages.JSON_NAMES.items():
        fields = messages.MESSAGES[name]["properties"]
        numbers = {label: key for key, label in names.items()}
        lines = [(numbers.get(field, ""), f"`{field}`", _shape(schema), schema.get("description", "")) for field, schema in fields.items()]
        parts += [f"## {name}\n", _table(("number", "field", "form", "meaning"), lines)]
    return "\n".join(parts)


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _table(head, lines) -> str:
    cells = [[str(c).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") for c in line] for line in lines]
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in cells)]) + "\n"


def _shape(schema) -> str:
    """A schema in a few words."""
    if "anyOf" in schema and "type" not in schema:
        return " or ".join(_shape(s) for s in schema["anyOf"])
    if "enum" in schema:
        return " ".join(f'"{w}"' if isinstance(w, str) else str(w) for w in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    match schema.get("type"):
        case "object" if "properties" in schema:
            needed = set(schema["required"])
            return "{" + ", ".join(f"{n}{'' if n in needed else '?'}: {_shape(s)}" for n, s in schema["properties"].items()) + "}"
        case "object":
            return f"{{name: {_shape(schema.get('additionalProperties', {}))}}}"
        case "array" if "prefixItems" in schema:
            return "[" + ", ".join(_shape(s) for s in schema["prefixItems"]) + "]"
        case "array":
            return f"[{_shape(schema['items'])}, ...]"
        case "string":
            return "UTC" if schema.get("format") == "date-time" else "hex" if "[0-9a-f]" in schema.get("pattern", "") else "text"
        case "null":
            return "null"
        case None:
            return "anything"
    return schema["type"]


def write_files() -> None:
    """The files that are committed."""
    folder = os.path.join(TOP, "packaging/asyncapi")
    os.makedirs(folder, exist_ok=True)
    for name, make in FILES.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text(make()))


def text(document) -> str:
    """A document as it is committed."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_files()
