# SPDX-License-Identifier: Apache-2.0
"""Sensors of the box: what a config must say of them, and what becomes of it."""

import pytest

from edgeheal.agent.sensors import promised, sources_of
from edgeheal.config.load import load
from edgeheal.core.app import AppSpec, MetricSpec

FILE = '[sensors.cabinet]\napp = "pump"\npath = "hwmon:ds/temp1_input"\n'
LINE = '[sensors.flow]\napp = "pump"\nkind = "line"\ndevice = "/dev/serial/by-id/usb-x"\nfield = "f"\n'
REGISTER = '[sensors.level]\napp = "pump"\nkind = "modbus"\ndevice = "/dev/serial/by-id/usb-x"\n'


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (FILE.replace('app = "pump"\n', ""), "sensors.cabinet.app", "is judged for an app"),
        (FILE.replace('"pump"', '"pumq"'), "sensors.cabinet.app", "pumq"),
        (FILE.replace('path = "hwmon:ds/temp1_input"\n', ""), "sensors.cabinet.path", "needs path"),
        (FILE + "low = 5\nhigh = 4.5\n", "sensors.cabinet.low", "must be below high"),
        (FILE + 'low = "5"\n', "sensors.cabinet.low", "without quotes"),
        (FILE + "scale = 0\n", "sensors.cabinet.scale", "not 0"),
        (FILE + "low = nan\n", "sensors.cabinet.low", "a number"),
        (FILE.replace("hwmon:ds", "hwmon:../x"), "sensors.cabinet.path", "absolute path"),
        (LINE.replace('device = "/dev/serial/by-id/usb-x"\n', ""), "sensors.flow.kind", "needs device"),
        (LINE.replace('field = "f"\n', ""), "sensors.flow.kind", "needs the field"),
        (REGISTER + 'type = "bit"\n', "sensors.level.type", "read bits"),
        (REGISTER + "slave = 248\n", "sensors.level.slave", "from 1 to 247"),
        (LINE + REGISTER, "sensors.level.device", "speaks otherwise"),
        (REGISTER + "volume = 3\n", "sensors.level.volume", "unknown key"),
    ],
)
def test_a_sensor_that_could_not_be_read_is_refused_by_key(box, write, text, key, words):
    write("[apps.pump]\n" + text)
    loaded = load(box)
    assert loaded.config is None
    assert [p.key for p in loaded.problems] == [key], [p.sentence() for p in loaded.problems]
    assert words in loaded.problems[0].sentence()


def test_sensors_on_one_line_are_one_source_and_files_are_one(box, write):
    write("[apps.pump]\n" + FILE + FILE.replace("cabinet", "motor") + REGISTER + REGISTER.replace("level", "speed"))
    config = load(box).require()
    asked = []
    sources = sources_of(config.sensors, asked.append, None)
    assert [name for name, _ in sources] == ["sensors", "line /dev/serial/by-id/usb-x"]


def test_the_devices_sensor_goes_before_the_apps_metric_of_the_same_name(box, write):
    write("[apps.pump]\n" + FILE + 'low = -10\nhigh = 60.5\nstuck = "1h"\nevery = "2s"\nunit = "C"\nstep = 8\n')
    sensors = load(box).require().sensors
    spec = AppSpec("pump", metrics=(MetricSpec("cabinet", every_ms=5), MetricSpec("own", every_ms=7)))
    other = AppSpec("fan", metrics=(MetricSpec("cabinet"),))
    judged = promised([spec, other], sensors)
    assert judged[0].metrics == (MetricSpec("own", every_ms=7), MetricSpec("cabinet", "C", 0, -10.0, 60.5, 8.0, 2_000, 3_600_000))
    assert judged[1] == other
    assert promised([spec], sensors, ours=False)[0].metrics == (MetricSpec("own", every_ms=7),), "it cannot tell what the device reads"
