# SPDX-License-Identifier: Apache-2.0
"""Who speaks: births and wills, twins under one name, certificates, the broker's ACL."""

import os
import socket
import ssl

import pytest
from link_fleet import ControllerProcess, wait_for

from edgeheal.core.signal import LinkIs, SelfSaid
from edgeheal.fleet.session import Address, Session
from edgeheal.fleet.watching import heard
from edgeheal.lab.broker import Broker, Tls, kinds
from edgeheal.lab.certificates import Authority
from edgeheal.wire import birth, topics

pytestmark = pytest.mark.system


class Watcher:
    def __init__(self, address: Address, *topics_: str) -> None:
        self.session = Session(address, f"watch-{os.urandom(3).hex()}", clean=True)
        self.session.subscribe(*(topics_ or (topics.all_up("t"),)))
        self.said: list[object] = []

    def look(self) -> list[object]:
        for message in self.session.wait(0.02):
            self.session.acknowledge([message.mid] if message.mid else [])
            found = heard(message, 0.0)
            if found is not None:
                self.said.append(found.said)
        return self.said


def test_a_birth_is_said_at_every_connect_and_a_will_when_we_are_gone(broker, device):
    watcher = Watcher(Address("127.0.0.1", broker.port))
    dev = device(broker.port)
    dev.until(lambda: [s for s in watcher.look() if isinstance(s, birth.Birth) and s.online])
    dev.link._lost("test", by_peer=False)
    dev.link._retry_ns = 1
    dev.until(lambda: len([s for s in watcher.look() if isinstance(s, birth.Birth) and s.online]) >= 2)
    dev.until(dev.link.connected)
    dev.link.close()
    wait_for(lambda: [s for s in watcher.look() if isinstance(s, birth.Birth) and not s.online], 5, "offline")
    watcher.session.close()


def test_the_heartbeat_carries_the_progress_of_the_loop(broker, device):
    watcher = Watcher(Address("127.0.0.1", broker.port))
    dev = device(broker.port, heartbeat_s=0.3)
    beats = dev.until(lambda: [s for s in watcher.look() if hasattr(s, "progress")][2:])
    assert beats[0].session == dev.session
    progress = [s.progress for s in watcher.said if hasattr(s, "progress")]
    assert progress == sorted(set(progress))
    watcher.session.close()


def test_two_sessions_alive_under_one_name_are_seen_by_device_and_fleet(broker, controller, device):
    first = device(broker.port, folder="a")
    first.until(lambda: first.link.view().controller == "open")
    second = device(broker.port, folder="b")  # the clone connects: the broker gives it the name
    second.until(lambda: second.link.view().controller == "open")
    for _ in range(3):
        first.until(lambda: first.link.view().subscribed >= 4 or not first.link.connected(), seconds=5)
        first.run_for(0.3)
        second.run_for(0.3)
    twin = [s for s in first.signals + second.signals if isinstance(s, SelfSaid) and s.what == "twin"]
    assert twin
    wait_for(lambda: controller.rows("select twin from devices where twin is not null"), 5, "the fleet to see the twin")


def test_our_own_past_is_no_twin(broker, device):
    first = device(broker.port)
    first.until(lambda: first.link.view().subscribed >= 4)
    first.link._connection.wire.close()  # dies without a word
    second = device(broker.port)
    second.until(lambda: second.link.view().subscribed >= 4)
    second.run_for(0.5)
    assert not [s for s in second.signals if isinstance(s, SelfSaid) and s.what == "twin"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=kinds())
def tls_broker(request, tmp_path, authority):
    cert, key = authority.issue("broker", server=True)
    with Broker(tmp_path / "broker", request.param, tls=Tls(authority.ca, cert, key)) as running:
        yield running


def test_tls_with_client_certificates_end_to_end(tls_broker, tmp_path, authority, device):
    port, (cert, key) = tls_broker.port, authority.issue("gw-1")
    own_cert, own_key = authority.issue("controller")
    running = ControllerProcess(tmp_path, port, "--ca", authority.ca, "--cert", own_cert, "--client-key", own_key)
    try:
        dev = device(port, tls=True, ca=authority.ca, cert=cert, key=key)
        for n in range(1, 31):
            dev.say(n)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        assert running.count() == 30
    finally:
        running.kill()


def test_a_broker_with_a_foreign_certificate_is_refused_as_tls(tls_broker, tmp_path, device):
    other = Authority(tmp_path / "other")
    dev = device(tls_broker.port, tls=True, ca=other.ca)
    dev.until(lambda: [s for s in dev.signals if isinstance(s, LinkIs) and s.layer == "tls" and not s.up])
    assert not dev.link.connected()


def test_a_client_without_certificate_gets_nowhere(tls_broker, authority, device):
    if tls_broker.kind == "iotcore":
        pytest.skip("iotcore's TLS does not ask clients for a certificate")
    dev = device(tls_broker.port, tls=True, ca=authority.ca)
    dev.until(lambda: dev.link.view().attempts >= 2)
    assert not dev.link.connected()


def test_the_access_list_keeps_a_device_to_its_own_topics(tmp_path, authority, device):
    if "mosquitto" not in kinds():
        pytest.skip("Mosquitto is not installed: iotcore has no access lists")
    cert, key = authority.issue("broker", server=True)
    acl = (
        "pattern write eh/1/t/%u/up/#\npattern read eh/1/t/%u/down/#\npattern read eh/1/t/%u/up/state\npattern read eh/1/t/_ctl/state\n"
        "user controller\ntopic readwrite eh/1/t/#\n"
    )
    with Broker(tmp_path / "broker", "mosquitto", tls=Tls(authority.ca, cert, key), acl=acl) as broker:
        own, own_key = authority.issue("controller")
        running = ControllerProcess(tmp_path, broker.port, "--ca", authority.ca, "--cert", own, "--client-key", own_key)
        try:
            cert, key = authority.issue("gw-1")
            dev = device(broker.port, tls=True, ca=authority.ca, cert=cert, key=key)
            dev.say(1)
            dev.until(lambda: dev.spool.depth()[0] == 0)
            dev.link.publish(topics.of("t", "gw-2", topics.UP_INCIDENT), b"as somebody else", qos=1, retain=False)
            spy = Watcher(Address("127.0.0.1", broker.port, True, authority.ca, cert, key, version="5"), topics.of("t", "gw-2", topics.DOWN_COMMAND))
            wait_for(lambda: spy.look() or spy.session.granted, 5, "an answer")
            assert all(code >= 0x80 for codes in spy.session.granted.values() for code in codes) or not spy.said
            dev.run_for(0.3)
            assert running.rows("select distinct device from records") == [("gw-1",)]
            spy.session.close()
        finally:
            running.kill()


def test_a_plain_client_at_a_tls_port_says_so(tls_broker):
    with pytest.raises(Exception) as caught:
        Session(Address("127.0.0.1", tls_broker.port, version="5"), "x", clean=True, seconds=2)
    assert not isinstance(caught.value, socket.timeout | ssl.SSLError)
