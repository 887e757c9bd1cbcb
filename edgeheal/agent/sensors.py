# SPDX-License-Identifier: Apache-2.0
"""The box's own sensors: from the config's `[sensors.NAME]` to sources that read them, and to promises that they are held to.

Duty: translate. It reads nothing and judges nothing.
Invariants: one source a serial line, whoever is on it; a sensor of the device goes before a metric of the same name of the app's image,
which may then not tell it itself. The adapters (and pyserial) are loaded only where there is such a sensor.
"""

import os
from collections.abc import Mapping, Sequence

from edgeheal.config.schema import Sensor
from edgeheal.core.app import AppSpec, MetricSpec
from edgeheal.core.effect import Act, Verb
from edgeheal.core.signal import ActEnded, Signal
from edgeheal.core.values import replace
from edgeheal.ports import Blocking, Emit, Source

ACTS_MOST = 32


def sources_of(sensors: Mapping[str, Sensor], emit: Emit, blocking: Blocking) -> list[tuple[str, Source]]:
    """What the loop drives: all files as one source, each serial line as one."""
    if not sensors:
        return []
    from edgeheal.adapters.sensors.spec import FileSensor, Line, LineSensor, Register, SensorSpec, TopicSensor

    files: list[FileSensor] = []
    fields: dict[Line, list[LineSensor]] = {}
    registers: dict[Line, list[Register]] = {}
    topics: dict[str, list[TopicSensor]] = {}
    for name, said in sensors.items():
        spec = SensorSpec(name, said.source, said.app, said.every_ms, said.scale, said.offset)
        line = Line(said.device, said.baud, said.parity, said.stop_bits)
        if said.kind == "file":
            files.append(FileSensor(spec, said.path))
        elif said.kind == "topic":
            topics.setdefault(said.broker, []).append(TopicSensor(spec, said.topic, said.form, said.field))
        elif said.kind == "line":
            fields.setdefault(line, []).append(LineSensor(spec, said.form, said.field))
        else:
            registers.setdefault(line, []).append(Register(spec, said.slave, said.register, said.function, said.type, said.swapped))
    sources: list[tuple[str, Source]] = []
    if files:
        from edgeheal.adapters.sensors.files import Files

        sources.append(("sensors", Files(emit, blocking, files)))
    if fields:
        from edgeheal.adapters.sensors.lines import Lines

        sources += [(f"line {line.link}", Lines(emit, blocking, line, on_it)) for line, on_it in fields.items()]
    if registers:
        from edgeheal.adapters.sensors.modbus import Modbus

        sources += [(f"line {line.link}", Modbus(emit, blocking, line, on_it)) for line, on_it in registers.items()]
    if topics:
        from edgeheal.adapters.sensors.topics import Topics

        sources += [(f"topics {broker}", Topics(emit, broker, on_it)) for broker, on_it in topics.items()]
    return sources


class Switched:
    """After a hook ran (the power of a peripheral was cycled), those that ask slowly by now ask at their pace again, at once."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """`sources`: those of sensors; the ones with `again` are told."""
        self._sources = sources
        self._hooks: set[int] = set()

    def carry(self, act: Act) -> None:
        """An act goes out."""
        if act.verb is Verb.HOOK and len(self._hooks) < ACTS_MOST:
            self._hooks.add(act.number)

    def heed(self, signal: Signal) -> None:
        """It ended."""
        if not isinstance(signal, ActEnded) or signal.act not in self._hooks:
            return
        self._hooks.discard(signal.act)
        for source in self._sources:
            again = getattr(source, "again", None)
            if again is not None:
                again()


def promised(specs: Sequence[AppSpec], sensors: Mapping[str, Sensor], *, ours: bool = True) -> tuple[AppSpec, ...]:
    """The apps with the device's sensors among their metrics; without them (`ours` False): what an app may tell itself."""
    if not sensors:
        return tuple(specs)
    made = []
    for spec in specs:
        own = tuple(metric for metric in spec.metrics if metric.name not in sensors or sensors[metric.name].app != spec.name)
        read = tuple(_metric(name, said) for name, said in sensors.items() if said.app == spec.name) if ours else ()
        made.append(replace(spec, metrics=own + read))
    return tuple(made)


def of_box(sensors: Mapping[str, Sensor]) -> AppSpec | None:
    """What the box promises by itself: the sensors that are no app's. None: nothing."""
    own = tuple(_metric(name, said) for name, said in sensors.items() if not said.app)
    return AppSpec("", metrics=own) if own else None


def _metric(name: str, said: Sensor) -> MetricSpec:
    """The promise. Topics are told by an app: they may be forged, so they are not ours."""
    return MetricSpec(
        name, said.unit, 0, said.low, said.high, said.step, said.every_ms, said.stuck_ms, said.rate, said.learn_ms, said.sibling, said.source,
        os.path.basename(said.device)[:48] if said.kind in ("line", "modbus") else "", said.power, said.scale, said.offset, said.kind != "topic",
    )  # fmt: skip
