# SPDX-License-Identifier: Apache-2.0
"""Keep out of the resident agent what its libraries import and seldom or never use here: hashes of OpenSSL (the interpreter has its own),
logging, URLs, proxies, uuids (paho), `inspect` (the docstrings that `dataclasses` makes), and a comparison, a hash and a representation of each
of our values' own: all of them share one.

Duty: put *late* modules in their place, which become the real ones when they are first used; a stand-in for `inspect` and our own `dataclass` while
our modules are imported. Figures: docs/adr/0080. Only on interpreters where it was tested; elsewhere nothing is done and the agent is 8 MB larger.
Invariants: whoever uses a late module gets the real one; after `done` `inspect` and `dataclass` are the real ones; values compare, hash and show
as they do everywhere else.
"""

import gc
import importlib
import operator
import sys
import time
import types
from collections.abc import Callable
from typing import Any

TESTED = ((3, 11), (3, 14))
REST_S = 10
_FORGOTTEN = {"difflib", "tomllib"}  # what reading a config needs
# name -> what its importers ask of it while they are being imported
_LATE: dict[str, dict[str, Any]] = {
    "difflib": {},
    "hashlib": {},
    "logging": {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40},
    "platform": {"system": lambda: "Linux"},
    "tomllib": {},
    "urllib.parse": {},
    "urllib.request": {},
    "uuid": {},
}


class _Late(types.ModuleType):
    """A module that is loaded when something of it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        """Called for what is not here yet."""
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        self.__dict__.update(importlib.import_module(self.__name__).__dict__)
        return self.__dict__[name] if name in self.__dict__ else super().__getattribute__(name)

    def forget(self) -> None:
        """Let go of the real one: it is loaded anew should it be used again."""
        for name in [word for word in sys.modules if word == self.__name__ or word.startswith(f"{self.__name__}.")]:
            del sys.modules[name]
        for name in [word for word in self.__dict__ if not word.startswith("__")]:
            del self.__dict__[name]
        sys.modules[self.__name__] = self


_late: dict[str, _Late] = {}


def begin() -> list[str]:
    """Put them in place; the names that `done` takes away again."""
    if not TESTED[0] <= sys.version_info[:2] < TESTED[1]:
        return []
    for name, asked in _LATE.items():
        if name in sys.modules:
            continue
        late = _Late(name, "Loaded when it is first used (edgeheal.agent.lean).")
        late.__dict__.update(asked)
        sys.modules[name] = _late[name] = late
        parent, dot, child = name.rpartition(".")
        if dot:
            setattr(importlib.import_module(parent), child, late)
    placed = [] if "inspect" in sys.modules else ["inspect"]
    if placed:
        _stand_in()
    _share()
    return placed


def _stand_in() -> None:
    standin = types.ModuleType("inspect", "A stand-in of edgeheal.agent.lean.")
    standin.signature = lambda *_, **__: "()"  # type: ignore[attr-defined]
    standin.get_annotations = lambda kind, **_: kind.__dict__.get("__annotations__", {})  # type: ignore[attr-defined]  # noqa: RUF063
    sys.modules["inspect"] = standin


def done(placed: list[str]) -> None:
    """Imports from now on get the real modules."""
    _unshare()
    for name in placed:
        sys.modules.pop(name, None)


class Rest:
    """A while after the start (a `ports.Source`): what only a start needs is let go, and free memory goes back to the kernel."""

    def __init__(self) -> None:
        """Due once."""
        self._at_ns = time.monotonic_ns() + REST_S * 1_000_000_000

    def fds(self) -> dict[int, int]:
        """None."""
        return {}

    def ready(self, fd: int, events: int) -> None:
        """None."""

    def due(self) -> int:
        """Once."""
        return self._at_ns

    def tick(self, now_ns: int) -> None:
        """Now."""
        self._at_ns = 0
        for name in _FORGOTTEN & _late.keys():
            _late[name].forget()
        gc.collect()
        gc.freeze()
        try:
            importlib.import_module("ctypes").CDLL(None).malloc_trim(0)
        except (OSError, AttributeError):
            return  # another C library


# -- one comparison, hash and representation for all of our values; `dataclasses` is imported once `inspect` is out of its way

_real: Any = None
_fields: Callable[[Any], tuple[Any, ...]]
_frozen: type[AttributeError]
_getters: dict[type, Callable[[Any], Any]] = {}


def _share() -> None:
    global _real, _fields, _frozen
    import dataclasses

    _real, _fields, _frozen = dataclasses.dataclass, dataclasses.fields, dataclasses.FrozenInstanceError
    dataclasses.dataclass = _dataclass


def _unshare() -> None:
    if _real is not None:
        import dataclasses

        dataclasses.dataclass = _real


def _dataclass(cls: "type | None" = None, /, **words: Any) -> Any:
    """`dataclasses.dataclass`, but for five functions that it would compile anew for each class."""
    if cls is None:
        return lambda given: _dataclass(given, **words)
    if not words.get("eq", True) or not words.get("repr", True) or words.get("order") or words.get("unsafe_hash"):
        return _real(cls, **words)
    own = set(cls.__dict__)
    made = _real(cls, **(words | {"eq": False, "repr": False}))
    if words.get("frozen"):
        made.__setattr__, made.__delattr__ = _refuse, _refuse
    if "__repr__" not in own:
        made.__repr__ = _repr
    if "__eq__" not in own:
        made.__eq__ = _eq
        if "__hash__" not in own:
            made.__hash__ = _hash if words.get("frozen") else None
    return made


def _values(one: Any) -> Any:
    """What is compared, as a tuple (or the one value there is)."""
    kind = type(one)
    if kind not in _getters:
        names = [field.name for field in _fields(kind) if field.compare]
        _getters[kind] = operator.attrgetter(*names) if names else lambda _: ()
    return _getters[kind](one)


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse(self: Any, name: str, *_: object) -> None:
    raise _frozen(f"{type(self).__qualname__} is frozen: {name!r} stays as it is")


def _repr(self: Any) -> str:
    shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in _fields(self) if field.repr)
    return f"{type(self).__qualname__}({shown})"
