# SPDX-License-Identifier: Apache-2.0
"""What `explain` asks of a person about the box's own sensors: nothing that needs an app."""

from edgeheal.cli.explain_screen import explain
from edgeheal.core import signal as sig
from edgeheal.core.app import AppSpec, MetricSpec
from edgeheal.core.policy import Policy
from edgeheal.lab.device import Device


def told(*signals):
    device = Device([AppSpec("gw")], Policy(start_grace_s=5))
    metric = MetricSpec("hall", "C", every_ms=1_000, bus="usb-x", ours=True)
    device.tell(sig.CatalogIs((AppSpec("gw").to_plain(),), AppSpec("", metrics=(metric,)).to_plain()))
    device.start_all()
    for signal in signals:
        device.tell(signal)
    device.run(30)
    return "\n".join(explain(device.open()[0]))


def test_a_silent_sensor_of_the_box_asks_for_a_look_at_its_wires_and_names_no_app():
    screen = told(sig.Reading("", "hall", 20.0))
    assert "check hall: supply and wiring" in screen
    assert "APP" not in screen


def test_a_held_line_asks_to_end_its_holder():
    screen = told(sig.SelfSaid("line:usb-x", "held", ok=False, text="held by 4242 (minicom)"))
    assert "4242 (minicom)" in screen
    assert "APP" not in screen
