# SPDX-License-Identifier: Apache-2.0
"""A box whose PID 1 is OpenRC's init: the guard is a child of its init script, starts the agent itself, and keeps the apps over a restart."""

import pytest

from tests.lab import box as lab
from tests.lab.conftest import both_run, furnish, install_images, pids

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def box(folder):
    lab.needs()
    with lab.Box(folder, lab.tree("openrc", "initscripts", "init-system-helpers")) as one:
        (one.root / "sbin/init").unlink(missing_ok=True)
        (one.root / "sbin/init").symlink_to("openrc-init")
        one.hand_over()
        one.boot()
        one.until(lambda: one.ok("rc-status -r | grep -q default"), 60, "the runlevel default")
        one.sh("cd /root/edgeheal && scripts/install --wheels /root/wheels", seconds=300)
        furnish(one)
        one.sh("rc-update add edgeheal-guard default && rc-service edgeheal-guard start")
        one.until(lambda: answers(one), 60, "guard and agent to answer")
        install_images(one)
        yield one


def answers(box):
    return box.ok('edgeheal status --json | grep -q \'"agent": *"ok"\'')


def guard_pid(box):
    return box.sh("pgrep -f 'edgeheal[.]guard[.]main' | head -1", check=False).strip()


@pytest.mark.parametrize(
    "what",
    ["rc-service edgeheal-guard restart", "kill -KILL $(pgrep -f 'edgeheal[.]guard[.]main' | head -1)", "kill -KILL $(pgrep -f 'edgeheal[.]agent[.]main')"],
)
def test_whatever_happens_to_guard_or_agent_every_app_keeps_its_process(box, what):
    before, guard = pids(box), guard_pid(box)
    box.sh(what)
    box.until(lambda: answers(box) and (guard_pid(box) != guard or "agent" in what), 60, "guard and agent to answer again")
    assert pids(box) == before


def test_a_reload_reads_the_config_again(box):
    before = pids(box)
    path = "/etc/edgeheal/conf.d/50-more.toml"
    box.sh(f"printf '[apps.third]\\n' > {path}; rc-service edgeheal-guard reload")
    box.until(lambda: "third" in box.sh("edgeheal status --json"), 30, "the new app to be known")
    box.sh(f"rm {path}; rc-service edgeheal-guard reload")
    assert pids(box) == before


def test_its_own_log_is_a_file_with_times(box):
    assert "edgeheal guard: info: [began]" in box.sh("cat /var/log/edgeheal.log")


def test_at_a_reboot_apps_are_stopped_in_order_and_all_are_back(box):
    box.sh("rm -f /var/lib/edgeheal/data/net/*/ended-in-order /var/lib/made-safe")
    assert box.reboot("openrc-shutdown -r now") < 60
    box.until(lambda: answers(box) and both_run(box), 120, "guard, agent and apps to be back")
    assert box.sh("cat /var/lib/edgeheal/data/net/*/ended-in-order") == "x"
    assert "net" in box.sh("cat /var/lib/made-safe")


def test_uninstall_stops_the_apps_in_order(box):
    box.sh("cd /root/edgeheal && scripts/uninstall --purge", seconds=180)
    assert not box.ok("pgrep -f 'net[.]py' || pgrep -f 'plain[.]sh' || pgrep -f edgeheal[.]guard")
    assert box.sh("ls -d /etc/edgeheal /var/lib/edgeheal /usr/lib/edgeheal /run/edgeheal /etc/init.d/edgeheal-guard 2>/dev/null; true") == ""
