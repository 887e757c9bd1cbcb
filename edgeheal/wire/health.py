# SPDX-License-Identifier: Apache-2.0
"""The heartbeat of a device (`up/health`, QoS 0): a progress counter of its main loop, so that connected-but-stuck shows.

Duty: Health -> bytes -> Health. Invariant: at most 64 bytes; it is never spooled, the next one says more.
"""

from dataclasses import dataclass, field
from typing import Any

from edgeheal.wire import packed
from edgeheal.wire.packed import K_SESSION, SESSION_BYTES

VERSION = 1
PLACE = "health"
K_PROGRESS, K_UP_S, K_DEPTH, K_DROPPED, K_OPEN, K_REFUSED, K_EVERY_S = range(1, 8)

NAMES: dict[int, str] = {
    K_SESSION: "session", K_PROGRESS: "progress", K_UP_S: "up_s", K_DEPTH: "spool_depth", K_DROPPED: "spool_dropped", K_OPEN: "open_incidents",
    K_REFUSED: "bad_messages", K_EVERY_S: "every_s",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Health:
    """`progress` counts turns of the loop; `bad_messages` those from the fleet that could not be read; the next one is due in `every_s`."""

    session: bytes
    progress: int = 0
    up_s: int = 0
    spool_depth: int = 0
    spool_dropped: int = 0
    open_incidents: int = 0
    bad_messages: int = 0
    every_s: int = 300
    rest: dict[int, Any] = field(default_factory=dict)


def encode(health: Health) -> bytes:
    """The message."""
    fields: dict[int, Any] = {
        K_PROGRESS: health.progress, K_UP_S: health.up_s, K_DEPTH: health.spool_depth, K_DROPPED: health.spool_dropped, K_OPEN: health.open_incidents,
        K_REFUSED: health.bad_messages, K_EVERY_S: health.every_s,
    }  # fmt: skip
    return packed.document(VERSION, {K_SESSION: health.session} | {k: v for k, v in fields.items() if v})


def decode(data: bytes) -> Health:
    """A heartbeat, packed or JSON."""
    if data[:1] == b"{":
        data = packed.from_json(data, NAMES, _octets, PLACE)
    doc = packed.opened(data, PLACE, VERSION)
    return Health(
        session=doc.octets(K_SESSION, (SESSION_BYTES,)),
        progress=doc.whole(K_PROGRESS),
        up_s=doc.whole(K_UP_S),
        spool_depth=doc.whole(K_DEPTH),
        spool_dropped=doc.whole(K_DROPPED),
        open_incidents=doc.whole(K_OPEN),
        bad_messages=doc.whole(K_REFUSED),
        every_s=doc.whole(K_EVERY_S, 300, 604_800),
        rest=doc.kept(),
    )


def to_json(data: bytes) -> bytes:
    """A packed heartbeat as a JSON object."""
    return packed.to_json(data, NAMES, PLACE, VERSION)


def _octets(key: int, value: Any) -> Any:
    return bytes.fromhex(value) if key == K_SESSION else value
