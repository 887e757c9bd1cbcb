# SPDX-License-Identifier: Apache-2.0
"""A box whose PID 1 is systemd: installed with `scripts/install`, restarted, reloaded, rebooted, shut down, uninstalled."""

import pytest

from tests.lab import box as lab
from tests.lab.conftest import both_run, furnish, install_images, pids

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]
UNITS = "edgeheal-guard edgeheal-agent"


@pytest.fixture(scope="module")
def box(folder):
    lab.needs()
    with lab.Box(folder, lab.tree("systemd", "systemd-sysv", "dbus", "udev")) as one:
        one.hand_over()
        one.boot()
        one.until(lambda: one.ok("systemctl is-system-running --wait || systemctl is-system-running | grep -q degraded"), 90, "systemd to be up")
        one.sh("cd /root/edgeheal && scripts/install --wheels /root/wheels", seconds=300)
        furnish(one)
        one.sh(f"systemctl enable --now {UNITS}", seconds=150)
        install_images(one)
        yield one


def answers(box):
    return box.ok('edgeheal status --json | grep -q \'"agent": *"ok"\'')


def test_apps_use_the_network_and_memory_that_is_writable_and_executable(box):
    assert box.sh("cat /var/lib/edgeheal/data/net/*/proved").startswith("network, writable")


def test_the_boundary_is_full_and_each_app_has_a_uid_of_its_own(box):
    assert '"boundary":"full"' in box.sh("edgeheal status --json").replace(" ", "")
    uids = [box.sh(f"stat -c %u /proc/{pid.split()[0]}").strip() for pid in pids(box).values()]
    assert len(set(uids)) == 2
    assert "0" not in uids


@pytest.mark.parametrize("what", ["systemctl restart edgeheal-guard", "systemctl restart edgeheal-agent", "systemctl kill -s KILL edgeheal-guard",
                                  "systemctl kill -s KILL --kill-whom=main edgeheal-agent", "systemctl stop edgeheal-guard && systemctl start edgeheal-guard"])  # fmt: skip
def test_whatever_happens_to_guard_or_agent_every_app_keeps_its_process(box, what):
    if "-s KILL edgeheal-guard" in what:
        what = what.replace("-s KILL", "-s KILL --kill-whom=main")
    before = pids(box)
    box.sh(what)
    box.until(lambda: answers(box), 60, "guard and agent to answer again")
    assert pids(box) == before


def test_a_reload_reads_the_config_again_and_a_broken_one_leaves_the_last_good_in_force(box):
    before = pids(box)
    path = "/etc/edgeheal/conf.d/50-more.toml"
    box.sh(f"printf '[apps.third]\\n' > {path}; systemctl reload {UNITS}")
    box.until(lambda: "third" in box.sh("edgeheal status --json"), 30, "the new app to be known")
    box.sh(f"printf '[apps.fourth\\n' > {path}; systemctl reload {UNITS}")
    box.until(lambda: "last good one stands" in box.sh("journalctl -u edgeheal-guard -o cat"), 30, "the refusal to be told")
    assert "third" in box.sh("edgeheal status --json")
    box.sh(f"rm {path}; systemctl reload {UNITS}")
    box.until(lambda: "third" not in box.sh("edgeheal status --json"), 30, "the app to be unknown again")
    assert pids(box) == before


def test_at_a_reboot_what_moves_is_made_safe_apps_are_stopped_in_order_and_all_are_back(box):
    box.sh("rm -f /var/lib/edgeheal/data/net/*/ended-in-order /var/lib/made-safe")
    took = box.reboot()
    assert took < 60
    box.until(lambda: answers(box) and both_run(box), 120, "guard, agent and apps to be back")
    assert box.sh("cat /var/lib/edgeheal/data/net/*/ended-in-order") == "x"
    assert "net" in box.sh("cat /var/lib/made-safe")
    assert box.sh("edgeheal image list").count("good") >= 2


def test_a_power_cut_brings_all_back_too(box):
    box.sh("rm -f /var/lib/edgeheal/data/net/*/ended-in-order; sync")
    box.kill()
    box.boot()
    box.until(lambda: answers(box) and both_run(box), 120, "guard, agent and apps to be back")
    assert not box.ok("ls /var/lib/edgeheal/data/net/*/ended-in-order")


def test_an_upgrade_in_place_leaves_every_app_s_process(box):
    before = pids(box)
    box.sh("cd /root/edgeheal && scripts/install --wheels /root/wheels", seconds=300)
    box.sh(f"systemctl restart {UNITS}")
    box.until(lambda: answers(box), 60, "guard and agent to answer again")
    assert pids(box) == before


def test_uninstall_stops_the_apps_in_order_and_keeps_data_until_purged(box):
    box.sh("rm -f /var/lib/edgeheal/data/net/*/ended-in-order")
    box.sh("cd /root/edgeheal && scripts/uninstall", seconds=180)
    assert not box.ok("pgrep -f 'net[.]py' || pgrep -f 'plain[.]sh' || pgrep -f edgeheal[.]guard")
    assert box.sh("cat /var/lib/edgeheal/data/net/*/ended-in-order") == "x"
    assert box.ok("test -e /var/lib/edgeheal/data/net && test -e /etc/edgeheal/edgeheal.toml && ! test -e /usr/bin/edgeheal")
    box.sh("cd /root/edgeheal && scripts/uninstall --purge", seconds=180)
    assert box.sh("ls -d /etc/edgeheal /var/lib/edgeheal /usr/lib/edgeheal /run/edgeheal 2>/dev/null; getent passwd | grep edgeheal; true") == ""
