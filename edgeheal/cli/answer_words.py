# SPDX-License-Identifier: Apache-2.0
"""Words to say JSON Schemas with: a few functions, and schemas out of type hints.

Duty: build plain dicts of JSON Schema 2020-12. Pure. Invariants: an object names all its fields and requires those not said `maybe`;
published, it may grow (a reader skips what it does not know); `closed` gives the same with nothing unnamed allowed, for tests.
"""

from dataclasses import fields, is_dataclass
from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
NOTHING: Schema = {"type": "null"}


def octets(*lengths: int) -> Schema:
    """Bytes as lower-case hex; any length, or one of `lengths`."""
    return {"type": "string", "pattern": f"^({'|'.join(f'[0-9a-f]{{{2 * n}}}' for n in lengths)})$" if lengths else "^([0-9a-f]{2})*$"}


UTC: Schema = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}


def word(*words: str | int) -> Schema:
    """One of these words."""
    return {"enum": list(words)}


def names(kind: type[IntEnum]) -> Schema:
    """The name of a member; a number that this version does not know is `UNKNOWN_<n>`."""
    return {"type": "string", "anyOf": [{"enum": [m.name for m in kind]}, {"pattern": "^UNKNOWN_[0-9]+$"}]}


def numbers(kind: type[IntEnum]) -> Schema:
    """The number of a member, with what each means; others are kept as they are."""
    return {"type": "integer", "minimum": 0, "description": f"{kind.__name__}: {', '.join(f'{int(m)} {m.name.lower()}' for m in kind)}"}


def rows(of: Schema, most: int = 0) -> Schema:
    """A list."""
    return {"type": "array", "items": of} | ({"maxItems": most} if most else {})


def pair(*parts: Schema, least: int = -1) -> Schema:
    """A list whose places have a meaning each; the last ones may be left out down to `least`."""
    return {"type": "array", "prefixItems": list(parts), "items": False, "minItems": len(parts) if least < 0 else least}


def table(of: Schema) -> Schema:
    """A map of names."""
    return {"type": "object", "additionalProperties": of}


def maybe(of: Schema) -> Schema:
    """A field that may be absent."""
    return of | {"x-absent": True}


def either(*of: Schema) -> Schema:
    """One of several forms."""
    return {"anyOf": list(of)}


def obj(**named: Schema) -> Schema:
    """An object."""
    return {
        "type": "object",
        "properties": {n.rstrip("_"): {k: v for k, v in s.items() if k != "x-absent"} for n, s in named.items()},
        "required": [n.rstrip("_") for n, s in named.items() if "x-absent" not in s],
    }


def of_type(hint: Any) -> Schema:
    """The schema of `core.plain.to_plain` of a value with this hint, bytes as hex."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return either(*(of_type(a) for a in args))
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return rows(of_type(args[0]))
    if isinstance(hint, type) and is_dataclass(hint):
        return obj(**{f.name: of_type(get_type_hints(hint)[f.name]) for f in fields(hint)})
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return numbers(hint)
    plain: dict[Any, Schema] = {bool: FLAG, int: WHOLE, float: NUMBER, str: TEXT, bytes: octets(), NoneType: NOTHING}
    return plain[hint]


def closed(schema: Any) -> Any:
    """The same schema with nothing unnamed allowed."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    made = {k: closed(v) for k, v in schema.items()}
    if isinstance(schema.get("properties"), dict) and "required" in schema:
        made.setdefault("additionalProperties", False)
    return made
