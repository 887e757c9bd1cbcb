# SPDX-License-Identifier: Apache-2.0
"""The life of a command as the device tells it (`up/result`): accepted, refused(reason), running, done, failed, expired.

Duty: Result -> body for the spool -> Result. Not its duty: judging commands (the guard).
Invariants: a result is told by the same spool as incidents and shares keys 0, 1, 23, 24 with them; key 32 marks it as a result,
so that whoever sends records knows the topic from the bytes alone.
"""

from dataclasses import dataclass, field
from typing import Any

from edgeheal.core.digest import sha256
from edgeheal.core.kinds import ResultState
from edgeheal.core.spooled import Standin
from edgeheal.wire import packed, standin, topics
from edgeheal.wire.packed import K_SEQ, K_SESSION, SESSION_BYTES, U32

VERSION = 1
PLACE = "result"
COMMAND_BYTES = 16
K_COMMAND, K_STATE, K_REASON, K_APP, K_ACTION, K_AT, K_TOOK_MS, K_INCIDENT, K_IMAGE, K_TEXT = range(32, 42)

NAMES: dict[int, str] = {
    K_SESSION: "session", K_SEQ: "seq", K_COMMAND: "command", K_STATE: "state", K_REASON: "reason", K_APP: "app", K_ACTION: "action", K_AT: "at_s",
    K_TOOK_MS: "took_ms", K_INCIDENT: "incident", K_IMAGE: "image", K_TEXT: "text", standin.K_STANDIN: "standin", standin.K_RANGES: "ranges",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One step of a command's life. `command` 16 bytes; `action` core.kinds.ActionCode; `reason` core.reasons; `at_s` wall label."""

    command: bytes
    state: ResultState
    reason: int = 0
    action: int = 0
    app: str = ""
    at_s: int = 0
    took_ms: int = 0
    incident: int = 0
    image: bytes = b""
    text: str = ""

    @property
    def fingerprint(self) -> bytes:
        """What the spool folds equal ones by: the same command refused again for the same reason is one record."""
        return sha256(self.command + bytes([int(self.state)]) + self.reason.to_bytes(2, "big")).digest()[:8]


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """A result as it came, with its key."""

    session: bytes
    seq: int
    result: Result
    standin: Standin | None = None
    rest: dict[int, Any] = field(default_factory=dict)


def encode(result: Result) -> bytes:
    """A body for the spool."""
    optional: dict[int, Any] = {
        K_REASON: result.reason, K_APP: result.app, K_ACTION: result.action, K_AT: max(0, result.at_s), K_TOOK_MS: max(0, result.took_ms),
        K_INCIDENT: result.incident, K_IMAGE: result.image, K_TEXT: result.text[:48],
    }  # fmt: skip
    return packed.document(VERSION, {K_COMMAND: result.command, K_STATE: int(result.state)} | {k: v for k, v in optional.items() if v})


def is_result(body: bytes) -> bool:
    """Whether a spooled body is a result (else it is an incident's summary)."""
    return K_COMMAND in packed.opened(body, PLACE, 127).rest


def topic_kind(body: bytes) -> str:
    """The kind of topic on which a spooled body is sent."""
    return topics.UP_RESULT if is_result(body) else topics.UP_INCIDENT


def read(data: bytes) -> ResultRecord:
    """A result, packed or JSON, with its key where it has one."""
    if data[:1] == b"{":
        data = packed.from_json(data, NAMES, _octets, PLACE)
    doc = packed.opened(data, PLACE, VERSION)
    session = doc.octets(K_SESSION, (SESSION_BYTES,))
    seq = doc.whole(K_SEQ, most=U32)
    others = standin.take(doc, session)
    command = doc.octets(K_COMMAND, (COMMAND_BYTES,))
    if not command and others is None:
        raise doc.fail(K_COMMAND, "no command id")
    result = Result(
        command=command,
        state=packed.kind(ResultState, doc.rest.pop(K_STATE, 0), doc, K_STATE),
        reason=doc.whole(K_REASON, most=65_535),
        action=doc.whole(K_ACTION, most=255),
        app=doc.text(K_APP, 32),
        at_s=doc.whole(K_AT),
        took_ms=doc.whole(K_TOOK_MS),
        incident=doc.whole(K_INCIDENT, most=U32),
        image=doc.octets(K_IMAGE, (32,)),
        text=doc.text(K_TEXT, 48),
    )
    return ResultRecord(session, seq, result, others, doc.kept())


def decode(data: bytes) -> Result:
    """The result in `data`."""
    return read(data).result


def to_json(data: bytes) -> bytes:
    """A packed result as a JSON object."""
    return packed.to_json(data, NAMES, PLACE, VERSION)


def _octets(key: int, value: Any) -> Any:
    return bytes.fromhex(value) if key in (K_SESSION, K_COMMAND, K_IMAGE) else standin.octets(key, value)
