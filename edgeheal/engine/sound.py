# SPDX-License-Identifier: Apache-2.0
"""Whether a signal is what its class says: the last check before it may move anything.

Duty: types of fields, by their defaults. Values out of range are the readers' business. Invariant: never raises.
"""

from dataclasses import fields

from edgeheal.core.signal import SIGNALS, AppExited, CatalogIs, PolicyIs, Reading, Signal

_ANY = frozenset({PolicyIs, CatalogIs})
_NONE = {AppExited: ("code", "signum"), Reading: ("value",)}


def _types(default: object) -> tuple[type, ...]:
    if isinstance(default, bool):
        return (bool, int)
    if isinstance(default, float):
        return (float, int)
    return (type(default),)


def _table() -> dict[type, tuple[tuple[str, tuple[type, ...]], ...]]:
    table: dict[type, tuple[tuple[str, tuple[type, ...]], ...]] = {}
    for cls in SIGNALS:
        blank = cls()
        rows: list[tuple[str, tuple[type, ...]]] = []
        for field in fields(cls):
            if field.name in _NONE.get(cls, ()):
                rows.append((field.name, (type(None), float, int) if cls is Reading else (type(None), int)))
            elif cls not in _ANY:
                rows.append((field.name, _types(getattr(blank, field.name))))
        table[cls] = tuple(rows)
    return table


_CHECKS = _table()


def is_sound(signal: object) -> bool:
    """True when `signal` is one of ours and each field has the type it must have."""
    checks = _CHECKS.get(type(signal))
    if checks is None:
        return False
    return all(isinstance(getattr(signal, name), types) for name, types in checks)


def tag_of(signal: object) -> int:
    """The signal's tag, 0 for what is none."""
    return signal.TAG if isinstance(signal, Signal) else 0
