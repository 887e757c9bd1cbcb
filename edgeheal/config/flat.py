# SPDX-License-Identifier: Apache-2.0
"""A config as rows of dotted keys: for `config show`, the reload's difference and the reference.

Duty: walk the schema once for all of them. Pure. Invariant: each key of the schema is a row, in the schema's order.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from edgeheal.config.decode import key_name
from edgeheal.config.kinds import Kind
from edgeheal.config.schema import Config

UNSAID = "(unsaid)"


@dataclass(frozen=True, slots=True)
class Row:
    """One value. `shown` is TOML; `touches` says what a change of it reaches."""

    key: str
    table: str
    name: str
    value: Any
    shown: str
    touches: str
    doc: str

    def plain(self) -> Any:
        """The value as a file would hold it: text, number, boolean, list; None when unsaid."""
        return None if self.shown == UNSAID else tomllib.loads(f"v = {self.shown}")["v"]


def show(kind: Kind, value: Any) -> str:
    """A value in TOML; `UNSAID` for None."""
    return UNSAID if value is None else kind.show(value)


def rows(config: Config) -> Iterator[Row]:
    """Every value of `config`."""
    yield from _rows(config, "", "")


def _rows(part: Any, prefix: str, touches: str) -> Iterator[Row]:
    """Plain keys first, then tables, as a file must have them."""
    for field in fields(part):
        kind = field.metadata.get("kind")
        if kind is not None:
            value, name = getattr(part, field.name), key_name(field)
            reached = field.metadata["touches"] or touches
            yield Row(f"{prefix}{name}", prefix.rstrip("."), name, value, show(kind, value), reached, field.metadata["doc"])
    for field in fields(part):
        value, name = getattr(part, field.name), key_name(field)
        reached = field.metadata["touches"] or touches
        if "section" in field.metadata:
            yield from _rows(value, f"{prefix}{name}.", reached)
        elif "table" in field.metadata:
            for inner, one in value.items():
                yield from _rows(one, f"{prefix}{name}.{inner}.", reached)
        elif "values" in field.metadata:
            for inner, one in value.items():
                table = f"{prefix}{name}"
                yield Row(f"{table}.{inner}", table, inner, one, show(field.metadata["values"], one), reached, field.metadata["doc"])
