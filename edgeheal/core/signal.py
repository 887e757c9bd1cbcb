# SPDX-License-Identifier: Apache-2.0
"""Signals: everything the world can tell the engine. Frozen values, plain to pack, nothing else crosses.

Duty: name what may enter `step`. No judgement: a signal is what was seen, by whom and of what.
Invariant: fields are None, bool, int, float, str, bytes or tuples of those, so that a recording is portable;
`TAGS` numbers are never reused. Text from an app is masked and escaped by the adapter before it gets here.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

Plain = Any  # None, bool, int, float, str, bytes, list and string-keyed dict of these


@dataclass(frozen=True, slots=True)
class Signal:
    """Base of all signals; `TAG` is its number in recordings."""

    TAG: ClassVar[int] = 0


@dataclass(frozen=True, slots=True)
class Tick(Signal):
    """Time went on; the engine looks at its deadlines."""

    TAG: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class PolicyIs(Signal):
    """Policy in force, as plain values (`core.policy.Policy.to_plain`)."""

    TAG: ClassVar[int] = 2
    policy: Plain = None


@dataclass(frozen=True, slots=True)
class CatalogIs(Signal):
    """Apps that exist here, as plain values (tuple of `core.app.AppSpec.to_plain`). `box`: the same of the box itself, None = it promises nothing."""

    TAG: ClassVar[int] = 3
    apps: Plain = ()
    box: Plain = None


@dataclass(frozen=True, slots=True)
class AppSeen(Signal):
    """What the guard says of an app when asked (HELLO, adoption, after a gap): the present, no event.

    `phase` is one of `guard_frames` PHASE_*; `wanted` 1 running, 0 stopped; `pause_until_s` box time or 0.
    """

    TAG: ClassVar[int] = 4
    app: str = ""
    run: int = 0
    phase: int = 0
    pid: int = 0
    started_ns: int = 0
    wanted: bool = True
    wanted_by: int = 0
    pause_until_s: int = 0
    image: str = ""
    image_state: int = 0
    config_differs: bool = False
    held: bool = False
    ready: bool = True
    started_by: int = 0  # kinds.By of the present run, 0 = not known


@dataclass(frozen=True, slots=True)
class AppStarted(Signal):
    """A new run of an app. `by` is `kinds.By`; `image_state` a `deployment` state."""

    TAG: ClassVar[int] = 5
    app: str = ""
    run: int = 0
    pid: int = 0
    by: int = 0
    image: str = ""
    image_state: int = 0
    config_differs: bool = False


@dataclass(frozen=True, slots=True)
class AppReady(Signal):
    """READY=1, or the start grace ended well, seen by the guard."""

    TAG: ClassVar[int] = 6
    app: str = ""
    run: int = 0


@dataclass(frozen=True, slots=True)
class AppExited(Signal):
    """The run ended. `code` and `signum` both None: the status is unknown, never invented.

    `ordered`: we or a person stopped it; `done`: the manifest says this code means finished.
    `lived_ms` is the run's length; `in_trial`: it ran a TRIAL image and the guard judged that itself.
    """

    TAG: ClassVar[int] = 7
    app: str = ""
    run: int = 0
    code: int | None = None
    signum: int | None = None
    oom: bool = False
    ordered: bool = False
    done: bool = False
    lived_ms: int = 0
    in_trial: bool = False
    by: int = 0
    config_differs: bool = False


@dataclass(frozen=True, slots=True)
class StartFailed(Signal):
    """The guard could not start it. `reason` from core.reasons, `errno` or 0."""

    TAG: ClassVar[int] = 8
    app: str = ""
    reason: int = 0
    errno: int = 0


@dataclass(frozen=True, slots=True)
class HeartbeatMissed(Signal):
    """No WATCHDOG=1 for longer than promised; `trigger` when the app said WATCHDOG=trigger itself."""

    TAG: ClassVar[int] = 9
    app: str = ""
    run: int = 0
    late_ms: int = 0
    trigger: bool = False


@dataclass(frozen=True, slots=True)
class HeartbeatBack(Signal):
    """The heartbeat of a run that was late is back."""

    TAG: ClassVar[int] = 10
    app: str = ""
    run: int = 0


@dataclass(frozen=True, slots=True)
class AppSaid(Signal):
    """An sd_notify word that is evidence only: `what` one of STATUS, RELOADING, STOPPING, BUSY; `seconds` for BUSY."""

    TAG: ClassVar[int] = 11
    app: str = ""
    run: int = 0
    what: str = ""
    seconds: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class ProbeAnswered(Signal):
    """One probe, one answer (`kinds.Verdict`). `means` live, ready or start. `code` reasons or exit status."""

    TAG: ClassVar[int] = 12
    app: str = ""
    run: int = 0
    probe: str = ""
    means: str = "live"
    verdict: int = 2
    took_ms: int = 0
    code: int = 0


@dataclass(frozen=True, slots=True)
class Usage(Signal):
    """One sample of a run. Memory is what cannot be reclaimed (anonymous + shared + unevictable), KiB.

    `limit_kib`, `fds_limit` 0 = none known. `proc_state` is the kernel's letter; `cpu_ms` since the last sample, `every_ms` ago.
    -1 (memory, fds, fds_limit, children, zombies) = could not be read: unknown, never a figure.
    """

    TAG: ClassVar[int] = 13
    app: str = ""
    run: int = 0
    memory_kib: int = 0
    limit_kib: int = 0
    fds: int = 0
    fds_limit: int = 0
    threads: int = 0
    children: int = 0
    zombies: int = 0
    cpu_ms: int = 0
    every_ms: int = 0
    proc_state: str = ""
    wchan: str = ""


@dataclass(frozen=True, slots=True)
class HostSample(Signal):
    """One figure of the box. `metric` is a name of `core.host_metrics` (`disk_free_permille:var`), `limit` 0 = none.

    `verdict` UNKNOWN (2): it could not be read, the value says nothing.
    """

    TAG: ClassVar[int] = 14
    metric: str = ""
    value: float = 0.0
    limit: float = 0.0
    verdict: int = 1


@dataclass(frozen=True, slots=True)
class Reading(Signal):
    """One value of a sensor; `value` None: asked, no answer. `source` groups channels of one device."""

    TAG: ClassVar[int] = 15
    app: str = ""
    sensor: str = ""
    value: float | None = None
    source: str = ""
    took_ms: int = 0


@dataclass(frozen=True, slots=True)
class LogSeen(Signal):
    """Folded log lines of one template since the last such signal. `level` syslog number, `frames` a crash's top frames."""

    TAG: ClassVar[int] = 16
    app: str = ""
    template: str = ""
    count: int = 1
    level: int = 6
    excerpt: str = ""
    frames: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class KernelSaid(Signal):
    """A line of the kernel, parsed: `what` one of oom, undervoltage, voltage_ok, usb_reset, usb_gone, fs_error, ..."""

    TAG: ClassVar[int] = 17
    what: str = ""
    subject: str = ""
    value: int = 0


@dataclass(frozen=True, slots=True)
class Booted(Signal):
    """Why we booted: candidates with weights in permille, the verdict first; `ordered_id` the reboot we had ordered; `clean`: nothing of it was unplanned.

    `verdict` for people, `seen` what it rests on. `unplanned`: boots nobody wanted in the last hour of box time, as the guard counts (-1: it did not say);
    `answers` given to a boot loop so far (1 rollback, 2 OS, 4 safe mode); `suspect`: the app with the youngest image; `crash`: fingerprint of a panic.
    """

    TAG: ClassVar[int] = 18
    boot: str = ""
    count: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    ordered_id: str = ""
    clean: bool = False
    verdict: str = ""
    seen: tuple[str, ...] = ()
    unplanned: int = -1
    answers: int = 0
    suspect: str = ""
    crash: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentsAre(Signal):
    """The guard's view of an app's images: rows (id hex, version, state, reason, running, soak_left_s)."""

    TAG: ClassVar[int] = 19
    app: str = ""
    rows: tuple[tuple[str, str, int, int, bool, int], ...] = ()


@dataclass(frozen=True, slots=True)
class TrialEnded(Signal):
    """The guard's own judgement of a trial: `good`, else BAD and rolled back to `back_to` ("" = held)."""

    TAG: ClassVar[int] = 20
    app: str = ""
    image: str = ""
    good: bool = False
    back_to: str = ""
    reason: int = 0


@dataclass(frozen=True, slots=True)
class Ordered(Signal):
    """A person's or a command's order that the guard accepted. `action` is `kinds.ActionCode`."""

    TAG: ClassVar[int] = 21
    action: int = 0
    app: str = ""
    arg: str = ""
    by: str = ""
    order: str = ""
    until_s: int = 0


@dataclass(frozen=True, slots=True)
class ActEnded(Signal):
    """What became of an effect: `ok`, or `reason` (core.reasons). `doubt`: intent without outcome, fact unknown."""

    TAG: ClassVar[int] = 22
    act: int = 0
    ok: bool = False
    reason: int = 0
    took_ms: int = 0
    doubt: bool = False


@dataclass(frozen=True, slots=True)
class LinkIs(Signal):
    """The way to the fleet: `layer` one of carrier, address, route, dns, tcp, tls, broker, controller; up or not."""

    TAG: ClassVar[int] = 23
    layer: str = "broker"
    up: bool = False
    reason: int = 0


@dataclass(frozen=True, slots=True)
class StoodStill(Signal):
    """Our own loop did not run for so long: deadlines are armed anew before anybody is judged."""

    TAG: ClassVar[int] = 24
    gap_ms: int = 0


@dataclass(frozen=True, slots=True)
class SelfSaid(Signal):
    """Something about EdgeHeal itself: `part` names the component, `what` a fixed word, `up` False = trouble."""

    TAG: ClassVar[int] = 25
    part: str = ""
    what: str = ""
    ok: bool = False
    value: float = 0.0
    text: str = ""


@dataclass(frozen=True, slots=True)
class ConfigIs(Signal):
    """The device's config was read: `ok`, else the first fault with its place; the last good one stays in force."""

    TAG: ClassVar[int] = 26
    ok: bool = True
    place: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class ForeignStart(Signal):
    """Somebody else restarted an app (adopted or system-managed); `who` if it can be known."""

    TAG: ClassVar[int] = 27
    app: str = ""
    run: int = 0
    who: str = ""


@dataclass(frozen=True, slots=True)
class PortHeld(Signal):
    """The app's port is held by a foreign process."""

    TAG: ClassVar[int] = 28
    app: str = ""
    port: int = 0
    pid: int = 0
    command: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class AppStuck(Signal):
    """The guard could not end a run: it outlived SIGKILL by `seconds` so far, and waits in the kernel at `wchan` ("" = not known)."""

    TAG: ClassVar[int] = 29
    app: str = ""
    run: int = 0
    seconds: int = 0
    wchan: str = ""


SIGNALS: tuple[type[Signal], ...] = (
    Tick, PolicyIs, CatalogIs, AppSeen, AppStarted, AppReady, AppExited, StartFailed, HeartbeatMissed, HeartbeatBack, AppSaid,
    ProbeAnswered, Usage, HostSample, Reading, LogSeen, KernelSaid, Booted, DeploymentsAre, TrialEnded, Ordered, ActEnded, LinkIs,
    StoodStill, SelfSaid, ConfigIs, ForeignStart, PortHeld, AppStuck,
)  # fmt: skip
TAGS: dict[int, type[Signal]] = {cls.TAG: cls for cls in SIGNALS}


def to_plain(signal: Signal) -> list[Plain]:
    """`[tag, field values in order]`, ready to pack."""
    return [signal.TAG, *(getattr(signal, f.name) for f in fields(signal))]


def from_plain(plain: list[Plain]) -> Signal:
    """Back from `to_plain`; fields that a newer version added are dropped, missing ones take their default."""
    cls = TAGS[plain[0]]
    names = [f.name for f in fields(cls)]
    return cls(**{n: _tuples(v) for n, v in zip(names, plain[1:], strict=False)})


def _tuples(value: Plain) -> Plain:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
