# SPDX-License-Identifier: Apache-2.0
import contextlib
import errno
import os
import pty
import threading
import time
import tty

import pytest
from drive import drive
from hypothesis import given
from hypothesis import strategies as st

from edgeheal.adapters.blocking import Workers
from edgeheal.adapters.sensors.files import Files, parse_file, read_sensor
from edgeheal.adapters.sensors.lines import Lines
from edgeheal.adapters.sensors.modbus import Modbus
from edgeheal.adapters.sensors.parse import FORMS
from edgeheal.adapters.sensors.rtu import answer, request, sealed
from edgeheal.adapters.sensors.serial_line import holder_of, locker_of
from edgeheal.adapters.sensors.spec import FileSensor, Line, LineSensor, Register, SensorSpec
from edgeheal.core.signal import Reading, SelfSaid


def values(out, sensor):
    return [r.value for r in out if isinstance(r, Reading) and r.sensor == sensor]


class Pty:
    """A pty pair: `near` is what a device's program holds, `path` what we open."""

    def __init__(self, tmp_path, name="usb-acme_0001"):
        self.link = tmp_path / "dev/serial/by-id" / name
        self.link.parent.mkdir(parents=True, exist_ok=True)
        self.near = -1
        self.plug()

    def plug(self):
        self.near, far = pty.openpty()
        tty.setraw(far)
        self.path = os.ttyname(far)
        os.close(far)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(self.path)

    def pull(self):
        self.end()
        self.link.unlink()

    def end(self):
        near, self.near = self.near, -1
        if near >= 0:
            os.close(near)


@pytest.fixture
def cable(tmp_path):
    made = Pty(tmp_path)
    yield made
    made.end()


# -- files


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("21375\n", 21375.0), (" -5 \n", -5.0), ("3.3 V\n", 3.3), ("1e3", 1000.0),
        ("72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n", 23.125),
        ("00 00 : crc=00 NO\n00 t=85000\n", None), ("", None), ("nan", None), ("abc", None), ("5 6", None), ("1e999", None),
    ],
)  # fmt: skip
def test_a_sensor_file_is_a_number_or_no_answer(text, value):
    assert parse_file(text) == value


@given(st.text(max_size=80))
def test_any_file_is_a_number_or_no_answer(text):
    value = parse_file(text)
    assert value is None or abs(value) < float("inf")


def test_files_are_read_at_their_period_and_found_by_their_devices_name(tmp_path):
    for n, name in ((0, "other"), (3, "ads1015")):
        (tmp_path / f"bus/iio/devices/iio:device{n}").mkdir(parents=True)
        (tmp_path / f"bus/iio/devices/iio:device{n}/name").write_text(name + "\n")
    (tmp_path / "bus/iio/devices/iio:device3/in_voltage0_raw").write_text("1000\n")
    out, workers = [], Workers()
    files = Files(
        out.append, workers,
        [FileSensor(SensorSpec("volt", "adc", every_ms=30, scale=0.002, offset=1), "iio:ads1015/in_voltage0_raw"), FileSensor(SensorSpec("gone", every_ms=30), "/no/such")],
        sysfs=str(tmp_path),
    )  # fmt: skip
    assert drive(files, workers, until=lambda: len(values(out, "volt")) >= 3 and len(values(out, "gone")) >= 3)
    assert values(out, "volt")[0] == pytest.approx(3.0)
    assert set(values(out, "gone")) == {None}
    assert {r.source for r in out if r.sensor == "volt"} == {"adc"}


def test_iio_is_brought_to_its_unit_and_a_faulty_hwmon_channel_has_no_value(tmp_path):
    iio, hwmon = tmp_path / "bus/iio/devices/iio:device1", tmp_path / "class/hwmon/hwmon4"
    for folder, files in (
        (iio, {"name": "bme280", "in_temp_raw": "2000", "in_temp_scale": "0.5", "in_temp_offset": "-100", "in_voltage3_raw": "8", "in_voltage_scale": "1.5"}),
        (hwmon, {"name": "ltc", "temp1_input": "41500", "temp1_fault": "0", "temp2_input": "-127000", "temp2_fault": "1", "in0_input": "3300"}),
    ):
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text + "\n")
    read = lambda path: read_sensor(path, str(tmp_path))  # noqa: E731
    assert read("iio:bme280/in_temp_raw") == (2_000 - 100) * 0.5
    assert read("iio:bme280/in_voltage3_raw") == 12.0
    assert (read("hwmon:ltc/temp1_input"), read("hwmon:ltc/temp2_input"), read("hwmon:ltc/in0_input")) == (41_500.0, None, 3_300.0)


def test_fc_sto_3_a_sensor_on_a_stuck_bus_is_no_answer_and_the_others_go_on(tmp_path):
    (tmp_path / "good").write_text("5")
    out, workers, never = [], Workers(), threading.Event()
    files = Files(out.append, workers, [FileSensor(SensorSpec("good", every_ms=20), str(tmp_path / "good")), FileSensor(SensorSpec("stuck", every_ms=20), "x")])
    import edgeheal.adapters.sensors.files as module

    real = module.read_sensor
    module.read_sensor = lambda path, sysfs: (never.wait(20), real(path, sysfs))[1] if path == "x" else real(path, sysfs)
    try:
        assert drive(files, workers, until=lambda: values(out, "good").count(5.0) >= 5 and len(values(out, "stuck")) >= 5)
        assert set(values(out, "stuck")) == {None}
        assert workers.threads() == 2
    finally:
        never.set()
        module.read_sensor = real


# -- lines


@pytest.mark.parametrize(
    ("form", "line", "field", "value"),
    [
        ("json", '{"a": {"b": [1, 2.5]}}', "a.b.1", 2.5), ("json", '{"a": 1', "a", None), ("json", '{"a": true}', "a", None), ("json", "[" * 5000, "a", None),
        ("csv", "1;2.5;x", "1", 2.5), ("csv", "1,2", "7", None), ("csv", "1\t2", "0", 1.0),
        ("nmea", "$WIMWV,214.8,R,0.1,K,A*28", "WIMWV.1", 214.8), ("nmea", "$WIMWV,214.8,R,0.1,K,A*29", "WIMWV.1", None), ("nmea", "$WIMWV,214.8", "WIMWV.1", None),
        ("words", "temp=21.5 hum: 40", "hum", 40.0), ("words", "temp=1_0", "temp", 1.0), ("words", "x", "y", None),
    ],
)  # fmt: skip
def test_each_form_of_line_is_understood_or_no_answer(form, line, field, value):
    assert FORMS[form](line, field) == value


@given(st.sampled_from(sorted(FORMS)), st.text(max_size=100), st.text(max_size=10))
def test_any_line_is_a_number_or_no_answer(form, line, field):
    value = FORMS[form](line, field)
    assert value is None or abs(value) < float("inf")


def lines_of(cable, out, workers, every_ms=100):
    return Lines(
        out.append,
        workers,
        Line(str(cable.link)),
        [LineSensor(SensorSpec("t", "probe", every_ms=every_ms), "json", "t"), LineSensor(SensorSpec("h", every_ms=every_ms), "json", "h")],
    )


def test_lines_become_readings_and_silence_is_told(cable):
    out, workers = [], Workers()
    lines = lines_of(cable, out, workers)
    assert drive(lines, workers, until=lambda: lines.port.up)
    os.write(cable.near, b'garbage\xff\xfe\r\n{"t": 21.5}\r\n{"t": 2')
    assert drive(lines, workers, until=lambda: 21.5 in values(out, "t"))
    os.write(cable.near, b"2.5}\n" + b"x" * 5000 + b'\n{"t": 1}\n')
    assert drive(lines, workers, until=lambda: None in values(out, "h") and None in values(out, "t"))
    assert {r.source for r in out if isinstance(r, Reading) and r.sensor == "t"} == {"probe"}
    lines.close()


def test_fc_sen_1_a_line_that_comes_back_under_another_name_is_found_and_the_old_descriptor_is_gone(cable):
    out, workers = [], Workers()
    lines = lines_of(cable, out, workers)
    assert drive(lines, workers, until=lambda: lines.port.up)
    os.write(cable.near, b'{"t": 1}\n')
    assert drive(lines, workers, until=lambda: 1.0 in values(out, "t"))
    old = cable.path
    hold, _ = pty.openpty()  # keeps the kernel from handing out the same number again
    cable.pull()
    assert drive(lines, workers, until=lambda: not lines.port.up)
    assert old not in [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]
    assert drive(lines, workers, until=lambda: any(isinstance(s, SelfSaid) and s.what == "missing" and not s.ok for s in out))
    hold2 = pty.openpty()
    cable.plug()
    assert cable.path != old
    assert drive(lines, workers, until=lambda: lines.port.up)
    os.write(cable.near, b'{"t": 2}\n')
    assert drive(lines, workers, until=lambda: 2.0 in values(out, "t"))
    said = [s for s in out if isinstance(s, SelfSaid)]
    assert [(s.what, s.ok) for s in said] == [("missing", False), ("missing", True)]  # one outage, told once with its length
    assert said[1].value >= 0.5
    for fd in (hold, *hold2):
        os.close(fd)
    lines.close()


HOLDER = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY); print('held', flush=True); sys.stdin.read()"


def test_a_line_that_somebody_holds_is_not_opened_a_second_time_and_he_is_named(cable):
    import subprocess
    import sys

    holder = subprocess.Popen([sys.executable, "-c", HOLDER, cable.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    out, workers = [], Workers()
    lines = lines_of(cable, out, workers)
    try:
        assert drive(lines, workers, until=lambda: any(isinstance(s, SelfSaid) for s in out))
        assert not lines.port.up
        assert (out[-1].what, f"{holder.pid} (" in out[-1].text) == ("held", True)
        assert holder_of(os.stat(cable.path).st_rdev).startswith(str(holder.pid))
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
    assert drive(lines, workers, until=lambda: lines.port.up)
    lines.close()


def test_a_holder_whose_descriptors_we_may_not_see_is_named_by_his_lock(cable, tmp_path):
    import fcntl
    import subprocess
    import sys

    program = HOLDER.replace("print(", "import fcntl; fcntl.flock(fd, fcntl.LOCK_EX); print(")
    holder = subprocess.Popen([sys.executable, "-c", program, cable.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        assert locker_of(cable.path).startswith(f"{holder.pid} (python")
        (tmp_path / f"LCK..{os.path.basename(cable.path)}").write_text(f"{holder.pid:>10}\n")
        assert locker_of(cable.path, "/no/such", str(tmp_path)).startswith(f"{holder.pid} (python")
    finally:
        holder.communicate("")
    assert locker_of(cable.path, "/no/such", str(tmp_path)) == "", "a lock file may outlive its owner"
    with open(cable.path, "rb", buffering=0) as own:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert locker_of(cable.path) == "", "we ourselves are nobody else"


def test_who_comes_after_us_cannot_open_the_line_either(cable):
    import subprocess
    import sys

    out, workers = [], Workers()
    lines = lines_of(cable, out, workers)
    assert drive(lines, workers, until=lambda: lines.port.up)
    late = "import os, sys, resource\ntry: os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)\nexcept OSError as fault: print(fault.errno)"
    words = [sys.executable, "-c", late, cable.path]
    if os.geteuid() == 0:
        words = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *words]  # root's program may open what is exclusive
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(errno.EBUSY), done.stderr
    lines.close()


# -- Modbus


def test_modbus_frames_are_those_of_the_field():
    reg = Register(SensorSpec("x"), 1, 0)
    assert request(reg) == bytes.fromhex("010300000001840A")
    assert answer(reg, bytes.fromhex("01030200D579DB")) == (213.0, True)
    assert answer(Register(SensorSpec("x"), 3, 0), bytes.fromhex("03030200C8C012")) == (200.0, True)
    assert answer(reg, sealed(bytes.fromhex("018302"))) == (None, True)
    assert answer(reg, bytes.fromhex("ff0001030200D579DB")) == (213.0, True)
    assert answer(reg, bytes.fromhex("01030200D579DC")) == (None, False)
    assert answer(Register(SensorSpec("x"), 1, 0, kind="f32"), sealed(bytes.fromhex("01030441480000"))) == (12.5, True)
    assert answer(Register(SensorSpec("x"), 1, 0, kind="f32", swapped=True), sealed(bytes.fromhex("01030400004148"))) == (12.5, True)
    assert answer(Register(SensorSpec("x"), 1, 0, kind="i16"), sealed(bytes.fromhex("010302FFFE"))) == (-2.0, True)
    assert answer(Register(SensorSpec("x"), 1, 0, function=1, kind="bit"), sealed(bytes.fromhex("01010101"))) == (1.0, True)


@given(st.binary(max_size=64), st.sampled_from(["bit", "u16", "i16", "u32", "i32", "f32"]), st.integers(1, 4))
def test_any_bytes_of_a_bus_are_an_answer_or_not(data, kind, function):
    value, whole = answer(Register(SensorSpec("x"), 1, 0, function, kind), data)
    assert value is None or whole


class Meters:
    """Slaves on a bus: answers as long as a slave has power; `garbles` and `refuses` name slaves that answer wrongly."""

    def __init__(self, cable, powered, garbles=frozenset(), refuses=frozenset()):
        self.garbles, self.refuses = garbles, refuses
        self.cable, self.fd = cable, cable.near
        self.powered = powered
        self.asked = []
        self.late = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        data = b""
        while self.cable.near == self.fd:  # a number that is closed may be another cable's by now
            try:
                got = os.read(self.fd, 256)
            except OSError as fault:
                if fault.errno != errno.EIO:
                    return
                threading.Event().wait(0.002)  # nobody has opened the other end yet
                continue
            data += got
            while len(data) >= 8:
                ask, data = data[:8], data[8:]
                self.asked.append((time.monotonic(), ask[0]))
                if ask[0] in self.powered:
                    with contextlib.suppress(OSError):
                        good = sealed(bytes([ask[0], 3, 2, 0, 200 + ask[0]]))
                        if ask[0] in self.garbles:
                            good = good[:4] + bytes([good[4] ^ 8]) + good[5:]
                        elif ask[0] in self.refuses:
                            good = sealed(bytes([ask[0], 0x83, 2]))
                        os.write(self.fd, self.late + good)


def bus(cable, out, workers, every_ms=100, clock=time.monotonic_ns):
    registers = [Register(SensorSpec(f"m{n}", every_ms=every_ms), n, 0) for n in (1, 2, 3)]
    return Modbus(out.append, workers, Line(str(cable.link)), registers, clock)


def test_fc_sen_3_one_dead_slave_does_not_starve_the_others(cable):
    out, workers = [], Workers()
    modbus = bus(cable, out, workers)
    meters = Meters(cable, {1, 3})
    assert drive(modbus, workers, until=lambda: modbus._slaves[2].ask_ns > 0)
    out.clear()
    began = time.monotonic()
    drive(modbus, workers, until=lambda: time.monotonic() > began + 2, seconds=3)
    for meter in ("m1", "m3"):
        good = [v for v in values(out, meter) if v is not None]
        assert len(good) >= 0.95 * 20 - 1, meter
    assert set(values(out, "m2")) == {None}
    asked = sum(slave == 2 for at, slave in meters.asked if at > began)
    assert asked <= 1  # one cheap attempt a minute
    assert {r.source for r in out if isinstance(r, Reading) and r.sensor == "m2"} == {"slave 2"}
    modbus.close()


def test_a_garbled_answer_is_no_answer_and_a_refusal_comes_at_once(cable):
    out, workers = [], Workers()
    modbus = bus(cable, out, workers, every_ms=400)
    meters = Meters(cable, {1, 2, 3}, frozenset({1}), frozenset({2}))
    assert drive(modbus, workers, until=lambda: len(values(out, "m1")) >= 4 and len(values(out, "m2")) >= 4)
    assert set(values(out, "m1")) == {None}
    assert set(values(out, "m2")) == {None}
    assert modbus._slaves[2].missed == 0, "a slave that refuses is there"
    assert drive(modbus, workers, until=lambda: values(out, "m3").count(203.0) >= 3)
    meters.garbles = meters.refuses = frozenset()
    assert drive(modbus, workers, until=lambda: values(out, "m2")[-1] == 202.0)
    modbus.close()


def test_a_slave_that_comes_back_is_read_again_at_its_rate(cable):
    out, workers, now = [], Workers(), [10**9]
    modbus = bus(cable, out, workers, clock=lambda: now[0])
    meters = Meters(cable, {1, 3})

    def turn(until, seconds=5):
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            now[0] = max(now[0] + 5_000_000, now[0])
            drive(_Stepped(modbus, now), workers, until=until, seconds=0.005)
        assert until()

    turn(lambda: values(out, "m2")[-3:] == [None] * 3)
    turn(lambda: modbus._slaves[2].ask_ns > 0)
    meters.powered.add(2)
    now[0] += 61_000_000_000
    turn(lambda: values(out, "m2")[-1] == 202.0)
    assert modbus._slaves[2].missed == 0
    modbus.close()


class _Stepped:
    """Drives a source by a clock that is stepped by hand."""

    def __init__(self, source, now):
        self.source, self.now = source, now

    def fds(self):
        return self.source.fds()

    def ready(self, fd, events):
        self.source.ready(fd, events)

    def due(self):
        at = self.source.due()
        if at and at <= self.now[0]:
            self.source.tick(self.now[0])
        return 0

    def tick(self, now):
        pass


def test_a_late_answer_is_never_taken_for_anothers(cable):
    out, workers = [], Workers()
    modbus = bus(cable, out, workers)
    meters = Meters(cable, {1, 2, 3})
    meters.late = sealed(bytes([9, 3, 2, 0, 77])) + sealed(bytes([2, 3, 4, 0, 77, 0, 77])) + b"\x01\x03"
    assert drive(modbus, workers, until=lambda: all(len(values(out, f"m{n}")) >= 3 for n in (1, 2, 3)))
    for n in (1, 2, 3):
        assert set(values(out, f"m{n}")) <= {200.0 + n, None}
        assert 200.0 + n in values(out, f"m{n}")
    modbus.close()


def test_when_the_line_is_gone_every_value_is_no_answer_until_it_is_back(cable):
    out, workers = [], Workers()
    modbus = bus(cable, out, workers)
    Meters(cable, {1, 2, 3})
    assert drive(modbus, workers, until=lambda: len(values(out, "m3")) > 1)
    cable.pull()
    assert drive(modbus, workers, until=lambda: not modbus.port.up)
    out.clear()
    assert drive(modbus, workers, until=lambda: all(None in values(out, f"m{n}") for n in (1, 2, 3)))
    cable.plug()
    Meters(cable, {1, 2, 3})
    assert drive(modbus, workers, until=lambda: 203.0 in values(out, "m3"))
    modbus.close()
