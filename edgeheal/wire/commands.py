# SPDX-License-Identifier: Apache-2.0
"""A signed command's body: typed value <-> canonical bytes, and the id out of an envelope that nobody has judged yet.

Duty: fields, their bounds, their one-letter keys. Not its duty: signatures, roles, counters, expiry (trust, the guard).
Invariants: canonical form (`trust.canonical`), so that one meaning has one byte string; unknown keys are refused, since what
is not understood must not be carried out; times are Unix seconds; `by` is the first 8 bytes of the key whose counter it uses.
"""

from dataclasses import dataclass, fields
from typing import Any

from edgeheal.core import reasons
from edgeheal.core.errors import EdgeHealError, WireError
from edgeheal.core.kinds import ActionCode
from edgeheal.trust import canonical, envelope

VERSION = 1
PLACE = "command"
ENVELOPE_MOST = envelope.MAX_ENVELOPE
GRAVE = frozenset({
    ActionCode.ROLLBACK, ActionCode.INSTALL, ActionCode.MARK_GOOD, ActionCode.ALLOW, ActionCode.CONFIG, ActionCode.REBOOT, ActionCode.DROP,
})  # fmt: skip

# field -> (key, type, most characters or bytes or value, exact bytes)
_KEYS: dict[str, tuple[str, type, int]] = {
    "command_id": ("i", bytes, 16),
    "tenant": ("t", str, 64),
    "device": ("d", str, 64),
    "action": ("a", int, 65_535),
    "app": ("p", str, 32),
    "image": ("m", bytes, 32),
    "seconds": ("u", int, 10**9),
    "text": ("x", str, 256),
    "issued": ("s", int, 1 << 40),
    "expires": ("e", int, 1 << 40),
    "by": ("b", bytes, 8),
    "counter": ("c", int, 1 << 62),
    "nonce": ("n", bytes, 8),
}
_NEEDED = ("command_id", "tenant", "device", "action", "issued", "expires", "by", "counter")


@dataclass(frozen=True, slots=True)
class Command:
    """What is to be done, for whom, until when. `image` a 32-byte id, `seconds` a length (pause), `text` an incident's id or a value."""

    command_id: bytes
    tenant: str
    device: str
    action: ActionCode
    issued: int
    expires: int
    by: bytes
    counter: int
    app: str = ""
    image: bytes = b""
    seconds: int = 0
    text: str = ""
    nonce: bytes = b""

    @property
    def grave(self) -> bool:
        """Whether it needs the boot nonce."""
        return self.action in GRAVE


def encode_body(command: Command) -> bytes:
    """Canonical bytes, ready to be signed."""
    body: dict[str, Any] = {"v": VERSION}
    for name, (key, cls, _) in _KEYS.items():
        value = getattr(command, name)
        if value or name in _NEEDED:
            body[key] = int(value) if cls is int else value
    data = canonical.pack(body)
    decode_body(data)
    return data


def decode_body(data: bytes) -> Command:
    """The command in `data`; WireError (MALFORMED, UNKNOWN_VERSION, UNKNOWN_VERB) with the field."""
    try:
        body = canonical.unpack(data)
    except canonical.NotCanonicalError as fault:
        raise WireError(str(fault), code=reasons.MALFORMED, place=PLACE) from None
    if not isinstance(body, dict):
        raise WireError("expected a map", code=reasons.MALFORMED, place=PLACE)
    version = body.pop("v", None)
    if isinstance(version, bool) or version != VERSION:
        raise WireError("another version of commands", code=reasons.UNKNOWN_VERSION, place=f"{PLACE}[v]")
    found = {name: _field(body.pop(key), key, cls, most) for name, (key, cls, most) in _KEYS.items() if key in body}
    if body:
        raise WireError(f"unknown field {str(min(body))[:16]!r}", code=reasons.MALFORMED, place=PLACE)
    missing = [n for n in _NEEDED if n not in found]
    if missing:
        raise WireError(f"{missing[0]} is missing", code=reasons.MALFORMED, place=f"{PLACE}[{_KEYS[missing[0]][0]}]")
    try:
        found["action"] = ActionCode(found["action"])
    except ValueError:
        raise WireError(f"action {found['action']} is not known here", code=reasons.UNKNOWN_VERB, place=f"{PLACE}[a]") from None
    return Command(**found)


def _field(value: object, key: str, cls: type, most: int) -> Any:
    place = f"{PLACE}[{key}]"
    if not isinstance(value, cls) or isinstance(value, bool):
        raise WireError(f"expected {cls.__name__}", code=reasons.MALFORMED, place=place)
    if isinstance(value, int) and not 0 <= value <= most:
        raise WireError(f"expected 0..{most}", code=reasons.MALFORMED, place=place)
    if isinstance(value, bytes) and len(value) != most:
        raise WireError(f"expected {most} bytes", code=reasons.MALFORMED, place=place)
    if isinstance(value, str) and len(value) > most:
        raise WireError(f"expected at most {most} characters", code=reasons.MALFORMED, place=place)
    return value


def peek(data: bytes) -> Command:
    """The command inside an envelope whose signatures nobody has judged: good for naming it in a refusal, for nothing else."""
    try:
        return decode_body(envelope.decode(data, envelope.COMMAND).body)
    except WireError:
        raise
    except EdgeHealError as fault:
        raise WireError(fault.message, code=getattr(fault, "reason", 0) or reasons.MALFORMED, place=PLACE) from None


def peek_id(data: bytes) -> bytes:
    """The command id in an envelope, however little else of it can be read; b"" when there is none."""
    try:
        body = canonical.loose(envelope.decode(data).body)
    except (EdgeHealError, canonical.NotCanonicalError):
        return b""
    found = body.get("i") if isinstance(body, dict) else None
    return found if isinstance(found, bytes) and len(found) == 16 else b""


def to_plain(command: Command) -> dict[str, Any]:
    """For `--json`: names and values, bytes as hex."""
    plain = {f.name: getattr(command, f.name) for f in fields(command)}
    return {k: v.hex() if isinstance(v, bytes) else v for k, v in plain.items()} | {"action": command.action.name.lower().replace("_", "-")}
