# SPDX-License-Identifier: Apache-2.0
"""What the guard keeps of one app: its deployments, what runs, the floor, what is wanted, what is blocked. Values and their record.

Duty: the state record of an app, in memory and as the value of two 8 KiB blocks. It judges nothing: `deployments` does.
Invariants: `unpack(pack(state))` is the same state; at most 16 deployments and 64 blocked entries, so that the record always fits.
Source: formats.md 2.3. Light on purpose: the resident guard imports it.

Record: {v, seq, run, before, spare, floor [epoch, n], wanted [running, by, until], pause [by, until], held [reason, since], config,
deployments {id hex: [state, reason, was, trust, data, config, launch, marked, soak left, served, security, schema, config size,
config mtime, tried, digest, version]}, blocked bytes (33 each: id or (tree, run) digest, reason), warrants [[id, until, command id], ...] (<= 4)}.
"""

from edgeheal.core.deployment import BAD, EMPTY, GOOD, R_FAILED, R_NONE, R_REVOKED, TRIAL, UNKNOWN, WRITTEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIZE = 8_192
MOST_DEPLOYMENTS = 16
MOST_BLOCKED = 64
ANCHOR_S = 604_800  # served a week: the anchor is the newest such GOOD one
INTS = (
    "state", "reason", "was", "trust", "data", "config", "launch", "marked", "soak_left", "served", "security", "schema",
    "config_size", "config_mtime", "tried",
)  # fmt: skip


class Deployment:
    """An image installed here. `data` and `config` are the generations it runs with, `marked` the seq at which it became GOOD."""

    __slots__ = (*INTS, "digest", "id", "version")
    state: int
    reason: int
    was: int
    trust: int
    data: int
    config: int
    launch: int
    marked: int
    soak_left: int
    served: int
    security: int
    schema: int
    config_size: int
    config_mtime: int
    tried: int

    def __init__(self, image: bytes, version: str = "", digest: bytes = b"") -> None:
        """A deployment that is EMPTY: known by its id only."""
        self.id = image
        self.version = version
        self.digest = digest
        for name in INTS:
            setattr(self, name, 0)
        self.state = self.was = EMPTY

    @property
    def hex(self) -> str:
        """The id as text."""
        return self.id.hex()

    def copy(self) -> "Deployment":
        """Another of the same values."""
        twin = Deployment(self.id, self.version, self.digest)
        for name in INTS:
            setattr(twin, name, getattr(self, name))
        return twin


class AppState:
    """Everything durable about one app."""

    __slots__ = ("app", "before", "blocked", "config", "deployments", "floor", "held", "pause", "run", "spare", "wanted", "warrants")

    def __init__(self, app: str) -> None:
        """An app that has nothing yet and is wanted running."""
        self.app = app
        self.run = b""
        self.before = b""
        self.spare = b""
        self.floor = (0, 0)
        self.wanted = (1, 0, 0)
        self.pause = (0, 0)
        self.held = (0, 0)
        self.config = 0
        self.deployments: dict[bytes, Deployment] = {}
        self.blocked: list[tuple[bytes, int]] = []
        self.warrants: list[tuple[bytes, int, bytes]] = []

    def copy(self) -> "AppState":
        """A draft that can be changed and thrown away."""
        twin = AppState(self.app)
        for name in ("run", "before", "spare", "floor", "wanted", "pause", "held", "config"):
            setattr(twin, name, getattr(self, name))
        twin.deployments = {k: d.copy() for k, d in self.deployments.items()}
        twin.blocked = list(self.blocked)
        twin.warrants = list(self.warrants)
        return twin

    @property
    def running(self) -> "Deployment | None":
        """The deployment that `run` names."""
        return self.deployments.get(self.run)

    def good(self) -> "list[Deployment]":
        """The GOOD ones, newest mark first."""
        return sorted((d for d in self.deployments.values() if d.state == GOOD), key=lambda d: -d.marked)

    def anchor(self) -> "Deployment | None":
        """The newest GOOD one that served a week."""
        return next((d for d in self.good() if d.served >= ANCHOR_S), None)

    def others(self, one: "Deployment", *, lower: bool = False) -> "list[Deployment]":
        """GOOD ones other than `one` that may follow it: the same security counter or higher, with `lower` any."""
        return [d for d in self.good() if d.id != one.id and (lower or d.security >= one.security)]

    def is_blocked(self, image: bytes, digest: bytes) -> bool:
        """Blocked here, by id or by what it is made of."""
        return any(key in (image, digest) for key, _ in self.blocked)

    def block(self, deployment: Deployment, reason: int) -> None:
        """Block by id and by digest; the oldest failed entry makes room, a revoked one never."""
        for key in (deployment.id, deployment.digest):
            if len(key) != 32:
                continue
            self.blocked = [(k, r) for k, r in self.blocked if k != key or r == R_REVOKED]
            if all(k != key for k, _ in self.blocked):
                self.blocked.append((key, reason))
        while len(self.blocked) > MOST_BLOCKED:
            oldest = next((i for i, (_, r) in enumerate(self.blocked) if r != R_REVOKED), None)
            if oldest is None:
                break
            del self.blocked[oldest]
        del self.blocked[MOST_BLOCKED:]

    def unblock(self, image: bytes, digest: bytes = b"") -> bool:
        """Lift what was blocked for having failed; what is revoked stays. Without a digest: the one that was blocked with this id goes, too."""
        keys = [k for k, _ in self.blocked]
        if not digest and image in keys and keys.index(image) + 1 < len(keys):
            digest = keys[keys.index(image) + 1]
        before = len(self.blocked)
        self.blocked = [(k, r) for k, r in self.blocked if k not in (image, digest) or r == R_REVOKED]
        return len(self.blocked) < before

    def pack(self) -> "dict[str, Any]":
        """The record's value, without `v` and `seq`."""
        rows = {d.hex: [*(getattr(d, name) for name in INTS), d.digest, d.version[:64]] for d in self.deployments.values()}
        return {
            "run": self.run, "before": self.before, "spare": self.spare, "floor": list(self.floor), "wanted": list(self.wanted), "pause": list(self.pause),
            "held": list(self.held), "config": self.config, "deployments": rows, "blocked": b"".join(k + bytes([r]) for k, r in self.blocked),
            "warrants": [list(w) for w in self.warrants[:4]],
        }  # fmt: skip


def unpack(app: str, value: "dict[str, Any]") -> AppState:
    """Back from `pack`. ValueError, KeyError or TypeError when the shape is not the documented one."""
    state = AppState(app)
    state.run = bytes(value["run"])
    state.before = bytes(value.get("before", b""))
    state.spare = bytes(value.get("spare", b""))
    state.floor = _ints(value["floor"], 2)
    state.wanted = _ints(value["wanted"], 3)
    state.pause = _ints(value["pause"], 2)
    state.held = _ints(value.get("held", (0, 0)), 2)
    state.config = int(value["config"])
    for key, row in value["deployments"].items():
        deployment = Deployment(bytes.fromhex(key), str(row[len(INTS) + 1]), bytes(row[len(INTS)]))
        for name, number in zip(INTS, row, strict=False):
            setattr(deployment, name, int(number))
        if len(deployment.id) != 32 or deployment.state not in (UNKNOWN, EMPTY, WRITTEN, TRIAL, GOOD, BAD):
            raise ValueError(f"no deployment: {key}")
        state.deployments[deployment.id] = deployment
    raw = value["blocked"]
    state.blocked = [(raw[i : i + 32], raw[i + 32]) for i in range(0, len(raw) - 32, 33)]
    state.warrants = [(bytes(w[0]), int(w[1]), bytes(w[2])) for w in value.get("warrants", ())]
    return state


def _ints(row: "Any", count: int) -> "Any":
    numbers = tuple(int(n) for n in row)
    if len(numbers) != count:
        raise ValueError("wrong length")
    return numbers


def reason_of(state: int, reason: int) -> int:
    """The reason an image row shows: a BAD one's, else none."""
    return reason if state == BAD else R_NONE


__all__ = ["MOST_BLOCKED", "MOST_DEPLOYMENTS", "R_FAILED", "SIZE", "AppState", "Deployment", "reason_of", "unpack"]
