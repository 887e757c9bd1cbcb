# SPDX-License-Identifier: Apache-2.0
"""Dataclasses as plain values (None, bool, int, float, str, bytes, lists, string-keyed maps) and back, by their type hints.

Duty: what the engine's snapshot is made of. It packs nothing.
Invariants: `from_plain(type(v), to_plain(v)) == v`; nothing of the result is shared with what it was made from; a field that
a newer version added is left out, one that an older version lacked takes its default; map order is kept.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import IntEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

Plain = Any
_LEAVES = (bool, int, float, str, bytes, NoneType)


def to_plain(value: Any) -> Plain:
    """A dataclass as a map of its fields, an enum as its number, a tuple as a list; keys of maps as strings."""
    kind: Any = type(value)
    if kind in _LEAVES:
        return value
    if kind is tuple or kind is list:
        return [to_plain(v) for v in value]
    if kind is dict:
        return {_key(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, IntEnum):
        return int(value)
    if is_dataclass(value):
        return {name: to_plain(getattr(value, name)) for name in _names(kind)}
    raise TypeError(f"no plain value: {kind.__name__}")


def _key(key: Any) -> str:
    return key if type(key) is str else str(int(key))


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def from_plain(kind: Any, plain: Plain) -> Any:
    """A value of `kind` (a dataclass, or any hint that one may carry); TypeError, ValueError or KeyError when `plain` does not fit."""
    maker: Callable[[Plain], Any] = _maker(kind)
    return maker(plain)


@cache
def _maker(hint: Any) -> Callable[[Plain], Any]:
    origin = get_origin(hint)
    args = get_args(hint)
    if origin in (Union, UnionType):
        return _optional(hint, args)
    if origin is tuple:
        return _tuple(args)
    if origin is list:
        item = _maker(args[0])
        return lambda plain: [item(v) for v in plain]
    if origin is dict:
        key, value = _maker_of_key(args[0]), _maker(args[1])
        return lambda plain: {key(k): value(v) for k, v in plain.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return _dataclass(hint)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return hint
    return lambda plain: plain


def _maker_of_key(hint: Any) -> Callable[[str], Any]:
    if hint is str:
        return str
    return lambda key: hint(int(key))


def _optional(hint: Any, args: tuple[Any, ...]) -> Callable[[Plain], Any]:
    some = [a for a in args if a is not NoneType]
    if all(isinstance(a, type) and a in _LEAVES for a in some):
        return lambda plain: plain
    if len(some) != 1:
        raise TypeError(f"ambiguous hint {hint}")
    maker = _maker(some[0])
    return lambda plain: None if plain is None else maker(plain)


def _tuple(args: tuple[Any, ...]) -> Callable[[Plain], Any]:
    if len(args) == 2 and args[1] is Ellipsis:
        item = _maker(args[0])
        return lambda plain: tuple(item(v) for v in plain)
    makers = tuple(_maker(a) for a in args)
    return lambda plain: tuple(make(v) for make, v in zip(makers, plain, strict=True))


def _dataclass(kind: type) -> Callable[[Plain], Any]:
    makers: dict[str, Callable[[Plain], Any]] = {}
    required = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}

    def make(plain: Plain) -> Any:
        if not makers:  # filled at the first use: a class may hold itself
            hints = get_type_hints(kind)
            makers.update({f.name: _maker(hints[f.name]) for f in fields(kind)})
        if not isinstance(plain, dict) or not required <= plain.keys():
            raise ValueError(f"no {kind.__name__}")
        return kind(**{name: make_field(plain[name]) for name, make_field in makers.items() if name in plain})

    return make
