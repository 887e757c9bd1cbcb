# SPDX-License-Identifier: Apache-2.0
"""The promises of `ports.Link`: whoever is the way to the fleet keeps them. Subclass, give `ends`, and they run.

`ends` is (link, drive, heard): `drive(ask, seconds)` runs the link's loop until `ask` answers, `heard(topic)` are the payloads that
somebody at the other end has read there.
"""


class LinkContract:
    """Each test is one promise."""

    def test_nothing_is_handed_over_without_a_connection(self, ends):
        link, _, _ = ends
        assert not link.connected()
        assert link.publish("eh/1/t/gw-1/up/evidence/k/0", b"x", qos=1, retain=False) == 0

    def test_what_is_handed_over_arrives(self, ends):
        link, drive, heard = ends
        drive(link.connected)
        for n in range(5):
            assert link.publish("eh/1/t/gw-1/up/evidence/k/0", b"chunk %d" % n, qos=1, retain=False) > 0
        drive(lambda: len(heard("eh/1/t/gw-1/up/evidence/k/0")) == 5)
        assert heard("eh/1/t/gw-1/up/evidence/k/0") == [b"chunk %d" % n for n in range(5)]

    def test_no_call_waits(self, ends):
        import time

        link, drive, _ = ends
        drive(link.connected)
        for call in (
            link.fds,
            link.due,
            lambda: link.tick(time.monotonic_ns()),
            link.connected,
            lambda: link.publish("eh/1/t/gw-1/up/x", b"x" * 4_000, qos=1, retain=False),
        ):
            began = time.perf_counter()
            call()
            assert time.perf_counter() - began < 0.05

    def test_a_descriptor_that_is_not_ours_is_ignored(self, ends):
        link, drive, _ = ends
        drive(link.connected)
        link.ready(999_999, 1)
        assert link.connected()
