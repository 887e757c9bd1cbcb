# SPDX-License-Identifier: Apache-2.0
"""From the device's spool to the fleet's store: all of it, once, whatever breaks."""

import pytest

pytestmark = pytest.mark.system


def test_a_record_is_stored_then_acknowledged_then_gone_from_the_spool(broker, controller, device):
    dev = device(broker.port)
    for n in range(1, 51):
        dev.say(n)
    dev.until(lambda: dev.spool.depth()[0] == 0, what="empty spool")
    assert controller.count() == 50
    assert controller.count("incidents") == 50
    assert controller.rows("select upto from sessions") == [(50,)]
    assert controller.rows("select device, online, place from devices") == [("gw-1", 1, "Lyon-3")]
