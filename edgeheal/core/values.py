# SPDX-License-Identifier: Apache-2.0
"""A frozen value with some fields changed, at less cost than `dataclasses.replace`.

Duty: one function. The way from an exit to its restart makes some twenty new values, and the standard function asks each field's
metadata each time: measured about twice as long. Invariant: the same result; an unknown field is a KeyError.
"""

from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar

V = TypeVar("V")
_SHAPES: dict[type, tuple[Callable[[Any], tuple[Any, ...]], dict[str, int]]] = {}


def replace(value: V, **changes: Any) -> V:
    """`value` with `changes`; its class takes all its fields by position (no keyword-only ones, at least two)."""
    kind = type(value)
    shape = _SHAPES.get(kind)
    if shape is None:
        names = [f.name for f in fields(value)]  # type: ignore[arg-type]
        shape = _SHAPES[kind] = (attrgetter(*names), {name: at for at, name in enumerate(names)})
    read, places = shape
    values = list(read(value))
    for name, new in changes.items():
        values[places[name]] = new
    return kind(*values)
