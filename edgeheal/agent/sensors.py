# SPDX-License-Identifier: Apache-2.0
"""The box's own sensors: from the config's `[sensors.NAME]` to sources that read them, and to promises that they are held to.

Duty: translate. It reads nothing and judges nothing.
Invariants: one source a serial line, whoever is on it; a sensor of the device goes before a metric of the same name of the app's image,
which may then not tell it itself. The adapters (and pyserial) are loaded only where there is such a sensor.
"""

from collections.abc import Mapping, Sequence

from edgeheal.config.schema import Sensor
from edgeheal.core.app import AppSpec, MetricSpec
from edgeheal.core.values import replace
from edgeheal.ports import Blocking, Emit, Source


def sources_of(sensors: Mapping[str, Sensor], emit: Emit, blocking: Blocking) -> list[tuple[str, Source]]:
    """What the loop drives: all files as one source, each serial line as one."""
    if not sensors:
        return []
    from edgeheal.adapters.sensors.spec import FileSensor, Line, LineSensor, Register, SensorSpec

    files: list[FileSensor] = []
    fields: dict[Line, list[LineSensor]] = {}
    registers: dict[Line, list[Register]] = {}
    for name, said in sensors.items():
        spec = SensorSpec(name, said.source, said.app, said.every_ms, said.scale, said.offset)
        line = Line(said.device, said.baud, said.parity, said.stop_bits)
        if said.kind == "file":
            files.append(FileSensor(spec, said.path))
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
    return sources


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


def _metric(name: str, said: Sensor) -> MetricSpec:
    return MetricSpec(name, said.unit, 0, said.low, said.high, said.step, said.every_ms, said.stuck_ms)
