# SPDX-License-Identifier: Apache-2.0
"""The catalog: the manifest of each app's running image, joined with the device's words, as `core.app.AppSpec`.

Duty: read `store/<app>/<id>/manifest`, decode, join. It checks no signature: the guard admitted what runs, and what is
read here decides nothing but what is watched.
Invariants: the id of what was read is the id that was asked for, else it counts as unreadable; an unreadable manifest leaves the
app watched by exits and heartbeats alone, and is said once; the device's limits stand where the manifest says 0.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeheal.core.app import AppSpec, MetricSpec, NeedSpec, ProbeSpec
from edgeheal.core.errors import EdgeHealError
from edgeheal.core.signal import SelfSaid
from edgeheal.image import manifest as manifests
from edgeheal.image.manifest import Manifest, Metric, Probe
from edgeheal.ports import Emit
from edgeheal.trust import envelope

KEPT_MOST = 64
LEARN_MS = 86_400_000  # a day, with its night, before what is unusual for a measurement is said


@dataclass(frozen=True, slots=True)
class DeviceWords:
    """What the device's config says of an app: 0, None and () where it says nothing."""

    soak_s: int = 0
    soak_min_s: int = 0
    actuates: bool | None = None
    memory_kib: int = 0
    files: int = 0
    tasks: int = 0
    devices: tuple[str, ...] = ()
    needs: tuple[NeedSpec, ...] = ()


class Catalog:
    """What is to be watched of which app. `tree_of(app, image hex)` is the folder of an installed image."""

    def __init__(self, emit: Emit, tree_of: Callable[[str, str], str]) -> None:
        """Nothing is read before it is asked for."""
        self._emit = emit
        self._tree_of = tree_of
        self._kept: dict[tuple[str, str], Manifest] = {}
        self._told: set[tuple[str, str]] = set()

    def specs(self, images: Mapping[str, str], words: Mapping[str, DeviceWords]) -> tuple[AppSpec, ...]:
        """One row per app of `words`, in order of name; `images`: app -> hex id of its running image, "" or absent = none."""
        return tuple(self.spec(app, images.get(app, ""), words[app]) for app in sorted(words))

    def spec(self, app: str, image: str, words: DeviceWords) -> AppSpec:
        """The app as it is to be watched."""
        said = self.manifest(app, image) if image else None
        return bare(app, image, words) if said is None else joined(said, image, words)

    def manifest(self, app: str, image: str) -> Manifest | None:
        """The manifest of an installed image; None when it cannot be read."""
        key = (app, image)
        if key in self._kept:
            return self._kept[key]
        try:
            data = _read(f"{self._tree_of(app, image)}/manifest")
            document = envelope.decode(data, envelope.MANIFEST, part="manifest")
            said = manifests.decode(document.body)
            fault = "" if document.id.hex() == image and said.app == app else "is of another image"
        except OSError as problem:
            fault = problem.strerror or "cannot be read"
        except EdgeHealError as problem:
            fault = problem.message
        if fault:
            if key not in self._told and len(self._told) < KEPT_MOST:
                self._told.add(key)
                self._emit(SelfSaid(part="catalog", what="unreadable", ok=False, text=f"manifest of {app} {image[:8]}: {fault}"[:200]))
            return None
        if len(self._kept) >= KEPT_MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = said
        self._told.discard(key)
        return said


def bare(app: str, image: str, words: DeviceWords) -> AppSpec:
    """An app of which only the device's words are known."""
    return AppSpec(
        name=app, image=image, memory_kib=words.memory_kib, files=words.files, tasks=words.tasks, soak_s=max(words.soak_s, words.soak_min_s),
        actuates=bool(words.devices) if words.actuates is None else words.actuates, needs=words.needs,
    )  # fmt: skip


def joined(said: Manifest, image: str, words: DeviceWords) -> AppSpec:
    """The image says what, the device how far."""
    actuates = bool(words.devices or said.run.devices) if words.actuates is None else words.actuates
    needs = tuple(NeedSpec(need.kind, need.name, need.hard) for need in said.needs)
    return AppSpec(
        name=said.app,
        image=image,
        version=said.version,
        ready=said.run.ready,
        start_ms=said.run.start_ms,
        stop_ms=said.run.stop_ms,
        heartbeat_ms=said.run.heartbeat_ms,
        can_reload=said.run.reload[0] != "none",
        memory_kib=said.limits.memory_kib or words.memory_kib,
        files=said.limits.files or words.files,
        tasks=said.limits.tasks or words.tasks,
        soak_s=max(said.soak_s, words.soak_s, words.soak_min_s),
        actuates=actuates,
        has_config=said.config is not None,
        downgrade="yes" if said.data is None else said.data.downgrade,
        schema=0 if said.data is None else said.data.schema,
        done=said.run.done,
        probes=tuple(_probe(probe) for probe in said.probes),
        metrics=tuple(_metric(metric) for metric in said.metrics),
        needs=needs + tuple(need for need in words.needs if need not in needs),
    )


def _probe(said: Probe) -> ProbeSpec:
    target = said.target if isinstance(said.target, str) else " ".join(said.target)
    return ProbeSpec(said.name, said.means, said.kind, target, said.every_ms, said.timeout_ms, said.misses)


def _metric(said: Metric) -> MetricSpec:
    scale = 10.0**said.exp
    low = None if said.min is None else said.min * scale
    high = None if said.max is None else said.max * scale
    learn_ms = LEARN_MS if said.unit and said.every_ms else 0  # a measurement, by its unit and pace; a count is not judged by habit
    return MetricSpec(said.name, said.unit, said.exp, low, high, said.step_max * scale, said.every_ms, said.stuck_ms, learn_ms=learn_ms)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.read(fd, envelope.MAX_ENVELOPE + 1)
    finally:
        os.close(fd)
