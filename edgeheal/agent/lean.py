# SPDX-License-Identifier: Apache-2.0
"""Keep out of the resident agent what its libraries import and never use here: `urllib.request` (paho's proxy look-up) and
`inspect` (the docstrings that `dataclasses` makes).

Duty: stand-ins while our modules are imported, the real ones for whoever asks later. Figures: docs/adr/0080. Only on interpreters
where it was tested; elsewhere nothing is done and the agent is 5 MB larger.
Invariant: after `done` nothing of this is left in `sys.modules`.
"""

import sys
import types

TESTED = ((3, 11), (3, 14))
_NAMES = ("inspect", "urllib.request")


def begin() -> list[str]:
    """Put the stand-ins in place; the names that `done` takes away again."""
    if not TESTED[0] <= sys.version_info[:2] < TESTED[1]:
        return []
    placed = []
    for name in _NAMES:
        if name not in sys.modules:
            sys.modules[name] = _standin(name)
            placed.append(name)
    return placed


def _standin(name: str) -> types.ModuleType:
    module = types.ModuleType(name, "A stand-in of edgeheal.agent.lean.")
    if name == "inspect":
        module.signature = lambda *_, **__: "()"  # type: ignore[attr-defined]
        module.get_annotations = lambda kind, **_: kind.__dict__.get("__annotations__", {})  # type: ignore[attr-defined]  # noqa: RUF063
    else:
        module.getproxies = dict  # type: ignore[attr-defined]
        module.proxy_bypass = lambda *_: True  # type: ignore[attr-defined]
    return module


def done(placed: list[str]) -> None:
    """Imports from now on get the real modules."""
    for name in placed:
        sys.modules.pop(name, None)
