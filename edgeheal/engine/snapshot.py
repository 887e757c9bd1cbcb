# SPDX-License-Identifier: Apache-2.0
"""The state as plain values and back: what the journal keeps and a recording starts from.

Duty: the engine's snapshot and its schema number. It packs nothing; `journal` does.
Invariants: `from_plain(to_plain(s))` decides like `s`, bit for bit, and shares nothing with it; an unknown schema is refused by
name, never guessed.
"""

from typing import Any

from edgeheal.core.errors import JournalError
from edgeheal.core.plain import from_plain as _from
from edgeheal.core.plain import to_plain as _to
from edgeheal.engine.state import State

SCHEMA = 1


def to_plain(state: State) -> dict[str, Any]:
    """A string-keyed map of plain values, `schema` first."""
    return {"schema": SCHEMA, "state": _to(state)}


def from_plain(plain: Any) -> State:
    """Back from `to_plain`; JournalError for another schema or for what is no snapshot."""
    if not isinstance(plain, dict) or "schema" not in plain:
        raise JournalError("not a snapshot of the engine", place="snapshot")
    if plain["schema"] != SCHEMA:
        raise JournalError(
            f"snapshot has schema {plain['schema']!r}, this version reads {SCHEMA}", place="snapshot", hint="read it with the version that wrote it"
        )
    try:
        state: State = _from(State, plain["state"])
    except (TypeError, ValueError, KeyError, AttributeError) as fault:
        raise JournalError(f"snapshot cannot be read: {fault}", place="snapshot") from None
    return state
