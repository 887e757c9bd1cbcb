# SPDX-License-Identifier: Apache-2.0
"""The promises of `ports.AppProvider`: whoever runs apps keeps them. Subclass, give `provider` and `apps`, and they run.

`provider` runs two apps, "calm" (runs until it is stopped) and "brief" (ends by itself with code 3 soon after its start).
"""

import os
import signal
import time


class AppProviderContract:
    """Each test is one promise."""

    def until(self, ask, seconds=15.0):
        import select

        end = time.monotonic() + seconds
        while not (answer := ask()):
            assert time.monotonic() < end, "waited in vain"
            select.select([], [], [], 0.01)
        return answer

    def running(self, provider, app):
        return self.until(lambda: (row := provider.state(app)).pid > 0 and row)

    def test_a_start_is_seen_in_the_source_of_truth(self, provider):
        provider.start("calm", 2)
        row = self.running(provider, "calm")
        os.kill(row.pid, 0)
        assert row.app == "calm"
        assert row.wanted

    def test_a_second_start_makes_no_second_copy(self, provider):
        provider.start("calm", 2)
        first = self.running(provider, "calm")
        for _ in range(5):
            provider.start("calm", 2)
        assert provider.state("calm").pid == first.pid
        assert provider.tree("calm") == (first.pid,)

    def test_a_stop_ends_the_whole_tree_and_is_told_once(self, provider):
        provider.start("calm", 2)
        row = self.running(provider, "calm")
        provider.stop("calm", 2)
        self.until(lambda: provider.state("calm").pid == 0)
        assert provider.tree("calm") == ()
        ends = []
        self.until(lambda: ends.extend(provider.exits()) or ends)
        assert [end[:2] for end in ends if end[0] == "calm"] == [("calm", row.run)]
        assert list(provider.exits()) == []

    def test_a_restart_is_a_new_run_and_changes_nothing_wanted(self, provider):
        provider.start("calm", 2)
        first = self.running(provider, "calm")
        provider.restart("calm", 1)
        second = self.until(lambda: (row := provider.state("calm")).pid > 0 and row.run != first.run and row)
        assert second.run > first.run
        assert second.wanted == first.wanted
        assert second.wanted_by == first.wanted_by

    def test_an_end_is_told_with_the_status_that_was_seen(self, provider):
        provider.start("brief", 2)
        ends = []
        self.until(lambda: ends.extend(end for end in provider.exits() if end[0] == "brief") or ends)
        assert ends[0][2:] == (3, None)

    def test_a_killed_app_is_told_by_its_signal(self, provider):
        provider.start("calm", 2)
        row = self.running(provider, "calm")
        os.kill(row.pid, signal.SIGKILL)
        ends = []
        self.until(lambda: ends.extend(end for end in provider.exits() if end[0] == "calm") or ends)
        assert ends[0] == ("calm", row.run, None, int(signal.SIGKILL))
