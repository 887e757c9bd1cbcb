# SPDX-License-Identifier: Apache-2.0
"""Sensors of the box: what a config must say of them, and what becomes of it."""

import pytest

from edgeheal.agent.sensors import of_box, promised, sources_of
from edgeheal.config.load import load
from edgeheal.core.app import AppSpec, MetricSpec

FILE = '[sensors.cabinet]\napp = "pump"\npath = "hwmon:ds/temp1_input"\n'
LINE = '[sensors.flow]\napp = "pump"\nkind = "line"\ndevice = "/dev/serial/by-id/usb-x"\nfield = "f"\n'
REGISTER = '[sensors.level]\napp = "pump"\nkind = "modbus"\ndevice = "/dev/serial/by-id/usb-x"\n'


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (FILE + 'sibling = "motor"\n', "sensors.cabinet.sibling", "no other sensor"),
        (FILE + 'sibling = "cabinet"\n', "sensors.cabinet.sibling", "no other sensor"),
        (FILE + "power = 65\n", "sensors.cabinet.power", "from 0 to 64"),
        ('[sensors.hall]\nkind = "topic"\ntopic = "a/b"\nform = "number"\nbroker = "10.0.0.1:1883"\n', "sensors.hall.broker", "127.0.0.1:1883"),
        ('[sensors.hall]\nkind = "topic"\nform = "number"\n', "sensors.hall.kind", "needs topic"),
        ('[sensors.hall]\nkind = "topic"\ntopic = "a/#"\nform = "number"\n', "sensors.hall.topic", ""),
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
    assert judged[0].metrics == (
        MetricSpec("own", every_ms=7),
        MetricSpec("cabinet", "C", 0, -10.0, 60.5, 8.0, 2_000, 3_600_000, learn_ms=86_400_000, ours=True),
    )
    assert judged[1] == other
    assert promised([spec], sensors, ours=False)[0].metrics == (MetricSpec("own", every_ms=7),), "it cannot tell what the device reads"


def test_a_sensor_of_no_app_is_the_boxs_own_and_names_its_line_and_feed(box, write):
    write(
        REGISTER.replace('app = "pump"\n', "")
        + 'power = 2\nsource = "meter 2"\nsibling = "spare"\nrate = 0.5\n'
        + REGISTER.replace('app = "pump"\n', "").replace("level", "spare")
    )
    sensors = load(box).require().sensors
    level = next(m for m in of_box(sensors).metrics if m.name == "level")
    assert (level.bus, level.power, level.source, level.sibling, level.rate_max, level.ours) == ("usb-x", 2, "meter 2", "spare", 0.5, True)
    assert promised([AppSpec("pump")], sensors) == (AppSpec("pump"),)
    assert of_box({}) is None
