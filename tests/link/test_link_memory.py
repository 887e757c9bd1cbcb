# SPDX-License-Identifier: Apache-2.0
"""fc-mem-3, our own side: a broker that refuses for days costs no memory."""

import gc
import time

from link_device import Device

from edgeheal.adapters.mqtt.settings import LinkSettings
from edgeheal.lab.stage import free_port

WARM, ROUNDS = 300, 6_000
A_ROUND = 16  # bytes: less than the smallest thing one attempt could leave behind


class InTurn:
    """A worker who works when told: real connects, answered in the loop's next turn."""

    def ask(self, key, call, answer):
        self._out = (call, answer)
        return True

    def stuck_ns(self, key):
        return 0

    def work(self):
        call, answer = self._out
        try:
            value = call()
        except OSError as fault:
            value = fault
        answer(value)


def resident_bytes():
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4_096


def test_fc_mem_3_reconnecting_in_vain_for_days_costs_no_memory(tmp_path):
    device = Device(tmp_path, LinkSettings("127.0.0.1", "t", "gw-1", free_port(), tls=False, heartbeat_s=60, backoff_first_s=1.0, backoff_cap_s=300.0))
    link, link_signals = device.link, device.signals
    blocking = link._blocking = InTurn()
    now = time.monotonic_ns()
    before = 0
    for n in range(WARM + ROUNDS):
        if n == WARM:
            before = resident_bytes()
        link._retry_ns = now  # the back-off is over: hours of simulated waiting
        link.tick(now)
        blocking.work()
        link_signals.clear()
    attempts = link.view().attempts
    assert attempts >= ROUNDS, "each was a real attempt"
    assert resident_bytes() - before < ROUNDS * A_ROUND + 1_000_000
    device.close()
