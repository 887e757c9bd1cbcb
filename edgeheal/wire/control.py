# SPDX-License-Identifier: Apache-2.0
"""Messages of the control socket: JSON lines between the agent and people's tools.

Duty: line <-> typed request or answer. Not its duty: the socket (`agent.control`, `cli.ask`).
Invariants: a request is `{"id": n, "do": word, ...}`, an answer `{"id": n, "ok": bool, ...}` with `error` when not ok, an event
`{"event": word, ...}`; a line of at most LINE_MOST bytes; anything else is a WireError that costs that line only.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import WireError

LINE_MOST = 65_536
PLACE = "control"


@dataclass(frozen=True, slots=True)
class Request:
    """`do` is the word, `words` what goes with it."""

    do: str
    id: int = 0
    words: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """`ok` with `values`, or an `error`."""

    id: int
    ok: bool
    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > LINE_MOST:
        raise WireError(f"a line of {len(line)} bytes, at most {LINE_MOST}", code=reasons.TOO_LARGE, place=PLACE)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise WireError("no JSON object", code=reasons.MALFORMED, place=PLACE) from None
    if not isinstance(value, dict):
        raise WireError("no JSON object", code=reasons.MALFORMED, place=PLACE)
    return value


def _id(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise WireError("expected a number", code=reasons.MALFORMED, place=f"{PLACE}.id")
    return value


def encode_request(request: Request) -> bytes:
    """One line."""
    return json.dumps({"id": request.id, "do": request.do} | request.words, separators=(",", ":")).encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """The request in a line."""
    value = _object(line)
    do = value.pop("do", None)
    if not isinstance(do, str) or not 0 < len(do) <= 64:
        raise WireError('expected {"id": n, "do": word}', code=reasons.MALFORMED, place=f"{PLACE}.do")
    return Request(do, _id(value.pop("id", 0)), value)


def encode_answer(answer: Answer) -> bytes:
    """One line; bytes in values as hex."""
    value = {"id": answer.id, "ok": answer.ok} | answer.values
    if answer.error:
        value["error"] = answer.error
    return json.dumps(value, separators=(",", ":"), default=_plain).encode() + b"\n"


def decode_answer(line: bytes) -> Answer:
    """The answer in a line."""
    value = _object(line)
    ok = value.pop("ok", None)
    error = value.pop("error", "")
    if not isinstance(ok, bool) or not isinstance(error, str):
        raise WireError("expected ok and error", code=reasons.MALFORMED, place=PLACE)
    return Answer(_id(value.pop("id", 0)), ok, value, error)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes | bytearray) else str(value)
