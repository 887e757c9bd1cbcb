# SPDX-License-Identifier: Apache-2.0
"""What a device says of itself at each connect (`up/state`, retained), and the will that speaks when it is gone.

Duty: Birth -> bytes -> Birth. Not its duty: when it is sent.
Invariants: what the birth says no summary repeats; a will is a birth with `online` False and nothing else but its session.
"""

from dataclasses import dataclass, field
from typing import Any

from edgeheal.core.kinds import Mode
from edgeheal.wire import packed
from edgeheal.wire.packed import K_SESSION, SESSION_BYTES, U32, Document

VERSION = 1
PLACE = "birth"
BIRTH_MOST = 4_096
SCHEMA = 1  # of summaries and results that this device sends
APPS_MOST = 64
(K_ONLINE, K_BOOTS, K_NONCE, K_RESET, K_AGENT, K_CONFIG, K_POLICY, K_SCHEMA, K_CAPABILITIES, K_BOUNDARY, K_WATCHDOG, K_MODE) = range(1, 13)
(K_DEPTH, K_DROPPED, K_PLACE, K_HARDWARE, K_APPS, K_AT, K_UP_S, K_STORED_BY, K_TRUST, K_CLASSES) = range(13, 23)

NAMES: dict[int, str] = {
    K_SESSION: "session", K_ONLINE: "online", K_BOOTS: "boots", K_NONCE: "boot_nonce", K_RESET: "reset_reason", K_AGENT: "agent", K_CONFIG: "config",
    K_POLICY: "policy", K_SCHEMA: "schema", K_CAPABILITIES: "capabilities", K_BOUNDARY: "boundary", K_WATCHDOG: "watchdog_s", K_MODE: "mode",
    K_DEPTH: "spool_depth", K_DROPPED: "spool_dropped", K_PLACE: "place", K_HARDWARE: "hardware", K_APPS: "apps", K_AT: "at_s", K_UP_S: "up_s",
    K_STORED_BY: "stored_by", K_TRUST: "trust", K_CLASSES: "classes",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AppBirth:
    """An app as the birth tells it: version label, the first bytes of its image's id (hex), `core.deployment` state."""

    app: str
    version: str = ""
    image: str = ""
    state: int = 0


@dataclass(frozen=True, slots=True)
class Birth:
    """A device's word on itself. `boundary` is the *effective* guard level, `watchdog_s` the time-out read back (0 = none).

    `boots` counts boots, `nonce` is this boot's (grave commands carry it); `hardware` tells twins apart; `at_s` wall label.
    """

    session: bytes
    online: bool = True
    boots: int = 0
    nonce: bytes = b""
    reset_reason: str = ""
    agent: str = ""
    config: str = ""
    policy: int = 0
    trust: int = 0
    schema: int = SCHEMA
    capabilities: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    boundary: str = "none"
    watchdog_s: int = 0
    mode: Mode = Mode.ACT
    spool_depth: int = 0
    spool_dropped: int = 0
    place: str = ""
    hardware: bytes = b""
    apps: tuple[AppBirth, ...] = ()
    at_s: int = 0
    up_s: int = 0
    stored_by: str = "controller"
    rest: dict[int, Any] = field(default_factory=dict)


def encode(birth: Birth) -> bytes:
    """The retained message; a will when `online` is False."""
    fields: dict[int, Any] = {K_SESSION: birth.session, K_ONLINE: int(birth.online)}
    if not birth.online:
        return packed.document(VERSION, fields)
    optional: dict[int, Any] = {
        K_BOOTS: birth.boots, K_NONCE: birth.nonce[:8], K_RESET: birth.reset_reason[:48], K_AGENT: birth.agent[:24], K_CONFIG: birth.config[:16],
        K_POLICY: birth.policy, K_TRUST: birth.trust, K_CAPABILITIES: [c[:24] for c in birth.capabilities[:32]],
        K_CLASSES: [c[:64] for c in birth.classes[:16]], K_WATCHDOG: birth.watchdog_s, K_DEPTH: birth.spool_depth, K_DROPPED: birth.spool_dropped,
        K_PLACE: birth.place[:96], K_HARDWARE: birth.hardware[:16], K_AT: max(0, birth.at_s), K_UP_S: max(0, birth.up_s),
        K_APPS: [packed.trim([a.app, a.version[:32], bytes.fromhex(a.image)[:4], a.state], 1) for a in birth.apps[:APPS_MOST]],
    }  # fmt: skip
    fields |= {K_SCHEMA: birth.schema, K_BOUNDARY: birth.boundary, K_MODE: int(birth.mode), K_STORED_BY: birth.stored_by}
    return packed.document(VERSION, fields | {k: v for k, v in optional.items() if v})


def will(session: bytes) -> bytes:
    """What the broker says for us when we are gone."""
    return encode(Birth(session, online=False))


def decode(data: bytes) -> Birth:
    """A birth or a will, packed or JSON."""
    if data[:1] == b"{":
        data = packed.from_json(data, NAMES, _octets, PLACE)
    doc = packed.opened(data, PLACE, VERSION, BIRTH_MOST)
    return Birth(
        session=doc.octets(K_SESSION, (SESSION_BYTES,)),
        online=doc.whole(K_ONLINE, 1, 1) == 1,
        boots=doc.whole(K_BOOTS, most=U32),
        nonce=doc.octets(K_NONCE, (8,)),
        reset_reason=doc.text(K_RESET, 48),
        agent=doc.text(K_AGENT, 24),
        config=doc.text(K_CONFIG, 16),
        policy=doc.whole(K_POLICY),
        trust=doc.whole(K_TRUST),
        schema=doc.whole(K_SCHEMA, SCHEMA, 65_535),
        capabilities=tuple(packed.short(c, doc, K_CAPABILITIES, 24) for c in doc.rows(K_CAPABILITIES, 32)),
        classes=tuple(packed.short(c, doc, K_CLASSES, 64) for c in doc.rows(K_CLASSES, 16)),
        boundary=doc.text(K_BOUNDARY, 16, "none"),
        watchdog_s=doc.whole(K_WATCHDOG, most=U32),
        mode=packed.kind(Mode, doc.rest.pop(K_MODE, 2), doc, K_MODE),
        spool_depth=doc.whole(K_DEPTH),
        spool_dropped=doc.whole(K_DROPPED),
        place=doc.text(K_PLACE, 96),
        hardware=doc.octets(K_HARDWARE, tuple(range(1, 17))),
        apps=tuple(_app(row, doc) for row in doc.rows(K_APPS, APPS_MOST)),
        at_s=doc.whole(K_AT),
        up_s=doc.whole(K_UP_S),
        stored_by=doc.text(K_STORED_BY, 16, "controller"),
        rest=doc.kept(),
    )


def _app(value: Any, doc: Document) -> AppBirth:
    app, version, image, state = packed.row(value, doc, K_APPS, 1, 4)
    image = b"" if image is None else image
    if not isinstance(image, bytes) or len(image) > 32:
        raise doc.fail(K_APPS, "expected the first bytes of an image's id")
    return AppBirth(packed.short(app, doc, K_APPS, 32), packed.short(version or "", doc, K_APPS, 64), image.hex(), packed.integer(state or 0, doc, K_APPS, 255))


def to_json(data: bytes) -> bytes:
    """A packed birth as a JSON object."""
    return packed.to_json(data, NAMES, PLACE, VERSION)


def _octets(key: int, value: Any) -> Any:
    if key in (K_SESSION, K_NONCE, K_HARDWARE):
        return bytes.fromhex(value)
    if key == K_APPS:
        return [[*row[:2], bytes.fromhex(row[2]), *row[3:]] if len(row) > 2 else row for row in value]
    return value
