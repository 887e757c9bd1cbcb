# SPDX-License-Identifier: Apache-2.0
"""Strict and small boxes: root read-only and /etc empty at each boot, a data partition that is late, 128 MB and a quarter of one core."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.lab import box as lab
from tests.lab.conftest import CONFIG, both_run, furnish, install_images

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(900)]
UNITS = ("edgeheal-guard", "edgeheal-agent")


@pytest.fixture(scope="module")
def made(folder):
    """A tree in which EdgeHeal is part of the vendor's /usr: config, trust and units, nothing in /etc; and its images."""
    lab.needs()
    with lab.Box(folder / "made", lab.tree("systemd", "systemd-sysv", "dbus", "udev")) as one:
        one.hand_over()
        one.boot()
        one.until(lambda: one.ok("systemctl is-system-running --wait || systemctl is-system-running | grep -q degraded"), 90, "systemd to be up")
        one.sh("cd /root/edgeheal && scripts/install --wheels /root/wheels", seconds=300)
        furnish(one)
        one.power_off()
        (one.root / "usr/lib/edgeheal/20-device.toml").write_text(CONFIG.replace("actuates = true\n", ""))
        wants = one.root / "usr/lib/systemd/system/multi-user.target.wants"
        wants.mkdir(exist_ok=True)
        for unit in UNITS:
            (wants / f"{unit}.service").symlink_to(f"../{unit}.service")
        yield one


def answers(box):
    return box.ok('edgeheal status --json | grep -q \'"agent": *"ok"\'')


@pytest.fixture
def strict(made, folder):
    """A boot of it with nothing but /usr, read-only, and a data partition."""
    data = folder / "data"
    apps = folder / "apps"
    data.mkdir(exist_ok=True)
    if not apps.exists():
        shutil.copytree(made.root / "root/apps", apps)
    made.options = ("--volatile=yes", f"--bind={data}:/var/lib/edgeheal", f"--bind-ro={apps}:/srv")
    yield made
    made.kill()
    made.small = None


def test_nothing_but_a_read_only_usr_and_a_data_partition_is_needed_and_all_is_back_at_the_next_boot(strict):
    strict.boot()
    strict.until(lambda: answers(strict), 90, "guard and agent")
    assert not strict.ok("touch /usr/lib/edgeheal/x")
    assert not strict.ok("test -e /etc/edgeheal/edgeheal.toml")
    for app in ("net", "plain"):
        strict.sh(f"edgeheal image install /srv/{app}.ehi")
    strict.until(lambda: both_run(strict) and strict.sh("edgeheal image list").count("good") >= 2, 60, "both images to be known good")
    strict.kill()
    strict.boot()
    strict.until(lambda: answers(strict) and both_run(strict), 90, "all to be back")
    assert strict.sh("edgeheal image list").count("good") >= 2
    assert not strict.ok("journalctl -u edgeheal-guard -o cat | grep -q '\\[fault\\]'")


def test_128_megabytes_and_a_quarter_of_one_core_are_enough(strict, record_property):
    small = strict.small = lab.Small(128, 25)
    try:
        began = time.monotonic()
        strict.boot(120)
        strict.until(lambda: strict.ok("pgrep -f 'net[.]py'") and strict.ok("pgrep -f 'plain[.]sh'"), 180, "the apps")
        apps_s = round(time.monotonic() - began, 1)
        strict.until(lambda: answers(strict), 180, "guard and agent")
        figures = {"boot_to_apps_s": apps_s, "boot_to_agent_s": round(time.monotonic() - began, 1), "start_peak_mb": round(small.peak_mb(), 1)}
        figures["rest_without_caches_mb"] = round(small.own_mb(), 1)
        small.again()
        began = time.monotonic()
        strict.sh("edgeheal image install /srv/net.ehi", check=False, seconds=180)
        figures |= {"install_s": round(time.monotonic() - began, 1), "install_peak_mb": round(small.peak_mb(), 1), "killed_for_memory": small.killed()}
        for name in ("guard", "agent"):
            text = strict.sh(f"grep VmHWM /proc/$(pgrep -f 'edgeheal[.]{name}[.]main' | head -1)/status")
            figures[f"{name}_peak_mb"] = round(int(text.split()[1]) / 1000, 1)
        print(json.dumps(figures), file=sys.stderr)
        record_property("figures", json.dumps(figures))
        if os.environ.get("EDGEHEAL_LAB_FIGURES"):
            Path(os.environ["EDGEHEAL_LAB_FIGURES"]).write_text(json.dumps(figures))
        assert figures["killed_for_memory"] == 0
        assert both_run(strict)
    finally:
        strict.kill()
        small.close()


def test_a_data_partition_that_is_late_is_waited_for(made):
    made.options = ()
    (made.root / "etc/fstab").write_text("/dev/disk/by-label/late /var/lib/edgeheal ext4 noauto 0 2\n")
    made.boot()
    made.until(lambda: made.ok("journalctl -u edgeheal-guard -o cat | grep -q no-data"), 60, "the guard's unit to say what it waits for")
    assert not made.ok("pgrep -f 'edgeheal[.]guard[.]main'")
    made.sh("mount -t tmpfs none /var/lib/edgeheal")
    made.until(lambda: answers(made), 60, "guard and agent")
    install_images(made)
    made.kill()
