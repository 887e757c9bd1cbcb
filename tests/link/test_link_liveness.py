# SPDX-License-Identifier: Apache-2.0
"""Whether the broker is there is judged by what it says, not by what we send."""

import random
import socket
import time

import pytest
from link_stub import Stub

from edgeheal.adapters.mqtt.backoff import Backoff
from edgeheal.core.signal import LinkIs

pytestmark = pytest.mark.system


def test_fc_lnk_1_a_mute_broker_is_noticed_by_received_bytes_within_one_and_a_half_keep_alives(device):
    with Stub() as stub:
        dev = device(stub.port, heartbeat_s=1, keep_alive_s=4)
        for n in range(1, 6):
            dev.say(n)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        stub.mute = True  # reads all we send, our heartbeats among it, and never writes again
        began = time.monotonic()
        dev.say(6)
        dev.until(lambda: not dev.link.connected(), seconds=8, what="the silence to be noticed")
        dev.until(lambda: len(stub.connects) == 2, seconds=3)
        assert 3.0 <= stub.connects[1] - began <= 7.0  # noticed by 6 s; then the first wait of the back-off
        assert dev.link.view().detect_s == 6.0
        stub.mute = False  # what we asked in between stays unanswered: a subscription counts only when it is granted
        dev.until(lambda: dev.spool.depth()[0] == 0, what="the record that was on its way")
        assert len(stub.stored) == 6


def test_a_ping_keeps_a_quiet_connection(device):
    with Stub() as stub:
        dev = device(stub.port, heartbeat_s=100, keep_alive_s=1)
        dev.until(dev.link.connected)
        dev.run_for(3.5)
        assert dev.link.connected()
        assert len(stub.connects) == 1


def test_a_change_of_route_asks_at_once(device):
    with Stub() as stub:
        dev = device(stub.port, heartbeat_s=100, keep_alive_s=4)
        dev.until(lambda: dev.link.view().subscribed == 4 and dev.link.view().controller == "open" and dev.births)
        dev.run_for(0.2)
        stub.mute = True
        began = time.monotonic()
        dev.link.check_now()
        dev.until(lambda: not dev.link.connected(), seconds=4)
        assert time.monotonic() - began < 3.0


def test_the_loop_does_not_stand_while_a_broker_is_a_black_hole(device):
    hole = socket.create_server(("127.0.0.1", 0), backlog=1)
    fillers = []
    try:
        for _ in range(4):  # fill the backlog: further connects get no answer
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
            fillers.append(filler)
        dev = device(hole.getsockname()[1], connect_s=2.0)
        dev.run_for(3.0)
        assert dev.loop.longest_gap_ms <= 50
        assert [s for s in dev.signals if isinstance(s, LinkIs) and s.layer == "tcp" and not s.up]
    finally:
        for filler in fillers:
            filler.close()
        hole.close()


def test_an_unknown_name_is_told_apart_from_a_closed_port(device):
    dev = device(1, connect_s=2.0)
    dev.until(lambda: any(isinstance(s, LinkIs) and s.layer == "tcp" for s in dev.signals))


def test_a_broker_that_speaks_311_only_is_reached_without_a_wait(device):
    with Stub(versions=(4,)) as stub:
        dev = device(stub.port, backoff_first_s=60, backoff_cap_s=60)
        dev.until(dev.link.connected, seconds=5)
        assert dev.link.view().version == "3.1.1"
        assert len(stub.connects) == 2


def test_fc_lnk_3_two_thousand_devices_come_back_without_drowning_the_broker():
    uniform = random.Random(7).uniform
    backoffs = [Backoff(1.0, 300.0, uniform) for _ in range(2_000)]
    due = [(b.next_s(), i) for i, b in enumerate(backoffs)]
    waiting = dict((i, t) for t, i in due)
    attempts: dict[int, int] = {}
    for second in range(600):
        trying = [i for i, t in waiting.items() if t < second + 1]
        attempts[second] = len(trying)
        for n, i in enumerate(trying):
            if n < 50:
                del waiting[i]  # useful: a record was confirmed
            else:
                waiting[i] += backoffs[i].next_s()  # accepted, then closed after CONNACK: no success
        if not waiting:
            break
    assert not waiting, f"{len(waiting)} devices still out after 10 min"
    assert max(n for s, n in attempts.items() if s >= 60) <= 150


def test_fc_lnk_3_a_connect_alone_forgets_no_back_off(device):
    with Stub(presence=False) as stub:
        dev = device(stub.port, heartbeat_s=100, keep_alive_s=60, backoff_first_s=0.05, backoff_cap_s=0.3)
        for n in range(2, 7):
            dev.until(dev.link.connected)
            stub.accept = True
            for peer in list(stub._peers.values()):
                peer.sock.shutdown(socket.SHUT_RDWR)
            dev.until(lambda n=n: len(stub.connects) >= n)
        assert dev.link.view().attempts >= 5
        stub.presence = True
        dev.until(dev.link.connected)
        dev.say(1)
        for peer in list(stub._peers.values()):
            peer.sock.shutdown(socket.SHUT_RDWR)
        dev.until(lambda: dev.spool.depth()[0] == 0)
        assert dev.link.view().attempts == 0
