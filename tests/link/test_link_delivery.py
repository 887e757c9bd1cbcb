# SPDX-License-Identifier: Apache-2.0
"""From the device's spool to the fleet's store: all of it, once, whatever breaks."""

import os
import resource
import time

import pytest
from link_fleet import wait_for

from edgeheal.core.kinds import Severity

pytestmark = pytest.mark.system


def told_once(controller, count: int) -> None:
    assert controller.rows("select count(*), count(distinct session || '/' || number) from incidents") == [(count, count)]


def test_a_record_is_stored_then_acknowledged_then_gone_from_the_spool(broker, controller, device):
    dev = device(broker.port)
    for n in range(1, 51):
        dev.say(n)
    dev.until(lambda: dev.spool.depth()[0] == 0, what="empty spool")
    assert controller.count() == 50
    assert controller.count("incidents") == 50
    assert controller.rows("select upto from sessions") == [(50,)]
    assert controller.rows("select device, online, place from devices") == [("gw-1", 1, "Lyon-3")]


def test_a_killed_broker_loses_and_doubles_nothing(broker, controller, device):
    dev = device(broker.port)
    dev.until(lambda: dev.link.view().controller == "open")
    for n in range(1, 601):
        dev.say(n)
        if n in (150, 400):
            dev.until(lambda: dev.spool.depth()[0] < n)
            broker.kill()
            dev.until(lambda: not dev.link.connected())
            broker.start()
    dev.until(lambda: dev.spool.depth()[0] == 0, seconds=40)
    told_once(controller, 600)
    assert controller.rows("select upto from sessions") == [(600,)]


def test_a_killed_controller_loses_and_doubles_nothing(broker, controller, device):
    dev = device(broker.port)
    dev.until(lambda: dev.link.view().controller == "open")
    for n in range(1, 601):
        dev.say(n)
        if n in (150, 400):
            dev.until(lambda: dev.spool.depth()[0] < n)
            controller.kill()
            dev.run_for(0.1)
            controller.start()
    dev.until(lambda: dev.spool.depth()[0] == 0, seconds=40)
    told_once(controller, 600)


def test_a_killed_agent_sends_its_old_sessions_records_under_their_own_key(tmp_path, broker, controller, device):
    dev = device(broker.port)
    for n in range(1, 101):
        dev.say(n, severity=Severity.ERROR)
    dev.until(lambda: dev.spool.depth()[0] < 100)
    old = dev.session
    dev.link._connection.wire.close()
    dev.disk.close()  # as after SIGKILL: nothing is said, nothing written any more
    again = device(broker.port)
    assert again.session != old
    for n in range(1, 11):
        again.say(n, severity=Severity.ERROR)
    again.until(lambda: again.spool.depth()[0] == 0)
    told_once(controller, 110)
    assert {row[0] for row in controller.rows("select distinct session from incidents")} == {old, again.session}


def test_a_later_revision_of_an_incident_wins_and_an_earlier_one_never_comes_back(broker, controller, device):
    dev = device(broker.port)
    dev.until(lambda: dev.link.view().controller == "open")
    dev.say(1, revision=0)
    dev.until(lambda: dev.spool.depth()[0] == 0)
    dev.say(1, revision=2)
    dev.until(lambda: dev.spool.depth()[0] == 0)
    dev.say(1, revision=1)
    dev.until(lambda: dev.spool.depth()[0] == 0)
    assert controller.rows("select number, revision from incidents") == [(1, 2)]
    assert controller.count() == 3


def test_a_store_that_cannot_be_written_stops_the_acknowledgements_and_recovers(broker, controller, device):
    dev = device(broker.port)
    dev.until(lambda: dev.link.view().controller == "open")
    dev.say(1)
    dev.until(lambda: dev.spool.depth()[0] == 0)
    pid = controller.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    size = os.path.getsize(f"{controller.store}-wal")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))  # as a full disk: the next page does not go in
    for n in range(2, 302):
        dev.say(n)
    dev.until(lambda: dev.link.view().controller == "full", what="the controller to say that it is full")
    dev.run_for(1.0)
    assert dev.spool.depth()[0] > 0
    assert "nothing is acknowledged" in controller.log.read_text()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    dev.until(lambda: dev.spool.depth()[0] == 0, seconds=40)
    told_once(controller, 301)
    assert "can be written again" in controller.log.read_text()


def test_the_controller_ends_in_order_and_says_that_it_is_gone(broker, controller, device):
    dev = device(broker.port)
    dev.until(lambda: dev.link.view().controller == "open")
    assert controller.end() == 0
    dev.until(lambda: dev.link.view().controller == "offline")


def test_ten_devices_at_once_are_all_stored(broker, controller, device):
    devices = [device(broker.port, f"gw-{i}", folder=f"agent-{i}") for i in range(10)]
    for dev in devices:
        for n in range(1, 21):
            dev.say(n)
    end = time.monotonic() + 30
    while any(d.spool.depth()[0] for d in devices) and time.monotonic() < end:
        for dev in devices:
            dev.run_for(0.02)
    wait_for(lambda: controller.count("incidents") == 200, 5, "200 incidents")
