# SPDX-License-Identifier: Apache-2.0
"""Cases folded into another: there is always exactly one that speaks for each of them."""

from edgeheal.core.app import AppSpec
from edgeheal.core.kinds import IncidentState, RemedyKind
from edgeheal.core.policy import Policy, RemedyPolicy
from edgeheal.lab.device import Device

LONG = RemedyPolicy(probation_s=300)


def failed_together(*names: str) -> Device:
    """These apps die at once; their case is one incident, and stays open for its long probation."""
    remedies = Policy().remedies | {RemedyKind.RESTART: LONG, RemedyKind.CLEAN_RESTART: LONG}
    device = Device([AppSpec(n) for n in names], Policy(remedies=remedies))
    device.start_all()
    device.run(100)
    for name in names[:3]:
        device.kill(name)
    return device


def newest(device: Device) -> dict:
    """The newest revision told of each incident."""
    return {i.number: i for i in sorted(device.reports, key=lambda i: i.revision)}


def speakers(device: Device, app: str) -> list[int]:
    """Numbers of told incidents that are open and name this app."""
    return [n for n, i in newest(device).items() if i.state is not IncidentState.RESOLVED and (i.app == app or app in i.also)]


def test_apps_that_failed_together_and_one_that_fails_again_alone_later_are_two_incidents():
    device = failed_together("a", "b", "c")
    device.run(20)
    assert [len(speakers(device, n)) for n in "abc"] == [1, 1, 1]
    assert speakers(device, "a") == speakers(device, "c")
    before = len(device.reports)
    device.kill("c")
    device.run(20)
    told = [i for i in device.reports[before:] if i.app == "c"]
    assert told, "its second failure is told"
    assert told[-1].number == speakers(device, "c")[-1]
    device.run(2_000)
    assert device.open() == []
    assert {i.state for i in newest(device).values()} == {IncidentState.RESOLVED}


def test_revisions_of_a_case_that_was_folded_and_speaks_again_never_fall():
    device = failed_together("a", "b", "c")
    device.run(20)
    for name in ("c", "b", "a"):
        device.kill(name)
        device.run(20)
    device.run(2_000)
    for number in {i.number for i in device.reports}:
        revisions = [i.revision for i in device.reports if i.number == number]
        assert revisions == sorted(set(revisions)), f"incident {number}"


def test_whom_a_folded_case_spoke_for_is_named_by_the_one_that_speaks_now():
    device = failed_together("a", "b", "c", "d", "e")
    device.run(20)
    for name in ("d", "e", "a"):  # the head of the first three fails again with two others
        device.kill(name)
    device.run(20)
    for name in "abcde":
        assert speakers(device, name), f"somebody speaks for {name}"
