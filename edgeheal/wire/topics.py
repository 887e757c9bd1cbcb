# SPDX-License-Identifier: Apache-2.0
"""Topic names of MQTT: `eh/1/<tenant>/<device>/up|down/...`.

Duty: build and take apart. It knows no broker.
Invariants: tenant and device are one level each (letters, digits, `.`, `_`, `-`, at most 64), so that neither a wildcard nor a
slash can be smuggled into a subscription; `parse` answers None for what is not ours.
"""

import re
from dataclasses import dataclass

from edgeheal.core.errors import WireError

PREFIX = "eh/1"
CONTROLLER = "_ctl"
_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

UP_STATE = "up/state"
UP_HEALTH = "up/health"
UP_INCIDENT = "up/incident"
UP_RESULT = "up/result"
UP_EVIDENCE = "up/evidence"
DOWN_COMMAND = "down/cmd"
DOWN_POLICY = "down/policy"
DOWN_STORED = "down/stored"
STATE = "state"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of ours, taken apart; `kind` is what follows the device (`up/incident`), `rest` what follows that."""

    tenant: str
    device: str
    kind: str
    rest: str = ""


def level(word: str, what: str) -> str:
    """`word`, if it may stand as one level of a topic; else a typed error that names `what`."""
    if not _LEVEL.match(word):
        raise WireError(f"{what} {word[:64]!r} cannot be part of a topic", hint="use letters, digits, '.', '_' and '-', at most 64")
    return word


def of(tenant: str, device: str, kind: str) -> str:
    """The topic of one kind for one device."""
    return f"{PREFIX}/{level(tenant, 'tenant')}/{level(device, 'device id')}/{kind}"


def presence(tenant: str) -> str:
    """The controller's presence."""
    return f"{PREFIX}/{level(tenant, 'tenant')}/{CONTROLLER}/{STATE}"


def all_up(tenant: str) -> str:
    """The subscription of a controller: everything that devices of a tenant send."""
    return f"{PREFIX}/{level(tenant, 'tenant')}/+/up/#"


def evidence(tenant: str, device: str, key: str, chunk: int) -> str:
    """Where chunk `chunk` of a requested piece of evidence goes."""
    return of(tenant, device, f"{UP_EVIDENCE}/{level(key, 'evidence key')}/{chunk}")


def parse(topic: str) -> Topic | None:
    """What a topic says, or None when it is none of ours."""
    parts = topic.split("/")
    if len(parts) < 5 or parts[0] != "eh" or parts[1] != "1" or not _LEVEL.match(parts[2]):
        return None
    if parts[3] == CONTROLLER:
        return Topic(parts[2], CONTROLLER, STATE) if parts[4:] == [STATE] else None
    if len(parts) < 6 or not _LEVEL.match(parts[3]):
        return None
    return Topic(parts[2], parts[3], f"{parts[4]}/{parts[5]}", "/".join(parts[6:]))
